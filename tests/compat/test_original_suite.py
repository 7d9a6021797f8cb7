"""websocket-client's own tests of its app and core, over the drop-in.

All of them run that do not need what the drop-in does not have: the original's private names, sockets that a
test replaces by a mock, and what the documentation refuses. The list says which are excluded, and why; one
that passes must not be in it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECONDS = 150
#: The version that the list of exclusions is about.
VERSION = "1.9.2"
#: The files, and the processes among which the tests of each are divided: most only wait.
FILES = {"test_app": 3, "test_websocket": 1}

DISPATCHER = "replaces or inspects the original's dispatchers; lochws has an event loop of its own"
MOCK = "replaces the socket by a mock, from which lochws does not read"
PRIVATE = "calls a private function of websocket._handshake or websocket._http"
INSIDE = "replaces functions inside the original's module _core"
REFUSED = "needs custom mask keys or callbacks of fragments, which are refused"

EXCLUDED = {
    "WebSocketAppTest.test_close_exception_legacy_path_has_no_frame": DISPATCHER,
    "WebSocketAppTest.test_close_frame_triggers_closed_logic": DISPATCHER,
    "WebSocketAppTest.test_closed_string_argument_converted_to_exception": DISPATCHER,
    "WebSocketAppTest.test_custom_dispatcher_close_exception": DISPATCHER,
    "WebSocketAppTest.test_dispatcher_selection_custom": DISPATCHER,
    "WebSocketAppTest.test_dispatcher_selection_default": DISPATCHER,
    "WebSocketAppTest.test_dispatcher_selection_no_ping_timeout": DISPATCHER,
    "WebSocketAppTest.test_dispatcher_selection_ssl": DISPATCHER,
    "WebSocketAppUnitTests.test_client_initiated_close_captures_peer_close_frame": DISPATCHER,
    "WebSocketAppTest.test_run_forever_dispatcher": "is always skipped",
    "WebSocketAppTest.test_sock_mask_key": REFUSED,
    "HandshakeTest.test_suppress_host_header": PRIVATE,
    "WebSocketTest.test_nonce": PRIVATE,
    "WebSocketTest.test_read_header": PRIVATE,
    "WebSocketTest.test_ws_key": PRIVATE,
    "WebSocketTest.test_ws_utils": PRIVATE,
    "WebSocketCoreUnitTests.test_connect_handles_redirects": INSIDE,
    "WebSocketCoreUnitTests.test_connect_redirect_invalid_target_raises": INSIDE,
    "WebSocketCoreUnitTests.test_connect_redirect_limit_exhausted_raises": INSIDE,
    "WebSocketCoreUnitTests.test_connect_redirect_without_location_raises": INSIDE,
    "WebSocketCoreUnitTests.test_is_ssl_detection": INSIDE,
    "WebSocketCoreUnitTests.test_send_frame_emits_trace_when_enabled": INSIDE,
    "WebSocketTest.test_close": MOCK,
    "WebSocketTest.test_internal_recv_strict": MOCK,
    "WebSocketTest.test_recv": MOCK,
    "WebSocketTest.test_recv_timeout": MOCK,
    "WebSocketTest.test_recv_with_prolonged_fragmentation": MOCK,
    "WebSocketTest.test_recv_with_simple_fragmentation": MOCK,
    "WebSocketTest.test_secure_websocket": "expects sock to be an ssl.SSLSocket",
    "WebSocketTest.test_recv_with_fire_event_of_fragmentation": REFUSED,
    "WebSocketTest.test_recv_with_fragmentation_and_control_frame": REFUSED,
    "WebSocketTest.test_send": REFUSED,
}


@pytest.fixture(scope="module")
def outcomes() -> Iterator[dict[str, str]]:
    """Run all tests, in several processes at once, and return what became of each."""
    command = [sys.executable, "-m", "tests.compat.original_suite", "drop-in"]
    processes = [
        subprocess.Popen(
            [*command, name, str(part), str(parts)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        )
        for name, parts in FILES.items() for part in range(parts)
    ]
    found: dict[str, str] = {}
    try:
        for process in processes:
            output, errors = process.communicate(timeout=SECONDS)
            assert process.returncode == 0, errors[-2000:]
            found |= json.loads(output.splitlines()[-1])
        yield found
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@pytest.mark.timeout(2 * SECONDS)
def test_what_is_public_passes(outcomes: dict[str, str]) -> None:
    failed = {name: how for name, how in outcomes.items() if how != "passed" and name not in EXCLUDED}
    if version("websocket-client") == VERSION:  # another version may have other tests
        assert not failed
    assert sum(how == "passed" for how in outcomes.values()) > 35


@pytest.mark.skipif(version("websocket-client") != VERSION, reason="the list is about another version")
def test_no_exclusion_is_out_of_date(outcomes: dict[str, str]) -> None:
    assert set(outcomes) >= set(EXCLUDED)
    assert [name for name in EXCLUDED if outcomes[name] == "passed"] == []

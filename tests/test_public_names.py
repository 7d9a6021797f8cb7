"""Public names: what `import lochws` offers, Lomond's places for it, and nothing that costs at start."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import ssl
import subprocess
import sys
import typing

import pytest

import lochws

from .support.seen import PATIENCE

#: Names that are imported or computed when they are first used.
LAZY = {"Feed", "Governor", "compiled", "connect"}
NAMES = {
    "Backoff", "Codec", "Counters", "Deflate", "Feed", "Governor", "Rate", "Receipt", "ReceiptState", "State",
    "Status", "TLS", "Threads", "WebSocket", "WebSocketApp", "__version__", "compiled", "connect", "errors",
    "events", "not_a_handler", "on", "route",
}


def test_the_package_exports_these_names_and_no_others() -> None:
    assert set(lochws.__all__) == NAMES
    public = {
        name for name, thing in vars(lochws).items()
        if not name.startswith("_") and not inspect.ismodule(thing)
    }
    assert public | LAZY == NAMES - {"__version__", "errors", "events"}


def test_a_name_that_is_imported_on_first_use_costs_nothing_before() -> None:
    program = (
        "import sys, lochws; assert 'lochws.feed' not in sys.modules; lochws.Feed; "
        "assert 'lochws.feed' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=PATIENCE)
    with pytest.raises(AttributeError, match="module 'lochws' has no attribute 'Fed'"):
        lochws.Fed  # type: ignore[attr-defined]  # noqa: B018  the access is the test


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("lochws.persist", "persist"),
        ("lochws.persist", "Backoff"),
        ("lochws.persist", "USE_BACKOFF"),
        ("lochws.status", "Status"),
        ("lochws.sent", "ControlFrame"),
        ("lochws.response", "Response"),
        ("lochws.events", "Text"),
        ("lochws.errors", "WebSocketError"),
    ],
)
def test_a_name_is_where_the_documentation_says(module: str, name: str) -> None:
    assert hasattr(importlib.import_module(module), name)


def test_every_event_of_lomond_can_be_imported() -> None:
    lomonds = {
        "Event", "Connecting", "ConnectFail", "Connected", "Rejected", "Ready", "Poll", "Text", "Binary",
        "Ping", "Pong", "ProtocolError", "Unresponsive", "Closing", "Closed", "Disconnected", "BackOff",
        "UnknownMessage",
    }
    assert lomonds == set(lochws.events.__all__) - {"AnyEvent", "EndedBy", "HistoryEntry", "Stale", "Stream"}


def test_dead_names_of_lomond_can_still_be_imported() -> None:
    """Contract Q34: code that names them must import; what they are for, their docstrings say."""
    assert "neither library ever makes one" in inspect.getdoc(lochws.events.UnknownMessage)
    assert issubclass(lochws.errors.ConnectFail, lochws.errors.WebSocketError)


@pytest.mark.parametrize("name", sorted(NAMES - {"__version__", "compiled", "errors", "events"}))
def test_the_annotations_of_public_names_can_be_evaluated(name: str) -> None:
    thing = getattr(lochws, name)
    functions = [thing] if inspect.isfunction(thing) else [
        member for member in vars(thing).values() if inspect.isfunction(member)
    ]
    # Before Python 3.11 these two come from typing_extensions, for type checkers alone.
    names = {"Self": object, "Unpack": typing.Optional, **vars(typing)}
    # These are imported when they are needed.
    names |= {"Finding": object, "Mailbox": list, "WhenFull": str, "asyncio": asyncio, "ssl": ssl}
    for function in functions:
        module = vars(sys.modules[function.__module__])
        typing.get_type_hints(function, {**names, **module})


def test_compiled_parts_for_tls_and_compression_are_not_loaded_by_importing() -> None:
    program = (
        "import sys, lochws\n"
        "some = {'lochws.protocol._inflating', 'lochws.transport._records'}\n"
        "assert not some & set(sys.modules)\n"
        "assert not lochws.compiled or some <= set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=PATIENCE)


def test_importing_starts_no_thread_and_imports_nothing_optional() -> None:
    program = (
        "import sys, threading, lochws\n"
        "assert threading.active_count() == 1\n"
        "optional = {'asyncio', 'click', 'dask', 'distributed', 'h11', 'hypothesis', 'prometheus_client',\n"
        "            'prompt_toolkit', 'pytest', 'redis', 'rich', 'socks', 'truststore', 'websockets',\n"
        "            'wsaccel', 'wsproto', 'zlib_ng'}\n"
        "assert not optional & set(sys.modules), optional & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=PATIENCE)


def test_importing_loads_nothing_large_that_only_some_programs_use() -> None:
    """Proxies, cookies, dates, mistakes and truststore bring their modules along when they come."""
    program = (
        "import sys\n"
        "before = set(sys.modules)\n"
        "import lochws\n"
        "large = {'difflib', 'email', 'fnmatch', 'http.client', 'http.cookiejar', 'importlib.metadata',\n"
        "         'platform', 'random', 'tempfile', 'urllib.request', 'zipfile'}\n"
        "loaded = set(sys.modules) - before\n"
        "assert 'lochws.app' in loaded\n"
        "assert not large & loaded, large & loaded\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=PATIENCE)


def test_the_version_is_the_one_of_the_user_agent() -> None:
    from lochws.options import USER_AGENT

    assert USER_AGENT.startswith(f"lochws/{lochws.__version__} ")


@pytest.mark.parametrize("pure", ["", "1"])
def test_compiled_says_whether_all_compiled_parts_are_in_use(pure: str) -> None:
    program = (
        "import lochws\n"
        "from lochws.system.compiled import parts_in_use\n"
        "assert lochws.compiled is (bool(parts_in_use()) and all(parts_in_use().values()))\n"
        "print(lochws.compiled)\n"
    )
    environment = {**os.environ, "LOCHWS_PURE_PYTHON": pure}
    ended = subprocess.run(
        [sys.executable, "-c", program],
        check=True, capture_output=True, text=True, timeout=PATIENCE, env=environment,
    )
    if pure:
        assert ended.stdout == "False\n"

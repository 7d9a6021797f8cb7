"""Fixtures for tests of what is made with lochws: ``ws_server``, ``ws_recorder`` and ``ws_clock``.

A module of its own beside the package, since pytest loads it in every run, also in those of tests that have
nothing to do with lochws: those shall not have to import it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from lochws import WebSocketApp
    from lochws.testing import Recorder, StartServer, VirtualClock
    from lochws.testing.kit import Authority, Kit


#: Whether the test has failed, before its fixtures end.
_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.when == "call" and report.failed:
        item.stash[_FAILED] = True
    return report


@pytest.fixture(scope="session")
def _ws_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    from lochws.testing.kit import Authority  # noqa: PLC0415  see above

    return Authority(lambda: tmp_path_factory.mktemp("lochws"))


@pytest.fixture
def _ws_kit(_ws_authority: Authority, request: pytest.FixtureRequest) -> Iterator[Kit]:
    from lochws.testing.kit import Kit  # noqa: PLC0415  likewise

    kit = Kit(_ws_authority)
    yield kit
    kit.end(has_failed=request.node.stash.get(_FAILED, False))


@pytest.fixture
def ws_server(_ws_kit: Kit) -> StartServer:
    """Starts WebSocket servers that do what a script says, or echo, and end with the test.

    ``server = ws_server([accept(), send("hello")], [accept(), fin()])`` has a script for each connection
    that comes; ``ws_server()`` echoes; ``ws_server(tls=True)`` has a certificate that ``ws_server.ca_file``
    vouches for. The steps are in lochws.testing. A script that was begun and not done fails the test.
    """
    return _ws_kit.serve


@pytest.fixture
def ws_recorder(_ws_kit: Kit) -> Callable[[WebSocketApp], Recorder]:
    """Notes what happens to an app: ``recorder = ws_recorder(app)``, ``recorder.wait_for(events.Ready)``.

    The app is stopped at the end of the test. An exception that a handler has raised fails the test, unless
    ``recorder.wait_for_error`` was called for it.
    """
    return _ws_kit.record


@pytest.fixture
def ws_clock(_ws_kit: Kit) -> VirtualClock:
    """A clock that stands still until ``ws_clock.advance(seconds)``, for all apps that the test starts.

    Keepalive, Poll, closing and back-off go by it, and the pauses in scripts of ``ws_server``.
    """
    return _ws_kit.clock

"""The pytest plugin of lochws: the fixtures ``ws_server``, ``ws_events`` and ``ws_clock``.

It is a module outside the package because pytest loads it in every run, even for tests that have nothing to
do with lochws, and those should not have to import the package.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from lochws.testing import LogEvents, StartServer, VirtualClock
    from lochws.testing.kit import Authority, Kit


#: Whether the test itself has failed; set before its fixtures are torn down.
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
    from lochws.testing.kit import Authority  # noqa: PLC0415  only tests that use it import lochws

    return Authority(lambda: tmp_path_factory.mktemp("lochws"))


@pytest.fixture
def _ws_kit(_ws_authority: Authority, request: pytest.FixtureRequest) -> Iterator[Kit]:
    from lochws.testing.kit import Kit  # noqa: PLC0415  as above

    kit = Kit(_ws_authority)
    yield kit
    kit.end(has_failed=request.node.stash.get(_FAILED, False))


@pytest.fixture
def ws_server(_ws_kit: Kit) -> StartServer:
    """Start WebSocket servers that follow a script, or echo, and are closed when the test ends.

    ``server = ws_server([accept(), send("hello")], [accept(), fin()])`` has one script per connection;
    ``ws_server()`` echoes; ``ws_server(tls=True)`` has a certificate that ``ws_server.ca_file`` verifies. The
    steps are in `lochws.testing`. A script that was started but not completed fails the test.
    """
    return _ws_kit.serve


@pytest.fixture
def ws_events(_ws_kit: Kit) -> LogEvents:
    """Log the events of an app: ``log = ws_events(app)``, then ``log.wait_for(events.Ready)``.

    The app is stopped when the test ends. An exception raised by a handler fails the test, unless
    ``log.wait_for_error`` was called for it.
    """
    return _ws_kit.log_events


@pytest.fixture
def ws_clock(_ws_kit: Kit) -> VirtualClock:
    """Stop time for all apps that the test starts; ``ws_clock.advance(seconds)`` lets time pass.

    Keepalive, Poll, the closing handshake and back-off use this clock, as do the pauses in scripts of
    ``ws_server``.
    """
    return _ws_kit.clock

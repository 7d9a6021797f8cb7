"""Fixtures of all tests: scripted peers, throw-away certificates, and a watch for what tests leave behind."""

from __future__ import annotations

import gc
import os
import signal
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from fnmatch import fnmatch
from pathlib import Path
from time import monotonic
from typing import Any

import hypothesis
import pytest
import trustme

from lochws.opening.dial import Dialler
from lochws.options import Options
from lochws.system.deadline import Deadline
from lochws.system.report import flush_reports
from lochws.system.waits import join
from lochws.testing import EventLog, ScriptedServer, StartServer, VirtualClock
from lochws.testing.kit import Kit

from .support.attempts import Attempt, Dial
from .support.awake import Awake
from .support.hang import Hang
from .support.holds import checked_holds
from .support.peer import Peer, StartPeer
from .support.programs import Program, Run
from .support.queues import Clock
from .support.redis_server import RedisServer
from .support.seen import PATIENCE
from .support.situation import Situation

#: Seconds that threads and descriptors of lochws may take to go after a test.
GRACE = PATIENCE

_DESCRIPTORS = Path("/proc/self/fd")

#: The files that ``pytest -m quick`` runs, as patterns, chosen by the processor time that their tests take: a
#: mistake anywhere in the package is likely to be noticed within a minute.
QUICK = (
    "test_[aehoprstu]*.py", "dispatch/*", "system/*",
    "protocol/test_[bdf-km-z]*.py", "protocol/test_large*.py", "protocol/test_clos*.py",
    "connection/test_sendqueue.py", "connection/test_window.py",
    "life/test_[bcgls]*.py", "life/test_event_order.py", "life/test_iteration.py",
    "opening/test_addresses.py", "opening/test_http.py",
    "transport/test_digest.py", "transport/test_no_proxy.py", "transport/test_proxy.py",
    "transport/test_tcp.py", "transport/test_tls.py", "transport/test_tunnel.py",
    "app/test_closing.py", "app/test_handlers.py", "app/test_pings.py", "app/test_reconnect.py",
    "app/test_running.py", "app/test_sending.py",
    "handlers/test_[clm]*.py", "handlers/test_replies.py", "handlers/test_subscriptions.py",
    "testing/test_clock.py", "testing/test_other_clients.py", "testing/test_server.py",
    "pages/test_dashboard.py",
)
TESTS = Path(__file__).parent

# How long an example takes says more about what else the machine does; each test has its limit anyway.
hypothesis.settings.register_profile("lochws", deadline=None)
hypothesis.settings.load_profile("lochws")


def is_quick(path: Path) -> bool:
    """Return whether a file is one of `QUICK`."""
    return any(fnmatch(path.relative_to(TESTS).as_posix(), pattern) for pattern in QUICK)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of quick files."""
    for item in items:
        if is_quick(item.path):
            item.add_marker(pytest.mark.quick)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import only the quick files for ``-m quick``: importing all of them takes as long as their tests."""
    is_asked = config.getoption("markexpr") == "quick" and collection_path.suffix == ".py"
    return True if is_asked and not is_quick(collection_path) else None


@pytest.fixture(scope="session", autouse=True)
def switch_interval() -> Iterator[None]:
    """Lets threads change as often as ``LOCHWS_SWITCH_INTERVAL`` says, in seconds, so that races come out.

    Without it they change as in any program. With 1e-6 a thread may lose the interpreter between any two
    lines, and tests take a few times as long: give pytest a longer ``--timeout``.
    """
    usual = sys.getswitchinterval()
    sys.setswitchinterval(float(os.environ.get("LOCHWS_SWITCH_INTERVAL", usual)))
    yield
    sys.setswitchinterval(usual)


@pytest.fixture(scope="session", autouse=True)
def no_wait_in_a_nested_hold() -> Iterator[None]:
    """Have every wait of lochws fail, and the last test, if the waiting thread holds its lock repeatedly."""
    with checked_holds() as found:
        yield
    assert not found


@pytest.fixture(scope="session", autouse=True)
def patient_kit() -> None:
    """Make the test kit as patient as the tests are, unless one of them says otherwise."""
    functions: list[Any] = [EventLog.__init__, Kit.log_events, ScriptedServer.__init__, StartServer.__call__]
    for function in functions:
        function.__kwdefaults__["patience"] = PATIENCE
    VirtualClock.__init__.__defaults__ = (PATIENCE,)


@pytest.fixture
def awake() -> Iterator[Awake]:
    """A clock that stands still while the machine stalls, for what must happen soon."""
    with closing(Awake()) as clock:
        yield clock


@pytest.fixture
def restless() -> Iterator[None]:
    """The interpreter changes threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture(scope="session", autouse=True)
def signals_as_usual() -> Iterator[None]:
    """Lets signals through, to programs that tests start too.

    A shell has background jobs ignore Ctrl-C, and nohup has everything ignore SIGHUP.
    """
    usual = {"SIGINT": signal.default_int_handler, "SIGTERM": signal.SIG_DFL, "SIGHUP": signal.SIG_DFL}
    numbers = {getattr(signal, name): handler for name, handler in usual.items() if hasattr(signal, name)}
    ignored = [number for number in numbers if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, numbers[number])
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Fails a test after which a thread of lochws runs on, or a descriptor is open, that was not before."""
    before, threads = _open_descriptors(), set(threading.enumerate())
    yield
    deadline = monotonic() + GRACE
    for thread in threading.enumerate():
        if thread.name.startswith("lochws") and thread not in threads:
            assert join(thread, max(0.0, deadline - monotonic())), f"the test left the thread {thread.name}"
    while left := {number: what for number, what in _open_descriptors().items() if number not in before}:
        # What only waits to be collected is not left open; nor is what a thread of a test's own server still
        # has, for no thread of lochws is there any more.
        gc.collect()
        assert monotonic() < deadline, f"the test left descriptors open: {left}"
        threading.Event().wait(0.01)


def _open_descriptors() -> dict[str, str]:
    """Return a description of each open descriptor, by its number; empty where the system does not tell.

    Pipes do not count: lochws has none, and the server of websockets 16 leaves its own open.
    """
    found = {}
    for number in os.listdir(_DESCRIPTORS) if _DESCRIPTORS.exists() else ():
        try:
            what = os.readlink(_DESCRIPTORS / number)
        except OSError:
            continue  # the one that listdir itself had open
        if not what.startswith("pipe:"):
            found[number] = what
    return found


@pytest.fixture(autouse=True)
def no_proxy_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps the proxies of whoever runs the tests out of them."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


class FlushedCapture(pytest.LogCaptureFixture):
    """A `caplog` that has everything logged before it is read: some lines are logged on their own thread."""

    @property
    def handler(self) -> Any:
        flush_reports()
        return super().handler


@pytest.fixture
def caplog(request: pytest.FixtureRequest) -> Iterator[pytest.LogCaptureFixture]:
    """Pytest's fixture of that name, without races."""
    capture = FlushedCapture(request.node, _ispytest=True)
    yield capture
    capture._finalize()


@pytest.fixture
def start_peer() -> Iterator[StartPeer]:
    """Starts scripted servers (`Peer`) that end with the test; takes what `Peer` takes."""
    peers: list[Peer] = []

    def start(*args: object, **kwargs: object) -> Peer:
        peers.append(Peer(*args, **kwargs))  # type: ignore[arg-type]
        return peers[-1]

    yield start
    for peer in peers:
        peer.close()


@pytest.fixture
def run() -> Iterator[Run]:
    """Starts programs (`Program`) that end with the test; takes what `Program` takes."""
    programs: list[Program] = []

    def start(*args: Any, **kwargs: Any) -> Program:
        programs.append(Program(*args, **kwargs))
        return programs[-1]

    yield start
    for program in programs:
        program.close()


@pytest.fixture
def hang(start_peer: StartPeer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hang]:
    """Places where an opening can hang, until the test is over."""
    hang = Hang(start_peer, monkeypatch)
    yield hang
    hang.end()


@pytest.fixture
def dial() -> Iterator[Dial]:
    """Makes an `Attempt` with the given options; what it opens ends with the test."""
    attempts: list[Attempt] = []

    def make(url: str | Callable[[], str], *, deadline: Deadline | None = None, **options: Any) -> Attempt:
        dialler = Dialler(Options(**options), url)
        with closing(deadline or Deadline(options.get("open_timeout", PATIENCE))) as limit:
            attempts.append(Attempt(dialler, limit))
        return attempts[-1]

    yield make
    for attempt in attempts:
        if attempt.opened is not None:
            attempt.opened.stream.close()


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """A certificate authority that only the tests know."""
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The file to give as `ssl_cafile` in order to trust the servers of the tests."""
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


@pytest.fixture(scope="session")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    """A server's TLS context with a certificate for localhost and the loopback addresses."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1", "::1").configure_cert(context)
    return context


@pytest.fixture
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    """A client's TLS context that trusts the servers of the tests."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture(params=["iterated", "app"])
def situation(request: pytest.FixtureRequest) -> Situation:
    """Both ways to live through a connection."""
    return Situation(request.param)


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A redis-server of the test's own."""
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The send queue's clock, standing still."""
    clock = Clock()
    clock.rule(monkeypatch)
    return clock

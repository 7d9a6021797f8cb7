"""Faults of the program around an app: what its handlers do, and what it runs out of."""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from itertools import groupby, takewhile
from random import Random
from typing import Any

import pytest

from lochws import Backoff, Threads
from lochws.events import Disconnected
from lochws.life.backoff import Retries

from ..support.apps import AT_ONCE, echo, opened, running
from ..support.peer import StartPeer
from ..support.programs import Run
from ..support.scripts import EVENTS, bringing
from ..support.seen import PATIENCE, Noting
from .registry import fault

PATCH = "from gevent import monkey; monkey.patch_all()"

#: What a program does with its app, whose texts come back, and what it says.
ECHO = """
texts = []
def text(event):
    texts.append(event.text)
    if len(texts) == 100:
        done.set()
app.on("text")(text)
app.start(persist=Backoff(0, 0))
assert app.wait_ready(60)
for number in range(100):
    app.send_text(str(number))
assert done.wait(60)
assert texts == [str(number) for number in range(100)]
"""


#: The events that end an attempt or a connection, or are followed by its end.
ENDING = {
    "connect_fail", "rejected", "protocol_error", "unresponsive", "stale", "closing", "disconnected",
    "back_off",
}


@pytest.fixture(params=["ws", "wss"])
def url(request: pytest.FixtureRequest, start_peer: StartPeer, server_tls: ssl.SSLContext) -> str:
    """The URL of a server that echoes, by name."""
    peer = start_peer(echo, tls=server_tls if request.param == "wss" else None)
    return peer.url.replace("127.0.0.1", "localhost")


class TestRaising:
    """Handlers that raise, whatever the event."""

    class Failing(Noting):
        """Raises in the handler of one event, and notes what `on_error` gets."""

        def fail_on(self, name: str, error: BaseException) -> None:
            self.errors: list[BaseException] = []

            def fail(_: object) -> None:
                raise error

            self.on(name)(fail)

        def on_error(self, error: BaseException) -> None:
            self.errors.append(error)

    @fault("program", "MemoryError in a handler")
    @fault("program", "A handler raises")
    @pytest.mark.parametrize("error", [ZeroDivisionError("on purpose"), MemoryError()], ids=["any", "memory"])
    @pytest.mark.parametrize("name", EVENTS)
    def test_a_handler_that_raises_changes_nothing_but_on_error(
        self, name: str, error: BaseException, start_peer: StartPeer
    ) -> None:
        seen = []
        for raises in (False, True):
            peer = start_peer(bringing(name))
            app = self.Failing(peer.url.replace("ws:", "wss:") if name == "connect_fail" else peer.url)
            app.fail_on(name if raises else "error", error)
            timing: dict[str, Any] = {"ping_rate": 0}
            if name == "unresponsive":
                # The app may have connected again when it is closed, and this server answers no Close frame.
                timing = {"ping_rate": 0.05, "ping_timeout": 0.06, "close_timeout": 0.1}
            elif name == "stale":
                timing = {"ping_rate": 0, "stale_after": 0.05}
            with running(app, persist=AT_ONCE, **timing):
                app.wait_for("back_off" if name in ENDING else "pong")
                app.close()
                assert app.wait_closed(PATIENCE)
            assert app.errors == [error] * len(app.all(name)) * raises
            first = takewhile(lambda name: name not in {"connect_fail", "disconnected"}, app.names("poll"))
            seen.append(list(first))
        assert seen[0] == seen[1]


class TestSharedThreads:
    @fault("program", "One of two apps that share Threads() misbehaves")
    def test_one_whose_handlers_always_raise_leaves_the_others_events_alone(
        self, start_peer: StartPeer, caplog: pytest.LogCaptureFixture
    ) -> None:
        shared = Threads()
        url = start_peer(echo).url
        raising = Noting(url, threads=shared, on_handler_error="reconnect")
        raising.on("event")(lambda event: 1 / 0)
        other = Noting(url, threads=shared)
        with opened(other), running(raising, persist=AT_ONCE):
            for number in range(1, 20):
                other.send_text("x")
                other.wait_for("text", number)
            raising.wait_for("ready", 5)
        assert other.names("pong", "poll", "text") == [
            "connecting", "connected", "ready", "closed", "disconnected",
        ]


class TestGevent:
    @fault("program", "gevent patches the standard library")
    @pytest.mark.parametrize("before", ["", "import selectors, ssl, threading; "], ids=["first", "later"])
    def test_patched_before_lochws_is_imported_apps_run_on_greenlets(
        self, before: str, run: Run, url: str, ca_file: str
    ) -> None:
        status, output, errors = run(ECHO + """
import gevent
get_ident = monkey.get_original("_thread", "get_ident")
app.on("ready")(lambda _: say(get_ident() == real))
real = get_ident()
others = []
def other():
    while len(others) < 5:
        others.append(app.state.value)
        time.sleep(0.001)
greenlet = gevent.spawn(other)
app.reconnect()
assert app.wait_ready(60)
greenlet.join(60)
assert len(others) == 5
assert app.stop(60)
assert threading.enumerate() == [threading.main_thread()]
""", url, options=f"ssl_cafile={ca_file!r}", first=before + PATCH).end()
        assert (status, output, errors) == (0, "True\n", "")

    @fault("program", "gevent patches the standard library")
    def test_patched_after_lochws_was_imported_it_is_refused_at_the_start(self, run: Run) -> None:
        status, output, errors = run(f"""
from lochws import WebSocket
{PATCH}
for begin in app.start, lambda: next(iter(WebSocket(sys.argv[1]))):
    try:
        begin()
    except Exception as error:
        print(type(error).__name__, error)
assert not app.is_active
app.stop()
""", "ws://localhost:1").end()
        refused = "WebSocketError threading was patched after lochws was imported; patch it first\n"
        assert (status, output, errors) == (0, 2 * refused, "")


class TestWithoutThreads:
    #: Lets no thread begin any more: there is no room left for its stack.
    NO_THREADS = """
import resource
limits = resource.getrlimit(resource.RLIMIT_AS)
def no_threads():
    threading.stack_size(1 << 40)
def threads_again():
    threading.stack_size(0)
"""

    @fault("program", "No thread can be started")
    def test_start_says_so_and_works_later(self, run: Run, start_peer: StartPeer) -> None:
        status, output, errors = run(self.NO_THREADS + """
no_threads()
try:
    app.start()
except RuntimeError as error:
    print(error)
assert app.state.value == "new"
assert threading.active_count() == 1
threads_again()
""" + ECHO + "app.stop(60)", start_peer(echo).url).end()
        assert (status, output, errors) == (0, "can't start new thread\n", "")

    @fault("program", "No thread can be started")
    def test_a_look_up_is_a_failed_attempt_and_works_later(self, run: Run, url: str, ca_file: str) -> None:
        status, output, errors = run(self.NO_THREADS + f"""
failed = threading.Event()
def address():
    if not failed.is_set():
        no_threads()
    return sys.argv[1]
app = WebSocketApp(address, ssl_cafile={ca_file!r})
def fail(event):
    print(event.phase, event.error)
    threads_again()
app.on("connect_fail")(fail)
app.on("back_off")(lambda _: failed.set())
""" + ECHO, url).end()
        assert status == 0, errors
        assert output == "resolve unable to connect; cannot resolve 'localhost': can't start new thread\n"


class TestDescriptors:
    @fault("program", "Descriptors above 1,024")
    def test_with_more_than_1024_in_use_all_works_as_with_few(
        self, run: Run, url: str, ca_file: str
    ) -> None:
        status, output, errors = run("""
import resource
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096) if hard > 0 else 4096, hard))
taken = [os.dup(0) for _ in range(1100)]
assert taken[-1] > 1024
""" + ECHO + """
assert app._lochws.life.connection.fileno() > 1024
app.reconnect()
assert app.wait_ready(60)
assert app.stop(60)
""", url, options=f"ssl_cafile={ca_file!r}").end()
        assert (status, output, errors) == (0, "", "")

    @fault("program", "No descriptor is left (EMFILE)")
    def test_however_few_are_left_an_attempt_fails_with_its_cause_and_leaves_none(
        self, run: Run, url: str, ca_file: str
    ) -> None:
        status, output, errors = run("""
import errno, gc, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (60, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
def fill(left):
    try:
        while True:
            taken.append(os.dup(0))
    except OSError:
        pass
    for _ in range(left):
        os.close(taken.pop())
    return len(taken)
taken = []
app.on("ready")(lambda _: app.close())
for left in range(14):
    before = fill(left)
    try:
        last = app.run_forever(persist=False)
    except OSError as error:
        assert error.errno == errno.EMFILE, error
        print("refused")
    else:
        # The C library calls a name unknown if it cannot open the file of names.
        assert last.name == "disconnected" or any(
            cause in last.reason for cause in ("Too many open files", "cannot resolve")
        ), last
        print(last.name)
    gc.collect()
    assert fill(left) == before, "descriptors were left"
while taken:
    os.close(taken.pop())
last = app.run_forever(persist=False)
assert last.graceful
""", url, options=f"ssl_cafile={ca_file!r}").end()
        assert status == 0, errors
        outcomes = [name for name, _ in groupby(output.split())]
        assert outcomes == ["refused", "connect_fail", "disconnected"]


class TestManyApps:
    """A server with 1,000 apps restarts. Nothing is connected here: the back-off is told the time."""

    APPS, OUTAGE = 1000, 20.0

    def attempts(self, draws: Iterable[Callable[[], float]], is_shared: bool = False) -> list[float]:
        """Return when the apps try to connect. The server drops all at 0 and accepts after the outage."""
        lost = Disconnected("connection lost", False)
        due = []
        for number, draw in enumerate(draws):
            retries = Retries(Backoff(), draw, is_shared=is_shared)
            retries.opened(-3600.0)
            heappush(due, (0.0, number, retries))
        times = []
        while due:
            now, number, retries = heappop(due)
            times.append(now)
            if now < self.OUTAGE:
                retries.ended(now)
                wait = retries.next_wait(lost, now, 0.0)
                assert wait is not None
                heappush(due, (now + wait, number, retries))
        return times[self.APPS :]  # those are no attempts but the loss

    def peak(self, times: list[float], begin: float, end: float) -> int:
        """The most attempts that fall within 0.1 s."""
        return max(Counter(int(time * 10) for time in times if begin <= time < end).values())

    @fault("program", "1,000 apps reconnect after a crash")
    @pytest.mark.parametrize(("is_shared", "shares"), [(True, (6, 20, 50)), (False, (5, 12, 30))])
    def test_a_thousand_apps_come_back_spread_over_the_range_of_their_waits(
        self, is_shared: bool, shares: tuple[int, int, int]
    ) -> None:
        times = self.attempts((Random(number).random for number in range(self.APPS)), is_shared)
        assert self.peak(times, 0, 5) <= self.APPS / shares[0]
        assert self.peak(times, 5, self.OUTAGE) <= self.APPS / shares[1]
        assert self.peak(times, self.OUTAGE, 100) <= self.APPS / shares[2]
        assert len([time for time in times if time >= self.OUTAGE]) == self.APPS
        assert times[-1] <= self.OUTAGE + Backoff().max_wait
        # Nothing but chance spreads them.
        assert self.peak(self.attempts([lambda: 0.5] * self.APPS), 0, 100) == self.APPS

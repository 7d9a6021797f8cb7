"""Signals in the main thread at any moment, whose handler closes or raises."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

from lochws import WebSocket, WebSocketApp, events
from lochws.errors import WebSocketError
from lochws.persist import persist

from ..faults.registry import fault
from ..support.apps import AT_ONCE, check_order, echo
from ..support.peer import CLOSE, Link, StartPeer
from ..support.seen import PATIENCE, Noting, eventually

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")

#: When the signal comes, in seconds: while connecting, soon after, and in the midst of sending.
MOMENTS = [0.0002 * step for step in range(1, 40)]


class Interrupted(BaseException):
    """Raised by a signal handler, as Ctrl-C does."""


class Alarm:
    """Sends a signal after a given time."""

    def __init__(self) -> None:
        self.act: Callable[[], object] = lambda: None

    def arm(self, seconds: float, *, again: float = 0.0) -> None:
        """Send the signal after that many seconds, and repeatedly if there is an interval."""
        signal.setitimer(signal.ITIMER_REAL, seconds, again)

    def disarm(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        self.act()


@pytest.fixture
def alarm() -> Iterator[Alarm]:
    alarm = Alarm()
    before = signal.signal(signal.SIGALRM, alarm)
    yield alarm
    alarm.disarm()
    signal.signal(signal.SIGALRM, before)


def send_until_refused(app: WebSocketApp) -> None:
    while True:
        app.send_text("x" * 100)


class Counting:
    """A script that counts the Close frames of each connection and answers them."""

    def __init__(self) -> None:
        self.closes: list[int] = []

    def __call__(self, link: Link) -> None:
        closes = 0
        try:
            link.accept()
            while True:
                opcode, payload = link.read_frame()
                if opcode == CLOSE:
                    closes += 1
                    link.send_frame(CLOSE, payload)
                    link.finish()
        finally:
            self.closes.append(closes)


@fault("stopping", "SIGTERM")
@pytest.mark.parametrize("compress", [False, True])
def test_a_signal_handler_may_close_while_the_main_thread_sends(
    compress: bool, start_peer: StartPeer, alarm: Alarm
) -> None:
    counting = Counting()
    url = start_peer(counting).url
    for moment in MOMENTS:
        app = Noting(url, compress=compress)
        alarm.act = app.close
        app.start(ping_rate=0)
        assert app.wait_ready(PATIENCE)
        alarm.arm(moment)
        with pytest.raises(WebSocketError):
            send_until_refused(app)
        alarm.disarm()  # its repetition would close the next app
        assert app.join(PATIENCE)
        last = app.events[-1]
        assert last.graceful, last  # type: ignore[attr-defined]
    eventually(lambda: len(counting.closes) == len(MOMENTS))
    assert set(counting.closes) == {1}


@fault("stopping", "SIGTERM")
def test_a_signal_handler_may_close_whatever_the_main_thread_is_doing(
    start_peer: StartPeer, alarm: Alarm
) -> None:
    url = start_peer(echo).url
    for moment in MOMENTS:
        app = Noting(url)
        alarm.act = app.close
        alarm.arm(moment)
        app.run_forever(persist=AT_ONCE)
        assert app.is_closed
        check_order(app.names())


@contextmanager
def caught_elsewhere(alarm: Alarm) -> Iterator[Callable[[], None]]:
    """Yield a function that sends a signal to another thread, so that it interrupts no wait of this one."""
    sent, over = threading.Event(), threading.Event()

    def catch() -> None:
        sent.wait(PATIENCE)
        os.kill(os.getpid(), signal.SIGALRM)
        over.wait(PATIENCE)

    catcher = threading.Thread(target=catch)
    catcher.start()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    try:
        yield sent.set
    finally:
        over.set()
        catcher.join()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])


class Telling(Noting):
    """Calls a function from its Poll handler while the main thread waits."""

    tell: Callable[[], None]

    def on_poll(self, event: events.Poll) -> None:
        self.tell()


@pytest.fixture
def short_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lochws.system.waits.SLICE_SECONDS", 0.01)


def test_a_signal_that_interrupts_no_wait_is_handled_all_the_same(
    start_peer: StartPeer, alarm: Alarm, short_slices: None
) -> None:
    with caught_elsewhere(alarm) as send:
        app = Telling(start_peer(echo).url)
        app.tell = send
        alarm.act = app.close
        app.run_forever(ping_rate=0, persist=AT_ONCE)
    assert app.is_closed


@pytest.mark.parametrize("wait", ["wait_ready", "wait_closed", "join"])
def test_so_it_is_in_every_wait_of_the_main_thread(
    wait: str, start_peer: StartPeer, alarm: Alarm, short_slices: None
) -> None:
    with caught_elsewhere(alarm) as send:
        app = Noting(start_peer(Link.wait_for_end).url)
        alarm.act = app.close
        app.start()
        send()
        getattr(app, wait)()
        assert app.join(PATIENCE)


def test_so_it_is_while_the_main_thread_iterates(
    start_peer: StartPeer, alarm: Alarm, short_slices: None
) -> None:
    with caught_elsewhere(alarm) as send:
        websocket = WebSocket(start_peer(echo).url)
        alarm.act = websocket.close
        for event in websocket.connect(poll=None, ping_rate=0):
            if event.name == "ready":
                send()
    assert websocket.is_closed


def test_so_it_is_while_the_main_thread_connects(
    start_peer: StartPeer, alarm: Alarm, short_slices: None
) -> None:
    with caught_elsewhere(alarm) as send:
        websocket = WebSocket(start_peer(Link.wait_for_end).url)
        alarm.act = websocket.close
        names = []
        for event in websocket.connect():
            names.append(event.name)
            if event.name == "connected":
                send()
    assert names[-1] == "disconnected"


def test_so_it_is_during_the_back_off_of_persist(
    start_peer: StartPeer, alarm: Alarm, short_slices: None
) -> None:
    with caught_elsewhere(alarm) as send:
        exit_event = threading.Event()
        alarm.act = exit_event.set
        websocket = WebSocket(start_peer(Link.reset).url)
        for event in persist(websocket, min_wait=1000, max_wait=1000, exit_event=exit_event):
            if event.name == "back_off":
                send()


@pytest.fixture
def interruptions_get_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python may swallow `Interrupted` in a weak reference's callback: then send the next one."""
    report = sys.unraisablehook

    def report_others(what: sys.UnraisableHookArgs) -> None:
        if not isinstance(what.exc_value, Interrupted):
            report(what)

    monkeypatch.setattr(sys, "unraisablehook", report_others)


@fault("stopping", "Ctrl-C")
def test_whatever_a_raising_signal_handler_interrupts_the_app_can_be_stopped(
    start_peer: StartPeer, alarm: Alarm, interruptions_get_lost: None
) -> None:
    def interrupt() -> None:
        raise Interrupted

    url = start_peer(echo).url
    alarm.act = interrupt
    for moment in MOMENTS:
        app = Noting(url, compress=True)
        app.start(ping_rate=0.001, persist=AT_ONCE)
        try:
            # Repeatedly: what a handler raises is lost if it interrupts a weak reference's callback.
            alarm.arm(moment, again=1.0)
            while True:
                use(app)
        except Interrupted:
            pass
        finally:
            alarm.disarm()
        assert app.stop(PATIENCE)
        check_order(app.names())


def use(app: WebSocketApp) -> None:
    """Do everything that a main thread does with an app, once."""
    app.wait_ready(1)
    try:
        for _ in range(20):
            app.send_text("x" * 100)
        app.send_ping(b"x")
    except WebSocketError:
        pass  # between two connections
    assert app.state is not None
    assert app.counters is not None
    app.reconnect()

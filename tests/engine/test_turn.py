"""Turns: the wait of a loop. Both twins pass the same tests."""

from __future__ import annotations

import gc
import select
import signal
import socket
import threading
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from selectors import EVENT_READ
from time import monotonic, sleep, time
from typing import Any

import pytest

from lochws.clock import SYSTEM
from lochws.engine import turn as module
from lochws.engine.inbox import Inbox
from lochws.engine.poller import EpollPoller
from lochws.engine.timers import Timers
from lochws.engine.turn import Turn, TurnPython, new_turn
from lochws.system import syscalls

from ..support.seen import PATIENCE, eventually

pytestmark = pytest.mark.skipif(not hasattr(select, "epoll"), reason="the compiled twin is for epoll")

COMPILED = getattr(syscalls.twins, "Turn", None)
TWINS = ["python"] if COMPILED is None else ["python", "compiled"]
#: Much longer than any test may take.
LONG = 10 * PATIENCE


class Channel:
    """Notes how it is called, and returns or raises what it is told to."""

    def __init__(self, result: Any = None) -> None:
        self.near, self.far = socket.socketpair()
        self.result = result
        self.calls: list[tuple[Any, ...]] = []
        self.is_direct: list[bool] = []

    def on_ready(self, mask: int, buffer: memoryview, now: float, is_direct: bool) -> Any:
        """Note the call."""
        self.calls.append((mask, buffer, now))
        self.is_direct.append(is_direct)
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result

    def close(self) -> None:
        """Close both sockets."""
        self.near.close()
        self.far.close()


class Scene:
    """A turn, and what its loop would own."""

    def __init__(self, twin: str) -> None:
        self.poller = EpollPoller()
        self.mail: deque[Any] = deque()
        self.touched: deque[Any] = deque()
        self.added: deque[Any] = deque()
        self.again: dict[Any, None] = {}
        self.timers: Timers[Any] = Timers()
        self.watched: dict[int, Any] = {}
        self.buffer = memoryview(bytearray(10))
        self.channels: list[Channel] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "_Turn", None if twin == "python" else COMPILED)
            self.turn: Turn = new_turn(
                self.poller, self.poller.poll, SYSTEM, self.mail, self.touched, self.added, self.again,
                self.timers, self.watched, self.buffer
            )

    def channel(self, result: Any = None, *, is_ready: bool = True) -> Channel:
        """Add a channel."""
        channel = Channel(result)
        self.channels.append(channel)
        self.watched[channel.near.fileno()] = channel
        self.poller.watch(channel.near.fileno(), 0, EVENT_READ)
        if is_ready:
            channel.far.send(b"x")
        return channel

    def close(self) -> None:
        """Close all descriptors."""
        self.poller.close()
        for channel in self.channels:
            channel.close()


@pytest.fixture(params=TWINS)
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    sleep(0.03)  # for 20 ms after another thread has delayed this one, waits may return early
    with closing(Scene(request.param)) as one:
        yield one


def no() -> bool:
    return False


class TestTheWait:
    def test_ends_at_its_limit_or_at_the_next_deadline(self, scene: Scene) -> None:
        turns = 0
        for limit, when in ((0.02, None), (LONG, 0.02), (None, 0.02), (0.02, LONG)):
            for _ in range(3):  # it may return early if a busy machine has held this thread up
                began, turns = monotonic(), turns + 1
                assert scene.turn.run(no, limit, None if when is None else began + when, False) == []
                assert scene.turn.due is not None
                if scene.turn.now >= scene.turn.due:
                    break
            assert began + 0.02 <= scene.turn.due <= scene.turn.now <= monotonic()
            assert not scene.turn.is_asleep
            assert abs(scene.turn.wall - time()) < PATIENCE
        assert scene.turn.number == turns

    def test_is_none_for_a_deadline_that_has_passed(self, scene: Scene) -> None:
        assert scene.turn.run(no, None, 0.0, False) == []
        assert scene.turn.run(no, 0, None, False) == []

    @pytest.mark.parametrize("kind", ["until", "mail", "touched", "added", "ending"])
    def test_is_none_while_something_else_is_to_be_done(self, scene: Scene, kind: str) -> None:
        if kind == "ending":
            scene.turn.is_ending = True
        elif kind != "until":
            getattr(scene, kind).append(object())
        until = (lambda: True) if kind == "until" else no if kind in ("touched", "added") else None
        assert scene.turn.run(until, LONG, None, False) == []
        assert scene.turn.run(until, None, None, False) == []

    def test_of_a_caller_with_a_condition_ignores_mail_and_the_end(self, scene: Scene) -> None:
        scene.mail.append(object())
        scene.turn.is_ending = True
        began = monotonic()
        assert scene.turn.run(no, 0.02, None, False) == []
        assert monotonic() >= began + 0.02

    def test_lets_other_threads_run_which_see_it(self, scene: Scene) -> None:
        channel = scene.channel(is_ready=False)

        def send() -> None:
            eventually(lambda: scene.turn.is_asleep and scene.turn.due is None)
            channel.far.send(b"x")

        thread = threading.Thread(target=send)
        thread.start()
        assert scene.turn.run(None, None, None, False) is None
        thread.join()
        assert len(channel.calls) == 1

    def test_what_its_condition_raises_propagates(self, scene: Scene) -> None:
        def failing() -> bool:
            raise KeyError("condition")

        with pytest.raises(KeyError, match="condition"):
            scene.turn.run(failing, LONG, None, False)
        assert not scene.turn.is_asleep

    def test_of_a_closed_poller_is_an_error(self, scene: Scene) -> None:
        scene.poller.close()
        with pytest.raises(ValueError, match="closed epoll"):
            scene.turn.run(no, 0.0, None, False)
        assert not scene.turn.is_asleep

    @pytest.mark.parametrize("arguments", [
        (), (None, "soon", None, False), (None, None, "soon", False), (None, 0.0),
    ])
    def test_wrong_arguments_are_refused(self, scene: Scene, arguments: tuple[Any, ...]) -> None:
        with pytest.raises(TypeError):
            scene.turn.run(*arguments)


class TestSignals:
    @pytest.fixture
    def after(self) -> Iterator[Callable[[Callable[[], object]], None]]:
        """Return a function that has another one called by a signal handler in 20 ms, and again and again."""
        before = signal.getsignal(signal.SIGALRM)

        def arrange(act: Callable[[], object]) -> None:
            signal.signal(signal.SIGALRM, lambda *_: act())
            signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)

        yield arrange
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    def test_one_whose_handler_raises_ends_the_wait(self, scene: Scene, after: Any) -> None:
        def interrupt() -> None:
            signal.setitimer(signal.ITIMER_REAL, 0)  # else the next one may hit pytest
            raise KeyboardInterrupt

        began = monotonic()
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012  the signal may come before the wait
            after(interrupt)
            scene.turn.run(no, LONG, None, False)
        assert monotonic() < began + LONG
        assert not scene.turn.is_asleep

    def test_that_of_another_runs_during_the_wait(self, scene: Scene, after: Any) -> None:
        handled: list[int] = []
        after(lambda: handled.append(1))
        began = monotonic()
        while not handled:
            assert scene.turn.run(no, 0.2, None, False) == []
        assert monotonic() < began + LONG


class TestAChannel:
    def test_that_is_ready_alone_is_called(self, scene: Scene) -> None:
        channel = scene.channel()
        scene.channel(is_ready=False)
        assert scene.turn.run(no, LONG, None, False) is None
        assert channel.calls == [(EVENT_READ, scene.buffer, scene.turn.now)]

    @pytest.mark.parametrize("result", [True, False])
    def test_that_returns_something_is_returned_with_it(self, scene: Scene, result: bool) -> None:
        channel = scene.channel(result)
        assert scene.turn.run(no, LONG, None, False) == (channel, result)

    def test_may_return_an_inbox_if_the_reader_has_nothing_else_to_do(self, scene: Scene) -> None:
        inbox = Inbox(lambda _: None, lambda _: None)
        channel = scene.channel(inbox)
        for when in (None, monotonic() + LONG):
            assert scene.turn.run(None, LONG, when, False) is inbox
        assert channel.is_direct == [True, True]

    @pytest.mark.parametrize("kind", ["condition", "others", "timer", "mail"])
    def test_may_not_return_an_inbox_in_other_turns(self, scene: Scene, kind: str) -> None:
        channel = scene.channel()
        if kind == "mail":
            scene.mail.append(object())
        until, when = no if kind == "condition" else None, 0.0 if kind == "timer" else None
        scene.turn.run(until, LONG, when, kind == "others")
        assert channel.is_direct == [False]

    @pytest.mark.parametrize("kind", [ZeroDivisionError, KeyboardInterrupt])
    def test_that_raises_is_returned_with_the_exception(
        self, scene: Scene, kind: type[BaseException]
    ) -> None:
        channel, error = scene.channel(), kind("failed")
        channel.result = error
        assert scene.turn.run(no, LONG, None, False) == (channel, error)
        assert "on_ready" in [frame.name for frame in traceback.extract_tb(error.__traceback__)]

    def test_does_not_hide_a_timer_that_is_due(self, scene: Scene) -> None:
        channel = scene.channel()
        assert scene.turn.run(no, LONG, 0.0, False) == []
        assert len(channel.calls) == 1

    def test_before_others_is_returned_even_with_nothing(self, scene: Scene) -> None:
        channel = scene.channel()
        assert scene.turn.run(no, LONG, None, True) == (channel, None)

    def test_beside_others_is_left_to_the_loop(self, scene: Scene) -> None:
        channels = [scene.channel() for _ in range(5)]
        ready = scene.turn.run(no, LONG, None, False)
        assert isinstance(ready, list)
        assert sorted(ready) == sorted((channel.near.fileno(), EVENT_READ) for channel in channels)
        assert not any(channel.calls for channel in channels)

    def test_that_is_no_longer_watched_is_left_to_the_loop(self, scene: Scene) -> None:
        channel = scene.channel()
        del scene.watched[channel.near.fileno()]
        assert scene.turn.run(no, LONG, None, False) == [(channel.near.fileno(), EVENT_READ)]

    def test_that_has_hung_up_is_left_to_the_loop(self, scene: Scene) -> None:
        channel = scene.channel(is_ready=False)
        channel.far.close()
        (ready,) = scene.turn.run(no, LONG, None, False) or ()
        assert ready[0] == channel.near.fileno()
        assert ready[1] & ~EVENT_READ
        assert not channel.calls

    def test_is_not_called_before_the_loop_has_looked_for_a_suspension(self, scene: Scene) -> None:
        channel = scene.channel()
        ahead = scene.turn.ahead = scene.turn.ahead - 10.0
        assert scene.turn.run(no, LONG, None, False) == [(channel.near.fileno(), EVENT_READ)]
        assert scene.turn.is_suspicious
        assert scene.turn.ahead == ahead  # for the full check
        scene.turn.ahead = scene.turn.wall - scene.turn.now
        assert scene.turn.run(no, LONG, None, False) is None
        assert not scene.turn.is_suspicious

    def test_is_not_kept(self, scene: Scene) -> None:
        for result in (None, True, ZeroDivisionError):
            channel = scene.channel(result() if result is ZeroDivisionError else result)
            scene.turn.run(no, LONG, None, False)
            scene.poller.watch(channel.near.fileno(), EVENT_READ, 0)
            del scene.watched[channel.near.fileno()]
            channel.close()
            scene.channels.clear()
            gone = weakref.ref(channel)
            channel.result = None
            del channel
            gc.collect()
            assert gone() is None


class Loop:
    """Notes what a turn has left for it to do."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.acted: list[Any] = []
        self.begun: list[Any] = []

    def turn(self, until: None) -> Inbox | None:
        scene = self._scene
        for kind in ("added", "touched", "again"):
            if getattr(scene, kind):
                self.begun.append(kind)
                getattr(scene, kind).clear()
        result = scene.turn.run(until, 0.0 if self.begun else None, scene.timers.next, False)
        if result is None or isinstance(result, Inbox):
            return result
        self._act(result)
        return None

    def _act(self, ready: Any) -> None:
        self.acted.append(ready)


class TestTheTurnOfAReader:
    """The compiled twin calls the loop only if it has to; the results are the same."""

    def test_calls_a_channel_that_is_ready(self, scene: Scene) -> None:
        loop, channel = Loop(scene), scene.channel()
        assert scene.turn.turn(loop) is None
        assert len(channel.calls) == 1
        assert loop.acted == loop.begun == []

    def test_returns_an_inbox(self, scene: Scene) -> None:
        inbox = Inbox(lambda _: None, lambda _: None)
        scene.channel(inbox)
        assert scene.turn.turn(Loop(scene)) is inbox

    def test_leaves_what_a_channel_returned_or_raised_to_the_loop(self, scene: Scene) -> None:
        loop, error = Loop(scene), ZeroDivisionError()
        channel = scene.channel(True)
        assert scene.turn.turn(loop) is None
        channel.result = error
        assert scene.turn.turn(loop) is None
        assert loop.acted == [(channel, True), (channel, error)]

    def test_leaves_several_channels_to_the_loop(self, scene: Scene) -> None:
        loop, channels = Loop(scene), [scene.channel() for _ in range(3)]
        assert scene.turn.turn(loop) is None
        assert [len(ready) for ready in loop.acted] == [3]
        assert not any(channel.calls for channel in channels)

    def test_ends_at_the_next_deadline(self, scene: Scene) -> None:
        loop = Loop(scene)
        scene.timers.set(object(), monotonic() + 0.02, monotonic())
        assert scene.timers.next is not None
        assert scene.turn.turn(loop) is None
        assert loop.acted == [[]]
        assert scene.turn.now >= scene.timers.next

    @pytest.mark.parametrize("kind", ["added", "touched", "again"])
    def test_begins_with_what_waits(self, scene: Scene, kind: str) -> None:
        loop, waiting = Loop(scene), getattr(scene, kind)
        waiting.update({0: None}) if kind == "again" else waiting.append(0)
        assert scene.turn.turn(loop) is None
        assert loop.begun == [kind]

    def test_passes_on_what_the_loop_raises(self, scene: Scene) -> None:
        class Failing(Loop):
            def _act(self, ready: Any) -> None:
                raise KeyError(ready)

        scene.channel(True)
        with pytest.raises(KeyError):
            scene.turn.turn(Failing(scene))

    def test_of_something_else_is_an_error(self, scene: Scene) -> None:
        scene.added.append(0)
        wrong: Any = object()
        with pytest.raises(AttributeError):
            scene.turn.turn(wrong)


def test_a_turn_in_a_cycle_is_collected() -> None:
    for twin in TWINS:
        one = Scene(twin)
        one.watched[-1] = one
        one.close()
        gone = weakref.ref(one)
        del one
        gc.collect()
        assert gone() is None


def test_another_clock_or_poller_has_the_twin_in_python() -> None:
    class OtherClock:
        passes = True
        monotonic = staticmethod(monotonic)
        wall = staticmethod(time)

    with closing(EpollPoller()) as poller:
        clock: Any = OtherClock()
        for one in (clock, SYSTEM):
            turn = new_turn(poller, poller.poll, one, [], [], [], {}, Timers(), {}, memoryview(bytearray(1)))
            assert isinstance(turn, TurnPython) == (one is clock or module._Turn is None)

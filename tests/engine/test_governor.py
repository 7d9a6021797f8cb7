"""Governors: attempts per second and per host, shared by apps."""

from __future__ import annotations

import copy
import pickle
import threading
from collections import deque
from time import monotonic
from typing import Any

import pytest

from lochws import Governor, Threads, WebSocketApp
from lochws.system.deadline import Cancelled, Deadline
from lochws.system.steps import drive

from ..support.apps import NEVER
from ..support.peer import Link, StartPeer
from ..support.scripts import in_turn, polite
from ..support.seen import PATIENCE, Noting, eventually


def enter(governor: Governor, host: str = "host") -> Deadline:
    """Wait in a thread until an attempt may begin."""
    deadline = Deadline(None)

    def wait() -> None:
        try:
            drive(governor.enter(host, deadline), deadline)
        except Cancelled:
            order.append("cancelled")
        else:
            order.append("entered")
        finally:
            deadline.close()

    order: deque[str] = deque()
    thread = threading.Thread(target=wait)
    thread.start()
    deadline.thread, deadline.order = thread, order  # type: ignore[attr-defined]
    return deadline


class TestRate:
    def test_attempts_begin_at_intervals(self) -> None:
        governor = Governor(50)
        began = monotonic()
        with pytest.raises(StopIteration):  # the first one need not wait
            next(governor.enter("x", Deadline(PATIENCE)))
        for number in range(1, 6):
            deadline = Deadline(PATIENCE)
            drive(governor.enter("x", deadline), deadline)
            deadline.close()
            assert monotonic() - began >= number / 50

    def test_those_that_are_called_off_leave_their_place_to_others(self) -> None:
        governor = Governor(1)
        deadline = Deadline(PATIENCE)
        drive(governor.enter("x", deadline), deadline)
        off = [enter(governor) for _ in range(20)]
        eventually(lambda: len(governor._waiting) == 20)
        for one in off:
            one.cancel()
            one.thread.join(PATIENCE)  # type: ignore[attr-defined]
        drive(governor.enter("x", deadline), deadline)  # otherwise this would take 20 s
        deadline.close()
        assert not governor._waiting

    def test_without_limits_nothing_waits(self) -> None:
        governor = Governor(None)
        for _ in range(1000):
            deadline = Deadline(0)
            with pytest.raises(StopIteration):
                next(governor.enter("x", deadline))


class TestHosts:
    def test_each_host_has_its_own_limit(self) -> None:
        governor = Governor(None, per_host=2)
        for host in "aabb":
            deadline = Deadline(PATIENCE)
            drive(governor.enter(host, deadline), deadline)
            deadline.close()
        third = enter(governor, "a")
        eventually(lambda: governor._lines)
        assert not third.order  # type: ignore[attr-defined]
        governor.leave("b")
        governor.leave("a")
        third.thread.join(PATIENCE)  # type: ignore[attr-defined]
        assert list(third.order) == ["entered"]  # type: ignore[attr-defined]
        for host in "aab":
            governor.leave(host)
        assert (governor._running, governor._lines) == ({}, {})

    def test_one_that_is_called_off_while_it_waits_does_not_count(self) -> None:
        governor = Governor(None, per_host=1)
        deadline = Deadline(PATIENCE)
        drive(governor.enter("a", deadline), deadline)
        off, last = enter(governor, "a"), enter(governor, "a")
        eventually(lambda: len(governor._lines["a"]) == 2)
        off.cancel()
        off.thread.join(PATIENCE)  # type: ignore[attr-defined]
        governor.leave("a")
        last.thread.join(PATIENCE)  # type: ignore[attr-defined]
        governor.leave("a")
        assert (governor._running, governor._lines) == ({}, {})
        deadline.close()


class TestApps:
    def test_apps_on_different_threads_share_its_rate(self, start_peer: StartPeer) -> None:
        governor, shared = Governor(20), Threads()
        url = start_peer(polite).url
        apps = [Noting(url, governor=governor, threads=shared if n % 2 else None) for n in range(6)]
        began = monotonic()
        for app in apps:
            app.start(persist=NEVER)
        for app in apps:
            assert app.wait_ready(PATIENCE), [app.events for app in apps]
        assert monotonic() - began >= 5 / 20
        assert all(app.stop(PATIENCE) for app in apps)

    def test_one_attempt_per_host_is_under_way_at_a_time(self, start_peer: StartPeer) -> None:
        waiting: list[int] = []
        lock, go = threading.Lock(), threading.Event()
        most: list[int] = []

        def slow(link: Link) -> None:
            with lock:
                waiting.append(1)
                most.append(len(waiting))
            go.wait(0.05)
            with lock:
                waiting.pop()
            polite(link)

        url = start_peer(slow).url
        governor, shared = Governor(None, per_host=1), Threads()
        apps = [Noting(url, governor=governor, threads=shared) for _ in range(5)]
        for app in apps:
            app.start(persist=NEVER)
        assert all(app.wait_ready(PATIENCE) for app in apps)
        assert set(most) == {1}
        assert all(app.stop(PATIENCE) for app in apps)
        assert not governor._running

    def test_an_app_that_waits_for_it_is_closed_at_once_and_its_timeout_has_not_begun(
        self, start_peer: StartPeer
    ) -> None:
        governor = Governor(0.001)
        url = start_peer(polite).url
        first = Noting(url, governor=governor)
        waits = Noting(url, governor=governor, open_timeout=0.1)
        first.start(persist=NEVER)
        assert first.wait_ready(PATIENCE)
        waits.start(persist=NEVER)
        assert not waits.wait_ready(0.3)
        assert waits.state.value == "connecting"
        assert waits.stop(PATIENCE)
        assert waits.names() == []
        assert first.stop(PATIENCE)
        assert not governor._waiting

    @pytest.mark.parametrize("calls", [1, 50])
    def test_reconnect_during_the_wait_changes_nothing(self, calls: int, start_peer: StartPeer) -> None:
        governor = Governor(None, per_host=1)
        url = start_peer(in_turn(Link.wait_for_end, polite)).url
        hangs, *apps = (Noting(url, governor=governor) for _ in range(3))
        hangs.start(persist=NEVER)
        hangs.wait_for("connected")
        for app in apps:
            app.start(persist=NEVER)
        for _ in range(calls):
            for app in apps:
                app.reconnect()
        assert hangs.stop(PATIENCE)
        assert all(app.wait_ready(PATIENCE) for app in apps)
        for app in apps:
            assert app.stop(PATIENCE)
            assert app.names("pong", "poll").count("connecting") == 1


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "error", "text"),
        [
            ({"per_second": 0}, ValueError, "per_second=0: expected a number of at least 0.001"),
            ({"per_second": "fast"}, TypeError, "per_second='fast'"),
            ({"per_second": float("nan")}, ValueError, "per_second=nan"),
            ({"per_host": 0}, ValueError, "per_host=0"),
            ({"per_host": 1.5}, TypeError, "per_host=1.5"),
            ({"rate": 5}, TypeError, "Governor: 'rate' is not an argument: did you mean 'per_second'?"),
        ],
    )
    def test_wrong_ones_are_refused(
        self, arguments: dict[str, Any], error: type[Exception], text: str
    ) -> None:
        with pytest.raises(error) as caught:
            Governor(**arguments)
        assert text in str(caught.value)

    def test_an_app_takes_nothing_else(self) -> None:
        with pytest.raises(TypeError, match=r"governor=5: expected a lochws\.Governor, or None"):
            WebSocketApp("ws://127.0.0.1:1/", governor=5)  # type: ignore[arg-type]

    @pytest.mark.parametrize("copied", [copy.copy, pickle.dumps])
    def test_it_cannot_be_copied(self, copied: Any) -> None:
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            copied(Governor())

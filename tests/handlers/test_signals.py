"""Signal handlers may use the ready-made handlers, whatever the interrupted thread is doing with them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lochws import WebSocketApp, events
from lochws.handlers.metrics import Metrics
from lochws.handlers.recorder import Recorder
from lochws.handlers.relay import Relay
from lochws.handlers.replies import Replies
from lochws.handlers.subscriptions import Step, Subscriptions
from lochws.handlers.worker import Worker

from ..support.seen import PATIENCE, in_thread

#: A function that makes a handler, one that returns its lock, and what a signal handler does with it.
Case = tuple[Callable[[WebSocketApp, Path], Any], Callable[[Any], Any], Callable[[Any], object]]

STEP = Step("subscribe")
CASES: dict[str, Case] = {
    "worker": (
        lambda app, path: Worker(print, ThreadPoolExecutor(1)), lambda worker: worker._inbox.lock,
        lambda worker: (worker.counts, worker.drain(0), worker.close()),
    ),
    "relay": (
        lambda app, path: Relay(app, "feed", "redis://127.0.0.1:1/"), lambda relay: relay._queue.inbox.lock,
        lambda relay: (relay.counts, relay.unrelayed, relay.close(0)),
    ),
    "subscriptions": (
        lambda app, path: Subscriptions(app, [STEP]), lambda subs: subs._lock,
        lambda subs: (subs.add(Step("more")), subs.remove(STEP), subs.steps, subs.leave()),
    ),
    "metrics": (
        lambda app, path: Metrics(), lambda metrics: metrics._lock,
        lambda metrics: (metrics.watch(WebSocketApp("ws://127.0.0.1:1/")), metrics.snapshot()),
    ),
    "replies": (
        lambda app, path: Replies(app), lambda replies: replies._lock,
        lambda replies: replies.on_disconnected(events.Disconnected()),
    ),
    "recorder": (
        lambda app, path: Recorder(path / "a.jsonl"), lambda recorder: recorder._lock,
        lambda recorder: (recorder.on_sent(("last word",)), recorder.flush(0)),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_signal_handler_does_not_hang_on_a_lock_that_its_own_thread_holds(
    tmp_path: Path, name: str
) -> None:
    make, lock, use = CASES[name]
    thing = make(WebSocketApp("ws://127.0.0.1:1/"), tmp_path)
    used: list[object] = []

    def interrupted() -> None:
        with lock(thing):  # under which the signal arrives
            used.append(use(thing))

    thread = in_thread(interrupted)
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert used
    if name == "recorder":
        assert thing.close()

"""Signal handlers and finalizers may use the ready-made handlers, whatever they interrupt."""

from __future__ import annotations

import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lochws import WebSocketApp, events
from lochws.handlers.freshness import Freshness
from lochws.handlers.heartbeat import Every
from lochws.handlers.metrics import Metrics
from lochws.handlers.outbox import Outbox
from lochws.handlers.recorder import Recorder
from lochws.handlers.relay import Relay
from lochws.handlers.replies import Replies
from lochws.handlers.sequence import Sequence
from lochws.handlers.subscriptions import Step, Subscriptions
from lochws.handlers.worker import Worker
from lochws.system.control import control_lock

from ..support.peer import StartPeer
from ..support.programs import INTERRUPTIONS, Run
from ..support.seen import PATIENCE, in_thread
from .talking import answering

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
    "heartbeats": (
        lambda app, path: Every(app, 30, "x"), lambda every: control_lock(),
        lambda every: (setattr(every, "seconds", 5), every.beat(), every.leave()),
    ),
    "freshness": (
        lambda app, path: Freshness(app, key=len, limit=30, on_stale=print), lambda freshness: control_lock(),
        lambda freshness: (
            freshness.add("a"), freshness.remove("a"), setattr(freshness, "limit", 5), freshness.stale,
            freshness.keys, freshness.leave(),
        ),
    ),
    "sequence": (
        lambda app, path: Sequence(app, number=len, state=path / "numbers"),
        lambda sequence: sequence._file._lock,
        lambda sequence: (
            sequence.counts, sequence.keys, sequence.last(), sequence.is_live(), sequence.forget(),
            sequence.flush(0), sequence.leave(),
        ),
    ),
    "outbox in memory": (
        lambda app, path: Outbox(app), lambda outbox: outbox._keeper._lock,
        lambda outbox: (outbox.put("x"), outbox.counts, list(outbox), outbox.pending, outbox.close()),
    ),
    "outbox in a file": (
        lambda app, path: Outbox(app, path / "box"), lambda outbox: control_lock(),
        lambda outbox: (outbox.put("x"), outbox.counts, list(outbox), outbox.pending, outbox.close()),
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


#: Uses handlers for at least three seconds, while a signal handler (at 1 kHz) and finalizers use them, too.
STRESS = INTERRUPTIONS + """
import json
from concurrent.futures import ThreadPoolExecutor
from lochws import events
from lochws.handlers.metrics import Metrics
from lochws.handlers.recorder import Recorder
from lochws.handlers.replay import Replay
from lochws.handlers.replies import Replies
from lochws.handlers.subscriptions import Step, Subscriptions
from lochws.handlers.worker import Worker

rpc, subs, metrics, recorder = Replies(app, max_open=1 << 30), Subscriptions(app), Metrics(), Recorder(PATH)
metrics.watch(app, "app")
app.add_handler(recorder)
pool, done, replies, calls = ThreadPoolExecutor(2), [], [], []
worker = Worker(done.append, pool, max_events=100)

def use():
    worker.take(events.Text("x"))
    replies.append(rpc.request({"op": "x"}))
    recorder.on_event(events.Text("recorded"))

def interruption():
    calls.append(None)
    worker.counts, metrics.snapshot(), subs.steps, rpc.open_requests
    if len(calls) % 20 == 0:
        recorder.reopen()
        subs.add(Step({"op": "step"}, key=len(calls) % 3))
    use()

app.start()
app.wait_ready(60)
begin(0.001)
rounds, enough = 0, time.monotonic() + 3
while time.monotonic() < enough or len(calls) < 200:
    rounds += 1
    Finalized()
    use()
end()
uses = rounds + len(calls)
assert worker.drain(60) and len(done) == uses == worker.counts.done, (worker.counts, uses)
numbers = sorted(reply.result(60)["id"] for reply in replies)
assert numbers == list(range(1, uses + 1)), uses
app.stop(60)
assert recorder.close() and recorder.missing == 0
recorded = [event for event in Replay(PATH) if isinstance(event, events.Text) and event.text == "recorded"]
assert len(recorded) == uses, len(recorded)
pool.shutdown()
say("well")
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no such timers")
def test_signal_handlers_and_finalizers_may_use_handlers_anywhere_and_nothing_is_lost(
    tmp_path: Path, run: Run, start_peer: StartPeer
) -> None:
    numbers: list[int] = []

    def answer(message: Any) -> list[Any]:
        if "id" not in message:
            return []
        numbers.append(message["id"])
        return [message]

    program = run(
        f"PATH = {str(tmp_path / 'a.jsonl')!r}\n{STRESS}", start_peer(answering(answer)).url,
        options="max_queue=1 << 30",
    )
    program.wait_for("well")
    status, _, errors = program.end()
    assert (status, errors) == (0, "")
    assert numbers == list(range(1, len(numbers) + 1))

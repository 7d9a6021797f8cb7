"""Handlers for sessions, heartbeats and replies as users write them, for type checkers alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from lochws import Receipt, ReceiptState, WebSocketApp, events
from lochws.handlers.freshness import Freshness, StaleChannel
from lochws.handlers.heartbeat import Answer, Every
from lochws.handlers.jsonrpc import JsonRpc
from lochws.handlers.outbox import Outbox, OutboxMessage
from lochws.handlers.packets import Packets
from lochws.handlers.replies import Replies, Reply
from lochws.handlers.sequence import Gap, Sequence, Snapshot
from lochws.handlers.subscriptions import Step, StepFailed, Subscriptions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from typing_extensions import assert_type


class Frame(NamedTuple):
    """A message of a protocol."""

    id: int
    body: bytes


def split(data: bytes) -> int | None:
    return None if len(data) < 2 else data[1]


def encode(frame: Frame) -> bytes:
    return bytes([frame.id]) + frame.body


def decode(event: events.Binary) -> Frame | None:
    return Frame(event.data[0], event.data[1:]) if event.data else None


def numbered(frame: Frame, number: int) -> Frame:
    return frame._replace(id=number)


def body(frame: Frame) -> bytes:
    return frame.body


def respond(challenge: events.Text) -> dict[str, str]:
    return {"proof": challenge.json["nonce"]}


def failed(step: Step, failure: StepFailed) -> None:
    assert_type(failure.answer, events.Text | events.Binary | None)
    assert_type(failure.step, Step | None)


def of_sessions(app: WebSocketApp) -> None:
    steps = [
        Step(None, expect=lambda event: "nonce" in event.json, key="challenge"),
        Step(respond, expect={"op": "welcome"}, refused={"op": "error"}, give_up=True),
        Step(lambda: b"\x10", expect=b"\x20", timeout=None),
        Step([1, "realm1", {}], expect=[2]),
    ]
    subscriptions = Subscriptions(app, steps, on_step_failed=failed, split=split)
    assert_type(subscriptions.failure, StepFailed | None)
    assert_type(subscriptions.send({"op": "pong"}), bool)
    Step(5)  # type: ignore[arg-type]
    Step("x", expect=5)  # type: ignore[arg-type]
    Subscriptions(app, ["x"])  # type: ignore[list-item]


def interval(event: events.Ready | events.Text | events.Binary) -> float | None:
    return float(event.json["interval"]) if isinstance(event, events.Text) else None


def of_heartbeats(app: WebSocketApp) -> None:
    every = Every(app, interval, lambda: {"op": "ping"}, expect={"op": "pong"}, begins="connection")
    assert_type(every.seconds, float | None)
    every.seconds = 10
    every.seconds = "10"  # type: ignore[assignment]
    assert_type(every.unanswered, int)
    replies = Replies(app)
    Every(app, 30, lambda: replies.request({"op": "ping"}), missing=3)
    Every(app, 30, "ping", begins="now")  # type: ignore[arg-type]
    Answer(app, "2", "3", split=split)
    Answer(app, {"op": "ping"}, lambda event: {"pong": event.json["id"]})
    Answer(app, "2", 3)  # type: ignore[arg-type]
    packets: Iterator[bytes] = Packets(split).feed(b"x")
    assert_type(next(packets), bytes)


def of_replies(app: WebSocketApp) -> None:
    plain = Replies(app)
    assert_type(plain, Replies[Mapping[str, Any], Any])
    assert_type(plain.request({"op": "time"}), Reply[Any])
    plain.request([1])  # type: ignore[arg-type]
    arrays = Replies(app, lambda message: message[1], number=lambda message, number: [message[0], number])
    arrays.request([48]).add_done_callback(print)
    frames = Replies(app, lambda frame: frame.id, encode=encode, decode=decode, split=split)
    assert_type(frames, Replies[Frame, Frame])
    assert_type(frames.request(Frame(1, b"x"), timeout=None).result(), Frame)
    frames.request(b"x")  # type: ignore[arg-type]
    bodies = Replies(
        app, lambda frame: frame.id, encode=encode, decode=decode,
        number=numbered, unwrap=body,
    )
    assert_type(bodies.request(Frame(0, b"x")).result(5), bytes)
    assert_type(JsonRpc(app).call("add", 1, 2), Reply[Any])
    Replies(app, 5)  # type: ignore[call-overload]


def of_freshness(app: WebSocketApp) -> None:
    def key(event: events.Text | events.Binary) -> str | None:
        return event.text[:3] if isinstance(event, events.Text) else None

    def on_stale(stale: StaleChannel[str]) -> None:
        assert_type(stale.key, str)
        assert_type(stale.seconds, float)

    freshness = Freshness(app, key=key, limit={"abc": 30}, on_stale=on_stale, on_fresh=print)
    assert_type(freshness, Freshness[str])
    assert_type(freshness.keys, tuple[str, ...])
    freshness.limit = 30
    assert_type(freshness.remove("abc"), bool)
    freshness.add(5)  # type: ignore[arg-type]


def of_receipts(app: WebSocketApp, *, wanted: bool) -> None:
    """A method that sends returns a receipt only if it was asked for one."""
    assert_type(app.send_text("text", receipt=True), Receipt)
    assert_type(app.send_binary(b"data", receipt=True), Receipt)
    assert_type(app.send_json({"a": 1}, receipt=True), Receipt)
    assert_type(app.send_many(["text", b"data"], receipt=True), Receipt)
    assert_type(app.hooks.gate().send("text", receipt=True), Receipt)
    assert_type(app.send_text("text", receipt=False), bool)
    assert_type(app.send_text("text", receipt=wanted), bool | Receipt)
    receipt = app.send_text("text", receipt=True)
    assert_type(receipt.result(timeout=10), ReceiptState)
    assert_type(receipt.done(), bool)
    if receipt.state == "confirmed":
        receipt.add_done_callback(lambda receipt: assert_type(receipt.state, ReceiptState))
    elif receipt.state is ReceiptState.IN_DOUBT:
        receipt.add_done_callback(str)
    receipt.add_done_callback(lambda: None)  # type: ignore[arg-type,misc]
    app.send_text("text", receipt="yes")  # type: ignore[call-overload]


def of_sequences(app: WebSocketApp) -> None:
    """The keys of the streams have the type that `key` returns."""

    def key(event: events.Text) -> str:
        return event.text[:3]

    def on_gap(gap: Gap[str]) -> None:
        assert_type(gap.count, int)

    def load(key: str) -> Snapshot:
        return Snapshot(len(key))

    sequence = Sequence(app, number=lambda _: 5, key=key, on_gap=on_gap, resync=load, on_snapshot=print)
    assert_type(sequence, Sequence[str])
    assert_type(sequence.keys, tuple[str, ...])
    assert_type(sequence.last("abc"), int | None)
    assert_type(sequence.counts.missing, int)
    sequence.forget(5)  # type: ignore[arg-type]


def of_outboxes(app: WebSocketApp) -> None:
    """A function that confirms returns ids, and messages are what an app can encode."""

    def confirm(event: events.Text) -> str | None:
        return event.text or None

    def tell(message: OutboxMessage) -> None:
        assert_type(message.payload, str | bytes)

    outbox = Outbox(app, "file", confirm=confirm, in_doubt="tell", on_in_doubt=tell, when_full="block")
    assert_type(outbox.put({"a": 1}, supersede="key", expires=5), str)
    assert_type(outbox.put_many(["x", b"y"]), list[str])
    assert_type(outbox.flush(5), bool)
    assert_type([message.id for message in outbox], list[str])
    outbox.put(5)  # type: ignore[arg-type]
    Outbox(app, confirm="never")  # type: ignore[arg-type]

"""Outbox: messages arrive in order over any number of connections, and those in doubt are told as such."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import Any

import pytest

from lochws import Feed, WebSocketApp, events
from lochws import testing as t
from lochws.errors import QueueFull, WebSocketError
from lochws.handlers.outbox import Outbox, OutboxError, OutboxMessage
from lochws.handlers.subscriptions import Step, Subscriptions
from lochws.testing import StartServer

from ..support.apps import LogListener, opened, running
from ..support.peer import StartPeer
from ..support.seen import PATIENCE, Noting, eventually, in_thread
from .acking import Acking, Plan, acked, offline, put_numbers, reconnecting


@pytest.fixture(params=["memory", "file"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    """Return the path of the outbox's file; None for memory."""
    return tmp_path / "box" if request.param == "file" else None


@contextmanager
def boxed(app: WebSocketApp | Feed, path: Path | None = None, **options: Any) -> Iterator[Outbox]:
    """Make an outbox whose messages are acknowledged by their ids, and close it."""
    with Outbox(app, path, **{"confirm": acked, "id_field": "id", **options}) as outbox:
        yield outbox


def left_of(outbox: Outbox) -> list[Any]:
    return [message.payload for message in outbox]


def test_messages_put_before_and_after_ready_arrive_in_order(
    start_peer: StartPeer, place: Path | None
) -> None:
    server = Acking()
    app = WebSocketApp(start_peer(server).url)
    with boxed(app, place) as outbox:
        put_numbers(outbox, range(30))
        with opened(app):
            put_numbers(outbox, range(30, 60))
            assert outbox.flush(PATIENCE)
        counts = outbox.counts
    assert server.numbers() == list(range(60))
    assert (counts.put, counts.confirmed, counts.pending, counts.pending_bytes) == (60, 60, 0, 0)


@pytest.mark.parametrize("confirm", ["receipt", acked])
def test_messages_in_doubt_are_sent_again_with_the_same_id(
    start_peer: StartPeer, place: Path | None, confirm: Any
) -> None:
    server = Acking(Plan(5, acks=2, pongs=False), Plan(0), Plan(20, acks=0, pongs=False))
    app = WebSocketApp(start_peer(server).url)
    with boxed(app, place, confirm=confirm) as outbox, reconnecting(app):
        ids = outbox.put_many([{"n": number} for number in range(50)])
        assert outbox.flush(PATIENCE)
        assert outbox.counts.in_doubt > 0
    assert {message["id"] for message in server.seen} == set(ids)
    by_id = {message["id"]: message["n"] for message in server.seen}
    assert [by_id[one] for one in ids] == list(range(50))
    assert server.numbers()[-1] == 49


def test_messages_in_doubt_are_told_and_not_sent_again(start_peer: StartPeer, place: Path | None) -> None:
    server = Acking(Plan(10, acks=3, pongs=False))
    app = WebSocketApp(start_peer(server).url)
    told: list[OutboxMessage] = []
    options: dict[str, Any] = {"in_doubt": "tell", "on_in_doubt": told.append, "window": 10}
    with boxed(app, place, **options) as outbox, reconnecting(app):
        ids = outbox.put_many([{"n": number} for number in range(30)])
        assert outbox.flush(PATIENCE)
        counts = outbox.counts
    assert len(server.numbers()) == len(set(server.numbers())), "one was sent twice"
    in_doubt = [message.id for message in told]
    assert counts.told == len(in_doubt) == counts.in_doubt
    assert counts.confirmed + counts.told == 30
    arrived = {message["id"] for message in server.seen}
    assert arrived | set(in_doubt) == set(ids)
    assert set(ids[3:10]) & arrived <= set(in_doubt), "one counts as confirmed that was not acknowledged"


def test_an_exception_of_on_in_doubt_is_logged_and_the_others_are_told(start_peer: StartPeer) -> None:
    server = Acking(Plan(2, acks=0, pongs=False))
    app = WebSocketApp(start_peer(server).url)
    told: list[str] = []
    lines: list[str] = []

    def tell(message: OutboxMessage) -> None:
        told.append(message.id)
        raise SystemExit

    with LogListener(lines.append), boxed(app, in_doubt="tell", on_in_doubt=tell, window=2) as outbox:
        ids = outbox.put_many([{"n": 0}, {"n": 1}])
        with reconnecting(app):
            assert outbox.flush(PATIENCE)
    assert told == ids
    assert sum("on_in_doubt of an outbox" in line for line in lines) == 2


def test_what_the_kernel_has_taken_counts_as_confirmed_if_that_is_asked_for(start_peer: StartPeer) -> None:
    server = Acking(Plan(acks=0, pongs=False))
    app = WebSocketApp(start_peer(server).url)
    with boxed(app, confirm="written") as outbox, opened(app):
        put_numbers(outbox, range(20))
        assert outbox.flush(PATIENCE)
        eventually(lambda: len(server.seen) == 20)
    assert server.numbers() == list(range(20))


def test_true_confirms_the_oldest_message_in_flight(start_peer: StartPeer) -> None:
    server = Acking()
    app = WebSocketApp(start_peer(server).url)
    with Outbox(app, confirm=lambda event: True, add_id=lambda message, _: message) as outbox, opened(app):
        put_numbers(outbox, range(20))
        assert outbox.flush(PATIENCE)
    assert outbox.counts.confirmed == 20


def test_unrelated_messages_and_failing_functions_confirm_nothing(ws_server: StartServer) -> None:
    answers = map(t.send, ("x", '{"ack": "other"}', '{"ack": 1}'))
    server = ws_server([t.accept(), t.wait_for(lambda _: True), *answers])
    app = Noting(server.url)
    with boxed(app) as outbox, opened(app):
        outbox.put({"n": 1})
        app.wait_for("text", 3)
        assert outbox.pending == 1
        assert outbox.counts.confirmed == 0
        assert not outbox.flush(0)


def test_messages_wait_for_the_steps_of_subscriptions(start_peer: StartPeer) -> None:
    server = Acking()
    app = WebSocketApp(start_peer(server).url)
    Subscriptions(app, [Step({"op": "login", "id": "a", "n": -1}, {"ack": "a"})])
    with boxed(app) as outbox, opened(app):
        put_numbers(outbox, range(3))
        assert outbox.flush(PATIENCE)
    assert server.numbers() == [-1, 0, 1, 2]


def test_messages_follow_what_handlers_of_ready_send(start_peer: StartPeer) -> None:
    server = Acking()
    app = WebSocketApp(start_peer(server).url)
    with boxed(app) as outbox:
        put_numbers(outbox, range(3))
        app.on("ready")(lambda _: app.send_json(n=-1))
        with opened(app):
            assert outbox.flush(PATIENCE)
    assert server.numbers() == [-1, 0, 1, 2]


def test_no_more_than_a_window_is_in_flight(start_peer: StartPeer, place: Path | None) -> None:
    server = Acking(Plan(acks=0))
    app = WebSocketApp(start_peer(server).url)
    with boxed(app, place, window=7) as outbox:
        put_numbers(outbox, range(50))
        with opened(app):
            eventually(lambda: len(server.seen) == 7)
            app.send_json(n=-1)
            eventually(lambda: -1 in server.numbers())
            assert outbox.counts.in_flight == 7
            assert outbox.pending == 50
    assert server.numbers() == [*range(7), -1]


def test_a_connection_without_confirmations_is_dropped_after_the_timeout(start_peer: StartPeer) -> None:
    server = Acking(Plan(acks=0))
    app = Noting(start_peer(server).url)
    with boxed(app, timeout=0.2) as outbox, reconnecting(app):
        outbox.put({"n": 1})
        assert outbox.flush(PATIENCE)
        reason = app.wait_for("disconnected").reason
        assert "no confirmation within 0.2 s (messages of the outbox: 1)" in reason
    assert len(server.numbers()) > 1  # more than two if a confirmation took longer than that
    assert set(server.numbers()) == {1}


def test_a_message_that_expired_is_not_sent(start_peer: StartPeer, place: Path | None) -> None:
    server = Acking()
    app = WebSocketApp(start_peer(server).url)
    with boxed(app, place, expires=0.01) as outbox:
        outbox.put({"n": 1})
        outbox.put({"n": 2}, expires=inf)
        outbox.put({"n": 3}, expires=60)
        outbox.put({"n": 4})
        time.sleep(0.02)  # the wall clock decides
        with opened(app):
            assert outbox.flush(PATIENCE)
        counts = outbox.counts
    assert server.numbers() == [2, 3]
    assert (counts.expired, counts.confirmed) == (2, 2)


def test_expired_messages_make_room_without_a_connection(place: Path | None) -> None:
    with boxed(offline(), place, max_messages=2, expires=0.01) as outbox:
        outbox.put_many([{"n": 0}, {"n": 1}])
        time.sleep(0.02)
        for number in range(2):
            outbox.put({"n": number}, expires=inf)
        assert outbox.counts.expired == 2


def test_only_the_latest_message_of_a_key_is_kept(start_peer: StartPeer, place: Path | None) -> None:
    server = Acking()
    app = WebSocketApp(start_peer(server).url)
    with boxed(app, place) as outbox:
        for number in range(10):
            outbox.put({"n": number}, supersede=f"key {number % 2}")
            outbox.put({"n": 100 + number})
        assert outbox.pending == 12
        with opened(app):
            assert outbox.flush(PATIENCE)
        assert outbox.counts.superseded == 8
    assert server.numbers() == [*range(100, 108), 8, 108, 9, 109]


def test_a_message_in_flight_that_was_replaced_is_not_sent_again(
    start_peer: StartPeer, place: Path | None
) -> None:
    server = Acking(Plan(2, acks=0, pongs=False))
    app = WebSocketApp(start_peer(server).url)
    with boxed(app, place, window=1) as outbox, reconnecting(app):
        outbox.put({"n": 1}, supersede="x")
        eventually(lambda: server.numbers() == [1])
        outbox.put({"n": 2}, supersede="x")
        app.send_json(n=-1)  # the server cuts
        assert outbox.flush(PATIENCE)
        counts = outbox.counts
    assert server.numbers() == [1, -1, 2]
    assert (counts.superseded, counts.confirmed) == (1, 1)


def test_a_full_outbox_raises(place: Path | None) -> None:
    with boxed(offline(), place, max_messages=3) as outbox:
        put_numbers(outbox, range(2))
        with pytest.raises(QueueFull, match=r"2 messages were not put into the outbox: 2 are pending .* "
                                            r"exceed max_messages=3"):
            outbox.put_many([{"n": 2}, {"n": 3}])
        outbox.put({"n": 4})
        with pytest.raises(QueueFull, match="the message was not put"):
            outbox.put({"n": 5})
        assert [message.payload for message in outbox] == [
            f'{{"n": {n}, "id": "{message.id}"}}' for n, message in zip((0, 1, 4), outbox, strict=True)
        ]


def test_a_full_outbox_counts_bytes_and_accepts_one_message_of_any_size(place: Path | None) -> None:
    with Outbox(offline(), place, max_bytes=1000) as outbox:
        outbox.put("x" * 5000)
        with pytest.raises(QueueFull, match="max_bytes=1000"):
            outbox.put("y")
    with Outbox(offline(), max_bytes=1000) as outbox:
        for _ in range(3):
            outbox.put("é" * 50)
        with pytest.raises(QueueFull):
            outbox.put("é" * 60)


def test_a_full_outbox_drops_the_oldest_if_asked_to(place: Path | None) -> None:
    with Outbox(offline(), place, max_messages=3, when_full="drop_oldest") as outbox:
        for letter in "abcde":
            outbox.put(letter)
        assert left_of(outbox) == ["c", "d", "e"]
        assert outbox.counts.dropped == 2


def test_a_full_outbox_blocks_until_there_is_room(start_peer: StartPeer, place: Path | None) -> None:
    server = Acking()
    app = WebSocketApp(start_peer(server).url)
    with boxed(app, place, max_messages=3, when_full="block") as outbox:
        put_numbers(outbox, range(3))
        threads = [in_thread(lambda: put_numbers(outbox, range(10))) for _ in range(3)]
        assert outbox.pending == 3
        with opened(app):
            for thread in threads:
                thread.join(PATIENCE)
            assert outbox.flush(PATIENCE)
    assert outbox.counts.confirmed == len(server.seen) == 33


def test_blocking_ends_with_the_timeout_and_in_handlers_it_never_begins(
    ws_server: StartServer, place: Path | None
) -> None:
    server = ws_server([t.accept(), t.send("x"), t.ping()])
    app = Noting(server.url)
    options: dict[str, Any] = {"max_messages": 1, "when_full": "block"}
    with boxed(app, place, put_timeout=0.05, **options) as outbox:
        outbox.put({"n": 0})
        with pytest.raises(QueueFull, match="not put into the outbox"):
            outbox.put({"n": 1})
        assert outbox.pending == 1
    raised: list[Exception] = []
    with Outbox(app, put_timeout=None, confirm=lambda _: None, **options) as outbox:
        outbox.put("first")

        def on_text(_event: events.Text) -> None:
            try:
                outbox.put("second")
            except QueueFull as error:
                raised.append(error)

        app.on("text")(on_text)
        with opened(app):
            app.wait_for("ping")
    assert len(raised) == 1


def test_closing_releases_those_who_wait(place: Path | None) -> None:
    failures: list[BaseException] = []
    outbox = Outbox(offline(), place, max_messages=1, when_full="block", put_timeout=None)

    def waits(call: Any) -> threading.Thread:
        def run() -> None:
            try:
                call()
            except OutboxError as error:
                failures.append(error)

        return in_thread(run)

    outbox.put("x")
    threads = [waits(lambda: outbox.put("y")), waits(outbox.flush)]
    eventually(lambda: outbox._keeper.ledger.must_retry)
    assert outbox.close() == 1
    for thread in threads:
        thread.join(PATIENCE)
    assert [str(error) for error in failures] == ["the outbox is closed"] * 2
    with pytest.raises(OutboxError, match="the outbox is closed"):
        outbox.put("z")
    with pytest.raises(OutboxError, match="the outbox is closed"):
        list(outbox)
    outbox.close()


def test_flush_is_refused_in_a_handler(ws_server: StartServer) -> None:
    server = ws_server([t.accept(), t.send("x"), t.ping()])
    app = Noting(server.url)
    with Outbox(app, confirm=acked) as outbox:
        outbox.put("y")
        raised: list[Exception] = []

        def on_text(_event: events.Text) -> None:
            try:
                outbox.flush()
            except WebSocketError as error:
                raised.append(error)

        app.on("text")(on_text)
        with opened(app):
            app.wait_for("ping")
    assert "would wait for itself" in str(raised[0])


def test_an_app_that_stops_and_starts_again_sends_the_rest(start_peer: StartPeer, place: Path | None) -> None:
    server = Acking(Plan(acks=3))
    app = WebSocketApp(start_peer(server).url)
    with boxed(app, place, window=5) as outbox:
        put_numbers(outbox, range(20))
        with opened(app):
            eventually(lambda: outbox.counts.confirmed == 3 and len(server.seen) >= 5)
        put_numbers(outbox, range(20, 25))
        with opened(app):
            assert outbox.flush(PATIENCE)
    assert set(server.numbers()) == set(range(25))
    assert outbox.counts.confirmed == 25


def test_a_send_queue_that_is_full_is_tried_again(start_peer: StartPeer) -> None:
    server = Acking()
    app = WebSocketApp(start_peer(server).url, max_queue=100)
    with boxed(app) as outbox, opened(app):
        ids = outbox.put_many([{"n": number, "x": "x" * 50_000} for number in range(100)])
        assert outbox.flush(PATIENCE)
    assert [message["id"] for message in server.seen] == ids


def test_a_queue_that_drops_messages_loses_none_of_an_outbox(start_peer: StartPeer) -> None:
    server = Acking()
    app = WebSocketApp(start_peer(server).url, max_queue=100, when_full="drop")
    with boxed(app) as outbox, opened(app):
        ids = outbox.put_many([{"n": number, "x": "x" * 50_000} for number in range(100)])
        assert outbox.flush(PATIENCE)
    assert [message["id"] for message in server.seen] == ids


def test_a_feed_sends_over_its_connections(start_peer: StartPeer, place: Path | None) -> None:
    first, second = Acking(Plan(10, acks=7)), Acking()
    peers = [start_peer(first), start_peer(second)]
    feed = Feed(WebSocketApp, urls=[peer.url for peer in peers], cool_down=60)
    with boxed(feed, place, window=5) as outbox:
        ids = outbox.put_many([{"n": number} for number in range(40)])
        feed.start()
        assert outbox.flush(PATIENCE)
        assert feed.stop(PATIENCE)
    assert second.seen
    seen = [*first.seen, *second.seen]
    assert {message["id"] for message in seen} == set(ids)


def test_the_user_decides_where_the_id_goes(start_peer: StartPeer) -> None:
    server = Acking()
    app = WebSocketApp(start_peer(server).url)

    def add(message: Any, number: str) -> Any:
        return {"body": message, "id": f"<{number}>"}

    with Outbox(app, confirm=lambda event: event.json["ack"].strip("<>"), add_id=add) as outbox, opened(app):
        assert outbox.put("x", id="my own") == "my own"
        assert outbox.flush(PATIENCE)
    assert server.seen == [{"body": "x", "id": "<my own>"}]


def test_texts_and_bytes_arrive_as_they_are(ws_server: StartServer, place: Path | None) -> None:
    messages: list[Any] = ["plain", "é\0ü", b"\x00\xff", ["a", 1]]
    server = ws_server([t.accept(), t.wait_for('["a", 1]')])
    app = WebSocketApp(server.url)
    with Outbox(app, place, confirm="written") as outbox, opened(app):
        outbox.put_many(messages)
        assert outbox.flush(PATIENCE)
        server.wait_until(lambda: len(server.messages) == 4)
    assert server.messages == [*messages[:3], '["a", 1]']


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"path": 5}, "path=5: expected the path of a file"),
        ({"path": ""}, "path='': expected the path of a file"),
        ({"confirm": "yes"}, "confirm='yes': expected one of 'receipt', 'written'"),
        ({"confirm": lambda: None}, "confirm"),
        ({"in_doubt": "forget"}, "in_doubt='forget': expected one of 'resend', 'tell'"),
        ({"in_doubt": "tell"}, "need each other"),
        ({"on_in_doubt": print}, "need each other"),
        ({"id_field": 5}, "id_field=5: expected the name of a field"),
        ({"add_id": print, "id_field": "id"}, "exclude each other"),
        ({"add_id": 5}, "add_id=5: expected a function"),
        ({"expires": 0}, "expires=0: expected more than 0 seconds"),
        ({"timeout": -1}, "timeout=-1: expected more than 0 seconds"),
        ({"window": 0}, "window=0: expected a whole number of at least 1"),
        ({"max_messages": 0}, "max_messages=0"),
        ({"max_bytes": 1.5}, "max_bytes=1.5"),
        ({"when_full": "pause"}, "when_full='pause': expected one of 'raise', 'block', 'drop_oldest'"),
        ({"put_timeout": "x"}, "put_timeout='x'"),
        ({"put_timeout": -1}, "put_timeout=-1: expected 0 seconds or more, or None"),
        ({"put_timeout": inf}, "put_timeout=inf: expected 0 seconds or more, or None"),
        ({"synchronous": "OFF"}, "synchronous='OFF': expected one of 'FULL', 'NORMAL'"),
    ],
)
def test_an_argument_that_is_wrong_is_refused_by_name(arguments: dict[str, Any], error: str) -> None:
    with pytest.raises((TypeError, ValueError), match=error):
        Outbox(offline(), **arguments)


def test_an_app_is_expected() -> None:
    with pytest.raises(TypeError, match=r"expected a lochws\.WebSocketApp or a lochws\.Feed, not str"):
        Outbox("ws://127.0.0.1:1/?token=secret")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "options", "error"),
    [
        ((5,), {}, "message=5: expected str, bytes, a mapping or a list"),
        (("\ud800",), {}, "cannot be encoded as UTF-8"),
        (({"x": {5}},), {}, "cannot be written as JSON"),
        (("x",), {"id": 5}, "id=5: expected a str"),
        (("x",), {"supersede": 5}, "supersede=5: expected a str"),
        (("x",), {"supersede": "\ud800"}, "cannot be encoded as UTF-8"),
        (("x",), {"expires": 0}, "expires=0: expected more than 0 seconds"),
    ],
)
def test_a_message_that_cannot_be_sent_is_refused_by_put(arguments: Any, options: Any, error: str) -> None:
    with Outbox(offline()) as outbox:
        with pytest.raises((TypeError, ValueError), match=error):
            outbox.put(*arguments, **options)
        assert outbox.pending == 0


def test_an_id_field_needs_a_mapping() -> None:
    with Outbox(offline(), id_field="id") as outbox:
        with pytest.raises(TypeError, match="expected a mapping, since id_field was given"):
            outbox.put("x")
        with pytest.raises(TypeError, match="expected several messages"):
            outbox.put_many("xyz")
        assert outbox.put_many([]) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_the_child_of_a_fork_is_refused_and_harms_nothing(place: Path | None) -> None:
    with Outbox(offline(), place) as outbox:
        outbox.put("before")
        if not (child := os.fork()):
            status = 1
            try:
                outbox.put("in the child")
            except OutboxError as error:
                status = 0 if "belongs to the parent" in str(error) else 2
            outbox.close()
            os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        outbox.put("after")
        assert left_of(outbox) == ["before", "after"]


def test_puts_from_many_threads_are_all_kept(start_peer: StartPeer, place: Path | None) -> None:
    server = Acking(Plan(100, acks=80))
    app = WebSocketApp(start_peer(server).url)
    with boxed(app, place) as outbox, reconnecting(app):
        threads = [
            in_thread(lambda first=first: put_numbers(outbox, range(first, first + 50)))  # type: ignore[misc]
            for first in range(0, 400, 50)
        ]
        for thread in threads:
            thread.join(PATIENCE)
        assert outbox.flush(PATIENCE)
    assert set(server.numbers()) == set(range(400))


def test_a_closed_outbox_ignores_its_app(start_peer: StartPeer) -> None:
    server = Acking()
    app = WebSocketApp(start_peer(server).url)
    outbox = Outbox(app, confirm=acked, id_field="id")
    outbox.put({"n": 1})
    assert outbox.close() == 1
    with running(app):
        assert app.wait_ready(PATIENCE)
        app.send_json(n=2)
        eventually(lambda: server.numbers() == [2])

"""Replies: which reply belongs to which request, what fails, and where waiting is refused."""

from __future__ import annotations

import json
import sys
import threading
from ast import literal_eval
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any, cast

import pytest

from lochws import WebSocketApp, errors, events
from lochws import testing as t
from lochws.handlers.replies import Replies, Reply, ReplyLost
from lochws.testing import StartServer, VirtualClock

from ..support.apps import AT_ONCE, opened
from ..support.peer import Link, StartPeer
from ..support.seen import PATIENCE, Noting, eventually
from .talking import answering, listen, read, send

silent = answering(lambda _: [])
same = answering(lambda message: [message])


def test_a_reply_has_the_id_of_its_request(start_peer: StartPeer) -> None:
    def other_way_round() -> Callable[[dict[str, Any]], list[Any]]:
        kept: list[dict[str, Any]] = []

        def answer(message: dict[str, Any]) -> list[Any]:
            kept.append(message)
            if len(kept) < 3:
                return [{"news": 1}, 7, []]
            return [{**one, "done": True} for one in reversed(kept)]

        return answer

    app = WebSocketApp(start_peer(answering(other_way_round())).url)
    replies = Replies(app)
    with opened(app):
        pending = [replies.request({"op": name}) for name in "abc"]
        assert [reply.result(PATIENCE)["op"] for reply in pending] == ["a", "b", "c"]
        assert [reply.result()["done"] for reply in pending] == [True] * 3
        assert replies.open_requests == 0


def test_an_id_chosen_by_the_user_is_kept_and_cannot_be_open_twice(start_peer: StartPeer) -> None:
    app = WebSocketApp(start_peer(silent).url)
    replies = Replies(app, "req_id")
    with opened(app):
        message = {"req_id": "mine"}
        assert replies.request(message).key == "mine"
        with pytest.raises(ValueError, match="'mine' is still open"):
            replies.request(message)
        assert message == {"req_id": "mine"}


def test_replies_are_found_when_messages_arrive_in_batches(start_peer: StartPeer) -> None:
    app = WebSocketApp(start_peer(same).url)
    app.on("batch")(lambda _: None)
    replies = Replies(app)
    with opened(app):
        assert replies.request({"op": "x"}).result(PATIENCE)["op"] == "x"


def test_match_may_be_a_function(start_peer: StartPeer) -> None:
    app = WebSocketApp(start_peer(answering(lambda m: [["reply", m["topic"], m["n"] + 1]])).url)

    def match(message: Any) -> Any:
        return message["topic"] if isinstance(message, dict) else message[1]

    replies = Replies(app, match)
    with opened(app):
        assert replies.request({"topic": "x", "n": 1}).result(PATIENCE) == ["reply", "x", 2]


@pytest.mark.parametrize(
    ("message", "error", "said"),
    [
        ([1], TypeError, "expected a mapping"),
        ({"id": None}, ValueError, "finds no key"),
        ({"id": [1]}, TypeError, "unhashable"),
        ({"x": object()}, TypeError, "JSON"),
    ],
    ids=str,
)
def test_an_invalid_request_is_refused_at_once(
    message: Any, error: type[Exception], said: str, start_peer: StartPeer
) -> None:
    app = WebSocketApp(start_peer(same).url)
    replies = Replies(app)
    with opened(app):
        with pytest.raises(error, match=said):
            replies.request(message)
        assert replies.open_requests == 0


def test_unwrap_returns_the_result_or_raises_what_the_request_fails_with(
    start_peer: StartPeer
) -> None:
    class Refused(Exception):
        """The server's answer is an error."""

    def unwrap(message: dict[str, Any]) -> Any:
        if "refused" in message:
            raise Refused(message["refused"])
        return message["result"]

    app = WebSocketApp(start_peer(same).url)
    replies = Replies(app, unwrap=unwrap)
    with opened(app):
        assert replies.request({"result": [1]}).result(PATIENCE) == [1]
        with pytest.raises(Refused, match="no"):
            replies.request({"refused": "no"}).result(PATIENCE)
        with pytest.raises(KeyError, match="result"):
            replies.request({}).result(PATIENCE)
        assert not replies.open_requests


def test_a_request_whose_unwrap_exits_fails_with_that(start_peer: StartPeer) -> None:
    app = WebSocketApp(start_peer(same).url)
    replies = Replies(app, unwrap=lambda _: sys.exit("no"))
    with opened(app):
        assert isinstance(replies.request({}, timeout=None).exception(PATIENCE), SystemExit)


def test_invalid_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="unwrap='result': expected a function"):
        Replies(WebSocketApp("ws://localhost"), unwrap="result")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="match=3: expected the name of a field, or a function"):
        Replies(WebSocketApp("ws://localhost"), 3)  # type: ignore[call-overload]
    for name in ("encode", "decode", "number"):
        with pytest.raises(TypeError, match=f"{name}='x': expected a function"):
            Replies(WebSocketApp("ws://localhost"), **cast(Any, {name: "x"}))
    with pytest.raises(ValueError, match="split needs decode"):
        Replies(WebSocketApp("ws://localhost"), split=len)
    with pytest.raises(ValueError, match="max_open=0"):
        Replies(WebSocketApp("ws://localhost"), max_open=0)


def test_without_a_connection_a_request_is_refused() -> None:
    replies = Replies(WebSocketApp("ws://127.0.0.1:1/"))
    with pytest.raises(errors.WebSocketUnavailable):
        replies.request({})
    assert replies.open_requests == 0


def test_open_requests_fail_at_once_when_the_connection_ends(start_peer: StartPeer) -> None:
    def script(link: Link) -> None:
        link.accept()
        read(link)
        read(link)
        link.reset()

    app = WebSocketApp(start_peer(script).url)
    replies = Replies(app)
    with opened(app):
        for reply in [replies.request({}), replies.request({}, timeout=None)]:
            with pytest.raises(ReplyLost, match=r"no reply to \d: the connection has ended; "):
                reply.result(PATIENCE)
        assert replies.open_requests == 0


def test_a_request_fails_after_its_timeout_and_a_late_reply_is_ignored(start_peer: StartPeer) -> None:
    late = threading.Event()

    def script(link: Link) -> None:
        link.accept()
        message = read(link)
        late.wait(PATIENCE)
        send(link, message)
        send(link, read(link))
        listen(link)

    app = WebSocketApp(start_peer(script).url)
    replies = Replies(app)
    with opened(app):
        slow, quick = replies.request({}, timeout=1000), replies.request({}, timeout=0.001)
        with pytest.raises(TimeoutError, match="no reply to 2 in time"):
            quick.result(PATIENCE)
        late.set()
        assert slow.result(PATIENCE) == {"id": 1}
        eventually(lambda: replies.open_requests == 0)


def test_a_callback_that_exits_does_not_end_the_thread_that_keeps_the_time(
    ws_server: StartServer, ws_clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    app = WebSocketApp(ws_server([t.accept()]).url)
    replies = Replies(app)

    def leave(_reply: object) -> None:
        raise SystemExit

    with opened(app, poll=0, ping_rate=0):
        first, second = replies.request({}, timeout=1), replies.request({}, timeout=2)
        first.add_done_callback(leave)
        ws_clock.advance(2)
        with pytest.raises(TimeoutError):
            second.result(PATIENCE)
    assert "a callback of a reply failed" in caplog.text


def test_a_callback_that_exits_does_not_keep_other_requests_open_when_the_connection_ends(
    start_peer: StartPeer, caplog: pytest.LogCaptureFixture
) -> None:
    begin = threading.Event()

    def script(link: Link) -> None:
        link.accept()
        begin.wait(PATIENCE)
        link.reset()

    def leave(_reply: object) -> None:
        raise SystemExit

    app = WebSocketApp(start_peer(script).url)
    replies = Replies(app)
    with opened(app):
        pending = [replies.request({}, timeout=None) for _ in range(3)]
        pending[0].add_done_callback(leave)
        begin.set()
        for reply in pending:
            assert isinstance(reply.exception(PATIENCE), ReplyLost)
        assert replies.open_requests == 0
    assert "a callback of a reply failed" in caplog.text


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), 10**400, "5", True], ids=lambda _: "")
def test_an_invalid_timeout_is_refused_before_the_request_is_sent(
    timeout: Any, start_peer: StartPeer
) -> None:
    app = WebSocketApp(start_peer(silent).url)
    replies = Replies(app)
    with opened(app):
        with pytest.raises((TypeError, ValueError), match=r"timeout=.*expected 0 seconds or more, or None"):
            replies.request({}, timeout=timeout)
        assert replies.open_requests == app.counters.messages_sent == 0


def test_a_shorter_timeout_is_kept_although_a_longer_one_began_before(start_peer: StartPeer) -> None:
    app = WebSocketApp(start_peer(silent).url)
    replies = Replies(app)
    with opened(app):
        long = replies.request({}, timeout=1000)
        eventually(lambda: replies._timeouts._wakes_at > 0)  # its thread waits
        with pytest.raises(TimeoutError):
            replies.request({}, timeout=0.01).result(PATIENCE)
        assert not long.done()


def test_timeouts_follow_the_clock_in_use(
    ws_server: StartServer, ws_clock: VirtualClock
) -> None:
    app = WebSocketApp(ws_server([t.accept()]).url)
    replies = Replies(app)
    with opened(app, poll=0, ping_rate=0):
        quick, slow = replies.request({}, timeout=30), replies.request({}, timeout=300)
        assert ws_clock.settle() == ws_clock.monotonic() + 30
        ws_clock.advance(29.9)
        assert not quick.done()
        ws_clock.advance(0.1)
        assert quick.done()
        assert isinstance(quick.exception(), TimeoutError)
        assert slow.cancel()
        assert ws_clock.settle() is None


def test_a_cancelled_request_is_no_longer_open(start_peer: StartPeer) -> None:
    app = WebSocketApp(start_peer(silent).url)
    replies = Replies(app)
    with opened(app):
        reply = replies.request({})
        assert reply.cancel()
        assert replies.open_requests == 0
        with pytest.raises(CancelledError):
            reply.result()


def test_a_handler_of_the_same_app_may_make_requests_but_not_wait_for_replies(start_peer: StartPeer) -> None:
    results: list[Any] = []
    app = WebSocketApp(start_peer(same).url)
    replies = Replies(app)

    @app.on("ready")
    def ask(_event: object) -> None:
        reply = replies.request({})
        for wait in (reply.result, reply.exception):
            try:
                wait(PATIENCE)
            except errors.WebSocketError as error:
                results.append(str(error))
        reply.add_done_callback(lambda reply: results.append(reply.result()))

    with opened(app):
        eventually(lambda: len(results) == 3)
    assert all("in a handler of the same app would deadlock" in text for text in results[:2])
    assert results[2] == {"id": 1}


def test_each_of_many_threads_gets_its_own_replies(start_peer: StartPeer) -> None:
    app = WebSocketApp(start_peer(same).url)
    replies = Replies(app)
    wrong: list[Any] = []

    def ask(number: int) -> None:
        for turn in range(50):
            sent = {"thread": number, "turn": turn}
            got = replies.request(sent).result(PATIENCE)
            if {**got, **sent} != got:
                wrong.append((sent, got))

    with opened(app):
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        assert replies.open_requests == 0


def ask_for_ever(replies: Replies) -> None:
    while True:
        replies.request({"x": "x" * 5000}, timeout=None)


def test_a_dropped_request_is_not_open(start_peer: StartPeer) -> None:
    def script(link: Link) -> None:
        link.accept()
        link.read(1)  # and nothing more
        stop.wait(PATIENCE)

    stop = threading.Event()
    app = WebSocketApp(start_peer(script).url, max_queue=1000, when_full="drop")
    replies = Replies(app)
    with opened(app, close_timeout=0.01):
        with pytest.raises(errors.QueueFull, match="dropped"):
            ask_for_ever(replies)
        app.force_disconnect()
        stop.set()
        eventually(lambda: replies.open_requests == 0)


def test_a_second_reply_and_a_late_one_are_ignored(start_peer: StartPeer) -> None:
    def twice(message: dict[str, Any]) -> list[Any]:
        return [{**message, "time": 1}, {**message, "time": 2}]

    app = Noting(start_peer(answering(twice)).url)
    replies = Replies(app)
    with opened(app):
        first = replies.request({"op": "a"})
        app.wait_for("text", 2)
        second = replies.request({"op": "b"})
        assert [first.result(PATIENCE)["time"], second.result(PATIENCE)["op"]] == [1, "b"]
        app.wait_for("text", 4)
        assert replies.open_requests == 0


def test_no_more_requests_than_max_open_are_open(start_peer: StartPeer) -> None:
    app = WebSocketApp(start_peer(silent).url)
    replies = Replies(app, max_open=3)
    with opened(app):
        pending = [replies.request({}, timeout=None) for _ in range(3)]
        with pytest.raises(errors.QueueFull, match="3 requests are open, as many as max_open allows"):
            replies.request({})
        with pytest.raises(errors.QueueFull):
            replies.request({"id": "mine"})
        pending[1].cancel()
        assert replies.request({}).key == 4


class TestShapes:
    """Messages of other shapes than JSON objects with an id."""

    def test_json_arrays_need_no_more_than_a_matching_function(self, start_peer: StartPeer) -> None:
        app = WebSocketApp(start_peer(answering(lambda m: [5, {}, [], [m[0], "done"]])).url)
        replies = Replies(app, lambda message: message[0])
        with opened(app):
            assert replies.request([7, "op"]).result(PATIENCE) == [7, "done"]
            assert replies.open_requests == 0

    def test_mappings_may_be_encoded_in_another_way_and_are_numbered_all_the_same(
        self, ws_server: StartServer
    ) -> None:
        server = ws_server()
        app = WebSocketApp(server.url)
        replies = Replies(
            app, encode=lambda message: repr(message).encode(),
            decode=lambda event: literal_eval(event.data.decode()),
        )
        with opened(app):
            app.send_binary(b"{")  # cannot be decoded
            app.send_text("text")
            app.send_binary(b"[1]")  # has no fields
            assert replies.request({"op": "x"}).result(PATIENCE) == {"op": "x", "id": 1}
            assert replies.request({"op": "y", "id": 9}).result(PATIENCE) == {"op": "y", "id": 9}

    @pytest.mark.parametrize("encode", [None, json.dumps])
    @pytest.mark.parametrize("decode", [None, lambda event: json.loads(event.text)])
    def test_either_function_may_be_left_out(
        self, encode: Any, decode: Any, start_peer: StartPeer
    ) -> None:
        app = WebSocketApp(start_peer(same).url)
        replies = Replies(app, encode=encode, decode=decode, unwrap=lambda message: message["op"])
        with opened(app):
            assert replies.request({"op": "x"}).result(PATIENCE) == "x"
            assert replies.request({"op": "y", "id": "mine"}).result(PATIENCE) == "y"

    def test_a_number_whose_key_is_taken_is_skipped(self, start_peer: StartPeer) -> None:
        app = WebSocketApp(start_peer(silent).url)
        replies = Replies(app, lambda m: m[0], number=lambda m, n: [n % 3, *m], max_open=3)
        with opened(app):
            pending = [replies.request([]) for _ in range(3)]
            assert [reply.key for reply in pending] == [1, 2, 0]
            pending[1].cancel()
            assert replies.request([]).key == 2
            pending[0].cancel()
            pending[2].cancel()
            assert [replies.request([]).key for _ in range(2)] == [0, 1]

    def test_a_request_without_a_free_key_is_refused(self, start_peer: StartPeer) -> None:
        app = WebSocketApp(start_peer(silent).url)
        replies = Replies(app, lambda m: m[0], number=lambda m, n: ["same", *m], max_open=5)
        with opened(app):
            first = replies.request([])
            with pytest.raises(ValueError, match="'same': all numbers lead to keys of requests"):
                replies.request([])
            first.cancel()
            assert replies.request([]).key == "same"

    @pytest.mark.parametrize(
        ("options", "error", "words"),
        [
            ({"encode": lambda m: m}, TypeError, "encode returned dict: expected str or bytes"),
            ({"encode": lambda m: m["nothing"]}, KeyError, "nothing"),
            ({"number": lambda m, n: m}, ValueError, "finds no key"),
            ({"number": lambda m, n: 1 / 0}, ZeroDivisionError, "division"),
            ({"number": lambda m, n: {"id": []}}, TypeError, "unhashable"),
        ],
        ids=str,
    )
    def test_a_request_on_which_a_function_fails_leaves_nothing_behind(
        self, options: Any, error: type[Exception], words: str, start_peer: StartPeer
    ) -> None:
        app = WebSocketApp(start_peer(same).url)
        replies = Replies(app, **options)
        with opened(app):
            with pytest.raises(error, match=words):
                replies.request({})
            if "encode" in options:
                with pytest.raises(error, match=words):
                    replies.request({"id": 1})
            assert replies.open_requests == 0
            assert replies._number == 0

    @pytest.mark.parametrize("name", ["decode", "match"])
    def test_functions_that_fail_on_a_message_make_it_unrelated_and_are_named_in_the_end(
        self, name: str, ws_server: StartServer, ws_clock: VirtualClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fails(message: Any) -> Any:
            if isinstance(message, events.Text) and message.text == "exit":
                sys.exit()
            return message["nothing"]

        caplog.set_level("DEBUG")
        script = [t.accept(), t.wait_for('{"id": 7}'), t.send('{"id": 7}'), t.send("exit")]
        app = Noting(ws_server(script).url)
        handled: list[BaseException] = []
        app.on("error")(handled.append)
        options: Any = {"decode": fails} if name == "decode" else {}

        def match(message: Any) -> Any:
            return 7 if name == "decode" or (message == {"id": 7} and not app.in_handler) else fails(message)

        replies = Replies(app, match, **options)
        with opened(app, poll=0, ping_rate=0):
            reply = replies.request({"id": 7})
            app.wait_for("text", 2)
            ws_clock.settle()
            ws_clock.advance(30)
            assert reply.done()
            called = fails if name == "decode" else match
            assert f"no reply to 7 in time ({called.__qualname__} raised" in str(reply.exception())
        assert handled == [], "these are not failures of a handler"
        name = called.__qualname__
        assert f"{name} failed on a message, which therefore counts as unrelated" in caplog.messages

    def test_a_stream_that_cannot_be_split_drops_the_connection(self, ws_server: StartServer) -> None:
        def split(data: bytes) -> int:
            if data[0] == 0xFF:
                raise ValueError
            return 2

        server = ws_server([t.accept(), t.wait_for(b"a1"), t.send(b"x1"), t.send(b"a"), t.send(b"1\xff")])
        app = Noting(server.url)
        replies = Replies(
            app, lambda m: m, encode=lambda m: m, decode=lambda event: event.data, split=split
        )
        with opened(app):
            assert replies.request(b"a1").result(PATIENCE) == b"a1"
            reason = app.wait_for("disconnected").reason
        assert reason == "the received bytes cannot be split into packets (ValueError)"


class TestNumbers:
    """Requests are numbered in the order in which they are sent."""

    @staticmethod
    def recording(numbers: list[int]) -> Callable[[Link], None]:
        def answer(message: dict[str, Any]) -> list[Any]:
            numbers.append(message["id"])
            return [message]

        return answering(answer)

    def test_numbers_rise_without_a_gap_on_the_wire_whichever_threads_ask(
        self, start_peer: StartPeer
    ) -> None:
        numbers: list[int] = []
        app = WebSocketApp(start_peer(self.recording(numbers)).url)
        replies = Replies(app)
        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            with opened(app), ThreadPoolExecutor(8) as executor:
                asked = [executor.submit(replies.request, {"op": 1}) for _ in range(1000)]
                results = [one.result(PATIENCE).result(PATIENCE) for one in asked]
        finally:
            sys.setswitchinterval(before)
        assert numbers == list(range(1, 1001))
        assert sorted(result["id"] for result in results) == numbers
        assert replies.open_requests == 0

    def test_a_request_made_while_another_is_being_sent_follows_it(self, start_peer: StartPeer) -> None:
        numbers: list[int] = []
        app = WebSocketApp(start_peer(self.recording(numbers)).url)
        replies = Replies(app)
        inner: list[Reply[Any]] = []

        def ask_once_more(sent: tuple[object, ...]) -> None:
            if not inner and any(isinstance(one, str) for one in sent):
                inner.append(replies.request({"op": "inner"}))
                assert inner[0].key is None, "it has no number yet"

        app.on("sent")(ask_once_more)
        with opened(app):
            assert replies.request({"op": "outer"}).result(PATIENCE) == {"op": "outer", "id": 1}
            assert inner[0].result(PATIENCE) == {"op": "inner", "id": 2}
            assert inner[0].key == 2
        assert numbers == [1, 2]

    def test_a_request_left_to_another_thread_that_cannot_be_sent_fails_its_reply(self) -> None:
        replies = Replies(WebSocketApp("ws://127.0.0.1:1/"))
        left: list[Reply[Any]] = []
        send_text = replies._app.send_text

        def ask_meanwhile(text: str, compress: bool = True) -> bool:
            if not left:
                left.append(replies.request({"op": "inner"}))
            return send_text(text, compress)

        replies._app.send_text = ask_meanwhile  # type: ignore[method-assign]
        with pytest.raises(errors.WebSocketUnavailable):
            replies.request({"op": "outer"})
        assert isinstance(left[0].exception(PATIENCE), errors.WebSocketUnavailable)
        assert replies.open_requests == 0

    def test_a_number_that_was_not_sent_is_given_to_the_next_request(self, start_peer: StartPeer) -> None:
        numbers: list[int] = []
        app = WebSocketApp(start_peer(self.recording(numbers)).url)
        replies = Replies(app)
        with pytest.raises(errors.WebSocketUnavailable):
            replies.request({})
        with opened(app):
            assert replies.request({}).result(PATIENCE) == {"id": 1}

    def test_numbers_begin_with_1_on_each_connection(self, start_peer: StartPeer) -> None:
        numbers: list[int] = []
        app = Noting(start_peer(self.recording(numbers)).url)
        replies = Replies(app)
        with opened(app, persist=AT_ONCE):
            for connection in range(1, 4):
                app.wait_for("ready", connection)
                assert app.wait_ready(PATIENCE)
                for _ in range(3):
                    replies.request({}).result(PATIENCE)
                app.reconnect()
                app.wait_for("disconnected", connection)
        assert numbers == [1, 2, 3] * 3

    def test_numbers_never_fall_on_one_connection_however_often_it_is_lost(
        self, start_peer: StartPeer
    ) -> None:
        """Several threads make requests all the time, and the connection is replaced all the time."""
        lists: list[list[int]] = []

        def script(link: Link) -> None:
            numbers: list[int] = []
            lists.append(numbers)
            link.accept()
            while True:
                message = read(link)
                numbers.append(message["id"])
                send(link, message)
                if len(numbers) == 40:
                    link.reset()
                    return

        app = Noting(start_peer(script).url)
        replies = Replies(app)
        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)

        def ask() -> None:
            while len(lists) < 12:
                try:
                    replies.request({"op": 1}).result(PATIENCE)
                except errors.WebSocketError:
                    app.wait_ready(PATIENCE)

        try:
            with opened(app, persist=AT_ONCE), ThreadPoolExecutor(4) as executor:
                for asked in [executor.submit(ask) for _ in range(4)]:
                    asked.result()
        finally:
            sys.setswitchinterval(before)
        assert all(numbers == sorted(set(numbers)) for numbers in lists), lists

    def test_a_number_chosen_by_the_user_is_skipped(self, start_peer: StartPeer) -> None:
        app = WebSocketApp(start_peer(silent).url)
        replies = Replies(app)
        with opened(app):
            assert replies.request({"id": 1}).key == 1
            assert replies.request({}).key == 2

    def test_ctrl_c_while_sending_loses_no_request_of_another_thread(self, start_peer: StartPeer) -> None:
        app = WebSocketApp(start_peer(same).url)
        replies = Replies(app)
        left: list[Reply[Any]] = []
        with opened(app):
            send_text = app.send_text

            def interrupted(text: str, compress: bool = True) -> bool:
                if not left:
                    left.append(replies.request({"op": "another's"}))
                    raise KeyboardInterrupt
                return send_text(text, compress)

            app.send_text = interrupted  # type: ignore[method-assign]
            with pytest.raises(KeyboardInterrupt):
                replies.request({"op": "mine"})
            assert left[0].result(PATIENCE)["op"] == "another's"
            assert replies.open_requests == 0

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_what_json_cannot_express_is_refused(self, value: float) -> None:
        with pytest.raises(ValueError, match="JSON"):
            Replies(WebSocketApp("ws://127.0.0.1:1/")).request({"x": value})


def test_json_that_is_nested_too_deep_is_ignored() -> None:
    Replies(WebSocketApp("ws://127.0.0.1:1/")).on_event(events.Text("[" * 200_000))

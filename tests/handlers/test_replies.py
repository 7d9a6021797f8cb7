"""Replies: which reply belongs to which request, what fails, and where waiting is refused."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any

import pytest

from lochws import WebSocketApp, errors, events
from lochws import testing as t
from lochws.handlers.replies import Replies, Reply, ReplyLost
from lochws.testing import StartServer, VirtualClock

from ..support.apps import opened
from ..support.peer import Link, StartPeer
from ..support.seen import PATIENCE, eventually
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


def test_invalid_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="unwrap='result': expected a function"):
        Replies(WebSocketApp("ws://localhost"), unwrap="result")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="match=3: expected the name of a field, or a function"):
        Replies(WebSocketApp("ws://localhost"), 3)  # type: ignore[arg-type]


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
    start_peer: StartPeer, caplog: pytest.LogCaptureFixture
) -> None:
    app = WebSocketApp(start_peer(silent).url)
    replies = Replies(app)

    def leave(_reply: object) -> None:
        raise SystemExit

    with opened(app):
        first = replies.request({}, timeout=0.01)
        first.add_done_callback(leave)
        second = replies.request({}, timeout=0.02)
        with pytest.raises(TimeoutError):
            second.result(PATIENCE)
    assert "a callback of a reply failed" in caplog.text


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

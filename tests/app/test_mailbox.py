"""Mailboxes: order, bounds and the rules for what is full, several consumers, and their ends."""

from __future__ import annotations

import gc
import logging
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from lochws import WebSocketApp, events
from lochws.errors import WebSocketClosed, WebSocketError
from lochws.mailbox import Mailbox
from lochws.testing import VirtualClock

from ..support.apps import AT_ONCE, LogListener, opened, running
from ..support.peer import BINARY, CLOSE, PING, PONG, TEXT, Link, StartPeer, frame
from ..support.seen import PATIENCE, eventually, in_thread


def telling(
    *messages: bytes | str, after: Callable[[Link], object] = lambda _: None
) -> Callable[[Link], None]:
    """A script that sends messages, calls `after`, and then waits until the client closes."""

    def script(link: Link) -> None:
        link.accept()
        link.send(b"".join(
            frame(TEXT, one.encode()) if isinstance(one, str) else frame(BINARY, one) for one in messages
        ))
        after(link)
        while (got := link.read_frame())[0] != CLOSE:
            pass
        link.send_frame(*got)

    return script


def numbers(count: int, first: int = 0) -> list[str]:
    return [str(number) for number in range(first, first + count)]


def texts(mailbox: Mailbox[events.Text], count: int) -> list[str]:
    return [mailbox.get(PATIENCE).text for _ in range(count)]


class TestGetting:
    def test_events_arrive_in_order_and_within_the_bound(self, start_peer: StartPeer) -> None:
        app = WebSocketApp(start_peer(telling(*numbers(2000))).url)
        mailbox = app.mailbox("text", size=10)
        with running(app):
            for number in range(2000):
                assert len(mailbox) <= 10
                assert mailbox.get(PATIENCE).text == str(number)
            assert len(mailbox) == mailbox.dropped == 0

    def test_by_default_texts_and_binaries_wait_and_nothing_else(self, start_peer: StartPeer) -> None:
        app = WebSocketApp(start_peer(telling("a", b"b", "c")).url)
        mailbox = app.mailbox()
        with running(app):
            assert [mailbox.get(PATIENCE).name for _ in range(3)] == ["text", "binary", "text"]
        assert not list(mailbox)

    def test_other_events_wait_if_they_are_asked_for(self, start_peer: StartPeer) -> None:
        app = WebSocketApp(start_peer(telling("a", after=lambda link: link.send_frame(PING, b"x"))).url)
        mailbox = app.mailbox(events.Ready, "text", "ping", "disconnected")
        assert app.hooks.handles("ping")
        assert not app.hooks.handles("pong")
        with running(app):
            assert [mailbox.get(PATIENCE).name for _ in range(3)] == ["ready", "text", "ping"]
        assert [event.name for event in mailbox] == ["disconnected"]

    def test_a_time_limit_raises_and_loses_nothing(self, start_peer: StartPeer) -> None:
        go = threading.Event()

        def script(link: Link) -> None:
            link.accept()
            go.wait(PATIENCE)
            telling_rest(link)

        def telling_rest(link: Link) -> None:
            link.send_frame(TEXT, b"late")
            while (got := link.read_frame())[0] != CLOSE:
                pass
            link.send_frame(*got)

        app = WebSocketApp(start_peer(script).url)
        mailbox = app.mailbox("text")
        with opened(app):
            with pytest.raises(TimeoutError, match=r"^get\(\): nothing has arrived within 0\.01 s$"):
                mailbox.get(0.01)
            with pytest.raises(TimeoutError):
                mailbox.get(0)
            go.set()
            assert mailbox.get(PATIENCE).text == "late"

    def test_handlers_and_batches_do_not_take_anything_away(self, start_peer: StartPeer) -> None:
        app = WebSocketApp(start_peer(telling(*numbers(100))).url)
        seen: list[str] = []
        app.on("batch")(lambda messages: seen.extend(each.text for each in messages))
        first, second = app.mailbox("text"), app.mailbox("text")
        with running(app):
            assert texts(first, 100) == texts(second, 100) == numbers(100)
        assert seen == numbers(100)

    def test_a_mailbox_that_a_handler_creates_gets_exactly_what_follows(self, start_peer: StartPeer) -> None:
        app = WebSocketApp(start_peer(telling(*numbers(100))).url)
        made: list[Mailbox[events.Text]] = []
        app.on("text")(lambda event: event.text == "41" and made.append(app.mailbox("text")))
        with running(app):
            eventually(lambda: made)
            assert texts(made[0], 58) == numbers(58, 42)

    def test_several_consumers_share_the_events(self, start_peer: StartPeer) -> None:
        app = WebSocketApp(start_peer(telling(*numbers(1000))).url)
        mailbox = app.mailbox("text", size=7)
        taken: list[list[str]] = [[], [], []]
        threads = [
            in_thread(lambda mine=mine: mine.extend(each.text for each in mailbox))  # type: ignore[misc]
            for mine in taken
        ]
        with running(app):
            eventually(lambda: sum(map(len, taken)) == 1000)
        for thread in threads:
            thread.join(PATIENCE)
        assert sorted((one for mine in taken for one in mine), key=int) == numbers(1000)
        for mine in taken:
            assert mine == sorted(mine, key=int)


class TestFull:
    def test_pings_are_answered_while_the_handlers_wait_for_room(self, start_peer: StartPeer) -> None:
        answered = threading.Event()

        def ping(link: Link) -> None:
            link.send_frame(PING, b"there?")
            while link.read_frame() != (PONG, b"there?"):
                pass  # a ping of the client's
            answered.set()

        app = WebSocketApp(start_peer(telling(*numbers(50), after=ping)).url)
        mailbox = app.mailbox("text", size=5)
        with running(app):
            eventually(lambda: len(mailbox) == 5)
            assert answered.wait(PATIENCE)
            assert texts(mailbox, 50) == numbers(50)

    def test_a_full_mailbox_makes_tcp_hold_the_server_back(self, start_peer: StartPeer) -> None:
        sent = [0]
        message = frame(BINARY, bytes(64 * 1024))

        def script(link: Link) -> None:
            link.accept()
            while True:
                link.send(message)
                sent[0] += 1

        app = WebSocketApp(start_peer(script).url)
        mailbox = app.mailbox("binary", size=2)
        app.start(persist=False)
        try:
            eventually(lambda: app.waiting_bytes > 16 * 2**20)
            for _ in range(300):
                assert len(mailbox.get(PATIENCE).data) == 64 * 1024
            assert app.waiting_bytes < 20 * 2**20
        finally:
            app.force_disconnect()
            assert app.stop(PATIENCE)

    def test_the_oldest_are_dropped_counted_and_logged(
        self, start_peer: StartPeer, caplog: pytest.LogCaptureFixture
    ) -> None:
        app = WebSocketApp(start_peer(telling(*numbers(100))).url)
        mailbox = app.mailbox("text", size=10, when_full="drop_oldest")
        last = app.mailbox("text")
        with running(app):
            assert texts(last, 100)[-1] == "99"
            eventually(lambda: mailbox.dropped == 90)
            assert texts(mailbox, 10) == numbers(10, 90)
        assert "dropped" in caplog.text
        assert "it is full (drop_oldest)" in caplog.text

    def test_each_key_keeps_its_latest(self, start_peer: StartPeer) -> None:
        messages = [f"{key}{number}" for number in range(50) for key in "abc"]
        app = WebSocketApp(start_peer(telling(*messages, "z")).url)
        mailbox = app.mailbox("text", size=4, when_full="latest", key=lambda event: event.text[0])
        end = app.mailbox("text")
        with running(app):
            assert texts(end, 151)[-1] == "z"
            eventually(lambda: mailbox.dropped == 147)
            assert sorted(texts(mailbox, 4)) == ["a49", "b49", "c49", "z"]

    def test_a_key_function_that_fails_concerns_one_event_alone(self, start_peer: StartPeer) -> None:
        app = WebSocketApp(start_peer(telling("a1", "", "b2")).url)
        failures: list[BaseException] = []
        app.on("error")(failures.append)
        mailbox = app.mailbox("text", when_full="latest", key=lambda event: event.text[0])
        with running(app):
            assert texts(mailbox, 2) == ["a1", "b2"]
        assert [type(error) for error in failures] == [IndexError]

    def test_waiting_for_room_is_not_reported_as_a_slow_handler(
        self, start_peer: StartPeer, ws_clock: VirtualClock
    ) -> None:
        lines: list[str] = []
        app = WebSocketApp(start_peer(telling(*numbers(50))).url)
        mailbox = app.mailbox("text", size=1)
        logging.getLogger("lochws").setLevel(logging.INFO)
        try:
            with LogListener(lines.append), running(app, ping_rate=0):
                reader = app._lochws.life._crew.reader  # type: ignore[union-attr]
                eventually(lambda: reader.is_pausing)
                while not any("for room in a full mailbox" in line for line in lines):
                    ws_clock.advance(1, handlers=False)
                assert texts(mailbox, 50) == numbers(50)
        finally:
            logging.getLogger("lochws").setLevel(logging.NOTSET)
        assert not any("have been running" in line for line in lines)


class TestEnds:
    def test_a_reconnect_does_not_end_a_mailbox(self, start_peer: StartPeer) -> None:
        count = [0]

        def script(link: Link) -> None:
            count[0] += 1
            link.accept()
            link.send_frame(TEXT, b"%d" % count[0])
            if count[0] < 3:
                link.reset()
            else:
                while (got := link.read_frame())[0] != CLOSE:
                    pass
                link.send_frame(*got)

        app = WebSocketApp(start_peer(script).url)
        mailbox = app.mailbox("text")
        with running(app, persist=AT_ONCE):
            eventually(lambda: count[0] == 3)
            got = mailbox.get(PATIENCE).text
            while got != "3":
                got = mailbox.get(PATIENCE).text

    def test_what_waits_is_handed_out_before_the_end_which_tells_how(self, start_peer: StartPeer) -> None:
        def end(link: Link) -> None:
            link.send_frame(CLOSE, b"\x0f\xa1over")

        app = WebSocketApp(start_peer(telling("a", "b", after=end)).url)
        mailbox = app.mailbox("text")
        with running(app):
            assert app.wait_closed(PATIENCE)
            assert texts(mailbox, 2) == ["a", "b"]
            with pytest.raises(WebSocketClosed, match=r"no more events will arrive: .*4001") as caught:
                mailbox.get(PATIENCE)
            assert caught.value.event is app.last_end
            assert list(mailbox) == []

    def test_a_thread_that_waits_is_woken_by_the_end(self, start_peer: StartPeer) -> None:
        app = WebSocketApp(start_peer(telling()).url)
        mailbox = app.mailbox("text")
        ended: list[object] = []
        thread = in_thread(lambda: ended.append(list(mailbox)))
        with opened(app):
            assert not ended
        thread.join(PATIENCE)
        assert ended == [[]]

    def test_an_app_that_is_started_again_fills_its_mailbox_again(self, start_peer: StartPeer) -> None:
        app = WebSocketApp(start_peer(telling("a")).url)
        mailbox = app.mailbox("text")
        for _ in range(2):
            with running(app):
                assert texts(mailbox, 1) == ["a"]
            assert list(mailbox) == []

    def test_the_consumer_itself_may_stop_an_app_whose_mailbox_is_full(self, start_peer: StartPeer) -> None:
        app = WebSocketApp(start_peer(telling(*numbers(500))).url)
        mailbox = app.mailbox("text", size=5)
        app.start(persist=False)
        eventually(lambda: len(mailbox) == 5)
        assert app.stop(PATIENCE)
        assert [each.text for each in mailbox] == numbers(500), "what had arrived is still there"

    def test_an_app_that_is_closing_accepts_a_bounded_amount(self, start_peer: StartPeer) -> None:
        message = frame(BINARY, bytes(2**20))

        def script(link: Link) -> None:
            link.accept()
            for _ in range(60):
                link.send(message)
            while (got := link.read_frame())[0] != CLOSE:
                pass
            link.send_frame(*got)

        app = WebSocketApp(start_peer(script).url)
        mailbox = app.mailbox("binary", size=2, max_bytes=2**20)
        app.start(persist=False)
        eventually(lambda: app.waiting_bytes > 16 * 2**20)
        assert app.stop(PATIENCE)
        assert 2 <= len(mailbox) <= 17
        assert len(mailbox) + mailbox.dropped == 60

    def test_a_closed_mailbox_ends_its_consumers_and_frees_the_app(self, start_peer: StartPeer) -> None:
        app = WebSocketApp(start_peer(telling(*numbers(50))).url)
        small, other = app.mailbox("text", size=5), app.mailbox("text")
        with running(app):
            eventually(lambda: len(small) == 5)
            assert small.close() == 5
            assert small.close() == 0
            assert texts(other, 50) == numbers(50)
            with pytest.raises(WebSocketClosed, match=r"^get\(\): the mailbox was closed$"):
                small.get(PATIENCE)
        assert small.is_closed
        assert not app.hooks.handles("binary")

    def test_a_mailbox_that_nothing_refers_to_does_not_hold_the_app_up(self, start_peer: StartPeer) -> None:
        app = WebSocketApp(start_peer(telling(*numbers(50))).url)
        other = app.mailbox("text")
        with running(app):
            for message in app.mailbox("text", size=3):
                assert message.text.isdigit()
                break
            gc.collect()
            assert texts(other, 50) == numbers(50)

    def test_a_handler_of_the_same_app_is_refused_where_it_would_wait(self, start_peer: StartPeer) -> None:
        app = WebSocketApp(start_peer(telling("a")).url)
        mailbox = app.mailbox("binary")
        failures: list[BaseException] = []
        app.on("error")(failures.append)
        app.on("text")(lambda _: mailbox.get())
        with running(app):
            eventually(lambda: failures)
        assert isinstance(failures[0], WebSocketError)
        assert "in a handler of the same app" in str(failures[0])

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
    @pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
    def test_in_the_child_of_a_fork_a_mailbox_has_ended(self, start_peer: StartPeer) -> None:
        app = WebSocketApp(start_peer(telling("a", "b")).url)
        mailbox = app.mailbox("text")
        with opened(app):
            eventually(lambda: len(mailbox) == 2)
            child = os.fork()
            if child == 0:
                os._exit(0 if list(mailbox) == [] else 1)
            assert os.waitpid(child, 0)[1] == 0
            assert texts(mailbox, 2) == ["a", "b"]


@pytest.mark.parametrize(
    ("names", "options", "error", "words"),
    [
        (("txt",), {}, ValueError, "there is no event 'txt': did you mean 'text'?"),
        (("sent",), {}, ValueError, "app.mailbox('sent'): expected an event"),
        (("text",), {"size": 0}, ValueError, "size=0: expected a whole number of at least 1"),
        (("text",), {"size": True}, TypeError, "size=True: expected a whole number of at least 1"),
        (("text",), {"when_full": "drop"}, ValueError, "when_full='drop': expected one of 'pause', "),
        (("text",), {"key": 3, "when_full": "latest"}, TypeError, "key=3: expected a function"),
        (("text",), {"key": len}, ValueError, "key: only when_full='latest' uses it"),
        (("text",), {"max_bytes": 0}, ValueError, "max_bytes=0: expected a whole number of at least 1"),
    ],
)
def test_invalid_arguments_are_refused(
    names: tuple[str, ...], options: dict[str, Any], error: type[Exception], words: str
) -> None:
    app = WebSocketApp("ws://127.0.0.1:1/")
    with pytest.raises(error) as caught:
        app.mailbox(*names, **options)
    assert words in str(caught.value)

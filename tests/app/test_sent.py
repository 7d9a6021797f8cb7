"""`on_sent` sees what is sent, in that order, before it can be answered."""

from __future__ import annotations

import sys
import threading
from functools import partial
from typing import Any

import pytest

from lochws import WebSocketApp
from lochws.connection import announcer
from lochws.errors import QueueFull, TransportFail
from lochws.protocol.sender import Sender
from lochws.sent import ControlFrame, Sent

from ..support.apps import echo, opened
from ..support.interrupting import interrupt
from ..support.peer import CLOSE, PING, PONG, TEXT, Link, StartPeer
from ..support.queues import Asked, Sink, make_queue
from ..support.seen import PATIENCE, Noting, await_reports, eventually, in_thread
from ..support.traffic import Listener, chatter


class Tapped(WebSocketApp):
    """Records what `on_sent` gets."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.told: list[Sent] = []

    def on_sent(self, sent: tuple[Sent, ...]) -> None:
        self.told += sent


class TestWhatIsTold:
    def test_messages_as_they_were_given_and_the_control_frames_too(self, start_peer: StartPeer) -> None:
        listener = Listener()
        with opened(Tapped(start_peer(listener).url), ping_rate=0) as app:
            app.send_text("plain")
            app.send_text("läuft")
            app.send_binary(bytearray(b"\x00"))
            app.send_many(["one", b"two"])
            app.send_ping(b"there?")
            app.send_pong(b"")
        assert app.told == [
            "plain", "läuft", b"\x00", "one", b"two",
            ControlFrame("ping", b"there?"), ControlFrame("pong", b""),
            ControlFrame("close", b"\x03\xe8goodbye"),
        ]
        assert app.told == listener.heard
        close = app.told[-1]
        assert isinstance(close, ControlFrame)
        assert (close.code, close.reason) == (1000, "goodbye")

    def test_the_pongs_and_the_echo_of_a_close_frame_which_lochws_sends_itself(
        self, start_peer: StartPeer
    ) -> None:
        def script(link: Link) -> None:
            link.accept()
            link.send_frame(PING, b"you?")
            assert link.read_frame() == (PONG, b"you?")
            link.send_frame(CLOSE)
            assert link.read_frame() == (CLOSE, b"")

        app = Tapped(start_peer(script).url)
        app.run_forever(ping_rate=0, persist=False)
        pong, close = app.told
        assert pong == ControlFrame("pong", b"you?")
        assert isinstance(close, ControlFrame)
        assert (close.name, close.code, close.reason) == ("close", None, "")

    def test_a_ping_has_neither_code_nor_reason(self) -> None:
        ping = ControlFrame("ping", b"abc")
        assert (ping.code, ping.reason) == (None, "")

    def test_what_is_dropped_or_refused_is_not_told(self, start_peer: StartPeer) -> None:
        heard = threading.Event()

        def deaf(link: Link) -> None:
            link.accept()
            heard.wait(PATIENCE)

        app = Tapped(start_peer(deaf).url, max_queue=1000, when_full="drop")
        with opened(app, ping_rate=0):
            app.send_binary(bytes(64 << 20))  # more than any kernel takes
            assert not app.send_text("dropped")
            app.force_disconnect()
            heard.set()
        assert "dropped" not in app.told

    @pytest.mark.parametrize("compress", [False, True])
    def test_messages_of_fifty_threads_are_reported_in_the_order_of_the_server(
        self, start_peer: StartPeer, compress: bool, restless: None
    ) -> None:
        listener = Listener()
        with opened(Tapped(start_peer(listener).url, compress=compress), ping_rate=0) as app:
            threads = [in_thread(lambda number=number: chatter(app, number)) for number in range(50)]
            for thread in threads:
                thread.join()
        assert app.told == listener.heard
        assert len(app.told) == 50 * 24 + 1


class TestWhoIsTold:
    def test_objects_and_functions_until_they_are_removed(self, start_peer: StartPeer) -> None:
        class Other:
            def on_sent(self, sent: tuple[Sent, ...]) -> None:
                seen.append(("object", sent))

        seen: list[tuple[str, tuple[Sent, ...]]] = []
        other = Other()
        with opened(Noting(start_peer(echo).url), ping_rate=0) as app:
            app.add_handler(other)
            note = app.on("sent")(lambda sent: seen.append(("function", sent)))
            app.send_text("a")
            app.wait_for("text")
            app.remove_handler(other)
            app.send_text("b")
            app.wait_for("text", 2)
            app.remove_handler(note)
            app.send_text("c")
            app.wait_for("text", 3)
        assert seen == [("object", ("a",)), ("function", ("a",)), ("function", ("b",))]

    def test_before_the_answer_can_come(self, start_peer: StartPeer) -> None:
        seen: list[str] = []

        def was_answered(number: int) -> bool:
            return seen[-1] == f"answer to {number}"

        with opened(Noting(start_peer(echo).url), ping_rate=0) as app:
            app.on("sent")(seen.extend)
            app.on("text")(lambda event: seen.append(f"answer to {event.text}"))
            for number in range(200):
                app.send_text(str(number))
                eventually(partial(was_answered, number))
        expected = [words for number in range(200) for words in (str(number), f"answer to {number}")]
        assert seen[:-1] == expected

    def test_a_handler_that_raises_is_logged_and_the_messages_are_sent(
        self, start_peer: StartPeer, caplog: pytest.LogCaptureFixture
    ) -> None:
        listener = Listener()
        with opened(Tapped(start_peer(listener).url), ping_rate=0) as app:
            failing = app.on("sent")(lambda sent: 1 / 0)
            app.send_text("sent all the same")
            app.remove_handler(failing)
        assert listener.heard[0] == "sent all the same"
        assert app.told == listener.heard
        await_reports()
        assert "ZeroDivisionError" in caplog.text

    def test_one_that_raises_each_time_does_not_flood_the_log(
        self, start_peer: StartPeer, caplog: pytest.LogCaptureFixture
    ) -> None:
        def heard_more_than(number: int) -> bool:
            return len(listener.heard) > number

        listener = Listener()
        with opened(WebSocketApp(start_peer(listener).url), ping_rate=0) as app:
            app.on("sent")(lambda sent: 1 / 0)
            while (number := len(listener.heard)) < 90:
                app.send_text(str(number))  # one batch each, and one failure
                eventually(partial(heard_more_than, number))
        await_reports()
        assert 0 < len(caplog.records) < 60

    def test_one_that_would_end_the_programs_thread_does_not_end_ours(
        self, start_peer: StartPeer, caplog: pytest.LogCaptureFixture
    ) -> None:
        def script(link: Link) -> None:
            link.accept()
            link.send_frame(PING, b"1")
            heard.append(link.read_frame())
            link.send_frame(TEXT, b"2")
            listener.until_closed(link)

        def leave(sent: tuple[Sent, ...]) -> None:
            if ControlFrame("pong", b"1") in sent:  # which the reader sends
                sys.exit("done")

        heard: list[tuple[int, bytes]] = []
        listener = Listener()
        app = Noting(start_peer(script).url)
        app.on("sent")(leave)
        with opened(app, ping_rate=0):
            app.wait_for("text")
        assert heard == [(PONG, b"1")]
        await_reports()
        assert "SystemExit: done" in caplog.text

    def test_a_batch_sent_in_pieces_is_reported_once(self) -> None:
        told: list[tuple[Sent, ...]] = []
        sink = Sink(room=3)
        queue = make_queue(sink, gather=False, taps=[told.append])
        queue.push("abc", 3)
        for _ in range(12):
            sink.room = 1
            queue.flush()
        assert not queue._outgoing.pending
        assert told == [("abc",)]

    def test_what_the_connection_failed_under_is_told_of_and_unsent(self) -> None:
        told: list[tuple[Sent, ...]] = []
        sink = Sink()
        queue = make_queue(sink, gather=False, taps=[told.append])
        with queue._lock:  # another thread's message
            queue.push("a", 1)
        sink.error = OSError("reset")
        with pytest.raises(TransportFail):
            queue.push("b", 1)
        assert told == [("a", "b")]
        assert queue.finish() == ("a",)


class TestInterrupted:
    def test_waiting_for_room_in_the_iterating_thread_is_refused(self) -> None:
        sink = Sink()
        failures: list[BaseException] = []

        def send(_sent: tuple[Sent, ...]) -> None:
            try:
                queue.push("x" * 100, 100)
                queue.push("y" * 100, 100)
            except QueueFull as error:
                failures.append(error)

        queue = make_queue(sink, limit=150, when_full="block", gather=False, taps=[send])
        queue.push("first", 5)
        assert "cannot wait for room" in str(failures[0])

    def test_a_tap_that_is_cut_off_leaves_the_rest_to_the_loop(self) -> None:
        class Cut(BaseException):
            pass

        def tap(_sent: tuple[Sent, ...]) -> None:
            raise Cut

        sink, asked = Sink(), Asked()
        queue = make_queue(sink, ask_loop=asked, gather=False, taps=[tap])
        queue.cork()
        with queue._lock:  # no sender asks
            queue._outgoing.add((b"a", "a"))
        before = asked.times
        with pytest.raises(Cut):
            queue.uncork()
        assert asked.times == before + 1
        queue.flush()
        assert sink.taken == b"a"

    @pytest.mark.skipif(sys.version_info >= (3, 14), reason="opcodes are others there")
    def test_wherever_ctrl_c_strikes_in_a_tap_the_connection_stays_and_nothing_is_lost(self) -> None:
        files = {__file__}
        point, struck = 0, True
        while struck:
            point += 1
            told: list[Sent] = []
            sink, asked = Sink(), Asked()

            def tap(sent: tuple[Sent, ...], told: list[Sent] = told) -> None:
                told.extend(sent)
                str(told)

            queue = make_queue(sink, ask_loop=asked, gather=False, taps=[tap])
            struck = interrupt(lambda queue=queue: queue.push("a", 1), point, files)  # type: ignore[misc]
            assert queue.failure is None, point
            if not sink.taken and told:
                assert asked.times, point
            queue.push("b", 1)
            queue.flush()
            assert queue.finish() == ()
            assert told[-1] == "b"
            assert told.count("a") <= 1, point
        assert point > 3


def test_on_sent_runs_on_the_thread_that_sends(start_peer: StartPeer) -> None:
    where: list[threading.Thread] = []
    with opened(Noting(start_peer(echo).url), ping_rate=0) as app:
        app.on("sent")(lambda sent: where.append(threading.current_thread()))
        app.send_text("from here")
        eventually(lambda: bool(where))
    assert where[0] is threading.current_thread()


def test_the_frames_of_every_control_can_be_read_again() -> None:
    sender = Sender()
    for frame, expected in [
        (sender.ping(bytes(range(125))), ControlFrame("ping", bytes(range(125)))),
        (sender.pong(b""), ControlFrame("pong", b"")),
        (sender.close(1001, "é"), ControlFrame("close", b"\x03\xe9\xc3\xa9")),
    ]:
        assert announcer.as_sent((frame, None)) == expected



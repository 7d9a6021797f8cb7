"""Received streams: messages above `stream_above` are read while they arrive."""

from __future__ import annotations

import asyncio
import copy
import gc
import os
import pickle
import queue
import signal
import threading
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import lochws
from lochws import WebSocket, WebSocketApp, clock, events
from lochws.connection import incoming, receiving
from lochws.errors import CriticalProtocolError, WebSocketClosed, WebSocketError
from lochws.feed import Feed
from lochws.handlers.recorder import Recorder
from lochws.handlers.replay import Replay
from lochws.protocol.deflate import RATIO
from lochws.testing import EventLog, VirtualClock

from ..support.apps import echo, hurry, opened, running
from ..support.peer import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Link, StartPeer, frame
from ..support.scripts import answer_close
from ..support.seen import PATIENCE, Noting, eventually, in_thread, names

ABOVE = 1000
BUFFER = 64 * 1024
LARGE = bytes(range(250)) * 4000  # a million bytes


@pytest.fixture(autouse=True)
def small_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bound the buffer of a stream at 64 KiB."""
    monkeypatch.setattr(incoming, "STREAM_BUFFER", BUFFER)


def telling(*frames: bytes, after: Callable[[Link], object] = answer_close) -> Callable[[Link], None]:
    """Return a script that sends frames, and then calls a function, which waits for the client to close."""

    def script(link: Link) -> None:
        link.accept()
        for one in frames:
            link.send(one)
        after(link)

    return script


def text(message: str) -> bytes:
    return frame(TEXT, message.encode())


def pieces(payload: bytes, opcode: int = BINARY, size: int = 9999) -> bytes:
    """Return a message in fragments."""
    parts = [payload[start : start + size] for start in range(0, len(payload), size)]
    return b"".join(
        frame(CONTINUATION if index else opcode, part, fin=index == len(parts) - 1)
        for index, part in enumerate(parts)
    )


class Taking(WebSocketApp):
    """An app that hands its streams to the test, and notes the names and texts of everything else.

    Attributes:
        streams: the streams that have arrived; the app keeps no other reference to them.
        seen: texts, and the names of other events.
    """

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, stream_above=ABOVE, **options)
        self.streams: queue.Queue[events.Stream] = queue.Queue()
        self.seen: list[str] = []

    def on_event(self, event: events.Event) -> None:
        """Note an event."""
        if isinstance(event, events.Stream):
            self.streams.put(event)
        elif not isinstance(event, (events.Poll, events.Ping, events.Pong)):
            self.seen.append(event.text if isinstance(event, events.Text) else event.name)

    def stream(self) -> events.Stream:
        """Wait for the next stream."""
        return self.streams.get(timeout=PATIENCE)


class TestReadingInAHandler:
    @pytest.mark.parametrize("large", [frame(BINARY, LARGE), pieces(LARGE)], ids=["frame", "fragments"])
    def test_a_loop_gets_everything_and_later_messages_come_later(
        self, start_peer: StartPeer, large: bytes
    ) -> None:
        seen: list[Any] = []

        class Reading(WebSocketApp):
            def on_text(self, event: events.Text) -> None:
                seen.append(event.text)

            def on_stream(self, event: events.Stream) -> None:
                assert not event.is_text
                seen.append(b"".join(event))  # type: ignore[arg-type]
                assert list(event) == []
                assert event.read() == event.read(5) == b""

        script = telling(text("a"), large, text("b"), large, text("c"))
        app = Reading(start_peer(script).url, stream_above=ABOVE)
        with running(app):
            eventually(lambda: len(seen) == 5)
        assert seen == ["a", LARGE, "b", LARGE, "c"]

    def test_a_text_is_decoded_while_it_arrives(self, start_peer: StartPeer) -> None:
        message = "aé€😀" * 50_000
        read: list[Any] = []
        app = WebSocketApp(start_peer(telling(pieces(message.encode(), TEXT))).url, stream_above=ABOVE)

        @app.on("stream")
        def _(stream: events.Stream) -> None:
            assert stream.is_text
            read.extend([stream.read(1), stream.read(2), stream.read(0), stream.read(), stream.read()])

        with running(app):
            eventually(lambda: len(read) == 5)
        assert read == ["a", "é€", "", message[3:], ""]

    def test_pings_are_answered_while_a_handler_waits_for_the_rest(self, start_peer: StartPeer) -> None:
        """The grace period, after which a stand-in would turn the loop, does not matter."""
        def script(link: Link) -> None:
            link.accept()
            link.send(frame(BINARY, bytes(5000), fin=False))
            for number in range(50):
                link.send_frame(PING, b"%d" % number)
                assert link.read_frame() == (PONG, b"%d" % number)
            link.send(frame(CONTINUATION, b"end"))
            answer_close(link)

        app = WebSocketApp(start_peer(script).url, stream_above=ABOVE)
        read: list[Any] = []
        app.on("stream")(lambda stream: read.append(stream.read()))
        with running(app, ping_rate=0):
            hurry(app, grace=60)
            eventually(lambda: bool(read))
        assert read == [bytes(5000) + b"end"]

    def test_a_stand_in_gives_the_loop_back(self, start_peer: StartPeer) -> None:
        answered: list[int] = []

        def script(link: Link) -> None:
            link.accept()
            for part in range(3):
                link.send(frame(BINARY if not part else CONTINUATION, bytes(5000), fin=part == 2))
                link.send_frame(PING, b"x")
                assert link.read_frame() == (PONG, b"x")
                answered.append(part)
            answer_close(link)

        app = WebSocketApp(start_peer(script).url, stream_above=ABOVE)
        read: list[int] = []

        @app.on("stream")
        def _(stream: events.Stream) -> None:
            reader = app._lochws.life._crew.reader  # type: ignore[union-attr]
            for _ in range(3):
                read.append(len(stream.read(5000)))
                eventually(lambda: reader.has_stand_in)

        with running(app, ping_rate=0):
            hurry(app)
            eventually(lambda: len(read) == len(answered) == 3)
        assert read == [5000] * 3

    def test_a_timeout_is_in_real_time_although_a_tests_clock_stands_still(
        self, start_peer: StartPeer
    ) -> None:
        virtual, raised = VirtualClock(), []
        with clock.using(virtual):
            script = telling(frame(BINARY, bytes(2000), fin=False))
            app = WebSocketApp(start_peer(script).url, stream_above=ABOVE)

            @app.on("stream")
            def _(stream: events.Stream) -> None:
                assert stream.read(2000) == bytes(2000)
                try:
                    stream.read(1, timeout=0.01)
                except TimeoutError as error:
                    raised.append(error)

            with running(app, poll=0):
                eventually(lambda: bool(raised))
        virtual.release()

    def test_handlers_of_another_app_on_the_same_threads_may_read_it(self, start_peer: StartPeer) -> None:
        shared, read = lochws.Threads(), []
        one = Taking(start_peer(telling(frame(BINARY, LARGE))).url, threads=shared)
        other = WebSocketApp(start_peer(echo).url, threads=shared)
        other.on("text")(lambda _: read.append(one.stream().read()))
        with opened(one), opened(other):
            eventually(lambda: not one.streams.empty())
            other.send_text("now")
            eventually(lambda: bool(read))
        assert read == [LARGE]


class TestReadingInAThread:
    def test_later_messages_wait_and_other_events_do_not(self, start_peer: StartPeer) -> None:
        app = Taking(start_peer(telling(frame(BINARY, LARGE), text("later"))).url)
        polls: list[object] = []
        app.on("poll")(polls.append)
        with running(app, poll=0.01):
            stream = app.stream()
            before = len(polls)
            eventually(lambda: len(polls) > before + 5)
            assert app.seen == ["connecting", "connected", "ready"]
            assert stream.read(10) == LARGE[:10]
            assert b"".join(stream) == LARGE[10:]  # type: ignore[arg-type]
            eventually(lambda: app.seen[-1] == "later")

    def test_reading_slowly_pauses_tcp_and_keepalive(self, start_peer: StartPeer) -> None:
        stalled = threading.Event()

        def flood(link: Link) -> None:
            link.sock.settimeout(2)  # longer than the limits of keepalive
            rest = memoryview(frame(BINARY, bytes(64 << 20)))
            while rest:
                try:
                    rest = rest[link.sock.send(rest) :]
                except TimeoutError:
                    stalled.set()
                    link.sock.settimeout(PATIENCE)
            answer_close(link)

        app = Taking(start_peer(telling(after=flood)).url)
        with running(app, ping_rate=0.1, ping_timeout=1.5, stale_after=1.5):
            stream = app.stream()
            assert stalled.wait(PATIENCE)
            source: Any = stream._source
            eventually(lambda: source.waiting >= BUFFER)
            assert source.waiting <= BUFFER + 256 * 1024
            assert sum(map(len, stream)) == 64 << 20
            assert source.waiting == 0
            app.close()
            assert app.join(PATIENCE)
            assert isinstance(app.last_end, events.Disconnected)
            assert "paused" not in [entry.name for entry in app.last_end.history]
        assert not {"unresponsive", "stale"} & set(app.seen)

    def test_a_bomb_is_decompressed_as_it_is_read(self, start_peer: StartPeer) -> None:
        compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
        size = 100 << 20
        bomb = b"".join(compressor.compress(bytes(1 << 20)) for _ in range(size >> 20))
        bomb += compressor.flush(zlib.Z_SYNC_FLUSH)[:-4]

        def script(link: Link) -> None:
            link.accept("Sec-WebSocket-Extensions: permessage-deflate")
            link.send(frame(BINARY, bomb, rsv=4))
            answer_close(link)

        app = Taking(start_peer(script).url, compress=True)
        with running(app):
            stream = app.stream()
            source: Any = stream._source
            most = received = 0
            for part in stream:
                received += len(part)
                most = max(most, source.waiting)
        assert received == size
        assert most <= BUFFER + receiving.DEFLATED_READ * RATIO

    def test_a_timeout_loses_nothing(self, start_peer: StartPeer) -> None:
        go = threading.Event()

        def script(link: Link) -> None:
            link.send(frame(BINARY, bytes(2000), fin=False))
            assert go.wait(PATIENCE)
            link.send(frame(CONTINUATION, b"end"))
            answer_close(link)

        app = Taking(start_peer(telling(after=script)).url)
        with running(app):
            stream = app.stream()
            assert stream.read(1000, timeout=PATIENCE) == bytes(1000)
            for timeout in (0, 0.01):
                with pytest.raises(TimeoutError, match="did not arrive within"):
                    stream.read(1001, timeout)
            go.set()
            assert stream.read(1001, timeout=PATIENCE) == bytes(1000) + b"e"
            assert stream.read(timeout=PATIENCE) == b"nd"

    def test_more_may_be_asked_for_than_is_buffered_otherwise(self, start_peer: StartPeer) -> None:
        app = Taking(start_peer(telling(frame(BINARY, LARGE))).url)
        with running(app):
            stream = app.stream()
            source: Any = stream._source
            eventually(lambda: source.waiting >= BUFFER)
            assert stream.read(600_000, PATIENCE) == LARGE[:600_000]
            assert stream.read(-1, PATIENCE) == LARGE[600_000:]

    def test_several_threads_share_a_stream(self, start_peer: StartPeer) -> None:
        app, shares = Taking(start_peer(telling(frame(BINARY, LARGE), text("later"))).url), [[], [], []]
        with running(app):
            stream = app.stream()
            readers = [
                in_thread(lambda share=share: share.extend(iter(lambda: stream.read(250), b"")))  # type: ignore[misc]
                for share in shares
            ]
            for reader in readers:
                reader.join(PATIENCE)
            eventually(lambda: app.seen[-1] == "later")
        assert [part for share in shares for part in share] == [bytes(range(250))] * 4000


def test_iterating_a_websocket_reads_in_the_loop(start_peer: StartPeer) -> None:
    script = telling(text("a"), pieces(LARGE), text("b"), frame(BINARY, LARGE), text("c"), frame(CLOSE, b""))
    seen: list[Any] = []
    skipped: list[events.Stream] = []
    for event in WebSocket(start_peer(script).url, stream_above=ABOVE):
        if isinstance(event, events.Stream):
            if not skipped:
                skipped.append(event)
                seen.append(event.read(7))
            else:
                seen.append(b"".join(event))  # type: ignore[arg-type]
        elif isinstance(event, events.Text):
            seen.append(event.text)
    assert seen == ["a", LARGE[:7], "b", LARGE, "c"]
    with pytest.raises(WebSocketError, match="the stream was closed"):
        skipped[0].read(1)


def handlers() -> dict[str, Any]:
    """Return handlers that leave a stream, or most of it, unread."""

    def break_off(stream: events.Stream) -> None:
        for _ in stream:
            break

    def fail(stream: events.Stream) -> None:
        kept.append(stream)
        raise ValueError("on purpose")

    kept: list[events.Stream] = []
    return {
        "reads nothing": lambda stream: None, "reads some": lambda stream: stream.read(10) and None,
        "breaks off": break_off, "closes": lambda stream: stream.close() or kept.append(stream),
        "fails": fail,
    }


class TestSkipping:
    """Streams that are not read are skipped, and later messages arrive."""

    @pytest.mark.parametrize("handler", handlers().values(), ids=handlers().keys())
    def test_what_a_handler_leaves_is_skipped(
        self, start_peer: StartPeer, handler: Any
    ) -> None:
        script = telling(frame(BINARY, LARGE), text("a"), pieces(LARGE), text("b"))
        app, seen = WebSocketApp(start_peer(script).url, stream_above=ABOVE), []
        app.on("stream")(handler)
        app.on("text")(lambda event: seen.append(event.text))
        gc.disable()
        try:
            with running(app):
                eventually(lambda: seen == ["a", "b"])
        finally:
            gc.enable()

    def test_a_stream_without_a_handler_is_skipped_without_waiting_for_one(
        self, start_peer: StartPeer
    ) -> None:
        go, answered = threading.Event(), threading.Event()

        def script(link: Link) -> None:
            link.send(text("a") + frame(BINARY, LARGE * 4))
            link.send_frame(PING, b"x")
            assert link.read_frame() == (PONG, b"x")
            answered.set()
            answer_close(link)

        app = WebSocketApp(start_peer(telling(after=script)).url, stream_above=ABOVE)
        app.on("text")(lambda _: go.wait(PATIENCE) and None)
        with running(app, ping_rate=0):
            assert answered.wait(PATIENCE)
            go.set()

    def test_a_closed_stream_is_skipped_and_cannot_be_read(self, start_peer: StartPeer) -> None:
        rest = frame(PING, b"") + frame(CONTINUATION, b"") + text("later")
        script = telling(frame(BINARY, bytes(2000), fin=False), rest)
        app = Taking(start_peer(script).url)
        with running(app):
            stream = app.stream()
            stream.close()
            stream.close()
            for read in (stream.read, lambda: list(stream)):
                with pytest.raises(WebSocketError, match=r"read\(\): the stream was closed"):
                    read()
            eventually(lambda: app.seen[-1] == "later")

    def test_closing_wakes_a_thread_that_waits(self, start_peer: StartPeer) -> None:
        app, raised = Taking(start_peer(telling(frame(BINARY, bytes(2000), fin=False))).url), []
        with running(app):
            stream = app.stream()

            def read() -> None:
                try:
                    stream.read()
                except WebSocketError as error:
                    raised.append(str(error))

            reader = in_thread(read)
            source: Any = stream._source
            eventually(lambda: bool(source._sizes))
            stream.close()
            reader.join(PATIENCE)
        assert raised == ["read(): the stream was closed"]


class TestEnds:
    @pytest.mark.parametrize(
        ("end", "why"), [
            (Link.reset, "the stream is incomplete: connection lost"),
            (Link.finish, "the stream is incomplete: connection lost"),
            (lambda link: link.send(frame(CLOSE, b"\x03\xe8")) or answer_close(link),
             "the stream is incomplete, since the server closed the connection"),
            (lambda link: link.send(frame(CONTINUATION, b"\xff")) or answer_close(link),
             "the stream is incomplete, since the server violated the protocol: text message is not valid"),
            (lambda link: link.send(frame(TEXT, b"")) or answer_close(link),
             "the stream is incomplete, since the server violated the protocol: new message inside"),
        ], ids=["reset", "eof", "close", "utf-8", "protocol"],
    )
    def test_what_has_arrived_is_read_first(self, start_peer: StartPeer, end: Any, why: str) -> None:
        app = Taking(start_peer(telling(frame(TEXT, b"x" * 3000, fin=False), after=end)).url)
        with running(app):
            stream = app.stream()
            app.join(PATIENCE)
            with pytest.raises(WebSocketClosed) as caught:
                stream.read()
            assert [stream.read(1000) for _ in range(3)] == ["x" * 1000] * 3
            for read in (lambda: stream.read(1), lambda: list(stream)):
                with pytest.raises(WebSocketClosed):
                    read()
        assert str(caught.value).startswith(f"read(): {why}")
        assert app.seen[-1] == "disconnected"
        assert (caught.value.event is app.last_end) is why.endswith("connection lost")

    def test_the_cause_of_a_protocol_violation_is_chained(self, start_peer: StartPeer) -> None:
        script = telling(frame(TEXT, b"x" * 3000, fin=False), frame(CONTINUATION, b"\xff"))
        app, causes = WebSocketApp(start_peer(script).url, stream_above=ABOVE), []

        @app.on("stream")
        def _(stream: events.Stream) -> None:
            try:
                stream.read()
            except WebSocketClosed as error:
                causes.append(error.__cause__)

        with running(app):
            end = app.join(PATIENCE) and app.last_end
        assert [type(cause) for cause in causes] == [CriticalProtocolError]
        assert isinstance(end, events.Disconnected)
        assert end.sent_code == 1007

    def test_a_handler_that_reads_gets_the_final_event_first(self, start_peer: StartPeer) -> None:
        script = telling(frame(BINARY, bytes(2000), fin=False), after=Link.reset)
        app, seen = WebSocketApp(start_peer(script).url, stream_above=ABOVE), []

        @app.on("stream")
        def _(stream: events.Stream) -> None:
            try:
                stream.read()
            except WebSocketClosed as error:
                seen.append(error.event)

        app.on("disconnected")(seen.append)
        with running(app):
            eventually(lambda: len(seen) == 2)
        assert seen[0] is seen[1] is app.last_end

    def test_a_stream_above_its_limit_ends_with_1009(self, start_peer: StartPeer) -> None:
        app = WebSocketApp(
            start_peer(telling(frame(BINARY, LARGE))).url, stream_above=ABOVE, max_stream_size=ABOVE + 1,
        )
        with running(app):
            app.join(PATIENCE)
        assert isinstance(app.last_end, events.Disconnected)
        assert app.last_end.sent_code == 1009

    def test_what_is_complete_is_read_after_the_end(self, start_peer: StartPeer) -> None:
        small = bytes(BUFFER // 2)
        app = Taking(start_peer(telling(frame(BINARY, small), text("later"), after=Link.finish)).url)
        with running(app):
            stream = app.stream()
            app.join(PATIENCE)
        assert app.seen[-2:] == ["later", "disconnected"]
        assert b"".join(stream) == small  # type: ignore[arg-type]

    @pytest.mark.parametrize("is_read", [False, True], ids=["unread", "read"])
    def test_an_app_stops_at_once_although_nothing_reads_its_stream(
        self, start_peer: StartPeer, is_read: bool
    ) -> None:
        app = Taking(start_peer(telling(frame(BINARY, LARGE * 4), text("later"))).url)
        with running(app, close_timeout=60):
            stream = app.stream()
            source: Any = stream._source
            eventually(lambda: source.waiting >= BUFFER)
            if is_read:
                assert stream.read(10, PATIENCE) == LARGE[:10]
            assert app.stop(PATIENCE)
            assert isinstance(app.last_end, events.Disconnected)
            assert app.last_end.graceful
            with pytest.raises(WebSocketClosed, match="it was not read while closing"):
                stream.read()

    def test_a_handler_may_stop_the_app_and_read_on(
        self, start_peer: StartPeer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # On a busy machine, a stand-in may find the buffer full before this handler reads on.
        monkeypatch.setattr("lochws.engine.reader.GRACE_SECONDS", PATIENCE)
        app, read = WebSocketApp(start_peer(telling(frame(BINARY, LARGE))).url, stream_above=ABOVE), []

        @app.on("stream")
        def _(stream: events.Stream) -> None:
            read.append(stream.read(10))
            app.close()
            read.append(stream.read())

        with running(app):
            assert app.join(PATIENCE)
        assert b"".join(read) == LARGE

    def test_the_next_connection_has_streams_of_its_own(self, start_peer: StartPeer) -> None:
        links: list[Link] = []

        def script(link: Link) -> None:
            links.append(link)
            link.accept()
            link.send(frame(BINARY, LARGE[:5000], fin=len(links) > 1))
            if len(links) == 1:
                link.reset()
            else:
                answer_close(link)

        app = Taking(start_peer(script).url)
        with running(app, persist=lochws.Backoff(min_wait=0, max_wait=0)):
            first, second = app.stream(), app.stream()
            assert second.read(timeout=PATIENCE) == LARGE[:5000]
            with pytest.raises(WebSocketClosed):
                first.read()


class TestOtherThreadsAndProcesses:
    def test_ctrl_c_ends_a_read(self, start_peer: StartPeer) -> None:
        app = Taking(start_peer(telling(frame(BINARY, LARGE[:5000], fin=False))).url)
        with running(app):
            stream = app.stream()
            source: Any = stream._source

            def interrupt() -> None:
                eventually(lambda: bool(source._sizes))
                signal.raise_signal(signal.SIGINT)

            thread = in_thread(interrupt)
            with pytest.raises(KeyboardInterrupt):
                stream.read()
            thread.join(PATIENCE)
            assert stream.read(5000) == LARGE[:5000]

    def test_ctrl_c_in_an_iteration_drops_its_connection(self, start_peer: StartPeer) -> None:
        websocket = WebSocket(
            start_peer(telling(frame(BINARY, bytes(5000), fin=False), after=Link.wait_for_end)).url,
            stream_above=ABOVE,
        )
        seen: list[str] = []
        for event in websocket:
            seen.append(event.name)
            if isinstance(event, events.Stream):
                source: Any = event._source

                def interrupt(source: Any = source) -> None:
                    eventually(lambda: bool(source._sizes))
                    signal.raise_signal(signal.SIGINT)

                thread = in_thread(interrupt)
                with pytest.raises(KeyboardInterrupt):
                    event.read()
                thread.join(PATIENCE)
        assert seen[-1] == "disconnected"

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
    @pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
    def test_in_the_child_of_a_fork_a_read_is_refused(self, start_peer: StartPeer) -> None:
        app = Taking(start_peer(telling(frame(BINARY, bytes(5000), fin=False))).url)
        with running(app):
            stream = app.stream()
            child = os.fork()
            if not child:
                code = 1
                try:
                    stream.read(6000, 5)
                except WebSocketClosed as error:
                    code = 0 if "in the parent of this process" in str(error) else 2
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert stream.read(5000, PATIENCE) == bytes(5000)

    def test_a_function_that_lochws_calls_while_it_moves_data_must_not_wait(
        self, start_peer: StartPeer
    ) -> None:
        app, raised = Taking(start_peer(telling(frame(BINARY, bytes(5000), fin=False))).url), []
        with running(app):
            stream = app.stream()

            @app.on("sent")
            def _(_: object) -> None:
                assert stream.read(1) == b"\0"
                try:
                    stream.read()
                except WebSocketError as error:
                    raised.append(str(error))

            app.send_text("hello")
            eventually(lambda: bool(raised))
        assert "pass timeout=0 there" in raised[0]

    def test_coroutines_read_with_async_for(self, start_peer: StartPeer) -> None:
        async def main() -> list[Any]:
            seen: list[Any] = []
            done = asyncio.Event()

            async def on_stream(stream: events.Stream) -> None:
                parts = [part async for part in stream]
                seen.append(b"".join(parts))  # type: ignore[arg-type]

            async def on_text(event: events.Text) -> None:
                seen.append(event.text)
                done.set()

            loop = asyncio.get_running_loop()
            app = WebSocketApp(start_peer(telling(pieces(LARGE), text("later"))).url, stream_above=ABOVE)
            app.on("stream", loop=loop)(on_stream)
            app.on("text", loop=loop)(on_text)
            app.start(persist=False)
            await asyncio.wait_for(done.wait(), PATIENCE)
            app.close()
            await app.closed()
            return seen

        assert asyncio.run(main()) == [LARGE, "later"]

    def test_what_a_coroutine_handler_leaves_is_skipped(self, start_peer: StartPeer) -> None:
        async def main() -> None:
            done = asyncio.Event()

            async def on_stream(stream: events.Stream) -> None:
                async for _ in stream:
                    break

            async def on_text(event: events.Text) -> None:
                done.set()

            loop = asyncio.get_running_loop()
            app = WebSocketApp(start_peer(telling(pieces(LARGE), text("later"))).url, stream_above=ABOVE)
            app.on("stream", loop=loop)(on_stream)
            app.on("text", loop=loop)(on_text)
            app.start(persist=False)
            await asyncio.wait_for(done.wait(), PATIENCE)
            app.close()
            await app.closed()

        asyncio.run(main())

    def test_a_coroutine_that_is_cancelled_loses_nothing(self, start_peer: StartPeer) -> None:
        async def main() -> None:
            app = Taking(start_peer(telling(frame(BINARY, LARGE[:5000], fin=False))).url)
            with running(app):
                stream = app.stream()
                parts: list[Any] = []

                async def read() -> None:
                    async for part in stream:  # what was read before the end stays
                        parts.extend([part])

                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(read(), 0.05)
                assert b"".join(parts) == LARGE[:5000]

        asyncio.run(main())


class TestTheRestOfLochws:
    def test_a_mailbox_hands_streams_out_in_order(self, start_peer: StartPeer) -> None:
        script = telling(text("a"), frame(BINARY, LARGE), text("b"), frame(BINARY, LARGE), text("c"))
        app = WebSocketApp(start_peer(script).url, stream_above=ABOVE)
        mailbox = app.mailbox("text", "stream")
        seen: list[Any] = []
        with running(app):
            for _ in range(5):
                event = mailbox.get(PATIENCE)
                seen.append(event.read() if isinstance(event, events.Stream) else event.text)
                del event
        assert seen == ["a", LARGE, "b", LARGE, "c"]

    def test_connect_and_feeds_refuse_the_option(self) -> None:
        with pytest.raises(ValueError, match="receives complete messages"):
            lochws.connect("ws://localhost", stream_above=ABOVE)
        feed = Feed(lambda url: WebSocketApp(url, stream_above=ABOVE), ["ws://localhost"])
        with pytest.raises(ValueError, match="a Feed cannot compare streams"):
            feed.start()

    def test_a_recorder_notes_a_stream_and_does_not_keep_it(
        self, start_peer: StartPeer, tmp_path: Path
    ) -> None:
        app = WebSocketApp(start_peer(telling(frame(BINARY, LARGE), text("later"))).url, stream_above=ABOVE)
        seen: list[str] = []
        with Recorder(tmp_path / "a.jsonl") as recorder:
            app.add_handler(recorder)
            app.on("text")(lambda event: seen.append(event.text))
            with running(app):
                eventually(lambda: seen == ["later"])
        entries = Replay(tmp_path / "a.jsonl").entries()
        recorded = [entry.as_event() for entry in entries if entry.direction == "in"]
        assert "text" in names(recorded)
        (stream,) = (event for event in recorded if isinstance(event, events.Stream))
        assert not stream.is_text
        for read in (stream.read, lambda: list(stream), lambda: aiter_of(stream)):
            with pytest.raises(WebSocketError, match="the content of streams is not recorded"):
                read()
        stream.close()

    def test_an_event_log_keeps_a_stream_for_the_test_to_read(self, start_peer: StartPeer) -> None:
        app = WebSocketApp(start_peer(telling(frame(BINARY, LARGE), text("later"))).url, stream_above=ABOVE)
        log = EventLog(app)
        app.start(persist=False)
        assert log.wait_for(events.Stream).read() == LARGE
        assert log.wait_for(events.Text).text == "later"
        log.finish()

    def test_counters_history_and_trace_count_a_stream_as_one_message(self, start_peer: StartPeer) -> None:
        steps: list[dict[str, Any]] = []
        script = telling(frame(BINARY, LARGE), text("later"))
        app = Noting(start_peer(script).url, stream_above=ABOVE, trace=steps.append)
        app.on("stream")(lambda stream: stream.read() and None)
        with running(app):
            app.wait_for("text")
            assert app.counters.messages_received == 2
            assert app.counters.bytes_received > len(LARGE)
        assert [step["is_text"] for step in steps if step["stage"] == "message_stream"] == [False]

    def test_events_behind_a_stream_are_bounded(
        self, start_peer: StartPeer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(receiving, "INBOX_BYTES", 1 << 20)
        stalled = threading.Event()

        def flood(link: Link) -> None:
            link.sock.settimeout(1)
            rest = memoryview(frame(BINARY, bytes(900)) * 20_000)
            while rest:
                try:
                    rest = rest[link.sock.send(rest) :]
                except TimeoutError:
                    stalled.set()
                    link.sock.settimeout(PATIENCE)
            answer_close(link)

        app = Taking(start_peer(telling(frame(BINARY, bytes(5000)), after=flood)).url)
        with running(app):
            stream = app.stream()
            assert stalled.wait(PATIENCE)
            connection = app._lochws.life.connection
            assert connection is not None
            streams: Any = connection._receiving._streams
            eventually(lambda: streams._held_cost > 1 << 20)
            assert streams._held_cost < 2 << 20
            assert app.seen == ["connecting", "connected", "ready"]
            stream.read()
            eventually(lambda: len(app.seen) == 20_003)

    def test_the_content_of_streams_behind_a_stream_is_bounded(
        self, start_peer: StartPeer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(receiving, "INBOX_BYTES", 1 << 20)
        compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
        small = compressor.compress(bytes(60_000)) + compressor.flush(zlib.Z_FULL_FLUSH)[:-4]
        one = bytes([0x80 | 0x40 | BINARY, len(small)]) + small

        def script(link: Link) -> None:
            link.accept("Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover")
            for _ in range(2000):  # 120 MB in 150 kB
                link.send(one)
            link.send(text("end"))
            answer_close(link)

        app = Taking(start_peer(script).url, compress=True)
        with running(app):
            stream = app.stream()
            connection = app._lochws.life.connection
            assert connection is not None
            eventually(lambda: connection._receiving.is_paused)
            streams: Any = connection._receiving._streams
            held = sum(
                event._source.waiting for received, _, _ in streams._held for event in received
                if isinstance(event, events.Stream)
            )
            assert held < (1 << 20) + RATIO * receiving.DEFLATED_READ
            for count in range(2000):
                assert stream.read() == bytes(60_000)
                if count < 1999:
                    stream = app.stream()
            eventually(lambda: app.seen[-1] == "end")
            assert streams._held_cost == 0

    @pytest.mark.parametrize("timeout", [0, 0.001])
    def test_more_than_the_buffer_can_be_asked_for_again_and_again(
        self, start_peer: StartPeer, timeout: float
    ) -> None:
        app = Taking(start_peer(telling(frame(BINARY, LARGE), text("end"))).url)
        with running(app):
            stream, read = app.stream(), b""

            def poll() -> bool:
                nonlocal read
                with suppress(TimeoutError):
                    read = stream.read(900_000, timeout)  # type: ignore[assignment]
                return bool(read)

            eventually(poll)
            assert read + stream.read() == LARGE  # type: ignore[operator]
            eventually(lambda: app.seen[-1] == "end")

    @pytest.mark.parametrize(
        ("options", "why"), [
            ({"stream_above": 0}, "stream_above=0: expected a whole number from 1"),
            ({"max_stream_size": 5}, "max_stream_size=5 needs stream_above"),
            ({"stream_above": 5, "max_stream_size": 4}, "max_stream_size=4: expected at least stream_above"),
            ({"stream_above": 1 << 40}, "stream_above=1099511627776: expected at most max_message_size"),
        ],
    )
    def test_options_that_contradict_each_other_are_refused(self, options: Any, why: str) -> None:
        with pytest.raises(ValueError, match=why):
            WebSocketApp("ws://localhost", **options)

    def test_a_stream_is_not_copied(self) -> None:
        stream = events.Stream(False, incoming.IncomingStream(False, lambda: None, NotImplemented))
        assert copy.copy(stream) is stream
        for refused in (copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="cannot be copied or pickled: read it where it arrives"):
                refused(stream)

    @pytest.mark.parametrize("size", [-2, 1.5, "x", True])
    def test_an_invalid_size_is_refused(self, size: Any) -> None:
        source = incoming.IncomingStream(False, NotImplemented, NotImplemented)  # type: ignore[arg-type]
        with pytest.raises((TypeError, ValueError), match="read: size="):
            source.read(size, None)


def aiter_of(stream: events.Stream) -> object:
    return stream.__aiter__()

"""Apps in programs with an event loop: waits, mailboxes, replies and handlers that are coroutines."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from lochws import WebSocketApp, events
from lochws.errors import WaitFailed, WebSocketError
from lochws.handlers.replies import Replies, ReplyLost

from ..support.apps import LogListener, echo, opened, running
from ..support.peer import CLOSE, TEXT, Link, StartPeer, frame
from ..support.seen import PATIENCE, eventually, in_thread

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def run_with_uvloop(main: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine on a loop of uvloop."""
    uvloop = pytest.importorskip("uvloop")
    loop = uvloop.new_event_loop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()


@pytest.fixture(params=["asyncio", "uvloop"])
def run_loop(request: pytest.FixtureRequest) -> Run:
    """Run a coroutine to its end, on both kinds of event loop."""
    if request.param == "asyncio":
        return asyncio.run
    pytest.importorskip("uvloop")  # here, before a coroutine exists that would never run
    return run_with_uvloop


def numbers(count: int) -> Callable[[Link], None]:
    """A script that sends the first numbers, and then waits until the client closes."""

    def script(link: Link) -> None:
        link.accept()
        link.send(b"".join(frame(TEXT, b"%d" % number) for number in range(count)))
        while (got := link.read_frame())[0] != CLOSE:
            pass
        link.send_frame(*got)

    return script


class TestWaits:
    def test_an_app_becomes_ready_and_is_closed(self, start_peer: StartPeer, run_loop: Run) -> None:
        async def main() -> None:
            async with WebSocketApp(start_peer(echo).url) as app:
                await app.ready(PATIENCE)
                assert app.is_active
            end = await app.closed()
            assert end is app.last_end
            assert isinstance(end, events.Disconnected)

        run_loop(main())

    def test_a_wait_fails_as_its_blocking_twin_does(self, start_peer: StartPeer, run_loop: Run) -> None:
        def refuse(link: Link) -> None:
            link.read_request()
            link.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

        async def main() -> None:
            app = WebSocketApp(start_peer(refuse).url)
            with pytest.raises(WebSocketError, match="has not been started"):
                app.ready()
            assert await app.closed() is None
            app.start(persist=False)
            with pytest.raises(WaitFailed, match="403") as caught:
                await app.ready(PATIENCE)
            assert not caught.value.timed_out
            await app.closed()

        run_loop(main())

    def test_a_wait_ends_in_time_and_can_be_cancelled(self, start_peer: StartPeer, run_loop: Run) -> None:
        async def main() -> None:
            async with WebSocketApp(start_peer(echo).url) as app:
                with pytest.raises(WaitFailed, match=r"within 0\.01 s") as caught:
                    await app.closed(0.01)
                assert caught.value.timed_out
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(app.closed(), 0.01)
                await app.ready(PATIENCE)
                assert len(app._lochws.life._watchers) == 0

        run_loop(main())

    def test_a_closed_gate_delays_ready(self, start_peer: StartPeer, run_loop: Run) -> None:
        async def main() -> None:
            app = WebSocketApp(start_peer(echo).url)
            gate = app.hooks.gate()
            async with app:
                waiting = asyncio.ensure_future(app.ready(PATIENCE))
                while app.state.name != "OPEN":
                    await asyncio.sleep(0.001)
                assert not waiting.done()
                gate.open()
                await waiting

        run_loop(main())


class TestMailboxes:
    def test_a_loop_gets_all_messages_in_order_and_others_run(
        self, start_peer: StartPeer, run_loop: Run
    ) -> None:
        async def main() -> None:
            turns = 0

            async def busy() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            other = asyncio.ensure_future(busy())
            async with WebSocketApp(start_peer(numbers(20_000)).url) as app:
                number = 0
                async for message in app.mailbox("text", size=100):
                    assert message.text == str(number)
                    number += 1
                    if number == 20_000:
                        break
            other.cancel()
            assert turns > 5

        run_loop(main())

    def test_a_loop_ends_with_the_app_and_may_be_cancelled_without_loss(
        self, start_peer: StartPeer, run_loop: Run
    ) -> None:
        async def main() -> None:
            app = WebSocketApp(start_peer(echo).url)
            mailbox = app.mailbox("text")
            seen: list[str] = []

            async def consume() -> None:
                async for message in mailbox:
                    seen.append(message.text)  # noqa: PERF401  one by one, as they arrive

            async with app:
                await app.ready(PATIENCE)
                first = asyncio.ensure_future(consume())
                await asyncio.sleep(0)
                first.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await first
                app.send_many(["a", "b"])
                second = asyncio.ensure_future(consume())
                while len(seen) < 2:
                    await asyncio.sleep(0.001)
            await asyncio.wait_for(second, PATIENCE)
            assert seen == ["a", "b"]

        run_loop(main())

    def test_a_loop_that_closes_early_harms_nobody(self, start_peer: StartPeer) -> None:
        app = WebSocketApp(start_peer(echo).url)
        mailbox = app.mailbox("text")
        loop = asyncio.new_event_loop()
        task = loop.create_task(mailbox.__aiter__().__anext__())  # type: ignore[arg-type]
        loop.run_until_complete(asyncio.sleep(0))
        with opened(app):
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # it is abandoned on purpose
            loop.close()
            app.send_text("a")
            assert mailbox.get(PATIENCE).text == "a"


class TestReplies:
    def test_a_request_is_awaited(self, start_peer: StartPeer, run_loop: Run) -> None:
        async def main() -> None:
            app = WebSocketApp(start_peer(echo).url)
            rpc = Replies(app)
            async with app:
                await app.ready(PATIENCE)
                assert await rpc.request({"op": "time"}) == {"op": "time", "id": 1}
                replies = await asyncio.gather(*(rpc.request({"op": n}) for n in range(50)))
                assert [reply["op"] for reply in replies] == list(range(50))

        run_loop(main())

    def test_cancelling_abandons_the_request_and_failures_are_raised(
        self, start_peer: StartPeer, run_loop: Run
    ) -> None:
        async def main() -> None:
            app = WebSocketApp(start_peer(numbers(0)).url)
            rpc = Replies(app)
            async with app:
                await app.ready(PATIENCE)
                reply = rpc.request({"op": "a"})
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(reply, 0.01)
                assert reply.cancelled()
                assert rpc.open_requests == 0
                with pytest.raises(TimeoutError):
                    await rpc.request({"op": "b"}, timeout=0.01)
                lost = rpc.request({"op": "c"})
                app.force_disconnect()
                with pytest.raises(ReplyLost):
                    await lost

        run_loop(main())

    def test_without_a_running_loop_awaiting_is_refused(self, start_peer: StartPeer) -> None:
        app = WebSocketApp(start_peer(numbers(0)).url)
        rpc = Replies(app)
        with opened(app), pytest.raises(RuntimeError, match="no running event loop"):
            next(rpc.request({}).__await__())


class TestHandlers:
    def test_they_run_in_order_one_at_a_time_on_their_loop(
        self, start_peer: StartPeer, run_loop: Run
    ) -> None:
        async def main() -> None:
            app = WebSocketApp(start_peer(numbers(3000)).url)
            thread = threading.get_ident()
            done = asyncio.Event()
            seen: list[str] = []
            running_now = 0

            @app.on("ready", loop=asyncio.get_running_loop())
            async def prepare(event: events.Ready) -> None:
                await asyncio.sleep(0.01)
                seen.append(event.name)

            @app.on("text", loop=asyncio.get_running_loop())
            async def note(event: events.Text) -> None:
                nonlocal running_now
                running_now += 1
                assert running_now == 1
                if len(seen) % 100 == 0:
                    await asyncio.sleep(0)
                assert threading.get_ident() == thread
                seen.append(event.text)
                running_now -= 1
                if event.text == "2999":
                    done.set()

            async with app:
                await asyncio.wait_for(done.wait(), PATIENCE)
                app.remove_handler(note)
                app.remove_handler(prepare)
            assert seen == ["ready", *map(str, range(3000))]

        run_loop(main())

    def test_a_slow_one_makes_the_reader_pause(self, start_peer: StartPeer, run_loop: Run) -> None:
        async def main() -> None:
            app = WebSocketApp(start_peer(numbers(5000)).url)
            go, seen = asyncio.Event(), [0]

            @app.on("text", loop=asyncio.get_running_loop())
            async def slow(_: events.Text) -> None:
                await go.wait()
                seen[0] += 1

            async with app:
                await app.ready(PATIENCE)
                (_, handlers), = app._lochws.registry.coroutines
                while len(handlers._intake.inbox) < 1000:
                    await asyncio.sleep(0.001)
                assert len(handlers._intake.inbox) == 1000
                go.set()
                while seen[0] < 5000:
                    await asyncio.sleep(0.001)

        run_loop(main())

    def test_failures_are_treated_like_those_of_plain_handlers(
        self, start_peer: StartPeer, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def main() -> None:
            app = WebSocketApp(start_peer(numbers(3)).url)
            failures: list[BaseException] = []
            app.on("error")(failures.append)

            @app.on("text", loop=asyncio.get_running_loop())
            async def fail(event: events.Text) -> None:
                raise ValueError(event.text)

            async with app:
                while len(failures) < 3:
                    await asyncio.sleep(0.001)
            assert [str(error) for error in failures] == ["0", "1", "2"]

        asyncio.run(main())
        assert "fail failed on Text(text='0')" in caplog.text

    def test_a_loop_that_closes_early_ends_its_handlers_and_frees_the_app(
        self, start_peer: StartPeer
    ) -> None:
        lines: list[str] = []
        app = WebSocketApp(start_peer(numbers(5000)).url)
        every = app.mailbox("text", size=10_000)
        never = threading.Event()

        async def main() -> None:
            started = asyncio.Event()

            @app.on("text", loop=asyncio.get_running_loop())
            async def stuck(_: events.Text) -> None:
                started.set()
                await asyncio.Event().wait()
                never.set()

            app.start(persist=False)
            await started.wait()

        with LogListener(lines.append):
            thread = in_thread(lambda: asyncio.run(main()))
            thread.join(PATIENCE)
            try:
                assert [every.get(PATIENCE).text for _ in range(5000)][-1] == "4999"
            finally:
                assert app.stop(PATIENCE)
        assert not never.is_set()
        assert any("coroutine handlers will not be called any more" in line for line in lines)

    def test_a_loop_that_has_closed_drops_events_and_says_so(self, start_peer: StartPeer) -> None:
        lines: list[str] = []
        loop = asyncio.new_event_loop()
        app = WebSocketApp(start_peer(numbers(5000)).url)

        async def handle(_: events.Text) -> None: ...

        app.on("text", loop=loop)(handle)
        loop.close()
        with LogListener(lines.append), running(app):
            eventually(lambda: any("their event loop was closed" in line for line in lines))
            assert app.wait_ready(PATIENCE)

    @pytest.mark.parametrize("same_loop", [True, False])
    def test_one_is_registered_while_another_is_and_neither_is_lost(self, same_loop: bool) -> None:
        loops = [asyncio.new_event_loop() for _ in range(2)]
        app = WebSocketApp("ws://127.0.0.1:1/")
        meanwhile: list[Callable[[], object]] = []

        async def outer(_: events.Text) -> None: ...
        async def inner(_: events.Ready) -> None: ...

        def wrapper(_: str, handler: Callable[[Any], object]) -> Callable[[Any], object]:
            while meanwhile:
                meanwhile.pop()()
            return handler

        app.on("text")(print)
        app.hooks.wrap_handlers(wrapper)  # it is called whenever something is registered
        meanwhile.append(lambda: app.on("ready", loop=loops[not same_loop])(inner))
        app.on("text", loop=loops[0])(outer)
        assert not meanwhile
        assert len(app._lochws.registry._setup.mail) == len(app._lochws.registry.coroutines) == 2 - same_loop
        app.remove_handler(outer)
        app.remove_handler(inner)
        for loop in loops:
            loop.close()

    def test_what_cannot_be_a_coroutine_handler_is_refused(self) -> None:
        loop = asyncio.new_event_loop()
        loop.close()
        app = WebSocketApp("ws://127.0.0.1:1/")

        async def no_argument() -> None: ...
        async def handle(_: object) -> None: ...

        with pytest.raises(TypeError, match="is not a coroutine function: leave out loop="):
            app.on("text", loop=loop)(print)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="loop=3: expected an event loop"):
            app.on("text", loop=3)(handle)  # type: ignore[call-overload]
        with pytest.raises(TypeError, match="cannot be called with one argument"):
            app.on("text", loop=loop)(no_argument)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="'sent' is not one"):
            app.on("sent", loop=loop)(handle)
        with pytest.raises(TypeError, match="coroutine function"):
            app.on("text")(handle)

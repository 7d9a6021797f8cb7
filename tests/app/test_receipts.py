"""Receipts over real connections: `receipt=True`, `Disconnected.in_doubt`, and who may wait where."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from lochws import Rate, Receipt, ReceiptState, WebSocket, WebSocketApp, events
from lochws.connection.outgoing import Outgoing
from lochws.errors import WebSocketError, WebSocketUnavailable

from ..support.apps import AT_ONCE, echo, hurry, opened
from ..support.peer import BINARY, CLOSE, PING, PONG, TEXT, Link, StartPeer
from ..support.seen import PATIENCE, Noting, await_reports, eventually

CONFIRMED, IN_DOUBT, UNSENT = ReceiptState.CONFIRMED, ReceiptState.IN_DOUBT, ReceiptState.UNSENT


class Server:
    """Reads what it is told to, answers pings as it is told to, and keeps what it has read."""

    def __init__(self, *, answers_pings: bool = True, answers_close: bool = True) -> None:
        self.answers_pings = answers_pings
        self.answers_close = answers_close
        self.messages: list[bytes] = []
        self.pings: list[bytes] = []
        self.links: list[Link] = []
        self.before_answer: Callable[[], object] = lambda: None  # to a Close frame

    @property
    def automatic(self) -> list[bytes]:
        """The automatic pings among those that it has read."""
        return [ping for ping in self.pings if re.fullmatch(rb"[0-9a-f]{8}-\d+", ping)]

    def __call__(self, link: Link) -> None:
        self.links.append(link)
        link.accept()
        while True:
            opcode, payload = link.read_frame()
            if opcode in (TEXT, BINARY):
                self.messages.append(payload)
            elif opcode == PING:
                self.pings.append(payload)
                if self.answers_pings:
                    link.send_frame(PONG, payload)
            elif opcode == CLOSE:
                if self.answers_close:
                    self.before_answer()
                    link.send_frame(CLOSE, payload)
                return


class TestConfirmed:
    def test_every_method_that_sends_returns_a_receipt(self, start_peer: StartPeer) -> None:
        server = Server()
        with opened(WebSocketApp(start_peer(server).url), ping_rate=0) as app:
            receipts = [
                app.send_text("läuft", receipt=True),
                app.send_text(b"bytes", receipt=True),
                app.send_binary(b"\x00", receipt=True),
                app.send_json(1, receipt=True),
                app.send_json(a=1, receipt=True),
                app.send_many(["one", b"two"], receipt=True),
                app.send_text("x" * 300_000, receipt=True),
            ]
            assert [receipt.result(PATIENCE) for receipt in receipts] == [CONFIRMED] * 7
            assert len(server.messages) == 8
            assert receipts[0].done()
            assert receipts[0].result(0) == "confirmed"

    @pytest.mark.parametrize("options", [{}, {"compress": True}, {"rate": Rate(1000)}], ids=str)
    def test_a_batch_costs_one_ping_and_no_receipt_none(
        self, start_peer: StartPeer, options: dict[str, Any]
    ) -> None:
        server = Server()
        with opened(WebSocketApp(start_peer(server).url, **options), ping_rate=0) as app:
            assert app.send_many(["without"] * 10)
            assert app.send_many(["with"] * 10, receipt=True).result(PATIENCE) is CONFIRMED
            assert len(server.messages) == 20
            assert len(server.pings) == 1

    def test_nothing_sent_is_confirmed(self, start_peer: StartPeer) -> None:
        with opened(WebSocketApp(start_peer(echo).url)) as app:
            assert app.send_many([], receipt=True).result(0) is CONFIRMED

    def test_it_does_not_depend_on_automatic_pongs_of_ours(self, start_peer: StartPeer) -> None:
        with opened(WebSocketApp(start_peer(echo).url), ping_rate=0, auto_pong=False) as app:
            assert app.send_text("x", receipt=True).result(PATIENCE) is CONFIRMED

    def test_a_pong_to_the_latest_ping_alone_confirms_all(self, start_peer: StartPeer) -> None:
        server = Server(answers_pings=False)
        with opened(WebSocketApp(start_peer(server).url), ping_rate=0) as app:
            receipts = [app.send_text("x", receipt=True) for _ in range(3)]
            eventually(lambda: len(server.pings) == 3)
            assert {receipt.state for receipt in receipts} == {"written"}
            server.links[0].send_frame(PONG, server.pings[-1])
            assert {receipt.result(PATIENCE) for receipt in receipts} == {CONFIRMED}

    def test_the_answer_to_our_close_frame_confirms_what_was_before(self, start_peer: StartPeer) -> None:
        server = Server(answers_pings=False)
        with opened(Noting(start_peer(server).url), ping_rate=0) as app:
            connection = app._lochws.life.connection
            assert connection is not None
            # Locally, the answer may come before the thread that sent our Close frame has noted that it did.
            server.before_answer = lambda: eventually(lambda: connection.sending.queue.is_close_taken)
            receipt = app.send_text("x", receipt=True)
            app.send_text("without")
            app.close()
            assert receipt.result(PATIENCE) is CONFIRMED
            assert app.wait_closed(PATIENCE)
        [ended] = app.all("disconnected")
        assert (ended.unsent, ended.in_doubt) == ((), ())

    def test_an_automatic_ping_confirms_too(self, start_peer: StartPeer) -> None:
        server = Server(answers_pings=False)
        with opened(WebSocketApp(start_peer(server).url), ping_rate=0.05, ping_timeout=0) as app:
            receipt = app.send_text("x", receipt=True)
            eventually(lambda: server.messages == [b"x"])
            earlier = len(server.automatic)
            eventually(lambda: len(server.automatic) > earlier + 1)  # one may have been on its way
            server.links[0].send_frame(PONG, server.automatic[-1])
            assert receipt.result(PATIENCE) is CONFIRMED


class TestNotConfirmed:
    @pytest.mark.parametrize("payload", [b"", b"mine"])
    def test_by_pongs_to_pings_of_the_users_or_to_none(self, start_peer: StartPeer, payload: bytes) -> None:
        server = Server(answers_pings=False)
        with opened(Noting(start_peer(server).url), ping_rate=0) as app:
            receipt = app.send_text("x", receipt=True)
            app.send_ping(payload)
            eventually(lambda: len(server.pings) == 2)
            server.links[0].send_frame(PONG, payload)
            server.links[0].send_frame(PONG, b"unsolicited")
            eventually(lambda: len(app.all("pong")) == 2)
            assert receipt.state == "written"
            server.links[0].sock.shutdown(socket.SHUT_RDWR)
            assert receipt.result(PATIENCE) is IN_DOUBT

    def test_by_a_close_frame_that_may_have_crossed_ours(self, start_peer: StartPeer) -> None:
        def script(link: Link) -> None:
            link.accept()
            while link.read_frame()[0] != CLOSE:
                pass
            link.send_frame(CLOSE, b"\x03\xe8")  # the same code, as any server would send by itself

        with opened(WebSocketApp(start_peer(script).url), ping_rate=0) as app:
            receipt = app.send_text("x", receipt=True)
            app.close()
            assert receipt.result(PATIENCE) is IN_DOUBT

    def test_when_the_server_closes_by_itself(self, start_peer: StartPeer) -> None:
        def script(link: Link) -> None:
            link.accept()
            link.read_frame()
            link.send_frame(CLOSE, b"\x03\xe8goodbye")
            while link.read_frame()[0] != CLOSE:
                pass

        with opened(Noting(start_peer(script).url), ping_rate=0) as app:
            receipt = app.send_text("x", receipt=True)
            assert receipt.result(PATIENCE) is IN_DOUBT
            assert app.wait_closed(PATIENCE)
        assert app.all("disconnected")[0].in_doubt == ("x",)


class TestInDoubt:
    def test_messages_that_a_peer_acknowledged_and_never_read(self, start_peer: StartPeer) -> None:
        written = threading.Event()

        def script(link: Link) -> None:
            link.accept()
            assert written.wait(PATIENCE)
            link.reset()

        with opened(Noting(start_peer(script).url), ping_rate=0) as app:
            texts = [f"order {number}" for number in range(100)]
            receipts = [app.send_text(text, receipt=number % 2 == 0) for number, text in enumerate(texts)]
            assert all(receipts)
            eventually(lambda: app.counters.messages_sent == 100)
            written.set()
            assert app.wait_closed(PATIENCE)
        [ended] = app.all("disconnected")
        assert (ended.unsent, ended.in_doubt, ended.in_doubt_omitted) == ((), tuple(texts), 0)
        assert {receipt.state for receipt in receipts if isinstance(receipt, Receipt)} == {"in doubt"}

    def test_what_the_kernel_did_not_take_is_unsent(self, start_peer: StartPeer) -> None:
        written = threading.Event()

        def script(link: Link) -> None:
            link.accept()
            assert written.wait(PATIENCE)
            link.reset()

        with opened(Noting(start_peer(script).url), ping_rate=0) as app:
            receipts = [app.send_binary(bytes(1_000_000), receipt=True) for _ in range(16)]
            written.set()
            states = [receipt.result(PATIENCE) for receipt in receipts]
            assert app.wait_closed(PATIENCE)
        [ended] = app.all("disconnected")
        assert states == [IN_DOUBT] * (16 - len(ended.unsent)) + [UNSENT] * len(ended.unsent)
        assert ended.unsent
        assert len(ended.in_doubt) + ended.in_doubt_omitted >= 16 - len(ended.unsent)

    def test_a_receipt_ends_with_its_connection(self, start_peer: StartPeer) -> None:
        server = Server(answers_pings=False, answers_close=False)
        with opened(Noting(start_peer(server).url), ping_rate=0, persist=AT_ONCE) as app:
            receipt = app.send_text("x", receipt=True)
            eventually(lambda: server.messages == [b"x"])
            app.reconnect()
            assert receipt.result(PATIENCE) is IN_DOUBT
            eventually(lambda: len(server.links) == 2)
            assert server.messages == [b"x"]

    def test_a_message_that_a_full_queue_drops_is_unsent(self, start_peer: StartPeer) -> None:
        release = threading.Event()

        def script(link: Link) -> None:
            link.accept()
            assert release.wait(PATIENCE)
            link.reset()

        app = WebSocketApp(start_peer(script).url, when_full="drop", max_queue=1000)
        with opened(app, ping_rate=0):
            while app.send_binary(bytes(900_000)):
                pass
            assert app.send_text("x" * 2000, receipt=True).result(0) is UNSENT
            release.set()


class TestWaiting:
    def test_in_a_handler_is_refused_but_asking_and_callbacks_are_not(self, start_peer: StartPeer) -> None:
        errors: list[WebSocketError] = []
        settled: list[tuple[ReceiptState, bool]] = []

        class App(WebSocketApp):
            def on_ready(self, _event: events.Ready) -> None:
                receipt = self.send_text("x", receipt=True)
                receipt.add_done_callback(lambda one: settled.append((one.state, self.in_handler)))
                try:
                    receipt.result(PATIENCE)
                except WebSocketError as error:
                    errors.append(error)

        with opened(App(start_peer(echo).url), ping_rate=0):
            eventually(lambda: bool(settled))
        assert settled == [(CONFIRMED, True)]
        assert "result() was called in a handler" in str(errors[0])

    def test_a_slow_handler_does_not_keep_others_waiting(self, start_peer: StartPeer) -> None:
        release, entered = threading.Event(), threading.Event()

        class App(WebSocketApp):
            def on_text(self, _event: events.Text) -> None:
                entered.set()
                assert release.wait(PATIENCE)

        with opened(App(start_peer(echo).url), ping_rate=0) as app:
            hurry(app)
            app.send_text("x")
            assert entered.wait(PATIENCE)
            assert app.send_text("y", receipt=True).result(PATIENCE) is CONFIRMED
            release.set()

    def test_threads_that_wait_are_all_woken(self, start_peer: StartPeer) -> None:
        server = Server(answers_pings=False)
        with opened(WebSocketApp(start_peer(server).url), ping_rate=0) as app:
            receipt = app.send_text("x", receipt=True)
            found: list[ReceiptState] = []
            threads = [threading.Thread(target=lambda: found.append(receipt.result(PATIENCE))) for _ in "abc"]
            for thread in threads:
                thread.start()
            eventually(lambda: len(receipt._events) == 3 and bool(server.pings))
            server.links[0].send_frame(PONG, server.pings[0])
            for thread in threads:
                thread.join(PATIENCE)
            assert found == [CONFIRMED] * 3
            with pytest.raises(TimeoutError):
                app.send_text("y", receipt=True).result(0.01)

    def test_by_the_thread_that_iterates_is_refused(self, start_peer: StartPeer) -> None:
        receipts: list[Receipt] = []
        called: list[Receipt] = []
        for event in (websocket := WebSocket(start_peer(echo).url)).connect(ping_rate=0):
            if event.name == "ready":
                receipts.append(websocket.send_text("x", receipt=True))
                receipts[0].add_done_callback(called.append)
                with pytest.raises(WebSocketError, match="use add_done_callback"):
                    receipts[0].result(PATIENCE)
            elif event.name == "text":
                websocket.close()
        assert called == receipts
        assert receipts[0].state is CONFIRMED

    def test_what_a_callback_raises_is_logged(
        self, start_peer: StartPeer, caplog: pytest.LogCaptureFixture
    ) -> None:
        called = threading.Event()

        def fails(_receipt: Receipt) -> None:
            called.set()
            raise SystemExit("not this way")

        server = Server(answers_pings=False)
        with opened(WebSocketApp(start_peer(server).url), ping_rate=0) as app:
            # If the receipt were confirmed by now, this thread would call it, where SystemExit propagates.
            app.send_text("x", receipt=True).add_done_callback(fails)
            eventually(lambda: bool(server.pings))
            server.links[0].send_frame(PONG, server.pings[-1])
            assert called.wait(PATIENCE)
            receipt = app.send_text("y", receipt=True)
            eventually(lambda: len(server.pings) > 1)
            server.links[0].send_frame(PONG, server.pings[-1])
            assert receipt.result(PATIENCE) is CONFIRMED
        await_reports()
        assert any("of a receipt failed" in record.getMessage() for record in caplog.records)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
    @pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
    def test_in_the_child_of_a_fork_is_refused(self, start_peer: StartPeer) -> None:
        server = Server(answers_pings=False)
        with opened(WebSocketApp(start_peer(server).url), ping_rate=0) as app:
            receipt = app.send_text("x", receipt=True)
            eventually(lambda: bool(server.pings))
            child = os.fork()
            if not child:
                code = 1
                try:
                    receipt.result(PATIENCE)
                except WebSocketError as error:
                    code = 0 if "parent of this forked process" in str(error) else 2
                finally:
                    os._exit(code)
            assert os.waitpid(child, 0)[1] == 0
            server.links[0].send_frame(PONG, server.pings[0])
            assert receipt.result(PATIENCE) is CONFIRMED


def test_a_call_that_interrupts_a_send_gets_a_receipt_too(
    start_peer: StartPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server()
    receipts: list[Receipt] = []
    add = Outgoing.add
    with opened(WebSocketApp(start_peer(server).url), ping_rate=0) as app:

        def interrupted(outgoing: Outgoing, item: Any) -> None:
            """Send as a signal handler would do here, where the lock is held."""
            monkeypatch.undo()
            receipts.extend(app.send_text("nested", receipt=True) for _ in range(2))
            with pytest.raises(WebSocketError, match="cannot wait"):
                receipts[0].result(PATIENCE)
            add(outgoing, item)

        monkeypatch.setattr(Outgoing, "add", interrupted)
        with app.corked():  # otherwise it may be sent in one step, which nothing interrupts
            app.send_text("outer")
        assert [receipt.result(PATIENCE) for receipt in receipts] == [CONFIRMED] * 2
        assert server.messages == [b"outer", b"nested", b"nested"]


def test_a_receipt_changes_none_of_the_errors(start_peer: StartPeer) -> None:
    app = WebSocketApp(start_peer(echo).url)
    with pytest.raises(WebSocketUnavailable, match="call start"):
        app.send_text("x", receipt=True)
    with pytest.raises(TypeError, match="receipt"):
        app.send_text("x", receipt="yes")  # type: ignore[call-overload]
    with opened(app):
        with pytest.raises(TypeError, match=r"^receipt="):
            app.send_binary(b"x", receipt=1)  # type: ignore[call-overload]
        with pytest.raises(ValueError, match=r"surrogates|UTF-8|utf-8"):
            app.send_text("\ud800", receipt=True)


def test_a_receipt_is_settled_before_the_handlers_of_disconnected_run(start_peer: StartPeer) -> None:
    seen: list[Any] = []
    server = Server(answers_pings=False)

    class App(WebSocketApp):
        def on_disconnected(self, _event: events.Disconnected) -> None:
            seen.append("disconnected")

    with opened(App(start_peer(server).url), ping_rate=0) as app:
        app.send_text("x", receipt=True).add_done_callback(lambda one: seen.append(one.state))
        eventually(lambda: bool(server.pings))
        server.links[0].sock.shutdown(socket.SHUT_RDWR)
        assert app.wait_closed(PATIENCE)
    assert seen == [IN_DOUBT, "disconnected"]

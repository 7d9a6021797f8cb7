"""The scripted server, tested with lochws and with the client of websockets."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
from contextlib import closing, suppress
from time import monotonic
from typing import Any

import pytest
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK, InvalidStatus

from lochws import WebSocket, WebSocketApp
from lochws import testing as t

from ..support.apps import AT_ONCE, opened, running
from ..support.peer import PONG, TEXT, frame
from ..support.seen import PATIENCE, Noting, eventually, names
from ..support.threaded_websockets import connect


def live(url: str, **options: object) -> list[str]:
    """Iterate over one connection; return the names of its events."""
    ws = WebSocket(url)
    return names(ws.connect(**options), "poll", "pong", "connecting", "connected")  # type: ignore[arg-type]


class TestAnotherClient:
    """The client of websockets: an independent judge of what the server sends."""

    def test_messages_go_both_ways_and_the_close_is_clean(self) -> None:
        script = [t.accept(), t.send("hello"), t.wait_for("bye"), t.send(b"\0\xff"), t.close(1001, "later")]
        with t.ScriptedServer(script) as server, connect(server.url) as client:
            assert client.recv() == "hello"
            client.send("bye")
            assert client.recv() == b"\0\xff"
            with pytest.raises(ConnectionClosedOK) as closed:
                client.recv()
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1001, "later")
            server.connection().wait_over()
        assert server.messages == ["bye"]
        assert server.connections[0].close_frame == (1001, "later")
        assert not server.connections[0].remaining

    @pytest.mark.parametrize("message", ["one", b"two", "ä" * 1000, "", b""])
    def test_without_a_script_it_echoes(self, message: str | bytes) -> None:
        with t.ScriptedServer() as server, connect(server.url) as client:
            client.send(message)
            assert client.recv() == message
        assert server.messages == [message]
        assert server.connections[0].close_frame == (1000, "")

    def test_over_tls(self, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
        # Not the threaded client, whose threads share one TLS object and sometimes break it.
        async def echoed(url: str) -> str | bytes:
            async with connect_async(url, ssl=client_tls) as client:
                await client.send("x" * 100_000)
                return await client.recv()

        with t.ScriptedServer(tls=server_tls) as server:
            assert asyncio.run(echoed(server.url)) == "x" * 100_000

    def test_deflate_and_a_subprotocol_are_agreed_on(self) -> None:
        script = [t.accept(protocol="chat", deflate=True), t.echo()]
        with t.ScriptedServer(script) as server, connect(server.url, subprotocols=["chat"]) as client:  # type: ignore[list-item]
            assert client.subprotocol == "chat"
            client.send("a" * 10_000)
            assert client.recv() == "a" * 10_000
            assert server.connections[0].bytes_received < 1000
        assert server.requests[0].headers["sec-websocket-protocol"] == "chat"

    def test_fragments_and_pieces_make_one_message(self) -> None:
        script = [t.split(every=1), t.accept(), t.send("in parts", fragment=3), t.send(b"whole")]
        with t.ScriptedServer(script) as server, connect(server.url) as client:
            assert list(client.recv_streaming()) == ["in ", "par", "ts"]
            assert client.recv() == b"whole"

    def test_pings_are_answered_and_asked(self) -> None:
        script = [t.accept(), t.ping(b"who"), t.wait_for_pong()]
        with t.ScriptedServer(script) as server, connect(server.url) as client:
            assert client.ping("here").wait(PATIENCE)
            server.wait_until(lambda: server.connections[0].pongs == [b"who"])
        assert b"here" in server.connections[0].pings

    def test_a_refusal_has_status_headers_and_body_and_a_new_try_may_follow(self) -> None:
        refusal = t.upgrade(429, {"Retry-After": "7"}, "slow down")
        with t.ScriptedServer([refusal, t.fin()], [t.accept(), t.send("well")]) as server:
            with pytest.raises(InvalidStatus) as refused:
                connect(server.url)
            assert refused.value.response.status_code == 429
            assert refused.value.response.headers["Retry-After"] == "7"
            assert refused.value.response.body == b"slow down"
            with connect(server.url) as client:
                assert client.recv() == "well"
        assert [request.target for request in server.requests] == ["/", "/"]

    def test_a_rejection_has_status_headers_and_body_and_ends_the_connection(self) -> None:
        rejection = t.reject(503, headers={"Retry-After": "30"}, body="Too busy")
        with t.ScriptedServer([rejection], [t.accept()]) as server:
            with pytest.raises(InvalidStatus) as refused:
                connect(server.url)
            answer = refused.value.response
            assert (answer.status_code, answer.body) == (503, b"Too busy")
            assert answer.headers["Retry-After"] == "30"
            assert answer.headers["Connection"] == "close"
            server.connection(0).wait_over()
            with connect(server.url):
                server.connection(1).wait_until(lambda: not server.connections[1].remaining)
                server.check_done()

    @pytest.mark.parametrize(
        ("status", "error", "said"),
        [
            (101, ValueError, "status=101: expected a whole number from 200 to 599"),
            ("503", TypeError, "status='503': expected a whole number"),
        ],
    )
    def test_a_rejection_with_an_impossible_status_is_refused(
        self, status: Any, error: type[Exception], said: str
    ) -> None:
        with pytest.raises(error, match=said):
            t.reject(status)

    def test_a_reset_and_a_cut_do_not_end_a_connection_cleanly(self) -> None:
        cut = [t.accept(), t.cut_after(3, with_fin=True), t.send("cut short")]
        with t.ScriptedServer([t.accept(), t.reset()], cut) as server:
            for _ in range(2):
                with connect(server.url) as client, pytest.raises(ConnectionClosedError):
                    client.recv()
        assert not server.connections[0].remaining
        assert not server.connections[1].remaining  # the step that was cut as planned is complete


class TestLochws:
    """lochws itself, for what is hard to see with a client that does everything right."""

    @pytest.mark.parametrize("secure", [False, True])
    def test_each_connection_has_its_script_and_the_last_one_repeats(
        self, secure: bool, server_tls: ssl.SSLContext, ca_file: str
    ) -> None:
        scripts = [[t.accept(), t.send("first"), t.fin()], [t.accept(), t.send("others"), t.reset()]]
        server = t.ScriptedServer(*scripts, tls=server_tls if secure else None)
        with server, running(Noting(server.url, ssl_cafile=ca_file), persist=AT_ONCE) as app:
            app.wait_for("disconnected", 3)
        assert [event.text for event in app.all("text")][:2] == ["first", "others"]
        assert len(server.connections) >= 3

    def test_after_the_last_script_it_can_refuse(self) -> None:
        with t.ScriptedServer([t.accept(), t.fin()], afterwards="refuse") as server:
            assert live(server.url) == ["ready", "disconnected"]
            assert live(server.url) == ["connect_fail"]

    def test_the_answer_and_frames_can_arrive_in_one_piece(self) -> None:
        script = [t.together(t.accept(), t.send("a"), t.send("b")), t.close()]
        with t.ScriptedServer(script) as server:
            assert live(server.url) == ["ready", "text", "text", "closing", "disconnected"]

    def test_header_fields_are_replaced_and_left_out(self) -> None:
        script = [t.upgrade(101, {"sec-websocket-accept": "nonsense", "Upgrade": None}), t.wait_for_end()]
        with t.ScriptedServer(script) as server:
            ws = WebSocket(server.url)
            rejected = next(event for event in ws if event.name == "rejected")
        assert rejected.response.get("sec-websocket-accept") == "nonsense"  # type: ignore[attr-defined]
        assert rejected.response.get("upgrade") is None  # type: ignore[attr-defined]

    def test_wrong_frames_are_sent_as_they_are(self) -> None:
        with t.ScriptedServer([t.accept(), t.send_frame(TEXT, b"\xff")]) as server:
            assert "protocol_error" in live(server.url)

    def test_silence_answers_nothing_but_records(self) -> None:
        with t.ScriptedServer([t.accept(), t.silence()]) as server:
            assert live(server.url, ping_rate=0.02, ping_timeout=0.1)[-2:] == ["unresponsive", "disconnected"]
            server.connections[0].wait_over()
        assert server.connections[0].pings
        assert not server.connections[0].remaining

    def test_silence_and_pauses_are_scaled(self) -> None:
        script = [t.accept(), t.silence(1000), t.pause(1000), t.send("at last")]
        with t.ScriptedServer(script, scale=1e-5) as server, opened(Noting(server.url)) as app:
            assert app.wait_for("text").text == "at last"

    def test_a_late_pong_is_late(self) -> None:
        script = [t.accept(), t.answer_ping(late=10)]
        with t.ScriptedServer(script, scale=0.01) as server, opened(Noting(server.url)) as app:
            assert app.wait_for("pong").latency >= 0.1

    def test_pings_can_stay_unanswered(self) -> None:
        script = [t.accept(), t.answer_ping(None), t.wait_for_ping(), t.send("pinged")]
        with t.ScriptedServer(script) as server, opened(Noting(server.url)) as app:
            app.wait_for("text")
            assert not app.all("pong")

    def test_a_close_frame_can_be_ignored(self) -> None:
        with t.ScriptedServer([t.accept(), t.ignore_close()]) as server:
            with opened(Noting(server.url), close_timeout=0.1) as app:
                app.close(4000, "that is all")
                assert not app.wait_for("disconnected").graceful
            server.connections[0].wait_over()
        assert server.connections[0].close_frame == (4000, "that is all")

    def test_what_is_not_read_stays_in_the_kernel_until_it_reads_on(self) -> None:
        script = [t.accept(), t.stop_reading(), t.send("deaf")]
        with t.ScriptedServer(script, receive_buffer=4096) as server, opened(Noting(server.url)) as app:
            app.wait_for("text")
            app.send_binary(bytes(8_000_000))
            assert server.connections[0].bytes_received < 4_000_000
            server.do(t.read_on())
            server.wait_until(lambda: bool(server.messages))
        assert server.messages == [bytes(8_000_000)]

    def test_tls_can_stall(self, server_tls: ssl.SSLContext) -> None:
        with t.ScriptedServer([t.tls_stall()], tls=server_tls) as server:
            ws = WebSocket(server.url, open_timeout=0.2)
            assert names(ws) == ["connecting", "connect_fail"]
            server.connection().wait_over()
        assert not server.requests

    def test_requests_can_be_left_unanswered(self) -> None:
        script = [t.wait_for_request(), lambda _: ws.close(), t.wait_for_end()]
        with t.ScriptedServer(script) as server:
            ws = WebSocket(server.url)
            assert names(ws) == ["connecting", "connected", "disconnected"]
            assert server.connection().request.method == "GET"

    def test_messages_are_waited_for_by_value_pattern_and_function(self) -> None:
        script = [
            t.accept(), t.wait_for("a"), t.wait_for(re.compile("b+")), t.wait_for(lambda m: m == b"c"),
            t.send("all"),
        ]
        with t.ScriptedServer(script) as server, opened(Noting(server.url)) as app:
            for message in ("x", "a", "a bbb"):
                app.send_text(message)
            app.send_binary(b"c")
            app.wait_for("text")

    def test_functions_of_the_user_are_steps_too(self) -> None:
        seen = threading.Event()
        script = [t.accept(), lambda connection: seen.set()]
        with t.ScriptedServer(script) as server, opened(Noting(server.url)):
            assert seen.wait(PATIENCE)


class TestTheTestInCharge:
    def test_steps_can_be_done_when_the_test_says_so(self) -> None:
        with t.ScriptedServer([t.accept()]) as server, opened(Noting(server.url)) as app:
            server.do(t.send("now"))
            assert app.wait_for("text").text == "now"
            server.do(t.reset())
            assert not app.wait_for("disconnected").graceful

    def test_waiting_for_a_step_ends_as_soon_as_it_is_done(self) -> None:
        with t.ScriptedServer([t.accept(), t.send("hello")], patience=5 * PATIENCE) as server:
            began = monotonic()
            with connect(server.url):
                server.connection().wait_until(lambda: not server.connections[0].remaining)
            assert monotonic() - began < PATIENCE

    def test_a_step_for_a_connection_that_has_ended_is_refused(self) -> None:
        with t.ScriptedServer([t.accept(), t.reset()]) as server:
            live(server.url)
            server.connection().wait_over()
            with pytest.raises(t.ScriptError, match="has ended"):
                server.do(t.send("too late"))

    def test_a_step_that_fails_raises_in_do_and_the_connection_goes_on(self) -> None:
        with t.ScriptedServer([t.accept()], patience=0.5) as server, connect(server.url) as client:
            with pytest.raises(t.ScriptError, match="no message 'never'"):
                server.do(t.wait_for("never"))
            server.do(t.send("still here"))
            assert client.recv() == "still here"

    def test_a_message_that_does_not_arrive_fails_the_test(self) -> None:
        server = t.ScriptedServer([t.accept(), t.wait_for("never")], patience=0.5)
        with (
            pytest.raises(t.ScriptError, match="no message 'never'"),
            server, connect(server.url) as client, pytest.raises(ConnectionClosed),
        ):
            client.recv()

    def test_waiting_for_a_connection_has_a_limit(self) -> None:
        with t.ScriptedServer(patience=0.02) as server, pytest.raises(TimeoutError):
            server.connection()

    @pytest.mark.parametrize(
        "data", [b"GET / HTTP/1.1\r\nnonsense\r\n\r\n", b"\x16\x03\x01\r\n\r\n"], ids=["header", "line"]
    )
    def test_bytes_that_are_not_a_request_fail_the_test(self, data: bytes) -> None:
        server = t.ScriptedServer()
        with closing(server), socket.create_connection((server.host, server.port)) as sock:
            sock.sendall(data)
            server.connection().wait_over()
        with pytest.raises(t.ScriptError, match="did not send an HTTP request"):
            server.check()

    @pytest.mark.parametrize(
        "data", [frame(TEXT, b"unmasked"), frame(PONG, bytes(126), key=b"keys")], ids=["unmasked", "long"]
    )
    def test_a_client_that_breaks_the_protocol_fails_the_test(self, data: bytes) -> None:
        request = b"GET / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        server = t.ScriptedServer()
        with closing(server), socket.create_connection((server.host, server.port)) as sock:
            sock.sendall(request + data)
            server.connection().wait_over()
        with pytest.raises(t.ScriptError, match="broke the protocol"):
            server.check()


@pytest.mark.parametrize(
    "script",
    [
        [t.accept()], [t.accept(), t.silence()], [t.wait_for_request()], [t.tls_stall()],
        [t.accept(), t.stop_reading()],
    ],
    ids=str,
)
def test_its_threads_end_with_it_whatever_a_script_waits_for(script: list[t.Step]) -> None:
    server = t.ScriptedServer(script)
    with socket.create_connection((server.host, server.port)) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" if len(script) > 1 else b"GET")
        server.connection()
        server.close()
    server.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("scripted-server")]
    assert server.connections[0].failure is None


@pytest.mark.parametrize(
    ("scripts", "options", "error", "sentence"),
    [
        # The most likely mistake: the steps of one script, without their list.
        ([t.accept(), t.send("hello")], {}, TypeError, r"script accept\(.*\): expected a list of steps"),
        ([[t.accept(), "hello"]], {}, TypeError, r"'hello'\]: expected a list of steps"),
        ([[t.accept, t.echo()]], {}, TypeError, r"step accept: write accept\(…\), which returns the step"),
        ([[t.accept(), t.wait_for]], {}, TypeError, r"step wait_for: write wait_for\(…\)"),
        ([], {"port": 65536}, ValueError, "port=65536: expected a whole number from 0 to 65535"),
        ([], {"port": "80"}, TypeError, "port='80': expected a whole number"),
        (["hello"], {}, TypeError, "script 'hello'"),
        ([], {"afterwards": "stop"}, ValueError, "afterwards='stop': expected 'repeat' or 'refuse'"),
    ],
)
def test_a_script_that_is_not_a_list_of_steps_is_refused_at_once(
    scripts: list[Any], options: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        t.ScriptedServer(*scripts, **options)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"tls": True}, TypeError, "tls=True: expected an ssl.SSLContext, or None"),
        ({"patience": -1}, ValueError, "patience=-1"),
        ({"scale": "1"}, TypeError, "scale='1'"),
        ({"afterwards": "stop"}, ValueError, "afterwards='stop': expected 'repeat' or 'refuse'"),
        ({"host": "192.0.2.1"}, OSError, "address"),
    ],
    ids=str,
)
def test_a_server_that_refuses_its_arguments_has_a_repr(
    arguments: dict[str, Any], error: type[Exception], said: str
) -> None:
    server = t.ScriptedServer.__new__(t.ScriptedServer)
    with pytest.raises(error, match=said):
        server.__init__(**arguments)  # type: ignore[misc]
    assert repr(server) == "<ScriptedServer, not listening>"


def test_its_description_says_how_far_scripts_have_come_and_what_was_sent() -> None:
    def fail(connection: t.ServerConnection) -> None:
        raise ValueError("wrong")

    server = t.ScriptedServer([t.accept(), fail], [t.accept(), t.wait_for("x")], [t.accept()])
    with closing(server):
        with suppress(ConnectionClosed), connect(server.url) as client:
            client.recv()
        with connect(server.url) as client, connect(server.url):
            for number in range(25):
                client.send(str(number) + "." * 300)
            client.send("last")
            server.wait_until(lambda: len(server.messages) == 26 and not server.connections[2].remaining)
            lines = server.describe().splitlines()
        server.connection(1).wait_over()
        after = server.describe().splitlines()
    assert lines[0] == f"<ScriptedServer {server.url}, 3 connections>"
    assert lines[1].startswith("  connection 0: the script failed at <function")
    assert ": wrong; the client sent no message" in lines[1]
    assert lines[2].startswith(
        "  connection 1: the script is at wait_for('x'); the client sent 6 messages and then '6..."
    )
    assert lines[2].endswith(", 'last'")
    assert len(lines[2]) < 21 * 210
    assert lines[3] == (
        "  connection 2: the script is complete, and the connection is open; the client sent no message"
    )
    assert "the connection has ended, and the script is at wait_for('x')" in after[2]
    assert after[2].endswith(" and a Close frame with code 1000")


def test_each_script_must_be_completed_once_and_repetitions_of_the_last_need_not() -> None:
    with t.ScriptedServer([t.accept(), t.wait_for("hello")]) as server:
        with connect(server.url) as client:
            client.send("hello")
            server.wait_until(lambda: not server.connections[0].remaining)
        with connect(server.url):
            assert server.connection(1).remaining
        server.check_done()
    with t.ScriptedServer([t.accept(), t.fin()], [t.accept(), t.wait_for("hello")]) as server:
        for number in range(2):
            with connect(server.url):
                server.connection(number)
        with pytest.raises(t.ScriptError, match=r"connection 1 of .* steps left: wait_for\('hello'\)"):
            server.check_done()


def test_a_client_that_does_not_read_cannot_hold_the_server_for_ever() -> None:
    server = t.ScriptedServer([t.accept(), t.send(bytes(30_000_000))], patience=0.5)
    request = b"GET / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    with closing(server), socket.create_connection((server.host, server.port)) as sock:
        sock.sendall(request)
        eventually(lambda: bool(server.connections) and server.connections[0].is_over)
    with pytest.raises(TimeoutError, match="the client stalled the server"):
        server.check()


def test_without_wsproto_it_says_what_to_install() -> None:
    program = (
        "import sys\n"
        "sys.modules['wsproto'] = None\n"
        "try:\n"
        "    import lochws.testing\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    command = [sys.executable, "-W", "error", "-c", program]
    run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert run.stdout == "lochws.testing needs h11 and wsproto: pip install 'lochws[testing]'\n"


def test_the_example_in_the_documentation_runs() -> None:
    class MyApp(WebSocketApp):
        def __init__(self, url: str) -> None:
            super().__init__(url, headers={"Authorization": "Bearer secret"})

        def start(self) -> None:  # type: ignore[override]
            super().start(persist=AT_ONCE)

        def on_ready(self, event: object) -> None:
            self.send_text("subscribe")

    assert t.__doc__ is not None
    (example,) = re.findall(r"::\n\n((?: {4}.*\n|\n)+)", t.__doc__)
    exec(textwrap.dedent(example), {"MyApp": MyApp})

"""`create_connection` and `WebSocket`: each test runs over the drop-in and over websocket-client."""

from __future__ import annotations

import gc
import select
import socket
import ssl
import threading
from contextlib import closing
from types import ModuleType
from typing import Any

import pytest

from lochws.testing import (
    StartServer,
    accept,
    close,
    fin,
    ignore_close,
    ping,
    reject,
    reset,
    send,
    send_frame,
    upgrade,
    wait_for,
    wait_for_close,
    wait_for_end,
)

from ..support.ports import free_port
from ..support.seen import PATIENCE, in_thread

# The original leaves its socket open when the server closes the connection.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


def test_text_and_binary_messages_go_both_ways(websocket: ModuleType, ws_server: StartServer) -> None:
    server = ws_server()
    with closing(websocket.create_connection(server.url, timeout=PATIENCE)) as ws:
        assert ws.connected
        assert ws.send("grüße") == 13
        assert ws.recv() == "grüße"
        assert ws.send_binary(b"x" * 200) == 208
        assert ws.recv() == b"x" * 200
        assert ws.send_bytes(bytearray(70_000)) == 70_014
        assert ws.recv() == bytes(70_000)
        assert ws.send_text("") == 6
        assert ws.recv_data() == (websocket.ABNF.OPCODE_TEXT, b"")
        assert ws.send("grüße".encode()) == 13
        assert ws.recv() == "grüße"
        assert ws.send("\xff\x00", websocket.ABNF.OPCODE_BINARY) == 8
        assert ws.recv() == b"\xff\x00"
    assert not ws.connected
    assert ws.sock is None


def test_fragments_arrive_as_one_message(websocket: ModuleType, ws_server: StartServer) -> None:
    server = ws_server()
    abnf = websocket.ABNF
    with closing(websocket.create_connection(server.url, timeout=PATIENCE)) as ws:
        assert ws.send_frame(abnf.create_frame("one ", abnf.OPCODE_TEXT, 0)) == 10
        assert ws.send_frame(abnf.create_frame(b"two ", abnf.OPCODE_CONT, 0)) == 10
        ws.ping("between")
        assert ws.send_frame(abnf.create_frame(b"three", abnf.OPCODE_CONT, 1)) == 11
        assert ws.recv() == "one two three"


def test_control_frames_are_returned_on_request(websocket: ModuleType, ws_server: StartServer) -> None:
    server = ws_server([accept(), ping(b"1"), send("a"), ping(b"2"), send("b"), close(4000, "enough")])
    abnf = websocket.ABNF
    ws = websocket.create_connection(server.url, timeout=PATIENCE)
    assert ws.recv() == "a"
    opcode, frame = ws.recv_data_frame(True)
    assert (opcode, frame.opcode, frame.fin, frame.data) == (abnf.OPCODE_PING, abnf.OPCODE_PING, 1, b"2")
    assert ws.recv_frame().data == b"b"
    opcode, frame = ws.recv_data_frame()
    assert (opcode, frame.data) == (abnf.OPCODE_CLOSE, b"\x0f\xa0enough")
    assert not ws.connected
    with pytest.raises(websocket.WebSocketConnectionClosedException):
        ws.recv()
    assert ws.sock is None


def test_an_own_ping_is_answered(websocket: ModuleType, ws_server: StartServer) -> None:
    server = ws_server()
    with closing(websocket.create_connection(server.url, timeout=PATIENCE)) as ws:
        ws.ping("sent")
        assert ws.recv_data(control_frame=True) == (websocket.ABNF.OPCODE_PONG, b"sent")
        ws.pong(b"unasked")
        ws.send("after")
        assert ws.recv() == "after"
    assert server.connections[0].pongs == [b"unasked"]


def test_a_close_frame_is_an_empty_string_to_recv(websocket: ModuleType, ws_server: StartServer) -> None:
    server = ws_server([accept(), close(1000)])
    ws = websocket.create_connection(server.url, timeout=PATIENCE)
    assert ws.recv() == ""
    with pytest.raises(websocket.WebSocketConnectionClosedException):
        next(ws)


def test_iteration_yields_messages_until_the_end(websocket: ModuleType, ws_server: StartServer) -> None:
    server = ws_server([accept(), send("1"), send(b"2"), fin()])
    ws = websocket.create_connection(server.url, timeout=PATIENCE)
    iterator = iter(ws)
    seen = [next(iterator), next(iterator)]
    with pytest.raises(websocket.WebSocketConnectionClosedException):
        next(iterator)
    assert seen == ["1", b"2"]
    assert not ws.connected
    assert ws.sock is None


def test_the_code_and_the_reason_reach_the_server(websocket: ModuleType, ws_server: StartServer) -> None:
    server = ws_server()
    ws = websocket.create_connection(server.url, timeout=PATIENCE)
    ws.close(status=4001, reason=b"bye")
    connection = server.connection(0)
    connection.wait_until(lambda: connection.close_frame is not None)
    assert connection.close_frame == (4001, "bye")
    assert ws.close_frame.data[:2] == b"\x0f\xa1"
    ws.close()
    with pytest.raises(websocket.WebSocketConnectionClosedException):
        ws.send("late")
    with pytest.raises(websocket.WebSocketConnectionClosedException):
        ws.recv()


def test_close_does_not_wait_longer_than_its_timeout(websocket: ModuleType, ws_server: StartServer) -> None:
    server = ws_server([accept(), ignore_close(), wait_for_end()])
    ws = websocket.create_connection(server.url, timeout=PATIENCE)
    ws.close(timeout=0.1)
    assert ws.close_frame is None
    assert ws.sock is None


def test_two_threads_that_close_send_the_close_frame_of_the_first(
    websocket: ModuleType, ws_server: StartServer
) -> None:
    server = ws_server()
    first_is_in, go = threading.Event(), threading.Event()

    class Slow(websocket.WebSocket):  # type: ignore[misc,name-defined]
        def send(self, payload: Any, opcode: int = 1) -> Any:
            first_is_in.set()
            assert go.wait(PATIENCE)
            return super().send(payload, opcode)

    ws = Slow()
    ws.connect(server.url)
    first = in_thread(lambda: ws.close(status=4001, reason="first"))
    assert first_is_in.wait(PATIENCE)
    second = in_thread(lambda: ws.close(status=4002, reason="second"))
    second.join(0.1)  # it may wait for the first, or return
    go.set()
    for thread in (first, second):
        thread.join(PATIENCE)
        assert not thread.is_alive()
    connection = server.connections[0]
    connection.wait_until(lambda: connection.close_frame is not None)
    assert connection.close_frame == (4001, "first")
    assert ws.close_frame.data[:2] == b"\x0f\xa1"


def test_after_send_close_the_rest_is_received(websocket: ModuleType, ws_server: StartServer) -> None:
    server = ws_server([
        accept(), ignore_close(), wait_for_close(), send_frame(1, b"last"), send_frame(8, b"\x03\xe8"),
        wait_for_end(),
    ])
    ws = websocket.create_connection(server.url, timeout=PATIENCE)
    ws.send_close(reason="done")
    assert not ws.connected
    assert ws.recv() == "last"
    assert ws.recv_data_frame()[0] == websocket.ABNF.OPCODE_CLOSE


@pytest.mark.parametrize("status", [-1, 70_000])
def test_an_impossible_code_is_refused(websocket: ModuleType, ws_server: StartServer, status: int) -> None:
    with closing(websocket.create_connection(ws_server().url, timeout=PATIENCE)) as ws:
        with pytest.raises(ValueError):
            ws.close(status)
        with pytest.raises(ValueError):
            ws.send_close(status)


def test_a_timeout_of_recv(websocket: ModuleType, ws_server: StartServer) -> None:
    server = ws_server()
    with closing(websocket.create_connection(server.url, timeout=PATIENCE)) as ws:
        ws.settimeout(0.05)
        assert ws.gettimeout() == ws.timeout == ws.sock.gettimeout() == 0.05
        with pytest.raises(websocket.WebSocketTimeoutException, match="timed out"):
            ws.recv()
        ws.settimeout(PATIENCE)
        assert ws.sock.gettimeout() == PATIENCE
        ws.send("still open")
        assert ws.recv() == "still open"
        ws.settimeout(0)
        with pytest.raises(BlockingIOError):
            ws.recv()
        ws.timeout = PATIENCE
        ws.send("again")
        assert ws.recv() == "again"


def test_the_default_timeout(websocket: ModuleType, ws_server: StartServer) -> None:
    assert websocket.getdefaulttimeout() is None
    websocket.setdefaulttimeout(PATIENCE)
    try:
        with closing(websocket.create_connection(ws_server().url)) as ws:
            assert ws.gettimeout() == ws.sock.gettimeout() == PATIENCE
    finally:
        websocket.setdefaulttimeout(None)


def test_the_descriptor_tells_when_there_is_something_to_receive(
    websocket: ModuleType, ws_server: StartServer
) -> None:
    server = ws_server([accept(), wait_for("go"), send("1"), send("2"), wait_for("end"), fin()])
    with closing(websocket.create_connection(server.url, timeout=PATIENCE)) as ws:
        poll = select.poll()
        poll.register(ws.sock, select.POLLIN)
        assert poll.poll(0) == []
        assert select.select([ws], [], [], 0)[0] == []
        ws.send("go")
        assert select.select([ws.sock], [], [], PATIENCE)[0] == [ws.sock]
        assert ws.recv() == "1"
        assert poll.poll(PATIENCE * 1000) == [(ws.fileno(), select.POLLIN)]
        assert ws.recv() == "2"
        assert poll.poll(0) == []
        ws.send("end")
        assert select.select([ws], [], [], PATIENCE)[0] == [ws]
        with pytest.raises(websocket.WebSocketConnectionClosedException):
            ws.recv()


@pytest.mark.parametrize("is_secure", [False, True], ids=["plain", "tls"])
def test_the_socket_has_addresses_and_options(
    websocket: ModuleType, ws_server: StartServer, server_tls: ssl.SSLContext, ca_file: str, is_secure: bool
) -> None:
    server = ws_server(tls=server_tls if is_secure else None)
    options = {"sslopt": {"ca_certs": ca_file}, "sockopt": [(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)]}
    with closing(websocket.create_connection(server.url, timeout=PATIENCE, **options)) as ws:
        assert ws.sock.getpeername() == ("127.0.0.1", server.port)
        assert ws.sock.getsockname()[0] == "127.0.0.1"
        assert ws.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) < 20_000
        ws.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        assert ws.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0
        sock = ws.sock
    with pytest.raises(OSError):
        sock.getpeername()


def test_the_handshake_is_remembered(websocket: ModuleType, ws_server: StartServer) -> None:
    server = ws_server([accept(protocol="Two"), wait_for_end()])
    offer = ["one", "Two"]
    with closing(websocket.create_connection(server.url, subprotocols=offer, timeout=PATIENCE)) as ws:
        assert ws.getstatus() == ws.status == ws.handshake_response.status == 101
        assert ws.getsubprotocol() == ws.subprotocol == "two"
        assert ws.getheaders()["upgrade"].lower() == ws.headers["upgrade"].lower() == "websocket"
        assert not ws.is_ssl()
        assert server.requests[0].headers["sec-websocket-protocol"].replace(" ", "") == "one,Two"


@pytest.mark.parametrize(
    "header", [{"X-Token": "abc", "X-None": None}, ["X-Token: abc"]], ids=["dict", "list"]
)
def test_the_request_is_what_was_asked_for(
    websocket: ModuleType, ws_server: StartServer, header: Any
) -> None:
    server = ws_server()
    ws = websocket.create_connection(
        f"{server.url}path?query=1", header=header, cookie="a=b", origin="https://elsewhere", host="other:1",
        timeout=PATIENCE,
    )
    ws.close()
    request = server.requests[0]
    assert request.target == "/path?query=1"
    headers = request.headers
    assert headers["x-token"] == "abc"
    assert "x-none" not in headers
    assert (headers["cookie"], headers["origin"], headers["host"]) == ("a=b", "https://elsewhere", "other:1")
    assert "user-agent" not in headers


def test_an_origin_is_sent_unless_it_is_suppressed(websocket: ModuleType, ws_server: StartServer) -> None:
    server = ws_server([accept()], [accept()])
    websocket.create_connection(server.url, timeout=PATIENCE).close()
    websocket.create_connection(server.url, timeout=PATIENCE, suppress_origin=True).close()
    assert server.requests[0].headers["origin"] == server.url.replace("ws:", "http:").rstrip("/")
    assert "origin" not in server.requests[1].headers


def test_subprotocols_may_be_given_as_a_header(websocket: ModuleType, ws_server: StartServer) -> None:
    server = ws_server([accept(protocol="v4"), wait_for_end()])
    header = ["sec-websocket-protocol: v5,v4"]
    with closing(websocket.create_connection(server.url, header=header, timeout=PATIENCE)) as ws:
        assert ws.getheaders()["sec-websocket-protocol"] == "v4"


def test_a_server_that_agrees_to_no_subprotocol_is_refused(
    websocket: ModuleType, ws_server: StartServer
) -> None:
    server = ws_server([accept(), wait_for_end()])
    with pytest.raises(websocket.WebSocketException):
        websocket.create_connection(server.url, subprotocols=["one"], timeout=PATIENCE)


def test_a_refusal_has_its_status_headers_and_body(websocket: ModuleType, ws_server: StartServer) -> None:
    server = ws_server([reject(403, headers={"X-Why": "no token"}, body="sorry")])
    with pytest.raises(websocket.WebSocketBadStatusException, match=r"^Handshake status 403 Forb") as info:
        websocket.create_connection(server.url, timeout=PATIENCE)
    error = info.value
    assert (error.status_code, error.status_message, error.resp_body) == (403, "Forbidden", b"sorry")
    assert error.resp_headers["x-why"] == "no token"


def test_redirects_are_followed_up_to_a_limit(websocket: ModuleType, ws_server: StartServer) -> None:
    target = ws_server([accept(), send("there"), wait_for_end()])
    server = ws_server([upgrade(302, {"Location": target.url})], [upgrade(302, {"Location": target.url})])
    with closing(websocket.create_connection(server.url, timeout=PATIENCE)) as ws:
        assert ws.recv() == "there"
    with pytest.raises(websocket.WebSocketException) as info:
        websocket.create_connection(server.url, timeout=PATIENCE, redirect_limit=0)
    assert not isinstance(info.value, websocket.WebSocketBadStatusException)


def test_nothing_listens(websocket: ModuleType) -> None:
    with pytest.raises(ConnectionRefusedError):
        websocket.create_connection(f"ws://127.0.0.1:{free_port()}", timeout=PATIENCE)


def test_the_host_does_not_exist(websocket: ModuleType) -> None:
    with pytest.raises(websocket.WebSocketAddressException):
        websocket.create_connection("ws://name.invalid", timeout=PATIENCE)


@pytest.mark.parametrize("url", ["example.com", "ws//example.com", "ftp://example.com", "ws://"])
def test_an_invalid_url_is_refused(websocket: ModuleType, url: str) -> None:
    with pytest.raises(ValueError):
        websocket.create_connection(url, timeout=PATIENCE)


def test_the_server_does_not_answer_the_request(websocket: ModuleType, ws_server: StartServer) -> None:
    server = ws_server([wait_for_end()])
    for timeout in (0.5, 5.0, PATIENCE):
        # If the machine stalls, the time may be over before the request has been sent.
        with pytest.raises((websocket.WebSocketTimeoutException, TimeoutError)) as info:
            websocket.create_connection(server.url, timeout=timeout)
        if info.type is not TimeoutError:
            break
    assert info.type is websocket.WebSocketTimeoutException


def test_a_reset_is_an_os_error(websocket: ModuleType, ws_server: StartServer) -> None:
    server = ws_server([accept(), send("1"), wait_for("go"), reset()])
    ws = websocket.create_connection(server.url, timeout=PATIENCE)
    assert ws.recv() == "1"
    ws.send("go")
    with pytest.raises(ConnectionResetError):
        ws.recv()
    with pytest.raises(websocket.WebSocketConnectionClosedException):
        ws.recv()


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        (send_frame(1, b"\xff"), "WebSocketPayloadException"),
        (send_frame(1, b"x", rsv=4), "WebSocketProtocolException"),
        (send_frame(0, b"x"), "WebSocketProtocolException"),
        (send_frame(3, b"x"), "WebSocketProtocolException"),
        (send_frame(8, b"\x03\xed"), "WebSocketProtocolException"),
    ],
    ids=["utf8", "reserved bit", "continuation", "opcode", "close code"],
)
def test_a_violation_of_the_protocol(
    websocket: ModuleType, ws_server: StartServer, frame: Any, kind: str
) -> None:
    server = ws_server([accept(), frame, wait_for_end()])
    ws = websocket.create_connection(server.url, timeout=PATIENCE)
    with closing(ws), pytest.raises(getattr(websocket, kind)):
        ws.recv()


@pytest.mark.parametrize(
    "options", ["ca_certs", "context", "unverified", "environment"],
)
def test_tls(
    websocket: ModuleType, ws_server: StartServer, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext,
    ca_file: str, options: str, monkeypatch: pytest.MonkeyPatch,
) -> None:
    sslopt: dict[str, Any] | None = {
        "ca_certs": {"ca_certs": ca_file, "server_hostname": "localhost"},
        "context": {"context": client_tls},
        "unverified": {"cert_reqs": ssl.CERT_NONE, "check_hostname": False},
    }.get(options)
    if options == "environment":
        monkeypatch.setenv("WEBSOCKET_CLIENT_CA_BUNDLE", ca_file)
    server = ws_server(tls=server_tls)
    with closing(websocket.create_connection(server.url, timeout=PATIENCE, sslopt=sslopt or {})) as ws:
        assert ws.is_ssl()
        ws.send("secret")
        assert ws.recv() == "secret"


def test_a_certificate_of_an_unknown_authority(
    websocket: ModuleType, ws_server: StartServer, server_tls: ssl.SSLContext
) -> None:
    server = ws_server([wait_for_end()], tls=server_tls)
    with pytest.raises(ssl.SSLCertVerificationError):
        websocket.create_connection(server.url, timeout=PATIENCE)


def test_a_prepared_socket(websocket: ModuleType, ws_server: StartServer) -> None:
    server = ws_server()
    sock = socket.create_connection(("127.0.0.1", server.port))
    with closing(websocket.create_connection(server.url, timeout=PATIENCE, socket=sock)) as ws:
        ws.send("over it")
        assert ws.recv() == "over it"


def test_a_subclass_can_be_created(websocket: ModuleType, ws_server: StartServer) -> None:
    class Own(websocket.WebSocket):  # type: ignore[misc, name-defined]  # either class
        def recv(self) -> Any:
            return ["own", super().recv()]

    with closing(websocket.create_connection(ws_server().url, timeout=PATIENCE, class_=Own)) as ws:
        ws.send("x")
        assert ws.recv() == ["own", "x"]


def test_what_was_not_connected(websocket: ModuleType) -> None:
    ws = websocket.WebSocket()
    with pytest.raises(websocket.WebSocketException):
        ws.fileno()
    for call in (ws.recv, lambda: ws.send("x"), ws.ping):
        with pytest.raises(websocket.WebSocketConnectionClosedException):
            call()
    assert (ws.getstatus(), ws.getheaders(), ws.getsubprotocol()) == (None, None, None)
    ws.close()
    ws.abort()
    ws.shutdown()


def test_a_dropped_websocket_closes_its_connection(websocket: ModuleType, ws_server: StartServer) -> None:
    server = ws_server([accept(), wait_for_end()])
    ws = websocket.create_connection(server.url, timeout=PATIENCE)
    connection = server.connection(0)
    del ws
    gc.collect()
    connection.wait_until(lambda: connection.is_over)


def test_any_thread_may_send(websocket: ModuleType, ws_server: StartServer) -> None:
    server = ws_server()
    with closing(websocket.create_connection(server.url, timeout=PATIENCE)) as ws:
        def send_some(name: int) -> None:
            for number in range(50):
                ws.send(f"{name} {number}")

        threads = [threading.Thread(target=send_some, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        seen = [ws.recv().split() for _ in range(200)]
        for thread in threads:
            thread.join()
    for name in range(4):
        assert [int(number) for who, number in seen if who == str(name)] == list(range(50))


def test_enable_trace_logs_frames(
    websocket: ModuleType, ws_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    websocket.enableTrace(True, handler=caplog.handler)
    try:
        assert websocket.isEnabledForTrace()
        with closing(websocket.create_connection(ws_server().url, timeout=PATIENCE)) as ws:
            ws.send("traced")
            assert ws.recv() == "traced"
    finally:
        websocket.enableTrace(False)
    assert not websocket.isEnabledForTrace()
    lines = [record.getMessage() for record in caplog.records if record.name == "websocket"]
    assert sum("traced" in line for line in lines) >= 2


def test_the_exceptions_have_one_base(websocket: ModuleType) -> None:
    for name in ("Protocol", "Payload", "ConnectionClosed", "Timeout", "Proxy", "BadStatus", "Address"):
        assert issubclass(getattr(websocket, f"WebSocket{name}Exception"), websocket.WebSocketException)
    assert websocket.WebSocketException.__base__ is Exception
    error = websocket.WebSocketBadStatusException("text", 404, "Not Found", {"a": "b"}, b"body")
    assert (str(error), error.status_code, error.status_message) == ("text", 404, "Not Found")
    assert (error.resp_headers, error.resp_body) == ({"a": "b"}, b"body")


def test_frames_are_formatted_as_rfc_6455_says(websocket: ModuleType) -> None:
    abnf = websocket.ABNF
    frame = abnf.create_frame("Hello", abnf.OPCODE_TEXT)
    frame.get_mask_key = lambda size: b"abcd"[:size]
    assert frame.format() == b"\x81\x85abcd)\x07\x0f\x08\x0e"
    assert str(abnf(1, 0, 0, 0, abnf.OPCODE_TEXT, 0, "hi")) == "fin=1 opcode=1 data=hi"
    assert abnf(1, 0, 0, 0, abnf.OPCODE_BINARY, 0, bytes(300)).format() == b"\x82\x7e\x01\x2c" + bytes(300)
    large = abnf(1, 0, 0, 0, abnf.OPCODE_BINARY, 0, bytes(65536)).format()
    assert large[:10] == b"\x82\x7f" + b"\0" * 5 + b"\1\0\0"
    with pytest.raises(ValueError):
        abnf(1, 0, 0, 0, 5, 1, b"").format()
    for wrong in (abnf(1, 1), abnf(1, 0, 0, 0, 5), abnf(0, 0, 0, 0, 9), abnf(1, 0, 0, 0, 8, 1, b"\3")):
        with pytest.raises(websocket.WebSocketProtocolException):
            wrong.validate()


def test_every_constant_has_the_same_value() -> None:
    import websocket as original

    from lochws.compat import websocket as ours

    names = [name for name in dir(original) if name.startswith("STATUS_") or name == "DEFAULT_SOCKET_OPTION"]
    assert len(names) > 12
    for name in names:
        assert getattr(ours, name) == getattr(original, name)
    for name in dir(original.ABNF):
        if name.isupper():
            assert getattr(ours.ABNF, name) == getattr(original.ABNF, name)



"""The scripted server without a history: one that runs for long, and that strangers talk to."""

from __future__ import annotations

import http.client
import logging
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from lochws import testing as t
from lochws.testing import connection as limits

from ..support.peer import TEXT, frame
from ..support.seen import PATIENCE, eventually
from ..support.threaded_websockets import connect

KEY = "AAAAAAAAAAAAAAAAAAAAAA=="
REQUEST = (
    "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
    f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
).encode()
ECHO = [t.accept(deflate=True, strict=True), t.echo()]


@pytest.fixture
def clients() -> Iterator[ExitStack]:
    """Closes the clients that a test enters into it."""
    with ExitStack() as stack:
        yield stack


def serving(*script: t.Step, **options: Any) -> t.ScriptedServer:
    return t.ScriptedServer(list(script or ECHO), history=False, **options)


def raw(server: t.ScriptedServer) -> socket.socket:
    """A client that has asked for the upgrade, byte by byte."""
    sock = socket.create_connection((server.host, server.port), PATIENCE)
    sock.sendall(REQUEST)
    assert sock.recv(12) == b"HTTP/1.1 101"
    return sock


def said_at_the_end(client: ClientConnection) -> tuple[int, str]:
    """The code and reason that the server closes with."""
    with pytest.raises(ConnectionClosed) as closed:
        client.recv(PATIENCE)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


def test_a_hundred_clients_are_served_at_once_and_forgotten_afterwards() -> None:
    def talk(number: int) -> bool:
        with connect(server.url) as client:
            together.wait(PATIENCE)
            for count in range(20):
                client.send(f"{number} {count} " + "x" * 1000)
                assert client.recv(PATIENCE).startswith(f"{number} {count} ")
        return True

    together = threading.Barrier(100)
    with serving() as server, ThreadPoolExecutor(100) as pool:
        assert all(pool.map(talk, range(100)))
        eventually(lambda: not server.connections)


def test_clients_that_vanish_leave_nothing_behind(server_tls: ssl.SSLContext) -> None:
    half = REQUEST + frame(TEXT, b"x" * 9, key=b"keys")[:9]
    for tls in (None, server_tls):
        with serving(tls=tls) as server:
            for sent in (b"", b"GET", b"\x16\x03\x01", REQUEST, half):
                with socket.create_connection((server.host, server.port)) as sock:
                    sock.sendall(sent)
            eventually(lambda: not server.connections)
            server.check()


def test_a_browser_is_told_that_this_is_a_websocket_server_and_may_upgrade_later() -> None:
    upgrade = {"Upgrade": "WebSocket", "Connection": "keep-alive, Upgrade"}
    with serving() as server:
        plain = http.client.HTTPConnection(server.host, server.port, timeout=PATIENCE)
        for method, headers, status in [
            ("GET", {}, 426), ("POST", {}, 405), ("GET", {"Upgrade": "h2c", "Connection": "Upgrade"}, 426),
            ("GET", {**upgrade, "Sec-WebSocket-Version": "8"}, 426),
            ("GET", {**upgrade, "Sec-WebSocket-Version": "13"}, 400),
            ("GET", {**upgrade, "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "short"}, 400),
        ]:
            plain.request(method, "/", headers=headers)
            answer = plain.getresponse()
            text = answer.read()
            assert answer.status == status
            assert text
        assert plain.sock is not None
        plain.sock.sendall(REQUEST)
        assert plain.sock.recv(12) == b"HTTP/1.1 101"
        plain.close()


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"x" * 100_000])
def test_bytes_that_are_not_http_are_refused_with_400(data: bytes) -> None:
    with serving() as server, socket.create_connection((server.host, server.port), PATIENCE) as sock:
        sock.sendall(data)
        assert sock.recv(100).startswith(b"HTTP/1.1 400 ")
        assert not sock.recv(100)


def test_a_frame_that_breaks_the_protocol_is_answered_with_1002() -> None:
    with serving() as server, raw(server) as sock:
        sock.sendall(frame(3, b"", key=b"keys"))
        received = b""
        while chunk := sock.recv(1000):
            received += chunk
        assert b"\x88" in received
        assert (1002).to_bytes(2, "big") in received


def test_a_message_that_is_too_large_is_answered_with_1009(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_MESSAGE", 100_000)
    with serving() as server, connect(server.url, max_size=None) as client:
        client.send(bytes(100_000))
        assert client.recv(PATIENCE) == bytes(100_000)
        client.send(bytes(100_001))
        assert said_at_the_end(client)[0] == 1009


def test_a_client_that_sends_too_much_is_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_INBOX", 10)
    go_on = threading.Event()

    def count(connection: t.ServerConnection) -> None:
        while not go_on.is_set():
            connection.stay(seconds=0.01)
        numbers = [int(message) for _, message in zip(range(5000), connection, strict=False)]
        connection.send(str(numbers == list(range(5000))))

    with serving(t.accept(), count, t.close()) as server, connect(server.url) as client:
        sender = threading.Thread(target=lambda: [client.send(str(number)) for number in range(5000)])
        sender.start()
        server.connection().wait_until(lambda: len(server.connections[0].messages) >= 10)
        go_on.set()
        assert client.recv(PATIENCE) == "True"
        sender.join()


def test_any_thread_may_send_to_any_client_and_none_waits_for_another(clients: ExitStack) -> None:
    server = clients.enter_context(serving(t.accept(), t.wait_for_end()))
    receivers = [clients.enter_context(connect(server.url)) for _ in range(3)]
    server.connection(2)

    def send(number: int) -> None:
        for count in range(100):
            for connection in server.connections:
                assert connection.send(f"{number} {count}")

    threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for receiver in receivers:
        received = [str(receiver.recv(PATIENCE)).split() for _ in range(400)]
        for number in range(4):
            assert [count for who, count in received if who == str(number)] == list(map(str, range(100)))
    for thread in threads:
        thread.join()


def test_a_client_that_does_not_read_is_dropped_and_the_sender_does_not_wait(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_OUTBOX", 1_000_000)
    with serving(t.accept(), t.wait_for_end()) as server, raw(server) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection = server.connection()
        sent = 0
        while connection.send(bytes(100_000)):
            sent += 1
            assert sent < 1000
        eventually(lambda: not server.connections)


def test_closing_it_says_goodbye_with_1001() -> None:
    with serving() as server, connect(server.url) as client:
        client.send("hello")
        client.recv(PATIENCE)
        server.close()
        assert said_at_the_end(client) == (1001, "the server is shutting down")


def test_a_script_that_fails_is_logged_and_ends_its_connection_with_1011_only(
    caplog: pytest.LogCaptureFixture
) -> None:
    def divide(connection: t.ServerConnection) -> None:
        for message in connection:
            connection.send(str(1 / int(message)))

    with serving(t.accept(), divide) as server, connect(server.url) as other:
        with connect(server.url) as client, caplog.at_level(logging.ERROR, "lochws.testing"):
            client.send("0")
            assert said_at_the_end(client)[0] == 1011
            eventually(lambda: len(server.connections) == 1)
        other.send("4")
        assert other.recv(PATIENCE) == "0.25"
    assert "ZeroDivisionError" in caplog.text


def test_a_connection_can_be_dropped_by_any_thread() -> None:
    with serving() as server, connect(server.url) as client:
        server.connection().drop()
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(PATIENCE)
        assert closed.value.rcvd is None


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="what is open cannot be counted")
def test_it_goes_on_when_there_are_descriptors_again(clients: ExitStack) -> None:
    import resource

    server = clients.enter_context(serving())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = [socket.socket() for _ in range(50)]
    highest = max(map(int, os.listdir("/proc/self/fd")))
    waiting = clients.enter_context(socket.socket())
    waiting.settimeout(PATIENCE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
        while True:
            try:
                held.append(socket.socket())
            except OSError:
                break
        waiting.connect((server.host, server.port))
        waiting.sendall(REQUEST)
        waiting.settimeout(0.3)
        with pytest.raises(TimeoutError):
            waiting.recv(1)
    finally:
        for sock in held:
            sock.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    waiting.settimeout(PATIENCE)
    assert waiting.recv(12) == b"HTTP/1.1 101"

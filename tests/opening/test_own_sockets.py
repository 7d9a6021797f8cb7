"""Connections without a host to look up: Unix sockets, a given socket, the user's own `connect`."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from websockets.sync.server import ServerConnection

from lochws import WebSocket, WebSocketApp, events
from lochws.opening.dial import Dialler
from lochws.options import Options
from lochws.system.deadline import Deadline

from ..support.attempts import Attempt, Dial
from ..support.peer import Link, StartPeer
from ..support.seen import PATIENCE
from ..support.threaded_websockets import unix_serve

#: The limit for what should not wait, in seconds.
SOON = 3.0


class TestUnix:
    """``ws+unix://`` and ``unix=``, to the server of websockets."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Iterator[str]:
        def echo(connection: ServerConnection) -> None:
            request = connection.request
            assert request is not None
            connection.send(f"{request.headers['Host']} {request.path}")

        path = str(tmp_path / "a socket")
        with unix_serve(echo, path) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            yield path
            server.shutdown()
            thread.join()

    def told(self, websocket: WebSocket) -> str:
        texts = [event.text for event in websocket if event.name == "text"]
        assert len(texts) == 1
        return texts[0]

    def test_a_url_leads_to_the_socket(self, path: str) -> None:
        quoted = path.replace(" ", "%20")
        assert self.told(WebSocket(f"ws+unix://{quoted}:/chat?room=1")) == "localhost /chat?room=1"
        assert self.told(WebSocket(f"ws+unix://{quoted}")) == "localhost /"

    def test_the_option_leads_any_url_to_the_socket(self, path: str) -> None:
        assert self.told(WebSocket("ws://server.example:99/x", unix=path)) == "server.example:99 /x"

    def test_the_environments_proxy_is_not_asked(self, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("all_proxy", "http://proxy.invalid")
        monkeypatch.setenv("http_proxy", "http://proxy.invalid")
        assert self.told(WebSocket("ws://server.example/", unix=path)) == "server.example /"

    # `path` is first, so that the server ends last and need not wait for the stream.
    def test_the_path_is_the_address(self, path: str, dial: Dial) -> None:
        attempt = dial("ws://server.example/", unix=path)
        assert attempt.opened.stream.address == path

    def test_ready_has_the_path(self, path: str) -> None:
        websocket = WebSocket("ws://server.example/", unix=path)
        assert [event.address for event in websocket if isinstance(event, events.Ready)] == [path]

    def test_no_such_socket_is_a_failure(self, dial: Dial, tmp_path: Path) -> None:
        path = str(tmp_path / "none")
        last = dial("ws://server.example/", unix=path).last
        assert (last.phase, last.address) == ("tcp", path)
        assert last.reason == f"unable to connect; {path}: No such file or directory"
        assert last.advice == "Check the path, and that the server is running: the socket does not exist."

    def test_a_path_that_is_too_long_is_a_failure(self, dial: Dial) -> None:
        last = dial("ws://server.example/", unix="/" + "x" * 200).last
        assert last.reason.endswith("AF_UNIX path too long")


    def test_a_system_without_unix_sockets_says_so(self, dial: Dial, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(socket, "AF_UNIX")  # as on Windows
        assert dial("ws+unix:///some/path:/").last.reason.endswith("this system has no Unix sockets")


class TestSock:
    """``sock=``: a connected socket, for one attempt."""

    def test_it_is_used_once(self, start_peer: StartPeer) -> None:
        peer = start_peer(Link.accept)
        dialler = Dialler(Options(sock=socket.create_connection((peer.host, peer.port))), "ws://any.invalid/")
        with closing(Deadline(PATIENCE)) as deadline:
            first = Attempt(dialler, deadline)
        assert first.opened.stream.address == peer.authority
        first.opened.stream.close()
        with closing(Deadline(PATIENCE)) as deadline:
            again = Attempt(dialler, deadline).last
        assert again.reason == "unable to connect; the socket passed as sock has already been used"
        assert again.advice == "Pass connect=, a function that returns a new socket for each attempt."

    def test_tls_is_put_upon_it_for_wss(
        self, dial: Dial, start_peer: StartPeer, server_tls: ssl.SSLContext, ca_file: str
    ) -> None:
        peer = start_peer(Link.accept, tls=server_tls)
        sock = socket.create_connection((peer.host, peer.port))
        assert dial("wss://localhost/", sock=sock, ssl_cafile=ca_file).opened

    def test_one_that_speaks_tls_already_is_used_as_it_is(
        self, dial: Dial, start_peer: StartPeer, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
    ) -> None:
        peer = start_peer(Link.accept, tls=server_tls)
        plain = socket.create_connection((peer.host, peer.port))
        sock = client_tls.wrap_socket(plain, server_hostname="localhost")
        assert dial("wss://any.invalid/", sock=sock).opened

    def test_one_that_is_not_connected_is_a_failure(self, dial: Dial) -> None:
        assert dial("wss://any.invalid/", sock=socket.socket()).last.phase == "tls"
        assert dial("ws://any.invalid/", sock=socket.socket()).last.phase == "upgrade"


class TestConnect:
    """``connect=``: a function that makes the sockets."""

    def test_it_is_asked_for_each_attempt(self, start_peer: StartPeer) -> None:
        peer = start_peer(Link.accept)
        asked = []

        def connect(host: str, port: int) -> socket.socket:
            asked.append((host, port, threading.current_thread().name))
            return socket.create_connection((peer.host, peer.port))

        dialler = Dialler(Options(connect=connect), "ws://any.invalid:99/")
        for _ in range(2):
            with closing(Deadline(PATIENCE)) as deadline:
                Attempt(dialler, deadline).opened.stream.close()
        assert asked == [("any.invalid", 99, "lochws-connect-any.invalid")] * 2

    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (ConnectionRefusedError(111, "Connection refused"), "unable to connect; Connection refused"),
            (
                LookupError("no way today"),
                "unable to connect; the connect function failed: LookupError: no way today",
            ),
        ],
    )
    def test_what_it_raises_is_the_cause(self, dial: Dial, error: Exception, reason: str) -> None:
        def connect(host: str, port: int) -> socket.socket:
            raise error

        last = dial("ws://any.invalid/", connect=connect).last
        assert (last.phase, last.reason) == ("tcp", reason)
        assert last.error.__cause__ is error

    def test_something_else_than_a_socket_is_a_failure(self, dial: Dial) -> None:
        last = dial("ws://any.invalid/", connect=lambda host, port: None).last
        assert last.reason == "unable to connect; connect: expected a connected socket, not NoneType"

    @pytest.mark.parametrize("end", ["deadline", "cancel"])
    def test_one_that_hangs_is_left_behind_and_its_socket_closed(self, dial: Dial, end: str) -> None:
        over, began = threading.Event(), threading.Event()
        ours, theirs = socket.socketpair()
        deadline = Deadline(0.1 if end == "deadline" else None)

        def connect(host: str, port: int) -> socket.socket:
            began.set()
            if end == "cancel":
                deadline.cancel()
            over.wait()
            return ours

        attempt = dial("ws://any.invalid/", connect=connect, deadline=deadline)
        assert attempt.awake_seconds < SOON
        assert attempt.last.phase == "tcp"
        over.set()
        theirs.settimeout(PATIENCE)
        assert theirs.recv(1) == b""  # the late socket was closed
        theirs.close()


def test_an_app_that_hangs_in_connect_closes_at_once() -> None:
    over, began = threading.Event(), threading.Event()

    def connect(host: str, port: int) -> socket.socket:
        began.set()
        over.wait()
        raise OSError("never")

    app = WebSocketApp("ws://any.invalid/", connect=connect)
    app.start()
    assert began.wait(PATIENCE)
    assert app.stop(10)
    over.set()


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"unix": "/a", "connect": lambda host, port: None}, ValueError, "unix and connect: only"),
        ({"unix": "/a", "proxies": {"http": "http://p"}}, ValueError, "unix and proxies: "),
        ({"unix": b"/a"}, TypeError, "unix="),
        ({"sock": 3}, TypeError, "sock=3"),
        ({"connect": "host"}, TypeError, "connect='host'"),
        ({"source_address": "127.0.0.1"}, TypeError, "source_address='127.0.0.1'"),
        ({"source_address": ("localhost", 0)}, ValueError, "expected an IP address, not a name"),
        ({"socket_options": [(1, 2)]}, TypeError, r"socket_options: \(1, 2\)"),
        ({"socket_options": [(1, 2, "x")]}, TypeError, "socket_options"),
    ],
)
def test_what_cannot_be_is_refused_by_the_constructor(
    options: dict[str, object], error: type[Exception], text: str
) -> None:
    make: Callable[..., WebSocket] = WebSocket
    with pytest.raises(error, match=text):
        make("ws://host/", **options)

"""Exceptions of any class, raised by any of the user's objects that opening a connection calls."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from http.cookiejar import CookieJar
from typing import Any

import pytest

from lochws import Threads, WebSocket

from ..support.apps import running
from ..support.peer import Link, StartPeer
from ..support.scripts import polite
from ..support.seen import PATIENCE, Noting

#: Exceptions with a special meaning for generators, threads or the interpreter, and an ordinary one.
EXCEPTIONS = (GeneratorExit, StopIteration, SystemExit, KeyboardInterrupt, ZeroDivisionError)


class Socket:
    """A socket with a method that raises an exception from a given call on. Its reader has to wait."""

    def __init__(self, url: str, method: str, call: int, error: BaseException) -> None:
        self._sock = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2].strip("/"))))
        self._method, self._left, self._error = method, call, error
        self._early = call  # how often there is nothing to receive yet

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any) -> Any:
            if name == self._method:
                self._left -= 1
                if self._left <= 0:
                    self._sock.close()
                    raise self._error
            if name == "recv_into" and self._early:
                self._early -= 1
                raise BlockingIOError
            return getattr(self._sock, name)(*args)

        return call

    # These are looked up in the class.
    def send(self, *args: Any) -> Any:
        return self.__getattr__("send")(*args)

    def recv_into(self, *args: Any) -> Any:
        return self.__getattr__("recv_into")(*args)


class Jar(CookieJar):
    """A cookie jar with a method that raises an exception."""

    def __init__(self, method: str, error: BaseException) -> None:
        super().__init__()
        setattr(self, method, raising(error))


class Context(ssl.SSLContext):
    """A user's TLS context that fails to create TLS objects."""

    error: BaseException

    def wrap_bio(self, *_: Any, **__: Any) -> Any:
        raise self.error


def raising(error: BaseException) -> Callable[..., Any]:
    def function(*_: Any) -> Any:
        raise error

    return function


def with_socket(method: str, call: int = 1) -> Callable[[str, BaseException], dict[str, Any]]:
    return lambda url, error: {"connect": lambda *_: Socket(url, method, call, error)}


def with_context(_url: str, error: BaseException) -> dict[str, Any]:
    context = Context(ssl.PROTOCOL_TLS_CLIENT)
    context.error = error
    return {"ssl_context": context}


def refuse(link: Link) -> None:
    link.read_request()
    link.send(b"HTTP/1.1 404 Not Found\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n")
    link.wait_for_end()


#: The options of an app, by the place where an exception is raised.
PLACES: dict[str, Callable[[str, BaseException], dict[str, Any]]] = {
    "url": lambda _, error: {"url": raising(error)},
    "headers": lambda _, error: {"headers": raising(error)},
    "auth": lambda _, error: {"auth": raising(error)},
    "protocols": lambda _, error: {"protocols": raising(error)},
    "proxies": lambda _, error: {"proxies": raising(error)},
    "proxy_headers": lambda url, error: {
        "proxies": url.replace("ws:", "http:"), "proxy_headers": raising(error)
    },
    "connect": lambda _, error: {"connect": raising(error)},
    "wrap_bio of ssl_context": with_context,
    "add_cookie_header": lambda _, error: {"cookies": Jar("add_cookie_header", error)},
    "extract_cookies": lambda _, error: {"cookies": Jar("extract_cookies", error)},
    "setblocking": with_socket("setblocking"),
    "getpeername": with_socket("getpeername"),
    "send": with_socket("send"),
    "fileno": with_socket("fileno"),
    "the second fileno": with_socket("fileno", 2),
    "the third fileno": with_socket("fileno", 3),
    "recv_into": with_socket("recv_into"),
    "the second recv_into": with_socket("recv_into", 2),
    "close": with_socket("close"),
}


@pytest.mark.parametrize("kind", EXCEPTIONS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("place", PLACES)
def test_the_attempt_ends_once_and_the_threads_go_on(
    place: str, kind: type[BaseException], start_peer: StartPeer
) -> None:
    shared = Threads()
    url = start_peer(refuse).url
    error = kind("a user's")
    options = {"url": url, **PLACES[place](url, error)}
    if "ssl_context" in options:
        options["url"] = url.replace("ws:", "wss:")
    app = Noting(**options, threads=shared, open_timeout=PATIENCE)
    other = Noting(start_peer(polite).url, threads=shared)
    with running(other, persist=False):
        with running(app, persist=False):
            app.wait_until(lambda: bool(app.all("connect_fail") + app.all("disconnected")))
            assert app.join(PATIENCE)
        assert error.__traceback__ is not None, "it was not raised"
        assert app.names()[0] == "connecting"
        assert len(app.all("connect_fail") + app.all("disconnected")) == 1
        assert app.events[-1].name in {"connect_fail", "disconnected"}
        assert other.wait_ready(PATIENCE)


@pytest.mark.parametrize("place", ["getpeername", "send", "fileno", "recv_into", "close"])
def test_an_iteration_raises_instead_of_ending_silently(place: str, start_peer: StartPeer) -> None:
    url = start_peer(refuse).url
    websocket = WebSocket(url, **PLACES[place](url, GeneratorExit()))
    with pytest.raises(RuntimeError, match="GeneratorExit was raised"):
        list(websocket)

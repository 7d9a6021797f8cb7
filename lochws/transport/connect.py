"""Connector: opens a stream to an endpoint, by way of name resolution, TCP, proxies and TLS."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeGuard

from ..errors import ConnectFail
from ..options import Options
from ..system.deadline import Cancelled, Deadline
from ..system.lazy import ensure_whole
from ..system.report import safe_str
from ..system.steps import Steps, must_propagate
from ..url import Endpoint
from .proxies.choose import ProxyURL
from .stream import Stream
from .tcp import connect_tcp, connect_unix, resolve
from .waiting import cause

if TYPE_CHECKING:
    from .background import Background
    from .tls import ClientTLS


class Connector:
    """Opens the streams of one WebSocket, one at a time, and keeps TLS contexts and sessions between them.

    Args:
        options: the WebSocket's options.
        is_secure: whether the URL, as far as it is known, needs TLS.

    Raises:
        TypeError, ValueError, FileNotFoundError: the TLS options are invalid.
    """

    def __init__(self, options: Options, *, is_secure: bool = True) -> None:
        self._options = options
        self._client_tls: ClientTLS | None = None
        if options.ssl_context or options.ssl_cafile or options.ssl_certfile:
            self._tls()
        elif is_secure:
            with suppress(OSError, ImportError):  # no descriptor to load it with; the attempt will say so
                self._tls()
        self._given = options.sock
        self._connecting: Background[socket.socket] | None = None

    def open(
        self, endpoint: Endpoint, proxy: ProxyURL | None, deadline: Deadline, *, home: bool
    ) -> Steps[Stream]:
        """Open a stream to the endpoint, through the proxy if there is one, all under one deadline.

        Args:
            home: whether the endpoint has the origin of the WebSocket's own URL. Options meant for that
                origin (a Unix socket, server_hostname, our certificate) are not used for any other.

        Raises:
            ConnectFail: the attempt failed, or was cancelled. No socket is left open.
        """
        # The reasons start with the same words as Lomond's.
        if proxy is not None:
            stream = yield from self._open_through(proxy, endpoint, deadline)
        else:
            try:
                stream = yield from self._open_directly(endpoint, deadline, home)
            except Exception as error:  # noqa: BLE001  the attempt has failed, whatever the error
                raise _as_connect_fail(error, "unable to connect", deadline.phase) from _cause_of(error)
        # A socket passed by the user may already have done its TLS handshake.
        if not endpoint.is_secure or (proxy is None and stream.is_encrypted):
            return stream
        try:
            deadline.enter("tls")
            securing = self._tls().secure(stream, endpoint.host, endpoint.port, deadline, home=home)
            return (yield from securing)
        except Exception as error:  # noqa: BLE001  likewise
            raise _as_connect_fail(error, "unable to connect", "tls") from _cause_of(error)

    def _tls(self) -> ClientTLS:
        if self._client_tls is None:
            ensure_whole("lochws.transport.tls")
            from .tls import ClientTLS  # noqa: PLC0415  with `ssl`, a tenth of what `import lochws` would take

            self._client_tls = ClientTLS(self._options)
        return self._client_tls

    def _open_through(self, proxy: ProxyURL, endpoint: Endpoint, deadline: Deadline) -> Steps[Stream]:
        failing = "proxy fail"

        def reach() -> Steps[Stream]:
            nonlocal failing
            failing = "unable to connect to proxy"
            stream = yield from self._reach(proxy.host, proxy.port, deadline)
            if proxy.scheme == "https":
                deadline.enter("tls")
                stream = yield from self._tls().secure(stream, proxy.host, proxy.port, deadline, home=False)
            failing = "proxy fail"
            deadline.enter("proxy")
            return stream

        try:
            ensure_whole("lochws.transport.proxies.through")
            from .proxies.through import open_through  # noqa: PLC0415  with urllib.request, and most use no proxy

            return (yield from open_through(reach, proxy, endpoint, deadline))
        except Exception as error:  # noqa: BLE001  likewise
            raise _as_connect_fail(error, failing, "proxy") from _cause_of(error)

    def _open_directly(self, endpoint: Endpoint, deadline: Deadline, home: bool) -> Steps[Stream]:
        options = self._options
        path = endpoint.unix or (options.unix if home else None)
        if path is None and options.sock is None and options.connect is None:
            return (yield from self._reach(endpoint.host, endpoint.port, deadline))
        deadline.enter("tcp")
        if path is not None:
            stream = Stream(connect_unix(path))
            stream.address = path
            return stream
        if options.connect is not None:
            return _as_stream((yield from self._call_connect(options.connect, endpoint, deadline)), "connect")
        return _as_stream(self._take_given(), "sock")

    def _reach(self, host: str, port: int, deadline: Deadline) -> Steps[Stream]:
        """Open a TCP stream to a host: the endpoint's, or the proxy's."""
        options = self._options
        deadline.enter("resolve")
        addresses = yield from resolve(host, port, deadline)
        deadline.enter("tcp")
        sock = yield from connect_tcp(
            addresses, deadline, source_address=options.source_address, socket_options=options.socket_options
        )
        return Stream(sock)

    def _call_connect(
        self, connect: Callable[[str, int], socket.socket], endpoint: Endpoint, deadline: Deadline
    ) -> Steps[socket.socket]:
        """Call the function given as `connect`, in the background."""
        host, port = endpoint.host, endpoint.port
        if self._connecting is None:
            ensure_whole("lochws.transport.background")
            from .background import Background  # noqa: PLC0415  few need it

            self._connecting = Background(f"lochws-connect-{host}", _close_if_socket)
        try:
            calling = self._connecting.call(lambda: connect(host, port), deadline, key=(host, port))
            return (yield from calling)
        except (OSError, Cancelled):
            raise
        except BaseException as error:
            if must_propagate(error):
                raise
            text = f"the connect function failed: {type(error).__name__}: {safe_str(error)}"
            raise ConnectFail(text, phase="tcp") from error

    def _take_given(self) -> socket.socket:
        given, self._given = self._given, None
        if given is None:
            advice = "Pass connect=, a function that returns a new socket for each attempt."
            raise ConnectFail("the socket passed as sock has already been used", phase="tcp", advice=advice)
        return given


def _close_if_socket(made: object) -> None:
    if _is_socket(made):
        made.close()


def _is_socket(thing: object) -> TypeGuard[socket.socket]:
    # Does not check the class, because programs replace it, and sockets may be instances of an earlier one.
    names = ("close", "fileno", "getpeername", "recv_into", "send", "setblocking", "shutdown")
    return all(callable(getattr(thing, name, None)) for name in names)


def _as_stream(sock: object, option: str) -> Stream:
    if not _is_socket(sock):
        text = f"{option}: expected a connected socket, not {type(sock).__name__}"
        raise ConnectFail(text, phase="tcp") from TypeError(text)
    try:
        sock.setblocking(False)
        if not isinstance(sock, getattr(sys.modules.get("ssl"), "SSLSocket", ())):
            return Stream(sock)
        ensure_whole("lochws.transport.sslsocket")
        from .sslsocket import SSLSocketStream  # noqa: PLC0415  few programs pass one

        return SSLSocketStream(sock)
    except BaseException:
        sock.close()
        raise


def _as_connect_fail(error: BaseException, failing: str, phase: str) -> ConnectFail:
    """Turn any error into the ConnectFail to raise."""
    if isinstance(error, ConnectFail):
        about = {"address": error.address, "advice": error.advice, "response": error.response}
        return ConnectFail(f"{failing}; {error}", phase=phase, **about)  # type: ignore[arg-type]
    if isinstance(error, Cancelled):
        return ConnectFail("closed while connecting", phase=phase)
    return ConnectFail(f"{failing}; {cause(error)}", phase=phase)


def _cause_of(error: BaseException) -> BaseException | None:
    if isinstance(error, Cancelled):
        return None
    return error.__cause__ if isinstance(error, ConnectFail) else error

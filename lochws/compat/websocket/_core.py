"""WebSocket and create_connection of the drop-in for websocket-client: a connection that is read by calls."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from sys import is_finalizing
from threading import get_ident
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from ... import errors, events
from ...options import as_timeout
from ._abnf import ABNF, STATUS_NORMAL, Data, as_payload, wire_size
from ._exceptions import (
    WebSocketConnectionClosedException,
    WebSocketException,
    WebSocketTimeoutException,
)
from ._failures import why_ended, why_not_open
from ._handshake import handshake_response
from ._link import Link
from ._logging import dump, isEnabledForTrace, trace
from ._options import lochws_options, refuse_unsupported
from ._socket import getdefaulttimeout
from ._view import SocketView

if TYPE_CHECKING:
    import sys

    if sys.version_info >= (3, 11):
        from typing import Self
    else:
        from typing_extensions import Self

#: An opcode, and a frame with a whole message or a control frame.
Received = tuple[int, ABNF]

MAX_CODE = 0xFFFF


class WebSocket:
    """A connection that is opened by `connect` and read by `recv`, on any thread.

    lochws reads from the network in a thread of its own: pings are answered while the program does something
    else, up to 16 MiB of messages wait, and then TCP slows the server down. A WebSocket that is no longer
    used is closed when it is garbage collected.

    Args:
        get_mask_key: not supported.
        sockopt: tuples with the arguments of `socket.setsockopt`.
        sslopt: TLS options by name: ``cert_reqs``, ``ca_certs``, ``ca_cert_path``, ``certfile``,
            ``keyfile``, ``password``, ``cert_chain``, ``check_hostname``, ``server_hostname``, ``ciphers``,
            ``ecdh_curve``, ``ssl_version``; or ``context`` with an `ssl.SSLContext`.
        fire_cont_frame: not supported.
        enable_multithread: has no effect: any thread may call any method.
        skip_utf8_validation: not supported.
        dispatcher: not supported.

    Raises:
        NotImplementedError: an argument that is not supported was given.

    Attributes:
        max_message_size: the largest message to receive, in bytes, or None for no limit. Default: 64 MiB.
            Set it on the class or on an instance before `connect`.
        sock: an object for `select` and `poll` while the WebSocket is open, else None.
        connected: whether messages can be sent, as far as the program has received.
        close_frame: the server's Close frame, if it answered `close`, or None.
        handshake_response: the server's answer to the upgrade request, or None.
    """

    max_message_size: int | None = 64 * 1024 * 1024

    def __init__(
        self,
        get_mask_key: Callable[[int], Any] | None = None,
        sockopt: Iterable[tuple[int, int, Any]] | None = None,
        sslopt: dict[str, Any] | None = None,
        fire_cont_frame: bool = False,
        enable_multithread: bool = True,
        skip_utf8_validation: bool = False,
        dispatcher: object = None,
        **_: Any,
    ) -> None:
        self._link: Link | None = None  # first, for __del__
        refuse_unsupported(
            get_mask_key=get_mask_key, fire_cont_frame=fire_cont_frame,
            skip_utf8_validation=skip_utf8_validation, dispatcher=dispatcher,
        )
        self._sockopt = list(sockopt or ())
        self._sslopt = dict(sslopt or {})
        self._timeout: float | None = None
        self._fragments: list[bytes] = []
        self._opcode = ABNF.OPCODE_TEXT  # of the message that the fragments belong to
        self.sock: SocketView | Any = None
        self.connected = False
        self.close_frame: ABNF | None = None
        self.handshake_response: handshake_response | None = None

    def __del__(self) -> None:
        # While the interpreter shuts down, a thread that will never run again may hold the lock.
        if (link := getattr(self, "_link", None)) is not None and not is_finalizing():
            link.discard()

    def __iter__(self) -> Iterator[str | bytes]:
        """Yield what `recv` returns, until it raises."""
        while True:
            yield self.recv()

    def __next__(self) -> str | bytes:
        return self.recv()

    def next(self) -> str | bytes:
        """Return what `recv` returns."""
        return self.__next__()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def fileno(self) -> int:
        """Return a descriptor that is readable while there is something to receive.

        Raises:
            WebSocketException: the WebSocket is not open.
        """
        if self.sock is None:
            raise WebSocketException("fileno(): the WebSocket is not connected; call connect() first")
        return int(self.sock.fileno())

    def set_mask_key(self, func: object) -> NoReturn:
        """Raise NotImplementedError: mask keys come from the operating system's random source."""
        refuse_unsupported(get_mask_key=func)
        raise NotImplementedError("set_mask_key(): mask keys are always random; leave the call out")

    # The timeout and the handshake.

    def gettimeout(self) -> float | None:
        """Return the timeout in seconds; None for no limit."""
        return self._timeout

    def settimeout(self, timeout: float | None) -> None:
        """Set how long `recv` waits, in seconds; None for no limit, 0 not to wait at all.

        The limit for opening the connection, and for sends when the network takes nothing, is the timeout at
        the time of `connect`.
        """
        as_timeout("settimeout", timeout)
        self._timeout = timeout
        if self.sock is not None:
            self.sock.settimeout(timeout)

    timeout = property(gettimeout, settimeout)

    def getsubprotocol(self) -> str | None:
        """Return the subprotocol that the server chose, in lower case, or None."""
        return None if self.handshake_response is None else self.handshake_response.subprotocol

    subprotocol = property(getsubprotocol)

    def getstatus(self) -> int | None:
        """Return the status of the server's answer to the upgrade request: 101, or None before `connect`."""
        return None if self.handshake_response is None else self.handshake_response.status

    status = property(getstatus)

    def getheaders(self) -> dict[str, str] | None:
        """Return the headers of the server's answer, with lower-case names, or None before `connect`."""
        return None if self.handshake_response is None else self.handshake_response.headers

    headers = property(getheaders)

    def is_ssl(self) -> bool:
        """Return whether the connection uses TLS."""
        return self._link is not None and self._link.app.is_secure and self.sock is not None

    # Opening and closing.

    def connect(self, url: str, **options: Any) -> None:
        """Open the connection. Blocks for at most the timeout.

        Args:
            url: a ``ws://`` or ``wss://`` URL.
            header: additional headers, as a dict or as a list of ``"Name: value"``.
            cookie: the value of the Cookie header.
            origin: the Origin header; by default it is made from the URL.
            suppress_origin: whether to send no Origin header.
            host: the Host header; by default it is made from the URL.
            suppress_host: has no effect but a warning in the log, because a request must have a Host header.
            timeout: as `settimeout`.
            http_proxy_host, http_proxy_port, http_proxy_auth: the proxy, with ``(user, password)``; without
                it, the proxies of the environment are used.
            proxy_type: ``"http"``, ``"socks4"``, ``"socks4a"``, ``"socks5"`` or ``"socks5h"``.
            http_no_proxy: hosts that are reached without a proxy.
            http_proxy_timeout: the limit for the proxy's part, in seconds.
            redirect_limit: how many redirects to follow; 3 by default.
            subprotocols: the subprotocols to offer. A server that chooses none of them is refused.
            socket: a connected socket to use.

        Raises:
            ValueError: an argument is invalid.
            NotImplementedError: an argument is not supported.
            WebSocketBadStatusException: the server answered with another status than 101.
            WebSocketAddressException: the host name cannot be resolved.
            WebSocketProxyException: the proxy did not connect.
            WebSocketTimeoutException, TimeoutError: the timeout has passed, after or before the request.
            WebSocketException: the server's answer does not open a WebSocket.
            OSError: the network failed; `ssl.SSLError` if it was TLS.
        """
        timeout = options.get("timeout", self._timeout)
        self._timeout = timeout
        arguments = lochws_options(url, self._sslopt, self._sockopt, options)
        arguments["max_message_size"] = self.max_message_size
        if (old := self._link) is not None:
            old.discard()
        self.close_frame, self.handshake_response = None, None
        link = self._link = Link(url, arguments, timeout)
        try:
            is_open = link.wait_open()
        except BaseException:
            link.discard()
            raise
        ready = link.ready
        if not is_open or ready is None or link.is_discarded:
            error = why_not_open(link)
            link.discard()
            raise error
        link.timeout = self._timeout  # another thread may have changed it
        self.handshake_response = handshake_response(
            ready.response.status_code, dict(ready.response.headers),
            ready.protocol.lower() if ready.protocol is not None else None,
        )
        self.sock = SocketView(link)
        self.connected = True
        dump("response", ready.response.status)

    def send_close(self, status: int = STATUS_NORMAL, reason: str | bytes = b"") -> None:
        """Send a Close frame. What the server sent before its own can still be received, and that as well.

        Args:
            status: the close code.
            reason: a str, or UTF-8 bytes; cut to 123 bytes.

        Raises:
            ValueError: the code cannot be sent.
            WebSocketConnectionClosedException: the WebSocket is not open.
        """
        payload = _close_payload(status, reason)
        self.connected = False
        self.send(payload, ABNF.OPCODE_CLOSE)

    def close(
        self, status: int = STATUS_NORMAL, reason: str | bytes = b"", timeout: float | None = 3
    ) -> None:
        """Close the connection, and wait for the server's Close frame. Does nothing if it is closed already.

        If another thread is closing it, waits for that thread; only the first call's Close frame is sent.

        Messages that have not been received are discarded. Any thread may call it, and threads in `recv` wake
        up. While `connect` is at work in another thread, it is cancelled.

        Args:
            status: the close code.
            reason: a str, or UTF-8 bytes; cut to 123 bytes.
            timeout: how long to wait, in seconds; None for no limit.

        Raises:
            TypeError: the timeout is not a number.
            ValueError: the code cannot be sent, or the timeout is NaN.
        """
        as_timeout("close", timeout)
        link = self._link
        mine = [get_ident()]
        try:
            if self.connected:
                payload = _close_payload(status, reason)
                if link is None or link.begin_close(mine):
                    self._perform_close(link, payload, timeout)
                    return
            # If another call performs it, its Close frame may have yet to be sent.
            if link is not None and link.wait_close(timeout):
                link.discard()
        finally:
            if link is not None:
                link.end_close(mine)

    def _perform_close(self, link: Link | None, payload: bytes, timeout: float | None) -> None:
        self.close_frame = None
        self.connected = False
        try:
            self.send(payload, ABNF.OPCODE_CLOSE)
        except (WebSocketException, OSError):
            pass  # it has ended by itself
        if link is not None:
            link.ignore_the_rest()
            link.wait_answered(timeout)
            if link.close_frame is not None:
                self.close_frame = as_frame(link.close_frame)
        self.shutdown()

    def abort(self) -> None:
        """Drop the connection without a Close frame; threads in `recv` wake up."""
        if self.connected and self.sock is not None:
            try:
                self.sock.shutdown(2)
            except OSError:
                pass  # it has ended by itself

    def shutdown(self) -> None:
        """Drop the connection without a Close frame, and discard what has not been received."""
        sock, self.sock = self.sock, None
        self.connected = False
        if sock is not None:
            try:
                sock.close()
            except OSError:
                pass  # not ours, and closed already
        elif self._link is not None:
            self._link.discard()

    # Sending.

    def send(self, payload: Data, opcode: int = ABNF.OPCODE_TEXT) -> int:
        """Send a message or a control frame. Any thread may call it.

        Waits only while 16 MiB wait for the network, for at most the timeout at the time of `connect`.

        Args:
            payload: a str, or bytes; text given as bytes must be valid UTF-8, and a str for another opcode is
                encoded as ISO 8859-1.
            opcode: `ABNF.OPCODE_TEXT`, `ABNF.OPCODE_BINARY`, or that of a control frame.

        Returns:
            The size of the frame in bytes.

        Raises:
            WebSocketConnectionClosedException: the WebSocket is not open.
            WebSocketTimeoutException: the network took nothing for that time.
            ValueError: the payload or the opcode is invalid.
        """
        if opcode == ABNF.OPCODE_CONT:
            raise ValueError("send(): OPCODE_CONT needs send_frame(), after a frame with fin=0")
        data = as_payload(payload, "utf-8" if opcode == ABNF.OPCODE_TEXT else "latin-1")
        if isEnabledForTrace():
            trace(f"sent: opcode={opcode} data={payload!r}")
        link = self._link
        if link is None or link.is_discarded:
            raise WebSocketConnectionClosedException("not sent: the WebSocket is not connected")
        app = link.app
        try:
            if opcode == ABNF.OPCODE_TEXT:
                app.send_text(payload if isinstance(payload, str) else data.decode())
            elif opcode == ABNF.OPCODE_BINARY:
                app.send_binary(data)
            elif opcode == ABNF.OPCODE_PING:
                app.send_ping(data)
            elif opcode == ABNF.OPCODE_PONG:
                app.send_pong(data)
            elif opcode == ABNF.OPCODE_CLOSE:
                code = struct.unpack("!H", data[:2])[0] if len(data) >= 2 else None
                link.send_close(code, data[2:])
            else:
                raise ValueError(f"send(): opcode={opcode!r}: expected one of ABNF.OPCODES")
        except errors.QueueFull as error:
            raise WebSocketTimeoutException(f"not sent: {error}") from error
        except (errors.WebSocketUnavailable, errors.TransportFail) as error:
            self.connected = False
            raise WebSocketConnectionClosedException(str(error)) from error
        return wire_size(len(data))

    def send_text(self, text_data: str) -> int:
        """Send a text message; returns the size of the frame."""
        return self.send(text_data, ABNF.OPCODE_TEXT)

    def send_bytes(self, data: bytes | bytearray) -> int:
        """Send a binary message; returns the size of the frame."""
        return self.send(data, ABNF.OPCODE_BINARY)

    def send_binary(self, payload: bytes) -> int:
        """Send a binary message; returns the size of the frame."""
        return self.send(payload, ABNF.OPCODE_BINARY)

    def send_frame(self, frame: ABNF) -> int:
        """Send a frame. Fragments are gathered, and sent as one message with the last one.

        Returns:
            The size of the frame in bytes.

        Raises:
            NotImplementedError: the frame is not masked, or has a reserved bit.
            ValueError: a fragment has the wrong opcode, or what `send` raises.
            WebSocketException: what `send` raises.
        """
        if frame.rsv1 or frame.rsv2 or frame.rsv3 or not frame.mask_value:
            raise NotImplementedError(
                "send_frame(): lochws masks each frame and sets the reserved bits itself; create the frame "
                "with ABNF.create_frame()"
            )
        is_continuation = frame.opcode == ABNF.OPCODE_CONT
        is_data = frame.opcode in {ABNF.OPCODE_TEXT, ABNF.OPCODE_BINARY}
        if is_continuation != bool(self._fragments) and (is_continuation or is_data):
            raise ValueError("send_frame(): after a frame with fin=0, and only then, OPCODE_CONT must follow")
        if not (is_continuation or (is_data and not frame.fin)):
            return self.send(frame.data, frame.opcode)
        if is_data:
            self._opcode = frame.opcode
        fragment = as_payload(frame.data, "utf-8" if self._opcode == ABNF.OPCODE_TEXT else "latin-1")
        self._fragments.append(fragment)
        if frame.fin:
            fragments, self._fragments = self._fragments, []
            self.send(b"".join(fragments), self._opcode)
        return wire_size(len(fragment))

    def ping(self, payload: str | bytes = "") -> None:
        """Send a ping, with at most 125 bytes."""
        self.send(as_payload(payload, "utf-8"), ABNF.OPCODE_PING)

    def pong(self, payload: str | bytes = "") -> None:
        """Send a pong, with at most 125 bytes. The server's pings are answered automatically."""
        self.send(as_payload(payload, "utf-8"), ABNF.OPCODE_PONG)

    # Receiving.

    def recv(self) -> str | bytes:
        """Receive a message: a str if it is text, else bytes. An empty str is the server's Close frame.

        Raises:
            WebSocketTimeoutException: no message arrived within the timeout.
            BlockingIOError: the timeout is 0, and no message is waiting.
            WebSocketConnectionClosedException: the connection has ended, or was never opened.
            ConnectionResetError: the server reset the connection.
            WebSocketProtocolException, WebSocketPayloadException: the server violated the protocol.
        """
        while True:
            event = self._next()
            if isinstance(event, events.Text):
                return event.text
            if isinstance(event, events.Binary):
                return event.data
            if isinstance(event, (events.Closing, events.Closed)):
                return ""

    def recv_data(self, control_frame: bool = False) -> tuple[int, bytes]:
        """Receive a message as its opcode and its payload.

        Args:
            control_frame: whether to return pings and pongs, too. A Close frame is always returned.

        Raises:
            WebSocketException, OSError: as `recv` does.
        """
        opcode, frame = self.recv_data_frame(control_frame)
        return opcode, as_payload(frame.data, "utf-8")

    def recv_data_frame(self, control_frame: bool = False) -> Received:
        """Receive a message as its opcode and a frame that holds all of it.

        Args:
            control_frame: whether to return pings and pongs, too. A Close frame is always returned.

        Raises:
            WebSocketException, OSError: as `recv` does.
        """
        while True:
            event = self._next()
            if control_frame or not isinstance(event, (events.Ping, events.Pong)):
                frame = as_frame(event)
                return frame.opcode, frame

    def recv_frame(self) -> ABNF:
        """Receive a message, or a control frame, as one frame.

        Raises:
            WebSocketException, OSError: as `recv` does.
        """
        return as_frame(self._next())

    def _next(self) -> Event:
        link = self._link
        if link is None or link.is_discarded:
            raise WebSocketConnectionClosedException("not received: the WebSocket is not connected")
        while (item := link.take()) is None:
            if link.is_over:
                error = why_ended(link)
                self.shutdown()
                raise error
            timeout = link.timeout
            if not link.wait_readable(timeout):
                if timeout == 0:
                    raise BlockingIOError("no message is waiting, and the timeout is 0")
                raise WebSocketTimeoutException(f"timed out: nothing was received within {timeout:g} s")
        if isinstance(item, Exception):
            raise item
        if isinstance(item, (events.Closing, events.Closed)):
            self.connected = False
        if isEnabledForTrace():
            trace(f"received: {as_frame(item)}")
        return item


Event = events.Text | events.Binary | events.Ping | events.Pong | events.Closing | events.Closed


def as_frame(event: Event) -> ABNF:
    """Return an event of lochws as a frame."""
    if isinstance(event, events.Text):
        opcode, data = ABNF.OPCODE_TEXT, event.text.encode()
    elif isinstance(event, events.Binary):
        opcode, data = ABNF.OPCODE_BINARY, event.data
    elif isinstance(event, (events.Ping, events.Pong)):
        opcode = ABNF.OPCODE_PING if isinstance(event, events.Ping) else ABNF.OPCODE_PONG
        data = event.data
    else:
        opcode = ABNF.OPCODE_CLOSE
        data = b"" if event.code is None else struct.pack("!H", event.code) + event.reason.encode()
    return ABNF(1, 0, 0, 0, opcode, 0, data)


def _close_payload(status: int, reason: str | bytes | None) -> bytes:
    if not 0 <= status <= MAX_CODE:
        raise ValueError(f"status={status!r}: expected a close code, such as 1000 or 4000")
    return struct.pack("!H", status) + as_payload(reason or b"", "utf-8")


def create_connection(
    url: str, timeout: float | None = None, class_: type[WebSocket] = WebSocket, **options: Any
) -> WebSocket:
    """Open a connection, and return it. Blocks for at most the timeout.

    Args:
        url: a ``ws://`` or ``wss://`` URL.
        timeout: as `WebSocket.settimeout`; None for that of `setdefaulttimeout`.
        class_: the class to use instead of `WebSocket`.
        options: arguments of `WebSocket` and of `WebSocket.connect`.

    Raises:
        Exception: as `WebSocket` and `WebSocket.connect` do.
    """
    own = {
        "sockopt": options.pop("sockopt", []),
        "sslopt": options.pop("sslopt", {}),
        "fire_cont_frame": options.pop("fire_cont_frame", False),
        "enable_multithread": options.pop("enable_multithread", True),
        "skip_utf8_validation": options.pop("skip_utf8_validation", False),
    }
    websocket = class_(**own, **options)
    websocket.settimeout(timeout if timeout is not None else getdefaulttimeout())
    websocket.connect(url, **options)
    return websocket

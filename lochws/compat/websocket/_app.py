"""WebSocketApp of the drop-in for websocket-client: callbacks on the thread that calls `run_forever`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ... import errors, events
from ...system.waits import ReentrantEvent, wait_set
from ...url import parse_url
from ._abnf import ABNF, Data, as_payload
from ._core import WebSocket, as_frame
from ._exceptions import (
    WebSocketConnectionClosedException,
    WebSocketException,
    WebSocketTimeoutException,
)
from ._failures import why_ended
from ._link import Item, Link
from ._logging import error, info, isEnabledForTrace, trace
from ._options import refuse_unsupported
from ._socket import getdefaulttimeout

#: The longest payload of a control frame (RFC 6455 section 5.5).
MAX_PAYLOAD = 125

_default_reconnect: float = 0


def set_reconnect(reconnectInterval: float) -> None:  # noqa: N803  the original's name
    """Set the `reconnect` of `WebSocketApp.run_forever` for calls without it, in seconds; 0 for none."""
    global _default_reconnect  # noqa: PLW0603  the setting is one per process
    _default_reconnect = reconnectInterval


class WebSocketApp:
    """A connection with callbacks. `run_forever` opens it, and calls them on its own thread.

    Callbacks may be changed at any time. An exception in a callback is logged and passed to `on_error`.
    Pings are answered while a callback runs. Any thread may call the methods.

    Args:
        url: a ``ws://`` or ``wss://`` URL.
        header: additional headers, as a dict or as a list of ``"Name: value"``; or a function that returns
            them, called for each attempt.
        on_open: called with the app when the connection is open.
        on_reconnect: called instead of `on_open` for all connections but the first, if given.
        on_message: called with the app and a message: a str if it is text, else bytes.
        on_error: called with the app and an exception.
        on_close: called with the app, the server's close code and its reason, once, when `run_forever` ends;
            both are None if there was no Close frame.
        on_ping, on_pong: called with the app and the payload as bytes.
        on_cont_message: not supported.
        keep_running: has no effect, as in the original.
        get_mask_key: not supported.
        cookie: the value of the Cookie header.
        subprotocols: the subprotocols to offer. A server that chooses none of them is refused.
        on_data: called before `on_message` with the app, the message, its opcode, and True.
        socket: a connected socket to use for one connection.

    Raises:
        NotImplementedError: an argument that is not supported was given.

    Attributes:
        sock: the `WebSocket` while there is a connection or an attempt, else None.
        keep_running: whether `run_forever` is to go on; set it to False to end it.
        has_errored: whether `run_forever` has met an error.
        last_ping_tm, last_pong_tm: when the last ping was sent and the last pong arrived, in seconds since
            1970; 0 if there was none.
        last_close_frame: the server's last Close frame, or None.
    """

    def __init__(
        self,
        url: str,
        header: Mapping[str, str | None] | Iterable[str] | Callable[[], Any] | None = None,
        on_open: Callable[..., object] | None = None,
        on_reconnect: Callable[..., object] | None = None,
        on_message: Callable[..., object] | None = None,
        on_error: Callable[..., object] | None = None,
        on_close: Callable[..., object] | None = None,
        on_ping: Callable[..., object] | None = None,
        on_pong: Callable[..., object] | None = None,
        on_cont_message: Callable[..., object] | None = None,
        keep_running: bool = True,
        get_mask_key: Callable[[int], Any] | None = None,
        cookie: str | None = None,
        subprotocols: list[str] | None = None,
        on_data: Callable[..., object] | None = None,
        socket: Any = None,
    ) -> None:
        refuse_unsupported(get_mask_key=get_mask_key, on_cont_message=on_cont_message)
        self.url = url
        self.header = [] if header is None else header
        self.cookie = cookie
        self.subprotocols = subprotocols
        self.on_open, self.on_reconnect = on_open, on_reconnect
        self.on_error, self.on_close = on_error, on_close
        self.on_message, self.on_data = on_message, on_data
        self.on_ping, self.on_pong = on_ping, on_pong
        self.on_cont_message = on_cont_message
        self.get_mask_key = get_mask_key
        self.prepared_socket = socket
        self.sock: WebSocket | Any = None
        self.has_errored = False
        self.last_close_frame: ABNF | None = None
        self.last_ping_tm = self.last_pong_tm = 0.0
        self.ping_interval: float = 0.0
        self.ping_timeout: float | None = None
        self.ping_payload: str | bytes = ""
        self._keep_running = False
        self._reconnects = False
        self._stopped = ReentrantEvent()  # ends the wait before the next attempt
        self._closing: set[object] = set()  # a token for each call of `close` that is under way

    @property
    def keep_running(self) -> bool:
        """True while `run_forever` is to go on. Any thread may set it."""
        return self._keep_running

    @keep_running.setter
    def keep_running(self, value: bool) -> None:
        self._keep_running = bool(value)
        if not value:
            self._stopped.set()
            self._wake(self.sock)

    @staticmethod
    def _wake(sock: WebSocket | Any) -> None:
        if (link := getattr(sock, "_link", None)) is not None:
            link.wake()

    # Sending and closing.

    def send(self, data: Data, opcode: int = ABNF.OPCODE_TEXT) -> None:
        """Send a message. Any thread may call it.

        Args:
            data: a str, or bytes; text given as bytes must be valid UTF-8.
            opcode: `ABNF.OPCODE_TEXT`, `ABNF.OPCODE_BINARY`, or that of a control frame.

        Raises:
            WebSocketConnectionClosedException: there is no open connection.
            WebSocketTimeoutException: the network took nothing for the default timeout.
            ValueError: the data or the opcode is invalid.
        """
        sock = self.sock
        if sock is None or sock.send(data, opcode) == 0:
            raise WebSocketConnectionClosedException("not sent: there is no open connection")

    def send_text(self, text_data: str) -> None:
        """Send a text message; raises what `send` raises."""
        self.send(text_data, ABNF.OPCODE_TEXT)

    def send_bytes(self, data: bytes | bytearray) -> None:
        """Send a binary message; raises what `send` raises."""
        self.send(data, ABNF.OPCODE_BINARY)

    def close(self, **kwargs: Any) -> None:
        """Close the connection, and end `run_forever`. Any thread or callback may call it.

        Waits until the server has answered, for at most 3 seconds.

        Args:
            kwargs: arguments of `WebSocket.close`: ``status``, ``reason``, ``timeout``.
        """
        sock, token = self.sock, object()
        try:
            self._closing.add(token)  # first: run_forever() ends now, and must leave the closing to this call
            self.keep_running = False
            if sock is not None:
                sock.close(**kwargs)
                if sock.close_frame is not None:
                    self.last_close_frame = sock.close_frame
                if self.sock is sock:
                    self.sock = None
        finally:
            self._closing.discard(token)
            self._wake(sock)

    def ready(self) -> bool:
        """Return whether there is an open connection."""
        return bool(self.sock is not None and self.sock.connected)

    # Running.

    def run_forever(
        self,
        sockopt: Iterable[tuple[int, int, Any]] | None = None,
        sslopt: dict[str, Any] | None = None,
        ping_interval: float = 0,
        ping_timeout: float | None = None,
        ping_payload: str | bytes = "",
        http_proxy_host: str | None = None,
        http_proxy_port: int | str | None = None,
        http_no_proxy: Iterable[str] | None = None,
        http_proxy_auth: tuple[str, str] | None = None,
        http_proxy_timeout: float | None = None,
        skip_utf8_validation: bool = False,
        host: str | None = None,
        origin: str | None = None,
        dispatcher: object = None,
        suppress_origin: bool = False,
        suppress_host: bool = False,
        proxy_type: str | None = None,
        reconnect: float | None = None,
    ) -> bool:
        """Open the connection, and call the callbacks on this thread until it ends.

        Args:
            sockopt: tuples with the arguments of `socket.setsockopt`.
            sslopt: TLS options: see `WebSocket`.
            ping_interval: seconds between pings; 0 for none. A slow callback does not delay them.
            ping_timeout: seconds that the server has to answer a ping; less than `ping_interval`.
            ping_payload: the payload of the pings.
            http_proxy_host, http_proxy_port, http_no_proxy, http_proxy_auth, http_proxy_timeout, proxy_type,
                host, origin, suppress_origin, suppress_host: see `WebSocket.connect`.
            skip_utf8_validation: not supported.
            dispatcher: not supported.
            reconnect: seconds until the next attempt, whenever a connection or an attempt has ended; 0 for
                none, None for that of `set_reconnect`.

        Returns:
            True if there was an error: an attempt failed, the connection was lost, or Ctrl-C was pressed.
            False if the connection was closed, by either side.

        Raises:
            WebSocketException: the arguments about pings contradict each other, or `run_forever` is running.
            NotImplementedError: an argument that is not supported was given.
            SystemExit: a callback raised it.
        """
        refuse_unsupported(
            skip_utf8_validation=skip_utf8_validation, dispatcher=dispatcher,
            get_mask_key=self.get_mask_key, on_cont_message=self.on_cont_message,
        )
        _check_pings(ping_interval, ping_timeout, ping_payload)
        parse_url(self.url)
        if self.sock is not None:
            raise WebSocketException("run_forever(): it is running already, or was left with an open socket")
        self.ping_interval, self.ping_timeout, self.ping_payload = ping_interval, ping_timeout, ping_payload
        delay = _default_reconnect if reconnect is None else reconnect
        self._reconnects = bool(delay)
        self.has_errored = False
        self._stopped.clear()
        self._keep_running = True
        options = {
            "http_proxy_host": http_proxy_host, "http_proxy_port": http_proxy_port,
            "http_no_proxy": http_no_proxy, "http_proxy_auth": http_proxy_auth,
            "http_proxy_timeout": http_proxy_timeout, "host": host, "origin": origin,
            "suppress_origin": suppress_origin, "suppress_host": suppress_host, "proxy_type": proxy_type,
        }
        try:
            self._run_connection(sockopt, sslopt, options, is_again=False)
            while delay and self._keep_running:
                info(f"the next attempt begins in {delay} s")
                if not wait_set(self._stopped, delay):
                    self._run_connection(sockopt, sslopt, options, is_again=True)
        except (KeyboardInterrupt, Exception) as failure:  # noqa: BLE001  on_error has had it, or has raised it
            self.has_errored = True
            info(f"run_forever() ends: {type(failure).__name__}: {failure}")
        finally:
            self._end()
        return self.has_errored

    def _run_connection(
        self,
        sockopt: Iterable[tuple[int, int, Any]] | None,
        sslopt: dict[str, Any] | None,
        options: dict[str, Any],
        *,
        is_again: bool,
    ) -> None:
        """Open one connection, and serve it to its end."""
        if self.sock is not None:
            self.sock.shutdown()
        self.last_close_frame = None
        sock = self.sock = WebSocket(sockopt=sockopt, sslopt=sslopt)
        sock.settimeout(getdefaulttimeout())
        prepared, self.prepared_socket = self.prepared_socket, None
        try:
            header = self.header() if callable(self.header) else self.header
            sock.connect(
                self.url, header=header, cookie=self.cookie, subprotocols=self.subprotocols, socket=prepared,
                **options,
            )
            self.last_ping_tm = self.last_pong_tm = 0.0
            if self.ping_interval and sock._link is not None:
                _Pings(self, sock._link)
            self._callback(self.on_reconnect if is_again and self.on_reconnect else self.on_open)
            self._serve(sock)
        except BaseException as failure:
            if not self._keep_running and isinstance(failure, WebSocketConnectionClosedException):
                return  # close() was called while connecting or while waiting
            self._failed(failure, is_again)
            if not isinstance(failure, Exception):
                raise

    def _failed(self, failure: BaseException, is_again: bool) -> None:
        """Tell that an attempt or a connection has ended with an error."""
        self.has_errored = True
        if not is_again:
            self._callback(self.on_error, failure)
        if self._reconnects:
            info(f"{failure}; reconnecting")
        else:
            error(f"the connection has ended: {failure}")

    def _serve(self, sock: WebSocket) -> None:
        """Call the callbacks until the connection has ended, or `keep_running` is False."""
        link = sock._link
        assert link is not None  # connect() has made it
        while self._keep_running:
            if not link.wait_readable(None):
                continue  # keep_running may have changed
            for event in link.take_some():
                if not self._handle(sock, event):
                    return
            if link.is_over and self.keep_running:
                raise self._why_ended(link)

    def _why_ended(self, link: Link) -> Exception:
        # As with the original, a program that shuts its own connection down learns of it by a missing pong.
        if link.is_discarded and self.ping_interval and self.ping_timeout:
            return WebSocketTimeoutException("ping/pong timed out")
        return why_ended(link)

    def _handle(self, sock: WebSocket, event: Item) -> bool:
        """Call the callbacks of one event. Return whether the connection goes on."""
        if not self._keep_running:
            return False
        if isinstance(event, events.Text):
            self._deliver(event.text, ABNF.OPCODE_TEXT)
        elif isinstance(event, events.Binary):
            self._deliver(event.data, ABNF.OPCODE_BINARY)
        elif isinstance(event, Exception):
            raise event
        elif isinstance(event, events.Ping):
            self._callback(self.on_ping, event.data)
        elif isinstance(event, events.Pong):
            self.last_pong_tm = event.received_time
            self._callback(self.on_pong, event.data)
        else:
            sock.connected = False
            self._server_closed(as_frame(event))
            return False
        return True

    def _deliver(self, data: str | bytes, opcode: int) -> None:
        if isEnabledForTrace():
            trace(f"received: opcode={opcode} data={data!r}")
        if self.on_data is not None:
            self._callback(self.on_data, data, opcode, True)
        self._callback(self.on_message, data)

    def _server_closed(self, frame: ABNF) -> None:
        """Tell of the server's Close frame. It is an error to `on_error`, but not to `has_errored`."""
        self.last_close_frame = frame
        code, reason = self._parse_close_frame(frame)
        text = "the server closed the connection" + ("" if code is None else f" with code {code}")
        failure = WebSocketConnectionClosedException(f"{text}: {reason}" if reason else text)
        failure.status_code = code  # type: ignore[attr-defined]  # as the original does
        failure.reason = reason  # type: ignore[attr-defined]  # likewise
        if not self._reconnects:
            self._callback(self.on_error, failure)

    def _end(self) -> None:
        """Close what is open, and call `on_close`."""
        self._keep_running = False
        sock, self.sock = self.sock, None
        if sock is not None:
            if (link := getattr(sock, "_link", None)) is not None:
                # A call of close() sends its own Close frame. That call may have been cut off.
                link.wait_until(lambda: not self._closing or link.is_discarded, None)
            sock.close()
            if sock.close_frame is not None:
                self.last_close_frame = sock.close_frame
        self._callback(self.on_close, *self._get_close_args(self.last_close_frame))

    def _get_close_args(self, close_frame: ABNF | None) -> list[Any]:
        """Return the arguments of `on_close`."""
        if close_frame is None or self.on_close is None:
            return [None, None]
        return list(self._parse_close_frame(close_frame))

    def _parse_close_frame(self, close_frame: ABNF | None) -> tuple[int | None, str | None]:
        """Return the code and the reason of a Close frame."""
        data = as_payload(close_frame.data, "utf-8") if close_frame is not None else b""
        if len(data) < 2:
            return None, None
        return int.from_bytes(data[:2], "big"), data[2:].decode(errors="replace") or None

    def _callback(self, callback: Callable[..., object] | None, *args: Any) -> None:
        """Call a callback, if there is one. What it raises is logged, and passed to `on_error`."""
        if callback is None:
            return
        try:
            callback(self, *args)
        except Exception as failure:  # noqa: BLE001  whatever it is
            name = getattr(callback, "__qualname__", None) or repr(callback)
            error(f"the callback {name} raised {type(failure).__name__}: {failure}")
            if self.on_error is not None and callback is not self.on_error:
                self.on_error(self, failure)


class _Pings:
    """The pings of one connection, on the reader thread of lochws.

    Args:
        app: the app, with its interval, timeout and payload.
        link: the connection, which gets a failure if a ping is not answered in time.
    """

    def __init__(self, app: WebSocketApp, link: Link) -> None:
        self._app, self._link = app, link
        self._interval, self._timeout = app.ping_interval, app.ping_timeout
        self._payload = as_payload(app.ping_payload, "utf-8")
        self._pongs = 0  # how many had arrived when the last ping was sent
        self._later(self._interval, self._ping)

    def _later(self, seconds: float, function: Callable[[], None]) -> None:
        try:
            self._link.app.call_later(seconds, function)
        except errors.WebSocketError:
            pass  # the connection has ended

    def _ping(self) -> None:
        self._pongs = self._link.pongs
        try:
            self._link.app.send_ping(self._payload)
        except errors.WebSocketError:
            return  # likewise, or the server takes nothing, which the next check notices
        self._app.last_ping_tm = time.time()
        if self._timeout:
            self._later(self._timeout, self._check)
        self._later(self._interval, self._ping)

    def _check(self) -> None:
        if self._link.pongs == self._pongs:
            self._link.fail(WebSocketTimeoutException("ping/pong timed out"))


def _check_pings(interval: float, timeout: float | None, payload: str | bytes) -> None:
    """Refuse an interval and a timeout that contradict each other, and a payload that is too long.

    Raises:
        WebSocketException: they are not valid; the message names them.
    """
    if (size := len(as_payload(payload, "utf-8"))) > MAX_PAYLOAD:
        raise WebSocketException(f"ping_payload has {size} bytes: expected at most {MAX_PAYLOAD}")
    if timeout is not None and timeout <= 0:
        raise WebSocketException(f"ping_timeout={timeout!r}: expected a number above 0, or None")
    if interval is None or interval < 0:
        raise WebSocketException(f"ping_interval={interval!r}: expected 0 or more")
    if timeout and interval and interval <= timeout:
        raise WebSocketException(f"ping_interval={interval!r}: expected more than ping_timeout={timeout!r}")

"""WebSocketApp: subclass it or decorate it; start, run_forever, close, join."""

from __future__ import annotations

import logging
import os
import socket
import ssl
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from math import inf
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from . import events
from .dispatch.handler import Handler
from .dispatch.naming import EventName, Function, check_attributes, check_class, event_names
from .dispatch.registry import Registry, Wrapper
from .engine.threads import Threads
from .errors import WebSocketError
from .life.backoff import DEFAULT_BACKOFF, Backoff
from .life.calls import ScheduledCall
from .life.gate import Gate
from .life.lifecycle import Lifecycle
from .life.state import State
from .options import (
    MIB,
    ON_HANDLER_ERROR,
    Auth,
    CookieJar,
    Deflate,
    Headers,
    Password,
    Proxies,
    SocketOption,
    Timing,
    TraceFunction,
    check_choice,
)
from .system.report import report, safe_str
from .transport.pins import Pins
from .websocket import WebSocket

if TYPE_CHECKING:
    from typing_extensions import Self

#: What is left of a closing handshake after Ctrl-C, in seconds, before the connection is dropped.
INTERRUPT_SECONDS = 5.0


class _Uninitialised(WebSocketError, AttributeError):
    """Something of an app is missing since its base class was not initialised."""


class _Unset:
    """Stands for the attributes that __init__ sets: says what was forgotten."""

    def __get__(self, instance: object | None, owner: type) -> Self:
        if instance is None:
            return self
        raise _Uninitialised(f"{owner.__name__}.__init__ must call super().__init__(url) first")


class WebSocketApp(WebSocket, Handler):
    """A WebSocket that runs itself, in threads of its own, and stays connected.

    ::

        class Ticker(WebSocketApp):
            def on_ready(self, event):
                self.send_json(type="subscribe", channels=["ticker"])

            def on_text(self, event):
                print(event.json)

        Ticker("wss://feed.example.org").run_forever()

    Subclass it and override ``on_<event>`` methods, mark methods with `lochws.on`, or register
    handlers with `on` and `add_handler`; all can be mixed. Handlers run on the reader thread, one at
    a time, in the order of the events. In them everything may be called but what waits.

    The constructor starts nothing. Both threads are daemons.

    Args:
        url: and all further parameters as for `WebSocket`.
        on_handler_error: what happens after a handler has raised (it is logged with its traceback and
            given to `on_error` in any case): ``"continue"``, ``"reconnect"``, or ``"stop"`` the app
            with close code 1011.
        threads: threads to share with other apps; None for a pair of its own.
    """

    def __init__(
        self,
        url: str | Callable[[], str],
        proxies: Proxies = None,
        protocols: Iterable[str] | Callable[[], Iterable[str]] | None = None,
        agent: str | None = None,
        compress: bool | Deflate = False,
        ssl_verify: bool = True,
        ssl_cafile: str | os.PathLike[str] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        trace: TraceFunction | bool | None = None,
        *,
        proxy_headers: Headers | Callable[[], Headers] | None = None,
        proxy_auth: Literal["auto", "basic", "digest"] = "auto",
        headers: Headers | Callable[[], Headers] | None = None,
        origin: str | None = None,
        subprotocols: Iterable[str] | Callable[[], Iterable[str]] | None = None,
        auth: Auth | None = None,
        cookies: CookieJar | None = None,
        max_redirects: int = 10,
        open_timeout: float | None = 30.0,
        phase_timeouts: Mapping[str, float | None] | None = None,
        ssl_system_store: bool = True,
        ssl_certfile: str | os.PathLike[str] | None = None,
        ssl_keyfile: str | os.PathLike[str] | None = None,
        ssl_password: Password | None = None,
        ssl_pins: Pins | None = None,
        server_hostname: str | None = None,
        unix: str | None = None,
        sock: socket.socket | None = None,
        connect: Callable[[str, int], socket.socket] | None = None,
        source_address: tuple[str, int] | None = None,
        socket_options: Iterable[SocketOption] | None = None,
        max_message_size: int | None = 64 * MIB,
        max_queue: int = 16 * MIB,
        when_full: Literal["raise", "block", "drop"] = "raise",
        send_timeout: float | None = 30.0,
        on_handler_error: Literal["continue", "reconnect", "stop"] = "continue",
        threads: Threads | None = None,
    ) -> None:
        super().__init__(
            url, proxies, protocols, agent, compress, ssl_verify, ssl_cafile, ssl_context, trace,
            proxy_headers=proxy_headers, proxy_auth=proxy_auth,
            headers=headers, origin=origin, subprotocols=subprotocols, auth=auth, cookies=cookies,
            max_redirects=max_redirects, open_timeout=open_timeout, phase_timeouts=phase_timeouts,
            ssl_system_store=ssl_system_store, ssl_certfile=ssl_certfile, ssl_keyfile=ssl_keyfile,
            ssl_password=ssl_password, ssl_pins=ssl_pins, server_hostname=server_hostname, unix=unix,
            sock=sock, connect=connect, source_address=source_address, socket_options=socket_options,
            max_message_size=max_message_size, max_queue=max_queue, when_full=when_full,
            send_timeout=send_timeout,
        )
        check_choice("on_handler_error", on_handler_error, ON_HANDLER_ERROR)
        if threads is not None and not isinstance(threads, Threads):
            raise TypeError(f"threads={threads!r}: expected a lochws.Threads, or None")
        self._on_handler_error = on_handler_error
        self._registry = Registry(self._handler_failed, self._final_unhandled)
        self._registry.add_methods(self)
        self._lifecycle = Lifecycle(
            self.url, self._dialler, self._options, threads, self._registry, self._traffic
        )
        self._life = self._lifecycle

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_class(cls)

    if not TYPE_CHECKING:
        # What __init__ makes hides these. (A __getattr__ would do without a list of names, and slow down
        # every attribute that the user's handlers look at.)
        url = _close_events = _endpoint = _added_headers = _traffic = _life = _Unset()
        _lifecycle = _registry = _on_handler_error = _Unset()

    # Running.

    def start(
        self,
        poll: float | None = 5.0,
        ping_rate: float | None = 30.0,
        ping_timeout: float | Literal["auto"] | None = "auto",
        auto_pong: bool = True,
        close_timeout: float | None = 30.0,
        *,
        persist: bool | Backoff = True,
    ) -> None:
        """Start connecting in the background, and return at once.

        An app that is over can be started again. One that was closed before it was ever started ends
        at once.

        Args:
            poll, ping_rate, ping_timeout, auto_pong, close_timeout: as for `WebSocket.connect`.
            persist: whether to connect again whenever an attempt or a connection has ended that the
                user did not end: True for a default `Backoff`.

        Raises:
            TypeError, ValueError: an argument is wrong.
            AttributeError: a function was assigned to ``on_<event>``, where nobody would call it.
            WebSocketError: the app is running already; or gevent has patched `threading` after lochws was
                imported, and has to do so before.
            RuntimeError: no thread can be started.
            OSError: there are no descriptors left.
        """
        check_attributes(self)
        timing = Timing(
            poll=poll, ping_rate=ping_rate, ping_timeout=ping_timeout, auto_pong=auto_pong,
            close_timeout=close_timeout,
        )
        if not isinstance(persist, (bool, Backoff)):
            raise TypeError(f"persist={persist!r}: expected True, False or a Backoff")
        backoff = DEFAULT_BACKOFF if persist is True else persist or None
        if backoff is None and self._on_handler_error == "reconnect":
            raise ValueError('on_handler_error="reconnect" needs persist')
        name = f"{type(self).__name__}-{self._endpoint.host if self._endpoint else 'app'}"
        self._lifecycle.start(timing, backoff, name)

    def run_forever(
        self,
        poll: float | None = 5.0,
        ping_rate: float | None = 30.0,
        ping_timeout: float | Literal["auto"] | None = "auto",
        auto_pong: bool = True,
        close_timeout: float | None = 30.0,
        *,
        persist: bool | Backoff = True,
    ) -> events.ConnectFail | events.Disconnected | None:
        """Start, and wait until the app is over. For any thread, a daemon too; not for handlers.

        Ctrl-C (and any other exception that a signal handler raises here) closes the connection and,
        once that is done or has taken too long, goes on as it does everywhere. A second Ctrl-C
        does not wait.

        Returns:
            What ended it: the final event of the last attempt. None if the app was closed before the
            first one.

        Raises:
            TypeError, ValueError, WebSocketError, RuntimeError: as for `start`.
        """
        self.start(poll, ping_rate, ping_timeout, auto_pong, close_timeout, persist=persist)
        try:
            self._refuse_in_handler("run_forever")  # of another app that shares the threads
            self._lifecycle.wait_stopped(None)
        except BaseException:
            self.close(reason="interrupted")
            if not self._lifecycle.in_handler and not self._lifecycle.join(INTERRUPT_SECONDS):
                self.force_disconnect()
            raise
        self._lifecycle.join(None)
        return self._lifecycle.final_event

    def stop(self, timeout: float | None = None) -> bool:
        """Close, and wait until the app is over. In a handler: close, without waiting.

        Args:
            timeout: seconds to wait at most, or None for no limit.

        Returns:
            Whether the app is over.
        """
        self.close()
        if self._lifecycle.in_handler:
            return False
        return self.join(timeout)

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the app is over and its own threads have ended. Not for handlers.

        Returns:
            False if that took longer than `timeout` seconds.

        Raises:
            WebSocketError: called in a handler, which would wait for itself.
        """
        self._refuse_in_handler("join")
        return self._lifecycle.join(timeout)

    def reconnect(self) -> None:
        """Drop the connection and open a new one at once; during a back-off, end the wait.

        May be called from any thread and in any handler; never blocks.

        Raises:
            WebSocketError: the app is not running.
        """
        self._lifecycle.reconnect()

    def wait_ready(self, timeout: float | None = None) -> bool:
        """Wait until there is a connection, the handlers of its Ready have run and all gates are open.

        Not for handlers.

        Returns:
            False if that took longer than `timeout` seconds, or if the app is over.

        Raises:
            WebSocketError: called in a handler while there is no connection: it would wait for itself.
        """
        if not self.is_active:
            self._refuse_in_handler("wait_ready")
        return self._lifecycle.in_handler or self._lifecycle.wait_ready(timeout)

    def wait_closed(self, timeout: float | None = None) -> bool:
        """Wait until the app is over: closed, or given up. Not for handlers.

        Returns:
            False if that took longer than `timeout` seconds.

        Raises:
            WebSocketError: called in a handler, which would wait for itself.
        """
        self._refuse_in_handler("wait_closed")
        return self._lifecycle.wait_stopped(timeout)

    # Handlers and their thread.

    def on(self, *names: EventName) -> Callable[[Function], Function]:
        """Register a function for one or more events, by name or by class: a decorator.

        ``@app.on("text")``, ``@app.on(events.Ready, events.Disconnected)``; ``"event"`` stands for all
        events, ``"error"`` for what handlers raise, ``"batch"`` and ``"sent"`` for `Handler.on_batch` and
        `Handler.on_sent`. The function is returned unchanged.

        Raises:
            TypeError: something is neither a name nor an event class; or the function cannot be called
                with one argument, or is a coroutine or generator function.
            ValueError: there is no such event; the message names the nearest.
        """
        wanted = event_names(names)

        def register(function: Function) -> Function:
            self._registry.add_function(function, wanted)
            self._handlers_changed()
            return function

        return register

    def add_handler(self, handler: object) -> None:
        """Register all ``on_<event>`` methods of an object, and those marked with `lochws.on`.

        Raises:
            TypeError: it has none, or one of them is misspelt or cannot be called with one argument.
        """
        self._registry.add_object(handler)
        self._handlers_changed()

    def remove_handler(self, handler: object) -> None:
        """Remove a function or an object that was registered, from all its events.

        Raises:
            ValueError: it is not registered.
        """
        self._registry.remove(handler)

    def handles(self, *names: EventName) -> bool:
        """Whether a handler of its own is registered for one of these events; `on_event` is none.

        Raises:
            TypeError, ValueError: as for `on`.
        """
        return self._registry.has(event_names(names))

    def wrap_handlers(self, wrapper: Wrapper) -> None:
        """Have all handlers, present and to come, called through a wrapper: to time or trace them.

        ``wrapper(name, handler)`` gets what a handler was registered for (``"text"``, ``"event"``,
        ``"error"``, …) and the handler; it returns what is to be called in its place, with the same one
        argument. It is asked again whenever handlers are added or removed. Of several wrappers the last is
        outermost. Handlers of ``"sent"`` run on threads that send, all others on the handlers' thread. Costs
        nothing where there is none. Any thread.

        Raises:
            TypeError: the wrapper, or what it makes of a handler, cannot be called.
        """
        self._registry.wrap(wrapper)

    def unwrap_handlers(self, wrapper: Wrapper) -> None:
        """Take a wrapper away again that was given to `wrap_handlers`.

        It is the last that is this one, or else equals it. A handler that is under way goes on in it. Any
        thread.

        Raises:
            ValueError: no handlers are called through it.
        """
        self._registry.unwrap(wrapper)

    def call_later(self, seconds: float, function: Callable[[], object]) -> ScheduledCall:
        """Have a function called on the handlers' thread, between two handlers, after so many seconds.

        0 is as soon as the handler under way, if any, has returned. What the function raises is treated as
        what a handler raises. It is not called once the app is over. The time is kept by the supervisor's
        thread, and a call that falls due during an attempt to connect may come when that has ended. May be
        called from any thread; never blocks.

        Args:
            seconds: how long from now; a negative number counts as 0.
            function: what to call, without arguments.

        Returns:
            The call, which can be cancelled; what then is left of it goes when its time is over.

        Raises:
            TypeError: seconds is no number, or the function cannot be called.
            ValueError: seconds is not finite.
            WebSocketError: the app is not running.
        """
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
            raise TypeError(f"call_later: seconds={seconds!r}: expected a number")
        if not -inf < seconds < inf:
            raise ValueError(f"call_later: seconds={seconds!r}: expected a finite number")
        if not callable(function):
            raise TypeError(f"call_later: {function!r} cannot be called")
        return self._lifecycle.call_later(seconds, function)

    def gate(self) -> Gate:
        """Make a gate: each connection to come begins with everybody refused who sends, but through the gate.

        For what must be said first, such as a log-in; `lochws.handlers.subscriptions` uses it. A connection
        that is open already stays as it is. Any thread; never blocks.
        """
        return self._lifecycle.gate()

    @property
    def in_handler(self) -> bool:
        """Whether the calling thread is the one that runs this app's handlers."""
        return self._lifecycle.in_handler

    @property
    def is_stopping(self) -> bool:
        """Whether `close` was called since the app was started, and nothing is to follow. Any thread.

        For handlers that wait for something: what they wait for holds up the end of the app.
        """
        return self._lifecycle.is_stopping

    @property
    def waiting_bytes(self) -> int:
        """About how many bytes of received messages wait for handlers."""
        return self._lifecycle.waiting_bytes

    # What a WebSocket does otherwise.

    def connect(self, *args: object, **kwargs: object) -> Generator[events.Event, None, None]:
        """Refused: an app runs itself. Iterate a `WebSocket` instead.

        Raises:
            WebSocketError: always.
        """
        raise WebSocketError("a WebSocketApp runs itself: start() it, or iterate a WebSocket instead")

    def __iter__(self) -> Iterator[events.Event]:
        return self.connect()

    def __enter__(self) -> Self:
        if self.state in (State.NEW, State.STOPPED):
            self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close, and wait until the app is over."""
        self.stop()

    def _refuse_in_handler(self, method: str) -> None:
        if self._lifecycle.in_handler:
            raise WebSocketError(f"{method} in a handler would wait for itself: handlers run on that thread")

    def _final_unhandled(self, event: events.ConnectFail | events.Disconnected) -> None:
        is_well = isinstance(event, events.Disconnected) and (event.graceful or event.ended_by == "client")
        if not (is_well or self._lifecycle.is_stopping):
            report(logging.WARNING, "%s: %s", self.url, event.reason)

    def _handler_failed(self, error: BaseException) -> None:
        if self._on_handler_error == "reconnect":
            self._lifecycle.drop(f"handler failed; {safe_str(error)}")
        elif self._on_handler_error == "stop":
            self.close(1011, "handler failed")

    def _handlers_changed(self) -> None:
        # Events that nobody would have seen were not made.
        if (connection := self._lifecycle.connection) is not None:
            connection.loop.touch(connection)

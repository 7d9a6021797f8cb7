"""WebSocketApp: a WebSocket client that runs in its own threads and stays connected."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Coroutine, Generator, Hashable, Iterator, Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from . import events
from .codec import Codec
from .dispatch.arguments import refusing_unknown
from .dispatch.callables import accepted
from .dispatch.handler import Handler
from .dispatch.hiding import check_instance, read_only
from .dispatch.naming import EventName, Function, as_registering, check_attributes, check_class, event_names
from .dispatch.registry import Registry, Wrapper
from .dispatch.routes import Match, check_not_bare
from .engine.threads import Threads
from .errors import WaitFailed, WebSocketError
from .life.backoff import Backoff, as_backoff
from .life.calls import ScheduledCall, check_call
from .life.gate import Gate
from .life.interruption import end_interrupted
from .life.lifecycle import Lifecycle
from .life.reasons import why_not_ready, why_running
from .life.state import State, describe
from .options import (
    KNOWN,
    MIB,
    ON_HANDLER_ERROR,
    URL,
    Deflate,
    OptionsDocumentation,
    OptionsSignature,
    Protocols,
    Proxies,
    Timing,
    TraceFunction,
    WebSocketOptions,
    as_timeout,
    check_bool,
    check_choice,
    check_number,
)
from .system.control import interrupts
from .system.lazy import ensure_whole
from .system.report import safe_str
from .websocket import Internals, WebSocket, check_given

if sys.version_info >= (3, 11):
    from typing import Self, Unpack
elif TYPE_CHECKING:
    from typing_extensions import Self, Unpack

if TYPE_CHECKING:
    import asyncio
    import ssl

    from .diagnosis.findings import Finding
    from .dispatch.typed import Routed
    from .engine.bounded_inbox import WhenFull
    from .engine.governor import Governor
    from .mailbox import Mailbox
else:
    Routed = Function

_Event = TypeVar("_Event", bound=events.Event)

#: How long `wait_ready` waits for another thread to start the app, in seconds.
START_SECONDS = 0.5
#: The time limit for each step of `diagnose`, in seconds, if none is given.
STEP_SECONDS = 30.0


class WebSocketAppOptions(WebSocketOptions, total=False):
    """The keyword options of `WebSocketApp`: those of `WebSocket`, plus three."""

    on_handler_error: Literal["continue", "reconnect", "stop"]
    """What to do when a handler raises: ``"continue"``, ``"reconnect"``, or ``"stop"`` the app with close
    code 1011. In every case the error is logged with its traceback and passed to `on_error`.
    Default: 'continue'."""
    threads: Threads | None
    """A `Threads` to share with other apps. Default: None, for a pair of threads of its own."""
    governor: Governor | None
    """A `Governor` to share with other apps, which limits their attempts to connect. Default: None."""


_DEFAULTS: dict[str, Any] = {"on_handler_error": "continue", "threads": None, "governor": None}
_KNOWN = KNOWN.union(_DEFAULTS)


class AppInternals(Internals):
    """The internals of a WebSocketApp.

    Args:
        app: the app.
        url: the URL to connect to, as the user passed it.
        given: the options that the user passed, by their public names.
    """

    __slots__ = ("app", "on_handler_error", "registry")
    life: Lifecycle

    def __init__(self, app: WebSocketApp, url: URL, given: dict[str, Any]) -> None:
        self.on_handler_error: str = given.pop("on_handler_error", "continue")
        threads: Threads | None = given.pop("threads", None)
        governor: Governor | None = given.pop("governor", None)
        super().__init__(url, given)
        check_choice("on_handler_error", self.on_handler_error, ON_HANDLER_ERROR)
        if threads is not None and not isinstance(threads, Threads):
            raise TypeError(f"threads={threads!r}: expected a lochws.Threads, or None")
        if governor is not None:
            ensure_whole("lochws.engine.governor")
            from .engine.governor import Governor  # noqa: PLC0415  few share one

            if not isinstance(governor, Governor):
                raise TypeError(f"governor={governor!r}: expected a lochws.Governor, or None")
        self.app = app
        self.registry = Registry(self.handler_failed, self.options.codec)
        self.life = Lifecycle(
            self.url, self.dialler, self.options, threads, self.registry, self.traffic, governor
        )

    def why_not_open(self, state: State) -> str:
        """Explain why a send is impossible now, and say what to do."""
        if self.life.is_forked_copy:
            return describe(state, is_forked_copy=True)
        if state is State.NEW:
            return "the app has not been started; call start() first"
        if state is State.STOPPED:
            return "the app has stopped"
        if state in (State.DISCONNECTED, State.BACKING_OFF):
            return "the next connection is not open yet; send in on_ready, or after wait_ready()"
        return "the connection is not open yet; send in on_ready, or after wait_ready()"

    def refuse_in_handler(self, method: str) -> None:
        """Raise WebSocketError in a handler, where `method` would wait for that handler."""
        if self.life.in_handler:
            raise WebSocketError(f"{method}() was called in a handler, and would wait for that handler's end")

    def check_wait(self, method: str, timeout: float | None, done: bool, *, for_ready: bool = False) -> bool:
        """Return True if a wait succeeded.

        Raises:
            WaitFailed: it failed; the message says why.
        """
        if done:
            return True
        life = self.life
        state, end = life.state, life.final_event
        if for_ready:
            behind_gate = state is State.OPEN and life.sendable is None
            reason = why_not_ready(state, end, behind_gate=behind_gate)
        else:
            reason = why_running(state, is_stopping=life.is_stopping)
        timed_out = not (for_ready and state is State.STOPPED)
        within = f" within {timeout:g} s" if timed_out and timeout is not None else ""
        what = "not ready" if for_ready else "not stopped"
        raise WaitFailed(f"{method}(): {what}{within}: {reason}", event=end, timed_out=timed_out)

    def handlers_changed(self) -> None:
        """Tell the loop that handlers were added: it does not create events that no handler wants."""
        if (connection := self.life.connection) is not None:
            connection.loop.touch(connection)

    def add_coroutine(
        self, function: Callable[..., Any], names: tuple[EventName, ...], loop: asyncio.AbstractEventLoop
    ) -> None:
        """Register a coroutine function as a handler that runs on an event loop.

        Raises:
            TypeError: the function is not a coroutine function of one argument, or `loop` is not a loop.
            ValueError: one of the names is not that of an event.
        """
        ensure_whole("lochws.aio.coroutines")
        from .aio.coroutines import add  # noqa: PLC0415  most programs have no loop
        ensure_whole("lochws.mailbox")
        from .mailbox import kinds_of  # noqa: PLC0415  likewise

        kinds = kinds_of(names, "@app.on")
        add(self.life, self.registry, function, kinds, loop)

    def handler_failed(self, error: BaseException) -> None:
        """Continue, reconnect or stop after a handler's failure, as the option `on_handler_error` says."""
        if self.on_handler_error == "reconnect":
            self.life.drop(f"handler failed; {safe_str(error)}")
        elif self.on_handler_error == "stop":
            self.close_app(code=1011, reason="handler failed")

    def close_app(self, **arguments: object) -> None:
        """Call the app's `close` with the arguments that it accepts: a subclass may have overridden it."""
        self.app.close(**accepted(self.app.close, arguments, arguments))


class Hooks:
    """Tools for the authors of handlers that other programs will use: `WebSocketApp.hooks`."""

    __slots__ = ("_internals",)

    def __init__(self, internals: AppInternals) -> None:
        self._internals = internals

    @property
    def codec(self) -> Codec:
        """The codec that decodes and encodes the app's messages: the option `codec`, or JSON as text."""
        return self._internals.options.codec

    def gate(self) -> Gate:
        """Create a gate, which refuses ordinary sends on each new connection until it is opened.

        Use a gate for session setup such as a login, and send the setup's own messages through it, as
        `lochws.handlers.subscriptions` does. A connection that is already open is not affected. Any thread
        may call this; it never blocks.
        """
        return self._internals.life.gates.make()

    def handles(self, *names: EventName) -> bool:
        """Return whether a handler is registered for one of these events. `on_event` does not count.

        Raises:
            TypeError: an argument is neither a name nor an event class.
            ValueError: no event has that name.
        """
        return self._internals.registry.has(event_names(names, "app.hooks.handles"))

    def wrap_handlers(self, wrapper: Wrapper) -> None:
        """Call all handlers, present and future, through a wrapper, for example to time or trace them.

        ``wrapper(name, handler)`` receives the name that a handler is registered under (``"text"``,
        ``"event"``, ``"error"``, …) and the handler. It returns the function to call instead, with the same
        single argument. It is called again whenever handlers are added or removed. If there are several
        wrappers, the one added last is outermost. Handlers of ``"sent"`` run on the threads that send, all
        others on the reader thread. Any thread may call this; it never blocks.

        Raises:
            TypeError: the wrapper, or what it returns for a handler, is not callable. In that case nothing
                changes.
        """
        self._internals.registry.wrap(wrapper)

    def unwrap_handlers(self, wrapper: Wrapper) -> None:
        """Remove a wrapper that was passed to `wrap_handlers`, the latest if there are several.

        An identical wrapper is preferred to one that is merely equal. A handler that is running finishes
        inside its wrapper. Any thread may call this; it never blocks.

        Raises:
            ValueError: no such wrapper is in use.
        """
        self._internals.registry.unwrap(wrapper)


class WebSocketApp(WebSocket, Handler):
    """A WebSocket client (RFC 6455) that runs in its own threads, calls your handlers and stays connected.

    ::

        class Ticker(WebSocketApp):
            def on_ready(self, event):
                self.send_json(type="subscribe", channels=["ticker"])

            def on_text(self, event):
                print(event.json)

        Ticker("wss://feed.example.org").run_forever()

    To handle events, override ``on_<event>`` methods in a subclass, mark methods of any name with
    `lochws.on`, register functions with `on` or objects with `add_handler`; all of these can be mixed.
    Handlers run on the app's reader thread, one at a time, in the order of the events. A handler may call
    any method except those that would wait for it to return.

    The constructor starts nothing: `start` connects in the background, `run_forever` blocks. When a
    connection ends, the app reconnects automatically, with exponential back-off and jitter, until `close` or
    `stop` is called. All methods may be called from any thread. All threads are daemons.

    The parameters up to `trace` may be passed by position; their names and order are Lomond's. The other
    options are keyword-only. Editors show each option's full description where it is used.

    Args:
        url: a ``ws://`` or ``wss://`` URL; ``http://`` and ``https://`` are accepted as aliases. A user name
            and password in it are used for Basic authentication and never shown. A function that returns the
            URL is called for each attempt.
        proxies: a proxy URL; or a mapping with proxy URLs under ``"http"`` (for ws) and ``"https"`` (for
            wss); or a function that receives the URL at each attempt and returns a proxy URL. None uses the
            proxies set in the environment, ``{}`` uses none. The schemes are http, https, socks4, socks4a,
            socks5 and socks5h.
        protocols: the subprotocols to offer, in order of preference; a function that returns them is called
            for each attempt. ``subprotocols=`` is accepted as another name.
        agent: the User-Agent header; None sends lochws's name and version, ``""`` sends none.
        compress: offer permessage-deflate (RFC 7692): True, or a `Deflate` with details.
        ssl_verify: verify the server's certificate and name.
        ssl_cafile: a file of certificate authorities to trust in addition to the system's.
        ssl_context: an `ssl.SSLContext` to use for TLS. It is never modified, and the two options above are
            then ignored.
        trace: a function that receives a dict for each step, or True to write the dicts to the debug log.

    Options (keyword-only):
        headers: additional request headers. Default: None.
        origin: the Origin header. Default: None.
        auth: user name and password for Basic authentication. Default: None.
        cookies: a cookie jar such as `http.cookiejar.CookieJar`. Default: None.
        require_protocol: whether to reject a server that agrees to none of the `protocols`. Default: False.
        max_redirects: how many redirects to follow per attempt. Default: 10.
        redirect_headers: what to send when a redirect leads to another origin. Default: 'own'.
        open_timeout: seconds for the whole opening. Default: 30.0.
        phase_timeouts: seconds by phase of the opening. Default: None.
        proxy_headers: additional headers that are sent only to an HTTP proxy. Default: None.
        proxy_auth: how to authenticate to an HTTP proxy. Default: 'auto'.
        ssl_system_store: whether to trust the system's certificate authorities. Default: True.
        ssl_certfile: a file with the client certificate. Default: None.
        ssl_keyfile: a file with the private key of `ssl_certfile`. Default: None.
        ssl_password: the password of that key. Default: None.
        ssl_pins: certificate pins. Default: None.
        server_hostname: the name to expect in the server's certificate. Default: None.
        unix: the path of a Unix socket to connect to. Default: None.
        sock: a connected socket to use for a single attempt. Default: None.
        connect: a function that takes a host and port and returns a connected socket. Default: None.
        source_address: the IP address and port to connect from. Default: None.
        socket_options: arguments for `socket.setsockopt`. Default: None.
        max_message_size: the largest message to accept, in bytes. Default: 64 MiB.
        stream_above: messages with more bytes than this are passed on while they arrive. Default: None.
        max_stream_size: the largest message to accept as a stream, in bytes. Default: None.
        max_queue: how many bytes may wait to be sent. Default: 16 MiB.
        fragment: the largest payload of a frame in bytes; larger messages are fragmented. Default: 256 KiB.
        when_full: what a send does when the queue has no room. Default: 'raise'.
        send_timeout: seconds that a send waits for room with ``when_full="block"``. Default: 30.0.
        rate: how many messages the server accepts in a given time. Default: None.
        encoder: a function that converts the objects passed to `send_json` to JSON. Default: None.
        codec: the functions that decode and encode messages, in place of Python's `json`. Default: None.
        text_as: whether text messages are kept as str or as UTF-8 bytes. Default: 'str'.
        history: how many messages `Disconnected.history` lists one by one. Default: 0.
        on_handler_error: what to do when a handler raises. Default: 'continue'.
        threads: a `Threads` to share with other apps. Default: None.
        governor: a `Governor` to share with other apps, which limits their attempts. Default: None.

    Raises:
        TypeError, ValueError: an argument is invalid; the message says which, and what would be right.
        FileNotFoundError: the file `ssl_cafile` does not exist.
    """

    if not TYPE_CHECKING:
        __doc__ = OptionsDocumentation(__doc__, WebSocketOptions, WebSocketAppOptions)
    else:
        _lochws: AppInternals

    def __init__(
        self,
        url: URL,
        proxies: Proxies = None,
        protocols: Protocols | None = None,
        agent: str | None = None,
        compress: bool | Deflate = False,
        ssl_verify: bool = True,
        ssl_cafile: str | os.PathLike[str] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        trace: TraceFunction | bool | None = None,
        **options: Unpack[WebSocketAppOptions],
    ) -> None:
        # No docstring: editors would show it in place of the class's. WebSocket.__init__ is not called,
        # because it would create an iteration.
        given: dict[str, Any] = {
            "proxies": proxies, "protocols": protocols, "agent": agent, "compress": compress,
            "ssl_verify": ssl_verify, "ssl_cafile": ssl_cafile, "ssl_context": ssl_context, "trace": trace,
            **options,
        }
        check_given(type(self), url, given, _KNOWN)
        self._lochws = AppInternals(self, url, given)
        check_instance(self)
        self._lochws.registry.add_methods(self)

    if not TYPE_CHECKING:
        __signature__ = OptionsSignature(__init__, WebSocketAppOptions, _DEFAULTS)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse a subclass with a misspelt handler, or one that hides a public name of this class."""
        super().__init_subclass__(**kwargs)
        check_class(cls)

    # Running.

    @refusing_unknown(is_app=True)
    def start(
        self,
        poll: float | None = 5.0,
        ping_rate: float | None = 30.0,
        ping_timeout: float | Literal["auto"] | None = "auto",
        auto_pong: bool = True,
        close_timeout: float | None = 30.0,
        *,
        stale_after: float | None = None,
        on_stale: Literal["reconnect", "tell"] = "reconnect",
        persist: bool | Backoff = True,
    ) -> None:
        """Start connecting in the background, and return immediately.

        An app that has stopped can be started again. An app that was closed before its first start stops
        immediately.

        Args:
            poll: seconds between Poll events; 0 or None for none.
            ping_rate: seconds between automatic pings; 0 or None for none.
            ping_timeout: seconds to wait after a ping for any byte from the server before giving up the
                connection; ``"auto"`` is twice the ping rate; 0 or None for no limit.
            auto_pong: whether to answer the server's pings automatically.
            close_timeout: seconds that the server has to answer a Close frame and end the connection; 0 or
                None for no limit.
            stale_after: seconds without any part of a message after which a Stale event is emitted, even if
                the server answers pings; 0 or None for no limit.
            on_stale: what happens then: ``"reconnect"`` drops the connection, as `force_disconnect` does;
                ``"tell"`` leaves it open.
            persist: whether to reconnect whenever an attempt fails or a connection ends without a call to
                `close`: True uses the default `Backoff`; or pass a Backoff of your own.

        Raises:
            TypeError, ValueError: an argument is invalid.
            AttributeError: a function was assigned to ``on_<event>``, where it would not be called; or an
                attribute hides a method of WebSocketApp.
            WebSocketError: the app is already running; or gevent patched `threading` after lochws was
                imported (it must patch first).
            RuntimeError: no thread can be started.
            OSError: there are no file descriptors left.
        """
        check_instance(self)
        check_attributes(self)
        internals = self._lochws
        timing = Timing(
            poll=poll, ping_rate=ping_rate, ping_timeout=ping_timeout, auto_pong=auto_pong,
            close_timeout=close_timeout, stale_after=stale_after, on_stale=on_stale,
        )
        backoff = as_backoff(persist)
        if backoff is None and internals.on_handler_error == "reconnect":
            raise ValueError('persist=False: on_handler_error="reconnect" needs persist')
        if internals.life.state not in (State.NEW, State.STOPPED):
            raise WebSocketError("already started")
        name = f"{type(self).__name__}-{internals.endpoint.host if internals.endpoint else 'app'}"
        internals.life.start(timing, backoff, name)

    @refusing_unknown(is_app=True)
    def run_forever(
        self,
        poll: float | None = 5.0,
        ping_rate: float | None = 30.0,
        ping_timeout: float | Literal["auto"] | None = "auto",
        auto_pong: bool = True,
        close_timeout: float | None = 30.0,
        *,
        stale_after: float | None = None,
        on_stale: Literal["reconnect", "tell"] = "reconnect",
        persist: bool | Backoff = True,
    ) -> events.ConnectFail | events.Disconnected | None:
        """Start the app and block until it has stopped. Any thread may call this, except from a handler.

        Ctrl-C (like any other exception that a signal handler raises here) closes the connection. It then
        propagates as usual, when the connection has closed or after 5 seconds. A second Ctrl-C does not wait.

        Args:
            poll: seconds between Poll events; 0 or None for none.
            ping_rate: seconds between automatic pings; 0 or None for none.
            ping_timeout: seconds to wait after a ping for any byte from the server before giving up the
                connection; ``"auto"`` is twice the ping rate; 0 or None for no limit.
            auto_pong: whether to answer the server's pings automatically.
            close_timeout: seconds that the server has to answer a Close frame and end the connection; 0 or
                None for no limit.
            stale_after: seconds without any part of a message after which a Stale event is emitted, even if
                the server answers pings; 0 or None for no limit.
            on_stale: what happens then: ``"reconnect"`` drops the connection, as `force_disconnect` does;
                ``"tell"`` leaves it open.
            persist: whether to reconnect whenever an attempt fails or a connection ends without a call to
                `close`: True uses the default `Backoff`; or pass a Backoff of your own.

        Returns:
            The final event of the last attempt; None if the app was closed before the first one.

        Raises:
            TypeError, ValueError: an argument is invalid.
            AttributeError: a function was assigned to ``on_<event>``, where it would not be called; or an
                attribute hides a method of WebSocketApp.
            WebSocketError: the app is already running, or the caller is a handler.
            RuntimeError: no thread can be started.
            OSError: there are no file descriptors left.
        """
        check_instance(self)
        given = {
            "poll": poll, "ping_rate": ping_rate, "ping_timeout": ping_timeout, "auto_pong": auto_pong,
            "close_timeout": close_timeout, "stale_after": stale_after, "on_stale": on_stale,
            "persist": persist,
        }
        life = self._lochws.life
        was_running = life.state not in (State.NEW, State.STOPPED)
        try:
            self.start(**accepted(self.start, given, {**vars(Timing()), "persist": True}))
            self._lochws.refuse_in_handler("run_forever")  # of another app that shares the threads
            life.wait_stopped(None)
        except BaseException:
            if not was_running and life.state not in (State.NEW, State.STOPPED):  # else start() has failed
                close = partial(self._lochws.close_app, reason="interrupted")
                end_interrupted(close, life.in_handler, life.join, self.force_disconnect)
            raise
        life.join(None)
        return life.final_event

    def stop(self, timeout: float | None = None, *, check: bool = False) -> bool:
        """Close the app and wait until it has stopped; in a handler, close it without waiting.

        Args:
            timeout: the longest time to wait, in seconds; None for no limit.
            check: whether to raise WaitFailed, which says why, instead of returning False.

        Returns:
            True if the app has stopped.

        Raises:
            TypeError, ValueError: the timeout is not a number, or `check` is not a bool. In that case the app
                is not closed.
            WebSocketError: called with ``check=True`` in a handler, which would wait for itself; the app is
                not closed.
            WaitFailed: with ``check=True``, the wait failed; `WaitFailed.event` is the last final event.
        """
        timeout = as_timeout("stop", timeout)
        check_bool("check", check)
        if check:
            self._lochws.refuse_in_handler("stop")
        self.close()
        done = not self._lochws.life.in_handler and self._lochws.life.join(timeout)
        return self._lochws.check_wait("stop", timeout, done) if check else done

    def join(self, timeout: float | None = None, *, check: bool = False) -> bool:
        """Wait until the app has stopped and its own threads have ended.

        Args:
            timeout: the longest time to wait, in seconds; None for no limit.
            check: whether to raise WaitFailed, which says why, instead of returning False.

        Returns:
            True if the app stopped in time or was never started.

        Raises:
            TypeError, ValueError: the timeout is not a number, or `check` is not a bool.
            WebSocketError: called from a handler of this app, which would then wait for itself.
            WaitFailed: with ``check=True``, the wait failed; `WaitFailed.event` is the last final event.
        """
        timeout = as_timeout("join", timeout)
        check_bool("check", check)
        self._lochws.refuse_in_handler("join")
        done = self._lochws.life.join(timeout)
        return self._lochws.check_wait("join", timeout, done) if check else done

    def reconnect(self) -> None:
        """Drop the connection and open a new one immediately; during a back-off, end the wait.

        May be called from any thread and in any handler; never blocks.

        Raises:
            WebSocketError: the app is not running.
        """
        self._lochws.life.reconnect()

    def wait_ready(self, timeout: float | None = None, *, check: bool = False) -> bool:
        """Wait until a connection is open, the handlers of its Ready event have run, and all gates are open.

        Args:
            timeout: the longest time to wait, in seconds; None for no limit.
            check: whether to raise WaitFailed, which says why, instead of returning False.

        Returns:
            True once all of that is the case; False if the timeout expires or the app stops first. In that
            case `last_end` says how the last attempt ended; with ``check=True``, the exception does.

        Raises:
            TypeError, ValueError: the timeout is not a number, or `check` is not a bool.
            WebSocketError: the app has not been started, and no other thread starts it within half a second;
                or called from a handler while there is no connection: the handler would wait for itself.
            WaitFailed: with ``check=True``, the wait failed; `WaitFailed.event` is the last final event.
        """
        timeout = as_timeout("wait_ready", timeout)
        check_bool("check", check)
        life = self._lochws.life
        if not life.wait_started(START_SECONDS if timeout is None else min(timeout, START_SECONDS)):
            raise WebSocketError("wait_ready(): the app has not been started; call start() first")
        if life.sendable is None or life.state is not State.OPEN:
            self._lochws.refuse_in_handler("wait_ready")
        done = life.in_handler or life.wait_ready(timeout)
        return self._lochws.check_wait("wait_ready", timeout, done, for_ready=True) if check else done

    def wait_closed(self, timeout: float | None = None, *, check: bool = False) -> bool:
        """Wait until the app has stopped because it was closed or gave up.

        Args:
            timeout: the longest time to wait, in seconds; None for no limit.
            check: whether to raise WaitFailed, which says why, instead of returning False.

        Returns:
            True if the app stopped in time or was never started.

        Raises:
            TypeError, ValueError: the timeout is not a number, or `check` is not a bool.
            WebSocketError: called from a handler of this app, which would then wait for itself.
            WaitFailed: with ``check=True``, the wait failed; `WaitFailed.event` is the last final event.
        """
        timeout = as_timeout("wait_closed", timeout)
        check_bool("check", check)
        self._lochws.refuse_in_handler("wait_closed")
        done = self._lochws.life.wait_stopped(timeout)
        return self._lochws.check_wait("wait_closed", timeout, done) if check else done

    def diagnose(self, timeout: float | None = 30.0) -> list[Finding]:
        """Examine the way to the server, step by step, as the command ``lochws doctor`` does. Blocks.

        Makes one more connection with the app's options, sends a few pings over it, and closes it. Unless a
        proxy is used, it also tries every address of the host and reads the server's certificate, whether or
        not it is trusted. The app's own connection, handlers and counters are not affected, and the app need
        not be running. Functions that were passed as options are called on the calling thread.

        Args:
            timeout: the longest time for each step, in seconds; None for 30.

        Returns:
            The findings in order. Each has the name of its step, a verdict, the result, its duration, and
            advice if there is something to change.

        Raises:
            TypeError, ValueError: the timeout is not a positive number.
            WebSocketError: called from a handler or another function that lochws called, which must not
                block, or by a signal handler that has interrupted lochws; or the option `sock` was given,
                which only one connection can use.
        """
        if timeout is not None:
            check_number("diagnose: timeout", timeout, 0.001, "0.001 seconds or more, or None")
        if self.in_handler or interrupts():
            raise WebSocketError("diagnose() blocks: do not call it in a handler or other callback")
        options = self._lochws.options
        if options.sock is not None:
            raise WebSocketError("diagnose(): only one connection can use the socket given as sock")
        ensure_whole("lochws.diagnosis.examination")
        from .diagnosis.examination import ClientCertificate, diagnose  # noqa: PLC0415  most apps never ask

        seconds = timeout or STEP_SECONDS
        websocket = self._lochws.as_websocket(trace=None, history=0, open_timeout=seconds)
        own = ClientCertificate(
            certfile=options.ssl_certfile, keyfile=options.ssl_keyfile, password=options.ssl_password
        )
        is_direct = options.unix is None and options.connect is None
        return diagnose(websocket, seconds, own=own, is_direct=is_direct)

    def connect(
        self,
        poll: float | None = 5.0,
        ping_rate: float | None = 30.0,
        ping_timeout: float | Literal["auto"] | None = "auto",
        auto_pong: bool = True,
        close_timeout: float | None = 30.0,
        *,
        stale_after: float | None = None,
        on_stale: Literal["reconnect", "tell"] = "reconnect",
    ) -> Generator[events.AnyEvent, None, None]:
        """Raise WebSocketError: an app runs itself. Call `start` or `run_forever`, or iterate a `WebSocket`.

        Raises:
            WebSocketError: always.
        """
        raise WebSocketError("a WebSocketApp runs itself: call start(), or iterate a WebSocket instead")

    def __iter__(self) -> Iterator[events.AnyEvent]:
        """Raise WebSocketError: an app runs itself. To iterate events, use a `WebSocket`."""
        return WebSocketApp.connect(self)

    def __enter__(self) -> Self:
        """Start the app, unless it is running."""
        if self._lochws.life.state in (State.NEW, State.STOPPED):
            self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the app, and wait until it has stopped."""
        self.stop()

    # Coroutines.

    def ready(self, timeout: float | None = None) -> Coroutine[Any, Any, None]:
        """Wait in a coroutine until messages can be sent, as `wait_ready` does: ``await app.ready()``.

        The event loop is not blocked. Plain handlers of Ready have run by then; coroutine handlers perhaps
        not.

        Args:
            timeout: the longest time to wait, in seconds; None for no limit.

        Raises:
            TypeError, ValueError: the timeout is not a number.
            WebSocketError: the app has not been started.
            WaitFailed: the app stopped or the timeout expired; the message says why, and `WaitFailed.event`
                is the final event of the last attempt or connection.
        """
        timeout = as_timeout("ready", timeout)
        internals = self._lochws
        life = internals.life
        if life.state is State.NEW:
            raise WebSocketError("ready(): the app has not been started; call start() first")

        async def ready() -> None:
            ensure_whole("lochws.aio.waiting")
            from .aio.waiting import until  # noqa: PLC0415  most programs have no event loop

            await until(life, lambda: life.is_ready or life.has_stopped, timeout)
            internals.check_wait("ready", timeout, life.is_ready, for_ready=True)

        return ready()

    def closed(
        self, timeout: float | None = None
    ) -> Coroutine[Any, Any, events.ConnectFail | events.Disconnected | None]:
        """Wait in a coroutine until the app has stopped, as `wait_closed` does: ``await app.closed()``.

        The event loop is not blocked.

        Args:
            timeout: the longest time to wait, in seconds; None for no limit.

        Returns:
            The final event of the last connection or attempt; None if there was none.

        Raises:
            TypeError, ValueError: the timeout is not a number.
            WaitFailed: the timeout expired; the message says what the app is doing.
        """
        timeout = as_timeout("closed", timeout)
        internals = self._lochws
        life = internals.life

        async def closed() -> events.ConnectFail | events.Disconnected | None:
            ensure_whole("lochws.aio.waiting")
            from .aio.waiting import until  # noqa: PLC0415  most programs have no event loop

            done = await until(life, lambda: life.state in (State.NEW, State.STOPPED), timeout)
            internals.check_wait("closed", timeout, done)
            return life.final_event

        return closed()

    async def __aenter__(self) -> Self:
        """Start the app, unless it is running."""
        return WebSocketApp.__enter__(self)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the app, and wait until it has stopped, without blocking the event loop."""
        self.close()
        await self.closed()

    # Handlers and their thread.

    @as_registering
    def on(
        self, *names: EventName, loop: asyncio.AbstractEventLoop | None = None
    ) -> Callable[[Function], Function]:
        """Register a function as the handler of one or more events, by name or by class: a decorator.

        ``@app.on("text")``, ``@app.on(events.Ready, events.Disconnected)``. ``"event"`` means every event,
        ``"error"`` an exception that a handler raised, ``"batch"`` messages that arrived together, and
        ``"sent"`` what is about to be sent (see `Handler.on_batch` and `Handler.on_sent`). The decorator
        returns the function unchanged.

        With `loop`, the function is a coroutine function, which runs on that event loop:
        ``@app.on("text", loop=asyncio.get_running_loop())``. The coroutine handlers of an app on the same
        loop run one at a time, in the order of the events, after the plain handlers. When 1,000 events are
        waiting for them, the app's plain handlers wait too, and TCP backpressure slows the server down. They
        end with their loop; the log says so.

        Args:
            names: the events, by name or by class.
            loop: the event loop for a coroutine function; None for a plain function.

        Raises:
            TypeError: an argument is neither a name nor an event class; or the function cannot be called
                with one argument; or it is a generator function; or a coroutine function without a loop, or
                a plain function with one.
            ValueError: no event has that name; the message suggests the closest one. Or a loop was given for
                ``"error"``, ``"batch"`` or ``"sent"``.
        """
        if not isinstance(self, WebSocketApp):
            raise TypeError(
                "WebSocketApp.on needs an app: write @app.on('text'), or @lochws.on('text') in a class"
            )
        wanted = event_names(names, "@app.on")

        def register(function: Function) -> Function:
            if loop is not None:
                self._lochws.add_coroutine(function, wanted, loop)
            else:
                self._lochws.registry.add_function(function, wanted)
            self._lochws.handlers_changed()
            return function

        return register

    def route(
        self,
        match: Mapping[Any, Any] | Callable[[Any], object] | type[object] | None = None,
        /,
        **fields: Any,
    ) -> Callable[[Routed], Routed]:
        """Register a function as a handler of the messages whose decoded fields match: a decorator.

        ``@app.route(type="ticker")``, ``@app.route(type="trade", data={"side": "buy"})``,
        ``@app.route(lambda message: message["price"] > 100)``. The function receives the `Text` event, or
        `Binary` if the option `codec` is for binary messages; ``event.json`` is the decoded message. A
        message is decoded once, however many routes there are. Every route that matches is called, in the
        order of registration, after the handlers of ``"text"`` (or ``"binary"``), and also if there are
        handlers of ``"batch"``. A text that is not valid JSON matches no route. Exceptions of the predicate,
        and others that occur in decoding, are treated like a handler's. In a class, mark methods with
        `lochws.route`; `remove_handler` removes a function from its routes. The decorator returns the
        function unchanged. Any thread may call this; it never blocks.

        Args:
            match: a predicate, which takes the decoded message and returns whether it matches; a class that
                the decoded message must be an instance of, for codecs that return such objects; or a mapping
                of fields whose names are not identifiers. None: the fields decide.
            fields: the fields that the message must have at least, and their values: items of a mapping, or
                attributes of another object. A mapping as the value describes a nested object.

        Raises:
            TypeError, ValueError: the arguments do not describe messages; or the function cannot be called
                with one argument, or is a coroutine or generator function.
        """
        if not isinstance(self, WebSocketApp):
            raise TypeError(
                "WebSocketApp.route needs an app: write @app.route(…), or @lochws.route(…) in a class"
            )
        check_not_bare(match, sys._getframe(1), "app.route")
        wanted = Match(match, fields)

        def register(function: Routed) -> Routed:
            self._lochws.registry.add_route(function, wanted)
            self._lochws.handlers_changed()
            return function

        return register

    def add_handler(self, handler: object) -> None:
        """Register all ``on_<event>`` methods of an object, and those marked with `on` or `route` of lochws.

        Raises:
            TypeError: the object has no such method, or one of them is misspelt or cannot be called with one
                argument.
        """
        self._lochws.registry.add_object(handler)
        self._lochws.handlers_changed()

    def remove_handler(self, handler: object) -> None:
        """Remove a registered function or object from all its events.

        Raises:
            ValueError: it is not registered.
        """
        registry = self._lochws.registry
        if True not in [handlers.remove(handler) for _, handlers in registry.coroutines]:
            registry.remove(handler)

    @overload
    def mailbox(
        self, name: Literal["text"] | type[events.Text], /, *, size: int = 1000,
        when_full: WhenFull = "pause", key: Callable[[events.Text], Hashable] | None = None,
        max_bytes: int = 16 * MIB,
    ) -> Mailbox[events.Text]: ...

    @overload
    def mailbox(
        self, name: Literal["binary"] | type[events.Binary], /, *, size: int = 1000,
        when_full: WhenFull = "pause", key: Callable[[events.Binary], Hashable] | None = None,
        max_bytes: int = 16 * MIB,
    ) -> Mailbox[events.Binary]: ...

    @overload
    def mailbox(
        self, *names: Literal["text", "binary"], size: int = 1000, when_full: WhenFull = "pause",
        key: Callable[[Any], Hashable] | None = None, max_bytes: int = 16 * MIB,
    ) -> Mailbox[events.Text | events.Binary]: ...

    @overload
    def mailbox(
        self, *names: type[_Event], size: int = 1000, when_full: WhenFull = "pause",
        key: Callable[[Any], Hashable] | None = None, max_bytes: int = 16 * MIB,
    ) -> Mailbox[_Event]: ...

    @overload
    def mailbox(
        self, *names: EventName, size: int = 1000, when_full: WhenFull = "pause",
        key: Callable[[Any], Hashable] | None = None, max_bytes: int = 16 * MIB,
    ) -> Mailbox[Any]: ...

    def mailbox(
        self,
        *names: EventName,
        size: int = 1000,
        when_full: WhenFull = "pause",
        key: Callable[[Any], Hashable] | None = None,
        max_bytes: int = 16 * MIB,
    ) -> Mailbox[Any]:
        """Create a mailbox, in which received messages wait for a thread or a coroutine that asks for them.

        ::

            mailbox = app.mailbox("text")
            app.start()
            for message in mailbox:                  # or: mailbox.get(timeout=5)
                print(message.text)

        Any thread and any handler may call this; it never blocks. The mailbox gets what arrives from now on,
        after the handlers, and lasts until the app stops; a reconnect does not end it. Keep a reference to
        it: a mailbox that nothing refers to is closed.

        Args:
            names: the events to receive, by name or by class, such as ``"text"`` or `lochws.events.Ready`;
                ``"event"`` means all. None given: text and binary messages.
            size: the maximum number of waiting events.
            when_full: what happens if that many are waiting.
                ``"pause"``: the app's handlers wait until half of the room is free, and nothing is lost.
                lochws soon stops reading, and TCP backpressure slows the server down; pings are still
                answered. Apps that share `threads` wait, too. Once the app is being closed nothing waits:
                about 16 MiB more are accepted, and the rest is dropped.
                ``"drop_oldest"``: the event that has waited longest is dropped.
                ``"latest"``: the oldest waiting event with the same key is dropped; failing that, one of
                another key that has newer events waiting. So each key keeps its latest event. If there is no
                room for one event per key, the handlers wait.
            key: a function that returns the key of an event, for ``when_full="latest"``; called on the
                handlers' thread. None: all events have the same key.
            max_bytes: the maximum memory for waiting events, in bytes. A single event is accepted whatever
                its size.

        Raises:
            TypeError, ValueError: an argument is invalid; the message names it and says what would be valid.
        """
        ensure_whole("lochws.mailbox")
        from .mailbox import make_mailbox  # noqa: PLC0415  most apps have none

        internals = self._lochws
        mailbox = make_mailbox(
            internals.life, internals.registry, names, size=size, when_full=when_full, key=key,
            max_bytes=max_bytes,
        )
        internals.handlers_changed()
        return mailbox

    def call_later(self, seconds: float, function: Callable[[], object]) -> ScheduledCall:
        """Call a function on the reader thread, between two handlers, after a number of seconds.

        0 means as soon as the running handler, if any, has returned. An exception that the function raises is
        treated like a handler's. The function is not called once the app has stopped. A call that falls due
        during an attempt to connect may be delayed until the attempt ends. Any thread may call this; it never
        blocks.

        Args:
            seconds: the delay from now; a negative number counts as 0.
            function: the function to call, without arguments.

        Returns:
            The scheduled call, which can be cancelled.

        Raises:
            TypeError: `seconds` is not a number, or `function` cannot be called without arguments.
            ValueError: `seconds` is not finite.
            WebSocketError: the app is not running.
        """
        check_call(seconds, function)
        return self._lochws.life.call_later(seconds, function)

    @read_only
    def hooks(self) -> Hooks:
        """Tools for handlers that others will use: gates, wrappers, and which events have handlers."""
        return Hooks(self._lochws)

    @read_only
    def in_handler(self) -> bool:
        """True if the calling thread is the reader thread, which runs this app's handlers."""
        return self._lochws.life.in_handler

    @read_only
    def is_stopping(self) -> bool:
        """True if `close` has been called since the app was started. Any thread may read it.

        A handler that waits for something should check it, because the app cannot stop before the handler
        returns.
        """
        return self._lochws.life.is_stopping

    @read_only
    def last_end(self) -> events.ConnectFail | events.Disconnected | None:
        """The final event of the last attempt or connection that has ended; None if none has since `start`.

        It stays when the next connection opens, and when the app has stopped. Any thread may read it.
        """
        return self._lochws.life.final_event

    @read_only
    def waiting_bytes(self) -> int:
        """The approximate number of received bytes waiting for handlers. Any thread may read it."""
        return self._lochws.life.waiting_bytes

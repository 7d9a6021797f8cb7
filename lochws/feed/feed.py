"""Feed: one stream of events over several connections, renewed before they end, replaced when they fail."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar, overload

from .. import events
from ..app import WebSocketApp
from ..base.callables import check_takes
from ..dispatch.arguments import check_keywords
from ..dispatch.handler import Handler
from ..dispatch.naming import (
    EventName,
    Function,
    as_registering,
    check_class,
    event_names,
    methods_of,
)
from ..dispatch.registry import Registry, Wrapper
from ..dispatch.routes import Match
from ..engine.threads import Threads
from ..errors import WaitFailed, WebSocketClosed, WebSocketError, WebSocketUnavailable
from ..life.backoff import Backoff, as_backoff
from ..life.calls import ScheduledCall, check_call
from ..life.interruption import end_interrupted
from ..options import (
    MIB,
    Encoder,
    Timing,
    TimingOptions,
    as_timeout,
    check_bool,
    check_number,
    check_range,
)
from ..protocol.close import as_reason, encode_close
from ..protocol.frames import BytesLike
from ..system.lazy import ensure_whole
from ..system.report import safe_name
from ..url import parse_url, redacted, without_secrets
from .conductor import Conductor
from .leg import Leg, made_app
from .life import FeedLife, FinalEvent
from .plan import Plan
from .status import FeedStatus, Switch

if sys.version_info >= (3, 11):
    from typing import Self, Unpack
elif TYPE_CHECKING:
    from typing_extensions import Self, Unpack

if TYPE_CHECKING:
    import asyncio

    from ..dispatch.typed import Routed
    from ..engine.bounded_inbox import WhenFull
    from ..mailbox import Mailbox
else:
    Routed = Function

_Event = TypeVar("_Event", bound=events.Event)


class Feed(Handler):
    """One stream of events over several connections: an app that outlives its connections.

    ::

        def connect(url):
            app = WebSocketApp(url)
            Subscriptions(app, [Step({"op": "subscribe", "channel": "trades"})])
            return app

        feed = Feed(connect, urls=["wss://a.example.org", "wss://b.example.org"],
                    renew_after=23 * 3600, key=lambda event: event.json["id"])

        @feed.on("text")
        def show(event):
            print(event.json)

        feed.run_forever()

    Before a known end of a connection, a second one opens, sets up its session and takes over; the first one
    is closed when the second has caught up with it. With ``copies=2`` two connections are always open, and
    the first copy of each message wins. Either way, handlers see one stream.

    Handlers are registered as with a `WebSocketApp`: override ``on_<event>`` methods in a subclass, or use
    `on`, `route` and `add_handler`. They all run on one thread, one at a time. To read the events in a loop
    instead, use a `mailbox`. ``ready`` and ``disconnected`` are the beginning and the end of a time during
    which the feed can send, however many connections that takes. Between such times, handlers also see the
    next connection open, fail and back off. Otherwise they see the events of the connection that sends.

    The handlers of an app that the factory returns see its own connection, except that its ``on_text``,
    ``on_binary`` and ``on_batch`` are called only for messages that the feed passes on.

    The constructor starts nothing. All methods may be called from any thread.

    Args:
        factory: a function that takes a URL and returns a new `WebSocketApp`, with everything that a
            connection needs: options, Subscriptions, heartbeats. `WebSocketApp` itself will do, or a
            subclass. It is called for each connection, on the handlers' thread, and must not block.
        urls: one or more URLs, the preferred one first. A URL stays in use until it fails; then the first one
            that has not failed recently is used. A second copy uses another URL, if there is one.
        copies: 1, or 2 for two connections at a time; the latter needs `key`.
        renew_after: seconds after which a connection is renewed; None for never. It is renewed up to 5 %
            earlier, so that clients that were started together do not connect together each time.
        renew_on: close codes, such as ``{1001, 1012}``, with which the server announces the end of the
            connection, so that the next one opens at once, without a back-off. Or a function that receives
            each `Closing`, `Text` and `Binary`, and returns whether to renew the connection. A connection is
            renewed at the server's request only if it has been in use for a second.
        key: a function that takes a `Text` or `Binary` and returns what identifies the message on every
            connection, such as its sequence number; a message whose key was seen is dropped. None, or an
            exception: the message belongs to one connection, such as the answer to a request, and is passed
            on if that connection sends. Without a function, receiving changes to the new connection at the
            moment when sending does, and what is in flight then may be missed, or arrive twice.
        order: a function that takes a message with a key and returns a pair: its channel, and its position
            there. A message is dropped if a later one of its channel has been passed on. None to pass on the
            first copy of every message, in whatever order the faster connection delivers them. A position
            that is a str or bytes of more than 200 characters counts as None.
        window: how many keys are remembered. A str or bytes of more than 200 characters in a key is
            remembered by its SHA-256 digest.
        drain: the longest time that a connection stays open after it has been replaced, and that messages of
            a new connection are held back until it is clear where they continue those of the old one, in
            seconds.
        cool_down: how long a URL that has failed is not used, in seconds, unless all have failed.
        on_switch: called on the handlers' thread with a `lochws.feed.Switch` whenever another connection has
            taken over.
        threads: a `Threads` to share with other apps; None for threads of the feed's own.

    Raises:
        TypeError, ValueError: an argument is invalid; the message says which, and what would be right.
    """

    def __init__(
        self,
        factory: Callable[[str], WebSocketApp],
        urls: Sequence[str],
        *,
        copies: Literal[1, 2] = 1,
        renew_after: float | None = None,
        renew_on: Iterable[int] | Callable[[Any], object] = (1001, 1012),
        key: Callable[[Any], Hashable] | None = None,
        order: Callable[[Any], tuple[Hashable, Any] | None] | None = None,
        window: int = 10_000,
        drain: float = 10.0,
        cool_down: float = 30.0,
        on_switch: Callable[[Switch], object] | None = None,
        threads: Threads | None = None,
    ) -> None:
        given = (("factory", factory), ("key", key), ("order", order), ("on_switch", on_switch))
        for name, function in given:
            if function is None and name != "factory":
                continue
            if not callable(function):
                raise TypeError(f"{name}={function!r}: expected a function of one argument")
            check_takes(name, function, 1)
        check_range("copies", copies, 1, 2)
        check_range("window", window, 1)
        check_number("drain", drain, 0)
        check_number("cool_down", cool_down, 0)
        if renew_after is not None:
            check_number("renew_after", renew_after, 0.001, "more than 0 seconds, or None")
        for needed, name in ((copies == 2, "copies=2"), (order is not None, "order")):
            if needed and key is None:
                raise ValueError(f"{name} needs key, a function that returns what identifies a message")
        if threads is not None and not isinstance(threads, Threads):
            raise TypeError(f"threads={threads!r}: expected a lochws.Threads, or None")
        codes, predicate = _renew_on(renew_on)
        self._plan = Plan(
            factory, _checked_urls(urls), copies, renew_after, codes, predicate, key, order, window, drain,
            cool_down, on_switch,
        )
        self._registry = Registry(lambda error: None)
        _refuse_sent(self)
        self._registry.add_methods(self)
        own = threads or Threads(supervisors=2, name=f"{type(self).__name__}")
        self._life = FeedLife(self._plan, own, threads is not None, self._registry)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse a subclass with a misspelt handler."""
        super().__init_subclass__(**kwargs)
        check_class(cls)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, map(redacted, self._plan.urls)))})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse to be copied or pickled."""
        raise TypeError(f"a {type(self).__name__} cannot be copied or pickled, since it owns connections")

    def __enter__(self) -> Self:
        """Start the feed, unless it is running."""
        if not self._life.is_running:
            self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the feed, and wait until it has stopped."""
        self.stop()

    # Running.

    def start(self, *, persist: bool | Backoff = True, **timing: Unpack[TimingOptions]) -> None:
        """Start connecting in the background, and return immediately.

        A feed that has stopped can be started again. The factory is called once on the calling thread, so
        that its errors appear here.

        Args:
            persist: whether to try again after a failure: True uses the default `Backoff`; or pass a Backoff
                of your own, without a `retry` hook. The feed does not wait while it has another URL to try
                that has not failed yet.
            timing: the other arguments of `WebSocketApp.start`, such as `ping_rate` and `stale_after`, for
                each connection.

        Raises:
            TypeError, ValueError: an argument is invalid, or the factory returned something else than a new
                app.
            WebSocketError: the feed is already running.
            RuntimeError: no thread can be started.
            Exception: whatever the factory raised.
        """
        backoff = as_backoff(persist)
        if backoff is not None and backoff.retry is not None:
            raise ValueError("persist: a feed calls no retry hook; use fatal_codes, or call close()")
        check_keywords("start()", timing, (*TimingOptions.__annotations__, "persist"))
        Timing(**timing)  # raises for what is invalid
        if self._life.is_running:
            raise WebSocketError("already started")
        first = made_app(self._plan.factory, self._plan.urls[0], self._life.threads)
        self._life.start(first, dict(timing), backoff)

    def run_forever(
        self, *, persist: bool | Backoff = True, **timing: Unpack[TimingOptions]
    ) -> FinalEvent | None:
        """Start the feed and block until it has stopped. Ctrl-C closes it, and then propagates.

        Args:
            persist: whether to try again after a failure, or a `Backoff`; see `start`.
            timing: the other arguments of `WebSocketApp.start`, for each connection.

        Returns:
            The final event of the last connection or attempt, or None if there was none.

        Raises:
            TypeError, ValueError: an argument is invalid.
            WebSocketError: the feed is already running.
            RuntimeError: no thread can be started.
        """
        was_running = self._life.is_running
        try:
            self.start(persist=persist, **timing)
            self._refuse_in_handler("run_forever")  # of an app that shares the threads
            self._life.wait_stopped(None)
        except BaseException:
            if self._life.is_running and not was_running:  # else start() has failed
                close = partial(self.close, reason="interrupted")
                end_interrupted(close, self.in_handler, self._life.join, self.force_disconnect)
            raise
        self._life.join(None)
        return self.last_end

    def close(self, code: int | None = 1000, reason: str | bytes = "goodbye") -> None:
        """Close all connections with a closing handshake, and open no more. Never blocks.

        Args:
            code: the close code; None to send none.
            reason: the reason, at most 123 bytes of UTF-8.

        Raises:
            TypeError, ValueError: the code or the reason is invalid.
        """
        reason = as_reason(reason)
        encode_close(code, reason)
        self._life.close(code, reason)

    def stop(self, timeout: float | None = None) -> bool:
        """Close the feed and wait until it has stopped; in a handler, close it without waiting.

        Args:
            timeout: the longest time to wait, in seconds; None for no limit.

        Returns:
            True if the feed has stopped.

        Raises:
            TypeError, ValueError: the timeout is not a number; the feed is not closed.
        """
        timeout = as_timeout("stop", timeout)
        self.close()
        return not self.in_handler and self._life.join(timeout)

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the feed has stopped and its own threads have ended.

        Args:
            timeout: the longest time to wait, in seconds; None for no limit.

        Returns:
            True if the feed stopped in time or was never started.

        Raises:
            TypeError, ValueError: the timeout is not a number.
            WebSocketError: called from a handler of this feed, which would then wait for itself.
        """
        timeout = as_timeout("join", timeout)
        self._refuse_in_handler("join")
        return self._life.join(timeout)

    def wait_ready(self, timeout: float | None = None, *, check: bool = False) -> bool:
        """Wait until the feed can send: the session of a connection is set up.

        Args:
            timeout: the longest time to wait, in seconds; None for no limit.
            check: whether to raise WaitFailed, which says why, instead of returning False.

        Returns:
            True once that is the case; False if the timeout expires or the feed stops first.

        Raises:
            TypeError, ValueError: the timeout is not a number, or `check` is not a bool.
            WebSocketError: the feed has not been started; or called from a handler while there is no
                connection.
            WaitFailed: with ``check=True``, the wait failed.
        """
        timeout = as_timeout("wait_ready", timeout)
        check_bool("check", check)
        life = self._life
        if life.conductor is None:
            raise WebSocketError("wait_ready(): the feed has not been started; call start() first")
        if not life.is_ready:
            self._refuse_in_handler("wait_ready")
        done = life.is_ready or life.wait_ready(timeout)
        if check and not done:
            raise life.not_ready("wait_ready")
        return done

    def renew(self) -> None:
        """Have every connection replaced by a new one, as after `renew_after` seconds. Never blocks.

        Raises:
            WebSocketError: the feed is not running.
        """
        conductor = self._life.running("renew")
        conductor.call_later(0, conductor.renew_all)

    def force_disconnect(self, reason: str = "force_disconnect was called") -> None:
        """Drop every connection without a closing handshake. Unless the feed is closed, others follow.

        Args:
            reason: the reason, for the Disconnected event.
        """
        conductor = self._life.conductor
        for leg in () if conductor is None else conductor.legs:
            leg.app.force_disconnect(reason)

    def call_later(self, seconds: float, function: Callable[[], object]) -> ScheduledCall:
        """Call a function on the handlers' thread, between two handlers, after a number of seconds.

        Args:
            seconds: the delay from now; a negative number counts as 0.
            function: the function to call, without arguments. Its exceptions are treated like a handler's.

        Returns:
            The scheduled call, which can be cancelled.

        Raises:
            TypeError: `seconds` is not a number, or `function` cannot be called without arguments.
            ValueError: `seconds` is not finite.
            WebSocketError: the feed is not running.
        """
        check_call(seconds, function)
        return self._life.call_later(seconds, function)

    # Coroutines.

    def ready(self, timeout: float | None = None) -> Coroutine[Any, Any, None]:
        """Wait in a coroutine until the feed can send, as `wait_ready` does: ``await feed.ready()``.

        The event loop is not blocked.

        Args:
            timeout: the longest time to wait, in seconds; None for no limit.

        Raises:
            TypeError, ValueError: the timeout is not a number.
            WebSocketError: the feed has not been started.
            WaitFailed: the feed stopped or the timeout expired; the message says why, and `WaitFailed.event`
                is the final event of the last attempt or connection.
        """
        timeout = as_timeout("ready", timeout)
        life = self._life
        if life.conductor is None:
            raise WebSocketError("ready(): the feed has not been started; call start() first")

        async def ready() -> None:
            ensure_whole("lochws.aio.waiting")
            from ..aio.waiting import until  # noqa: PLC0415  most programs have no event loop

            await until(life, lambda: life.is_ready or life.has_stopped, timeout)
            if not life.is_ready:
                raise life.not_ready("ready")

        return ready()

    def closed(self, timeout: float | None = None) -> Coroutine[Any, Any, FinalEvent | None]:
        """Wait in a coroutine until the feed has stopped: ``await feed.closed()``.

        The event loop is not blocked.

        Args:
            timeout: the longest time to wait, in seconds; None for no limit.

        Returns:
            The final event of the last connection or attempt; None if there was none.

        Raises:
            TypeError, ValueError: the timeout is not a number.
            WaitFailed: the timeout expired.
        """
        timeout = as_timeout("closed", timeout)
        life = self._life

        async def closed() -> FinalEvent | None:
            ensure_whole("lochws.aio.waiting")
            from ..aio.waiting import until  # noqa: PLC0415  most programs have no event loop

            if not await until(life, lambda: not life.is_running, timeout):
                why = "its connections are closing" if life.is_stopping else "close() has not been called"
                words = f"closed(): not stopped within {timeout:g} s: {why}"
                raise WaitFailed(words, event=life.final_event, timed_out=True)
            return life.final_event

        return closed()

    async def __aenter__(self) -> Self:
        """Start the feed, unless it is running."""
        return Feed.__enter__(self)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the feed, and wait until it has stopped, without blocking the event loop."""
        self.close()
        await self.closed()

    # Handlers.

    @as_registering
    def on(
        self, *names: EventName, loop: asyncio.AbstractEventLoop | None = None
    ) -> Callable[[Function], Function]:
        """Register a function as the handler of one or more events, by name or by class: a decorator.

        Args:
            names: the events, by name or by class.
            loop: the event loop on which a coroutine function runs; None for a plain function. The coroutine
                handlers of a feed on the same loop run one at a time, in the order of the events, after the
                plain handlers. When 1,000 events are waiting for them, the plain handlers wait, too, and TCP
                backpressure slows the servers down on all connections of the feed.

        Raises:
            TypeError: an argument is neither a name nor an event class; or the function cannot be called with
                one argument; or it is a coroutine function without a loop, or a plain function with one.
            ValueError: no event has that name; or it is ``"sent"``, which belongs to single connections. Or a
                loop was given for ``"error"`` or ``"batch"``.
        """
        wanted = event_names(names, "@feed.on")
        if "sent" in wanted:
            raise ValueError("@feed.on('sent'): register this handler with the apps that the factory makes")

        def register(function: Function) -> Function:
            if loop is None:
                self._registry.add_function(function, wanted)
                return function
            ensure_whole("lochws.aio.coroutines")
            from ..aio.coroutines import add  # noqa: PLC0415  most programs have no event loop
            ensure_whole("lochws.mailbox")
            from ..mailbox import kinds_of  # noqa: PLC0415  likewise

            kinds = kinds_of(wanted, "@feed.on")
            add(self._life, self._registry, function, kinds, loop)
            return function

        return register

    def route(
        self,
        match: Mapping[Any, Any] | Callable[[Any], object] | type[object] | None = None,
        /,
        **fields: Any,
    ) -> Callable[[Routed], Routed]:
        """Register a function as a handler of the messages whose JSON matches: see `WebSocketApp.route`.

        Args:
            match: a predicate of the decoded message, a class of it, or a mapping of fields; None: the fields
                decide.
            fields: the fields that the message must have at least, and their values.

        Raises:
            TypeError, ValueError: the arguments do not describe messages; or the function cannot be called
                with one argument, or is a coroutine or generator function.
        """
        wanted = Match(match, fields)

        def register(function: Routed) -> Routed:
            self._registry.add_route(function, wanted)
            return function

        return register

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
        """Create a mailbox, in which the feed's one stream of events waits for a thread or a coroutine.

        Any thread and any handler may call this; it never blocks. The mailbox lasts until the feed stops.

        Args:
            names: the events to receive, by name or by class; ``"event"`` means all. Without names, text and
                binary messages are received.
            size: the maximum number of waiting events.
            when_full: ``"pause"``, ``"drop_oldest"`` or ``"latest"``. With ``"pause"``, reading stops on all
                connections of the feed.
            key: a function that returns the key of an event, for ``when_full="latest"``.
            max_bytes: the maximum memory for waiting events, in bytes.

        Raises:
            TypeError, ValueError: an argument is invalid; the message names it and says what would be valid.
        """
        ensure_whole("lochws.mailbox")
        from ..mailbox import make_mailbox  # noqa: PLC0415  most feeds have none

        return make_mailbox(
            self._life, self._registry, names, size=size, when_full=when_full, key=key, max_bytes=max_bytes,
            caller="feed.mailbox",
        )

    def add_handler(self, handler: object) -> None:
        """Register all ``on_<event>`` methods of an object, and those marked with `on` or `route` of lochws.

        Raises:
            TypeError: the object has no such method, or one of them is misspelt or cannot be called with one
                argument.
            ValueError: one of them is for ``"sent"``, which belongs to single connections.
        """
        _refuse_sent(handler)
        self._registry.add_object(handler)

    def remove_handler(self, handler: object) -> None:
        """Remove a registered function or object from all its events and routes.

        Raises:
            ValueError: it is not registered.
        """
        if True not in [handlers.remove(handler) for _, handlers in self._registry.coroutines]:
            self._registry.remove(handler)

    # Sending.

    def send_text(self, text: str | BytesLike, compress: bool = True) -> bool:
        """Send a text message on the connection in use. Arguments and errors: `WebSocket.send_text`.

        For a receipt, call the method of `app`.
        """
        return self.app.send_text(text, compress)

    def send_binary(self, data: BytesLike, compress: bool = True) -> bool:
        """Send a binary message on the connection in use. Arguments and errors: `WebSocket.send_binary`."""
        return self.app.send_binary(data, compress)

    def send_json(
        self, _obj: Any = ..., /, *, compress: bool = True, encoder: Encoder | None = None, **fields: Any
    ) -> bool:
        """Send an object as JSON on the connection in use. Arguments and errors: `WebSocket.send_json`."""
        return bool(self.app.send_json(_obj, compress=compress, encoder=encoder, **fields))

    def send_many(self, messages: Iterable[str | BytesLike], compress: bool = True) -> bool:
        """Send several messages in a row on the connection in use. Arguments: `WebSocket.send_many`."""
        return self.app.send_many(messages, compress)

    def send_stream(
        self, chunks: Iterable[str | BytesLike], text: bool = False, compress: bool = True
    ) -> bool:
        """Send one message of any length on the connection in use: see `WebSocket.send_stream`.

        A connection that is replaced meanwhile stays open until the message has been sent, for `drain`
        seconds at most. If it ends before that, `WebSocketUnavailable` is raised, and nothing is sent again:
        the chunks are not kept.
        """
        conductor = self._life.conductor
        leg = self._sender(conductor)
        assert conductor is not None
        with conductor.handover.streaming(leg):
            return leg.app.send_stream(chunks, text, compress)

    def send_ping(self, data: BytesLike = b"") -> None:
        """Send a ping on the connection in use. Arguments and errors: `WebSocket.send_ping`."""
        self.app.send_ping(data)

    @property
    def app(self) -> WebSocketApp:
        """The app of the connection in use, made by the factory. It changes whenever another one takes over.

        Raises:
            WebSocketUnavailable: there is no open connection whose session is set up; `WebSocketClosed` if
                the feed has stopped.
        """
        return self._sender(self._life.conductor).app

    @staticmethod
    def _sender(conductor: Conductor | None) -> Leg:
        """Return the connection in use. Raises as `app` does."""
        if conductor is None:
            raise WebSocketUnavailable("not sent: the feed has not been started; call start() first")
        leg = conductor.outlet.sender
        if leg is not None:
            return leg
        if conductor.is_over:
            raise WebSocketClosed("not sent: the feed has stopped")
        raise WebSocketUnavailable(
            "not sent: no connection of the feed is ready; send in on_ready, or after wait_ready()"
        )

    # State.

    @property
    def hooks(self) -> FeedHooks:
        """Tools for the authors of handlers that other programs will use."""
        return FeedHooks(self._registry)

    @property
    def is_active(self) -> bool:
        """True if the feed can send. Any thread may read it."""
        return self._life.is_ready

    @property
    def is_stopping(self) -> bool:
        """True if `close` has been called since the feed was started. Any thread may read it."""
        return self._life.is_stopping

    @property
    def in_handler(self) -> bool:
        """True if the calling thread is the one that runs the handlers."""
        return self._life.in_handler

    @property
    def last_end(self) -> FinalEvent | None:
        """The final event of the last connection or attempt that has ended since `start`, or None."""
        return self._life.final_event

    def status(self) -> FeedStatus:
        """Return the state of the feed, of its connections and of its URLs. Any thread; never blocks.

        Raises:
            WebSocketError: the feed has not been started.
        """
        conductor = self._life.conductor
        if conductor is None:
            raise WebSocketError("status(): the feed has not been started; call start() first")
        return conductor.report()

    def _refuse_in_handler(self, method: str) -> None:
        if self.in_handler:
            raise WebSocketError(f"{method}() was called in a handler, and would wait for that handler's end")


class FeedHooks:
    """Tools for the authors of handlers that other programs will use: `Feed.hooks`."""

    __slots__ = ("_registry",)

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def wrap_handlers(self, wrapper: Wrapper) -> None:
        """Call all handlers of the feed, present and future, through a wrapper: see `Hooks.wrap_handlers`.

        Raises:
            TypeError: the wrapper, or what it returns for a handler, is not callable.
        """
        self._registry.wrap(wrapper)

    def unwrap_handlers(self, wrapper: Wrapper) -> None:
        """Remove a wrapper that was passed to `wrap_handlers`, the latest if there are several.

        Raises:
            ValueError: no such wrapper is in use.
        """
        self._registry.unwrap(wrapper)


def _refuse_sent(handler: object) -> None:
    """Raise ValueError if a handler has a method for ``"sent"``."""
    for mark, method in () if isinstance(handler, type) else methods_of(handler):
        if mark == "sent":
            raise ValueError(f"{safe_name(method)}: register it with the apps that the factory makes")


def _checked_urls(urls: Sequence[str]) -> tuple[str, ...]:
    if isinstance(urls, str):
        raise TypeError(f"urls={without_secrets(urls)!r}: expected a list of URLs")
    try:
        given = tuple(urls)
    except TypeError:
        raise TypeError(f"urls={urls!r}: expected a list of URLs") from None
    if not given:
        raise ValueError("urls is empty: expected one or more URLs")
    for url in given:
        parse_url(url)
    if len(set(given)) < len(given):
        raise ValueError("urls: a URL is listed twice")
    return given


def _renew_on(
    renew_on: Iterable[int] | Callable[[Any], object]
) -> tuple[frozenset[int], Callable[[Any], object] | None]:
    """Return the close codes and the function that an argument stands for."""
    if callable(renew_on):
        check_takes("renew_on", renew_on, 1)
        return frozenset(), renew_on
    codes: set[int] = set()
    with suppress(TypeError):
        codes.update(renew_on)
        for code in codes:
            check_range("renew_on", code, 1000, 4999)
        return frozenset(codes), None
    raise TypeError(f"renew_on={renew_on!r}: expected close codes, or a function of an event")

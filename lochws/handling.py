"""The handlers of a WebSocketApp: registered, removed, wrapped, and what else their thread is told."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING

from .dispatch.naming import EventName, Function, event_names
from .dispatch.registry import Registry, Wrapper
from .life.gates import Gate

if TYPE_CHECKING:
    from .life.calls import Call
    from .life.lifecycle import Lifecycle


class Handling:
    """The part of `WebSocketApp` about its handlers and their thread."""

    # Set by WebSocketApp.
    _registry: Registry
    _lifecycle: Lifecycle

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

    def call_later(self, seconds: float, function: Callable[[], object]) -> Call:
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

    def _handlers_changed(self) -> None:
        # Events that nobody would have seen were not made.
        if (connection := self._lifecycle.connection) is not None:
            connection.loop.touch(connection)

"""Requests and their replies over one connection, as futures; JSON-RPC 2.0 ready-made.

::

    rpc = Replies(app)
    app.start()
    app.wait_ready()
    print(rpc.request({"op": "time"}, timeout=5).result())      # {"id": 1, "time": ...}

A reply belongs to the request with the same ``"id"``, or by another rule: see `Replies`. `JsonRpc` speaks
JSON-RPC 2.0 both ways.
"""

from __future__ import annotations

import heapq
import threading
import weakref
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from itertools import count
from typing import Any, TypeAlias

from .. import WebSocketApp, events
from ..clock import Rest, current
from ..errors import QueueFull, WebSocketError
from ..system import forks
from ..system.waits import slice_of
from ._parts.checks import check_app

#: Finds in a message, sent or received, what joins reply and request; None if there is nothing.
Match: TypeAlias = "Callable[[Any], Hashable | None]"


class ReplyLost(WebSocketError):
    """A request has got no reply, and will get none: the connection it was sent on has ended."""


class Reply(Future[Any]):
    """The reply to come: a `concurrent.futures.Future`.

    It fails with `TimeoutError` when the time of its request is over, and with `ReplyLost` as soon as the
    connection ends. Functions given to `add_done_callback` run on the thread that settles it: most often the
    app's reader.

    Attributes:
        key: what the reply is found by.
    """

    def __init__(self, key: Hashable, is_handlers_thread: Callable[[], bool]) -> None:
        super().__init__()
        self.key = key
        self._is_handlers_thread = is_handlers_thread

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the reply, and return it.

        Raises:
            WebSocketError: called in a handler of the same app before the reply is there: the reply would
                have to be received by the thread that waits. Use `add_done_callback` there.
            ReplyLost, TimeoutError: what it has failed with.
        """
        self._check()
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the reply, and return what it failed with, or None. Raises as `result`."""
        self._check()
        return super().exception(timeout)

    def _check(self) -> None:
        if not self.done() and self._is_handlers_thread():
            raise WebSocketError(
                f"the reply to {self.key!r} cannot be waited for in a handler of the same app, whose thread "
                "receives it: use add_done_callback"
            )


class Replies:
    """Sends requests and finds the replies among what is received. Registers itself with the app.

    Requests and replies are JSON objects in text messages. Other messages are left to other handlers, which
    see the replies too. Any thread may make requests, handlers included; those must not wait for a reply.

    Args:
        app: the app whose connection is used.
        match: the name of a field, which each request gets with a number unless it has it, and which the
            reply repeats; or a function that finds a key in a message, sent or received, or returns None.
        unwrap: takes the result out of a reply, or raises what the request is to fail with; called on the
            thread of the handlers. None for replies as they are.

    Raises:
        TypeError: `app` is no app, `match` is neither a name nor a function, or `unwrap` cannot be called.
    """

    def __init__(
        self, app: WebSocketApp, match: str | Match = "id", *, unwrap: Callable[[Any], Any] | None = None
    ) -> None:
        check_app(app)
        if not (isinstance(match, str) or callable(match)):
            raise TypeError(f"match={match!r}: expected the name of a field, or a function of one argument")
        if unwrap is not None and not callable(unwrap):
            raise TypeError(f"unwrap={unwrap!r}: expected a function of one argument, or None")
        self._app = app
        self._field = match if isinstance(match, str) else None
        self._match: Match = match if callable(match) else lambda message: message.get(match)
        self._unwrap = unwrap
        self._numbers = count(1)
        self._lock = threading.RLock()  # guards _open; a leaf, which signal handlers may come to as well
        self._open: dict[Hashable, Reply] = {}
        self._timeouts = _Timeouts()
        forks.register(self)
        app.add_handler(self)

    @property
    def open_requests(self) -> int:
        """How many requests have no reply yet."""
        return len(self._open)

    def request(self, message: Mapping[str, Any], timeout: float | None = 30.0) -> Reply:
        """Send a request.

        Args:
            message: the request; it is not changed.
            timeout: seconds until the reply fails, or None for no limit.

        Returns:
            The reply to come. Cancel it to give it up.

        Raises:
            TypeError: the message is no mapping, cannot be written as JSON, or the matching function's key
                is not hashable.
            ValueError: it has no key, or that of a request that is still open.
            WebSocketUnavailable, QueueFull, TransportFail: as for `WebSocketApp.send_text`.
        """
        if not isinstance(message, Mapping):
            raise TypeError(f"request {message!r}: expected a mapping, such as a dict")
        message = dict(message)
        if self._field is not None:
            message.setdefault(self._field, next(self._numbers))
        key = self._match(message)
        if key is None:
            raise ValueError(f"request {message!r}: the matching function finds no key in it")
        reply = Reply(key, self._is_handlers_thread)
        with self._lock:
            if key in self._open:
                raise ValueError(f"request {message!r}: another with the key {key!r} is still open")
            self._open[key] = reply  # before sending: the reply can be faster than we are
        try:
            if not self._app.send_json(message):
                raise QueueFull(f"request {key!r} was dropped: the queue is full")
        except BaseException:
            self._take(key, reply)
            raise
        reply.add_done_callback(lambda _: self._take(key, reply))  # if cancelled
        if timeout is not None:
            self._timeouts.add(reply, timeout)
        return reply

    def reset_after_fork(self) -> None:
        """In the child of a fork: what was asked is the parent's, and its replies come there."""
        self._lock = threading.RLock()
        self._open = {}
        self._timeouts = _Timeouts()

    def on_event(self, event: events.Event) -> None:
        """Give a reply to whoever waits for it. (`on_text` gets none where some handler takes batches.)"""
        if not isinstance(event, events.Text):
            return
        try:
            message = event.json
        except ValueError:  # no JSON
            return  # not for us
        self._received(message)

    def on_disconnected(self, event: events.Disconnected) -> None:
        """Fail all open requests."""
        with self._lock:
            replies, self._open = list(self._open.values()), {}
        for reply in replies:
            reason = f"no reply to {reply.key!r}: the connection has ended; {event.reason}"
            settle(reply, error=ReplyLost(reason))
        self._timeouts.wake()

    def _received(self, message: Any) -> None:
        if not isinstance(message, dict) and self._field is not None:
            return
        key = self._match(message)
        reply = None if key is None else self._find(key)
        if reply is not None:
            self._answer(reply, message)

    def _answer(self, reply: Reply, message: Any) -> None:
        try:
            result = message if self._unwrap is None else self._unwrap(message)
        except Exception as error:  # noqa: BLE001  it is for whoever has asked
            settle(reply, error=error)
        else:
            settle(reply, result)

    def _find(self, key: Hashable) -> Reply | None:
        try:
            with self._lock:
                return self._open.pop(key, None)
        except TypeError:  # a key that is a list, say, answers nothing
            return None

    def _take(self, key: Hashable, reply: Reply) -> None:
        with self._lock:
            if self._open.get(key) is reply:
                del self._open[key]

    def _is_handlers_thread(self) -> bool:
        return self._app.in_handler


class _Timeouts:
    """Fails replies when their time is over; its thread ends with the connection or with the last of them.

    A reply that comes in time wakes nobody: it is dropped from here when its time would have been over. The
    time is that of the clock which is in use when the thread starts.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()  # its lock guards all below
        self._clock = current()
        self._settled = 0  # replies, so far
        self._is_settling = False
        self._due: list[tuple[float, int, weakref.ref[Reply]]] = []
        self._numbers = count()
        self._thread: threading.Thread | None = None

    def add(self, reply: Reply, timeout: float) -> None:
        """Fail the reply after so many seconds."""
        with self._changed:
            if self._thread is None:
                self._clock = current()
                self._clock.attend(self)
            entry = (self._clock.monotonic() + timeout, next(self._numbers), weakref.ref(reply))
            heapq.heappush(self._due, entry)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="lochws-replies", daemon=True)
                self._thread.start()
            elif self._due[0] is entry:
                self._changed.notify()

    def wake(self) -> None:
        """Have the thread look at the clock, and end if nothing is left to wait for."""
        with self._changed:
            self._changed.notify()

    def rest(self, *, handlers: bool) -> Rest | None:
        """How the thread waits, as `lochws.clock.Timed` has it."""
        with self._changed:
            now = self._clock.monotonic()
            replies = [(when, reference()) for when, _, reference in self._due]
            ends = [when for when, reply in replies if reply is not None and not reply.done()]
            if self._is_settling or any(when <= now for when in ends):
                return None
            return Rest(self._settled, min(ends, default=None))

    def _run(self) -> None:
        while True:
            with self._changed:
                reply = self._next()
            if reply is None:
                return
            settle(reply, error=TimeoutError(f"no reply to {reply.key!r} in time"))

    def _next(self) -> Reply | None:
        """Wait for a reply whose time is over. Returns None when there are no more; holds the lock."""
        self._is_settling = False
        while self._due:
            when, _, reference = self._due[0]
            reply = reference()
            if reply is None or reply.done():
                heapq.heappop(self._due)
            elif (left := when - self._clock.monotonic()) <= 0:
                heapq.heappop(self._due)
                self._is_settling, self._settled = True, self._settled + 1
                return reply
            else:
                del reply  # nobody should wait for what only this thread still knows
                self._changed.wait(slice_of(left) if self._clock.passes else None)
        self._thread = None
        return None


def settle(reply: Reply, result: Any = None, error: BaseException | None = None) -> None:
    """Give a reply its outcome, unless it has one: the network, the clock and the user race for it."""
    with suppress(InvalidStateError):
        if error is None:
            reply.set_result(result)
        else:
            reply.set_exception(error)

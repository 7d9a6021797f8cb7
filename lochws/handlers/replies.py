"""Replies: requests and replies over one connection, with each reply as a future.

::

    rpc = Replies(app)
    app.start()
    app.wait_ready()
    print(rpc.request({"op": "time"}, timeout=5).result())      # {"id": 1, "time": ...}

By default requests and replies are JSON objects, or objects of the app's `codec`, and a reply has the same
``"id"`` as its request. Functions describe other protocols: how a message is encoded, decoded, numbered and
matched. For JSON-RPC 2.0 use `lochws.handlers.jsonrpc`.
"""

from __future__ import annotations

import json
import logging
import threading
import weakref
from bisect import insort
from collections import deque
from collections.abc import Callable, Generator, Hashable, Mapping
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from itertools import count
from math import inf
from typing import Any, Generic, TypeAlias, TypeVar, overload

from .. import WebSocketApp, events
from ..base.callables import check_takes
from ..clock import Rest, current
from ..codec import JSON
from ..errors import QueueFull, WebSocketError
from ..options import as_timeout, check_range, check_seconds
from ..system import forks
from ..system.control import check_may_wait, control_lock, start_thread
from ..system.interpreters import new_thread
from ..system.lazy import ensure_whole
from ..system.rate_limit import RateLimit
from ..system.report import report
from ..system.waits import slice_of
from ._parts.checks import check_app
from ._parts.incoming import Incoming
from ._parts.messages import Doubts, encoded, field_of, kind_of
from .packets import Split

#: A function that returns the key by which a message, sent or received, is matched; None if it has none.
Match: TypeAlias = "Callable[[Any], Hashable | None]"

#: A request; a decoded message; the result of a request.
M = TypeVar("M")
D = TypeVar("D")
R = TypeVar("R")


class ReplyLost(WebSocketError):
    """The reply to a request was lost: the connection that it was sent on has ended."""


class Reply(Future[R]):
    """The reply to a request: a `concurrent.futures.Future`.

    It fails with `TimeoutError` when the request times out, and with `ReplyLost` as soon as the connection
    ends. Functions passed to `add_done_callback` run on the thread that settles it, usually the app's reader
    thread.

    Attributes:
        key: the key that identifies the reply, such as the number of the request. None until the request has
            been numbered, which is delayed while another thread is sending a request.
    """

    def __init__(self, key: Hashable, is_handlers_thread: Callable[[], bool]) -> None:
        super().__init__()
        # The lock of Future would be another one for which finalizers that use replies could wait.
        self._condition = threading.Condition(control_lock())
        self.key = key
        self._is_handlers_thread = is_handlers_thread

    def result(self, timeout: float | None = None) -> R:
        """Wait for the reply, and return it.

        Raises:
            WebSocketError: called in a handler of the same app before the reply has arrived. It would
                deadlock: the handlers' thread has to receive the reply. Use `add_done_callback` there. Also
                in a signal handler or finalizer that interrupts lochws, with a timeout other than 0.
            ReplyLost: the connection ended before the reply arrived.
            TimeoutError: the request has timed out, or `timeout` seconds have passed.
            TypeError, ValueError: the timeout is not a number.
            Exception: whatever `unwrap` raised.
        """
        return super().result(self._checked("result", timeout))

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the reply, and return the exception with which it failed, or None.

        Raises:
            WebSocketError: called in a handler of the same app before the reply has arrived, or in a signal
                handler or finalizer that interrupts lochws, with a timeout other than 0.
            TimeoutError: `timeout` seconds have passed.
            TypeError, ValueError: the timeout is not a number.
        """
        return super().exception(self._checked("exception", timeout))

    def __await__(self) -> Generator[Any, None, R]:
        """Wait for the reply in a coroutine: ``await rpc.request(…)``. The event loop is not blocked.

        Cancelling the wait abandons the request.

        Raises:
            RuntimeError: no event loop is running in the calling thread.
            ReplyLost: the connection ended before the reply arrived.
            TimeoutError: the request has timed out.
            Exception: whatever `unwrap` raised.
        """
        ensure_whole("lochws.aio.waiting")
        from ..aio.waiting import reply_of  # noqa: PLC0415  most programs have no event loop

        return reply_of(self)

    def _checked(self, method: str, timeout: float | None) -> float | None:
        """Return the timeout if it is valid and the calling thread may wait."""
        timeout = as_timeout(method, timeout)
        if not self.done():
            if self._is_handlers_thread():
                raise WebSocketError(
                    f"waiting for the reply to {self.key!r} in a handler of the same app would deadlock: "
                    "use add_done_callback"
                )
            if timeout != 0:
                check_may_wait(method)
        return timeout


class Replies(Generic[M, R]):
    """Sends requests and finds their replies among the received messages. Registers itself with the app.

    By default, requests and replies are JSON in text messages, or in the format of the app's option `codec`.
    Messages that are not replies are ignored, and the app's other handlers see the replies too. Requests may
    be made from any thread and in handlers, but a handler must not wait for a reply.

    Requests are numbered in the order in which they are sent, on each connection starting with 1: the numbers
    on the wire always increase, even if several threads make requests. (Home Assistant and WAMP require
    this.)

    A reply settles a request once. A second one with the same key is ignored, and so is one that arrives
    after the timeout. If the connection ends, all open requests fail at once.

    Args:
        app: the app whose connection is used.
        match: how a reply is matched to its request. A str is the name of a field: messages are mappings, a
            request without the field is given the next number in it, and the reply repeats it. A function
            takes a message, sent or decoded, and returns its key, or None if it has none. (A codec may return
            other objects than mappings; then the field is an attribute.) If it raises an
            exception on a received message, that message counts as unrelated.
        encode: a function that takes a request and returns a str, which is sent as a text message, or bytes,
            which are sent as a binary one. None: the app's codec, which is JSON by default.
        decode: a function that takes a `Text` or `Binary` event and returns the message in it, or None if it
            cannot be a reply; called on the handlers' thread for each message. If it raises an exception, the
            message counts as unrelated. None: the app's codec, by default the JSON of text messages.
        number: a function that takes a request and the next number, and returns the request with the number
            in it; it must not change its argument. It is called on the thread that sends, immediately before
            `encode` and `match` are called with what it returned, and again with the next number if that key
            is that of a request still open. None: a request has a key of its own, unless `match` is the name
            of a field.
        unwrap: a function that takes a decoded reply and returns the result of the request, or raises the
            exception with which the request fails; called on the handlers' thread. None: the reply is the
            result.
        split: for protocols that treat the messages of a connection as one stream of bytes; see
            `lochws.handlers.packets.Packets`. `decode`, which is then required, gets a `Binary` per packet.
        max_open: the maximum number of requests that are open at the same time.

    Raises:
        TypeError, ValueError: an argument is invalid; the message names it and says what would be valid.
    """

    @overload
    def __init__(
        self: Replies[Mapping[str, Any], Any], app: WebSocketApp, match: str = "id", *,
        unwrap: Callable[[Any], Any] | None = None, max_open: int = 10_000,
    ) -> None: ...

    @overload
    def __init__(
        self: Replies[Any, Any], app: WebSocketApp, match: Match, *,
        number: Callable[[Any, int], Any] | None = None, unwrap: Callable[[Any], Any] | None = None,
        max_open: int = 10_000,
    ) -> None: ...

    @overload
    def __init__(
        self: Replies[M, R], app: WebSocketApp, match: str | Match = "id", *,
        encode: Callable[[M], str | bytes], decode: Callable[[Any], R | None],
        number: Callable[[M, int], M] | None = None, unwrap: None = None, split: Split | None = None,
        max_open: int = 10_000,
    ) -> None: ...

    @overload
    def __init__(
        self: Replies[M, R], app: WebSocketApp, match: str | Match = "id", *,
        encode: Callable[[M], str | bytes], decode: Callable[[Any], D | None],
        number: Callable[[M, int], M] | None = None, unwrap: Callable[[D], R], split: Split | None = None,
        max_open: int = 10_000,
    ) -> None: ...

    @overload
    def __init__(
        self: Replies[Any, Any], app: WebSocketApp, match: str | Match = "id", *,
        encode: Callable[[Any], str | bytes] | None = None, decode: Callable[[Any], Any] | None = None,
        number: Callable[[Any, int], Any] | None = None, unwrap: Callable[[Any], Any] | None = None,
        split: Split | None = None, max_open: int = 10_000,
    ) -> None: ...

    def __init__(
        self,
        app: WebSocketApp,
        match: str | Match = "id",
        *,
        encode: Callable[[Any], str | bytes] | None = None,
        decode: Callable[[Any], Any] | None = None,
        number: Callable[[Any, int], Any] | None = None,
        unwrap: Callable[[Any], Any] | None = None,
        split: Split | None = None,
        max_open: int = 10_000,
    ) -> None:
        check_app(app)
        if not (isinstance(match, str) or callable(match)):
            raise TypeError(f"match={match!r}: expected the name of a field, or a function of one argument")
        for name, function in (("encode", encode), ("decode", decode), ("unwrap", unwrap)):
            if function is not None and not callable(function):
                raise TypeError(f"{name}={function!r}: expected a function of one argument, or None")
            if function is not None:
                check_takes(name, function, 1)
        if callable(match):
            check_takes("match", match, 1)
        if number is not None and not callable(number):
            raise TypeError(f"number={number!r}: expected a function of a request and a number, or None")
        if number is not None:
            check_takes("number", number, 2)
        if split is not None and decode is None:
            raise ValueError("split needs decode, which gets the packets")
        check_range("max_open", max_open, 1)
        self._app = app
        self._field = match if isinstance(match, str) else None
        self._match: Match = match if callable(match) else lambda message: field_of(message, match)
        self._codec = app.hooks.codec
        self._kind = kind_of(app)
        self._encode = encode
        self._decode = decode
        self._number_in = number
        self._unwrap = unwrap
        self._max_open = max_open
        self._incoming = Incoming(app, split)
        self._doubts = Doubts()
        # Any thread changes these two, by atomic operations without a lock: signal handlers and finalizers
        # may make requests wherever they interrupt a thread, so nothing here may wait for another thread.
        self._open: dict[Hashable, Reply[Any]] = {}
        self._unnumbered: deque[_Request] = deque()
        self._number = 0  # of the last request sent; used only by the thread that is sending
        self._restarts = False  # a connection has ended, and no request has been sent on the next one yet
        # One thread at a time numbers and sends; the others queue their requests for it.
        self._is_sending = False
        self._lock = control_lock()
        self._timeouts = _Timeouts(self._doubts)
        forks.register(self)
        app.add_handler(self)

    @property
    def open_requests(self) -> int:
        """The number of requests that have not been answered yet."""
        return len(self._open)

    def request(self, message: M, timeout: float | None = 30.0) -> Reply[R]:
        """Send a request. May be called from any thread, and in handlers.

        If another thread is sending a request at this moment, that thread also sends this one, right after
        its own. An error then fails the reply instead of being raised here.

        Args:
            message: the request; it is not modified.
            timeout: seconds until the reply fails, or None for no limit.

        Returns:
            The future reply. Cancel it to abandon the request.

        Raises:
            TypeError: the message is not a mapping although `match` is a field, or cannot be written as JSON,
                or its key is not hashable; `encode` returned neither str nor bytes; or the timeout is not a
                number.
            ValueError: the message has no key, its key is that of a request still open, or it contains a
                number that JSON cannot express (NaN, infinity); or the timeout is negative or not finite.
            WebSocketUnavailable: the connection is not open.
            QueueFull: the app's send queue is full, or `max_open` requests are open.
            TransportFail: the network failed; the request was not sent completely.
            RuntimeError: the thread for timeouts cannot be started.
            Exception: whatever `encode`, `number` or `match` raised.
        """
        check_seconds("timeout", timeout)
        has_key = self._field is None or field_of(message, self._field) is not None
        if not (has_key or isinstance(message, Mapping)):
            raise TypeError(f"request {message!r}: expected a mapping, such as a dict")
        if len(self._open) + len(self._unnumbered) >= self._max_open:
            raise QueueFull(f"not sent: {self._max_open} requests are open, as many as max_open allows")
        make = self._numbering(message)
        if make is not None:
            return self._request_numbered(make, timeout)
        key = self._key_of(message)
        payload = None if self._encode is None else self._encoded(message)
        reply: Reply[R] = Reply(key, self._is_handlers_thread)
        # Before sending: the reply may arrive before the call that sends returns.
        if self._open.setdefault(key, reply) is not reply:
            raise ValueError(f"request {message!r}: another with the key {key!r} is still open")
        try:
            if not (self._app.send_json(message) if payload is None else self._send_payload(payload)):
                raise _dropped(key)
        except BaseException:
            self._forget(reply)
            raise
        return self._sent(reply, timeout)

    def _numbering(self, message: Any) -> _Make | None:
        """Return the function that puts a number into a request; None if the request has a key."""
        number_in = self._number_in
        if number_in is None:
            if self._field is None or not isinstance(message, Mapping) or self._field in message:
                return None
            if self._encode is None and self._codec is JSON:
                text = _json_before_number(dict(message), self._field)
                return lambda number: (number, f"{text}{number}}}")
            number_in = self._number_in_field

        def make(number: int) -> tuple[Hashable, str | bytes]:
            numbered = number_in(message, number)
            return self._key_of(numbered), self._encoded(numbered)

        return make

    def _number_in_field(self, message: Mapping[str, Any], number: int) -> dict[str, Any]:
        assert self._field is not None
        return {**message, self._field: number}

    def _key_of(self, message: Any) -> Hashable:
        key = self._match(message)
        if key is None:
            raise ValueError(f"request {message!r}: the matching function finds no key in it")
        return key

    def _encoded(self, message: Any) -> str | bytes:
        payload = encoded(self._codec, message) if self._encode is None else self._encode(message)
        if not isinstance(payload, (str, bytes)):
            raise TypeError(f"encode returned {type(payload).__name__}: expected str or bytes")
        return payload

    def _send_payload(self, payload: str | bytes) -> bool:
        app = self._app
        return app.send_text(payload) if isinstance(payload, str) else app.send_binary(payload)

    def _request_numbered(self, make: _Make, timeout: float | None) -> Reply[R]:
        reply: Reply[R] = Reply(None, self._is_handlers_thread)
        request = _Request(make, reply)
        try:
            self._unnumbered.append(request)
            self._send_unnumbered()
        except BaseException as error:
            settle(reply, error=error)  # a settled request is no longer sent, either
            self._forget(reply)
            raise
        if request.failure is not None:
            raise request.failure
        return self._sent(reply, timeout)

    def _sent(self, reply: Reply[R], timeout: float | None) -> Reply[R]:
        """Arrange for the reply to be forgotten once it is done, and to fail when its timeout expires."""
        reply.add_done_callback(self._forget)
        if timeout is not None and not reply.done():
            try:
                self._timeouts.add(reply, timeout)
            except BaseException as error:
                settle(reply, error=error)
                raise
        return reply

    def _send_unnumbered(self) -> None:
        """Number and send the waiting requests, one after the other, unless another call is doing so already.

        No lock is held meanwhile, because `on_sent` handlers may run during the call. A request made in the
        meantime (by another thread, such a handler, a signal handler or a finalizer) is only queued.
        """
        interrupt: BaseException | None = None
        is_mine = False
        while True:
            try:
                with self._lock:
                    if self._is_sending or not self._unnumbered:
                        break
                    self._is_sending = is_mine = True  # nothing can interrupt between the two
                self._send_next()
            except BaseException as error:  # noqa: BLE001  even after Ctrl-C, other threads' requests are sent
                interrupt = error
            finally:
                if is_mine:
                    self._is_sending = is_mine = False
        if interrupt is not None:
            raise interrupt

    def _send_next(self) -> None:
        try:
            request = self._unnumbered.popleft()
        except IndexError:
            return  # a signal handler or a finalizer has already sent it
        reply = request.reply
        if reply.done():
            return  # cancelled or timed out
        if self._restarts:
            self._restarts, self._number = False, 0
        before = self._number
        try:
            payload = self._number_request(request)
            if reply.done():
                return  # the connection has ended meanwhile
            if not self._send_payload(payload):
                raise _dropped(reply.key)
            # If a connection has ended meanwhile, the request may be on the next one: there, numbers go on.
            self._restarts = False
        except Exception as error:  # noqa: BLE001  any error is for the caller of request()
            self._number = before  # the next request reuses the number, which leaves no gap
            self._forget(reply)
            request.failure = error
            settle(reply, error=error)
            self._timeouts.wake()  # the request may have been queued by another thread

    def _number_request(self, request: _Request) -> str | bytes:
        """Give a request the next number whose key is free, make it an open one, and return its payload."""
        reply = request.reply
        for number in count(self._number + 1):
            key, payload = request.make(number)
            # Before sending: the reply may arrive before the call that sends returns.
            reply.key = key
            if self._open.setdefault(key, reply) is reply:
                self._number = number
                return payload
            if number - self._number > self._max_open:
                break  # the same keys come again and again
        raise ValueError(f"request {reply.key!r}: all numbers lead to keys of requests that are still open")

    def reset_after_fork(self) -> None:
        """Discard the parent's requests in the child of a fork: their replies arrive in the parent."""
        self._lock = control_lock()
        self._open.clear()
        self._unnumbered.clear()
        self._is_sending = False
        self._restarts = True
        self._incoming.clear()
        self._timeouts = _Timeouts(self._doubts)

    def on_event(self, event: events.Event) -> None:
        """Settle a reply. (`on_text` would not be called if another handler takes batches.)"""
        if self._decode is None:
            if isinstance(event, self._kind):
                self._received_encoded(event)
            return
        for part in self._incoming.of(event):
            try:
                message = self._decode(part)
            except BaseException as error:  # noqa: BLE001  not even SystemExit may end the handlers' thread
                self._doubts.add(self._decode, error)
                continue
            if message is not None:
                self._received(message)

    def on_ready(self, _event: events.Ready) -> None:
        """Begin with a new stream of bytes."""
        self._incoming.clear()

    def on_disconnected(self, event: events.Disconnected) -> None:
        """Fail all open requests."""
        self._restarts = True
        for reply in list(self._open.values()):
            self._forget(reply)
            reason = f"no reply to {reply.key!r}: the connection has ended; {event.reason}"
            self._timeouts.fail(reply, ReplyLost(reason))
        self._timeouts.wake()

    def _received_encoded(self, event: events.Text | events.Binary) -> None:
        try:
            message = event.json
        except ValueError:
            return  # not JSON, so not a reply
        except BaseException as error:  # noqa: BLE001  not even SystemExit may end the handlers' thread
            self._doubts.add(self._codec.loads, error)
            return
        self._received(message)

    def _received(self, message: Any) -> None:
        try:
            key = self._match(message)
        except BaseException as error:  # noqa: BLE001  not even SystemExit may end the handlers' thread
            self._doubts.add(self._match, error)
            return
        reply = None if key is None else self._find(key)
        if reply is not None:
            self._answer(reply, message)

    def _answer(self, reply: Reply[Any], message: Any) -> None:
        try:
            result = message if self._unwrap is None else self._unwrap(message)
        except BaseException as error:  # noqa: BLE001  it is passed on to the caller, even a SystemExit
            settle(reply, error=error)
        else:
            settle(reply, result)

    def _find(self, key: Hashable) -> Reply[Any] | None:
        try:
            return self._open.pop(key, None)
        except TypeError:  # an unhashable key, such as a list, matches no request
            return None

    def _forget(self, reply: Future[Any]) -> None:
        assert isinstance(reply, Reply)
        if self._open.get(reply.key) is reply:
            self._open.pop(reply.key, None)

    def _is_handlers_thread(self) -> bool:
        return self._app.in_handler


#: A function that returns the key of a request with this number, and what is sent.
_Make: TypeAlias = "Callable[[int], tuple[Hashable, str | bytes]]"


class _Request:
    """A request that has no number yet.

    Attributes:
        make: gives it a number.
        reply: the future reply.
        failure: the error that prevented sending it.
    """

    __slots__ = ("failure", "make", "reply")

    def __init__(self, make: _Make, reply: Reply[Any]) -> None:
        self.make = make
        self.reply = reply
        self.failure: Exception | None = None


def _json_before_number(message: dict[str, Any], field: str | None) -> str:
    """Return the JSON of a message with one more field at its end, up to the value of that field."""
    inside = json.dumps(message, allow_nan=False)[:-1]
    return f"{inside}{', ' if message else ''}{json.dumps(field)}: "


def _dropped(key: Hashable) -> QueueFull:
    return QueueFull(f"request {key!r} was dropped: the send queue is full")


#: The time at which a reply fails, a number that makes entries comparable, and the reply.
_Due: TypeAlias = "tuple[float, int, weakref.ref[Reply[Any]]]"


class _Timeouts:
    """The timeouts of replies, and their thread, which ends with the connection or the last open reply.

    A reply that arrives in time does not wake the thread: its timeout is discarded when it falls due. The
    thread uses the clock that is set when it starts.

    Signal handlers and finalizers may call `add` and `wake` wherever they interrupt a thread, so neither
    waits for another thread, except for the control lock, which is held for two steps.

    Args:
        doubts: says in the errors that functions failed on messages that may have been the replies.
    """

    def __init__(self, doubts: Doubts) -> None:
        self._doubts = doubts
        self._clock = current()
        self._numbers = count()
        # Both are lists, even though they lose their first items: other threads may add to a list while
        # `rest` copies it, but not to a deque. For the same reason the second one is not a heap, in whose
        # copy an item may be missing while two change places.
        self._arrived: list[_Due] = []  # not seen by the thread yet
        self._due: list[_Due] = []  # sorted; changed by the thread alone
        self._settled = 0  # the number of replies settled so far
        self._failures = RateLimit()
        self._is_settling = False
        self._wakes_at = -inf  # when the thread wakes by itself; -inf while it is not waiting
        self._lock = control_lock()  # guards the next attribute
        self._has_thread = False
        self._signal = threading.Lock()  # released to wake the thread
        self._signal.acquire()

    def add(self, reply: Reply[Any], timeout: float) -> None:
        """Fail the reply with TimeoutError after `timeout` seconds."""
        if not self._has_thread:
            self._clock = current()
            self._clock.attend(self)
        when = self._clock.monotonic() + timeout
        self._arrived.append((when, next(self._numbers), weakref.ref(reply)))
        is_mine = False
        try:
            with self._lock:
                if not self._has_thread:
                    self._has_thread = is_mine = True
            if is_mine:
                start_thread(new_thread(self._run, "lochws-replies"))
                is_mine = False  # the thread resets it from now on
        finally:
            if is_mine:
                self._has_thread = False
        if when < self._wakes_at:
            self.wake()

    def wake(self) -> None:
        """Make the thread check its clock again, and end if no reply is open."""
        with suppress(RuntimeError):  # the thread has been woken already, and has not run yet
            self._signal.release()

    def fail(self, reply: Reply[Any], error: Exception) -> None:
        """Fail a reply. If a callback raises an exception, log it: others are still to be failed."""
        try:
            settle(reply, error=error)
        except BaseException as failure:  # noqa: BLE001  not even SystemExit may end the calling thread
            report(logging.ERROR, "a callback of a reply failed", error=failure, limit=self._failures)

    def rest(self, *, handlers: bool) -> Rest | None:
        """Return how the thread is waiting: part of the interface of `lochws.clock.Timed`."""
        now = self._clock.monotonic()
        replies = [(when, reference()) for when, _, reference in self._arrived.copy() + self._due.copy()]
        ends = [when for when, reply in replies if reply is not None and not reply.done()]
        if self._is_settling or any(when <= now for when in ends):
            return None
        return Rest(self._settled, min(ends, default=None))

    def _run(self) -> None:
        while True:
            while self._arrived:
                insort(self._due, self._arrived[0])
                self._arrived.pop(0)
            if self._due:
                self._settle_or_wait(self._due[0])
                continue
            with self._lock:
                if not self._arrived:
                    self._has_thread = False
                    return

    def _settle_or_wait(self, due: _Due) -> None:
        when, _, reference = due
        reply = reference()
        left = when - self._clock.monotonic()
        if reply is None or reply.done():
            self._due.pop(0)
        elif left <= 0:
            self._is_settling, self._settled = True, self._settled + 1
            self._due.pop(0)
            self.fail(reply, TimeoutError(f"no reply to {reply.key!r} in time{self._doubts}"))
            self._is_settling = False
        else:
            del reply  # do not wait for a reply that only this thread refers to
            self._wakes_at = when
            if not self._arrived:
                self._signal.acquire(timeout=slice_of(left) if self._clock.passes else -1)
            self._wakes_at = -inf


def settle(reply: Reply[Any], result: Any = None, error: BaseException | None = None) -> None:
    """Settle a reply unless it is already settled: the network, the clock and the user may race."""
    with suppress(InvalidStateError):
        if error is None:
            reply.set_result(result)
        else:
            reply.set_exception(error)

"""Replies: requests and their replies over one connection, as futures.

::

    rpc = Replies(app)
    app.start()
    app.wait_ready()
    print(rpc.request({"op": "time"}, timeout=5).result())      # {"id": 1, "time": ...}

A reply belongs to the request with the same ``"id"``; `Replies` takes other rules as well.
`lochws.handlers.jsonrpc` speaks JSON-RPC 2.0.
"""

from __future__ import annotations

import heapq
import json
import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from itertools import count
from math import inf
from typing import Any, TypeAlias

from .. import WebSocketApp, events
from ..clock import Rest, current
from ..errors import QueueFull, WebSocketError
from ..system import forks
from ..system.report import report
from ..system.waits import slice_of
from ._parts.checks import check_app

#: Returns the key of a message, sent or received, that joins reply and request; None if it has none.
Match: TypeAlias = "Callable[[Any], Hashable | None]"


class ReplyLost(WebSocketError):
    """A request will get no reply: the connection it was sent on has ended."""


class Reply(Future[Any]):
    """The reply to a request: a `concurrent.futures.Future`.

    It fails with `TimeoutError` when the request's timeout is over, and with `ReplyLost` as soon as the
    connection ends. Functions given to `add_done_callback` run on the thread that settles it, usually the
    app's reader thread.

    Attributes:
        key: what the reply is found by, such as the request's number. None while the request has no number
            yet because another thread is sending one.
    """

    def __init__(self, key: Hashable, is_handlers_thread: Callable[[], bool]) -> None:
        super().__init__()
        self.key = key
        self._is_handlers_thread = is_handlers_thread

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the reply, and return it.

        Raises:
            WebSocketError: called in a handler of the same app before the reply has arrived. It would
                deadlock: the handlers' thread has to receive the reply. Use `add_done_callback` there.
            ReplyLost: the connection ended before the reply arrived.
            TimeoutError: the request's timeout is over, or `timeout` seconds have passed.
            Exception: whatever `unwrap` raised.
        """
        self._check()
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the reply, and return the exception that it failed with, or None.

        Raises:
            WebSocketError: called in a handler of the same app before the reply has arrived.
            TimeoutError: `timeout` seconds have passed.
        """
        self._check()
        return super().exception(timeout)

    def _check(self) -> None:
        if not self.done() and self._is_handlers_thread():
            raise WebSocketError(
                f"waiting for the reply to {self.key!r} in a handler of the same app would deadlock: "
                "use add_done_callback"
            )


class Replies:
    """Sends requests and finds their replies among the received messages. Registers itself with the app.

    Requests and replies are JSON objects in text messages. Other messages are ignored here, and all other
    handlers see the replies as well. Any thread may make requests, handlers included, but a handler must not
    wait for a reply.

    Requests are numbered in the order in which they are sent, starting with 1: on the wire the numbers only
    ever rise, whichever threads ask. (Home Assistant and WAMP refuse anything else.)

    Args:
        app: the app whose connection is used.
        match: what a reply has in common with its request. A str is the name of a field: a request without
            it is given the next number there, and the reply repeats it. A function gets a message, sent or
            received, and returns its key, or None if it has none.
        unwrap: takes a reply and returns the result of the request, or raises the exception that the request
            fails with; called on the handlers' thread. None for replies as they are.

    Raises:
        TypeError: `app` is not a WebSocketApp, `match` is neither a name nor a function, or `unwrap` is not
            callable.
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
        # Any thread changes these two, in single steps and without a lock: signal handlers and finalizers may
        # make requests wherever they interrupt a thread, so nothing here may wait for another thread.
        self._open: dict[Hashable, Reply] = {}
        self._unnumbered: deque[_Request] = deque()
        self._number = 0  # of the last request that was sent; for the thread that is sending
        # One thread at a time numbers and sends; the others leave their requests to it. Nothing is called
        # under the lock, so no finalizer runs there.
        self._is_sending = False
        self._lock = threading.RLock()
        self._timeouts = _Timeouts()
        forks.register(self)
        app.add_handler(self)

    @property
    def open_requests(self) -> int:
        """The number of requests without a reply yet."""
        return len(self._open)

    def request(self, message: Mapping[str, Any], timeout: float | None = 30.0) -> Reply:
        """Send a request. May be called from any thread, and in handlers.

        If another thread is sending a request at this moment, it sends this one right behind its own. An
        error in doing so then fails the reply, instead of being raised here.

        Args:
            message: the request; it is not changed.
            timeout: seconds until the reply fails, or None for no limit.

        Returns:
            The reply to come. Cancel it to give the request up.

        Raises:
            TypeError: the message is not a mapping or cannot be written as JSON, or its key is not hashable.
            ValueError: the message has no key, the key of a request that is still open, or a number that JSON
                cannot express (NaN, infinity).
            WebSocketUnavailable: the connection is not open.
            QueueFull: there is no room in the app's send queue.
            TransportFail: the network failed; the request was not sent whole.
            RuntimeError: no thread can be started to keep the time.
        """
        if not isinstance(message, Mapping):
            raise TypeError(f"request {message!r}: expected a mapping, such as a dict")
        message = dict(message)
        if self._field is not None and self._field not in message:
            return self._request_numbered(message, timeout)
        key = self._match(message)
        if key is None:
            raise ValueError(f"request {message!r}: the matching function finds no key in it")
        reply = Reply(key, self._is_handlers_thread)
        # Before sending: the reply may arrive before send_json returns.
        if self._open.setdefault(key, reply) is not reply:
            raise ValueError(f"request {message!r}: another with the key {key!r} is still open")
        try:
            if not self._app.send_json(message):
                raise _dropped(key)
        except BaseException:
            self._forget(reply)
            raise
        return self._sent(reply, timeout)

    def _request_numbered(self, message: dict[str, Any], timeout: float | None) -> Reply:
        request = _Request(_json_before_number(message, self._field), Reply(None, self._is_handlers_thread))
        try:
            self._unnumbered.append(request)
            self._send_unnumbered()
        except BaseException as error:
            settle(request.reply, error=error)  # so it is not sent any more either
            self._forget(request.reply)
            raise
        if request.failure is not None:
            raise request.failure
        return self._sent(request.reply, timeout)

    def _sent(self, reply: Reply, timeout: float | None) -> Reply:
        """Remove the reply from the open ones once it is done, and fail it when its timeout is over."""
        reply.add_done_callback(self._forget)
        if timeout is not None and not reply.done():
            try:
                self._timeouts.add(reply, timeout)
            except BaseException as error:
                settle(reply, error=error)
                raise
        return reply

    def _send_unnumbered(self) -> None:
        """Number and send the waiting requests, one after the other, unless that is being done already.

        No lock is held meanwhile, because `on_sent` handlers may run in here. Whatever makes a request in the
        meantime (another thread, such a handler, a signal handler, a finalizer) only queues it.
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
            except BaseException as error:  # noqa: BLE001  Ctrl-C: the others' requests are sent nevertheless
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
            return  # a signal handler or a finalizer has sent it, just before this thread began
        reply = request.reply
        if reply.done():
            return  # cancelled, or it has timed out
        before = self._number
        reply.key = number = before + 1
        # Before sending: the reply may arrive before send_text returns.
        while self._open.setdefault(number, reply) is not reply:  # the user has chosen that number, too
            reply.key = number = number + 1
        self._number = number
        try:
            if not self._app.send_text(f"{request.text}{number}}}"):
                raise _dropped(number)
        except Exception as error:  # noqa: BLE001  whatever it is, it is for the one who asks
            self._number = before  # was not sent: the next request has that number, and there is no gap
            self._forget(reply)
            request.failure = error
            settle(reply, error=error)
            self._timeouts.wake()  # for one that another thread has left to this one

    def reset_after_fork(self) -> None:
        """Let go, in the child of a fork, of the parent's requests: their replies arrive there."""
        self._lock = threading.RLock()
        self._open.clear()
        self._unnumbered.clear()
        self._is_sending = False
        self._timeouts = _Timeouts()

    def on_event(self, event: events.Event) -> None:
        """Settle a reply. (Not `on_text`, which is not called where some handler takes batches.)"""
        if not isinstance(event, events.Text):
            return
        try:
            message = event.json
        except ValueError:
            return  # not JSON, so not for us
        self._received(message)

    def on_disconnected(self, event: events.Disconnected) -> None:
        """Fail all open requests."""
        for reply in list(self._open.values()):
            self._forget(reply)
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
        except Exception as error:  # noqa: BLE001  for the one who asked
            settle(reply, error=error)
        else:
            settle(reply, result)

    def _find(self, key: Hashable) -> Reply | None:
        try:
            return self._open.pop(key, None)
        except TypeError:  # a key that is a list, for instance, matches no request
            return None

    def _forget(self, reply: Future[Any]) -> None:
        assert isinstance(reply, Reply)
        if self._open.get(reply.key) is reply:
            self._open.pop(reply.key, None)

    def _is_handlers_thread(self) -> bool:
        return self._app.in_handler


class _Request:
    """A request that has no number yet.

    Attributes:
        text: its JSON, up to where the number goes.
        reply: the reply to come.
        failure: what kept it from being sent.
    """

    __slots__ = ("failure", "reply", "text")

    def __init__(self, text: str, reply: Reply) -> None:
        self.text = text
        self.reply = reply
        self.failure: Exception | None = None


def _json_before_number(message: dict[str, Any], field: str | None) -> str:
    """Return the JSON of a message up to the value of one more field, its last."""
    inside = json.dumps(message, allow_nan=False)[:-1]
    return f"{inside}{', ' if message else ''}{json.dumps(field)}: "


def _dropped(key: Hashable) -> QueueFull:
    return QueueFull(f"request {key!r} was dropped: the send queue is full")


#: When a reply fails, a number that makes the entry comparable, and the reply.
_Due: TypeAlias = "tuple[float, int, weakref.ref[Reply]]"


class _Timeouts:
    """The timeouts of replies, kept by a thread that ends with the connection or with the last open reply.

    A reply that arrives in time does not wake the thread: its timeout is discarded when it falls due. The
    clock is the one in use when the thread starts.

    Signal handlers and finalizers may call `add` and `wake` wherever they interrupt a thread, so neither
    waits for another thread: the lock is held for two steps at most, and nothing is called under it.
    """

    def __init__(self) -> None:
        self._clock = current()
        self._numbers = count()
        self._arrived: deque[_Due] = deque()  # not seen by the thread yet
        self._due: list[_Due] = []  # a heap, the thread's own; others only read it
        self._settled = 0  # replies, so far
        self._is_settling = False
        self._wakes_at = -inf  # when the thread goes on by itself; -inf while it is not waiting
        self._lock = threading.RLock()  # guards the next one
        self._has_thread = False
        self._signal = threading.Lock()  # released to wake the thread
        self._signal.acquire()

    def add(self, reply: Reply, timeout: float) -> None:
        """Fail the reply after that many seconds."""
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
                threading.Thread(target=self._run, name="lochws-replies", daemon=True).start()
                is_mine = False  # it is the thread's now
        finally:
            if is_mine:
                self._has_thread = False
        if when < self._wakes_at:
            self.wake()

    def wake(self) -> None:
        """Let the thread look at its clock again, and end if no reply is open."""
        with suppress(RuntimeError):  # it has been woken, and has not got to it yet
            self._signal.release()

    def rest(self, *, handlers: bool) -> Rest | None:
        """Say how the thread waits: the interface of `lochws.clock.Timed`."""
        now = self._clock.monotonic()
        replies = [(when, reference()) for when, _, reference in [*self._arrived, *self._due]]
        ends = [when for when, reply in replies if reply is not None and not reply.done()]
        if self._is_settling or any(when <= now for when in ends):
            return None
        return Rest(self._settled, min(ends, default=None))

    def _run(self) -> None:
        while True:
            while self._arrived:
                heapq.heappush(self._due, self._arrived[0])
                self._arrived.popleft()
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
            heapq.heappop(self._due)
        elif left <= 0:
            self._is_settling, self._settled = True, self._settled + 1
            heapq.heappop(self._due)
            try:
                settle(reply, error=TimeoutError(f"no reply to {reply.key!r} in time"))
            except BaseException as error:  # noqa: BLE001  SystemExit too must not end the thread
                report(logging.ERROR, "a callback of a reply failed", error=error)
            self._is_settling = False
        else:
            del reply  # a reply that only this thread refers to is not waited for
            self._wakes_at = when
            if not self._arrived:
                self._signal.acquire(timeout=slice_of(left) if self._clock.passes else -1)
            self._wakes_at = -inf


def settle(reply: Reply, result: Any = None, error: BaseException | None = None) -> None:
    """Settle a reply unless it is settled already: the network, the clock and the user race for it."""
    with suppress(InvalidStateError):
        if error is None:
            reply.set_result(result)
        else:
            reply.set_exception(error)

"""Incoming streams: large messages that are read while they arrive, and the events that wait behind them.

The baton holder writes into a stream, and any thread reads from it. The handlers' thread and the thread of an
iteration, which would otherwise turn the loop, turn it themselves while they wait here. When the buffer is
full, the connection stops reading, and TCP slows the server down.

Order is kept: events that the server sent after a stream are posted once the stream is done. It is done when
it has been read to its end, was closed, is no longer referenced, or has failed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from functools import partial
from sys import maxsize
from time import monotonic
from typing import Any, NoReturn, Protocol, cast

from .. import events
from ..engine.inbox import Inbox
from ..errors import WebSocketClosed, WebSocketError
from ..options import as_timeout, check_range
from ..system import control, forks, usercode
from ..system.control import control_lock
from ..system.reentry import interrupted_module
from ..system.waits import Waiters, slice_of

#: The characters or bytes of a stream that may wait to be read; beyond this limit, nothing is received until
#: half of them have been read.
STREAM_BUFFER = 1024 * 1024
#: Parts smaller than this are joined, since each takes some memory of its own.
SMALL_PART = 4 * 1024
#: The module that calls handlers. They may wait for a stream, unlike any other code that lochws calls.
_CALLS_HANDLERS = "lochws.dispatch.registry"


class Handlers(Protocol):
    """The interface between the streams of a connection and the connection's listener."""

    def turn_for_handler(self, until: Callable[[], bool], limit: float | None) -> bool:
        """Turn the loop once if that is the calling thread's job; otherwise return False."""

    def stream_handled(self, stream: IncomingStream) -> None:
        """Note that the handlers of a Stream have run. On the handlers' thread."""

    def has_handler_for(self, kind: type[events.Event]) -> bool:
        """Return whether any handler would get such an event."""


class IncomingStream:
    """The content of one message, between the connection and the threads that read it.

    Args:
        is_text: whether the parts are str; otherwise they are bytes.
        touch: has the loop call the connection's `on_touch` soon. It takes no lock.
        handlers: the listener of the connection.

    Attributes:
        waiting: the number of characters or bytes that have not been read.
        is_complete: whether all of the message has arrived.
        is_posted: whether its event was posted; written by `IncomingStreams`, as is `held_cost`.
        held_cost: what its content adds to the cost of the events that are held, in bytes.
    """

    __slots__ = (
        "__weakref__", "_asked", "_changed", "_empty", "_error", "_handlers", "_is_closed", "_lock", "_parts",
        "_sizes", "_start", "_touch", "_wakers", "held_cost", "is_complete", "is_posted", "waiting",
    )

    def __init__(self, is_text: bool, touch: Callable[[], None], handlers: Handlers) -> None:
        self._touch = touch
        self._handlers = handlers
        self._empty: Any = "" if is_text else b""
        self._lock = control_lock()
        self._changed = Waiters(self._lock)
        # The lock guards everything below, except that the flags are also read without it.
        self._parts: deque[Any] = deque()  # str or bytes; Any, since either kind can be joined
        self._start = 0  # what has been read of the first part
        self.waiting = 0
        self._sizes: list[int] = []  # the sizes that threads wait for
        self._asked = 0  # what the last read asked for in vain, and will ask for again
        self.is_complete = False
        self._is_closed = False
        self._error: WebSocketClosed | None = None
        self._wakers: deque[Callable[[], object]] = deque()  # any thread appends and takes
        self.is_posted = False
        self.held_cost = 0
        forks.register(self)

    @property
    def is_done(self) -> bool:
        """True if nothing more will be read. Any thread."""
        return self._is_closed or self._error is not None or (self.is_complete and not self.waiting)

    @property
    def is_full(self) -> bool:
        """True if nothing more should be received until some has been read. Any thread."""
        return self.waiting >= max(STREAM_BUFFER, self._asked, *self._sizes) and not self.is_done

    @property
    def is_low(self) -> bool:
        """True if receiving may continue. Any thread."""
        return self.waiting < max(STREAM_BUFFER // 2, self._asked, *self._sizes) or self.is_done

    # The baton holder.

    def write(self, part: str | bytes) -> None:
        """Add a part of the content."""
        with self._lock:
            parts = self._parts
            if self._is_closed:
                parts.clear()
            if self._is_closed or self._error is not None:
                return
            if parts and len(parts[-1]) < SMALL_PART:
                parts[-1] += part
            else:
                parts.append(part)
            self.waiting += len(part)
            if self.waiting >= min(self._sizes, default=maxsize):  # threads change the list without the lock
                self._changed.notify_all()
        self._call_wakers()

    def end(self) -> None:
        """Note that the message is complete."""
        with self._lock:
            self.is_complete = True
            self._changed.notify_all()
        self._call_wakers()

    def fail(self, error: WebSocketClosed) -> None:
        """Note that the rest of the message will not arrive. Nothing happens if it is complete."""
        with self._lock:
            if not (self.is_complete or self._is_closed or self._error is not None):
                self._error = error
            self._changed.notify_all()
        self._call_wakers()

    # Any thread.

    def read(self, size: int | None, timeout: float | None) -> str | bytes:
        """Return the next `size` characters or bytes: see `Stream.read`."""
        if size is None or size == -1:
            size = maxsize
        else:
            check_range("read: size", size, 0)
        return self._wait(size, as_timeout("read", timeout))

    def chunk(self) -> str | bytes:
        """Return the content that has arrived, after a wait if there is none; empty at the end."""
        return self._wait(None, None)

    def chunks(self, owner: object) -> AsyncIterator[str | bytes]:
        """Return an iterator over the parts for a coroutine."""
        return _Parts(self, owner)

    def poll(self, size: int | None = None) -> str | bytes | None:
        """Return `size` characters or bytes, or some if `size` is None; return None if too few have arrived.

        Raises:
            WebSocketError: the stream was closed, or the rest of it will not arrive.
        """
        try:
            with self._lock:
                before = self.waiting
                taken = self._take(size)
            if taken is None:
                return None
            content: str | bytes = self._empty.join(taken)  # without the lock: it may be large
            if content and (before >= STREAM_BUFFER // 2 > self.waiting or self.is_done):
                self._touch()
            return content
        except WebSocketError:
            raise
        except BaseException:  # Ctrl-C, or no memory: some of the content may be lost
            self.close()
            raise

    def has(self, size: int | None = None) -> bool:
        """Return whether `poll` would return content or raise."""
        return (
            self.waiting >= (1 if size is None else size)
            or self.is_complete or self._is_closed or self._error is not None
        )

    def on_change(self, waker: Callable[[], object]) -> None:
        """Have a function called once, by any thread, when there may be something new. It must not raise."""
        self._wakers.append(waker)

    def forget(self, waker: Callable[[], object]) -> None:
        """Stop calling a function that was passed to `on_change`."""
        with suppress(ValueError):  # it has been called
            self._wakers.remove(waker)

    def close(self) -> None:
        """Skip the rest of the content."""
        with self._lock:
            if not self.is_done:
                self._is_closed = True
            self._changed.notify_all()
        self._call_wakers()
        self._touch()

    def abandon(self) -> None:
        """Skip the rest of the content. For a finalizer: takes no lock, since no thread reads any more."""
        if not self.is_done:
            self._is_closed = True
            self._touch()

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied or pickled."""
        raise TypeError("the content of a Stream cannot be copied or pickled: read it where it arrives")

    def reset_after_fork(self) -> None:
        """Make reads fail in the child of a fork, since the rest arrives in the parent."""
        self._lock = control_lock()
        self._changed = Waiters(self._lock)
        self._wakers.clear()
        if not self.is_complete and self._error is None:
            self._error = WebSocketClosed("the rest of the stream arrives in the parent of this process")

    def _wait(self, size: int | None, timeout: float | None) -> str | bytes:
        """Wait for `size` characters or bytes, or for some if `size` is None, and return them."""
        end = None if timeout is None else monotonic() + timeout
        content = self.poll(size)
        if content is not None:
            return content
        if timeout != 0:
            _check_may_wait()
        least = 1 if size is None else size
        try:
            self._sizes.append(least)
            if least > STREAM_BUFFER // 2:
                self._touch()  # the connection may have stopped reading when the buffer was full
            while (content := self.poll(size)) is None:
                left = None if end is None else end - monotonic()
                if left is not None and left <= 0:
                    unit = "characters" if self._empty == "" else "bytes"
                    wanted = "the rest of the message" if least == maxsize else f"{least} {unit}"
                    # Another buffer each time: it may never be asked for again, and still be kept.
                    self._asked = min(least, self.waiting + STREAM_BUFFER)
                    raise TimeoutError(f"read(): {wanted} did not arrive within {timeout:g} s")
                if not self._handlers.turn_for_handler(partial(self.has, size), slice_of(left)):
                    with self._lock:
                        if not self.has(size):
                            self._changed.wait(slice_of(left))
        finally:
            with suppress(ValueError):  # Ctrl-C came first
                self._sizes.remove(least)
        return content

    def _take(self, size: int | None) -> list[Any] | None:
        """Return the next parts, or None if too few have arrived. Under the lock."""
        if self._is_closed:
            raise WebSocketError("read(): the stream was closed")
        if not self.has(size):
            return None
        if self._error is not None and self.waiting < (1 if size is None else size):
            error = self._error
            raise WebSocketClosed(f"read(): {error}", event=error.event) from error.__cause__
        parts = self._parts
        if size is None:
            size = len(parts[0]) - self._start if parts else 0
        taken: list[Any] = []
        while parts and size > 0:
            part, start = parts[0], self._start
            if len(part) - start > size:
                taken.append(part[start : start + size])
                self._start += size
                break
            taken.append(part[start:])
            size -= len(part) - start
            parts.popleft()
            self._start = 0
        self._asked = 0
        self.waiting -= sum(map(len, taken))
        return taken

    def _call_wakers(self) -> None:
        for _ in range(len(self._wakers)):  # a waker may be added again meanwhile
            with suppress(IndexError):  # another thread has taken it
                self._wakers.popleft()()


class IncomingStreams:
    """The streams of one connection, and the events behind them. For the baton holder.

    Args:
        inbox: receives the events.
        touch: has the loop call the connection's `on_touch` soon.
        handlers: the listener of the connection.

    Attributes:
        is_closing: whether our Close frame was sent, so that nothing waits for a slow reader any more.
        pauses: whether reading is paused because of a stream; written by `ReceivingHalf`.
    """

    def __init__(self, inbox: Inbox, touch: Callable[[], None], handlers: Handlers) -> None:
        self._inbox = inbox
        self._touch = touch
        self._handlers = handlers
        self._arriving: IncomingStream | None = None  # the latest one
        self._unread: IncomingStream | None = None  # the one that was posted last
        self._held: deque[tuple[Sequence[events.Event], int, Callable[[], object] | None]] = deque()
        self._held_cost = 0
        self.is_closing = False
        self.pauses = False

    def open(self, is_text: bool) -> IncomingStream:
        """Return the sink of a new stream, which the receiver puts into a Stream event."""
        if (complete := self._arriving) is not None and not complete.is_posted:
            complete.held_cost = complete.waiting  # which stays the same until it is posted
            self._held_cost += complete.held_cost
        self._arriving = stream = IncomingStream(is_text, self._touch, self._handlers)
        if not self._handlers.has_handler_for(events.Stream):
            stream.close()
        return stream

    @property
    def is_arriving(self) -> bool:
        """True if the message that is being received is a stream."""
        return self._arriving is not None and not self._arriving.is_complete

    def check(self, limit: int) -> bool:
        """Post the events whose time has come. Return whether too much waits, so that reading should pause.

        Args:
            limit: the bytes of events that may wait, in the inbox and here.
        """
        stream = self._arriving
        backlog = self.release()
        is_full = self._held_cost > limit or (stream is not None and stream.is_full)
        if is_full and self.is_closing:
            # The thread that closed the connection may be the one that would have to read.
            self.fail(WebSocketClosed("the stream is incomplete, because it was not read while closing"))
            backlog = self.release(everything=True)
            is_full = False
        return is_full or backlog > limit

    def is_low(self, limit: int) -> bool:
        """Return whether receiving may continue."""
        stream = self._arriving
        return self._held_cost <= limit and (stream is None or stream.is_low)

    def post(
        self, received: Sequence[events.Event], cost: int = 0, after: Callable[[], object] | None = None
    ) -> int:
        """Post events to the inbox, now or when the stream in front of them is done. Return its backlog."""
        self._held.append((received, cost, after))
        self._held_cost += cost
        return self.release()

    def release(self, *, everything: bool = False) -> int:
        """Post the events whose time has come. Return the backlog of the inbox."""
        if self._arriving is not None and self._arriving.is_complete and self._arriving.is_done:
            self._arriving = None  # the skipped part of it takes memory
        if self._unread is not None and self._unread.is_done:
            self._unread = None
        held = self._held
        while held and (everything or self._unread is None):
            received, cost, after = held.popleft()
            self._held_cost -= cost
            self._unread = None
            for index, event in enumerate(received):
                if isinstance(event, events.Stream):
                    if rest := received[index + 1 :]:
                        held.appendleft((rest, 0, after))
                        after = None
                    received = [*received[: index + 1]]
                    stream = cast("IncomingStream", event._source)
                    after = partial(self._handled, received, stream, after)
                    self._held_cost -= stream.held_cost
                    stream.is_posted = True
                    self._unread = None if stream.is_done else stream
                    break
            self._inbox.post(received, cost, after)
        return self._inbox.backlog

    def fail(self, error: WebSocketClosed) -> None:
        """Make the stream that is arriving fail, since nothing else will be received."""
        if self._arriving is not None:
            self._arriving.fail(error)

    def _handled(
        self, received: list[events.Event], stream: IncomingStream, after: Callable[[], object] | None
    ) -> None:
        """Forget a Stream whose handlers have run. On the handlers' thread."""
        received.clear()
        self._handlers.stream_handled(stream)
        if after is not None:
            after()


class _Parts(AsyncIterator["str | bytes"]):
    """One ``async for`` loop over a stream.

    Args:
        stream: the content.
        owner: kept alive as long as the loop, since a stream that nothing refers to is skipped.
    """

    def __init__(self, stream: IncomingStream, owner: object) -> None:
        self._stream = stream
        self._owner = owner

    async def __anext__(self) -> str | bytes:
        """Return the next part, or end the loop after the last one."""
        import asyncio  # noqa: PLC0415  only programs with an event loop need it

        stream, loop = self._stream, asyncio.get_running_loop()
        await asyncio.sleep(0)  # a part may be there each time, and other coroutines get their turn
        while (part := stream.poll()) is None:
            arrived = asyncio.Event()

            def wake(arrived: asyncio.Event = arrived) -> None:
                with suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(arrived.set)

            stream.on_change(wake)
            try:
                if not stream.has():
                    await arrived.wait()
            finally:
                stream.forget(wake)
        if not part:
            raise StopAsyncIteration
        return part


def _check_may_wait() -> None:
    """Raise WebSocketError if waiting on the calling thread could keep the stream from arriving."""
    module = interrupted_module()
    if control.is_held() or usercode.owners() or (module is not None and module != _CALLS_HANDLERS):
        raise WebSocketError(
            "read() cannot wait in code that interrupts lochws, such as a signal handler, or that lochws "
            "calls while it moves data: pass timeout=0 there"
        )

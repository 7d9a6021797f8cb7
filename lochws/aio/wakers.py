"""Waker: a future of an event loop that any thread may complete."""

from __future__ import annotations

import asyncio


class Waker:
    """A one-time alarm for one coroutine. Create it in the coroutine, and pass it to the code that calls it.

    Attributes:
        future: completed by the first call. Await it.
    """

    __slots__ = ("_loop", "future")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self._loop.create_future()

    def __call__(self) -> None:
        """Wake the coroutine. Any thread; never blocks. Nothing happens if the loop has been closed."""
        try:
            self._loop.call_soon_threadsafe(self._complete)
        except RuntimeError:
            pass  # the loop is closed, and its coroutine will never continue

    def _complete(self) -> None:
        if not self.future.done():
            self.future.set_result(None)

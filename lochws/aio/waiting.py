"""Waits of coroutines for an app, and for replies, which block no event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import Any, TypeVar

from ..life.intake import Life
from .wakers import Waker

_R = TypeVar("_R")


async def until(life: Life, is_over: Callable[[], bool], timeout: float | None) -> bool:
    """Wait until a condition about an app or a feed holds. Return False if the timeout expires first.

    Args:
        life: the life of the app or the feed.
        is_over: the condition; asked again when it becomes ready, is closed, or has stopped.
        timeout: the longest time to wait, in seconds; None for no limit.
    """
    loop = asyncio.get_running_loop()
    end = None if timeout is None else loop.time() + timeout
    while not is_over():
        left = None if end is None else end - loop.time()
        if left is not None and left <= 0:
            return False
        waker = Waker()
        life.watch(waker)
        try:
            if not is_over():
                await asyncio.wait([waker.future], timeout=left)
        finally:
            life.unwatch(waker)
    return True


def reply_of(future: Future[_R]) -> Generator[Any, None, _R]:
    """Wait for a future of a thread in a coroutine: for ``__await__``. Cancelling the wait cancels it.

    Raises:
        RuntimeError: no event loop is running in the calling thread.
        Exception: whatever the future failed with.
    """
    if not future.done():
        waker = Waker()
        future.add_done_callback(lambda _: waker())
        try:
            yield from waker.future
        finally:
            if not future.done():
                future.cancel()
    return Future.result(future)

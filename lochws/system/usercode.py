"""User code: the owners for which the calling thread is running the user's functions.

A thread that runs an option function, a trace function or an ``on_sent`` handler of an app must not wait for
that app, because the app waits for the function. Each thread has a tuple of owners, to which `run` and
`marked` add during a call. A thread that makes a call on behalf of another thread inherits its owners.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from functools import update_wrapper
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_local = threading.local()


def owners() -> tuple[object, ...]:
    """Return the owners for whom the calling thread is running functions."""
    found: tuple[object, ...] = getattr(_local, "owners", ())
    return found


def is_running(owner: object) -> bool:
    """Return whether the calling thread is running a function for that owner."""
    return any(one is owner for one in owners())


def run(function: Callable[[], T], *added: object) -> T:
    """Call a function, with more owners while it runs."""
    before = owners()
    try:
        _local.owners = (*before, *added)
        return function()
    finally:
        _local.owners = before


def marked(owner: object, function: Callable[P, T]) -> Callable[P, T]:
    """Return a function that calls `function` with one more owner."""

    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        return run(lambda: function(*args, **kwargs), owner)

    return named_like(function, call)


def named_like(function: Callable[..., object], wrapper: Callable[P, T]) -> Callable[P, T]:
    """Give a wrapper the name of the function that it calls, unless that has none, like some mocks."""
    with suppress(AttributeError, TypeError):
        update_wrapper(wrapper, function)
    return wrapper

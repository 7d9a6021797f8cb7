"""What can be a handler: something that runs when it is called with one argument, the event."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import FunctionType, MethodType

#: The attribute of functions that `lochws.on` has marked.
MARK = "__lochws_events__"
# Flags of code that does something else than run when it is called.
_NO_FUNCTION = (
    inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE | inspect.CO_ASYNC_GENERATOR
)


def _takes_one(function: object) -> bool:
    """Whether a glance tells that this is a plain function, or a method, of one argument."""
    inner = function.__func__ if isinstance(function, MethodType) else function
    if type(inner) is not FunctionType or not inner.__dict__.keys() <= {MARK}:
        return False  # what it is made of may tell of another signature
    code = inner.__code__
    if code.co_flags & _NO_FUNCTION or code.co_kwonlyargcount:
        return False
    given = 2 if inner is not function else 1
    return code.co_argcount - len(inner.__defaults__ or ()) <= given <= code.co_argcount


def check_callable(function: Callable[..., object]) -> None:
    """Refuse what is no handler.

    Raises:
        TypeError: it cannot be called with one argument, or is a coroutine or generator function.
    """
    if _takes_one(function):
        return
    name = getattr(function, "__qualname__", repr(function))
    if not callable(function):
        raise TypeError(f"{function!r} is no handler: it cannot be called")
    for what in (function, getattr(function, "__call__", None)):  # noqa: B004  an object's own is meant
        if inspect.iscoroutinefunction(what) or inspect.isasyncgenfunction(what):
            raise TypeError(f"{name} is a coroutine function: handlers are plain functions, run in a thread")
        if inspect.isgeneratorfunction(what):
            raise TypeError(f"{name} is a generator function: calling it would run nothing of it")
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        return  # some built-in functions do not tell
    try:
        signature.bind(object())
    except TypeError:
        raise TypeError(f"{name}{signature} cannot be called with one argument, the event") from None

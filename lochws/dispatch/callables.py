"""Callables: checks for handlers, and calls of methods that a subclass may have overridden."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import FunctionType, MethodType
from typing import Any

#: The attribute of functions that `lochws.on` has marked.
MARK = "__lochws_events__"
# The flags of functions whose body does not run when they are called.
_NO_FUNCTION = (
    inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE | inspect.CO_ASYNC_GENERATOR
)


def _takes_one(function: object) -> bool:
    """Return whether this is obviously a plain function or method of one argument; a fast check."""
    inner = function.__func__ if isinstance(function, MethodType) else function
    if type(inner) is not FunctionType or not inner.__dict__.keys() <= {MARK}:
        return False  # an attribute may override its signature
    code = inner.__code__
    if code.co_flags & _NO_FUNCTION or code.co_kwonlyargcount:
        return False
    given = 2 if inner is not function else 1
    return code.co_argcount - len(inner.__defaults__ or ()) <= given <= code.co_argcount


def check_callable(function: Callable[..., object]) -> None:
    """Raise TypeError unless calling `function` with one argument is possible and runs its body.

    Raises:
        TypeError: the function cannot be called with one argument, or is a coroutine or generator function.
    """
    if _takes_one(function):
        return
    name = getattr(function, "__qualname__", repr(function))
    if not callable(function):
        raise TypeError(f"handler: expected a function of one argument, got {function!r}")
    for what in (function, getattr(function, "__call__", None)):  # noqa: B004  an object's own is meant
        if inspect.iscoroutinefunction(what) or inspect.isasyncgenfunction(what):
            raise TypeError(f"{name} is a coroutine function: handlers are plain functions, run by a thread")
        if inspect.isgeneratorfunction(what):
            raise TypeError(f"{name} is a generator function, whose body would never run: remove the yield")
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        return  # some built-in functions have none to see
    try:
        signature.bind(object())
    except TypeError:
        raise TypeError(f"{name}{signature} cannot be called with one argument, the event") from None


def accepted(
    function: Callable[..., object], wanted: Mapping[str, Any], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the keyword arguments that a method accepts which a subclass may have overridden.

    An override may lack some parameters of the original. An argument for a missing parameter is omitted if it
    has its default value; otherwise it is kept, and Python's own error names it.
    """
    try:
        parameters = inspect.signature(function).parameters
    except (ValueError, TypeError):
        return dict(wanted)
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return dict(wanted)
    return {
        name: value for name, value in wanted.items() if name in parameters or value != defaults[name]
    }

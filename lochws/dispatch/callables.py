"""Callables: checks for handlers, and calls of methods that a subclass may have overridden."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from types import AsyncGeneratorType, CoroutineType, FunctionType, GeneratorType, MethodType
from typing import Any

#: The attribute of functions that `lochws.on` has marked.
MARK = "__lochws_events__"
# Flags of code objects, as `inspect` names them: it is a large module, and most programs need nothing of it.
CO_GENERATOR, CO_COROUTINE, CO_ITERABLE_COROUTINE, CO_ASYNC_GENERATOR = 0x20, 0x80, 0x100, 0x200
_COROUTINE = CO_COROUTINE | CO_ITERABLE_COROUTINE | CO_ASYNC_GENERATOR
_RUN_COROUTINE = "from a plain function, call asyncio.run_coroutine_threadsafe(coroutine, loop)"
# The flags of functions whose body does not run when they are called.
_NO_FUNCTION = _COROUTINE | CO_GENERATOR


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


def _flags(function: object) -> int:
    """Return the flags of a function's code, 0 if it has none.

    `inspect.iscoroutinefunction` fails for some mocks, and takes others for coroutine functions.
    """
    while isinstance(function, (partial, MethodType)):
        function = function.func if isinstance(function, partial) else function.__func__
    if type(function) is FunctionType and function.__dict__:
        from inspect import iscoroutinefunction  # noqa: PLC0415  it has attributes, which few functions have

        if iscoroutinefunction(function):
            return CO_COROUTINE  # it may be marked as one without being one
    flags = getattr(getattr(function, "__code__", None), "co_flags", 0)
    return flags if type(flags) is int else 0


def _all_flags(function: object) -> int:
    """Return the flags of a function's code, or of the method that makes an object callable."""
    return _flags(function) | _flags(getattr(type(function), "__call__", None))  # noqa: B004  not a test


def is_coroutine_function(function: object) -> bool:
    """Return whether calling `function` only creates a coroutine or an asynchronous generator."""
    return bool(_all_flags(function) & _COROUTINE)


def check_runs(name: str, function: object) -> None:
    """Raise TypeError if calling `function` would not run its body.

    Raises:
        TypeError: it is a coroutine or generator function, or an object whose ``__call__`` is one.
    """
    if is_coroutine_function(function):
        raise TypeError(
            f"{name} is a coroutine function, but lochws calls plain functions on its own threads: "
            f"{_RUN_COROUTINE}"
        )
    if _all_flags(function) & CO_GENERATOR:
        raise TypeError(f"{name} is a generator function, whose body would never run: remove the yield")


def needs_arguments(function: object) -> bool:
    """Return whether this is a Python function or method that cannot be called without arguments."""
    inner = function.__func__ if isinstance(function, MethodType) else function
    if type(inner) is not FunctionType:
        return False
    code = inner.__code__
    needed = code.co_argcount - len(inner.__defaults__ or ()) - (inner is not function)
    return needed > 0 or code.co_kwonlyargcount > len(inner.__kwdefaults__ or ())


def not_run(result: object) -> str:
    """Return why a function that returned this result has not run its body, or "" if it has.

    A new coroutine is closed, so that Python does not warn that it was never awaited.
    """
    if not isinstance(result, (GeneratorType, AsyncGeneratorType, Coroutine)):
        return ""
    import inspect  # noqa: PLC0415  for mistakes alone

    if isinstance(result, CoroutineType):
        is_new = inspect.getcoroutinestate(result) == inspect.CORO_CREATED
    elif isinstance(result, GeneratorType):
        is_new = inspect.getgeneratorstate(result) == inspect.GEN_CREATED
    else:
        is_new = True
    if not is_new:
        return ""
    if isinstance(result, Coroutine):
        result.close()
        return f"returned a coroutine, which nothing will run: {_RUN_COROUTINE}"
    return "returned a generator, which nothing will iterate: run its loop in the handler itself"


def check_callable(function: Callable[..., object], shown: str = "handler") -> None:
    """Raise TypeError unless calling `function` with one argument is possible and runs its body.

    Args:
        function: the function.
        shown: what to call something that has no name, because it cannot be called.

    Raises:
        TypeError: the function cannot be called with one argument, or is a coroutine or generator function.
    """
    if _takes_one(function):
        return
    name = getattr(function, "__qualname__", None)
    name = name if isinstance(name, str) else repr(function)
    if not callable(function):
        raise TypeError(f"{shown}: expected a function of one argument, got {function!r}")
    check_runs(name, function)
    import inspect  # noqa: PLC0415  most functions are plain enough for the checks above

    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        return  # some built-in functions have none to see
    try:
        signature.bind(object())
    except TypeError:
        raise TypeError(f"{name}{signature} cannot be called with one argument, the event") from None


def check_takes(name: str, function: Callable[..., object], count: int) -> None:
    """Raise TypeError if a function given as an argument cannot be called, or if its body would not run.

    Args:
        name: the name of the argument.
        function: its value.
        count: the number of arguments that the function will be called with, at most 2.

    Raises:
        TypeError: it is not callable with that many arguments, or is a coroutine or generator function.
    """
    shown = getattr(function, "__qualname__", None)
    shown = shown if isinstance(shown, str) else type(function).__name__
    check_runs(f"{name}: {shown}", function)
    import inspect  # noqa: PLC0415  few programs pass such a function

    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        return  # some built-in functions have none to see
    try:
        signature.bind(*range(count))
    except TypeError:
        words = ("without arguments", "with one argument", "with two arguments")[count]
        raise TypeError(f"{name}: {shown}{signature} cannot be called {words}") from None


def accepted(
    function: Callable[..., object], wanted: Mapping[str, Any], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the keyword arguments that a method accepts which a subclass may have overridden.

    An override may lack some parameters of the original. An argument for a missing parameter is omitted if it
    has its default value; otherwise it is kept, and Python's own error names it.
    """
    if str(getattr(function, "__module__", "")).startswith("lochws."):
        return dict(wanted)  # it is the original
    import inspect  # noqa: PLC0415  few programs override such a method

    try:
        parameters = inspect.signature(function).parameters
    except (ValueError, TypeError):
        return dict(wanted)
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return dict(wanted)
    return {
        name: value for name, value in wanted.items() if name in parameters or value != defaults[name]
    }

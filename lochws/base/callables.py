"""Callables: checks whether functions that users pass can be called, and whether their body would run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import FunctionType, MethodType

# Flags of code objects, as `inspect` names them: it is a large module, and most programs need nothing of it.
CO_GENERATOR, CO_COROUTINE, CO_ITERABLE_COROUTINE, CO_ASYNC_GENERATOR = 0x20, 0x80, 0x100, 0x200
_COROUTINE = CO_COROUTINE | CO_ITERABLE_COROUTINE | CO_ASYNC_GENERATOR
RUN_COROUTINE = "from a plain function, call asyncio.run_coroutine_threadsafe(coroutine, loop)"
# The flags of functions whose body does not run when they are called.
NO_FUNCTION = _COROUTINE | CO_GENERATOR


def _flags(function: object) -> int:
    """Return the flags of a function's code, 0 if it has none.

    `inspect.iscoroutinefunction` fails for some mocks, and takes others for coroutine functions.
    """
    while isinstance(function, (partial, MethodType)):
        function = function.func if isinstance(function, partial) else function.__func__
    if type(function) is FunctionType and function.__dict__:
        import inspect  # noqa: PLC0415  it has attributes, which few functions have

        with suppress(AttributeError):  # this call may interrupt the import
            if inspect.iscoroutinefunction(function):
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
            f"{RUN_COROUTINE}"
        )
    if _all_flags(function) & CO_GENERATOR:
        raise TypeError(f"{name} is a generator function, whose body would never run: remove the yield")


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
    if (signature := unfit_signature(function, count)) is not None:
        words = ("without arguments", "with one argument", "with two arguments")[count]
        raise TypeError(f"{name}: {shown}{signature} cannot be called {words}")


def unfit_signature(function: Callable[..., object], count: int) -> object | None:
    """Return the signature of a function that cannot be called with this many arguments; None if it can."""
    import inspect  # noqa: PLC0415  few programs pass functions that are not obviously right

    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError, AttributeError):
        return None  # some built-in functions have none; and this call may interrupt the import
    try:
        signature.bind(*range(count))
    except TypeError:
        return signature
    return None

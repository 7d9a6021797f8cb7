"""Callables: checks for handlers, and calls of methods that a subclass may have overridden."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from types import (
    AsyncGeneratorType,
    BuiltinFunctionType,
    CoroutineType,
    FunctionType,
    GeneratorType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    WrapperDescriptorType,
)
from typing import Any

from ..base.callables import NO_FUNCTION, RUN_COROUTINE, check_runs, unfit_signature

#: The attribute of functions that `lochws.on` has marked.
MARK = "__lochws_events__"
#: The types of functions and methods, as opposed to other objects that can be called.
ROUTINES = (
    FunctionType, MethodType, BuiltinFunctionType, MethodDescriptorType, MethodWrapperType,
    WrapperDescriptorType,
)


def _takes_one(function: object) -> bool:
    """Return whether this is obviously a plain function or method of one argument; a fast check."""
    inner = function.__func__ if isinstance(function, MethodType) else function
    if type(inner) is not FunctionType or not inner.__dict__.keys() <= {MARK}:
        return False  # an attribute may override its signature
    code = inner.__code__
    if code.co_flags & NO_FUNCTION or code.co_kwonlyargcount:
        return False
    given = 2 if inner is not function else 1
    return code.co_argcount - len(inner.__defaults__ or ()) <= given <= code.co_argcount


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
        return f"returned a coroutine, which nothing will run: {RUN_COROUTINE}"
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
    if (signature := unfit_signature(function, 1)) is not None:
        raise TypeError(f"{name}{signature} cannot be called with one argument, the event")


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
    except (ValueError, TypeError, AttributeError):  # the last if this call interrupts the import
        return dict(wanted)
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return dict(wanted)
    return {
        name: value for name, value in wanted.items() if name in parameters or value != defaults[name]
    }

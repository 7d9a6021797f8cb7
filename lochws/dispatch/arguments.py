"""Arguments: decorators that refuse unknown keywords and suggest the right one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from types import FunctionType
from typing import Any, TypeVar, cast

from ..base.records import parameters_of
from ..system.lazy import ensure_whole

_Class = TypeVar("_Class", bound=type)
_Function = TypeVar("_Function", bound=Callable[..., Any])


def refusing_unknown(*, is_app: bool) -> Callable[[_Function], _Function]:
    """Return a decorator that makes a function refuse unknown keywords and suggest what was probably meant.

    Python's own error names only the wrong keyword, but users often try the names of other libraries.

    Args:
        is_app: whether the function is for a WebSocketApp.
    """
    def decorate(function: _Function) -> _Function:
        code = function.__code__
        known = code.co_varnames[:code.co_argcount + code.co_kwonlyargcount]

        @wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            if not kwargs.keys() <= known_set:
                ensure_whole("lochws.dispatch.foreign")
                from .foreign import refuse_arguments  # noqa: PLC0415  for mistakes alone

                refuse_arguments(f"{function.__name__}()", kwargs, known, is_app=is_app)
            try:
                return function(*args, **kwargs)
            except KeyboardInterrupt as error:
                # The user has interrupted a call, whose frames in lochws say nothing: show this one alone.
                # (In Python 3.10 a plain raise would restore all of them.)
                raise error.with_traceback(None) from None

        wrapper = cast(FunctionType, called)
        wrapper.__code__ = wrapper.__code__.replace(co_name=function.__name__)  # what tracebacks show
        known_set = frozenset(known)
        return cast(_Function, called)

    return decorate


def refusing_unknown_fields(cls: _Class) -> _Class:
    """Decorate a back-off's record so that it refuses unknown fields and suggests what was meant."""
    original: Callable[..., None] = cls.__init__  # type: ignore[misc]  # it is only called on instances of cls
    known = parameters_of(cls)

    @wraps(original)
    def initialize(self: object, *args: Any, **kwargs: Any) -> None:
        if not kwargs.keys() <= set(known):
            ensure_whole("lochws.dispatch.foreign")
            from .foreign import refuse_fields  # noqa: PLC0415  for mistakes alone

            refuse_fields(cls.__name__, kwargs, known)
        original(self, *args, **kwargs)

    cls.__init__ = initialize  # type: ignore[misc]  # same signature as the original
    return cls


def check_keywords(name: str, given: Mapping[str, object], known: tuple[str, ...]) -> None:
    """Raise TypeError unless all keywords that an app's or a feed's method was given are known to it.

    Args:
        name: the method, as the error names it.
        given: the keyword arguments.
        known: the names of those that it takes.
    """
    if not given.keys() <= set(known):
        ensure_whole("lochws.dispatch.foreign")
        from .foreign import refuse_arguments  # noqa: PLC0415  for mistakes alone

        refuse_arguments(name, dict(given), known, is_app=True)

"""Arguments: a decorator that refuses unknown keywords, and names the right one."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

_Function = TypeVar("_Function", bound=Callable[..., Any])


def refusing_unknown(*, is_app: bool) -> Callable[[_Function], _Function]:
    """Make a function refuse unknown keywords with an error that says what was probably meant: a decorator.

    Python's own error would name the wrong keyword only, but people come with the names of other libraries.

    Args:
        is_app: whether the function is for a WebSocketApp.
    """
    def decorate(function: _Function) -> _Function:
        code = function.__code__
        known = code.co_varnames[:code.co_argcount + code.co_kwonlyargcount]

        @wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            if not kwargs.keys() <= known_set:
                from .foreign import refuse_arguments  # noqa: PLC0415  for mistakes alone

                refuse_arguments(f"{function.__name__}()", kwargs, known, is_app=is_app)
            return function(*args, **kwargs)

        known_set = frozenset(known)
        return cast(_Function, called)

    return decorate

"""Hidden names: checks against a subclass or instance whose own attribute hides one of lochws's names."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partialmethod
from operator import attrgetter, is_
from typing import TYPE_CHECKING, Any

from ..base.callables import is_coroutine_function

__all__ = ["PRIVATE", "check_class", "check_instance", "read_only"]

#: The single private attribute, which holds all internals.
PRIVATE = "_lochws"
# Descriptors that produce methods, though not all of them are callable themselves.
_METHODS = (staticmethod, classmethod, partialmethod)

if TYPE_CHECKING:
    from builtins import property as read_only
else:
    class read_only(property):  # noqa: N801  used as `property` is
        """A property whose error on assignment says what to do instead."""

        def __set__(self, instance: object, value: object) -> None:
            name = self.fget.__name__
            ours = _ours(type(instance)).__name__
            raise AttributeError(
                f"{type(instance).__name__}.{name} is an attribute of {ours} and cannot be set: choose "
                f"another name for your own, such as self._{name}"
            )


def check_class(cls: type) -> None:
    """Refuse a class that hides a public name of lochws with something that cannot replace it.

    A method may be overridden by anything callable, a property by another property.

    Args:
        cls: a user's class that inherits from one of lochws's classes.

    Raises:
        TypeError: the class hides a name.
    """
    ours = _ours(cls)
    for base in cls.__mro__[: cls.__mro__.index(ours)]:
        for name, value in vars(base).items():
            if name == PRIVATE:
                raise TypeError(f"{base.__name__}.{name}: lochws uses this name itself, choose another one")
            if name.startswith(("_", "on_")) or not hasattr(ours, name):
                continue
            kind = "property" if isinstance(getattr(ours, name), property) else "method"
            if not _can_replace(kind, value):
                raise TypeError(
                    f"{base.__name__}.{name} hides a {kind} of {ours.__name__}: choose another name for your "
                    f"own, such as _{name}"
                )


def check_instance(instance: object) -> None:
    """Refuse an object whose attribute or method hides a method of lochws and cannot be called in its place.

    This does not access the object's ``__dict__``: Python would create one, and before Python 3.13 each
    attribute access would then take several times as long.

    Raises:
        AttributeError: an attribute is not callable.
        TypeError: a method needs other arguments than the one it overrides, or is a coroutine function.
    """
    ours = _ours(type(instance))
    names, taken, originals = _methods(ours)
    try:
        if all(map(is_, [method.__func__ for method in taken(instance)], originals)):
            return  # no method is overridden
    except AttributeError:  # one of them is not a method
        pass
    for name in names:
        value = getattr(instance, name)
        if not callable(value):
            raise AttributeError(
                f"{type(instance).__name__}.{name} was set to {_shortened(value)} and hides a method of "
                f"{ours.__name__}: choose another name for your own, such as self._{name}"
            )
        if getattr(value, "__func__", value) is not getattr(ours, name):
            _check_override(f"{type(instance).__name__}.{name}", value, ours, name)


def _ours(cls: type) -> type:
    """Return the most specific class of lochws in a class's bases, the class itself included."""
    for base in cls.__mro__:
        if base.__module__.partition(".")[0] == "lochws":
            return base
    raise AssertionError(f"{cls!r} inherits from no class of lochws")


def _can_replace(kind: str, value: object) -> bool:
    is_property = hasattr(value, "__get__") and not callable(value) and not isinstance(value, _METHODS)
    return is_property if kind == "property" else callable(value) or isinstance(value, _METHODS)


@cache
def _methods(ours: type) -> tuple[tuple[str, ...], Callable[[object], tuple[Any, ...]], tuple[Any, ...]]:
    """Return the names of the public methods of a class, a function that gets them, and its result."""
    candidates = (name for name in dir(ours) if not name.startswith(("_", "on_")))
    names = tuple(name for name in candidates if callable(getattr(ours, name)))
    taken = attrgetter(*names)
    return names, taken, taken(ours)


def _check_override(shown: str, function: Callable[..., object], ours: type, name: str) -> None:
    """Refuse an override that lochws and handlers cannot call with the arguments that they pass.

    Raises:
        TypeError: it cannot be called that way, or is a coroutine function.
    """
    if is_coroutine_function(function):
        raise TypeError(f"{shown} is a coroutine function, but {ours.__name__}.{name} is a plain function")
    import inspect  # noqa: PLC0415  most classes override nothing

    try:
        given = _passed(ours, name)
        signature = inspect.signature(function)
    except (TypeError, ValueError, AttributeError):
        return  # some built-in functions have no signature; and this call may interrupt the import
    try:
        signature.bind(*given)
    except TypeError:
        pass
    else:
        return
    _, *parameters = inspect.signature(getattr(ours, name)).parameters.values()
    original = inspect.Signature([each.replace(annotation=each.empty) for each in parameters])
    raise TypeError(
        f"{shown}{signature} cannot be called like {ours.__name__}.{name}{original}, which it overrides: "
        f"accept the same arguments, or choose another name for your own, such as _{name}"
    )


@cache
def _passed(ours: type, name: str) -> tuple[str, ...]:
    """Return the names of the arguments that every call of a method passes, by position."""
    import inspect  # noqa: PLC0415  as above

    _, *parameters = inspect.signature(getattr(ours, name)).parameters.values()
    positional = (each for each in parameters if each.kind <= each.VAR_POSITIONAL)
    return tuple(each.name for each in positional if each.default is each.empty)


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

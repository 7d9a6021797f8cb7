"""Records: frozen dataclasses that are defined in a tenth of the time, without generating code."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

__all__ = ["Field", "changed", "field", "fields_of", "parameters_of", "record", "values_of"]

_Any = TypeVar("_Any")

#: Marks a field without a default.
REQUIRED: Any = object()
_set = object.__setattr__


class Field:
    """A field of a record; the arguments are some of those of `dataclasses.field`."""

    __slots__ = ("default", "kw_only", "metadata", "repr")

    def __init__(
        self, *, default: Any = REQUIRED, repr: bool = True, kw_only: bool | None = None,  # noqa: A002  its name
        metadata: Any = None,
    ) -> None:
        self.default = default
        self.repr = repr
        self.kw_only = kw_only
        self.metadata = metadata


def fields_of(cls: type) -> dict[str, Field]:
    """Return the fields of a record's class by name, in order."""
    shape: _Shape = cls.__shape__  # type: ignore[attr-defined]  # every record's class has it
    return shape.fields


def parameters_of(cls: type) -> tuple[str, ...]:
    """Return the names of the parameters of a record's class, or of a class with a constructor in Python."""
    if "__shape__" in vars(cls):
        return tuple(fields_of(cls))
    code = cls.__init__.__code__  # type: ignore[misc]  # it is only looked at
    names: tuple[str, ...] = code.co_varnames[1:code.co_argcount + code.co_kwonlyargcount]
    return names


def values_of(record: object) -> dict[str, Any]:
    """Return the values of a record's fields by name."""
    return {name: getattr(record, name) for name in fields_of(type(record))}


def changed(record: _Any, **changes: Any) -> _Any:
    """Return a copy of a record with other values for some fields."""
    return type(record)(**{**values_of(record), **changes})


class _Shape:
    """The fields of a record's class, as its methods need them."""

    __slots__ = ("cls", "defaults", "eq", "fields", "in_order", "positional", "taken")

    def __init__(self, cls: type, *, kw_only: bool, eq: bool) -> None:
        self.cls = cls
        self.eq = eq
        self.fields: dict[str, Field] = {}
        for name in cls.__annotations__:
            given = vars(cls).get(name, REQUIRED)
            each = self.fields[name] = given if type(given) is Field else Field(default=given)
            if each.kw_only is None:
                each.kw_only = kw_only
        self.positional = tuple(name for name, each in self.fields.items() if not each.kw_only)
        #: How many arguments give all fields in order; -1 if that is not possible.
        self.in_order = len(self.fields) if len(self.positional) == len(self.fields) else -1
        self.defaults = {
            name: each.default for name, each in self.fields.items() if each.default is not REQUIRED
        }
        self.taken = attrgetter(*self.fields)

    def as_dataclass(self) -> type:
        """Return a dataclass with the same fields."""
        import dataclasses  # noqa: PLC0415  for programs that use its functions

        namespace: dict[str, Any] = {
            name: dataclasses.field(
                default=dataclasses.MISSING if each.default is REQUIRED else each.default,
                repr=each.repr, kw_only=bool(each.kw_only),
            )
            for name, each in self.fields.items()
        }
        namespace |= {"__annotations__": self.cls.__annotations__, "__module__": self.cls.__module__}
        twin = type(self.cls.__name__, (), namespace)
        return dataclasses.dataclass(frozen=True, eq=self.eq)(twin)

    def refuse(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> NoReturn:
        """Raise TypeError for arguments that do not fit the fields."""
        from inspect import signature  # noqa: PLC0415  for mistakes alone

        try:
            signature(self.as_dataclass()).bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.cls.__name__}: {error}") from None
        raise AssertionError("these arguments fit")


class _Described:
    """An attribute of a record's class for `inspect` or `dataclasses`, made when one of them reads it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: Any) -> Any:
        shape: _Shape = owner.__shape__
        if self._name != "__signature__":
            return getattr(shape.as_dataclass(), self._name)
        if instance is not None or owner.__init__ is not shape.cls.__init__:  # type: ignore[misc]  # only compared
            # An object has the signature of its __call__; a subclass has a constructor of its own.
            raise AttributeError(self._name)
        from inspect import signature  # noqa: PLC0415  its caller has imported it

        return signature(shape.as_dataclass())


class _Record:
    """The methods that a class gets when it becomes a record."""

    __shape__: _Shape
    __signature__ = _Described("__signature__")
    __dataclass_fields__ = _Described("__dataclass_fields__")
    __dataclass_params__ = _Described("__dataclass_params__")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        shape = self.__shape__
        if len(args) == shape.in_order and not kwargs:
            for name, value in zip(shape.positional, args, strict=True):
                _set(self, name, value)
            self.__post_init__()
            return
        given = dict(zip(shape.positional, args, strict=False))
        values = {**shape.defaults, **given, **kwargs}
        fits = len(args) == len(given) and given.keys().isdisjoint(kwargs)
        if not fits or values.keys() != shape.fields.keys():
            shape.refuse(args, kwargs)
        for name in shape.fields:
            _set(self, name, values[name])
        self.__post_init__()

    def __post_init__(self) -> None:
        """Check the fields; for classes to override."""

    def __repr__(self) -> str:
        shown = [name for name, each in self.__shape__.fields.items() if each.repr]
        return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        taken = self.__shape__.taken
        return bool(taken(self) == taken(other))

    def __hash__(self) -> int:
        return hash(self.__shape__.taken(self))

    def __setattr__(self, name: str, value: object) -> None:
        _refuse_change(self, name, "assign to")
        _set(self, name, value)

    def __delattr__(self, name: str) -> None:
        _refuse_change(self, name, "delete")
        object.__delattr__(self, name)

    def __setstate__(self, state: Any) -> None:
        # Of an object with slots, it is a tuple of the dictionary, or None, and the values of the slots.
        for values in state if type(state) is tuple else (state,):
            for name, value in (values or {}).items():
                _set(self, name, value)

    def __replace__(self, **changes: Any) -> Any:
        return changed(self, **changes)


def _refuse_change(instance: Any, name: str, change: str) -> None:
    # An instance of a subclass may have attributes that are not fields.
    if "__shape__" in vars(type(instance)) or name in instance.__shape__.fields:
        from dataclasses import FrozenInstanceError  # noqa: PLC0415  for mistakes alone

        raise FrozenInstanceError(f"cannot {change} field {name!r}")


_METHODS = {
    name: value for name, value in vars(_Record).items() if callable(value) or isinstance(value, _Described)
}
_NOT_COPIED = frozenset({"__dict__", "__weakref__"})

if TYPE_CHECKING:
    # Type checkers, and with them editors, see dataclasses.
    from dataclasses import dataclass as record
    from dataclasses import field
else:
    field = Field

    def record(*, frozen, kw_only=False, eq=True, slots=False):
        """Return a decorator that makes a class a record; the arguments are some of `dataclasses.dataclass`.

        To the functions of `dataclasses`, a record is a frozen dataclass. It inherits no fields.
        """
        if not frozen:
            raise TypeError(f"frozen={frozen!r}: a record is always frozen; pass True")

        def decorate(cls):
            shape = _Shape(cls, kw_only=kw_only, eq=eq)
            if slots:
                without = shape.fields.keys() | _NOT_COPIED
                body = {name: value for name, value in vars(cls).items() if name not in without}
                body["__slots__"] = tuple(shape.fields)
                cls = shape.cls = type(cls)(cls.__name__, cls.__bases__, body)
            else:
                for name, default in shape.defaults.items():
                    setattr(cls, name, default)  # in place of a `Field`
            own = vars(cls)
            for name, method in _METHODS.items():
                if name not in own and (eq or name not in ("__eq__", "__hash__")):
                    setattr(cls, name, method)
            cls.__match_args__ = shape.positional
            cls.__shape__ = shape
            return cls

        return decorate

"""Records: frozen dataclasses, as users and the functions of `dataclasses` see them."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import subprocess
import sys
from typing import Any

import pytest

from lochws.base.records import changed, field, fields_of, parameters_of, record, values_of


@record(frozen=True)
class Record:
    """A record with each kind of field."""

    size: int
    name: str = "x"
    secret: str = field(default="s", repr=False)
    only: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError("negative")


@dataclasses.dataclass(frozen=True)
class Twin:
    """The same as a dataclass."""

    size: int
    name: str = "x"
    secret: str = dataclasses.field(default="s", repr=False)
    only: float = dataclasses.field(default=1.0, kw_only=True)


@record(frozen=True, kw_only=True, eq=False, slots=True)
class Slotted:
    """A record with slots, that is compared by identity."""

    size: int = 0
    given: Any = field(default=None, metadata={"convert": int})


CALLS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((1,), {}), ((1, "y"), {"only": 2.0}), ((), {"size": 1, "secret": "t"}), ((1, "y", "z"), {}),
]
WRONG: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((), {}), ((1, "y", "z", 2.0), {}), ((1,), {"size": 1}), ((1,), {"other": 1}), ((), {"other": 1}),
]


@pytest.mark.parametrize(("args", "kwargs"), CALLS)
def test_a_record_is_made_and_shown_like_a_dataclass(args: Any, kwargs: Any) -> None:
    one, twin = Record(*args, **kwargs), Twin(*args, **kwargs)
    assert repr(one) == repr(twin).replace("Twin", "Record")
    assert values_of(one) == dataclasses.asdict(twin) == dataclasses.asdict(one)  # type: ignore[call-overload]
    assert hash(one) == hash(twin)
    assert one == Record(*args, **kwargs)
    assert one != Record(2)
    assert one != twin


@pytest.mark.parametrize(("args", "kwargs"), WRONG)
def test_arguments_that_do_not_fit_are_refused_by_the_name_of_the_class(args: Any, kwargs: Any) -> None:
    with pytest.raises(TypeError):
        Twin(*args, **kwargs)
    with pytest.raises(TypeError, match=r"^Record: (missing|too many|multiple|got an unexpected)"):
        Record(*args, **kwargs)


def test_fields_cannot_be_changed() -> None:
    one: Any = Record(1)
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'size'"):
        one.size = 2
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete field 'name'"):
        del one.name
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.other = 2
    assert one == Record(1)


def test_each_way_to_copy_gives_an_equal_record() -> None:
    one = Record(1, "y", only=2.0)
    assert copy.copy(one) == copy.deepcopy(one) == pickle.loads(pickle.dumps(one)) == one
    assert changed(one, size=3) == dataclasses.replace(one, size=3) == Record(3, "y", only=2.0)
    for copied in (lambda: changed(one, size=-1), lambda: dataclasses.replace(one, size=-1)):
        with pytest.raises(ValueError, match="negative"):
            copied()
    if sys.version_info >= (3, 13):
        assert copy.replace(one, size=3) == Record(3, "y", only=2.0)


class Noted(Slotted):
    """A record with slots, and a dictionary besides."""


def test_records_with_slots_are_copied_and_pickled_too() -> None:
    noted: Any = Noted(size=2)
    noted.note = "kept"
    for one in (Slotted(size=1, given=[3]), noted):
        for copied in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
            assert type(copied) is type(one)
            assert values_of(copied) == values_of(one)
            assert getattr(copied, "note", None) == getattr(one, "note", None)


def test_dataclasses_and_inspect_see_the_fields() -> None:
    assert dataclasses.is_dataclass(Record)
    ours, theirs = dataclasses.fields(Record), dataclasses.fields(Twin)
    assert [(each.name, each.type, each.default, each.repr) for each in ours] == [
        (each.name, each.type, each.default, each.repr) for each in theirs
    ]
    assert inspect.signature(Record) == inspect.signature(Twin)
    assert parameters_of(Record) == ("size", "name", "secret", "only")
    match Record(1, "y"):
        case Record(size, name):
            assert (size, name) == (1, "y")


def test_a_subclass_may_have_its_own_constructor_attributes_and_fields() -> None:
    class Own(Record):
        def __init__(self) -> None:
            super().__init__(1)
            self.mine = 2  # type: ignore[misc]  # allowed at run time, as in subclasses of dataclasses

    own = Own()
    assert (own.size, own.mine) == (1, 2)
    assert str(inspect.signature(Own)) == "() -> 'None'"
    assert own != Record(1)

    class Callable(Record):
        def __call__(self, one: int) -> None: ...

    assert str(inspect.signature(Callable(1))) == "(one: 'int') -> 'None'"

    @dataclasses.dataclass(frozen=True)
    class More(Record):
        more: int = 3

    assert repr(More(1, more=4)).endswith("More(size=1, name='x', only=1.0, more=4)")


def test_slots_keep_no_dictionary_and_records_without_eq_compare_by_identity() -> None:
    one = Slotted(size=1)
    assert not hasattr(one, "__dict__")
    assert one != Slotted(size=1)
    assert one == one  # noqa: PLR0124  the comparison is the test
    assert {one: 1}[one] == 1
    assert fields_of(Slotted)["given"].metadata == {"convert": int}  # type: ignore[comparison-overlap]
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.size = 2  # type: ignore[misc]
    with pytest.raises(TypeError, match="Slotted: too many positional arguments"):
        Slotted(1)  # type: ignore[misc]


def test_importing_lochws_imports_neither_dataclasses_nor_inspect() -> None:
    program = (
        "import sys, lochws\n"
        "large = {'ast', 'dataclasses', 'dis', 'hashlib', 'html', 'inspect'} & set(sys.modules)\n"
        "assert not large, large\n"
    )
    subprocess.run([sys.executable, "-S", "-c", program], check=True, timeout=60)

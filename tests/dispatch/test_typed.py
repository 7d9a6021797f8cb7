"""Type checkers know every event: the unions, overloads and methods name each class of `lochws.events`."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from typing import Any, get_args

import pytest

from lochws import events
from lochws.dispatch import typed
from lochws.dispatch.handler import Handler
from lochws.dispatch.naming import NAMES, Name
from lochws.sent import Sent

KINDS = {
    kind for kind in vars(events).values()
    if isinstance(kind, type) and issubclass(kind, events.Event) and not kind.__name__.startswith("_")
} - {events.Event, events.UnknownMessage}
MESSAGES = list[events.Text | events.Binary]
#: What a handler of each name gets.
ARGUMENTS: dict[str, Any] = {
    **{kind.name: kind for kind in KINDS},
    "event": events.AnyEvent, "error": BaseException, "batch": MESSAGES, "sent": tuple[Sent, ...],
}


def overloads(protocol: type) -> Iterator[tuple[list[Any], Any]]:
    """Yield the overloads of a protocol's call: the annotations of its parameters, and of the function."""
    body = ast.parse(inspect.getsource(protocol)).body[0]
    assert isinstance(body, ast.ClassDef)
    for node in body.body:
        if isinstance(node, ast.FunctionDef) and node.returns is not None:
            written = [argument.annotation for argument in node.args.posonlyargs[1:]]
            given = [eval(ast.unparse(each), vars(typed)) for each in written if each]
            yield given, get_args(eval(ast.unparse(node.returns), vars(typed)))[1]


def accepted(annotation: Any) -> tuple[set[str], set[type]]:
    """Return the names and the classes that an annotation of `on` lists."""
    names: set[str] = set()
    classes: set[type] = set()
    for part in get_args(annotation):
        if isinstance(part, str):
            names.add(part)
        elif all(isinstance(each, str) for each in get_args(part)):
            names.update(get_args(part))
        else:
            classes.update(get_args(part))
    return names, classes


def test_the_union_of_events_has_all_of_them() -> None:
    assert set(get_args(events.AnyEvent)) == KINDS


def test_the_names_that_checkers_accept_are_those_that_can_be_registered() -> None:
    assert set(get_args(Name)) == set(NAMES) == set(ARGUMENTS)


@pytest.mark.parametrize("kind", sorted(KINDS, key=lambda kind: kind.name))
def test_the_name_of_an_event_is_a_literal(kind: type[events.Event]) -> None:
    annotation = kind.__annotations__["name"]
    assert annotation == f'ClassVar[Literal["{kind.name}"]]'.replace('"', annotation[17])


@pytest.mark.parametrize(("protocol", "before"), [(typed.On, ()), (typed.Mark, (Any,))])
def test_each_event_has_an_overload_with_its_class_and_its_functions(
    protocol: type, before: tuple[Any, ...]
) -> None:
    found = {}
    for parameters, variable in overloads(protocol):
        if len(parameters) == 1 and parameters[0] != typed.EventName:
            (name,), classes = accepted(parameters[0])
            found[name] = get_args(variable.__bound__)[0][len(before):], classes
            assert list(get_args(variable.__bound__)[0][:len(before)]) == list(before)
    assert {name: argument for name, ((argument,), _) in found.items()} == ARGUMENTS
    for name, (_, classes) in found.items():
        assert classes == ({ARGUMENTS[name]} & KINDS if name != "event" else {events.Event})


@pytest.mark.parametrize("protocol", [typed.On, typed.Mark])
def test_events_that_are_handled_together_take_functions_of_their_union(protocol: type) -> None:
    several = [(given, variable) for given, variable in overloads(protocol) if len(given) == 2]
    assert several
    for (first, second), variable in several:
        names, classes = accepted(first)
        assert first == second
        assert {kind.name for kind in classes} == names
        assert set(get_args(get_args(variable.__bound__)[0][-1])) == classes


@pytest.mark.parametrize("name", NAMES)
def test_the_method_of_an_event_gets_that_event(name: str) -> None:
    method = getattr(Handler, f"on_{name}")
    (annotation,) = (text for argument, text in method.__annotations__.items() if argument != "return")
    assert eval(annotation, vars(typed)) == ARGUMENTS[name]

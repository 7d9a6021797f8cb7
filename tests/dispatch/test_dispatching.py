"""Dispatching: the calls of handlers. Both twins pass the same tests."""

from __future__ import annotations

import gc
import logging
import sys
import traceback
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from lochws.dispatch import registry as module
from lochws.dispatch.registry import Registry
from lochws.events import Binary, Event, Ping, Text
from lochws.system import syscalls
from lochws.system.report import logger

COMPILED = getattr(syscalls.twins, "dispatch", None)
TWINS = [Registry.dispatch_all] if COMPILED is None else [Registry.dispatch_all, COMPILED]

Dispatch = Callable[[Registry, Sequence[Event]], object]


@pytest.fixture(params=TWINS, ids=["python", "compiled"][: len(TWINS)])
def dispatch(request: pytest.FixtureRequest) -> Dispatch:
    twin: Dispatch = request.param
    return twin


class Scene:
    """A registry whose handlers note what they get."""

    def __init__(self) -> None:
        self.failures: list[BaseException] = []
        self.registry = Registry(self.failures.append)
        self.seen: list[Any] = []

    def add(self, name: str, act: Callable[[Any], object] = lambda _: None, *, mark: str = "") -> Any:
        """Add a handler, which notes the event and then acts."""
        def handler(event: Any) -> object:
            self.seen.append((mark or name, event))
            return act(event)

        self.registry.add_function(handler, [name])
        return handler


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_the_twin_in_c_is_used_where_it_was_built() -> None:
    assert (module.dispatch is COMPILED) == (COMPILED is not None and module.dispatch is not TWINS[0])


class TestTheOrder:
    def test_is_that_of_the_events_and_on_event_comes_first(self, scene: Scene, dispatch: Dispatch) -> None:
        scene.add("text", mark="first")
        scene.add("event")
        scene.add("text", mark="second")
        a, b, c = Text("a"), Ping(b"b"), Text("c")
        dispatch(scene.registry, [a, b, c])
        assert scene.seen == [
            ("event", a), ("first", a), ("second", a), ("event", b),
            ("event", c), ("first", c), ("second", c),
        ]

    def test_without_handlers_nothing_is_called(self, scene: Scene, dispatch: Dispatch) -> None:
        dispatch(scene.registry, [Text("x")])
        scene.add("ping")
        dispatch(scene.registry, (Text("x"), Binary(b"")))
        assert scene.seen == []

    def test_a_subclass_of_an_event_goes_to_on_event(self, scene: Scene, dispatch: Dispatch) -> None:
        class Mine(Event):
            pass

        scene.add("event")
        dispatch(scene.registry, [mine := Mine()])
        assert scene.seen == [("event", mine)]


class TestChanges:
    def test_a_handler_added_by_a_handler_gets_the_next_event(self, scene: Scene, dispatch: Dispatch) -> None:
        scene.add("text", lambda event: event.text == "b" and scene.add("text", mark="new") and None)
        them = [Text("a"), Text("b"), Text("c")]
        dispatch(scene.registry, them)
        assert scene.seen == [*(("text", event) for event in them), ("new", them[2])]

    def test_a_handler_removed_by_a_handler_gets_no_other_event(
        self, scene: Scene, dispatch: Dispatch
    ) -> None:
        def remove(_: Text) -> None:
            scene.registry.remove(handler)

        handler = scene.add("text", remove)
        dispatch(scene.registry, [Text("a"), Text("b")])
        assert len(scene.seen) == 1

    def test_a_mailbox_added_by_a_handler_gets_the_later_events(
        self, scene: Scene, dispatch: Dispatch
    ) -> None:
        class Intake:
            kinds = frozenset({Text})
            key = None

            def take(self, received: Sequence[Event]) -> None:
                taken.extend(received)

        taken: list[Event] = []
        scene.add("text", lambda event: scene.registry.add_intake(Intake()) if event.text == "b" else None)
        a, b, c = Text("a"), Text("b"), Text("c")
        dispatch(scene.registry, [a, b, c])
        assert taken == [c]
        dispatch(scene.registry, [a])
        assert taken == [c, a]

    def test_handlers_of_batches_get_the_next_list(self, scene: Scene, dispatch: Dispatch) -> None:
        scene.add("text", lambda _: scene.add("batch") and None)
        a, b = Text("a"), Text("b")
        dispatch(scene.registry, [a])
        dispatch(scene.registry, [a, b])
        assert scene.seen == [("text", a), ("batch", [a, b])]

    def test_an_event_that_a_handler_removes_from_the_list_is_not_dispatched(
        self, scene: Scene, dispatch: Dispatch
    ) -> None:
        received: list[Event] = [Text("a"), Text("b")]
        scene.add("text", lambda _: received.clear())  # as in the child of a fork
        dispatch(scene.registry, received)
        assert len(scene.seen) == 1


class TestFailures:
    @pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt])
    @pytest.mark.parametrize("others", [0, 1])
    def test_do_not_end_the_delivery(
        self, kind: type[BaseException], others: int, scene: Scene, dispatch: Dispatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        def fail(event: Text) -> None:
            raise error

        error = kind("the handler's")
        fail.__qualname__ = "fail"
        scene.registry.add_function(fail, ["text"])
        for _ in range(others):
            scene.add("text")
        dispatch(scene.registry, [Text("a"), Text("b")])
        assert scene.failures == [error, error]
        assert len(scene.seen) == 2 * others
        assert [record.getMessage() for record in caplog.records] == [
            "handler fail failed on Text(text='a')", "handler fail failed on Text(text='b')",
        ]

    def test_are_passed_to_on_error_as_if_it_were_called_in_the_except_clause(
        self, scene: Scene, dispatch: Dispatch
    ) -> None:
        def fail(_: Text) -> None:
            raise error

        def on_error(caught: BaseException) -> None:
            described.append(traceback.format_exc())
            assert sys.exc_info()[1] is caught is error

        error, described = ValueError("the handler's"), list[str]()
        scene.registry.add_function(fail, ["text"])
        scene.registry.add_function(on_error, ["error"])
        dispatch(scene.registry, [Text("a")])
        assert "in fail" in described[0]
        assert "the handler's" in described[0]
        assert sys.exc_info()[1] is None

    def test_include_a_coroutine_that_is_returned(self, scene: Scene, dispatch: Dispatch) -> None:
        async def body() -> None: ...

        scene.add("text", lambda _: body())
        dispatch(scene.registry, [Text("a"), Text("b")])
        assert [type(error) for error in scene.failures] == [TypeError]

    def test_of_lochws_propagate(
        self, scene: Scene, dispatch: Dispatch, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object) -> None:
            raise LookupError("a defect")

        scene.add("text", lambda _: 1 / 0)
        monkeypatch.setattr(Registry, "_on_failure", broken)
        with pytest.raises(LookupError, match="a defect"):
            dispatch(scene.registry, [Text("a"), Text("b")])
        assert len(scene.seen) == 1


@pytest.mark.parametrize("by_root", [False, True])
def test_debug_lines_are_written_only_at_level_debug(
    by_root: bool, scene: Scene, dispatch: Dispatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[Event] = []

    class Lines:
        def note(self, event: Event) -> None: ...

        def debug(self, received: Sequence[Event]) -> None:
            noted.extend(received)

    scene.registry.set_lines(Lines(), frozenset())
    scene.add("text")
    text = Text("a")
    for level, expected in ((logging.INFO, []), (logging.DEBUG, [text]), (logging.WARNING, [text])):
        monkeypatch.setattr(logging.root if by_root else logger, "level", level)
        monkeypatch.setattr(logger if by_root else logging.root, "level", logging.NOTSET if by_root else 1)
        dispatch(scene.registry, [text])
        assert noted == expected
    assert len(scene.seen) == 3


def test_no_reference_is_kept(scene: Scene, dispatch: Dispatch, monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine(Event):
        pass

    def fail(_: Event) -> object:
        raise ValueError

    monkeypatch.setattr(module, "report", lambda *_, **__: None)  # pytest keeps the records
    for act in (lambda _: None, lambda _: 1, fail):
        handler = scene.add("event", act)
        counts = [sys.getrefcount(one) for one in (handler, act, scene.registry, Mine)]
        for _ in range(1000):
            dispatch(scene.registry, [Mine(), Text("x")])
        scene.seen.clear()
        scene.failures.clear()
        gc.collect()
        after = [sys.getrefcount(one) for one in (handler, act, scene.registry, Mine)]
        assert all(abs(one - other) < 100 for one, other in zip(counts, after, strict=True))
        scene.registry.remove(handler)
    last = Mine()  # its class is no use here, since Python 3.13 never frees it without a GIL
    gone = weakref.ref(last)
    dispatch(scene.registry, [last])
    del last
    gc.collect()
    assert gone() is None


@pytest.mark.skipif(COMPILED is None, reason="it was not built")
def test_wrong_arguments_are_refused_in_c() -> None:
    for arguments in ((), (None,), (None, [], 1)):
        with pytest.raises(TypeError):
            COMPILED(*arguments)
    with pytest.raises(AttributeError):
        COMPILED(None, [])
    with pytest.raises(TypeError, match="not iterable"):
        COMPILED(Registry(print), None)


@pytest.mark.skipif(COMPILED is None, reason="it was not built")
def test_a_registry_of_a_reloaded_module_is_left_to_python() -> None:
    class Other:
        def dispatch_all(self, received: object) -> object:
            return received

    assert COMPILED(Other(), "received") == "received"

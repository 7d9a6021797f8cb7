"""Arguments of ready-made handlers: functions that cannot be called as they will be are refused at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lochws import Backoff, Receipt, ReceiptState, WebSocketApp
from lochws import testing as t
from lochws.handlers.freshness import Freshness
from lochws.handlers.heartbeat import Answer, Every
from lochws.handlers.outbox import Outbox
from lochws.handlers.packets import Packets
from lochws.handlers.recorder import Recorder
from lochws.handlers.relay import Relay
from lochws.handlers.replies import Replies
from lochws.handlers.sequence import Sequence
from lochws.handlers.subscriptions import Step, StepFailed, Subscriptions
from lochws.handlers.worker import Worker
from lochws.testing import StartServer

from ..support.apps import NEVER, running
from ..support.seen import Noting
from .executors import ByHand

NAN = float("nan")


def nothing() -> None:
    """Take no argument."""


async def later(_argument: object) -> None:
    """Run only when awaited."""


def app() -> WebSocketApp:
    return WebSocketApp("ws://127.0.0.1:1/")


MAKERS: dict[str, Callable[[Any], object]] = {
    "expect": lambda function: Step("x", function),
    "refused": lambda function: Step("x", "y", function),
    "on_session_ready": lambda function: Subscriptions(app(), on_session_ready=function),
    "on_step_failed": lambda function: Subscriptions(app(), on_step_failed=function),
    "match": lambda function: Replies(app(), function),
    "encode": lambda function: Replies(app(), encode=function),
    "decode": lambda function: Replies(app(), decode=function),
    "number": lambda function: Replies(app(), number=function),
    "unwrap": lambda function: Replies(app(), unwrap=function),
    "key": lambda function: Freshness(app(), key=function, limit=1, on_stale=print),
    "on_stale": lambda function: Freshness(app(), key=print, limit=1, on_stale=function),
    "on_fresh": lambda function: Freshness(app(), key=print, limit=1, on_stale=print, on_fresh=function),
    "on_gap": lambda function: Sequence(app(), number=print, on_gap=function),
    "on_disorder": lambda function: Sequence(app(), number=print, on_disorder=function),
    "resync": lambda function: Sequence(app(), number=print, resync=function, on_snapshot=print),
    "on_snapshot": lambda function: Sequence(app(), number=print, resync=print, on_snapshot=function),
    "split": Packets,
    "retry": lambda function: Backoff(retry=function),
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_function_that_takes_too_few_arguments_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match=f"^{name}: nothing.* cannot be called with (one|two) argument"):
        MAKERS[name](nothing)


@pytest.mark.parametrize("name", MAKERS)
def test_a_coroutine_function_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match=f"^{name}: later is a coroutine function"):
        MAKERS[name](later)


@pytest.mark.parametrize("name", MAKERS)
def test_a_function_that_takes_any_arguments_is_accepted(name: str) -> None:
    MAKERS[name](lambda *_: None)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Step(later), TypeError, "message: later is a coroutine function"),
        (
            lambda: Subscriptions(app(), [Step({"a": object()})]),
            TypeError, "message=.* cannot be written as JSON",
        ),
        (lambda: Step({"a": [NAN]}), ValueError, "message=.* cannot be written as JSON"),
        (lambda: Every(app(), 1, {"a": [NAN]}), ValueError, "message=.* cannot be written as JSON"),
        (lambda: Answer(app(), "x", [-NAN]), ValueError, "pong=.* cannot be written as JSON"),
        (lambda: Step("\ud800"), ValueError, "message=.* cannot be encoded as UTF-8"),
        (lambda: Step("x", in_turn="no"), TypeError, "in_turn='no': expected True or False"),
        (
            lambda: Freshness(app(), key=print, limit=1, on_stale=print, clock=5),
            TypeError, "clock=5: expected a lochws.clock.Clock, or None",
        ),
        (lambda: Sequence(app(), number=None), TypeError, "number=None: expected a function"),
        (lambda: Sequence(app(), number=nothing), TypeError, "number: nothing.* cannot be called with one"),
        (lambda: Sequence(app(), number=print, key=later), TypeError, "key: later is a coroutine function"),
        (lambda: Sequence(app(), number=print, on_snapshot=print), ValueError, "pass both, or neither"),
        (lambda: Sequence(app(), number=print, executor=5), TypeError, "executor=5: expected a concurrent"),
        (lambda: Sequence(app(), number=print, max_held=0), ValueError, "max_held=0"),
    ],
)
def test_other_invalid_arguments_are_refused(make: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make()


def settled_receipt() -> Receipt:
    class Line:
        items_taken = 0

    receipt = Receipt(Line(), lambda: True)
    receipt._settled(ReceiptState.UNSENT)
    return receipt


def with_recorder(path: Path, use: Callable[[Recorder], object]) -> None:
    with Recorder(path / "talk.jsonl") as recorder:
        use(recorder)


METHODS: dict[str, Callable[[Path, Any], object]] = {
    "worker.drain": lambda path, timeout: Worker(print, ByHand()).drain(timeout),
    "relay.close": lambda path, timeout: Relay(app(), "feed", "redis://127.0.0.1:1/").close(timeout),
    "recorder.flush": lambda path, timeout: with_recorder(path, lambda one: one.flush(timeout)),
    "recorder.close": lambda path, timeout: with_recorder(path, lambda one: one.close(timeout)),
    "sequence.flush": lambda path, timeout: Sequence(app(), number=len).flush(timeout),
    "outbox.flush": lambda path, timeout: Outbox(app()).flush(timeout),
    "receipt.result": lambda path, timeout: settled_receipt().result(timeout),
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("timeout", [NAN, True, "1"])
def test_a_timeout_that_is_not_a_number_is_refused(name: str, timeout: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError if timeout is NAN else TypeError, match=f"timeout={timeout!r}"):
        METHODS[name](tmp_path, timeout)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("timeout", [-1, 10**400, float("inf")], ids=["negative", "huge", "infinite"])
def test_any_number_is_a_timeout(name: str, timeout: float, tmp_path: Path) -> None:
    METHODS[name](tmp_path, timeout)


def test_a_mapping_with_keys_of_several_types_identifies_a_step() -> None:
    assert Step({1: 2, "a": 3}).identity == '{"1": 2, "a": 3}'


def test_words_of_the_server_in_a_refusal_are_short_and_safe_to_show(
    ws_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    words = "\x1b[31mno\u202e\n" + "x" * 100_000

    def expect(event: Any) -> bool:
        raise StepFailed(event.text)

    client = Noting(ws_server([t.accept(), t.wait_for("login"), t.send(words)]).url)
    subscriptions = Subscriptions(client, [Step("login", expect, key="k" * 100_000)])
    with running(client, persist=NEVER):
        reason = client.wait_for("disconnected").reason
    assert r"was refused: \x1b[31mno\u202e\nxxx" in reason
    assert len(reason) < 500
    assert len(str(subscriptions.failure)) < 500
    assert max(len(record.getMessage()) for record in caplog.records) < 1000

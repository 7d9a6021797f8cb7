"""Steps: messages to send over each new connection, and the answers that they expect."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ... import events
from ...errors import WebSocketError
from ...options import check_seconds

#: A message: text, binary, or an object that is sent as JSON.
Message: TypeAlias = "str | bytes | Mapping[str, Any]"
#: A description of an answer: fields of a JSON object, or a function that recognises it.
Expected: TypeAlias = "Mapping[str, Any] | Callable[[Any], bool]"


class StepFailed(WebSocketError):
    """A step was refused, or did not receive its answer.

    Attributes:
        answer: the message with which the server refused the step, or None.
    """

    def __init__(self, words: str, answer: events.Text | events.Binary | None = None) -> None:
        super().__init__(words)
        self.answer = answer


@dataclass(frozen=True)
class Step:
    """A message to send after each Ready.

    Attributes:
        message: text, bytes, or a mapping that is sent as JSON; or a function that returns one of these,
            which is called for each connection, to obtain a fresh token or timestamp, for instance. It runs
            on the handlers' thread and blocks all handlers while it waits, though the connection is kept
            alive. If it raises an exception, the step fails.
        expect: the answer. A mapping matches a text message that is a JSON object with at least these fields
            and values; nested mappings are matched in the same way. A function is called with each `Text` and
            `Binary`; it returns whether that is the answer, and raises an exception if it is a refusal. None:
            no answer is expected.
        refused: a refusal, described in the same way as `expect`, or None.
        timeout: seconds after which the step fails if no answer has arrived; None for no limit.
        in_turn: True to send the message once all previous steps have been answered, False to send it
            immediately after the previous step.
        key: identifies the step for `Subscriptions.remove` and in the log. None: the message itself
            identifies the step, and is not logged.

    Raises:
        TypeError, ValueError: an attribute is invalid; the message names it and says what would be valid.
    """

    message: Message | Callable[[], Message]
    expect: Expected | None = None
    refused: Expected | None = None
    timeout: float | None = 10.0
    in_turn: bool = True
    key: Hashable | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.message, (str, bytes, Mapping)) and not callable(self.message):
            raise TypeError(f"message={self.message!r}: expected str, bytes, a mapping or a function")
        for name in ("expect", "refused"):
            value = getattr(self, name)
            if not (value is None or isinstance(value, Mapping) or callable(value)):
                raise TypeError(f"{name}={value!r}: expected a mapping, a function or None")
        if self.refused is not None and self.expect is None:
            raise ValueError("refused needs expect: without it, the step does not wait for an answer")
        check_seconds("timeout", self.timeout)
        if self.timeout == 0:
            raise ValueError("timeout=0: expected seconds above 0, or None for no limit")
        hash(self.identity)

    @property
    def identity(self) -> Hashable:
        """The key, or in its absence the text, the bytes, the JSON of the mapping, or the function.

        Raises:
            TypeError: the value is not hashable, or cannot be written as JSON.
        """
        if self.key is not None:
            return self.key
        return json.dumps(self.message, sort_keys=True) if isinstance(self.message, Mapping) else self.message

    def is_answer(self, event: events.Text | events.Binary) -> bool:
        """Return whether this is the answer that the step is waiting for.

        Raises:
            StepFailed: the message is a refusal. An exception raised by `expect` or `refused` also counts as
                a refusal, and propagates.
        """
        if self.refused is not None and _fits(self.refused, event):
            raise StepFailed("was refused", event)
        return self.expect is not None and _fits(self.expect, event)


def _fits(expected: Expected, event: events.Text | events.Binary) -> bool:
    if callable(expected):
        return bool(expected(event))
    if not isinstance(event, events.Text):
        return False
    try:
        found = event.json
    except ValueError:
        return False  # not JSON, so not an answer
    return _has(found, expected)


def _has(found: object, wanted: Mapping[str, Any]) -> bool:
    return isinstance(found, dict) and all(
        name in found and (_has(found[name], value) if isinstance(value, Mapping) else found[name] == value)
        for name, value in wanted.items()
    )

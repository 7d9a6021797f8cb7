"""Steps: what is to be said over each new connection, and what the answer has to look like."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ... import events
from ...errors import WebSocketError

#: A message: text, binary, or an object that is sent as JSON.
Said: TypeAlias = "str | bytes | Mapping[str, Any]"
#: What an answer looks like: fields of a JSON object, or a function that says whether this is it.
Expected: TypeAlias = "Mapping[str, Any] | Callable[[Any], bool]"


class StepFailed(WebSocketError):
    """A step did not get the answer that it needs.

    Attributes:
        answer: the event by which the server refused it, or None.
    """

    def __init__(self, words: str, answer: events.Text | events.Binary | None = None) -> None:
        super().__init__(words)
        self.answer = answer


@dataclass(frozen=True)
class Step:
    """Something to be said after each Ready.

    Attributes:
        message: text, binary, or a mapping that is sent as JSON; or a function that returns one, called for
            each connection, for a fresh token or timestamp. It runs on the handlers' thread: while it waits
            so do all handlers, but not the connection. What it raises makes the step fail.
        expect: the answer: a mapping whose fields a JSON object in a text message must have, with these
            values (mappings in it likewise); or a function that gets each `Text` and `Binary` and returns
            whether it is the answer, or raises if that is a refusal. None if no answer is to come.
        refused: what a refusal looks like, in the same two ways, or None.
        timeout: seconds until an answer that has not come makes the step fail; None for no limit.
        in_turn: whether it waits for the answers to all steps before it; if not, it is said right after the
            step before it.
        key: what the step is known by to `Subscriptions.remove`, and in the log; None for its message,
            which is not logged.

    Raises:
        TypeError, ValueError: an attribute is wrong.
    """

    message: Said | Callable[[], Said]
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
            raise ValueError("refused without expect: the step would not wait for any answer")
        if self.timeout is not None:
            if isinstance(self.timeout, bool) or not isinstance(self.timeout, (int, float)):
                raise TypeError(f"timeout={self.timeout!r}: expected seconds, or None")
            if not 0 < self.timeout < float("inf"):
                raise ValueError(f"timeout={self.timeout!r}: expected seconds above 0, or None for no limit")
        hash(self.known_by)

    @property
    def known_by(self) -> Hashable:
        """The key, or what stands for it: text or bytes, a mapping's JSON, or the function.

        Raises:
            TypeError: that cannot be hashed, or written as JSON.
        """
        if self.key is not None:
            return self.key
        return json.dumps(self.message, sort_keys=True) if isinstance(self.message, Mapping) else self.message

    def is_answer(self, event: events.Text | events.Binary) -> bool:
        """Whether this is the answer that the step waits for.

        Raises:
            StepFailed: it is a refusal. What the functions `expect` and `refused` raise is a refusal as well.
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
    except ValueError:  # no JSON
        return False  # not for us
    return _has(found, expected)


def _has(found: object, wanted: Mapping[str, Any]) -> bool:
    return isinstance(found, dict) and all(
        name in found and (_has(found[name], value) if isinstance(value, Mapping) else found[name] == value)
        for name, value in wanted.items()
    )

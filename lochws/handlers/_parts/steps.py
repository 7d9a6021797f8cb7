"""Steps: messages to send over each new connection, and the answers that they expect."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from ... import events
from ...base.callables import check_runs
from ...codec import Codec
from ...errors import WebSocketError
from ...options import check_bool, check_seconds
from ...system.report import safe_name, safe_str
from ...text import cut, escaped
from .messages import (
    MAX_QUOTED,
    Doubts,
    Expected,
    Kind,
    Message,
    check_expected,
    check_message,
    fits,
    is_message,
)

#: A function that makes a message, from nothing or from the previous answer.
MakeMessage: TypeAlias = "Callable[[], Message] | Callable[[events.Text], Message] | _FromBinary"
# A step does not know the codec of the app that it is for, which may express more than JSON does.
_ANY_CODEC = Codec(json.loads, json.JSONEncoder(allow_nan=False, default=repr).encode)
_FromBinary: TypeAlias = "Callable[[events.Binary], Message]"  # a function of both kinds is one of either


class StepFailed(WebSocketError):
    """A step was refused, did not receive its answer, or could not be sent.

    A function given as `expect` or `refused` may raise it to refuse a step in its own words. If a step could
    not be sent, the reason is its `__cause__`.

    Attributes:
        answer: the message with which the server refused the step, or None.
        step: the step, or None if the exception was raised by a user's function and not passed on yet.
    """

    def __init__(
        self, words: str, answer: events.Text | events.Binary | None = None, step: Step | None = None
    ) -> None:
        super().__init__(words)
        self.answer = answer
        self.step = step


@dataclass(frozen=True)
class Step:
    """A message to send after each Ready, and the answer to it; or a message to wait for.

    Attributes:
        message: text, bytes, or a mapping or list that is sent as JSON, or as the app's `codec` encodes it
            (NaN and infinity are refused in any case); or a function that returns one of these, which is
            called for each connection, to obtain a fresh token or timestamp, for instance. A function that
            requires an argument is passed the answer to the previous step, the `Text` or `Binary` event, to
            respond to a challenge. The function runs on the handlers' thread and blocks all handlers while it
            waits, though the connection is kept alive. If it raises an exception, the step fails. None:
            nothing is sent, and the step waits for a message that the server sends first.
        expect: the answer. A str or bytes matches a message that is equal. A mapping matches a text message
            that is a JSON object with at least these fields and values; nested mappings are matched in the
            same way. A list matches a JSON array that begins with these elements. A function is called with
            each `Text` and `Binary`, and returns whether that is the answer; if it raises an exception, the
            message counts as unrelated, unless the exception is a `StepFailed`, which refuses the step. None:
            no answer is expected.
        refused: a refusal, described in the same way as `expect`, or None.
        timeout: seconds after which the step fails if no answer has arrived, counted from when its message
            was sent; None for no limit.
        in_turn: True to begin once all previous steps have been answered, False to begin immediately after
            the previous step has been sent. A function of the previous answer waits for it in any case. A
            step that waits for a message of the server sees those that arrive after it has begun.
        key: identifies the step for `Subscriptions.remove` and in the log. None: the message itself
            identifies the step, and is not logged.
        give_up: whether a refusal closes the app, instead of having it reconnect. Use it for a login: servers
            lock accounts after too many wrong passwords.

    Raises:
        TypeError, ValueError: an attribute is invalid; the message names it and says what would be valid.
    """

    message: Message | MakeMessage | None
    expect: Expected | None = None
    refused: Expected | None = None
    timeout: float | None = 10.0
    in_turn: bool = True
    key: Hashable | None = None
    give_up: bool = False

    def __post_init__(self) -> None:
        if self.message is None:
            if self.expect is None:
                raise ValueError("message=None needs expect: without either, the step would do nothing")
        elif is_message(self.message):
            check_message("message", self.message, _ANY_CODEC)
        elif callable(self.message):
            check_runs(f"message: {safe_name(self.message)}", self.message)
        else:
            raise TypeError(
                f"message={self.message!r}: expected str, bytes, a mapping, a list, a function or None"
            )
        for name in ("expect", "refused"):
            value = getattr(self, name)
            if value is not None:
                check_expected(name, value)
        if self.refused is not None and self.expect is None:
            raise ValueError("refused needs expect: without it, the step does not wait for an answer")
        check_bool("give_up", self.give_up)
        check_bool("in_turn", self.in_turn)
        if self.give_up and self.refused is None and not callable(self.expect):
            raise ValueError("give_up needs refused, which describes a refusal")
        check_seconds("timeout", self.timeout)
        if self.timeout == 0:
            raise ValueError("timeout=0: expected more than 0 seconds, or None for no limit")
        hash(self.identity)
        _ = self.takes_answer  # raises if the function cannot be called

    @property
    def identity(self) -> Hashable:
        """The key, or in its absence the text, the bytes, the JSON of the mapping or list, or the function.

        A step without a message is identified by what it expects.

        Raises:
            TypeError: the value is not hashable, or cannot be written as JSON.
        """
        if self.key is not None:
            return self.key
        if self.message is None:
            return ("expect", _hashable(self.expect))
        return _hashable(self.message)

    @property
    def takes_answer(self) -> bool:
        """True if the message is a function that requires an argument: the answer to the previous step.

        Raises:
            TypeError: the message is a function that can be called neither without an argument nor with one.
        """
        if not callable(self.message):
            return False
        try:
            signature = inspect.signature(self.message)
        except ValueError:  # some functions written in C have none
            return False
        try:
            signature.bind()
        except TypeError:
            try:
                signature.bind(None)
            except TypeError:
                raise TypeError(
                    f"message={self.message!r}: expected a function with at most one required argument"
                ) from None
            return True
        return False

    def make(self, answer: events.Text | events.Binary | None) -> object:
        """Return the message to send now, which is still to be checked if a function made it.

        Args:
            answer: the answer to the previous step, if there is one.

        Raises:
            WebSocketError: the function takes an answer, and there is none.
        """
        if not callable(self.message):
            return self.message
        if not self.takes_answer:
            return self.message()  # type: ignore[call-arg]  # takes_answer tells which of the functions it is
        if answer is None:
            raise WebSocketError("no previous step has been answered on this connection")
        return self.message(answer)  # type: ignore[call-arg, arg-type]  # the same

    def is_answer(
        self, event: events.Text | events.Binary, doubts: Doubts, kind: Kind = events.Text
    ) -> bool:
        """Return whether this is the answer that the step is waiting for.

        Args:
            event: the message.
            doubts: receives the exceptions of the functions; the message then counts as unrelated.
            kind: the class of the messages that the app's codec decodes.

        Raises:
            StepFailed: the message is a refusal.
        """
        for described in (self.refused, self.expect):
            if described is None:
                continue
            try:
                is_it = fits(described, event, kind)
            except StepFailed as error:
                words = escaped(cut(safe_str(error), MAX_QUOTED))  # perhaps those of the server
                raise StepFailed(f"was refused: {words}", error.answer or event) from error
            except BaseException as error:  # noqa: BLE001  not even SystemExit may end the handlers' thread
                doubts.add(described, error)
                continue
            if is_it and described is self.refused:
                raise StepFailed("was refused", event)
            if is_it:
                return True
        return False


def _hashable(value: object) -> Hashable:
    if isinstance(value, (Mapping, list)):
        try:
            return json.dumps(value, sort_keys=True, default=repr)
        except TypeError:  # its keys are of several types
            return json.dumps(value, default=repr)
    assert isinstance(value, Hashable)
    return value

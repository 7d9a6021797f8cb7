"""Fates: the messages that are kept from the handlers when they arrive, until every handler was asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial, wraps
from typing import Any

from ... import events
from ...errors import WebSocketError
from .checks import AppOrFeed


class Fate:
    """A message that was not passed on when it arrived, and the calls to make if it is passed on later."""

    __slots__ = ("calls", "event", "is_held")

    def __init__(self, event: events.Text | events.Binary, is_held: bool) -> None:
        self.event = event
        self.is_held = is_held
        self.calls: list[Callable[[], object]] = []


class Fates:
    """Decides which handlers of an app or a feed see a message. For the handlers' thread.

    Args:
        app: the app or the feed.
    """

    def __init__(self, app: AppOrFeed) -> None:
        self._app = app
        self._fates: dict[int, Fate] = {}  # by the id of the message, until all its handlers were asked

    def note(self, fate: Fate) -> None:
        """Remember the fate of a message until its handlers have been asked for."""
        if not self._fates:
            with suppress(WebSocketError):  # the app has stopped
                self._app.call_later(0, self._fates.clear)
        self._fates[id(fate.event)] = fate

    def wrap(self, name: str, handler: Callable[[Any], object]) -> Callable[[Any], object]:
        """Have a handler of messages called only for those that are passed on."""
        if name == "batch":
            @wraps(handler)
            def many(messages: list[Any]) -> object:
                passed = list(self._passed_of(messages, handler)) if self._fates else messages
                return handler(passed) if passed else None

            return many
        if name not in ("text", "binary"):
            return handler

        @wraps(handler)
        def one(event: Any) -> object:
            if self._fates and (fate := self._fates.get(id(event))) is not None:
                if fate.is_held:
                    fate.calls.append(partial(handler, event))
                return None
            return handler(event)

        return one

    def _passed_of(self, messages: list[Any], handler: Callable[[Any], object]) -> Iterator[Any]:
        for message in messages:
            fate = self._fates.get(id(message))
            if fate is None:
                yield message
            elif fate.is_held:
                fate.calls.append(partial(handler, [message]))

    def clear(self) -> None:
        """Forget all messages, because their handlers have been asked."""
        self._fates.clear()

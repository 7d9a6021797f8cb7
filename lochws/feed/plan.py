"""Plan: the checked options of a feed, and the calls of the user's functions among them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from hashlib import sha256
from operator import is_
from typing import Any

from .. import events
from ..system.rate_limit import RateLimit
from ..system.report import report
from .leg import Message
from .merge import Place
from .status import Switch

#: The length of a str or bytes in a key above which a digest of it is remembered in its place.
MAX_LENGTH = 200


@dataclass(frozen=True)
class Plan:
    """The checked options of a feed. `lochws.feed.feed.Feed` describes them.

    The methods are called on the handlers' thread. They report exceptions of the user's functions.
    """

    factory: Callable[[str], Any]
    urls: tuple[str, ...]
    copies: int
    renew_after: float | None
    renew_codes: frozenset[int]
    renew_when: Callable[[Any], object] | None
    key: Callable[[Any], Hashable] | None
    order: Callable[[Any], tuple[Hashable, Any] | None] | None
    window: int
    drain: float
    cool_down: float
    on_switch: Callable[[Switch], object] | None
    _limit: RateLimit = field(default_factory=RateLimit)

    def key_of(self, event: Message) -> Hashable:
        """Return the key of a message, the same on every connection; None if it belongs to one only."""
        return None if self.key is None else _shortened(_answer(self.key, event))

    def place_of(self, event: Message) -> Place | None:
        """Return the channel of a message and its position there, or None if it has none, or a long one."""
        place = None if self.order is None else _answer(self.order, event)
        if not (isinstance(place, tuple) and len(place) == 2) or _shortened(place[1]) is not place[1]:
            return None
        return _shortened(place[0]), place[1]

    def announces_end(self, event: Any) -> bool:
        """Return whether a message or a Close frame says that its connection is to be renewed."""
        if isinstance(event, events.Closing) and event.code in self.renew_codes:
            return True
        if self.renew_when is None:
            return False
        try:
            return bool(self.renew_when(event))
        except BaseException as error:  # noqa: BLE001  it is reported, and the message is handled
            report(logging.ERROR, "renew_on failed on %r", event, error=error, limit=self._limit)
            return False


def _shortened(key: Any) -> Any:
    """Return a key of limited size, since many are remembered and servers may choose them."""
    if isinstance(key, tuple):
        short = tuple(map(_shortened, key))
        return key if all(map(is_, key, short)) else short
    if isinstance(key, (str, bytes)) and len(key) > MAX_LENGTH:
        data = key if isinstance(key, bytes) else key.encode("utf-8", "surrogatepass")
        return type(key).__name__, len(key), sha256(data).digest()
    return key


def _answer(function: Callable[[Any], Any], event: Message) -> Any:
    """Return the result of a function for a message; None if it fails, or its result cannot be hashed."""
    try:
        answer = function(event)
        hash(answer)
    except BaseException as error:  # noqa: BLE001  the message has no key
        report(logging.DEBUG, "the key function of a feed failed on %r", event, error=error)
        return None
    return answer

"""Reports about a feed: its connections, its URLs, and each change of the connection that sends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from .meter import Lag
from .urls import UrlStatus

#: Why a feed changed connections: its age, the server's Close frame, a message for which `renew_on` returned
#: True, a call of `Feed.renew`, the loss of the connection, or a URL that the other copy uses too.
Reason: TypeAlias = Literal["age", "close", "message", "asked", "lost", "spread"]
#: The phase of a connection: not open yet or setting up its session; in use; still open after another one has
#: taken over; closing, or no longer able to receive.
Phase: TypeAlias = Literal["opening", "ready", "draining", "ending"]


@dataclass(frozen=True)
class Switch:
    """Another connection has taken over sending. Passed to the function `on_switch` of a `lochws.Feed`.

    Attributes:
        reason: ``"age"``, ``"close"`` (a Close frame), ``"message"``, ``"asked"``, ``"lost"``, or
            ``"spread"`` (the other copy used the same URL).
        from_url: the URL of the connection before, without credentials.
        to_url: the URL of the connection now, without credentials.
        seconds: the time since the new connection began to open.
        is_overlapping: True if the connection before could still receive when the new one was ready. If the
            feed has a `key`, no message was missed between them. False if the server may have sent messages
            in between.
    """

    reason: Reason
    from_url: str
    to_url: str
    seconds: float
    is_overlapping: bool


@dataclass(frozen=True)
class LegStatus:
    """One connection of a feed.

    Attributes:
        number: counts the connections of the feed, from 1.
        copy: 0, or 1 for the second of two copies.
        url: the URL, without credentials.
        phase: ``"opening"``, ``"ready"``, ``"draining"`` or ``"ending"``.
        is_sending: whether the feed sends on it.
        opened_for: seconds since its session became ready, or None.
        first: the messages that it was the first to deliver.
        later: the messages of which another connection had delivered a copy before.
        lost: the messages that only other connections have delivered, counted when they leave the window.
        backwards: the messages that were dropped because a later one had been passed on.
        lag: how far it lags behind the first copies.
    """

    number: int
    copy: int
    url: str
    phase: Phase
    is_sending: bool
    opened_for: float | None
    first: int
    later: int
    lost: int
    backwards: int
    lag: Lag


@dataclass(frozen=True)
class FeedStatus:
    """The state of a feed at one moment.

    Attributes:
        is_ready: whether there is a connection to send on.
        single_session: whether the server has been found to allow only one session at a time. The feed then
            closes a connection before it opens the next one.
        passed: the messages that were passed on to handlers.
        switches: how often another connection has taken over, without handlers being told Disconnected.
        losses: how often the feed has been without any connection.
        remembered: the keys and messages in memory, at most `window` plus, for each new connection, `window`
            or 16 MiB of messages.
        legs: the connections, oldest first.
        urls: the health of each URL, in the order of preference.
    """

    is_ready: bool
    single_session: bool
    passed: int
    switches: int
    losses: int
    remembered: int
    legs: tuple[LegStatus, ...]
    urls: tuple[UrlStatus, ...]

"""Streams: the streams of a Sequence, with their held messages and their snapshots."""

from __future__ import annotations

import logging
import random
import sys
from collections.abc import Callable, Hashable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Literal, TypeVar

from ... import events
from ...errors import WebSocketError
from ...system.rate_limit import RateLimit
from ...system.report import safe_repr
from ...text import cut, escaped
from .checks import AppOrFeed
from .fates import Fate, Fates
from .lines import report_about
from .numbered import Disorder, Gap, Snapshot
from .numbering import NUMBER_LIMIT, Place
from .resyncs import Resyncs
from .stream_table import Room, Stream, Table

K = TypeVar("K", bound=Hashable)

#: The longest key in a log line, in characters.
_MAX_KEY = 60
#: The shortest and the longest wait before a snapshot is loaded again, in seconds.
_MIN_WAIT, _MAX_WAIT = 0.1, 30.0


@dataclass(frozen=True)
class Rules(Generic[K]):
    """The options of a `Sequence` that its streams obey, under the same names if they are the same.

    Attributes:
        passes_late: whether late messages are passed on.
        max_bytes: `max_held_bytes`.
    """

    on_gap: Callable[[Gap[K]], object] | Literal["tell", "reconnect"] | None
    on_disorder: Callable[[Disorder[K]], object] | None
    on_snapshot: Callable[[K, Snapshot], object] | None
    passes_late: bool
    patience: float
    continues: bool
    max_held: int
    max_bytes: int
    max_keys: int


class Streams(Generic[K]):
    """Decides on the messages of all streams. For the handlers' thread.

    Any thread may read the attributes.

    Args:
        app: the app or the feed.
        fates: what becomes of the messages that are not passed on at once.
        resyncs: calls the function that loads a snapshot; None: there is no such function.
        rules: the options.
        saved: the last numbers of the streams that are known from before.

    Attributes:
        table: the streams.
        room: the room for their held messages.
        counts: the counts of `SequenceCounts`, except those of passed and of held messages.
        passed: the number of messages that were passed on.
        refusals: the limit of the log lines about what exceeds a limit.
    """

    def __init__(
        self, app: AppOrFeed, fates: Fates, resyncs: Resyncs | None, rules: Rules[K],
        saved: dict[Any, int],
    ) -> None:
        self._app = app
        self._fates = fates
        self._resyncs = resyncs
        self._rules = rules
        self.table: Table[K] = Table(saved, rules.max_keys)
        self.room: Room[K] = Room(rules.max_held, rules.max_bytes)
        names = ("duplicates", "late", "dropped", "gaps", "missing", "snapshots", "failures")
        self.counts = dict.fromkeys(names, 0)
        self.passed = 0
        self._lines = RateLimit(burst=20, per_second=1 / 30)
        self.refusals = RateLimit(burst=1, per_second=1 / 60)

    def begin(self) -> None:
        """Load the streams that need it, as the session is ready."""
        if self._resyncs is None or not self._app.is_active:
            return
        for stream in self.table.all():
            needs = stream.is_behind or (not self._rules.continues and stream.numbering.last is None)
            if needs and stream.phase == "live":
                self._load(stream)

    def begin_numbering(self) -> None:
        """Forget the numbers of the previous connection."""
        for stream in self.table.all():
            stream.numbering.begin(None)

    def end(self) -> None:
        """Drop all held messages, because their connection has ended."""
        for stream in self.table.all():
            self.stop(stream)
        self._fates.clear()

    def stop(self, stream: Stream[K]) -> None:
        """Drop the held messages of a stream, and load no snapshot of it."""
        stream.stop()
        stream.is_behind |= stream.phase == "resync" or not stream.numbering.is_complete
        stream.phase = "live"
        stream.failures = 0
        size, held = stream.numbering.held_bytes, stream.numbering.clear()
        if held:
            self.room.release(stream, len(held), size)
            self.counts["dropped"] += len(held)

    def ask(self, key: K) -> None:
        """Load a snapshot of a stream, now or in the next session."""
        stream = self.table.by_key.get(key) or self.added(key)
        if stream is None or stream.phase == "resync":
            return
        stream.stop()
        if self._app.is_active:
            self._load(stream)
        else:
            stream.is_behind = True

    def forget(self, key: K) -> None:
        """Forget a stream and drop its held messages."""
        if (stream := self.table.remove(key)) is not None:
            self.stop(stream)

    def added(self, key: K) -> Stream[K] | None:
        """Return a new stream, or None if there are too many, or its key is too large."""
        reason = self.table.refusal(key)
        if reason is None:
            self.table.by_key[key] = stream = Stream(key, None)
            return stream
        text = "the order of a stream is not checked: %s"
        report_about(self._app, logging.WARNING, "not_ordered", text, reason, limit=self.refusals)
        return None

    def examine(
        self, stream: Stream[K], event: events.Text | events.Binary, first: int, last: int
    ) -> None:
        """Decide on a message that does not simply follow the last one."""
        numbering = stream.numbering
        if stream.phase == "live" and numbering.last is None:
            if self._resyncs is None:
                numbering.begin_with(first, last)
                self.passed += 1
                return
            self._hold(stream, event, first, last)
            self._load(stream)
            return
        place = Place.AHEAD if numbering.last is None else numbering.place(first, last)
        if stream.phase != "resync" and place in (Place.DUPLICATE, Place.LATE):
            self._out_of_order(stream, event, first, last, place)
        elif stream.phase in ("live", "waiting") and place is Place.NEXT:
            numbering.last = last
            self.passed += 1
            if stream.phase == "waiting":
                self._go_on_soon(stream)
        elif stream.phase == "live" and self._resyncs is None and not self._rules.patience:
            gap = self._gap(stream, first)
            numbering.skip_to(first)
            numbering.last = last
            self.passed += 1
            self._tell(gap)
        else:
            self._hold(stream, event, first, last)
            if stream.phase == "live":
                self._hole(stream)

    def _out_of_order(
        self, stream: Stream[K], event: events.Text | events.Binary, first: int, last: int, place: Place
    ) -> None:
        is_late = place is Place.LATE
        self.counts["late" if is_late else "duplicates"] += 1
        if is_late:
            stream.numbering.fill(first, last)
        if is_late and self._rules.passes_late:
            self.passed += 1
        else:
            self._fates.note(Fate(event, False))
        if self._rules.on_disorder is not None:
            kind: Literal["late", "duplicate"] = "late" if is_late else "duplicate"
            self._rules.on_disorder(Disorder(stream.key, last, stream.numbering.last or 0, kind, event))

    def _hold(self, stream: Stream[K], event: events.Text | events.Binary, first: int, last: int) -> None:
        fate = Fate(event, True)
        size = _size(event)
        self._fates.note(fate)
        stream.numbering.hold(first, last, size, fate)
        self.room.take(stream, size)
        while self.room.is_exceeded and self._make_room(stream):
            pass

    def _make_room(self, stream: Stream[K]) -> bool:
        """Drop the oldest held message of this stream, or of a stream that holds more than its share.

        Otherwise one stream that cannot be loaded would keep all others from being loaded. Streams that need
        no snapshot do not drop what has arrived: they accept the gap before it, after this delivery.

        Returns:
            Whether a message was dropped.
        """
        stream = self.room.culprit(stream)
        if stream.phase == "waiting":
            stream.stop()
            stream.phase = "turn"
            self._set_timer(stream, 0, self._lost)
        oldest = stream.numbering.pop_oldest() if stream.phase == "resync" else None
        if oldest is None:
            return False
        self.room.release(stream, 1, oldest.size)
        self.counts["dropped"] += 1
        words = "a held message of %s was dropped: there is no room for more (max_held, max_held_bytes)"
        report_about(self._app, logging.WARNING, "not_held", words, shown(stream.key), limit=self.refusals)
        return True

    def _hole(self, stream: Stream[K]) -> None:
        """Wait for a missing message, or accept that it is lost."""
        if self._rules.patience and stream.timer is None:
            stream.phase = "waiting"
            self._set_timer(stream, self._rules.patience, self._patience_ended)
        elif not self._rules.patience:
            self._lost(stream)

    def _patience_ended(self, stream: Stream[K]) -> None:
        if stream.phase == "waiting":
            self._lost(stream)

    def _lost(self, stream: Stream[K]) -> None:
        """Report a gap before the first held message, and load a snapshot or go on behind the gap."""
        numbering = stream.numbering
        if numbering.is_missing_next and numbering.last is not None:
            gap = self._gap(stream, numbering.held[0].first)
            if self._resyncs is None:
                numbering.skip_to(numbering.held[0].first)
                self._go_on_soon(stream)
            else:
                self._load(stream)
            self._tell(gap)
        elif self._resyncs is not None and not numbering.held:
            self._load(stream)  # those that were held have been dropped
        else:
            self._go_on_soon(stream)

    def _gap(self, stream: Stream[K], first: int) -> Gap[K]:
        last = stream.numbering.last
        assert last is not None
        gap = Gap(stream.key, last + 1, first - 1)
        self.counts["gaps"] += 1
        self.counts["missing"] += gap.count
        return gap

    def _tell(self, gap: Gap[K]) -> None:
        """Report a gap. The last step, because the user's function may raise an exception."""
        if self._rules.on_gap is None:
            return
        if callable(self._rules.on_gap):
            self._rules.on_gap(gap)
            return
        drops = self._rules.on_gap == "reconnect"
        words = f"{gap.count} messages of {shown(gap.key)} are missing, from number {gap.first}"
        report_about(
            self._app, logging.WARNING, "gap", "disconnecting: %s" if drops else "%s", words,
            limit=self._lines, ws_reason=words,
        )
        if drops:
            self._app.force_disconnect(words)

    def _set_timer(
        self, stream: Stream[K], seconds: float, function: Callable[[Stream[K]], object]
    ) -> None:
        with suppress(WebSocketError):  # the app has stopped
            stream.timer = self._app.call_later(seconds, partial(self._timer_ended, stream, function))

    def _timer_ended(self, stream: Stream[K], function: Callable[[Stream[K]], object]) -> None:
        stream.timer = None
        function(stream)

    def _load(self, stream: Stream[K]) -> None:
        """Have a snapshot loaded, and hold all messages meanwhile."""
        assert self._resyncs is not None
        stream.stop()
        stream.phase, stream.is_behind = "resync", False
        stream.job = self._resyncs.begin(stream.key, partial(self._loaded, stream))

    def _loaded(self, stream: Stream[K], result: object, error: BaseException | None) -> None:
        stream.job = None
        if self.table.by_key.get(stream.key) is not stream:
            return  # it was forgotten while no connection was open
        snapshot = None
        if error is None:
            try:
                snapshot = _as_snapshot(result)
            except TypeError as wrong:
                error = wrong
        if snapshot is None:
            text = "the snapshot of %s could not be loaded"
            report_about(
                self._app, logging.WARNING, "resync_failed", text, shown(stream.key), error=error,
                limit=self._lines,
            )
            self._load_again(stream)
            return
        try:
            if self._rules.on_snapshot is not None:
                self._rules.on_snapshot(stream.key, snapshot)
        except BaseException:
            self._load_again(stream)  # the state may be incomplete
            raise
        self.counts["snapshots"] += 1
        stream.numbering.begin(snapshot.number)
        stream.phase, stream.has_snapshot = "turn", True
        self._go_on(stream)

    def _load_again(self, stream: Stream[K]) -> None:
        self.counts["failures"] += 1
        stream.phase = "resync"
        wait = min(_MAX_WAIT, _MIN_WAIT * 2 ** min(stream.failures, 16))
        stream.failures += 1
        self._set_timer(stream, wait * (0.5 + random.random() / 2), self._load)

    def _go_on_soon(self, stream: Stream[K]) -> None:
        stream.stop()
        stream.phase, stream.has_snapshot = "turn", False
        self._set_timer(stream, 0, self._go_on)

    def _go_on(self, stream: Stream[K]) -> None:
        """Pass on the held messages that follow, until one is missing."""
        if stream.phase != "turn":
            return
        numbering = stream.numbering
        while (found := numbering.next_held()) is not None:
            place, held = found
            self.room.release(stream, 1, held.size)
            if place is Place.NEXT:
                self.passed += 1
                try:
                    _call_all(self._app, held.item.calls)
                except BaseException:
                    # That is a handler's failure, and no reason to skip the messages that follow.
                    self._set_timer(stream, 0, self._go_on)
                    raise
            else:
                self.counts["duplicates"] += 1
        if numbering.is_complete or (self._resyncs is None and not numbering.held):
            numbering.completed()
            stream.phase, stream.failures = "live", 0
        elif stream.has_snapshot:
            self._load_again(stream)  # the snapshot was too old, or another message is missing behind it
        else:
            self._hole(stream)


def _call_all(app: AppOrFeed, calls: Iterable[Callable[[], object]]) -> None:
    """Call the handlers of a message, all of them, and raise the exception of the first that failed."""
    raised: list[BaseException] = []
    for call in calls:
        try:
            call()
        except BaseException as error:  # noqa: BLE001  it is raised below, or in a call of its own
            raised.append(error)
    for another in raised[1:]:
        with suppress(WebSocketError):  # the app has stopped
            app.call_later(0, partial(_throw, another))
    if raised:
        raise raised[0]


def _throw(error: BaseException) -> None:
    raise error


def _as_snapshot(result: object) -> Snapshot:
    if isinstance(result, tuple) and len(result) == 2 and type(result[0]) is int:
        if not -NUMBER_LIMIT <= result[0] < NUMBER_LIMIT:
            raise TypeError("resync returned a number of more than 64 bits")
        return Snapshot(*result)
    raise TypeError(f"resync returned {cut(safe_repr(result), 100)}: expected a Snapshot(number, data)")


def shown(key: object) -> str:
    """Return the name of a stream for a log line."""
    return f"stream {escaped(cut(safe_repr(key), _MAX_KEY))}"


def _size(event: events.Text | events.Binary) -> int:
    return sys.getsizeof(event.text) if isinstance(event, events.Text) else len(event.data)

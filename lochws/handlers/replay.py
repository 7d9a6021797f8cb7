"""Replay: plays a recording into any handlers, without a network.

::

    Replay("talk.jsonl").run(handler)               # at the original speed; speed=None for no pauses
    for event in Replay("talk.jsonl"):
        print(event)

`lochws.handlers.recorder` makes recordings; docs/recording.md describes the format.
"""

from __future__ import annotations

import inspect
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any, TypeVar

from .. import events
from ..codec import JSON, Codec
from ..dispatch.registry import Registry
from ..sent import Sent
from ..system.report import report
from ._parts.recording_files import LineReader, RecordingError, files_of
from ._parts.recording_lines import MAX_LINE, VERSION, Payload, as_event, as_sent, length_of

__all__ = ["MAX_PAUSE", "Entry", "RecordingError", "Replay"]

_Item = TypeVar("_Item")
#: The largest time that a recording may contain, in seconds since its beginning or since 1970.
_MAX_SECONDS = 9e9
#: The longest pause, in seconds; `time.sleep` raises OverflowError for much longer ones.
MAX_PAUSE = 1e9


@dataclass(frozen=True)
class Entry:
    """One line of a recording.

    Attributes:
        at: seconds since the recording began (monotonic). If the recording was continued later, the wall
            clock bridges the gap.
        time: the wall clock, in seconds since the epoch; for an event, its `received_time`.
        direction: ``"in"`` for events, ``"out"`` for sent items, empty where entries are missing.
        event: the name of the event; for sent items ``"text"``, ``"binary"``, ``"ping"``, ``"pong"`` or
            ``"close"``; ``"missing"`` where events could not be recorded.
        fields: the parsed line.
        where: the file and the line number.
    """

    at: float
    time: float
    direction: str
    event: str
    fields: Mapping[str, Any]
    where: tuple[Path, int]

    @property
    def missing(self) -> int:
        """The number of events and sends missing at this point; 0 for an event or a sent item."""
        return int(self.fields.get("missing", 0))

    @property
    def length(self) -> int | None:
        """The length of an omitted payload, in characters or bytes; None if no payload was omitted."""
        return self.fields.get("length")

    def as_event(self, fill: bool = False) -> events.Event:
        """Return the recorded event.

        Args:
            fill: replace an omitted payload with ``x`` repeated to the same length.

        Raises:
            RecordingError: the line is damaged, or the payload was omitted and `fill` is not given.
        """
        return self._recorded_item(as_event, fill)

    def as_sent(self, fill: bool = False) -> Sent:
        """Return the sent item: a text message as str, a binary message as bytes, or a `ControlFrame`.

        Args:
            fill: replace an omitted payload with ``x`` repeated to the same length.

        Raises:
            RecordingError: the line is damaged, or the payload was omitted and `fill` is not given.
        """
        return self._recorded_item(as_sent, fill)

    def _recorded_item(self, parse: Callable[[Mapping[str, Any], bool], _Item], fill: bool) -> _Item:
        try:
            return parse(self.fields, fill)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise RecordingError(*self.where, f"{self.event}: {error}") from error


@dataclass
class Replayed:
    """The result of a replay.

    Attributes:
        events: how many events were played.
        errors: the exceptions raised by handlers; each was logged, and passed to `on_error`.
    """

    events: int = 0
    errors: list[BaseException] = field(default_factory=list)


class Replay:
    """A recording whose events can be iterated, or played into handlers, any number of times.

    A file that is still being written, or whose process was killed, is read up to its last complete line.

    Args:
        path: the newest file of the recording; older ones (``talk.1.jsonl``) are read before it.
        fill: replace omitted payloads with ``x`` repeated to the same length; otherwise they are an error.
        max_line: the length limit for a line, in bytes; 96 MiB by default.

    Raises:
        FileNotFoundError: the recording does not exist.

    Attributes:
        cut: the files read so far that end in the middle of a line.
        missing: the number of events and sends missing from the part that was read.
    """

    def __init__(self, path: str | os.PathLike[str], *, fill: bool = False, max_line: int = MAX_LINE) -> None:
        self.path = Path(path)
        self._fill = fill
        self._max_line = max_line
        self.cut: list[Path] = []
        self.missing = 0
        if not files_of(self.path):
            raise FileNotFoundError(f"the recording {self.path} does not exist")

    def entries(self) -> Iterator[Entry]:
        """Yield all lines except the headers, in order: events, sent items, and notes of missing entries.

        Raises:
            RecordingError: a line is damaged or too long; the text names the file and the line.
            OSError: a file cannot be read.
        """
        self.cut, self.missing = [], 0
        first: float | None = None  # when the recording began
        last = 0.0
        for path in files_of(self.path):
            reader, offset = LineReader(path, self._max_line), 0.0
            for line in reader:
                where = (path, reader.number)
                fields = _parse(line, where)
                if reader.number == 1:
                    began = _header(fields, where)
                    first = began if first is None else first
                    offset = began - first
                    continue
                entry = _entry(fields, where, offset, last)
                last = entry.at
                self.missing += entry.missing
                yield entry
            if reader.is_cut:
                self.cut.append(path)
                number = reader.number + 1
                report(logging.WARNING, "%s ends in the middle of line %d, which is skipped", path, number)

    def __iter__(self) -> Iterator[events.Event]:
        """Yield the events, equal to those recorded and of the same classes.

        Raises:
            RecordingError: a line is damaged or too long, or a payload was omitted and `fill` is not set.
            OSError: a file cannot be read.
        """
        return (entry.as_event(self._fill) for entry in self.entries() if entry.direction == "in")

    def sends(self) -> Iterator[Sent]:
        """Yield the sent items in order: str for text, bytes for binary messages, and `ControlFrame`."""
        return (entry.as_sent(self._fill) for entry in self.entries() if entry.direction == "out")

    def messages(self) -> Iterator[tuple[float, Payload]]:
        """Yield pairs of seconds since the first message, and a message from the server as str or bytes."""
        began: float | None = None
        for entry in self.entries():
            if entry.direction == "in" and entry.event in ("text", "binary"):
                event = entry.as_event(self._fill)
                began = entry.at if began is None else began
                yield entry.at - began, event.text if isinstance(event, events.Text) else event.data  # type: ignore[attr-defined]

    def run(
        self,
        *handlers: object,
        speed: float | None = 1.0,
        clock: Callable[[], float] = monotonic,
        wait: Callable[[float], object] = sleep,
        codec: Codec | None = None,
    ) -> Replayed:
        """Play the events into handlers, on the calling thread, in order.

        An exception raised by a handler is logged and passed to `on_error`, as in an app, and the replay
        continues.

        Args:
            handlers: objects with ``on_<event>`` methods, or with methods marked with `lochws.on` or
                `lochws.route`; or functions, which get all events.
            speed: 1 for the original speed, 2 for twice as fast, None for no pauses.
            clock: a function that returns monotonic seconds.
            wait: a function that waits for a number of seconds. If it returns True, as
                `threading.Event.wait` does when the event is set, the replay ends.
            codec: decodes the messages, for ``event.json`` and for routes; None parses JSON.

        Raises:
            TypeError: `codec` is not a Codec; a handler handles no events; or it is an app, which needs a
                connection (see `lochws.testing.recorded`).
            ValueError: `speed` is not above 0.
            RecordingError: a line is damaged or too long; the events before it have been played.
            OSError: a file cannot be read.
        """
        if speed is not None and not 0 < speed < float("inf"):
            raise ValueError(f"speed={speed!r}: expected a number above 0, or None for no pauses")
        played = Replayed()
        if codec is not None and not isinstance(codec, Codec):
            raise TypeError(f"codec={codec!r}: expected a lochws.Codec, or None")
        registry = Registry(played.errors.append, codec or JSON)
        for handler in handlers:
            if hasattr(handler, "run_forever"):
                raise TypeError(f"{handler!r} is an app: connect it to lochws.testing.recorded instead")
            if inspect.isroutine(handler):
                registry.add_function(handler, ["event"])
            else:
                registry.add_object(handler)
        began: float | None = None
        for entry in self.entries():
            if entry.direction != "in":
                continue
            if speed is not None:
                now = clock()
                began = now - entry.at / speed if began is None else began
                if (pause := began + entry.at / speed - now) > 0 and wait(min(pause, MAX_PAUSE)) is True:
                    break
            event = entry.as_event(self._fill)
            if codec is not None:
                events.use_codec([event], codec)
            registry.dispatch_all([event])
            played.events += 1
        return played


def _parse(line: bytes, where: tuple[Path, int]) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RecordingError(*where, f"not valid JSON: {error}") from error
    if not isinstance(fields, dict):
        raise RecordingError(*where, f"expected a JSON object, not {type(fields).__name__}")
    return fields


def _header(fields: dict[str, Any], where: tuple[Path, int]) -> float:
    """Check the first line of a file, and return when its recording began."""
    version = fields.get("recording")
    if version != VERSION:
        what = "there is no header" if version is None else f"version {version!r} is unknown"
        raise RecordingError(*where, f"this is not a recording: {what}")
    return _number(fields, "began", where)


def _entry(fields: dict[str, Any], where: tuple[Path, int], offset: float, last: float) -> Entry:
    at = max(last, offset + _number(fields, "at", where))  # the wall clock may have been set back
    time = _number(fields, "time", where)
    if "missing" in fields:
        if isinstance(fields["missing"], bool) or not isinstance(fields["missing"], int):
            raise RecordingError(*where, f"'missing' is {fields['missing']!r}: expected a number")
        return Entry(at, time, "", "missing", fields, where)
    direction, event = fields.get("direction"), fields.get("event")
    if direction not in ("in", "out") or not isinstance(event, str):
        raise RecordingError(*where, "expected a 'direction', \"in\" or \"out\", and the name of an 'event'")
    try:
        length_of(fields)
    except ValueError as error:
        raise RecordingError(*where, str(error)) from error
    return Entry(at, time, direction, event, fields, where)


def _number(fields: dict[str, Any], name: str, where: tuple[Path, int]) -> float:
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise RecordingError(*where, f"{name!r} is {value!r}: expected a number")
    if not abs(value) <= _MAX_SECONDS:  # refuses NaN too
        raise RecordingError(*where, f"{name!r} is not a time: expected a number up to {_MAX_SECONDS:g}")
    return float(value)

"""Plays a recording back into any handlers, without a network.

::

    Replay("talk.jsonl").run(handler)               # as fast as it was; speed=None for as fast as it goes
    for event in Replay("talk.jsonl"):
        print(event)

`lochws.handlers.recorder` makes recordings; docs/recording.md has their format.
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
from ..dispatch.registry import Registry
from ..sent import Sent
from ..system.report import report
from ._parts.recording_files import LineReader, RecordingError, files_of
from ._parts.recording_lines import MAX_LINE, VERSION, Payload, as_event, as_sent, length_of

_Made = TypeVar("_Made")
#: No time of a recording is further from its beginning, or from 1970.
_MAX_SECONDS = 9e9
#: The longest pause, in seconds: of much more than that `time.sleep` makes an OverflowError.
MAX_PAUSE = 1e9


@dataclass(frozen=True)
class Entry:
    """One line of a recording.

    Attributes:
        at: seconds since recording began (monotonic). In a recording that was continued the wall clock
            bridges the pause.
        time: the wall clock when it happened: for an event its `received_time`.
        direction: ``"in"`` for events, ``"out"`` for what was sent, empty for what is missing.
        event: the event's name; of what was sent ``"text"``, ``"binary"``, ``"ping"``, ``"pong"`` or
            ``"close"``; ``"missing"`` where events could not be recorded.
        fields: the line as it stands in the file.
        where: the file and the line's number.
    """

    at: float
    time: float
    direction: str
    event: str
    fields: Mapping[str, Any]
    where: tuple[Path, int]

    @property
    def missing(self) -> int:
        """How many events and sends are missing here; 0 for what is an entry itself."""
        return int(self.fields.get("missing", 0))

    @property
    def length(self) -> int | None:
        """How many characters or bytes a payload had that was left out; else None."""
        return self.fields.get("length")

    def as_event(self, fill: bool = False) -> events.Event:
        """The event.

        Raises:
            RecordingError: it is damaged, or its payload was left out and `fill` is not given.
        """
        return self._made(as_event, fill)

    def as_sent(self, fill: bool = False) -> Sent:
        """What was sent: text as str, a binary message as bytes, or a `ControlFrame`. Raises likewise."""
        return self._made(as_sent, fill)

    def _made(self, make: Callable[[Mapping[str, Any], bool], _Made], fill: bool) -> _Made:
        try:
            return make(self.fields, fill)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise RecordingError(*self.where, f"{self.event}: {error}") from error


@dataclass
class Replayed:
    """What came of a replay.

    Attributes:
        events: how many were played.
        errors: what handlers raised; each was logged, and given to `on_error`.
    """

    events: int = 0
    errors: list[BaseException] = field(default_factory=list)


class Replay:
    """A recording: iterate its events, or play them into handlers. Any number of times.

    A file that is still being written, or whose process was killed, is read up to its last whole line.

    Args:
        path: the newest file of the recording; older ones (``talk.1.jsonl``) come before it.
        fill: put as many ``x`` where payloads were left out, which else is an error.
        max_line: the longest line that is read, in bytes.

    Raises:
        FileNotFoundError: there is no such file.

    Attributes:
        cut: the files that end in the midst of a line, as far as they were read.
        missing: how many events and sends the recording lacks, as far as it was read.
    """

    def __init__(self, path: str | os.PathLike[str], *, fill: bool = False, max_line: int = MAX_LINE) -> None:
        self.path = Path(path)
        self._fill = fill
        self._max_line = max_line
        self.cut: list[Path] = []
        self.missing = 0
        if not files_of(self.path):
            raise FileNotFoundError(f"there is no recording {self.path}")

    def entries(self) -> Iterator[Entry]:
        """All lines but the headers, in order: events, what was sent, and where something is missing.

        Raises:
            RecordingError: a line is no line of a recording; the text names the file and the line.
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
                report(logging.WARNING, "%s ends in the middle of line %d, which is left out", path, number)

    def __iter__(self) -> Iterator[events.Event]:
        """The events, of the classes they had, equal to those recorded. Raises as `entries`."""
        return (entry.as_event(self._fill) for entry in self.entries() if entry.direction == "in")

    def sends(self) -> Iterator[Sent]:
        """What was sent, in order: text as str, binary messages as bytes, and `ControlFrame`."""
        return (entry.as_sent(self._fill) for entry in self.entries() if entry.direction == "out")

    def messages(self) -> Iterator[tuple[float, Payload]]:
        """The server's messages, text as str and binary ones as bytes, with the seconds since the first."""
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
    ) -> Replayed:
        """Play the events into handlers, on the calling thread, in order.

        What a handler raises is logged and given to `on_error`, as in an app, and the replay goes on.

        Args:
            handlers: objects with methods ``on_<event>``, or marked with `lochws.on`; or functions, which
                get all events.
            speed: 1 for the pace of the recording, 2 for twice as fast, None for no pauses.
            clock: monotonic seconds.
            wait: waits for so many seconds; if it returns True, as an `Event.wait` does, the replay ends.

        Raises:
            TypeError: something handles nothing; or is an app, which has to have a connection: see
                `lochws.testing.recorded`.
            ValueError: the speed is not above 0.
            RecordingError, OSError: as for `entries`, in the midst of the replay.
        """
        if speed is not None and not 0 < speed < float("inf"):
            raise ValueError(f"speed={speed!r}: expected a number above 0, or None for no pauses")
        played = Replayed()
        registry = Registry(played.errors.append, lambda _: None)
        for handler in handlers:
            if hasattr(handler, "run_forever"):
                raise TypeError(f"{handler!r} runs itself: have it talk to lochws.testing.recorded instead")
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
            registry.dispatch_all([entry.as_event(self._fill)])
            played.events += 1
        return played


def _parse(line: bytes, where: tuple[Path, int]) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RecordingError(*where, f"it is no JSON; {error}") from error
    if not isinstance(fields, dict):
        raise RecordingError(*where, f"expected a JSON object, not {type(fields).__name__}")
    return fields


def _header(fields: dict[str, Any], where: tuple[Path, int]) -> float:
    """Check the first line of a file, and say when its recording began."""
    version = fields.get("recording")
    if version != VERSION:
        what = "there is no header" if version is None else f"version {version!r} is unknown"
        raise RecordingError(*where, f"this is no recording; {what}")
    return _number(fields, "began", where)


def _entry(fields: dict[str, Any], where: tuple[Path, int], offset: float, last: float) -> Entry:
    at = max(last, offset + _number(fields, "at", where))  # a wall clock that was set back between two runs
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
    if not abs(value) <= _MAX_SECONDS:  # nor is NaN
        raise RecordingError(*where, f"{name!r} is no time: expected a number up to {_MAX_SECONDS:g}")
    return float(value)

"""`lochws replay`: a recording, shown as it went on, without a network."""

from __future__ import annotations

import time
from pathlib import Path
from time import monotonic

import click

from ..events import Binary, Event, Text
from ..handlers._parts.recording_files import RecordingError
from ..handlers.replay import MAX_PAUSE, Entry, Replay
from ..text import cut, escaped
from .exits import Exit, Failed
from .payloads import Payloads
from .shown import as_json, one_line
from .target import Seconds, checked, is_terminal, limit, verbosity

#: Characters of one entry that are shown.
MAX_SHOWN = 1000

_COLOURS = {"<": "green", ">": "cyan", "*": "blue", "!": "yellow"}
_MARKS = {"in": "<", "out": ">"}


@click.command(
    help="""Show the recording in FILE, which `lochws connect --record` has made, or a Recorder.

    Each line has the seconds since the beginning, < for what was received, > for what was sent, * for what
    else happened.
    """,
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--speed", type=Seconds(), default=0.0, show_default=True, metavar="FACTOR",
    help="1 is as fast as it was; 0 is without pauses.",
)
@click.option("--messages", is_flag=True, help="Only messages received, one a line, as `connect` has it.")
@click.option("--json", is_flag=True, help="The lines as they stand in the file.")
@verbosity
def replay(*, file: Path, speed: float, messages: bool, json: bool) -> Exit:
    """Show it."""
    recording = checked(lambda: Replay(file, fill=True))
    factor = limit(speed)
    shows = is_terminal(1)
    began = monotonic()
    try:
        for entry in recording.entries():
            if factor is not None:
                time.sleep(min(MAX_PAUSE, max(0.0, began + entry.at / factor - monotonic())))
            if json:
                click.echo(as_json(entry.fields))
            elif not messages:
                mark, words = described(entry)
                line = f"{entry.at:10.3f} {mark} {escaped(cut(words, MAX_SHOWN))}"
                click.secho(line, fg=_COLOURS[mark])
            elif entry.direction == "in" and entry.event in ("text", "binary"):
                event = entry.as_event(fill=True)
                # Not what click would leave out of it.
                click.echo(_line(event, escapes=shows), color=True)
    except RecordingError as error:
        raise Failed(str(error)) from error
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Failed(f"cannot read {file}: {error.strerror or error}") from error
    if recording.missing:
        raise Failed(f"{recording.missing:,} events and sends are missing in this recording")
    return Exit.OK


def _line(event: Event, *, escapes: bool) -> str:
    """A message on a line, as `lochws connect` writes it."""
    if isinstance(event, Text):
        return escaped(event.text) if escapes else one_line(event.text)
    assert isinstance(event, Binary)
    return Payloads(None).written(event.data)


def described(entry: Entry) -> tuple[str, str]:  # noqa: PLR0911  one for each kind
    """The mark of a line, and its words, not escaped.

    Raises:
        RecordingError: the entry is damaged.
    """
    if entry.missing:
        return "!", f"{entry.missing:,} events and sends are missing here"
    if entry.length is not None:
        return _MARKS[entry.direction], f"[{entry.event} of {entry.length:,}, left out]"
    thing = entry.as_event() if entry.direction == "in" else entry.as_sent()
    if isinstance(thing, Text):
        return "<", thing.text
    if isinstance(thing, Binary):
        return "<", f"[{len(thing.data):,} bytes] {thing.data[:MAX_SHOWN].hex()}"
    if isinstance(thing, str):
        return ">", thing
    if isinstance(thing, bytes):
        return ">", f"[{len(thing):,} bytes] {thing[:MAX_SHOWN].hex()}"
    return ("*" if entry.direction == "in" else ">"), repr(thing)

"""`lochws replay`: the contents of a recording, shown without a network."""

from __future__ import annotations

import time
from pathlib import Path
from time import monotonic

import click

from ..events import Binary, Event, Text
from ..handlers.replay import MAX_PAUSE, Entry, RecordingError, Replay
from ..text import cut, escaped
from .exits import Exit, Failed
from .payloads import Payloads
from .shown import as_json, one_line
from .target import Seconds, checked, is_terminal, limit, verbosity

#: The number of characters shown of an entry.
MAX_SHOWN = 1000

_COLORS = {"<": "green", ">": "cyan", "*": "blue", "!": "yellow"}
_MARKS = {"in": "<", "out": ">"}


@click.command(
    short_help="Show the recording in FILE.",
    help="""Show the recording in FILE, made by `lochws connect --record` or by a Recorder.

    Each line shows the seconds since the beginning, then < for received, > for sent, or * for another event.
    """,
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--speed", type=Seconds(), default=0.0, show_default=True, metavar="FACTOR",
    help="1 is the original speed, 2 is twice as fast, 0 is without pauses.",
)
@click.option(
    "--messages", is_flag=True, help="Print only received messages, one per line, as `connect` does."
)
@click.option("--json", is_flag=True, help="Print the lines of the file.")
@verbosity
def replay(*, file: Path, speed: float, messages: bool, json: bool) -> Exit:
    """Show the recording."""
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
                mark, words = describe(entry)
                line = f"{entry.at:10.3f} {mark} {escaped(cut(words, MAX_SHOWN))}"
                click.secho(line, fg=_COLORS[mark])
            elif entry.direction == "in" and entry.event in ("text", "binary"):
                event = entry.as_event(fill=True)
                # Keeps click from removing text that resembles a color code.
                click.echo(_line(event, escapes=shows), color=True)
    except RecordingError as error:
        raise Failed(str(error)) from error
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Failed(f"cannot read {file}: {error.strerror or error}") from error
    if recording.missing:
        raise Failed(f"{recording.missing:,} events and sends are missing from this recording")
    return Exit.OK


def _line(event: Event, *, escapes: bool) -> str:
    """Convert a message to a line, as `lochws connect` does."""
    if isinstance(event, Text):
        return escaped(event.text) if escapes else one_line(event.text)
    assert isinstance(event, Binary)
    return Payloads(None).written(event.data)


def describe(entry: Entry) -> tuple[str, str]:  # noqa: PLR0911  one for each kind
    """Return a description of an entry: the mark of its line, and a text that is not escaped.

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

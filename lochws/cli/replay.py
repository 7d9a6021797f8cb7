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
from .highlight import colored
from .output import has_color, output_options
from .payloads import Payloads
from .shown import as_json, one_line
from .target import Seconds, checked, is_terminal, limit
from .words import COLORS, EventWords, Words, of_sent

#: The number of characters shown of an entry.
MAX_SHOWN = 1000

_PAYLOADS = Payloads(None)
_MARKS = {"in": "<", "out": ">"}


@output_options
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
def replay(*, file: Path, speed: float, messages: bool, json: bool) -> Exit:
    """Show the recording."""
    recording = checked(lambda: Replay(file, fill=True))
    factor = limit(speed)
    shows, colors = is_terminal(1), has_color()
    event_words = EventWords(_PAYLOADS)
    began = monotonic()
    try:
        for entry in recording.entries():
            if factor is not None:
                time.sleep(min(MAX_PAUSE, max(0.0, began + entry.at / factor - monotonic())))
            if json:
                click.echo(as_json(entry.fields))
            elif not messages:
                if (words := describe(entry, event_words)) is not None:
                    _show(entry, words, colors=colors)
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
    return _PAYLOADS.written(event.data)


def _show(entry: Entry, words: Words, *, colors: bool) -> None:
    """Print the line of an entry."""
    start, text = f"{entry.at:10.3f} {words.mark} ", escaped(cut(words.text, MAX_SHOWN))
    if not colors:
        click.echo(start + text)
        return
    color = COLORS[words.kind]
    shown = colored(text, color) if words.kind == "text" else click.style(text, fg=color)
    click.echo(click.style(start, fg=color) + shown, color=True)


def describe(entry: Entry, event_words: EventWords) -> Words | None:
    """Return the words for an entry, or None if there is nothing to say about it.

    Raises:
        RecordingError: the entry is damaged.
    """
    if entry.missing:
        return Words("warning", "!", f"{entry.missing:,} events and sends are missing here")
    if entry.length is not None:
        kind = entry.event if entry.direction == "in" else "sent"
        unit = "characters" if entry.event == "text" else "bytes"
        text = f"[{entry.length:,} {unit}, not recorded]"
        return Words(kind if kind in COLORS else "info", _MARKS[entry.direction], text)
    if entry.direction == "out":
        return of_sent(entry.as_sent(), _PAYLOADS)
    return event_words.of(entry.as_event())

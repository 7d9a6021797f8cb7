"""`lochws connect`: an interactive or piped conversation with a server."""

from __future__ import annotations

import math
from typing import Any

import click

from ..handlers.recorder import Recorder
from .exits import MEANINGS, Exit, Failed
from .lines import MAX_LINE
from .output import forced_color, has_color, is_logged, is_quiet, set_logged
from .payloads import NOTATIONS, Payloads
from .pipe import Pipe
from .states import States
from .target import QUEUE, Seconds, Target, checked, is_open, is_terminal, limit, target_options

_CODES = "\b\nExit codes:\n" + "\n".join(f"{code.value:5}  {meaning}" for code, meaning in MEANINGS.items())


@target_options
@click.command(
    epilog=_CODES,
    help="""Connect to the WebSocket server at URL.

    A URL without a scheme, such as localhost:8765, means ws://; one without a host, such as :8765, means
    localhost.

    In a terminal: type messages and watch those that arrive; /help lists the commands. In a pipe: each input
    line is sent as a message, and each message received becomes an output line. After the end of the input,
    the connection is closed once the server has nothing more to send. The exit code says how it ended.
    """,
)
@click.option(
    "-x", "--execute", "texts", multiple=True, metavar="TEXT",
    help="Send TEXT instead of reading input, print what arrives, and exit as in a pipe; may be repeated.",
)
@click.option("--persist", is_flag=True, help="Reconnect whenever the connection is lost.")
@click.option("--json", is_flag=True, help="Send only valid JSON; in a pipe, print every event as JSON.")
@click.option(
    "--timestamps/--no-timestamps", default=None,
    help="Start each line with the time, to the millisecond. By default, a terminal shows whole seconds.",
)
@click.option(
    "--binary", type=click.Choice(NOTATIONS),
    help="Send binary messages: each line is Base64, hexadecimal or a file name; so is each one received.",
)
@click.option(
    "--wait", type=Seconds(), default=0.5, show_default=True, metavar="SECONDS",
    help="In a pipe: exit once no message has arrived for this long after the end of the input; 'inf' stays "
    "until the server closes.",
)
@click.option(
    "-n", "--count", type=click.IntRange(1), metavar="N",
    help="In a pipe: close after N messages have arrived.",
)
@click.option(
    "--ping-rate", type=Seconds(), default=30.0, show_default=True, metavar="SECONDS",
    help="Seconds between pings; 0 sends none.",
)
@click.option(
    "--record", type=click.Path(), metavar="FILE",
    help="Record everything, for `lochws replay` and `lochws serve`.",
)
@click.option("--no-history", is_flag=True, help="In a terminal: do not save the input history to a file.")
def connect(
    *, texts: tuple[str, ...], persist: bool, json: bool, timestamps: bool | None, binary: str | None,
    wait: float, count: int | None, ping_rate: float, record: str | None, no_history: bool, **options: Any,
) -> Exit:
    """Connect to the server, and run the terminal or the pipe."""
    if not (is_open(0) and is_open(1)):
        # A socket would be given the free descriptor number, and be read or written in its place.
        raise Failed("standard input or output is closed: use < /dev/null or > /dev/null")
    target = Target.taken_from(options)
    payloads = Payloads(binary, checks_json=json)
    timing: dict[str, Any] = {"persist": persist, "ping_rate": limit(ping_rate)}
    if not texts and is_terminal(0) and is_terminal(1):
        from .screen import DEPTHS  # noqa: PLC0415  prompt_toolkit is large, and not needed in pipes
        from .terminal import Terminal  # noqa: PLC0415

        app = target.app(logs=False)
        session: Terminal | Pipe = Terminal(
            app, payloads, json=json, history=not no_history, timestamps=timestamps, quiet=is_quiet(),
            depth=DEPTHS[forced_color()],
        )
    else:
        # Room for the longest line and for those that arrive with it.
        app = target.app(when_full="block", send_timeout=None, max_queue=QUEUE + MAX_LINE)
        session = Pipe(
            app, texts or 0, 1, payloads, json=json, is_shown=is_terminal(1), colors=has_color(),
            timestamps=bool(timestamps), wait=None if math.isinf(wait) else wait, count=count,
            patience=limit(target.timeout),
        )
        if persist and not (is_quiet() or is_logged()):
            states = States(colors=has_color(err=True), timestamps=bool(timestamps))
            app.add_handler(states.as_handler())
            set_logged()
    if record is None:
        return session.run(**timing)
    # A slow disk slows the server down, as does a slow reader of the output.
    with checked(lambda: Recorder(record, when_full="pause")) as recorder:
        app.add_handler(recorder)
        code = session.run(**timing)
    if recorder.missing:
        raise Failed(f"{recorder.missing:,} events and sends are missing from the recording")
    return code

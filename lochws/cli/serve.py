"""`lochws serve`: an echo server, a ticker or a recording, for trying out clients."""

from __future__ import annotations

import logging
import ssl
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from time import monotonic, sleep

import click
from click.shell_completion import CompletionItem

from ..demo import Feed
from ..handlers.replay import RecordingError, Replay
from ..testing import Authority, ScriptedServer, ServerConnection, Step, accept, close, echo
from ..text import cut, escaped
from .exits import Exit, Failed
from .output import is_quiet, output_options
from .target import Seconds, limit

logger = logging.getLogger("lochws.cli")
#: The number of characters shown of a client's path, or of its reason to close.
MAX_SHOWN = 200
#: The code of a Close frame without a code (RFC 6455 section 7.1.5).
NO_CODE = 1005


def _complete(ctx: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return a shell's completions for WHAT: its keywords, and file names."""
    words = [CompletionItem(word) for word in ("echo", "ticker") if word.startswith(begun)]
    return [*words, CompletionItem(begun, type="file")]


@output_options
@click.command(
    help="""Serve WebSockets until Ctrl-C. WHAT is 'echo', 'ticker', or the file of a recording.

    A recording (made with `lochws connect --record`) is played to every client: the server's messages, at the
    original speed. The first line of the output is the URL; with -v, stderr shows who connects and leaves.
    """,
)
@click.argument("what", default="echo", shell_complete=_complete)
@click.option(
    "--host", metavar="HOST", default="127.0.0.1", show_default=True, help="The address to listen on."
)
@click.option(
    "--port", type=click.IntRange(0, 65535), metavar="PORT", default=8765, show_default=True,
    help="The port; 0 picks a free one.",
)
@click.option("--tls", is_flag=True, help="Serve wss:// with a certificate from a throw-away authority.")
@click.option(
    "--cert", type=click.Path(path_type=Path), metavar="FILE", help="Serve wss:// with this certificate."
)
@click.option(
    "--key", type=click.Path(path_type=Path), metavar="FILE", help="Its key, if in a separate file."
)
@click.option(
    "--interval", type=Seconds(), default=1.0, show_default=True, metavar="SECONDS",
    help="Ticker: seconds between two prices.",
)
@click.option(
    "--speed", type=Seconds(), default=1.0, show_default=True, metavar="FACTOR",
    help="Recording: 2 is twice as fast, 0 is without pauses.",
)
def serve(
    *, what: str, host: str, port: int, tls: bool, cert: Path | None, key: Path | None, interval: float,
    speed: float,
) -> Exit:
    """Serve until Ctrl-C."""
    script = _script(what, interval, speed)
    with ExitStack() as stack:
        context = None
        if cert is not None:
            context = _server_context(cert, key)
        elif key is not None:
            raise Failed("--key needs --cert", Exit.USAGE)
        elif tls:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lochws-")))
            authority = Authority(lambda: folder, host)
            context = authority.server_tls
            if not is_quiet():
                click.echo(f"certificate for --cafile: {authority.ca_file}", err=True)
        try:
            server = ScriptedServer(script, host=host, port=port, tls=context, history=False)
        except OSError as error:
            # Python 3.13 appends the address, which this message already contains.
            why = (error.strerror or str(error)).partition(" (while attempting")[0]
            raise Failed(f"cannot listen on {host} port {port}: {why}") from error
        with server:
            click.echo(server.url)
            while True:
                sleep(3600)  # Ctrl-C interrupts this on every system


def _script(what: str, interval: float, speed: float) -> Sequence[Step]:
    """Return the script for each connection."""
    return [accept(deflate=True, strict=True), _Guest(_answer(what, interval, speed))]


def _answer(what: str, interval: float, speed: float) -> Sequence[Step]:
    """Return the steps that follow an upgrade."""
    if what == "echo":
        return [echo()]
    if what == "ticker":
        if limit(interval) is None:
            raise Failed("--interval: expected a number above 0", Exit.USAGE)
        return [Feed(interval, waits=False)]
    try:
        replay = Replay(what)
        next(replay.messages(), None)  # reports a damaged recording now, not when the first client connects
    except FileNotFoundError:
        sentence = f"no such recording: {what}; expected 'echo', 'ticker', or the file of a recording"
        raise Failed(sentence, Exit.USAGE) from None
    except RecordingError as error:
        raise Failed(str(error)) from error
    except OSError as error:
        raise Failed(f"cannot read {what}: {error.strerror or error}") from error
    return [_player(replay, limit(speed)), close()]


class _Guest:
    """A step that runs other steps for a client until it disconnects, and logs its arrival and departure.

    Args:
        steps: the other steps.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = steps

    def __call__(self, connection: ServerConnection) -> None:
        """Run the steps, on the connection's thread."""
        self._log(connection, f"from {connection.link.peer}, to {connection.request.target}")
        try:
            for step in self._steps:
                step(connection)
            connection.stay()
        finally:
            self._log(connection, self._farewell(connection))

    def _farewell(self, connection: ServerConnection) -> str:
        if connection.close_frame is None:
            return "lost, without a Close frame"
        code, reason = connection.close_frame
        with_code = "" if code == NO_CODE else f" with code {code}"
        return f"closed{with_code}{f': {reason}' if reason else ''}"

    def _log(self, connection: ServerConnection, what: str) -> None:
        logger.info("connection %d: %s", connection.number, escaped(cut(what, MAX_SHOWN)))


def _player(replay: Replay, speed: float | None) -> Step:
    """Return a step that plays a recording at its pace times `speed`, or without pauses if that is None."""

    def play(connection: ServerConnection) -> None:
        began = monotonic()
        for at, message in replay.messages():
            while speed is not None and (left := began + at / speed - monotonic()) > 0:
                connection.receive(left)  # messages from the client are ignored
            connection.send(message)

    return play


def _server_context(certfile: Path, keyfile: Path | None) -> ssl.SSLContext:
    """Create a server's TLS context with this certificate.

    Raises:
        Failed: a file cannot be read, or has no certificate or key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certfile, keyfile)
    except OSError as error:  # ssl.SSLError is one
        raise Failed(f"{certfile}: {error.strerror or error}", Exit.USAGE) from error
    return context

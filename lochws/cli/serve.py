"""`lochws serve`: a server to try clients on."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from ..handlers._parts.recording_files import RecordingError
from ..handlers.replay import Replay
from . import servers
from .exits import Exit, Failed
from .target import Seconds, limit, verbosity

#: The largest message that is taken, in bytes.
MAX_SIZE = 64 * 1024 * 1024


@click.command(
    help="""Serve WebSockets until Ctrl-C: WHAT is 'echo', 'ticker', or the file of a recording.

    A recording (made with `lochws connect --record`) is played to each client: what its server had sent, at
    that pace. The URL is the first line of the output.
    """,
)
@click.argument("what", default="echo")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="The port; 0 for any."
)
@click.option("--tls", is_flag=True, help="Serve wss:// with a certificate for a day, made by openssl.")
@click.option("--cert", type=click.Path(path_type=Path), metavar="FILE", help="Serve wss:// with this one.")
@click.option("--key", type=click.Path(path_type=Path), metavar="FILE", help="Its key, if it is elsewhere.")
@click.option(
    "--interval", type=Seconds(), default=1.0, show_default=True, metavar="SECONDS",
    help="Between two prices of the ticker.",
)
@click.option(
    "--speed", type=Seconds(), default=1.0, show_default=True, metavar="FACTOR",
    help="Of a recording; 0 for no pauses.",
)
@verbosity
def serve(
    *, what: str, host: str, port: int, tls: bool, cert: Path | None, key: Path | None, interval: float,
    speed: float,
) -> Exit:
    """Serve until Ctrl-C."""
    from websockets.sync.server import serve as listen  # noqa: PLC0415  nothing else needs it

    with ExitStack() as stack:
        context = None
        if tls and cert is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lochws-")))
            cert = servers.throwaway_certificate(folder, host)
            key = folder / "key.pem"
            click.echo(f"certificate for --cafile: {cert}", err=True)
        if cert is not None:
            context = servers.server_context(cert, key)
        handler = _handler(what, interval, speed)
        try:
            server = listen(handler, host, port, ssl=context, max_size=MAX_SIZE)
        except OSError as error:
            # Python's text goes on with the address, which stands here already.
            why = (error.strerror or str(error)).partition(" (while attempting")[0]
            raise Failed(f"cannot listen on {host} port {port}: {why}") from error
        name = f"[{host}]" if ":" in host else host
        click.echo(f"{'ws' if context is None else 'wss'}://{name}:{server.socket.getsockname()[1]}/")
        try:
            server.serve_forever()
        finally:
            server.shutdown()
    return Exit.OK


def _handler(what: str, interval: float, speed: float) -> Any:
    if what == "echo":
        return servers.echo
    if what == "ticker":
        if limit(interval) is None:
            raise Failed("--interval: expected a number above 0", Exit.USAGE)
        return servers.ticker(interval)
    try:
        replay = Replay(what)
        next(replay.messages(), None)  # who plays it first should not be the one to learn that it cannot be
    except FileNotFoundError:
        sentence = f"there is no recording {what}: expected 'echo', 'ticker', or the file of a recording"
        raise Failed(sentence, Exit.USAGE) from None
    except RecordingError as error:
        raise Failed(str(error)) from error
    except OSError as error:
        raise Failed(f"cannot read {what}: {error.strerror or error}") from error
    return servers.recording(replay, limit(speed))

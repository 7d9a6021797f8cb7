"""Small servers to try clients on: an echo, a ticker, and a recording that is played."""

from __future__ import annotations

import json
import random
import ssl
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, TypeAlias

from ..handlers.replay import Replay
from .exits import Exit, Failed

if TYPE_CHECKING:
    from websockets.sync.server import ServerConnection

#: What a server does with a connection, on a thread of its own; it ends when the client does.
Serve: TypeAlias = "Callable[[ServerConnection], None]"


def echo(connection: ServerConnection) -> None:
    """Send back each message."""
    for message in connection:
        connection.send(message)


def ticker(interval: float) -> Serve:
    """Send a price every so many seconds; subscriptions are answered, for clients that wait for that."""

    def tick(connection: ServerConnection) -> None:
        def heed(message: str | bytes) -> None:
            if (answer := _subscribed(message)) is not None:
                connection.send(answer)

        price = 64_000.0
        over = _ended(connection, heed)
        while not over.wait(interval):
            price += random.uniform(-20, 20)
            connection.send(json.dumps({"type": "ticker", "price": round(price, 2)}))

    return tick


def recording(replay: Replay, speed: float | None) -> Serve:
    """Send what a recording's server has sent, at its pace times `speed` (None for at once), and close."""

    def play(connection: ServerConnection) -> None:
        over = _ended(connection)
        began = monotonic()
        for at, message in replay.messages():
            if speed is not None and over.wait(max(0.0, began + at / speed - monotonic())):
                return
            connection.send(message)

    return play


def throwaway_certificate(folder: Path, host: str) -> Path:
    """A certificate for loopback names and `host`, good for a day, and its key, in one file of a folder.

    Raises:
        Failed: the program `openssl`, which makes it, is not there or does not want to.
    """
    path = folder / "certificate.pem"
    key = folder / "key.pem"
    names = dict.fromkeys(["DNS:localhost", "IP:127.0.0.1", "IP:::1", _alternative(host)])
    command = [
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
        "-addext", f"subjectAltName={','.join(names)}", "-keyout", str(key), "-out", str(path),
    ]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    except FileNotFoundError:
        raise Failed("--tls needs the program openssl: install it, or give --cert and --key") from None
    except subprocess.SubprocessError as error:
        raise Failed(f"openssl made no certificate: {error}") from error
    return path


def server_context(certfile: Path, keyfile: Path | None) -> ssl.SSLContext:
    """A server's TLS context with that certificate.

    Raises:
        Failed: a file cannot be read, or has no certificate or key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certfile, keyfile)
    except OSError as error:  # ssl.SSLError is one
        raise Failed(f"{certfile}: {error.strerror or error}", Exit.USAGE) from error
    return context


def _subscribed(message: str | bytes) -> str | None:
    """The answer to a subscription, with its channels and its id if it has them; None to everything else."""
    try:
        asked = json.loads(message)
    except (ValueError, RecursionError):  # which is what JSON that is nested too deep raises
        return None
    if not isinstance(asked, dict) or asked.get("type") != "subscribe":
        return None
    repeated = {name: asked[name] for name in ("id", "channels") if name in asked}
    return json.dumps({"type": "subscribed", **repeated})


def _ended(
    connection: ServerConnection, heed: Callable[[str | bytes], object] = lambda _: None
) -> threading.Event:
    """Set once the connection has ended; `heed` gets what the client says meanwhile, on a thread for that."""
    from websockets.exceptions import ConnectionClosed  # noqa: PLC0415  of the extra, as the servers are

    over = threading.Event()

    def read() -> None:
        try:
            for message in connection:
                heed(message)
        except ConnectionClosed:
            pass  # without a Close frame, or while it was answered
        finally:
            over.set()

    threading.Thread(target=read, name="serve-reader", daemon=True).start()
    return over


def _alternative(host: str) -> str:
    is_address = ":" in host or host.replace(".", "").isdigit()
    return f"{'IP' if is_address else 'DNS'}:{host}"

"""A client to compare with: the threaded one of the websockets library."""

from __future__ import annotations

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect


def echo(url: str) -> None:
    """Echo until the server ends the connection."""
    with _open(url) as connection:
        try:
            for message in connection:
                connection.send(message)
        except ConnectionClosed:
            pass


def ask(url: str) -> str:
    """Return what the server says at `url`."""
    with _open(url) as connection:
        return "".join(str(message) for message in connection)


def _open(url: str) -> ClientConnection:
    return connect(url, proxy=None, max_size=None, ping_interval=None)

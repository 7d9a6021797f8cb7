"""A server made with `websockets` that acknowledges messages, and cuts connections at random."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve


class Record:
    """The messages that the server has seen.

    Args:
        cuts: whether it resets each connection after a random number of messages.
    """

    def __init__(self, *, cuts: bool) -> None:
        self._rng = random.Random(7)
        self._cuts = cuts
        self.ids: list[str] = []
        self.count = 0
        self.url = ""

    def handle(self, connection: ServerConnection) -> None:
        """Serve one connection."""
        left = self._rng.randrange(20, 2000) if self._cuts else -1
        try:
            for message in connection:
                fields: dict[str, Any] = json.loads(message)
                self.count += 1
                if "n" in fields:
                    self.ids.append(fields["n"])
                left -= 1
                if left == 0:
                    connection.socket.close()
                    return
                connection.send(json.dumps({"ack": fields["id"]}))
        except (ConnectionClosed, EOFError, OSError):
            return


@contextmanager
def recording(*, cuts: bool = False) -> Iterator[Record]:
    """Run a server, and give what it sees."""
    record = Record(cuts=cuts)
    with serve(record.handle, "127.0.0.1", 0, compression=None) as server:
        record.url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}/"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield record
        server.shutdown()
        thread.join()

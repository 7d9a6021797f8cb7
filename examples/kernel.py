"""Run lines of Python in a kernel of a Jupyter server: ``python kernel.py http://localhost:8888 TOKEN``.

Reads them from its input. Tested with jupyter_server 2.21 and ipykernel 7.4.
"""

import json
import struct
import sys
from itertools import accumulate, pairwise
from typing import Any
from urllib.request import Request, urlopen
from uuid import uuid4

from lochws import WebSocketApp, events
from lochws.handlers.replies import Replies, Reply


def pack(message: list[Any]) -> bytes:
    """Return a message as bytes: its channel, and then its header, parent header, metadata and content."""
    parts = [message[0].encode(), *(json.dumps(part).encode() for part in message[1:])]
    offsets = list(accumulate(map(len, parts), initial=8 * (len(parts) + 2)))
    return struct.pack(f"<{len(offsets) + 1}Q", len(offsets), *offsets) + b"".join(parts)


def unpack(event: events.Binary) -> list[Any]:
    offsets = struct.unpack_from(f"<{event.data[0]}Q", event.data, 8)
    channel, *parts = (event.data[start:end] for start, end in pairwise(offsets))
    return [channel.decode(), *map(json.loads, parts[:4])]


class Kernel(WebSocketApp):
    """A connection to a kernel. Any thread may run code, whose output is printed."""

    def __init__(self, server: str, token: str) -> None:
        self.server, self.headers = server, {"Authorization": f"token {token}"}
        super().__init__(self.find, headers=self.headers, protocols=["v1.kernel.websocket.jupyter.org"])
        self.replies = Replies(self, lambda m: (m[0], (m[2] or m[1])["msg_id"]), encode=pack, decode=unpack)

    def find(self) -> str:
        """Return the URL of our kernel. Called for each attempt: a new server starts a new kernel."""
        session = {"path": "example", "name": "example", "type": "console", "kernel": {"name": "python3"}}
        request = Request(f"{self.server}/api/sessions", json.dumps(session).encode(), self.headers)
        with urlopen(request, timeout=30) as response:
            return f"ws{self.server[4:]}/api/kernels/{json.load(response)['kernel']['id']}/channels"

    def run(self, code: str) -> Reply[Any]:
        header = {"msg_id": uuid4().hex, "msg_type": "execute_request", "session": "", "version": "5.3"}
        return self.replies.request(["shell", header, {}, {}, {"code": code}])

    def on_binary(self, event: events.Binary) -> None:
        match unpack(event):
            case ["iopub", _, _, _, {"text": text} | {"data": {"text/plain": text}} | {"evalue": text}]:
                print(text.rstrip(), flush=True)


if __name__ == "__main__":
    with Kernel(*sys.argv[1:]) as kernel:
        for line in sys.stdin:
            kernel.wait_ready()
            kernel.run(line).exception()  # waits, even if the connection is lost

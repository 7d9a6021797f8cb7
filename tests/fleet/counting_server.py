"""A server for many connections, in a process of its own, which notes who owns which source.

``python -m tests.fleet.counting_server`` prints its port. Each line of its input is answered by a line of
JSON: what it has seen since the line before. Its connections are those of `websockets`, without keepalive.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from collections import Counter
from time import monotonic

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed


class State:
    """The connections by source and process."""

    def __init__(self) -> None:
        self.open: dict[str, Counter[int]] = {}
        self.by_pid: Counter[int] = Counter()
        self.latest: dict[str, int] = {}  # the process that connected last, by source
        self.forget()

    def forget(self) -> None:
        """Begin to count anew."""
        self.stale_messages = 0  # from a process after another one has connected
        self.together = 0  # connections that were opened while another process had one
        self.gaps: list[float] = []
        self.messages = 0

    async def handle(self, connection: ServerConnection) -> None:
        """Serve a connection."""
        assert connection.request is not None
        source, _, number = connection.request.path.partition("?pid=")
        pid = int(number)
        mine = self.open.setdefault(source, Counter())
        self.together += any(count > 0 for other, count in mine.items() if other != pid)
        if source in left:
            self.gaps.append(monotonic() - left.pop(source))
        mine[pid] += 1
        self.by_pid[pid] += 1
        self.latest[source] = pid
        try:
            async for _ in connection:
                self.messages += 1
                self.stale_messages += self.latest[source] != pid
        except ConnectionClosed:
            pass
        finally:
            mine[pid] -= 1
            self.by_pid[pid] -= 1
            if not any(mine.values()):
                left[source] = monotonic()


left: dict[str, float] = {}


async def main() -> None:
    """Serve until the input ends."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    state = State()
    async with serve(
        state.handle, "0.0.0.0", 0, compression=None, ping_interval=None, backlog=4096, max_queue=None
    ) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            connected = {
                source: sum(count > 0 for count in each.values()) for source, each in state.open.items()
            }
            print(json.dumps({
                "open": sum(state.by_pid.values()),
                "sources": sum(count > 0 for count in connected.values()),
                "twice": sum(count > 1 for count in connected.values()),
                "by_pid": {pid: count for pid, count in state.by_pid.items() if count},
                "together": state.together, "messages": state.messages,
                "stale_messages": state.stale_messages,
                "longest_gap": max(state.gaps, default=0.0),
            }), flush=True)
            state.forget()


if __name__ == "__main__":
    asyncio.run(main())

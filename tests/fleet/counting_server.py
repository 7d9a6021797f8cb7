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
        self.left: dict[str, tuple[float, int]] = {}  # when the last connection of a source ended, and whose
        self.connected = self.twice = 0  # sources with a connection, and with those of two processes
        self.forget()

    def forget(self) -> None:
        """Begin to count anew."""
        self.stale_messages = 0  # from a process after another one has connected
        self.together = 0  # connections that were opened while another process had one
        self.gaps: list[float] = []
        self.handed_over: list[float] = []  # the gaps after which another process connected
        self.messages = 0

    def _count(self, source: str, pid: int, change: int) -> None:
        mine = self.open.setdefault(source, Counter())
        before = len(mine)
        mine[pid] += change
        if not mine[pid]:
            del mine[pid]
        self.by_pid[pid] += change
        self.connected += bool(mine) - bool(before)
        self.twice += (len(mine) > 1) - (before > 1)

    async def handle(self, connection: ServerConnection) -> None:
        """Serve a connection."""
        assert connection.request is not None
        source, _, number = connection.request.path.partition("?pid=")
        pid = int(number)
        self.together += bool(self.open.get(source, Counter()).keys() - {pid})
        if source in self.left:
            since, other = self.left.pop(source)
            self.gaps.append(monotonic() - since)
            if other != pid:
                self.handed_over.append(self.gaps[-1])
        self._count(source, pid, 1)
        self.latest[source] = pid
        try:
            async for _ in connection:
                self.messages += 1
                self.stale_messages += self.latest[source] != pid
        except ConnectionClosed:
            pass
        finally:
            self._count(source, pid, -1)
            if not self.open[source]:
                self.left[source] = monotonic(), pid


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
            print(json.dumps({
                "open": sum(state.by_pid.values()), "sources": state.connected, "twice": state.twice,
                "by_pid": {pid: count for pid, count in state.by_pid.items() if count},
                "together": state.together, "messages": state.messages,
                "stale_messages": state.stale_messages,
                "longest_gap": max(state.gaps, default=0.0),
                "shortest_handover": min(state.handed_over, default=None),
            }), flush=True)
            state.forget()


if __name__ == "__main__":
    asyncio.run(main())

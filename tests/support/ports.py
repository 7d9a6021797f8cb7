"""Ports for servers that start later or again, and ports where no server listens."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

#: Linux gives ports from this range to sockets that do not ask for one.
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST, _HIGHEST = 20_000, 32_767


def free_ports(count: int) -> list[int]:
    """Return free ports, for loopback and all other addresses.

    The system does not give them to a socket unless it asks for them, so they stay free until they are used,
    however many servers and clients start meanwhile.
    """
    first = int(_RANGE.read_text(encoding="ascii").split()[0]) if _RANGE.exists() else _HIGHEST + 1
    own = range(_LOWEST, min(first, _HIGHEST + 1))
    ports: list[int] = []
    held: list[socket.socket] = []
    try:
        while len(ports) < count:
            port = random.SystemRandom().choice(own) if len(own) > 1000 else 0
            try:
                held.append(socket.create_server(("", port)))
            except OSError:
                continue  # it is in use
            ports.append(held[-1].getsockname()[1])
    finally:
        for listener in held:
            listener.close()
    return ports


def free_port() -> int:
    """Return a free port; see `free_ports`."""
    return free_ports(1)[0]


@contextmanager
def silent_port() -> Iterator[int]:
    """Yield a port that does not answer at any address 127.x.y.z, because its backlog is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("0.0.0.0", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        yield port

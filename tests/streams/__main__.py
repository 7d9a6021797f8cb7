"""Evidence for docs/streams.md: `python -m tests.streams [MIB [MIB_PER_SECOND [in | out]]]`.

The message has 2,048 MiB at 64 MiB/s unless told otherwise, and goes in both directions.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from .incoming import SENDERS, receive
from .outgoing import RECEIVERS, send

MIB = 1024 * 1024


def incoming(size: int, rate: int) -> Iterator[bool]:
    """Receive from each server, in a handler and in a thread, and yield whether it was good."""
    for server in SENDERS:
        for in_thread in (False, True):
            got = receive(server, size, rate, in_thread=in_thread)
            where = "in a thread" if in_thread else "in the handler"
            say(
                f"in, {server}, {where}: {got.seconds:.0f} s, memory +{got.memory / MIB:.1f} MiB; "
                f"pongs took at most {1000 * got.pong:.0f} ms to the server, "
                f"{1000 * got.latency:.0f} ms to us"
            )
            yield got.memory < 40 * MIB and got.pong < 0.2


def outgoing(size: int, rate: int) -> Iterator[bool]:
    """Send to each server, and yield whether it was good."""
    for server in RECEIVERS:
        sent = send(server, size, rate)
        say(
            f"out, {server}: {sent.seconds:.0f} s, memory +{sent.memory / MIB:.1f} MiB; "
            f"pongs took at most {1000 * sent.pong:.0f} ms to the server"
        )
        yield sent.memory < 40 * MIB and sent.pong < 0.2


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(size: str = "2048", rate: str = "64", direction: str = "both") -> None:
    """Run what was asked for."""
    verdicts: list[bool] = []
    for name, run in (("in", incoming), ("out", outgoing)):
        if direction in (name, "both"):
            verdicts.extend(run(int(size) * MIB, int(rate) * MIB))
    sys.exit(not all(verdicts))


main(*sys.argv[1:])

"""Evidence for docs/streams.md: `python -m tests.streams [MIB [MIB_PER_SECOND]]`, 2,048 at 64 by default."""

from __future__ import annotations

import sys

from .incoming import SENDERS, receive

MIB = 1024 * 1024


def main(size: str = "2048", rate: str = "64") -> None:
    is_good = True
    for server in SENDERS:
        for in_thread in (False, True):
            got = receive(server, int(size) * MIB, int(rate) * MIB, in_thread=in_thread)
            where = "in a thread" if in_thread else "in the handler"
            sys.stdout.write(
                f"in, {server}, {where}: {got.seconds:.0f} s, memory +{got.memory / MIB:.1f} MiB; "
                f"pongs took at most {1000 * got.pong:.0f} ms to the server, "
                f"{1000 * got.latency:.0f} ms to us\n"
            )
            sys.stdout.flush()
            is_good = is_good and got.memory < 40 * MIB and got.pong < 0.2
    sys.exit(not is_good)


main(*sys.argv[1:])

"""An echo server in a process of its own, where nobody interrupts it: prints its URL, ends with its stdin."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from ..support.apps import echo
from ..support.peer import Link, Peer


def patient_echo(link: Link) -> None:
    """Echo until the client has gone, however it goes."""
    with suppress(OSError, EOFError, AssertionError):
        echo(link)


if __name__ == "__main__":
    peer = Peer(patient_echo)
    print(peer.url, flush=True)  # noqa: T201  for whoever has started this
    sys.stdin.read()
    os._exit(0)  # whatever its threads are doing

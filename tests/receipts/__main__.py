"""Evidence for docs/receipts.md: `python -m tests.receipts` cuts the link at every byte of a conversation.

It does so in both directions, by FIN and by RST, with three servers, directly and behind nginx and haproxy.
"""

from __future__ import annotations

import sys
from collections import Counter
from time import monotonic

from ..peers.programs import Programs
from .conversation import converse
from .servers import SERVERS, Record

PROXIES = {
    "nginx": (["nginx", "-p", "$work", "-c", "$config"], "receipts_nginx.conf"),
    "haproxy": (["haproxy", "-db", "-f", "$config"], "receipts_haproxy.cfg"),
}


def cut_everywhere(record: Record, port: int) -> tuple[int, Counter[str]]:
    """Return how many conversations there were, and how many receipts ended in each state."""
    whole = converse(record, port)
    assert set(whole.states) == {"confirmed"}, whole
    count, states = 1, whole.states
    for is_reset in (False, True):
        for upstream in range(whole.relayed[0] + 1):
            states += converse(record, port, upstream=upstream, is_reset=is_reset).states
            count += 1
        for downstream in range(whole.relayed[1] + 1):
            states += converse(record, port, downstream=downstream, is_reset=is_reset).states
            count += 1
    return count, states


def main() -> None:
    with Programs() as programs:
        for name, serve in SERVERS.items():
            record = Record()
            with serve(record) as port:
                for between in ("nothing", *PROXIES):
                    began, target = monotonic(), port
                    if between in PROXIES:
                        command, config = PROXIES[between]
                        [target] = programs.start(command, config=config, target=port)
                    count, states = cut_everywhere(record, target)
                    shown = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
                    sys.stdout.write(
                        f"{name} behind {between}: {count} conversations, {shown}; "
                        f"{monotonic() - began:.0f} s\n"
                    )
                    sys.stdout.flush()


main()

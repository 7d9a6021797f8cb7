"""Evidence for docs/receipts.md: `python -m tests.receipts` cuts the link at every byte of a conversation.

It does so in both directions, by FIN and by RST, with three servers, directly and behind nginx and haproxy;
with ``--tls``, directly and at every byte of TLS.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from time import monotonic

from ..peers.programs import Programs
from .conversation import converse
from .servers import PROXIES, SERVERS, Certificate, Record, certificate


def cut_everywhere(record: Record, port: int, tls: Certificate | None, step: int) -> tuple[int, Counter[str]]:
    """Return how many conversations there were, and how many receipts ended in each state."""
    whole = converse(record, port, tls=tls)
    assert set(whole.states) == {"confirmed"}, whole
    count, states = 1, whole.states
    for is_reset in (False, True):
        for upstream in range(0, whole.relayed[0] + 1, step):
            states += converse(record, port, upstream=upstream, is_reset=is_reset, tls=tls).states
            count += 1
        for downstream in range(0, whole.relayed[1] + 1, step):
            states += converse(
                record, port, downstream=downstream, is_reset=is_reset, tls=tls
            ).states
            count += 1
    return count, states


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tls", action="store_true", help="over TLS, directly")
    parser.add_argument("--step", type=int, default=1, help="cut at every so many bytes (1)")
    options = parser.parse_args()
    with Programs() as programs, certificate() as made:
        tls = made if options.tls else None
        for name, serve in SERVERS.items():
            record = Record()
            with serve(record, tls) as port:
                for between in ("nothing", *(PROXIES if tls is None else ())):
                    began, target = monotonic(), port
                    if between in PROXIES:
                        command, config = PROXIES[between]
                        [target] = programs.start(command, config=config, target=port)
                    count, states = cut_everywhere(record, target, tls, options.step)
                    shown = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
                    sys.stdout.write(
                        f"{name} behind {between}: {count} conversations, {shown}; "
                        f"{monotonic() - began:.0f} s\n"
                    )
                    sys.stdout.flush()


main()

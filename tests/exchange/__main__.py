"""Evidence for docs/sequences.md: `python -m tests.exchange` plays more examples than the test, and kills.

The program of the page keeps the books of an exchange that drops, duplicates, reorders and merges messages,
cuts connections, and answers with errors or with old books. Then programs are killed while they save numbers.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections import Counter
from pathlib import Path
from time import monotonic

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .exchange import Exchange
from .kills import kill_many
from .play import Step, play, steps


def play_many(count: int, *, ranges: bool, patience: float) -> Counter[str]:
    """Play examples with other faults each, and return what happened."""
    found: Counter[str] = Counter()

    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(seed=st.integers(0, 1000), drawn=st.lists(steps(), min_size=1, max_size=12))
    def run(seed: int, drawn: list[Step]) -> None:
        found.update(play(exchange, seed, drawn, ranges=ranges, patience=patience))

    with Exchange(ranges=ranges) as exchange:
        run()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=500, help="examples of each of the four kinds (500)")
    parser.add_argument("--kills", type=int, default=100, help="programs that are killed (100)")
    options = parser.parse_args()
    logging.getLogger("lochws").propagate = False
    logging.getLogger("lochws").addHandler(logging.NullHandler())
    total: Counter[str] = Counter()
    for ranges in (True, False):
        for patience in (0.0, 0.01) if options.examples else ():
            began = monotonic()
            found = play_many(options.examples, ranges=ranges, patience=patience)
            total += found
            sys.stdout.write(
                f"{'ranges' if ranges else 'numbers'}, {patience=}: {found['examples']} examples, "
                f"{found['messages']} messages, {monotonic() - began:.0f} s\n"
            )
            sys.stdout.flush()
    for name, count in sorted(total.items()):
        sys.stdout.write(f"  {name}: {count}\n")
    if options.kills:
        with tempfile.TemporaryDirectory() as folder:
            for line in kill_many(Path(folder), options.kills):
                sys.stdout.write(f"{line}\n")


main()

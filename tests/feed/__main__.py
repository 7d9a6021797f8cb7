"""Evidence for feeds: ``python -m tests.feed [CUTS] [KIND COPIES]`` prints one JSON object per kind of cut.

Without a kind, every kind has its turn, CUTS times each (default 100). The exit code is 1 if a message was
missing, twice or out of order where it may not be: at announced ends, and with two copies at any single one.
Behind a link with delay and loss::

    python -m tests.support.delayed_link --delay-ms 80 --loss 0.01 -- python -m tests.feed 20
"""

from __future__ import annotations

import sys

from .cuts import every_kind, run


def main(arguments: list[str]) -> int:
    """Run the kinds that were asked for."""
    cuts = int(arguments[0]) if arguments else 100
    kinds = [(arguments[1], int(arguments[2]))] if len(arguments) == 3 else list(every_kind())
    has_failed = False
    for kind, copies in kinds:
        outcome = run(kind, copies, cuts)
        sys.stdout.write(f"{outcome.as_json()}\n")
        sys.stdout.flush()
        if (kind, copies) in set(every_kind()):
            has_failed = has_failed or bool(outcome.missing or outcome.duplicates or outcome.backwards)
    return int(has_failed)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

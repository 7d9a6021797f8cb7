"""One target without guidance: ``python -m tests.fuzz.blind TARGET SECONDS FILE``.

Under AddressSanitizer the runtime takes the counters that guide libFuzzer. So the inputs are those of the
corpus, which was found with guidance, and random changes of them.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from random import Random
from time import monotonic

from .campaign import CORPUS

CHANGES = 6


def main() -> None:
    """Try inputs until the time is over. The seed is fixed; how far it gets is not.

    FILE has the input being tried, and is there afterwards only if that failed.
    """
    name, seconds, file = sys.argv[1], float(sys.argv[2]), Path(sys.argv[3])
    target = importlib.import_module(f"{__package__}.targets.{name}")
    corpus = [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]
    random = Random(name)
    count, end = 0, monotonic() + seconds
    while monotonic() < end:
        data = corpus[count] if count < len(corpus) else changed(random, corpus, target.TOKENS)
        # Written first: when a sanitizer stops the process there is no later.
        file.write_bytes(data)
        target.TestOneInput(data)
        count += 1
    file.unlink()
    print(f"Done {count} runs")


def changed(random: Random, corpus: list[bytes], tokens: list[bytes]) -> bytes:
    """One input of the corpus with a few random changes."""
    data = bytearray(random.choice(corpus))
    for _ in range(random.randint(1, CHANGES)):
        at, to = sorted((random.randint(0, len(data)), random.randint(0, len(data))))
        change = random.randrange(6)
        if change == 0 and data:
            data[min(at, len(data) - 1)] ^= 1 << random.randrange(8)
        elif change == 1:
            data[at:at] = random.randbytes(random.randint(1, 9))
        elif change == 2:
            del data[at : min(to, at + random.randint(1, 40))]
        elif change == 3:
            data[at:at] = data[at : min(to, at + 200)]
        elif change == 4:
            data[at:at] = random.choice(tokens)
        else:
            data[at:] = random.choice(corpus)[at:]
    return bytes(data)


if __name__ == "__main__":
    main()

"""The cost of recording an event: ``python -m benchmarks.recording``.

Text messages of 128 hexadecimal digits go to a `Recorder` as fast as a handler gets them, by the thousand,
with a pause for its writing thread in between. What is told is processor time, of the handlers' thread, which
a message waits for, and of the writing thread: the least of many rounds, since others use the machine too.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import process_time, thread_time

from lochws import events
from lochws.handlers.recorder import Recorder

SIZE = 128
EVENTS = 1000
ROUNDS = 100


def cost(recorder: Recorder, leave: Callable[[Recorder], None]) -> tuple[float, float]:
    """Microseconds an event: the handlers' thread's, and the writer's."""
    mine, others = [], []
    for _ in range(ROUNDS):
        began, began_all = thread_time(), process_time()
        leave(recorder)
        mine.append(thread_time() - began)
        recorder.flush()
        others.append(process_time() - began_all - mine[-1])
    return min(mine) / EVENTS * 1e6, min(others) / EVENTS * 1e6


def received(recorder: Recorder) -> None:
    """Events, as the reader gives them to the handler; making them is the reader's own cost."""
    on_event = recorder.on_event
    for event in _TEXTS:
        on_event(event)


def sent(batch: tuple[str, ...], recorder: Recorder) -> None:
    """Yield messages as they are sent, that many at a time."""
    for _ in range(EVENTS // len(batch)):
        recorder.on_sent(batch)


def _text(number: int) -> str:
    return "".join(random.Random(number).choices("0123456789abcdef", k=SIZE))


_TEXTS = [events.Text(_text(number)) for number in range(EVENTS)]
_WAYS: dict[str, Callable[[Recorder], None]] = {
    "received": received,
    "sent one by one": partial(sent, (_text(1),)),
    "sent by 100": partial(sent, tuple(map(_text, range(100)))),
}


def main() -> None:
    """Measure, and print."""
    print(f"microseconds of processor time an event, text of {SIZE} bytes\n")
    print(f"{'':24}{'handlers thread':>16}{'writer':>10}{'bytes':>10}")
    for name in ("talk.jsonl", "talk.jsonl.gz"):
        for way, leave in _WAYS.items():
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / name
                with Recorder(path) as recorder:
                    mine, others = cost(recorder, leave)
                assert recorder.missing == 0
                size = path.stat().st_size / EVENTS / ROUNDS
            what = f"{way}, {'gzip' if name.endswith('.gz') else 'plain'}"
            print(f"{what:24}{mine:16.2f}{others:10.2f}{size:10.1f}")


if __name__ == "__main__":
    main()

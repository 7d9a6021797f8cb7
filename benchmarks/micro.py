"""Micro-benchmarks of parts of lochws, without sockets: ``python -m benchmarks.micro``.

Needs pyperf, whose options it takes: ``--fast``, ``-o FILE``, ``--compare-to PYTHON``. What is timed is
one call for a whole buffer; divide by the number of messages in its name.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import pyperf

from lochws import events
from lochws.dispatch.registry import Registry
from lochws.options import Deflate
from lochws.protocol import frames, masking, scanning
from lochws.protocol.deflate import DeflateParameters, Deflater, Inflater
from lochws.protocol.receiver import Receiver

from .wire import encoded, first_byte, frame
from .works import WORKS

_BUFFER_BYTES = 64 * 1024
_LIMIT = 64 << 20
_KEY = b"\x12\x34\x56\x78"


class _Counter:
    def __init__(self) -> None:
        self.count = 0

    def on_text(self, event: events.Text) -> None:
        self.count += 1


def _ignore(_: object) -> None:
    """Neither failures nor unhandled events come up here."""


def parsing() -> dict[str, Callable[[], object]]:
    """Receiver, and both twins of the scanner, on a buffer full of text messages."""
    found: dict[str, Callable[[], object]] = {}
    for size in (16, 128, 1024):
        message = "a" * size
        one = frame(first_byte(message), encoded(message))
        count = _BUFFER_BYTES // len(one)
        data = memoryview(one * count)
        found[f"receive {count} texts of {size} B"] = partial(Receiver(_LIMIT).receive, data)
        found[f"scan in Python {count} texts of {size} B"] = partial(_scan, data)
    return found


def _scan(data: memoryview) -> None:
    scanning.scan_python(data, 0, _LIMIT, [])


def framing_and_masking() -> dict[str, Callable[[], object]]:
    """Whole frames, and the masks that are there, of small and large payloads."""
    found: dict[str, Callable[[], object]] = {}
    masks = {"Python": masking.mask_python}
    if find_spec("wsaccel") is not None:
        masks["wsaccel"] = masking.mask_wsaccel
    for size in (16, 128, 1024, 65536):
        payload = random.Random(size).randbytes(size)
        found[f"frame of {size} B"] = partial(frames.build_frame, 0x82, payload, _KEY)
        found[f"frame in Python of {size} B"] = partial(frames.build_frame_python, 0x82, payload, _KEY)
        for name, mask in masks.items():
            found[f"mask by {name} of {size} B"] = partial(mask, payload, _KEY)
    return found


def deflating() -> dict[str, Callable[[], object]]:
    """JSON of 1 KiB, with context takeover."""
    data = [encoded(message) for message in WORKS["receive deflated 1024"].messages()]
    deflater, inflater = Deflater(DeflateParameters(), Deflate()), Inflater(DeflateParameters())
    # Inflating them all again is sound: a context that began afresh refers to nothing before it.
    deflated = [deflater.compress(part) for part in data]

    def deflate_all() -> None:
        for part in data:
            deflater.compress(part)

    def inflate_all() -> None:
        for part in deflated:
            inflater.inflate(part, _LIMIT)
            inflater.finish(_LIMIT)

    return {f"deflate {len(data)} of 1 KiB": deflate_all, f"inflate {len(data)} of 1 KiB": inflate_all}


def dispatching() -> dict[str, Callable[[], object]]:
    """Dispatch a list of events to a handler's method."""
    registry = Registry(_ignore)
    registry.add_object(_Counter())
    texts: list[events.Event] = [events.Text("a") for _ in range(500)]
    return {"dispatch 500 events": partial(registry.dispatch_all, texts)}


def main() -> None:
    """Run all, each in processes of its own, as pyperf does."""
    runner = pyperf.Runner(program_args=("-m", "benchmarks.micro"))
    for group in (parsing, framing_and_masking, deflating, dispatching):
        for name, function in group().items():
            runner.bench_func(name, function)


if __name__ == "__main__":
    main()

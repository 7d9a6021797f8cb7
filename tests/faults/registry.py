"""The faults that have to be tested, the marker that says which test does, and the page about them.

A test of a fault carries ``@fault(group, name, does="what lochws does")``; for one case of a parametrized
test that is ``pytest.param(…, marks=fault(…))``. Several tests may share a fault: one of them says what
lochws does, the others leave it out. `python -m tests.faults` runs them all and writes docs/faults.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"

#: Every fault, by group and in order. The names are the headings of the page.
FAULTS: Mapping[str, tuple[str, ...]] = {
    "opening": (
        "DNS failing for long",
        "DNS hanging",
        "refusal 5,000 times",
        "SYN unanswered",
        "dead IPv6",
        "silence after accept",
        "TLS stalled",
        "bad certificates",
        "non-HTTP banner",
        "502/503",
        "401 with a new token next time",
        "429 with Retry-After",
        "non-101 with the socket left open",
        "wrong Accept",
        "unrequested subprotocol or extension",
        "malformed Set-Cookie",
        "endless headers",
        "proxy refusal and stall",
        "101 and frames in one packet",
        "101 split byte by byte",
    ),
    "open": (
        "reset inside a frame",
        "FIN without Close (1006)",
        "server Close 1000/1001 (answered once, reconnected)",
        "bad close codes",
        "silent loss both ways and inbound only",
        "late pongs while data flows",
        "a server ping while a handler sleeps long",
        "suspend (monotonic and wall clock apart) with a probe at once",
        "wall clock jump",
        "one byte at a time",
        "stall inside a frame",
        "TLS bytes already decrypted (`pending`)",
        "deflate bomb",
        "endless fragments",
        "bad UTF-8",
        "masked / reserved / unknown frames",
        "a ping flood",
        "a peer that sends after its Close",
    ),
    "sending": (
        "a peer that stops reading (bound holds, deadline ends it, the caller never hangs under each policy)",
        "50 threads",
        "send while reconnecting",
        (
            "loss with a full queue (each unsent message is in `Disconnected.unsent`, "
            "none that was delivered whole is)"
        ),
        "send then close at once",
        "send from every handler",
    ),
    "stopping": (
        "close during DNS, TCP, TLS, upgrade and back-off (under a second)",
        "close before start",
        "ten closers",
        "peer ignoring Close",
        "Ctrl-C",
        "SIGTERM",
        "interpreter exit while connected / connecting / backing off / inside a handler",
        "start again after close",
        "`stop()` from a handler",
    ),
    "program": (
        "a handler raising in each event",
        "a handler that never returns (close still returns, a warning with its stack)",
        "a header or URL callable that raises",
        "fork while connected (child told clearly, parent unaffected)",
        "descriptors above 1,024",
        "accept-then-drop flapping (delay keeps growing)",
        "1,000 apps after a restart (attempts spread)",
        "gevent patched first",
        "no threads available",
        "no descriptors available (EMFILE)",
        "MemoryError in a handler",
        "two apps sharing `Threads()` where one misbehaves",
    ),
}


def fault(group: str, name: str, *, does: str = "") -> pytest.MarkDecorator:
    """Mark a test as one of a fault.

    Args:
        group: a key of `FAULTS`.
        name: one of its faults.
        does: what lochws does, for the page: a phrase without a full stop.

    Raises:
        ValueError: there is no such fault.
    """
    if name not in FAULTS.get(group, ()):
        raise ValueError(f"there is no fault {name!r} in the group {group!r}")
    return pytest.mark.fault(group, name, does)


@dataclass
class Tested:
    """What is known of one fault.

    Attributes:
        does: what lochws does.
        tests: the names of the tests, without parameters, in order.
        failed: whether one of them did not pass.
    """

    does: str = ""
    tests: list[str] = field(default_factory=list)
    failed: bool = False


def name_of(item: pytest.Item, about: tuple[str, str, str]) -> str:
    """The name of a marked test; with the case in brackets, if only that carries the mark."""
    whole = getattr(getattr(item, "function", None), "pytestmark", [])
    is_whole = any(mark.name == "fault" and mark.args == about for mark in whole)
    return getattr(item, "originalname", item.name) if is_whole else item.name


class Table:
    """Gathers what tests say of faults, and renders it."""

    def __init__(self) -> None:
        self._tested: dict[tuple[str, str], Tested] = {}
        self._marks: dict[str, list[pytest.Mark]] = {}

    def add(self, items: Iterable[pytest.Item]) -> None:
        """Take in collected tests. ValueError if two of them say differently what lochws does."""
        for item in items:
            self._marks[item.nodeid] = list(item.iter_markers("fault"))
            for mark in self._marks[item.nodeid]:
                self._add(item, *mark.args)

    def _add(self, item: pytest.Item, group: str, name: str, does: str) -> None:
        tested = self._tested.setdefault((group, name), Tested())
        if does and tested.does not in {"", does}:
            raise ValueError(f"two tests say what lochws does at {name!r}: {tested.does!r}, {does!r}")
        tested.does = tested.does or does
        if name_of(item, (group, name, does)) not in tested.tests:
            tested.tests.append(name_of(item, (group, name, does)))

    def failed(self, nodeid: str) -> None:
        """That test did not pass."""
        for mark in self._marks.get(nodeid, ()):
            group, name, _ = mark.args
            self._tested[group, name].failed = True

    def missing(self) -> list[str]:
        """The faults that have no test which says what lochws does."""
        return [
            name for group, names in FAULTS.items() for name in names
            if not self._tested.get((group, name), Tested()).does
        ]

    def render(self) -> str:
        """The page."""
        lines = [_HEAD]
        for group, names in FAULTS.items():
            rows = [(name, self._tested[group, name]) for name in names if (group, name) in self._tested]
            if rows:
                lines += ["", f"## {group.capitalize()}", "", *_TABLE]
            for name, tested in rows:
                tests = "<br>".join(f"`{test}`" for test in tested.tests)
                lines.append(f"| {name} | {tested.does} | {tests} | {'no' if tested.failed else 'yes'} |")
        return "\n".join([*lines, ""])


_HEAD = """\
# Faults

What breaks in networks, servers and programs, and what lochws then does. Every fault is made to happen by a
test, with real sockets and with time scaled down; only the resolver and jumping clocks are stood in for.
Written by `python -m tests.faults`, which runs them; `tests/pages/test_faults_page.py` compares.

In all of these: every attempt to connect ends in exactly one final event, `connect_fail` or `disconnected`,
which says what happened; no thread dies or hangs; no descriptor is left. After each test a fixture looks."""

_TABLE = ("| fault | what lochws does | tests | passed |", "|---|---|---|---|")

"""Which Autobahn cases to run, as the patterns that its server understands."""

from __future__ import annotations

#: Their outcome depends on choices that RFC 6455 leaves to an implementation.
INFORMATIONAL = frozenset({"7.1.6", "7.13.1", "7.13.2"})

ALL = ["*"]

_SECTIONS = ["1", "2", "3", "4", "5", "6", "7", "9.1", "9.2", "9.3", "9.4", "10"]
# Sections 12 and 13 take each kind of compressed message and each set of parameters through 18 sizes.
_COMPRESSION = [f"12.{kind}" for kind in range(1, 6)] + [f"13.{kind}" for kind in range(1, 8)]

#: A few minutes instead of many: leaves out the large messages and most sizes of compressed ones.
QUICK = [f"{section}.*" for section in _SECTIONS] + [
    f"{section}.{case}" for section in _COMPRESSION for case in (1, 2, 3)
]


def section_of(case: str) -> str:
    """``"6"`` for ``"6.12.1"``."""
    return case.partition(".")[0]


def sort_key(case: str) -> list[int]:
    """Orders cases and sections as people number them: 2.10 after 2.9."""
    return [int(number) for number in case.split(".")]

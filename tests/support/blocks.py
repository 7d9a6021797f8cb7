"""The fenced blocks of the README and of the pages, and how each of them is tested.

The language of a block says what it is:

==================  ==================================================================================
``python``          a program; with functions called ``test_…``, a file of tests for pytest; marked as
                    ``notebook``, a cell, which `tests/services` runs in a kernel of Jupyter
``sh``              commands; those that install something, or need a checkout, are left to `.ci/run`
``ini``, ``json``,
``yaml``            are parsed
``{…}``             a directive of Sphinx; it is tested when the pages are built
none, ``text``      a diagram or the output of a program; not commands
==================  ==================================================================================

A comment ``<!-- block: … -->`` on the line before says what a block needs: ``continues`` marks a block that
is run together with the previous one of its language; the others are names of `NEEDS`.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: Every page for readers.
PAGES = [
    "README.md", "CHANGELOG.md", "SECURITY.md", "benchmarks/README.md",
    *(
        path.relative_to(ROOT).as_posix()
        for folder in ("docs", "examples")
        for path in sorted((ROOT / folder).rglob("*.md"))
    ),
]
#: What a program may need in addition to the server that every program has.
NEEDS = {
    "asyncio", "engineio", "fastapi", "mqtt", "notebook", "ocpp", "proxy", "redis", "screen", "stomp", "tls",
}
#: A program that runs until Ctrl-C says so in a comment; it is interrupted once it has printed something.
FOREVER = "until Ctrl-C"
#: The beginnings of commands that change the machine or need a checkout: `.ci/run` runs them, or people do.
ELSEWHERE = (
    "pip install", "pip wheel", "python -m pip install", "python3 -m venv", "sudo ", "systemctl ", "npm ",
    "brew ", "python -m pytest", "python -m sphinx", "python -m benchmarks", "python -m tests.", "LOCHWS_",
    "mutmut ",
)

_FENCE = re.compile(
    r"(?:^ *<!-- block: (?P<marks>.*?) -->\n)?"
    r"^(?P<indent> *)```(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: the page, as a path from the root.
        number: which block of its language, counted from 1.
        language: the language in the fence.
        marks: the words in the comment before it.
        text: its text.
    """

    page: str
    number: int
    language: str
    marks: frozenset[str]
    text: str

    def __str__(self) -> str:
        return f"{self.page}-{self.language or 'plain'}-{self.number}"

    @property
    def needs(self) -> frozenset[str]:
        """Return its needs in addition to the usual server."""
        return self.marks - {"continues"}

    @property
    def is_tests(self) -> bool:
        """Return whether it is a file of tests."""
        has_tests = re.search(r"^ *(async )?def test_", self.text, re.MULTILINE) is not None
        return self.language == "python" and has_tests

    @property
    def is_cell(self) -> bool:
        """Return whether it is a cell of a notebook."""
        return "notebook" in self.marks

    @property
    def is_endless(self) -> bool:
        """Return whether it runs until Ctrl-C."""
        return FOREVER in self.text

    @property
    def commands(self) -> list[str]:
        """The commands to run of a block of ``sh``: without comments, and without those of `ELSEWHERE`."""
        lines = map(str.strip, self.text.replace("\\\n", " ").splitlines())
        return [line for line in lines if line and not line.startswith(("#", *ELSEWHERE))]


def blocks(page: str) -> Iterator[Block]:
    """Yield the blocks of a page."""
    numbers: dict[str, int] = {}
    for match in _FENCE.finditer((ROOT / page).read_text(encoding="utf-8")):
        language = match["language"].strip()
        numbers[language] = numbers.get(language, 0) + 1
        marks = frozenset(filter(None, re.split(r"[,\s]+", match["marks"] or "")))
        yield Block(page, numbers[language], language, marks, textwrap.dedent(match["text"]))


def whole(page: str, language: str) -> list[Block]:
    """Return the blocks of one language on a page; blocks that continue one another are one."""
    found: list[Block] = []
    for block in blocks(page):
        if block.language != language:
            continue
        if "continues" in block.marks:
            before = found.pop()
            block = Block(  # noqa: PLW2901  the two of them are the block from here on
                page, before.number, language, before.marks | block.needs, f"{before.text}\n{block.text}"
            )
        found.append(block)
    return found


def everywhere(language: str) -> list[Block]:
    """Return the blocks of one language on all pages, joined as in `whole`."""
    return [block for page in PAGES for block in whole(page, language)]

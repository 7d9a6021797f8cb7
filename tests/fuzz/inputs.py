"""Inputs of a fuzzer, taken apart: a few choices, then the bytes that a server sends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")


class Choices:
    """Takes choices off the front of an input; where the input has ended, each is its first.

    Attributes:
        rest: what has not been taken.
    """

    def __init__(self, data: bytes) -> None:
        self.rest = data

    def number(self) -> int:
        """Take a number from 0 to 255."""
        number, self.rest = self.rest[:1], self.rest[1:]
        return number[0] if number else 0

    def one_of(self, items: Sequence[Item]) -> Item:
        """One of the items."""
        return items[self.number() % len(items)]

    def flag(self) -> bool:
        """True or False."""
        return self.one_of((False, True))


def cuts(data: bytes, seed: int) -> Iterator[list[bytes]]:
    """Cut the data in three ways: whole, in single bytes, and in pieces whose lengths follow from the seed.

    An empty piece stands between any two of the last kind: what takes bytes must take none too.
    """
    yield [data]
    yield [data[index : index + 1] for index in range(len(data))]
    pieces, position, step = [], 0, seed
    while position < len(data):
        step = (step * 109 + 57) % 256
        pieces += [data[position : position + 1 + step % 61], b""]
        position += 1 + step % 61
    yield pieces

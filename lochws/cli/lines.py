"""Lines in and lines out, by descriptor: bounded, unbuffered, and cut off at any time."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator

from .exits import Exit, Failed

#: The longest line that is read, in bytes.
MAX_LINE = 16 * 1024 * 1024
_READ = 64 * 1024


def lines_of(descriptor: int) -> Iterator[list[bytes]]:
    """The lines of a descriptor without their ends, those that came together together. Blocks between them.

    It reads past Python's own file object, whose lock a thread that is still waiting for a line would hold
    when the interpreter ends.

    Raises:
        Failed: a line has more than `MAX_LINE` bytes, or nothing can be read.
    """
    parts: list[bytes] = []
    size = 0
    while chunk := _read(descriptor):
        first, *others = chunk.split(b"\n")
        parts.append(first)
        size += len(first)
        if size > MAX_LINE:
            raise Failed(f"a line of the input has more than {MAX_LINE >> 20} MiB")
        if others:
            *whole, rest = others
            yield [b"".join(parts), *whole]
            parts, size = [rest], len(rest)
    if size:
        yield [b"".join(parts)]  # the last line has no end


def _read(descriptor: int) -> bytes:
    while True:
        try:
            return os.read(descriptor, _READ)
        except BlockingIOError:  # whoever has the other end has made it so
            select.select([descriptor], [], [])
        except OSError as error:
            raise Failed(f"cannot read the input: {error.strerror}") from error


class LineOutput:
    """Writes lines to a descriptor, at once and whole. For one thread.

    Attributes:
        is_writing: whether a write is under way, which waits for whoever reads. For any thread.
        written: how many bytes were written. For any thread.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.is_writing = False
        self.written = 0

    def write(self, text: str) -> None:
        """Write a text, whose lines have their ends. Blocks until the reader has room for it.

        Raises:
            Failed: nobody reads any more, or it cannot be written.
        """
        left = memoryview(text.encode("utf-8", "backslashreplace"))
        self.is_writing = True
        try:
            while left:
                left = left[self._write(left):]
        finally:
            self.is_writing = False

    def _write(self, data: memoryview) -> int:
        try:
            count = os.write(self._descriptor, data)
        except BlockingIOError:  # whoever has the other end has made it so
            select.select([], [self._descriptor], [])
            return 0
        except BrokenPipeError:
            raise Failed("", Exit.NO_READER) from None
        except OSError as error:
            raise Failed(f"cannot write the output: {error.strerror}") from error
        self.written += count
        return count

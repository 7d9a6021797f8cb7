"""Input and output lines, by descriptor: bounded, unbuffered, and interruptible at any time."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator

from .exits import Exit, Failed

#: The longest input line, in bytes.
MAX_LINE = 16 * 1024 * 1024
_READ = 64 * 1024


def lines_of(descriptor: int) -> Iterator[list[bytes]]:
    """Yield the lines read from a descriptor, without line ends, in lists of those that arrived together.

    It bypasses Python's file object, because a thread waiting for a line would hold that object's lock when
    the interpreter exits.

    Raises:
        Failed: a line has more than `MAX_LINE` bytes, or the descriptor cannot be read.
    """
    parts: list[bytes] = []
    size = 0
    while chunk := _read(descriptor):
        first, *others = chunk.split(b"\n")
        parts.append(first)
        size += len(first)
        if size > MAX_LINE:
            raise Failed(f"an input line is longer than {MAX_LINE >> 20} MiB")
        if others:
            *whole, rest = others
            yield [b"".join(parts), *whole]
            parts, size = [rest], len(rest)
    if size:
        yield [b"".join(parts)]  # the last line has no newline


def _read(descriptor: int) -> bytes:
    while True:
        try:
            return os.read(descriptor, _READ)
        except BlockingIOError:  # the process at the other end has made the pipe non-blocking
            select.select([descriptor], [], [])
        except OSError as error:
            raise Failed(f"cannot read the input: {error.strerror}") from error


class LineOutput:
    """Writes complete lines to a descriptor, without buffering. For one thread.

    Attributes:
        is_writing: whether a write is in progress, possibly waiting for the reader of the output. May be read
            from any thread.
        written: the number of bytes written so far. May be read from any thread.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.is_writing = False
        self.written = 0

    def write(self, text: str) -> None:
        """Write lines, including their newlines. Blocks until the reader of the output has accepted them.

        Raises:
            Failed: the reader of the output is gone, or the descriptor cannot be written.
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
        except BlockingIOError:  # the pipe has been made non-blocking here, too
            select.select([], [self._descriptor], [])
            return 0
        except BrokenPipeError:
            raise Failed("", Exit.NO_READER) from None
        except OSError as error:
            raise Failed(f"cannot write the output: {error.strerror}") from error
        self.written += count
        return count

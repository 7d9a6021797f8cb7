"""The files of a recording: written line by line, limited in size, and readable up to the last whole line.

The newest is called as the user wants it, older ones have a number: ``talk.1.jsonl`` is the first, then
``talk.2.jsonl``, and ``talk.jsonl`` the last.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

#: So many bytes, or one line, are written in one go.
PIECE_BYTES = 64 * 1024
_GZIP = zlib.MAX_WBITS | 16
_GZIP_MAGIC = b"\x1f\x8b"


class RecordingError(ValueError):
    """A file is no recording, or a damaged one; the text names the file and the line."""

    def __init__(self, path: Path, line: int, what: str) -> None:
        super().__init__(f"{path}, line {line}: {what}")


def parts_of(path: Path) -> list[Path]:
    """The files of a recording that are there, the oldest first."""
    numbers = sorted(_numbers(path))
    return [*(numbered(path, number) for number in numbers), *([path] if path.exists() else [])]


def numbered(path: Path, number: int) -> Path:
    """What the file of that number is called."""
    stem, suffix = _split(path)
    return path.with_name(f"{stem}.{number}{suffix}")


def _numbers(path: Path) -> list[int]:
    stem, suffix = _split(path)
    pattern = re.compile(rf"{re.escape(stem)}\.([1-9][0-9]*){re.escape(suffix)}")
    return [int(match[1]) for name in os.listdir(path.parent) if (match := pattern.fullmatch(name))]


def _split(path: Path) -> tuple[str, str]:
    """The name, and its suffixes: ``.jsonl.gz`` counts as one."""
    name, gz = (path.name[:-3], path.name[-3:]) if path.suffix == ".gz" else (path.name, "")
    stem, suffix = os.path.splitext(name)
    return stem, suffix + gz


class PartWriter:
    """Writes lines into one file after the other. For one thread.

    What was written survives the end of the process, however sudden; not that of the machine.

    Args:
        path: the newest file.
        compress: whether the files are gzip.
        max_bytes: a file that would grow beyond it is the last but one, or None; a compressed one may have
            64 KiB more.
        keep: how many files there may be, or None.
        append: whether there may be files already, which this continues.
        header: makes the first line of a file, given its number.

    Raises:
        FileExistsError: there is a recording already, and `append` was not given; or it is no file.
        OSError: the file cannot be made.
    """

    def __init__(
        self, path: Path, *, compress: bool, max_bytes: int | None, keep: int | None, append: bool,
        header: Callable[[int], bytes],
    ) -> None:
        self._path = path
        self._compress = compress
        self._max_bytes = max_bytes
        self._keep = keep
        self._header = header
        self._descriptor: int | None = None
        self._size = self._empty_size = 0
        self._deflater = zlib.compressobj(wbits=_GZIP)
        if path.exists() and not path.is_file():  # a folder or a device: it would be renamed
            raise FileExistsError(f"{path} is no file: give the path of one that can be made")
        if not append and (there := parts_of(path)):
            raise FileExistsError(f"{there[0]} exists: give append=True to continue it, or another path")
        self._begin()

    def write(self, lines: Sequence[bytes]) -> tuple[int, OSError | None]:
        """Write lines. Returns how many could not be written, and why; what is written is whole."""
        start = lost = 0
        failure = None
        while start < len(lines):
            end, size = start + 1, len(lines[start])
            room = self._room_for(size)
            while end < len(lines) and size + len(lines[end]) <= room:
                size += len(lines[end])
                end += 1
            try:
                if room < size and self._size > self._empty_size:
                    self._end()
                if self._descriptor is None:
                    self._begin()
                self._put(b"".join(lines[start:end]))
            except OSError as error:
                lost, failure = lost + end - start, error
            start = end
        return lost, failure

    def close(self) -> None:
        """End the file. Nothing may be written afterwards.

        Raises:
            OSError: its end cannot be written.
        """
        if self._descriptor is not None:
            self._end()

    def reset_after_fork(self) -> None:
        """Let go of the file as it is; in the child of a fork it is the parent's."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _room_for(self, size: int) -> int:
        """How many bytes may be written in one go, if so many have to be: fewer ask for another file."""
        if self._max_bytes is None:
            return max(PIECE_BYTES, size)
        left = self._max_bytes - self._size
        if self._compress:
            return max(PIECE_BYTES, size) if left > 0 else 0
        return min(left, max(PIECE_BYTES, size))

    def _begin(self) -> None:
        number = max(_numbers(self._path), default=0) + 1
        if self._path.exists():
            self._path.rename(numbered(self._path, number))
            number += 1
        if self._keep is not None:
            old = parts_of(self._path)
            for path in old[: max(0, len(old) + 1 - self._keep)]:
                path.unlink()
        # It may hold secrets: nobody else may read it.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        self._descriptor = os.open(self._path, flags, 0o600)
        self._deflater = zlib.compressobj(wbits=_GZIP)
        self._size = 0
        try:
            self._put(self._header(number))
        except OSError:
            self.reset_after_fork()
            self._path.unlink()
            raise
        self._empty_size = self._size

    def _put(self, piece: bytes) -> None:
        """Write a piece, whole or not at all."""
        deflater = self._deflater
        if self._compress:
            deflater = deflater.copy()  # if this cannot be written, what follows must not refer to it
            piece = deflater.compress(piece) + deflater.flush(zlib.Z_SYNC_FLUSH)
        self._write(piece)
        self._deflater = deflater

    def _write(self, data: bytes) -> None:
        assert self._descriptor is not None
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest):]
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
                os.lseek(self._descriptor, self._size, os.SEEK_SET)
            raise
        self._size += len(data)

    def _end(self) -> None:
        assert self._descriptor is not None
        try:
            if self._compress:
                self._write(self._deflater.flush(zlib.Z_FINISH))
        finally:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)


class PartReader:
    """The whole lines of one file, in order: iterate it.

    Args:
        path: the file; whether it is gzip shows in its first bytes.
        max_line: the longest line that is read, in bytes.

    Attributes:
        number: of the line that was read last.
        is_cut: whether the file ended in the midst of a line, which was not read. Known after the last.
    """

    def __init__(self, path: Path, max_line: int) -> None:
        self._path = path
        self._max_line = max_line
        self.number = 0
        self.is_cut = False

    def __iter__(self) -> Iterator[bytes]:
        """The lines without their ends.

        Raises:
            RecordingError: a line is too long, or the file does not inflate.
            OSError: the file cannot be read.
        """
        rest: list[bytes] = []
        size = 0
        for piece in self._pieces():
            first, *more = piece.split(b"\n")
            rest.append(first)
            size += len(first)
            for part in more:
                self.number += 1
                self._check(size, self.number)
                yield b"".join(rest)
                rest, size = [part], len(part)
            self._check(size, self.number + 1)
        self.is_cut = size > 0

    def _check(self, size: int, number: int) -> None:
        if size > self._max_line:
            raise RecordingError(self._path, number, f"it has more than max_line={self._max_line} bytes")

    def _pieces(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            data = file.read(PIECE_BYTES)
            inflate = data.startswith(_GZIP_MAGIC)
            while data:
                if inflate:
                    yield from self._inflated(data)
                else:
                    yield data
                data = file.read(PIECE_BYTES)

    _inflater: zlib._Decompress | None = None

    def _inflated(self, data: bytes) -> Iterator[bytes]:
        """What comes out, a bounded piece at a time, of one gzip member or several."""
        piece = b""
        while data or len(piece) == PIECE_BYTES:  # then there may be more inside
            if self._inflater is None or self._inflater.eof:
                self._inflater = zlib.decompressobj(_GZIP)
            try:
                piece = self._inflater.decompress(data, PIECE_BYTES)
            except zlib.error as error:
                raise RecordingError(self._path, self.number + 1, f"it does not inflate; {error}") from error
            data = self._inflater.unconsumed_tail or self._inflater.unused_data
            if piece:
                yield piece

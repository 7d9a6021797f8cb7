"""Recording files: written line by line, reopened on request, and readable up to the last complete line.

A recording is one file or several. Older files are numbered: ``talk.1.jsonl`` is the oldest, followed by
``talk.2.jsonl`` and so on; ``talk.jsonl`` is the newest.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

#: The number of bytes written at once, unless a single line is longer.
PIECE_BYTES = 64 * 1024
#: The maximum number of bytes of a line outside of strings. Only these can make a parsed line much larger
#: than its text: a list of empty objects takes 24 times the memory.
MAX_STRUCTURE = 4 << 20
_GZIP = zlib.MAX_WBITS | 16
_GZIP_MAGIC = b"\x1f\x8b"
_STRING = re.compile(rb'"[^"]*"')


class RecordingError(ValueError):
    """A file is not a recording, or is damaged. The message names the file and the line."""

    def __init__(self, path: Path, line: int, what: str) -> None:
        super().__init__(f"{path}, line {line}: {what}")


def files_of(path: Path) -> list[Path]:
    """Return the existing files of a recording, oldest first."""
    numbers = sorted(_numbers(path))
    return [*(numbered(path, number) for number in numbers), *([path] if path.exists() else [])]


def numbered(path: Path, number: int) -> Path:
    """Return the name of an older file of a recording."""
    stem, suffix = _split(path)
    return path.with_name(f"{stem}.{number}{suffix}")


def _numbers(path: Path) -> list[int]:
    stem, suffix = _split(path)
    pattern = re.compile(rf"{re.escape(stem)}\.([1-9][0-9]*){re.escape(suffix)}")
    return [int(match[1]) for name in os.listdir(path.parent) if (match := pattern.fullmatch(name))]


def _split(path: Path) -> tuple[str, str]:
    """Return the file name without its suffix, and the suffix; ``.jsonl.gz`` counts as one suffix."""
    name, gz = (path.name[:-3], path.name[-3:]) if path.suffix == ".gz" else (path.name, "")
    stem, suffix = os.path.splitext(name)
    return stem, suffix + gz


class LineWriter:
    """Writes the lines of a recording. For use by one thread.

    Lines already written survive a sudden end of the process, but not a crash of the machine.

    Args:
        path: the file.
        compress: whether to write gzip.
        append: whether to rename an existing file, which gets the next free number.
        header: a function that returns the first line of a file, given its number.

    Raises:
        FileExistsError: the recording exists and `append` was not given, or `path` is not a regular file.
        OSError: the file cannot be created.
    """

    def __init__(
        self, path: Path, *, compress: bool, append: bool, header: Callable[[int], bytes]
    ) -> None:
        self._path = path
        self._compress = compress
        self._header = header
        if path.exists() and not path.is_file():  # renaming a folder or a device would do harm
            raise FileExistsError(f"{path} is not a regular file")
        if not append and (there := files_of(path)):
            raise FileExistsError(f"{there[0]} exists: pass append=True to continue it, or another path")
        self._part = 0  # the number of the file
        self._descriptor: int | None = None
        self._size = 0
        self._deflater = zlib.compressobj(wbits=_GZIP)
        self._begin()

    def write(self, lines: Sequence[bytes]) -> tuple[int, OSError | None]:
        """Write lines, each completely or not at all.

        Returns:
            The number of lines that could not be written, and the reason.
        """
        start = lost = 0
        failure = None
        while start < len(lines):
            end, size = start + 1, len(lines[start])
            while end < len(lines) and size + len(lines[end]) <= PIECE_BYTES:
                size += len(lines[end])
                end += 1
            try:
                self._put(b"".join(lines[start:end]))
            except OSError as error:
                lost, failure = lost + end - start, error
            start = end
        return lost, failure

    def reopen(self) -> None:
        """Close the file, which has been renamed or removed, and start a new one under its name.

        If the file has not been renamed, it is continued.

        Raises:
            OSError: the new file cannot be created. Lines still go to the renamed file.
        """
        assert self._descriptor is not None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.stat(self._path), os.fstat(self._descriptor)):
                return
        before = self._descriptor, self._size, self._deflater
        try:
            self._begin()
        except OSError:
            self._descriptor, self._size, self._deflater = before
            raise
        now = self._descriptor, self._size, self._deflater
        self._descriptor, self._size, self._deflater = before
        try:
            self.close()
        finally:
            self._descriptor, self._size, self._deflater = now

    def close(self) -> None:
        """Close the file. Nothing may be written afterwards.

        Raises:
            OSError: the end of the file cannot be written.
        """
        if self._descriptor is None:
            return
        try:
            if self._compress:
                self._write(self._deflater.flush(zlib.Z_FINISH))
        finally:
            self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Close the descriptor in the child of a fork. The file belongs to the parent and is not changed."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)

    def _begin(self) -> None:
        self._part = max([self._part, *_numbers(self._path)]) + 1
        is_there = self._path.exists()
        if is_there and self._path.stat().st_size:
            self._path.rename(numbered(self._path, self._part))
            self._part += 1
            is_there = False  # an empty file is used: logrotate may have created it with the right owner
        # A new file is readable only by its owner, because it may contain secrets.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        self._descriptor = os.open(self._path, flags if is_there else flags | os.O_EXCL, 0o600)
        self._deflater = zlib.compressobj(wbits=_GZIP)
        self._size = 0
        try:
            self._put(self._header(self._part))
        except OSError:
            self.reset_after_fork()
            self._path.unlink()
            raise

    def _put(self, piece: bytes) -> None:
        """Write a piece, completely or not at all."""
        deflater = self._deflater
        if self._compress:
            deflater = deflater.copy()  # later data must not refer to a piece that was not written
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
            raise
        self._size += len(data)


class LineReader:
    """An iterable of the complete lines of one file, in order.

    Memory use is bounded by the longest line, whatever the file contains.

    Args:
        path: the file; gzip is detected by its first bytes.
        max_line: the length limit for a line, in bytes.

    Attributes:
        number: the number of the line that was read last.
        is_cut: whether the file ended in the middle of a line, which is skipped. Known after the last line.
    """

    def __init__(self, path: Path, max_line: int) -> None:
        self._path = path
        self._max_line = max_line
        self.number = 0
        self.is_cut = False

    def __iter__(self) -> Iterator[bytes]:
        """Yield the lines without their line ends.

        Raises:
            RecordingError: a line is too long or too complex, or the gzip data is damaged.
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
                self._check_size(size, self.number)
                line = b"".join(rest)
                rest, size = [part], len(part)
                self._check_structure(line)
                yield line
                del line
            self._check_size(size, self.number + 1)
        self.is_cut = size > 0

    def _check_size(self, size: int, number: int) -> None:
        if size > self._max_line:
            raise RecordingError(self._path, number, f"it has more than max_line={self._max_line} bytes")

    def _check_structure(self, line: bytes) -> None:
        if len(line) <= MAX_STRUCTURE:
            return
        bare = line.replace(b"\\\\", b"").replace(b'\\"', b"")  # now each quote begins or ends a string
        if bare.count(b'"') > MAX_STRUCTURE or len(_STRING.sub(b"", bare)) > MAX_STRUCTURE:
            what = f"more than {MAX_STRUCTURE} bytes of it are outside of strings"
            raise RecordingError(self._path, self.number, what)

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
        """Yield the inflated data of one or more gzip members, in pieces of bounded size."""
        piece = b""
        while data or len(piece) == PIECE_BYTES:  # a full piece means that more may follow
            if self._inflater is None or self._inflater.eof:
                self._inflater = zlib.decompressobj(_GZIP)
            try:
                piece = self._inflater.decompress(data, PIECE_BYTES)
            except zlib.error as error:
                raise RecordingError(self._path, self.number + 1, f"it does not inflate; {error}") from error
            data = self._inflater.unconsumed_tail or self._inflater.unused_data
            if piece:
                yield piece

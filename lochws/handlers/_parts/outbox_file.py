"""Outbox file: the messages of an outbox in a SQLite database, which survives crashes and power cuts.

The database is in WAL mode. With ``synchronous="FULL"``, a commit returns once the disk has the messages.
SQLite detects damage of its own structures, not of what is stored in them: hence the checksum in each row.

The connection holds an exclusive lock until it is closed or the process ends, so a second one is refused.
The connection that a fork copies is never closed: that would delete the log that the parent is writing.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from .outbox_messages import OVERHEAD_BYTES, OutboxError, OutboxMessage
from .outbox_tables import Synchronous

#: "lobx": the program whose file it is, in the header of the database.
_APPLICATION_ID = 0x6C6F6278
_VERSION = 1
#: Seconds to wait for a process that is just ending.
_PATIENCE = 1.0
#: SQLite's errors for a file that cannot be used now. Any other error means that the contents are damaged.
_PASSING = ("disk is full", "disk I/O error", "readonly", "locked", "unable to open", "permission", "memory")
_COLUMNS = "number, id, is_text, payload, supersedes, put_at, expires_at, was_sent, checksum"
_TABLES = (
    """CREATE TABLE messages (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL, is_text INTEGER NOT NULL, payload BLOB NOT NULL,
        supersedes TEXT, put_at REAL NOT NULL, expires_at REAL, was_sent INTEGER NOT NULL,
        checksum INTEGER NOT NULL)""",
    "CREATE INDEX by_key ON messages (supersedes) WHERE supersedes IS NOT NULL",
    "CREATE INDEX by_expiry ON messages (expires_at) WHERE expires_at IS NOT NULL",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_VERSION}",
)
_SCHEMA = [statement.encode() for statement in _TABLES if statement.startswith("CREATE")]
#: An SQLite database is not smaller, unless it is empty.
_SMALLEST = 512


class FileTable:
    """A table in a SQLite database.

    Args:
        path: the file; it is created if it does not exist.
        synchronous: ``"FULL"`` to wait for the disk at each durable commit, or ``"NORMAL"``.

    Raises:
        OutboxError: the file is damaged, is not the file of an outbox, or is in use.
    """

    page = 1000

    def __init__(self, path: Path, synchronous: Synchronous) -> None:
        self.path = path
        self._durable = synchronous
        self._synchronous = ""
        self._before = 0, 0, 0
        self._file = 0, 0
        self.count = self.size = self.last = 0
        try:
            # Messages may be private; SQLite gives its other files the permissions of this one. (To close an
            # existing file would release the lock of another outbox in this process.)
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            self._connection = sqlite3.connect(
                path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False
            )
            self._file = self._found()
            self._connection.text_factory = bytes  # damaged text is noticed by its checksum
        except (OSError, sqlite3.Error) as error:
            raise OutboxError(f"path={str(path)!r}: the outbox file cannot be opened: {error}") from error
        try:
            self._open()
        except BaseException:
            self._connection.close()
            raise

    def _open(self) -> None:
        execute = self._connection.execute
        try:
            # In this mode SQLite needs no shared memory, which could not grow on a full disk.
            execute("PRAGMA locking_mode = EXCLUSIVE")
            is_new = self._is_new()
            execute("PRAGMA journal_mode = WAL")
            self._set_synchronous(self._durable)
            execute("PRAGMA fullfsync = 1")  # on macOS fsync alone does not reach the disk
            execute("BEGIN IMMEDIATE")
            for statement in _TABLES if is_new else ():
                execute(statement)
            execute("COMMIT")
            (found,), = execute("PRAGMA integrity_check(1)")
            if found != b"ok":
                raise self._damaged(found.decode(errors="replace"))
            (self.count, size, last), = execute(
                "SELECT COUNT(*), TOTAL(LENGTH(payload)), MAX(number) FROM messages"
            )
            self.size = int(size) + self.count * OVERHEAD_BYTES
            self.last = last or 0
            # Only the interrupted program knew that these were being replaced.
            outdated = list(self._messages(
                "AS one WHERE supersedes IS NOT NULL AND NOT was_sent AND number < (SELECT MAX(number) FROM"
                " messages WHERE supersedes IS NOT NULL AND supersedes = one.supersedes)"
            ))
            self.begin(durable=False)
            for message in outdated:
                self.remove(message)
            self.commit()
        except OutboxError:
            raise
        except Exception as error:  # damaged names in errors of SQLite give UnicodeDecodeError, for one
            if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
                raise OutboxError(
                    f"path={str(self.path)!r} is in use: another process, or another Outbox in this one, has "
                    "the file open; each outbox needs a file of its own"
                ) from error
            raise self.explain(error)[0] from error

    def _is_new(self) -> bool:
        """Return whether the file is empty. If it is, or is an outbox, it may be changed."""
        execute = self._connection.execute
        (application_id,), = execute("PRAGMA application_id")
        (version,), = execute("PRAGMA user_version")
        (tables,), = execute("SELECT COUNT(*) FROM sqlite_master")
        if not (tables or application_id or version):
            if 0 < self.path.stat().st_size < _SMALLEST:
                raise self._damaged("it was truncated")
            return True
        if (application_id, version) != (_APPLICATION_ID, _VERSION):
            raise OutboxError(
                f"path={str(self.path)!r} is not an outbox file of this version of lochws: "
                "use another path, or move the file away"
            )
        if [sql for (sql,) in execute("SELECT sql FROM sqlite_master")] != _SCHEMA:
            raise self._damaged("its tables have changed")
        return False

    def explain(self, error: Exception) -> tuple[OutboxError, bool]:
        """Return the error to raise in place of another, and whether the file cannot be used any more."""
        if isinstance(error, OutboxError):
            return error, True
        if is_passing(error):
            raised = OutboxError(
                f"the outbox file {str(self.path)!r} cannot be written ({error}): nothing was stored; "
                "free some space, make the file writable, or put it back, and try again"
            )
        else:
            raised = self._damaged(str(error))
        raised.__cause__ = error
        return raised, not is_passing(error)

    def _damaged(self, found: str) -> OutboxError:
        return OutboxError(
            f"the outbox file {str(self.path)!r} is damaged ({found}): move it away to begin anew; "
            "the command `sqlite3 FILE .recover` may save some of its messages"
        )

    def begin(self, durable: bool) -> None:
        """Begin a transaction. One that is not durable survives the end of the process, but no power cut."""
        self._before = self.count, self.size, self.last
        if durable and self._found() != self._file:  # SQLite would go on to write to the old one
            raise OSError("another file has replaced it")
        self._set_synchronous(self._durable if durable else "NORMAL")
        self._connection.execute("BEGIN IMMEDIATE")

    def _found(self) -> tuple[int, int]:
        """Return which file the path leads to."""
        found = os.stat(self.path)
        return found.st_dev, found.st_ino

    def commit(self) -> None:
        """Commit."""
        self._connection.execute("COMMIT")

    def roll_back(self) -> bool:
        """Undo the changes since `begin`. Return whether merging the log into the database has made room."""
        with suppress(sqlite3.Error):  # SQLite has done so itself
            self._connection.execute("ROLLBACK")
        self.count, self.size, self.last = self._before
        with suppress(sqlite3.Error, OSError):
            if self.path.with_name(f"{self.path.name}-wal").stat().st_size:
                (is_busy, *_), = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                return not is_busy
        return False

    def _set_synchronous(self, mode: str) -> None:
        if mode != self._synchronous:
            self._connection.execute(f"PRAGMA synchronous = {mode}")
            self._synchronous = mode

    def insert(self, message: OutboxMessage) -> None:
        """Append a message."""
        payload = message.payload
        data = payload.encode() if isinstance(payload, str) else payload
        self._connection.execute(
            f"INSERT INTO messages ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                message.number, message.id, isinstance(payload, str), data, message.supersedes,
                message.put_at, message.expires_at, message.was_sent, message.checksum(data),
            ),
        )
        self.last = message.number
        self.count += 1
        self.size += message.size

    def remove(self, message: OutboxMessage) -> bool:
        """Remove a message."""
        cursor = self._connection.execute("DELETE FROM messages WHERE number = ?", (message.number,))
        if not cursor.rowcount:
            return False
        self.count -= 1
        self.size -= message.size
        return True

    def mark(self, message: OutboxMessage, was_sent: bool) -> None:
        """Note whether a message may have been sent."""
        payload = message.payload
        data = payload.encode() if isinstance(payload, str) else payload
        checksum = message._replace(was_sent=was_sent).checksum(data)
        self._connection.execute(
            "UPDATE messages SET was_sent = ?, checksum = ? WHERE number = ?",
            (was_sent, checksum, message.number),
        )

    def read(self, after: int = 0) -> Iterator[OutboxMessage]:
        """Iterate over the messages with higher numbers."""
        return self._messages("WHERE number > ? ORDER BY number", after)

    def with_key(self, key: str) -> Sequence[OutboxMessage]:
        """Return the messages that have this key."""
        return list(self._messages("WHERE supersedes IS NOT NULL AND supersedes = ?", key))

    def expired(self, now: float, but: Collection[int]) -> Sequence[OutboxMessage]:
        """Return the messages that have expired."""
        where = f"WHERE expires_at IS NOT NULL AND expires_at <= ? LIMIT {self.page}"
        return [message for message in self._messages(where, now) if message.number not in but]

    def _messages(self, where: str, *values: float | str) -> Iterator[OutboxMessage]:
        """Iterate over the messages that the end of a SELECT statement chooses."""
        # An error keeps its cursor, and SQLite keeps a file open as long as there is a cursor with more rows.
        with closing(self._connection.execute(f"SELECT {_COLUMNS} FROM messages {where}", values)) as rows:
            yield from map(self._message, rows)

    def close(self) -> None:
        """Close the database, which merges the log into it and releases the lock. Raises nothing."""
        with suppress(sqlite3.Error):
            self._connection.close()

    def abandon(self) -> None:
        """Keep the copy of a fork open for ever: to close it would remove the log of the parent."""
        with suppress(Exception):  # another interpreter than CPython, or one without ctypes
            from ctypes import py_object, pythonapi  # noqa: PLC0415  in a forked child alone

            pythonapi.Py_IncRef(py_object(self._connection))

    def _message(self, row: tuple[Any, ...]) -> OutboxMessage:
        number, id, is_text, data, key, put_at, expires_at, was_sent, checksum = row  # noqa: A001  its column
        try:
            message = OutboxMessage(
                number, id.decode(), data.decode() if is_text else data,
                None if key is None else key.decode(), put_at, expires_at, bool(was_sent),
            )
            is_right = message.checksum(data) == checksum
        except Exception:  # noqa: BLE001  damage may give any type and any value
            is_right = False
        if not is_right:
            raise self._damaged(f"the checksum of message {number!r} is wrong")
        return message


def is_passing(error: Exception) -> bool:
    """Return whether an exception says that the file cannot be used now, and not that it is damaged."""
    if isinstance(error, OSError):  # the file was removed or replaced
        return True
    return isinstance(error, sqlite3.OperationalError) and any(words in str(error) for words in _PASSING)

"""A key-value store in a SQLite file, which other sandboxes and processes may have open too.

Theory of operation. The path is the embedder's, absolute, and goes to SQLite as a path: a name that begins with
``file:`` would be a URI where SQLite is built so, and an absolute path never does. The bucket's name is a value in a
row, and so is every key, as bytes: nothing of a guest's becomes part of a statement or of a file's name. SQLite never
waits by itself (its busy timeout is zero); this module tries again until the deadline, and looks for a cancellation.

Every transaction is ``BEGIN IMMEDIATE``: it has the right to write from its start, so two that read and then write
cannot both get in, and none fails half-way because another wrote first. The row of counters makes the size of a bucket
a matter of one look-up, and is written in the same transaction as the entries.

The file is opened by SQLite alone. Were it opened and closed here as well, the system would drop the locks that
this process has on it (POSIX, fcntl: closing any descriptor of a file releases the process's locks on the file).
"""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from aegis.errors import PolicyError
from aegis.host.keyvalue.waiting import StoreFailed, held
from aegis.policy.keyvalue import KeyValueCall
from aegis.support.descriptors import standard_reserved
from aegis.support.lean import Any
from aegis.text import quoted

__all__ = ["SqliteStore"]

_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_FIRST_PAUSE, _MOST_PAUSE = 0.001, 0.05
"""Seconds between two attempts at a statement that another connection forbids."""
_TABLES = (
    """CREATE TABLE IF NOT EXISTS aegis_keyvalue (
        bucket TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, PRIMARY KEY (bucket, key)) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS aegis_keyvalue_size (
        bucket TEXT PRIMARY KEY NOT NULL, keys INTEGER NOT NULL, bytes INTEGER NOT NULL) WITHOUT ROWID""",
)


class SqliteStore:
    """One bucket in a SQLite file: a :class:`~aegis.policy.keyvalue.KeyValueStore`.

    Raise :class:`~aegis.errors.PolicyError` when the file cannot be opened. The file is made if it does not exist,
    for this user alone.
    """

    def __init__(self, path: str, bucket: str) -> None:
        self._path, self._bucket = os.path.abspath(path), bucket
        self._lock = threading.Lock()
        self._ready = False
        try:
            with standard_reserved():
                _create(self._path)
                # Calls of one sandbox come from several threads, one at a time; the lock sees to that.
                self._connection = sqlite3.connect(
                    self._path, timeout=0, isolation_level=None, check_same_thread=False, uri=False
                )
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from None
        self._connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        # A sandbox may be dropped without being closed, and Python 3.13 warns of a connection that was not.
        self._closed = weakref.finalize(self, self._connection.close)

    def close(self) -> None:
        """Close the file."""
        self._closed()

    @contextmanager
    def transaction(self, call: KeyValueCall) -> Iterator[_SqliteEntries]:
        """Return the entries of the bucket; other connections to the file wait until the context is left."""
        with held(self._lock, call):
            self._set_up(call)
            try:
                self._retried("BEGIN IMMEDIATE", call)
                yield _SqliteEntries(self._connection, self._bucket)
                self._retried("COMMIT", call)  # busy while another connection still reads
            except sqlite3.Error as error:
                raise StoreFailed(getattr(error, "sqlite_errorname", type(error).__name__)) from error
            finally:
                if self._connection.in_transaction:
                    with suppress(sqlite3.Error):  # it failed already, and SQLite undoes the changes at the next use
                        self._connection.execute("ROLLBACK")

    def _set_up(self, call: KeyValueCall) -> None:
        if self._ready:
            return
        try:
            # The file is not trusted: its views and triggers call no functions, and pages are checked as they are read.
            self._retried("PRAGMA trusted_schema = OFF", call)
            self._retried("PRAGMA cell_size_check = ON", call)
            for table in _TABLES:
                self._retried(table, call)
        except sqlite3.DatabaseError as error:
            raise self._unusable(error) from None
        self._ready = True

    def _retried(self, statement: str, call: KeyValueCall) -> None:
        """Execute a statement as soon as no other connection forbids it. Raise as ``call`` does."""
        pause = _FIRST_PAUSE
        while True:
            call.remaining()
            try:
                self._connection.execute(statement)
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in _BUSY:
                    raise
            call.wait(pause)
            pause = min(2 * pause, _MOST_PAUSE)

    def _unusable(self, error: Exception) -> PolicyError:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return PolicyError(
            f"keyvalue: the bucket {self._bucket!r} cannot be opened in {quoted(self._path)}: {reason}; "
            "name a SQLite file, or a new file in a directory that this user can write"
        )


def _create(path: str) -> None:
    """Make the file if there is none, for this user alone; raise ``OSError`` for anything but a regular file."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise OSError(0, "it is not a regular file") from None


class _SqliteEntries:
    """The entries of one bucket during a transaction."""

    def __init__(self, connection: sqlite3.Connection, bucket: str) -> None:
        self._execute, self._bucket = connection.execute, bucket

    def get(self, key: str) -> bytes | None:
        row = self._one("SELECT value FROM aegis_keyvalue WHERE bucket = ? AND key = ?", key.encode())
        return None if row is None else bytes(row[0])

    def set(self, key: str, value: bytes) -> None:
        name = key.encode()
        self._count(name, more=(1, len(name) + len(value)))
        self._execute("INSERT OR REPLACE INTO aegis_keyvalue VALUES (?, ?, ?)", (self._bucket, name, value))

    def delete(self, key: str) -> None:
        name = key.encode()
        self._count(name, more=(0, 0))
        self._execute("DELETE FROM aegis_keyvalue WHERE bucket = ? AND key = ?", (self._bucket, name))

    def keys(self, after: str | None, most: int) -> Sequence[str]:
        where = "" if after is None else " AND key > ?"
        values = (self._bucket, *(() if after is None else (after.encode(),)), most)
        found = self._execute(f"SELECT key FROM aegis_keyvalue WHERE bucket = ?{where} ORDER BY key LIMIT ?", values)
        return [bytes(key).decode() for (key,) in found]

    def size(self) -> tuple[int, int]:
        row = self._one("SELECT keys, bytes FROM aegis_keyvalue_size WHERE bucket = ?")
        return (0, 0) if row is None else (row[0], row[1])

    def _one(self, statement: str, *values: bytes) -> Any:
        row: Any = self._execute(statement, (self._bucket, *values)).fetchone()
        return row

    def _count(self, name: bytes, *, more: tuple[int, int]) -> None:
        """Take a key out of the counters, if it is there, and count ``more`` keys and bytes instead."""
        row = self._one("SELECT length(value) FROM aegis_keyvalue WHERE bucket = ? AND key = ?", name)
        old = (0, 0) if row is None else (1, len(name) + row[0])
        self._execute(
            "INSERT INTO aegis_keyvalue_size VALUES (?, ?, ?) ON CONFLICT (bucket) DO UPDATE "
            "SET keys = keys + excluded.keys, bytes = bytes + excluded.bytes",
            (self._bucket, more[0] - old[0], more[1] - old[1]),
        )

"""A key-value store in a SQLite file, which other sandboxes and processes may have open at the same time.

Theory of operation. The embedder chooses the path, and Aegis makes it absolute: SQLite may be built to take a name
that begins with ``file:`` as a URI, and an absolute path never does. The name of the bucket and the keys are values
in rows, keys as bytes in UTF-8. So no text from a guest becomes part of a statement or of a file name.

SQLite itself never waits (its busy timeout is zero), because its wait knows no deadline and no cancellation. This
module repeats a statement that another connection blocks, and checks both between attempts. SQLite calls a progress
handler while a statement runs, which checks both as well. Nothing can interrupt a ``COMMIT`` that waits for the disk
(``fsync``), which is the one exception.

The file may be hostile. Its schema must be exactly the tables of this module: a view with the name of a table could be
a query without end. Columns may hold values of any type, so the types of all values that are read are checked, and
SQLite rejects a value beyond the largest that the quotas allow before it allocates it.

Every transaction starts with ``BEGIN IMMEDIATE``, which takes the write lock. With a deferred transaction, two
connections could both read and then block one another's write. A row of counters holds the size of each bucket and is
updated in the transaction that changes the entries, so a quota costs one look-up.

Only SQLite opens an existing file. POSIX releases all locks of a process on a file when the process closes any
descriptor of that file (fcntl(2), "record locks"), so an open and close here would break the locks of another
connection in this process.
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
from aegis.host.keyvalue.lock_wait import StoreFailed, locked
from aegis.policy.keyvalue import KeyValueCall
from aegis.support.descriptors import standard_reserved
from aegis.support.lean import Any
from aegis.text import quoted

__all__ = ["SqliteStore"]

_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 0.001, 0.05
"""Pause between two attempts at a statement that another connection blocks; it doubles with each attempt."""
_STEPS_BETWEEN_CHECKS = 10_000
"""Instructions of SQLite between two checks of the deadline, about a tenth of a millisecond."""
_ROW_BYTES = 4096
"""Bytes of a row beside its key and value."""
_TABLES = {
    "aegis_keyvalue": "(bucket TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, PRIMARY KEY (bucket, key)) "
    "WITHOUT ROWID",
    "aegis_keyvalue_size": "(bucket TEXT PRIMARY KEY NOT NULL, keys INTEGER NOT NULL, bytes INTEGER NOT NULL) "
    "WITHOUT ROWID",
}


class SqliteStore:
    """A :class:`~aegis.policy.keyvalue.KeyValueStore` for one bucket in a SQLite file.

    The file is created with mode 0600 if it does not exist. ``max_entry_bytes`` is the size of the largest key with its
    value, ``None`` for SQLite's own limit. Raise :class:`~aegis.errors.PolicyError` if the file cannot be opened.
    """

    def __init__(self, path: str, bucket: str, max_entry_bytes: int | None = None) -> None:
        self._path, self._bucket = os.path.abspath(path), bucket
        self._lock = threading.Lock()
        self._ready = False
        self._stopped: BaseException | None = None
        try:
            with standard_reserved():
                _create_missing(self._path)
                # Several threads may call one sandbox in turn. The lock, not SQLite's check, keeps them apart.
                self._connection = sqlite3.connect(
                    self._path, timeout=0, isolation_level=None, check_same_thread=False, uri=False
                )
        except (OSError, sqlite3.Error) as error:
            raise self._open_error(error) from None
        self._connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        if max_entry_bytes is not None:
            self._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, min(max_entry_bytes + _ROW_BYTES, 2**31 - 1))
        # Python 3.13 warns about a connection that is collected unclosed, as that of a dropped sandbox would be.
        self._closed = weakref.finalize(self, self._connection.close)
        self._closed.atexit = False  # a statement of an abandoned call may hold SQLite's mutex when the process ends

    def close(self) -> None:
        """Close the file; a second close does nothing."""
        self._closed()

    @contextmanager
    def transaction(self, call: KeyValueCall) -> Iterator[_SqliteEntries]:
        """Return the entries of the bucket; commit when the block ends, roll back if it ends with an exception.

        Other connections cannot write to the file meanwhile. Raise :class:`StoreFailed` for an error of SQLite, and as
        ``call`` does when the deadline passes, or the call is cancelled, while another connection has the lock.
        """
        with locked(self._lock, call), self._checking(call):
            self._prepare(call)
            try:
                self._execute("BEGIN IMMEDIATE", call)
                yield _SqliteEntries(self._connection, self._bucket)
                self._execute("COMMIT", call)  # blocked while another connection reads
            except sqlite3.Error as error:
                if self._stopped is not None:
                    raise self._stopped from None
                raise StoreFailed(getattr(error, "sqlite_errorname", type(error).__name__)) from error
            finally:
                self._connection.set_progress_handler(None, 0)  # a rollback must not be interrupted
                if self._connection.in_transaction:
                    with suppress(sqlite3.Error):  # the block has an error already; SQLite rolls back at the next use
                        self._connection.execute("ROLLBACK")

    @contextmanager
    def _checking(self, call: KeyValueCall) -> Iterator[None]:
        """Interrupt statements in the block when ``call`` must end; ``_stopped`` is then the error to raise."""

        def check() -> bool:
            try:
                call.remaining()
            except BaseException as error:  # SQLite would lose it, Ctrl-C included
                self._stopped = error
                return True
            return False

        self._stopped = None
        self._connection.set_progress_handler(check, _STEPS_BETWEEN_CHECKS)
        try:
            yield
        finally:
            self._connection.set_progress_handler(None, 0)
            self._stopped = None

    def _prepare(self, call: KeyValueCall) -> None:
        """Set the options of the connection and create the tables, once."""
        if self._ready:
            return
        try:
            self._execute("PRAGMA trusted_schema = OFF", call)
            self._execute("PRAGMA cell_size_check = ON", call)
            for name, columns in _TABLES.items():
                self._execute(f"CREATE TABLE IF NOT EXISTS {name} {columns}", call)
            self._check_schema(call)
        except sqlite3.DatabaseError as error:
            if self._stopped is not None:
                raise self._stopped from None
            raise self._open_error(error) from None
        self._ready = True

    def _check_schema(self, call: KeyValueCall) -> None:
        """Raise ``DatabaseError`` if a table is not one that this module creates, or has triggers or indices."""
        found = self._execute(
            "SELECT type, name, sql FROM sqlite_master WHERE name IN (?, ?) OR tbl_name IN (?, ?)",
            call, *_TABLES, *_TABLES,
        )  # fmt: skip
        expected = {("table", name, f"CREATE TABLE {name} {columns}") for name, columns in _TABLES.items()}
        if set(found) != expected:
            raise sqlite3.DatabaseError("its tables are not those of a key-value store")

    def _execute(self, statement: str, call: KeyValueCall, *values: str) -> list[Any]:
        """Execute a statement and return its rows; repeat it while another connection blocks it.

        Raise as ``call`` does meanwhile.
        """
        pause = _FIRST_PAUSE_SECONDS
        while True:
            call.remaining()
            try:
                return self._connection.execute(statement, values).fetchall()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in _BUSY:
                    raise
            call.wait(pause)
            pause = min(2 * pause, _MAX_PAUSE_SECONDS)

    def _open_error(self, error: Exception) -> PolicyError:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return PolicyError(
            f"keyvalue: the bucket {self._bucket!r} cannot be opened in {quoted(self._path)}: {reason}: "
            "name a SQLite file, or a new file in a directory that this user can write"
        )


def _create_missing(path: str) -> None:
    """Create the file with mode 0600 if it does not exist; raise ``OSError`` if it exists and is not a regular file.

    An existing file is not opened, which could release this process's locks on it (see the top of the module).
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise OSError(0, "it is not a regular file") from None


class _SqliteEntries:
    """The entries of one bucket during a transaction.

    BLOB keys in UTF-8 compare as bytes (memcmp), which is the order of their code points.
    """

    def __init__(self, connection: sqlite3.Connection, bucket: str) -> None:
        self._execute, self._bucket = connection.execute, bucket

    def get(self, key: str) -> bytes | None:
        row = self._one("SELECT value FROM aegis_keyvalue WHERE bucket = ? AND key = ?", key.encode())
        return None if row is None else _blob(row[0])

    def set(self, key: str, value: bytes) -> None:
        name = key.encode()
        self._recount(name, keys=1, size=len(name) + len(value))
        self._execute("INSERT OR REPLACE INTO aegis_keyvalue VALUES (?, ?, ?)", (self._bucket, name, value))

    def delete(self, key: str) -> None:
        name = key.encode()
        self._recount(name, keys=0, size=0)
        self._execute("DELETE FROM aegis_keyvalue WHERE bucket = ? AND key = ?", (self._bucket, name))

    def keys(self, after: str | None, limit: int) -> Sequence[str]:
        condition = "" if after is None else " AND key > ?"
        values = (self._bucket, *(() if after is None else (after.encode(),)), limit)
        found = self._execute(
            f"SELECT key FROM aegis_keyvalue WHERE bucket = ?{condition} ORDER BY key LIMIT ?", values
        )
        try:
            return [_blob(key).decode() for (key,) in found]
        except UnicodeDecodeError:
            raise StoreFailed("a key is not UTF-8") from None

    def size(self) -> tuple[int, int]:
        row = self._one("SELECT keys, bytes FROM aegis_keyvalue_size WHERE bucket = ?")
        keys, size = (0, 0) if row is None else row
        if type(keys) is not int or type(size) is not int or keys < 0 or size < 0:
            raise StoreFailed("the size of the bucket is not two numbers")
        return keys, size

    def _one(self, statement: str, *values: bytes) -> Any:
        row: Any = self._execute(statement, (self._bucket, *values)).fetchone()
        return row

    def _recount(self, name: bytes, *, keys: int, size: int) -> None:
        """Update the counters for a key whose entry, if it exists, gives way to ``keys`` entries of ``size`` bytes."""
        row = self._one("SELECT length(value) FROM aegis_keyvalue WHERE bucket = ? AND key = ?", name)
        old_keys, old_size = (0, 0) if row is None else (1, len(name) + row[0])
        self._execute(
            "INSERT INTO aegis_keyvalue_size VALUES (?, ?, ?) ON CONFLICT (bucket) DO UPDATE "
            "SET keys = keys + excluded.keys, bytes = bytes + excluded.bytes",
            (self._bucket, keys - old_keys, size - old_size),
        )


def _blob(value: object) -> bytes:
    """Return a value of a BLOB column; raise ``StoreFailed`` for another type, which SQLite does not reject."""
    if type(value) is not bytes:
        raise StoreFailed(f"a value is {type(value).__name__}, not bytes")
    return value

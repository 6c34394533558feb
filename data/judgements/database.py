"""The SQLite file of judgements: opening, schema, transactions, and errors that say what to do.

WAL mode with ``synchronous = FULL``: a commit returns after the log is on the disk, so what was committed survives the
death of the process and the loss of power, and readers never wait for a writer.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dpsr.data.judgements.errors import StoreError

FORMAT_VERSION = 1
"""Of the schema, as ``user_version``."""
APPLICATION_ID = 0x64707372
"""``dpsr``, as ``application_id``: tells a file of judgements from other programs' databases."""
WAIT_SECONDS = 30.0
"""How long a writer waits for writers of other processes."""

_SCHEMA = """
CREATE TABLE books (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created_at REAL NOT NULL
);
CREATE TABLE queries (
    id INTEGER PRIMARY KEY,
    book INTEGER NOT NULL REFERENCES books ON DELETE CASCADE,
    query TEXT NOT NULL,
    weight REAL NOT NULL,
    UNIQUE (book, query)
);
CREATE INDEX queries_by_text ON queries (query);
CREATE TABLE judgements (
    query INTEGER NOT NULL REFERENCES queries ON DELETE CASCADE,
    item_id TEXT NOT NULL,
    judge TEXT NOT NULL,
    grade INTEGER NOT NULL CHECK (grade BETWEEN 0 AND 3),
    comment TEXT NOT NULL,
    judged_at REAL NOT NULL,
    PRIMARY KEY (query, item_id, judge)
) WITHOUT ROWID;
CREATE TABLE bad_cases (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    record TEXT NOT NULL,
    withdrawn INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE snapshots (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    record TEXT NOT NULL
);
CREATE TABLE snapshot_lists (
    snapshot INTEGER NOT NULL REFERENCES snapshots ON DELETE CASCADE,
    position INTEGER NOT NULL,
    query TEXT NOT NULL,
    lists TEXT NOT NULL,
    PRIMARY KEY (snapshot, position)
) WITHOUT ROWID;
"""

_REMEDIES = {
    "SQLITE_NOTADB": "it is no SQLite database; name another file, or move this one away",
    "SQLITE_CORRUPT": "it is damaged; restore it from a backup, or recover it with `sqlite3 FILE .recover`",
    "SQLITE_FULL": "the disk is full; free some space. Nothing of this change was kept, and all before it is",
    "SQLITE_IOERR": "the disk cannot be read or written; check its space and quota. Nothing of this change was kept",
    "SQLITE_READONLY": "it cannot be written; give this user write permission to the file and to its folder",
    "SQLITE_PERM": "it cannot be written; give this user write permission to the file and to its folder",
    "SQLITE_CANTOPEN": "it cannot be opened; give this user write permission to the file and to its folder",
    "SQLITE_BUSY": f"another process has been writing for {WAIT_SECONDS:g} s; try again, or find what holds the file",
}


class Database:
    """Connections to a file of judgements, for many threads; other processes may have it open too."""

    def __init__(self, path: str | Path) -> None:
        """Opens the file, which is made with its folder if it is missing.

        Raises:
            StoreError: it cannot be opened or written, is no database of judgements, or is of another release.
        """
        self.path = Path(path).absolute()
        self._idle: list[sqlite3.Connection] = []
        self._guard = threading.Lock()
        self._writer = threading.Lock()
        self._closed = False
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"{self.path.parent}: {error.strerror}; name a file in a folder that can be made"
            ) from None
        with self._connection() as connection:
            self._prepare(connection)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection within a transaction that reads: all its queries see one state."""
        with self._connection() as connection:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                _roll_back(connection)

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A connection within a transaction that writes: on the disk when the block ends, undone when it raises."""
        # The lock gives this process's writers their turns; SQLite's own waiting polls, and is fair to nobody.
        with self._writer, self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                _roll_back(connection)

    def close(self) -> None:
        """Closes the connections; those in use end with their transactions."""
        with self._guard:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection that no other thread has, with SQLite's errors told as ``StoreError``."""
        with self._guard:
            if self._closed:
                raise StoreError(f"{self.path}: is closed; open it again")
            connection = self._idle.pop() if self._idle else None
        connection = connection or self._connect()
        try:
            yield connection
        except sqlite3.Error as error:
            raise self._told(error) from error
        finally:
            with self._guard:
                kept = not self._closed
                if kept:
                    self._idle.append(connection)
            if not kept:
                connection.close()

    def _connect(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(self.path, timeout=WAIT_SECONDS, isolation_level=None, check_same_thread=False)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
        except sqlite3.Error as error:
            raise self._told(error) from error
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Checks whose file it is, and makes the schema in an empty one."""
        self._check(connection)
        self._write_ahead(connection)
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Another process may have made the schema since the check.
            if self._check(connection):
                for statement in _SCHEMA.split(";\n"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
            connection.execute("COMMIT")
        finally:
            _roll_back(connection)

    def _check(self, connection: sqlite3.Connection) -> bool:
        """Returns whether the file is empty; refuses other programs' files, and those of other releases."""
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not (application or version or tables):
            return True
        if application != APPLICATION_ID:
            raise StoreError(f"{self.path}: is the database of another program; name another file for the judgements")
        if version != FORMAT_VERSION:
            raise StoreError(
                f"{self.path}: judgements in format {version}, but this release reads {FORMAT_VERSION}; open it with "
                "the release that wrote it, export its books there, and import them into a new file"
            )
        return False

    def _write_ahead(self, connection: sqlite3.Connection) -> None:
        """Switches to WAL mode, for which SQLite does not wait by itself while another process does the same."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
                break
            except sqlite3.OperationalError as error:
                if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        if mode != "wal":
            raise StoreError(
                f"{self.path}: its file system has no shared memory for a write-ahead log (journal mode {mode!r}); "
                "put the file on a local disk"
            )

    def _told(self, error: sqlite3.Error) -> StoreError:
        """An error of SQLite with the file and what to do."""
        name = getattr(error, "sqlite_errorname", None) or type(error).__name__
        remedy = next((text for prefix, text in _REMEDIES.items() if name.startswith(prefix)), f"{error} ({name})")
        return StoreError(f"{self.path}: {remedy}")


def _roll_back(connection: sqlite3.Connection) -> None:
    """Ends a transaction that was not committed; after some errors, as a full disk, SQLite has ended it already."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")

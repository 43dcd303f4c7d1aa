"""SQLite: one file, one writing connection, readers that cannot write."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from typing_extensions import override

from .base import Backend, ReadConnection, Row, WriteConnection
from .checkpoints import KEEP_BYTES, Checkpointer
from .frames import Frames
from .lock import HubLock
from .statements import MAX_ROWS, Compiler, Insert, Statement, sqlite_compiler

BUSY_MS = 5000
"""How long to wait for a lock of the file; only the CLI or a backup ever holds one."""

CACHED_STATEMENTS = 512


class SqliteReads(ReadConnection):
    """A read-only connection."""

    dialect = "sqlite"

    def __init__(self, connection: sqlite3.Connection, compiler: Compiler) -> None:
        self.frames = Frames()
        self.count = 0
        self._connection = connection
        self._compiler = compiler

    @property
    @override
    def vectors(self) -> bool:
        return False

    @override
    def rows(self, statement: Statement, values: Mapping[str, Any]) -> list[Row]:
        text = self._compiler.text(statement)
        self.count += 1
        return self._connection.execute(text.sql, text.place(values)).fetchall()

    @override
    @contextmanager
    def snapshot(self) -> Generator[None]:
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("ROLLBACK")

    @override
    def lost(self) -> bool:
        return False

    @override
    def cut(self) -> None:
        self._connection.interrupt()

    @override
    def close(self) -> None:
        self._connection.close()


class SqliteWrites(SqliteReads, WriteConnection):
    """The writing connection."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        compiler: Compiler,
        clock: Callable[[], int],
        checkpointer: Checkpointer,
    ) -> None:
        super().__init__(connection, compiler)
        self._clock = clock
        self._checkpointer = checkpointer
        self._began_in = 0
        self._now = 0

    @override
    def now(self) -> int:
        return self._now

    @override
    def later(self) -> int:
        return self._now  # nobody else has written since

    @override
    def change(self, statement: Statement, values: Sequence[Mapping[str, Any]]) -> None:
        text = self._compiler.text(statement)
        self.count += len(values)
        self._connection.executemany(text.sql, [text.place(each) for each in values])

    @override
    def insert(self, insert: Insert, rows: Sequence[Sequence[Any]]) -> None:
        # Runs of 32, 16, … 1 rows: few texts, all of which stay in the driver's cache, and few
        # calls, each of which lets go of the interpreter lock and has to get it back.
        start, size = 0, MAX_ROWS
        while start < len(rows):
            while size > len(rows) - start:
                size //= 2
            text = self._compiler.insert(insert, size)
            self.count += 1
            values = tuple(chain.from_iterable(rows[start : start + size]))
            self._connection.execute(text.sql, values)
            start += size

    @override
    @contextmanager
    def in_order(self) -> Generator[None]:
        yield  # it does so by itself

    @override
    def begin(self) -> None:
        self._began_in = self._checkpointer.generation
        self._connection.execute("BEGIN IMMEDIATE")
        self._now = self._clock()

    @override
    def commit(self) -> None:
        self._connection.execute("COMMIT")

    @override
    def roll_back(self) -> None:
        if self._connection.in_transaction:  # SQLite itself undoes it when the disk is full
            self._connection.execute("ROLLBACK")

    @override
    def savepoint(self) -> None:
        self._connection.execute("SAVEPOINT part")

    @override
    def release(self) -> None:
        self._connection.execute("RELEASE part")

    @override
    def undo(self) -> None:
        self._connection.execute("ROLLBACK TO part")
        self._connection.execute("RELEASE part")

    @override
    def passing(self, error: Exception) -> bool:
        return isinstance(error, sqlite3.OperationalError)

    @override
    def rest(self) -> None:
        self._checkpointer.committed(self._began_in)


class SqliteBackend(Backend):
    """One SQLite file, held by one hub."""

    lanes_apart = False

    def __init__(
        self, file: Path, *, home: Path, clock: Callable[[], int], moment: bool = False
    ) -> None:
        """Lock the home folder and start the checkpoints.

        Raises:
            StoreLocked: another hub holds it.
        """
        self._file = file
        self._clock = clock
        self._compiler = sqlite_compiler()
        self._lock = HubLock(home, moment=moment)
        try:
            self._checkpointer = Checkpointer(file, self._connect)
        except BaseException:
            self._lock.release()
            raise

    @override
    def open_writes(self) -> SqliteWrites:
        connection = self._connect()
        return SqliteWrites(connection, self._compiler, self._clock, self._checkpointer)

    @override
    def open_reads(self) -> SqliteReads:
        return _reads(self._file, "ro", self._compiler)

    @override
    def close(self) -> None:
        self._checkpointer.close()
        self._lock.release()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._file,
            isolation_level=None,  # the unit of work alone begins and commits
            check_same_thread=False,
            cached_statements=CACHED_STATEMENTS,
        )
        for pragma in (
            f"busy_timeout = {BUSY_MS}",
            "journal_mode = WAL",
            "synchronous = FULL",  # 202 means kept, power cut included
            "foreign_keys = ON",
            "wal_autocheckpoint = 0",  # see checkpoints.py
            f"journal_size_limit = {KEEP_BYTES}",
        ):
            connection.execute(f"PRAGMA {pragma}")
        return connection


def look_into(file: Path) -> Callable[[], SqliteReads]:
    """Opens connections for somebody who only looks, with or without a hub beside."""
    compiler = sqlite_compiler()
    # Not mode=ro: where no hub runs, a reader has to make the log's index file.
    return lambda: _reads(file, "rw", compiler)


def _reads(file: Path, mode: str, compiler: Compiler) -> SqliteReads:
    connection = sqlite3.connect(
        f"{file.as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,  # the pool hands it from thread to thread, one at a time
        cached_statements=CACHED_STATEMENTS,
    )
    connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
    connection.execute("PRAGMA query_only = ON")
    return SqliteReads(connection, compiler)

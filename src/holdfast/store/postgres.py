"""PostgreSQL: psycopg, one connection per lane, the database's clock."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from os import dup
from socket import SHUT_RDWR, socket
from typing import Any, LiteralString, cast

import psycopg
from sqlalchemy import BigInteger, func, literal_column, select
from sqlalchemy import cast as sql_cast
from typing_extensions import override

from .base import Backend, ReadConnection, Row, WriteConnection
from .frames import Frames
from .statements import Compiler, Insert, Statement, postgres_compiler

CONNECT_S = 5
"""How long to wait for a connection."""

LIMITS = {
    "statement_timeout": "30s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "60s",
    "application_name": "holdfast",
}
"""So that a caller is answered even when the database is stuck."""

_NOW = Statement(
    select(sql_cast(func.extract("epoch", func.statement_timestamp()) * 1_000_000, BigInteger))
)

HAS_VECTORS = Statement(select(func.to_regclass(literal_column("'chunk_vectors'")).is_not(None)))

_Connection = psycopg.Connection[Row]


class PostgresReads(ReadConnection):
    """A connection whose transactions are read-only."""

    dialect = "postgresql"

    def __init__(self, connection: _Connection, compiler: Compiler) -> None:
        self.frames = Frames()
        self.count = 0
        self._connection = connection
        self._cursor = connection.cursor()
        self._compiler = compiler
        self._vectors: bool | None = None

    @property
    @override
    def vectors(self) -> bool:
        if self._vectors is None:
            ((self._vectors,),) = cast("list[tuple[bool]]", self.rows(HAS_VECTORS, {}))
        return self._vectors

    @override
    def rows(self, statement: Statement, values: Mapping[str, Any]) -> list[Row]:
        text = self._compiler.text(statement)
        self.count += 1
        return self._cursor.execute(_sql(text.sql), text.place(values)).fetchall()

    @override
    @contextmanager
    def snapshot(self) -> Generator[None]:
        self._cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            yield
        finally:
            if not self.lost():
                self._cursor.execute("ROLLBACK")

    @override
    def lost(self) -> bool:
        return self._connection.closed

    @override
    def cut(self) -> None:
        # Not a cancel request: the server that should take it is the one that does not answer.
        with suppress(OSError, psycopg.Error), socket(fileno=dup(self._connection.fileno())) as end:
            end.shutdown(SHUT_RDWR)

    @override
    def close(self) -> None:
        self._connection.close()


class PostgresWrites(PostgresReads, WriteConnection):
    """The writing connection of one lane."""

    def __init__(self, connection: _Connection, compiler: Compiler) -> None:
        super().__init__(connection, compiler)
        self._now: int | None = None

    @override
    def now(self) -> int:
        if self._now is None:
            self._now = self.later()
        return self._now

    @override
    def later(self) -> int:
        ((now,),) = cast("list[tuple[int]]", self.rows(_NOW, {}))
        return now

    @override
    def change(self, statement: Statement, values: Sequence[Mapping[str, Any]]) -> None:
        text = self._compiler.text(statement)
        self._many(text.sql, [text.place(each) for each in values])

    @override
    def insert(self, insert: Insert, rows: Sequence[Sequence[Any]]) -> None:
        self._many(self._compiler.insert(insert, 1).sql, rows)

    @override
    @contextmanager
    def in_order(self) -> Generator[None]:
        # A rollback takes the setting back with everything else.
        self._cursor.execute("SET LOCAL enable_sort = off")
        yield
        self._cursor.execute("SET LOCAL enable_sort = on")

    @override
    def begin(self) -> None:
        self._now = None
        self._cursor.execute("BEGIN")

    @override
    def commit(self) -> None:
        self._cursor.execute("COMMIT")

    @override
    def roll_back(self) -> None:
        if not self.lost():
            self._cursor.execute("ROLLBACK")

    @override
    def savepoint(self) -> None:
        self._cursor.execute("SAVEPOINT part")

    @override
    def release(self) -> None:
        self._cursor.execute("RELEASE SAVEPOINT part")

    @override
    def undo(self) -> None:
        self._cursor.execute("ROLLBACK TO SAVEPOINT part")
        self._cursor.execute("RELEASE SAVEPOINT part")

    @override
    def passing(self, error: Exception) -> bool:
        return isinstance(error, psycopg.OperationalError)  # deadlock, timeout, …

    @override
    def rest(self) -> None:
        """Nothing to do."""

    def _many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        # psycopg sends these as one pipeline: one round trip, and half the cost of array `unnest`.
        if rows:
            self.count += 1
            self._cursor.executemany(_sql(sql), rows)


class PostgresBackend(Backend):
    """A PostgreSQL database, shared by any number of hubs."""

    lanes_apart = True

    def __init__(self, url: str) -> None:
        """Take the address; nothing is opened yet.

        Args:
            url: in libpq's form, `postgresql://…`.
        """
        self._url = url
        self._compiler = postgres_compiler()

    @override
    def open_writes(self) -> PostgresWrites:
        return PostgresWrites(self._connect(), self._compiler)

    @override
    def open_reads(self) -> PostgresReads:
        connection = self._connect()
        connection.execute("SET default_transaction_read_only = on")
        return PostgresReads(connection, self._compiler)

    @override
    def close(self) -> None:
        """Nothing is held."""

    def _connect(self) -> _Connection:
        connection = psycopg.connect(
            self._url, autocommit=True, connect_timeout=CONNECT_S, tcp_user_timeout=15_000
        )
        for name, value in LIMITS.items():
            connection.execute("SELECT set_config(%s, %s, false)", (name, value))
        return connection


def _sql(text: str) -> LiteralString:
    # psycopg asks for literals to keep injection out; ours are compiled by SQLAlchemy.
    return cast("LiteralString", text)

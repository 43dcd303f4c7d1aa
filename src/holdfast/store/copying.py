"""From SQLite to PostgreSQL: every row of every table, in one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from holdfast.errors import IllegalMove, SettingsError, StoreError

from .lock import HubLock
from .migrations import check
from .registry import address
from .tables import metadata
from .vectors import literal

ROWS = 1000
"""Rows read at once."""


def copy(source: str, target: str, *, home: Path) -> dict[str, int]:
    """Copy all that a SQLite database holds into an empty PostgreSQL database.

    The source is left as it is. The target has everything or, after an error, nothing.

    Args:
        source: `sqlite:///…`; no hub may work on it.
        target: `postgresql://…`, with the same schema and no rows.
        home: the folder whose lock a hub on `source` would hold.

    Returns:
        How many rows of each table were copied.

    Raises:
        SettingsError: an address is of the wrong kind.
        StoreLocked: a hub works on the source.
        StoreOutdated: a schema is not this version's.
        IllegalMove: the target holds rows already.
        StoreError: a database cannot be reached, or refuses.
    """
    old, new = address(source), address(target)
    if old.file is None or new.file is not None:
        raise SettingsError(
            "copied is from SQLite to PostgreSQL",
            hint="holdfast db copy sqlite:////path/holdfast.db postgresql://user@host/name",
        )
    if not old.file.exists():
        raise StoreError(f"there is no SQLite file {old.file}")
    check(source)
    check(target)
    lock = HubLock(home, moment=True)
    try:
        return _copy(old.file, new.url)
    finally:
        lock.release()


def _copy(file: Path, url: str) -> dict[str, int]:
    reading = sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True, isolation_level=None)
    try:
        reading.execute("PRAGMA query_only = ON")
        reading.execute("BEGIN")  # all tables as they are at one moment
        with psycopg.connect(url) as writing, writing.cursor() as cursor:
            tables = [(table.name, table.columns.keys()) for table in metadata.sorted_tables]
            for name, _ in tables:
                some = sql.SQL("SELECT 1 FROM {} LIMIT 1").format(sql.Identifier(name))
                if cursor.execute(some).fetchone():
                    raise IllegalMove(
                        f"the target is not empty: {name} has rows",
                        hint="copy into a fresh database: holdfast db upgrade",
                    )
            copied = {name: _copy_table(reading, cursor, name, names) for name, names in tables}
            _fill_vectors(cursor)
            cursor.execute("ANALYZE")
        return copied
    except (psycopg.Error, sqlite3.Error) as error:
        raise StoreError(f"nothing was copied: {type(error).__name__}: {error}") from error
    finally:
        reading.close()


def _copy_table(
    reading: sqlite3.Connection, cursor: psycopg.Cursor[Any], name: str, columns: list[str]
) -> int:
    listed = sql.SQL(", ").join(sql.Identifier(column) for column in columns)
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(name), listed)
    count = 0
    with cursor.copy(statement) as out:
        for row in _rows(reading, name, columns):
            out.write_row(row)
            count += 1
    return count


def _fill_vectors(cursor: psycopg.Cursor[Any]) -> None:
    """Give pgvector's tables, where there are any, what follows from the bytes copied."""
    if cursor.execute("SELECT to_regclass('chunk_vectors') IS NULL").fetchall() == [(True,)]:
        return
    columns = "chunk_id, owner_id, collection_id, document_id, embedding"
    pick = (
        "SELECT id, owner_id, collection_id, document_id, vector FROM chunks WHERE id > %s "
        "ORDER BY id LIMIT %s"
    )
    last = -1
    while rows := cursor.execute(pick, (last, ROWS)).fetchall():
        last = rows[-1][0]
        _copy_vectors(cursor, f"chunk_vectors ({columns})", rows)
    columns = "owner_id, namespace, key, embedded_by, embedding"
    pick = (
        "SELECT owner_id, namespace, key, embedded_by, vector FROM memory_items WHERE "
        "vector IS NOT NULL AND (owner_id, namespace, key) > (%s, %s, %s) "
        "ORDER BY owner_id, namespace, key LIMIT %s"
    )
    item: tuple[Any, ...] = ("", "", "")
    while rows := cursor.execute(pick, (*item, ROWS)).fetchall():
        item = tuple(rows[-1][:3])
        _copy_vectors(cursor, f"memory_vectors ({columns})", rows)


def _copy_vectors(
    cursor: psycopg.Cursor[Any], into: LiteralString, rows: Sequence[tuple[Any, ...]]
) -> None:
    with cursor.copy(f"COPY {into} FROM STDIN") as out:
        for row in rows:
            out.write_row((*row[:-1], literal(row[-1])))


def _rows(reading: sqlite3.Connection, name: str, columns: list[str]) -> Iterator[tuple[Any, ...]]:
    listed = ", ".join(f'"{column}"' for column in columns)
    found = reading.execute(f'SELECT {listed} FROM "{name}"')  # noqa: S608 - names of our tables
    while rows := found.fetchmany(ROWS):
        yield from rows

"""All of one database into another, empty one: how an installation moves to PostgreSQL."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from sqlalchemy import Connection, Table, func, insert, select

from holdfast.errors import StoreError, StoreNotEmpty

from . import migrations
from .lock import HubLock
from .migrations.running import connected
from .registry import address
from .tables import metadata

ROWS = 500
"""Rows in memory at once; a row may hold a megabyte."""


def copy(source: str, target: str, *, home: Path) -> dict[str, int]:
    """Copy every row, in one transaction: the target has all of it or nothing.

    Args:
        source: address of a migrated database on which no hub works.
        target: address of an empty one; it is brought to the same schema.
        home: the folder whose lock a SQLite hub holds.

    Returns:
        The number of rows by table.

    Raises:
        StoreLocked: a hub works on the source.
        StoreOutdated: the source's schema does not match the code.
        StoreNotEmpty: the target holds something.
        StoreError: a database cannot be reached or refused, or both are the same one.
    """
    here, there = address(source), address(target)
    if here == there:
        raise StoreError("a database cannot be copied into itself")
    with ExitStack() as stack:
        if here.file is not None or there.file is not None:
            stack.callback(HubLock(home).release)
        migrations.check(source)
        migrations.upgrade(target)
        reading = stack.enter_context(connected(source, alone=False))
        writing = stack.enter_context(connected(target))
        if there.file is None:
            names = ", ".join(metadata.tables)
            writing.exec_driver_sql(f"LOCK TABLE {names} IN EXCLUSIVE MODE")
        if here.file is None:
            reading.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        _refuse_unless_empty(writing)
        return {table.name: _copy(table, reading, writing) for table in metadata.sorted_tables}


def _refuse_unless_empty(connection: Connection) -> None:
    for table in metadata.sorted_tables:
        if connection.execute(select(func.count()).select_from(table)).scalar_one():
            raise StoreNotEmpty(
                f"the database has rows in {table.name} already",
                hint="copy into a new, empty database",
            )


def _copy(table: Table, reading: Connection, writing: Connection) -> int:
    copied = 0
    found = reading.execute(select(table), execution_options={"yield_per": ROWS})
    for rows in found.mappings().partitions():
        writing.execute(insert(table), [dict(row) for row in rows])
        copied += len(rows)
    return copied

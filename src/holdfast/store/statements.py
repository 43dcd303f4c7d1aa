"""Statements: written once in SQLAlchemy Core, compiled once per dialect, run by the bare driver.

A SQLAlchemy connection costs about twice what the driver alone does per record; the schema and the
SQL stay single-source all the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

from sqlalchemy import BindParameter, Dialect, Table, bindparam
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement, ColumnElement
from sqlalchemy.sql.expression import Executable

MAX_SLOTS = 64
"""Most values one IN list takes; longer lists are asked for in pieces."""

MAX_ROWS = 32
"""Most rows of one multi-row insert."""


class Text(NamedTuple):
    """A compiled statement."""

    sql: str
    names: tuple[str, ...]  # the parameters in the order the driver wants them
    fixed: Mapping[str, Any]  # values that the dialect itself put in (SQLite's OFFSET 0)

    def place(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        """The values in the driver's order; a missing one is a KeyError."""
        if self.fixed:
            values = {**self.fixed, **values}
        return tuple([values[name] for name in self.names])


class Statement:
    """A Core statement whose every parameter is a named `bindparam`."""

    __slots__ = ("core",)

    def __init__(self, core: Executable) -> None:
        self.core = core


class Conflict(NamedTuple):
    """Rows that an insert passes over: those that would break this unique index; without columns,
    any of the table's.
    """

    columns: tuple[str, ...]
    where: ColumnElement[bool] | None = None


class Insert:
    """An insert of whole rows; each row is a sequence in the order of the table's columns.

    Attributes:
        conflict: rows that are passed over.
        replaces: whether a row takes the place of the one with the same primary key.
    """

    __slots__ = ("conflict", "replaces", "table")

    def __init__(
        self, table: Table, *, unless: Conflict | None = None, replaces: bool = False
    ) -> None:
        self.table = table
        self.conflict = unless
        self.replaces = replaces


class Compiler:
    """The texts of all statements in one dialect, each worked out at its first use."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._insert = sqlite.insert if dialect.name == "sqlite" else postgresql.insert
        self._texts: dict[Statement | tuple[Insert, int], Text] = {}

    def text(self, statement: Statement) -> Text:
        """The text of `statement`."""
        known = self._texts.get(statement)
        if known is None:
            known = self._texts[statement] = self._compile(statement.core)
        return known

    def insert(self, insert: Insert, rows: int) -> Text:
        """The text that inserts `rows` rows; its parameters are the rows laid end to end."""
        known = self._texts.get((insert, rows))
        if known is None:
            known = self._texts[insert, rows] = self._compile_insert(insert, rows)
        return known

    def _compile_insert(self, insert: Insert, rows: int) -> Text:
        names = insert.table.c.keys()
        core = self._insert(insert.table).values(
            [{name: bindparam(f"{name}_{i}") for name in names} for i in range(rows)]
        )
        if insert.conflict is not None:
            core = core.on_conflict_do_nothing(
                index_elements=insert.conflict.columns or None, index_where=insert.conflict.where
            )
        if insert.replaces:
            key = insert.table.primary_key.columns.keys()
            core = core.on_conflict_do_update(
                index_elements=key,
                set_={name: core.excluded[name] for name in names if name not in key},
            )
        text = self._compile(core)
        if text.names != tuple(f"{name}_{i}" for i in range(rows) for name in names):
            raise AssertionError(f"parameters of {insert.table.name} are out of order")
        return text

    def _compile(self, core: Executable) -> Text:
        compiled = cast("SQLCompiler", cast("ClauseElement", core).compile(dialect=self._dialect))
        names = tuple(compiled.positiontup or ())
        params = {name: value for name, value in compiled.params.items() if value is not None}
        return Text(str(compiled), names, params)


def sqlite_compiler() -> Compiler:
    """Texts for the `sqlite3` module."""
    return Compiler(sqlite.dialect(paramstyle="qmark"))


def postgres_compiler() -> Compiler:
    """Texts for psycopg."""
    return Compiler(postgresql.dialect(paramstyle="format"))


def slots(name: str, count: int) -> list[BindParameter[Any]]:
    """The parameters of an IN list of `count` values."""
    return [bindparam(f"{name}_{i}") for i in range(count)]


def sized(values: Sequence[Any]) -> int:
    """The number of slots for a piece of values: a power of two, so that few texts are needed."""
    return 1 << max(0, len(values) - 1).bit_length()


def fill(name: str, values: Sequence[Any]) -> Mapping[str, Any]:
    """What stands in `slots(name, sized(values))`; the last value fills what is left over."""
    last = values[-1]
    return {f"{name}_{i}": values[i] if i < len(values) else last for i in range(sized(values))}


def pieces(values: Sequence[Any], size: int = MAX_SLOTS) -> Iterator[Sequence[Any]]:
    """`values` in runs of at most `size`."""
    for start in range(0, len(values), size):
        yield values[start : start + size]

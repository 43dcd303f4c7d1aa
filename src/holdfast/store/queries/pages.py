"""Lists in pages: newest first, each page continued after the last id of the one before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Table, bindparam, select
from sqlalchemy.sql.elements import ColumnElement

from holdfast.errors import InvalidInput
from holdfast.store.statements import Statement

MAX_PAGE = 200
"""Most items of one page."""


@cache
def page(table: Table, columns: tuple[str, ...], when: str, filters: frozenset[str]) -> Statement:
    """A page of an owner's rows, by the filters in use.

    Args:
        table: has `id` and `owner_id`.
        columns: what to select.
        when: the time column that `since` and `until` look at.
        filters: `before`, `since`, `until`, or names of columns that must equal; `column?` and
            `no column?` for one that holds something, or nothing.
    """
    tests: list[ColumnElement[bool]] = [table.c.owner_id == bindparam("owner_id")]
    for name in sorted(filters):
        match name:
            case "before":
                tests.append(table.c.id < bindparam("before"))
            case "since":
                tests.append(table.c[when] >= bindparam("since"))
            case "until":
                tests.append(table.c[when] < bindparam("until"))
            case _ if name.endswith("?"):
                column = table.c[name.removeprefix("no ").removesuffix("?")]
                tests.append(column.is_(None) if name.startswith("no ") else column.is_not(None))
            case _:
                tests.append(table.c[name] == bindparam(name))
    return Statement(
        select(*(table.c[name] for name in columns))
        .where(*tests)
        .order_by(table.c.id.desc())
        .limit(bindparam("limit"))
    )


def in_use(filters: Mapping[str, Any]) -> dict[str, Any]:
    """The filters that were given."""
    return {name: value for name, value in filters.items() if value is not None}


def check_limit(limit: int) -> None:
    """Refuse pages that are empty or too long.

    Raises:
        InvalidInput: not within 1 and `MAX_PAGE`.
    """
    if not 1 <= limit <= MAX_PAGE:
        raise InvalidInput(
            f"a page has 1 to {MAX_PAGE} items, not {limit}",
            fields=[{"field": "limit", "expected": f"1 to {MAX_PAGE}", "got": limit}],
        )


def columns(table: Table, names: Sequence[str]) -> tuple[ColumnElement[Any], ...]:
    """Columns of a table by name."""
    return tuple(table.c[name] for name in names)

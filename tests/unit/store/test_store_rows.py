"""The tables have a column for every field, in the order in which rows are written."""

from __future__ import annotations

import pytest
from sqlalchemy import BigInteger, Integer, LargeBinary, String, Table
from sqlalchemy import Text as TextType

from holdfast.domain.savings import KEY, SUMS
from holdfast.store.queries.context_cache import NAMES
from holdfast.store.rows import ATTEMPT, EVENT, EXECUTION_COLUMNS, STEP
from holdfast.store.tables import (
    attempts,
    cache_savings,
    context_cache,
    events,
    executions,
    metadata,
    steps,
)

NOBODYS = {"allowances", "breakers", "context_cache", "hubs"}
"""What belongs to the installation, and to no owner."""


@pytest.mark.parametrize(
    ("table", "names"),
    [
        (executions, EXECUTION_COLUMNS),
        (steps, ("execution_id", "owner_id", *STEP.names)),
        (attempts, ("execution_id", "owner_id", *ATTEMPT.names)),
        (context_cache, NAMES),
        (cache_savings, (*KEY, *SUMS)),
    ],
)
def test_rows_are_written_in_the_order_of_columns(table: Table, names: tuple[str, ...]) -> None:
    assert tuple(table.c.keys()) == names


def test_an_event_has_a_column_for_every_field() -> None:
    assert set(events.c.keys()) == {*EVENT.names, "told_at"}  # which channels' hub alone needs


@pytest.mark.parametrize("table", metadata.sorted_tables, ids=lambda table: table.name)
def test_every_row_has_an_owner_and_plain_columns(table: Table) -> None:
    if table.name not in NOBODYS:
        owner = table.c.id if table.name == "users" else table.c.owner_id  # a user is an owner
        assert not owner.nullable
    plain = (String, TextType, Integer, BigInteger, LargeBinary)
    assert all(type(column.type) in plain for column in table.c)

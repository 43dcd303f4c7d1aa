"""Questions about the ledger: sums by what was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from sqlalchemy import Select, Table, bindparam, func, literal_column, select, union_all
from sqlalchemy.sql.elements import ColumnElement

from holdfast.domain.status import ExecutionStatus
from holdfast.domain.usage import SUMS, Sums
from holdfast.store.base import Query, Reads
from holdfast.store.statements import Statement
from holdfast.store.tables import executions, usage, usage_days
from holdfast.store.tables.base import word

UsageBy = Literal["owner", "pipeline", "agent", "model", "day", "alias"]

_KEYS: dict[str, tuple[str, ...]] = {
    "owner": ("owner_id",),
    "pipeline": ("name",),
    "agent": ("name",),
    "model": ("provider", "model"),
    "day": ("day",),
    "alias": ("alias",),
}

MAX_DAY = 2**31 - 1


@cache
def _grouped(by: UsageBy, *, everybody: bool) -> Statement:
    keys = _KEYS[by]

    def rows(table: Table) -> Select[*tuple[Any, ...]]:
        found = select(*(table.c[name] for name in keys), *(table.c[name] for name in SUMS)).where(
            table.c.day >= bindparam("since"), table.c.day <= bindparam("until")
        )
        if not everybody:
            found = found.where(table.c.owner_id == bindparam("owner_id"))
        if by in ("pipeline", "agent"):
            found = found.where(table.c.kind == literal_column(f"'{by}'"))
        return found

    both = union_all(rows(usage_days), rows(usage).where(LOOSE)).subquery()
    sums = [func.sum(both.c[name]) for name in SUMS]
    return Statement(
        select(*(both.c[name] for name in keys), *sums)
        .group_by(*(both.c[name] for name in keys))
        .order_by(*(both.c[name] for name in keys))
    )


LOOSE: ColumnElement[bool] = literal_column("usage.folded") == literal_column("0")
"""Lines that the sums by day do not have yet; spelled as the partial index has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageOf(Query[list[tuple[tuple[Any, ...], Sums]]]):
    """Sums of an owner's usage, each with what they are of, in the order of that.

    Attributes:
        owner_id: whose; None for everybody's, which is for administrators only.
        by: what the sums are of.
        since: first day.
        until: last day.
    """

    owner_id: str | None
    by: UsageBy
    since: int = 0
    until: int = MAX_DAY

    def run(self, db: Reads) -> list[tuple[tuple[Any, ...], Sums]]:
        """Ask the sums by day and what has come since they were made, in one statement."""
        keys = len(_KEYS[self.by])
        values: dict[str, Any] = {"since": self.since, "until": self.until}
        if self.owner_id is not None:
            values["owner_id"] = self.owner_id
        statement = _grouped(self.by, everybody=self.owner_id is None)
        return [(tuple(row[:keys]), _sums(row[keys:])) for row in db.rows(statement, values)]


def _sums(row: Sequence[Any]) -> Sums:
    return Sums(**{name: int(value) for name, value in zip(SUMS, row, strict=True)})


_PAST = Statement(
    select(
        executions.c.tokens_input,
        executions.c.tokens_output,
        executions.c.cost_pico,
        executions.c.credits,
        executions.c.usage_unknown,
        executions.c.cost_unknown,
    )
    .where(
        executions.c.owner_id == bindparam("owner_id"),
        executions.c.name == bindparam("name"),
        executions.c.graph_version == bindparam("version"),
        executions.c.status.in_([word(ExecutionStatus.SUCCEEDED), word(ExecutionStatus.PARTIAL)]),
    )
    .order_by(executions.c.id.desc())
    .limit(bindparam("limit"))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PastRun:
    """What a finished execution took; None: not known whole."""

    tokens_input: int | None
    tokens_output: int | None
    cost_pico: int | None
    credits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PastRuns(Query[list[PastRun]]):
    """What the newest finished executions of one version took, each without its children."""

    owner_id: str
    name: str
    version: str
    limit: int

    def run(self, db: Reads) -> list[PastRun]:
        """Ask over the index of names."""
        values = {
            "owner_id": self.owner_id,
            "name": self.name,
            "version": self.version,
            "limit": self.limit,
        }
        return [
            PastRun(
                tokens_input=None if no_usage else tokens_input,
                tokens_output=None if no_usage else tokens_output,
                cost_pico=None if no_cost else cost,
                credits=charged,
            )
            for tokens_input, tokens_output, cost, charged, no_usage, no_cost in db.rows(
                _PAST, values
            )
        ]

"""Questions about context caches, and about what they saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import bindparam, select

from holdfast.domain.context_cache import CacheStatus, ContextCache
from holdfast.domain.savings import KEY, SUMS, Saving
from holdfast.store.base import Query, Reads
from holdfast.store.statements import Statement
from holdfast.store.tables import cache_savings, context_cache

NAMES = tuple(field.name for field in fields(ContextCache))
"""Columns in the order of the table."""

COLUMNS = tuple(context_cache.c[name] for name in NAMES)

_ALL = Statement(
    select(*COLUMNS)
    .order_by(context_cache.c.prompt, context_cache.c.model, context_cache.c.key)
    .limit(bindparam("limit"))
)

_SAVINGS = Statement(
    select(*(cache_savings.c[name] for name in (*KEY, *SUMS)))
    .where(
        cache_savings.c.owner_id == bindparam("owner"),
        cache_savings.c.day >= bindparam("since"),
        cache_savings.c.day <= bindparam("until"),
    )
    .order_by(*(cache_savings.c[name] for name in KEY))
    .limit(bindparam("limit"))
)


def cache_item(row: Sequence[Any]) -> ContextCache:
    """A cache out of a row of `COLUMNS`."""
    values = dict(zip(NAMES, row, strict=True))
    values["status"] = CacheStatus(values["status"])
    return ContextCache(**values)


@dataclass(frozen=True, slots=True)
class AllCaches(Query[list[ContextCache]]):
    """Caches by prompt, across owners: who has the same prompt shares it."""

    limit: int

    def run(self, db: Reads) -> list[ContextCache]:
        """Ask."""
        return [cache_item(row) for row in db.rows(_ALL, {"limit": self.limit})]


@dataclass(frozen=True, slots=True)
class SavingsOf(Query[list[Saving]]):
    """An owner's savings by day, oldest first.

    Attributes:
        since: first day, 2026-11-20.
        until: last day.
    """

    owner_id: str
    since: str
    until: str
    limit: int

    def run(self, db: Reads) -> list[Saving]:
        """Ask."""
        values = {"owner": self.owner_id, "since": self.since, "until": self.until}
        rows = db.rows(_SAVINGS, {**values, "limit": self.limit})
        return [Saving(**dict(zip((*KEY, *SUMS), row, strict=True))) for row in rows]

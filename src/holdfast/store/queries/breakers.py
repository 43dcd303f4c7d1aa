"""Questions about circuit breakers, across owners: what is outside is everybody's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import func, select

from holdfast.domain.breakers import Breaker, BreakerStatus
from holdfast.domain.status import EventStatus
from holdfast.store.base import Query, Reads
from holdfast.store.statements import Statement
from holdfast.store.tables import breakers, events
from holdfast.store.tables.base import word

NAMES = tuple(field.name for field in fields(Breaker))

COLUMNS = tuple(breakers.c[name] for name in NAMES)

_ALL = Statement(select(*COLUMNS).order_by(breakers.c.name))


_WAITING = Statement(
    select(events.c.postponed_for, func.count())
    .where(events.c.status == word(EventStatus.QUEUED), events.c.postponed_for.is_not(None))
    .group_by(events.c.postponed_for)
)


def breaker_item(row: Sequence[Any]) -> Breaker:
    """A breaker out of a row of `COLUMNS`."""
    values = dict(zip(NAMES, row, strict=True))
    values["status"] = BreakerStatus(values["status"])
    values["by_hand"] = bool(values["by_hand"])
    return Breaker(**values)


@dataclass(frozen=True, slots=True)
class BreakersNow:
    """How all breakers stand.

    Attributes:
        breakers: by name.
        waiting: how many queued events wait for each.
    """

    breakers: Mapping[str, Breaker]
    waiting: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class AllBreakers(Query[BreakersNow]):
    """Every breaker that was ever used, and what waits for it."""

    def run(self, db: Reads) -> BreakersNow:
        """Ask for both."""
        found = [breaker_item(row) for row in db.rows(_ALL, {})]
        waiting: dict[str, int] = dict(db.rows(_WAITING, {}))
        return BreakersNow({one.name: one for one in found}, waiting)

"""Questions about events."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import bindparam, func, select

from holdfast.domain.events import Event, Origin
from holdfast.domain.status import EventStatus
from holdfast.errors import NotFound
from holdfast.store.base import Query, Reads
from holdfast.store.rows import EVENT, LISTED_EVENT
from holdfast.store.statements import Statement
from holdfast.store.tables import events

from .pages import check_limit, columns, in_use, page
from .turns import FOR_AGENTS, FOR_PIPELINES

_BY_ID = Statement(
    select(*columns(events, EVENT.names)).where(
        events.c.id == bindparam("id"), events.c.owner_id == bindparam("owner_id")
    )
)

_BY_STATUS = Statement(select(events.c.status, func.count()).group_by(events.c.status))

_QUEUED_BY_TARGET = [
    Statement(select(events.c.target, func.count()).where(*which).group_by(events.c.target))
    for which in (FOR_PIPELINES, FOR_AGENTS)
]


@dataclass(frozen=True, slots=True)
class EventById(Query[Event]):
    """One event with its data.

    Raises:
        NotFound: no such event, or another owner's.
    """

    id: str
    owner_id: str

    def run(self, db: Reads) -> Event:
        """Ask by primary key."""
        for row in db.rows(_BY_ID, {"id": self.id, "owner_id": self.owner_id}):
            return EVENT.item(row)
        raise NotFound(f"there is no event {self.id}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListEvents(Query[list[Event]]):
    """A page of an owner's events, newest first, without their data.

    Attributes:
        since, until: bounds of `received_at`, the upper one excluded.
        before: the last id of the page before.
    """

    owner_id: str
    status: EventStatus | None = None
    target: str | None = None
    origin: Origin | None = None
    since: int | None = None
    until: int | None = None
    before: str | None = None
    limit: int = 50

    def run(self, db: Reads) -> list[Event]:
        """Ask for one page."""
        check_limit(self.limit)
        filters = in_use(
            {
                "status": None if self.status is None else self.status.value,
                "target": self.target,
                "origin": self.origin,
                "since": self.since,
                "until": self.until,
                "before": self.before,
            }
        )
        statement = page(events, LISTED_EVENT.names, "received_at", frozenset(filters))
        values = {"owner_id": self.owner_id, "limit": self.limit, **filters}
        return [LISTED_EVENT.item(row, data=None) for row in db.rows(statement, values)]


@dataclass(frozen=True, slots=True)
class CountEvents(Query[dict[EventStatus, int]]):
    """How many events there are in each status, of all owners: for the hub's metrics."""

    def run(self, db: Reads) -> dict[EventStatus, int]:
        """Count; a status without events counts 0."""
        found: dict[str, int] = dict(db.rows(_BY_STATUS, {}))
        return {status: found.get(status.value, 0) for status in EventStatus}


@dataclass(frozen=True, slots=True)
class CountQueued(Query[dict[str, int]]):
    """How many queued events each pipeline and agent has, of all owners: for `holdfast doctor`."""

    def run(self, db: Reads) -> dict[str, int]:
        """Count over the indexes of the queue."""
        return {name: n for one in _QUEUED_BY_TARGET for name, n in db.rows(one, {})}

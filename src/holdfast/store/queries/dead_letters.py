"""Questions about dead letters."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from sqlalchemy import bindparam, select

from holdfast.domain.dead_letters import Action, Intervention
from holdfast.domain.events import Event
from holdfast.domain.status import EventStatus
from holdfast.store.base import Query, Reads
from holdfast.store.frames import from_json
from holdfast.store.rows import LISTED_EVENT
from holdfast.store.statements import Statement
from holdfast.store.tables import events, interventions
from holdfast.store.tables.base import word

from .pages import check_limit, columns, in_use

_OF_EVENT = Statement(
    select(
        interventions.c.id,
        interventions.c.event_id,
        interventions.c.action,
        interventions.c.at,
        interventions.c.by,
        interventions.c.reason,
        interventions.c.data,
        interventions.c.before,
    )
    .where(
        interventions.c.event_id == bindparam("event_id"),
        interventions.c.owner_id == bindparam("owner_id"),
    )
    .order_by(interventions.c.id)
)

_TESTS = {
    "before": events.c.id < bindparam("before"),
    "since": events.c.finished_at >= bindparam("since"),
    "until": events.c.finished_at < bindparam("until"),
    "target": events.c.target == bindparam("target"),
}


@cache
def _page(filters: frozenset[str], discarded: bool) -> Statement:
    status = EventStatus.CANCELLED if discarded else EventStatus.DEAD
    tests = [events.c.owner_id == bindparam("owner_id"), events.c.status == word(status)]
    if discarded:
        tests.append(events.c.discarded.is_not(None))
    tests += [_TESTS[name] for name in sorted(filters)]
    return Statement(
        select(*columns(events, LISTED_EVENT.names))
        .where(*tests)
        .order_by(events.c.id.desc())
        .limit(bindparam("limit"))
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ListDeadLetters(Query[list[Event]]):
    """A page of an owner's dead letters, newest event first, without their data.

    Attributes:
        discarded: those that were discarded instead.
        since, until: bounds of the time they died or were discarded, the upper one excluded.
        before: the last id of the page before.
    """

    owner_id: str
    target: str | None = None
    discarded: bool = False
    since: int | None = None
    until: int | None = None
    before: str | None = None
    limit: int = 50

    def run(self, db: Reads) -> list[Event]:
        """Ask for one page."""
        check_limit(self.limit)
        filters = in_use({name: getattr(self, name) for name in _TESTS})
        statement = _page(frozenset(filters), self.discarded)
        values = {"owner_id": self.owner_id, "limit": self.limit, **filters}
        return [LISTED_EVENT.item(row, data=None) for row in db.rows(statement, values)]


@dataclass(frozen=True, slots=True)
class InterventionsOf(Query[list[Intervention]]):
    """What was done to an event while it was a dead letter, in order; nothing when it is another
    owner's.
    """

    event_id: str
    owner_id: str

    def run(self, db: Reads) -> list[Intervention]:
        """Ask by event."""
        values = {"event_id": self.event_id, "owner_id": self.owner_id}
        return [
            Intervention(
                id=id_,
                event_id=event_id,
                action=Action(action),
                at=at,
                by=by,
                reason=reason,
                data=None if data is None else from_json(data),
                before=from_json(before),
            )
            for id_, event_id, action, at, by, reason, data, before in db.rows(_OF_EVENT, values)
        ]

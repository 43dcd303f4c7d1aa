"""Questions of the hub itself, across owners."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Integer, bindparam, literal_column, select

from holdfast.domain.status import EventStatus
from holdfast.store.base import Query, Reads
from holdfast.store.statements import Statement
from holdfast.store.tables import events
from holdfast.store.tables.base import word

_PING = Statement(select(literal_column("1", Integer)))

_LEASES = Statement(
    select(events.c.id, events.c.owner_id, events.c.execution_id, events.c.fence)
    .where(
        events.c.status == word(EventStatus.RUNNING),
        events.c.lease_owner == bindparam("lease_owner"),
    )
    .order_by(events.c.id)
)


@dataclass(frozen=True, slots=True)
class Ping(Query[None]):
    """Whether the database answers."""

    def run(self, db: Reads) -> None:
        """Ask for a constant."""
        db.rows(_PING, {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """An event that runs under a lease."""

    event_id: str
    owner_id: str
    execution_id: str
    fence: int


@dataclass(frozen=True, slots=True)
class LeasesOf(Query[list[Lease]]):
    """The events that one boot of a hub holds."""

    lease_owner: str

    def run(self, db: Reads) -> list[Lease]:
        """Ask over the index of leases."""
        return [
            Lease(event_id=event_id, owner_id=owner_id, execution_id=execution_id, fence=fence)
            for event_id, owner_id, execution_id, fence in db.rows(
                _LEASES, {"lease_owner": self.lease_owner}
            )
        ]

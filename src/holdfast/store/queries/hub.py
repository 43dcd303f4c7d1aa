"""Questions of the hub itself, across owners."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from sqlalchemy import BigInteger, Integer, bindparam, column, func, literal_column, select
from sqlalchemy import cast as sql_cast

from holdfast.domain.hubs import ALIVE_US, KnownHub, Role
from holdfast.domain.status import EVENT_ENDS, EventStatus
from holdfast.store.base import Query, Reads
from holdfast.store.statements import Statement, fill, pieces, sized, slots
from holdfast.store.tables import events, hubs, pauses
from holdfast.store.tables.base import word

from .turns import FOR_PIPELINES

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


_CLUSTER = func.pg_control_system().table_valued(column("system_identifier", BigInteger))

_SPACE = Statement(select(_CLUSTER.c.system_identifier, func.current_database()))


@dataclass(frozen=True, slots=True)
class Space(Query[str]):
    """A name that belongs to this PostgreSQL database alone, the same however it is reached."""

    def run(self, db: Reads) -> str:
        """Ask the server who it is."""
        ((cluster, name),) = db.rows(_SPACE, {})
        return f"{cluster}:{name}"


@cache
def _at_rest(count: int) -> Statement:
    return Statement(
        select(events.c.id, events.c.status).where(
            events.c.id.in_(slots("id", count)),
            events.c.status.in_([word(status) for status in sorted(EVENT_ENDS)]),
        )
    )


@dataclass(frozen=True, slots=True)
class AtRest(Query[dict[str, EventStatus]]):
    """Which of these events rest, and in which status."""

    event_ids: Sequence[str]

    def run(self, db: Reads) -> dict[str, EventStatus]:
        """Ask by primary key."""
        found: dict[str, EventStatus] = {}
        for piece in pieces(self.event_ids):
            for event_id, status in db.rows(_at_rest(sized(piece)), fill("id", piece)):
                found[event_id] = EventStatus(status)
        return found


@cache
def _holders(count: int) -> Statement:
    return Statement(
        select(events.c.execution_id, events.c.lease_owner).where(
            events.c.id.in_(slots("id", count)),
            events.c.owner_id == bindparam("owner_id"),
            events.c.status == word(EventStatus.RUNNING),
        )
    )


@dataclass(frozen=True, slots=True)
class Holders(Query[dict[str, str]]):
    """The hubs that run these events of an owner, by the execution that runs."""

    owner_id: str
    event_ids: Sequence[str]

    def run(self, db: Reads) -> dict[str, str]:
        """Ask by primary key."""
        found: dict[str, str] = {}
        for piece in pieces(self.event_ids):
            values = {"owner_id": self.owner_id, **fill("id", piece)}
            found.update(tuple(row) for row in db.rows(_holders(sized(piece)), values))
        return found


_HUBS = Statement(select(*hubs.c).order_by(hubs.c.started_at, hubs.c.id))


@dataclass(frozen=True, slots=True)
class AllHubs(Query[list[KnownHub]]):
    """The hubs of this database, oldest first, those included that died not long ago.

    A hub is measured by the newest beat of all, that of whoever asks at the latest: no clock but
    the store's has a say.
    """

    def run(self, db: Reads) -> list[KnownHub]:
        """Ask for all."""
        rows = db.rows(_HUBS, {})
        newest = max((row[-1] for row in rows), default=0)
        return [
            KnownHub(
                id=id_,
                kind=kind,
                roles=tuple(Role(role) for role in roles.split()),
                host=host,
                pid=pid,
                version=version,
                stopping=bool(stopping),
                started_at=started_at,
                seen_at=seen_at,
                alive=seen_at > newest - ALIVE_US,
            )
            for id_, kind, roles, host, pid, version, stopping, started_at, seen_at in rows
        ]


_READY = (
    select(events.c.id)
    .where(
        *FOR_PIPELINES,
        events.c.available_at
        <= sql_cast(func.extract("epoch", func.statement_timestamp()) * 1_000_000, BigInteger)
        - bindparam("for_us"),
        events.c.cancel_requested_at.is_(None),
        events.c.target.not_in(select(pauses.c.pipeline)),
    )
    .order_by(events.c.priority.desc(), events.c.available_at, events.c.id)
    .limit(bindparam("limit"))
)


@cache
def _ready(targets: int) -> Statement:
    return Statement(_READY.where(events.c.target.in_(slots("target", targets))))


@dataclass(frozen=True, slots=True, kw_only=True)
class StillReady(Query[list[str]]):
    """The events that could have run for some time; PostgreSQL only, by its clock.

    Attributes:
        targets: names of pipelines.
        for_us: how long, in microseconds.
        limit: at most so many, the best.
    """

    targets: Sequence[str]
    for_us: int
    limit: int

    def run(self, db: Reads) -> list[str]:
        """Ask over the index of ready events."""
        values = {"for_us": self.for_us, "limit": self.limit, **fill("target", self.targets)}
        return [row[0] for row in db.rows(_ready(sized(self.targets)), values)]

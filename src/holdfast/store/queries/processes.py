"""Questions about supervised processes."""

from __future__ import annotations

from dataclasses import dataclass, fields

from sqlalchemy import bindparam, literal_column, or_, select

from holdfast.domain.agents import Process, ProcessStatus
from holdfast.domain.ids import now_us
from holdfast.store.base import Query, Reads
from holdfast.store.rows import Shape
from holdfast.store.statements import Statement
from holdfast.store.tables import processes
from holdfast.store.tables.base import word

P = ProcessStatus

PROCESS = Shape(
    Process,
    [one.name for one in fields(Process)],
    json=("last_error",),
    texts=("host",),
    status=ProcessStatus,
)
PROCESS_COLUMNS = tuple(processes.c[name] for name in PROCESS.names)

_OF_OWNER = select(*PROCESS_COLUMNS).where(processes.c.owner_id == bindparam("owner_id"))
_ONE = Statement(
    _OF_OWNER.where(processes.c.kind == bindparam("kind"), processes.c.target == bindparam("of"))
)
_LIST = Statement(_OF_OWNER.order_by(processes.c.kind, processes.c.target))
_LEFT = Statement(
    select(processes.c.target, processes.c.owner_id, processes.c.status)
    .where(
        processes.c.kind == bindparam("kind"),
        processes.c.wanted == literal_column("'on'"),
        processes.c.status.in_([word(one) for one in (P.STARTING, P.RUNNING, P.STOPPING)]),
        or_(processes.c.hub.is_(None), processes.c.lease_until < bindparam("now")),
    )
    .order_by(processes.c.target)
)
_ALL = Statement(select(*PROCESS_COLUMNS).order_by(processes.c.kind, processes.c.target))


@dataclass(frozen=True, slots=True)
class ProcessOf(Query[Process | None]):
    """A target's process; None when none was ever started or asked for. Changes nothing."""

    kind: str
    target: str
    owner_id: str

    def run(self, db: Reads) -> Process | None:
        """Ask by primary key."""
        values = {"kind": self.kind, "of": self.target, "owner_id": self.owner_id}
        return next((PROCESS.item(row) for row in db.rows(_ONE, values)), None)


@dataclass(frozen=True, slots=True)
class Processes(Query[list[Process]]):
    """All processes of an owner's."""

    owner_id: str

    def run(self, db: Reads) -> list[Process]:
        """Ask by owner."""
        return [PROCESS.item(row) for row in db.rows(_LIST, {"owner_id": self.owner_id})]


@dataclass(frozen=True, slots=True)
class AllProcesses(Query[list[Process]]):
    """Every owner's processes, for the hubs that supervise them."""

    def run(self, db: Reads) -> list[Process]:
        """Ask for all."""
        return [PROCESS.item(row) for row in db.rows(_ALL, {})]


@dataclass(frozen=True, slots=True)
class ProcessesLeft(Query[list[tuple[str, str, ProcessStatus]]]):
    """Targets that should run and that nobody holds any more, of all owners, with their owners.

    Attributes:
        kind: of process.
        now: the caller's time, microseconds; None: this machine's. Whether one may be taken is
            decided by the store's (`TakeProcesses`).
    """

    kind: str
    now: int | None = None

    def run(self, db: Reads) -> list[tuple[str, str, ProcessStatus]]:
        """Ask by kind."""
        now = now_us() if self.now is None else self.now
        rows = db.rows(_LEFT, {"kind": self.kind, "now": now})
        return [(target, owner, ProcessStatus(status)) for target, owner, status in rows]

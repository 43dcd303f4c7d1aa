"""Questions about executions and the records they left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from sqlalchemy import bindparam, select

from holdfast.domain.events import Event, Origin
from holdfast.domain.executions import Attempt, Execution, Step
from holdfast.domain.payload import EVENT_ENTRY, Payload
from holdfast.domain.status import EVENT_ENDS, ExecutionStatus
from holdfast.errors import NotFound
from holdfast.store.base import Query, Reads
from holdfast.store.frames import from_json
from holdfast.store.rows import ATTEMPT, EXECUTION_NAMES, STEP, execution_item
from holdfast.store.statements import Statement, fill, pieces, sized, slots
from holdfast.store.tables import attempts, blobs, events, executions, payloads, steps

from .events import EventById
from .pages import check_limit, columns, in_use, page

_BY_ID = Statement(
    select(*columns(executions, EXECUTION_NAMES)).where(
        executions.c.id == bindparam("id"), executions.c.owner_id == bindparam("owner_id")
    )
)

_OF_EVENT = Statement(
    select(*columns(executions, EXECUTION_NAMES))
    .where(
        executions.c.event_id == bindparam("event_id"),
        executions.c.owner_id == bindparam("owner_id"),
    )
    .order_by(executions.c.id)
)

_STEPS = Statement(
    select(*columns(steps, STEP.names))
    .where(steps.c.execution_id == bindparam("id"), steps.c.owner_id == bindparam("owner_id"))
    .order_by(steps.c.step)
)

_ATTEMPTS = Statement(
    select(*columns(attempts, ATTEMPT.names))
    .where(attempts.c.execution_id == bindparam("id"), attempts.c.owner_id == bindparam("owner_id"))
    .order_by(attempts.c.step, attempts.c.n)
)

_FRAME = Statement(
    select(payloads.c.frame)
    .where(payloads.c.execution_id == bindparam("id"), payloads.c.owner_id == bindparam("owner_id"))
    .order_by(payloads.c.part)
)

_DATA = Statement(
    select(events.c.data).where(
        events.c.id == bindparam("id"), events.c.owner_id == bindparam("owner_id")
    )
)


@cache
def _texts(count: int) -> Statement:
    return Statement(
        select(blobs.c.hash, blobs.c.text).where(
            blobs.c.owner_id == bindparam("owner_id"), blobs.c.hash.in_(slots("hash", count))
        )
    )


@dataclass(frozen=True, slots=True)
class ExecutionById(Query[Execution]):
    """One execution, running ones too.

    Raises:
        NotFound: no such execution, or another owner's.
    """

    id: str
    owner_id: str

    def run(self, db: Reads) -> Execution:
        """Ask by primary key."""
        for row in db.rows(_BY_ID, {"id": self.id, "owner_id": self.owner_id}):
            return execution_item(row)
        raise NotFound(f"there is no execution {self.id}")


@dataclass(frozen=True, slots=True)
class ExecutionsOf(Query[list[Execution]]):
    """All executions of an event, oldest first; none when the event is another owner's."""

    event_id: str
    owner_id: str

    def run(self, db: Reads) -> list[Execution]:
        """Ask by event."""
        rows = db.rows(_OF_EVENT, {"event_id": self.event_id, "owner_id": self.owner_id})
        return [execution_item(row) for row in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListExecutions(Query[list[Execution]]):
    """A page of an owner's executions, newest first.

    Attributes:
        since, until: bounds of `started_at`, the upper one excluded.
        before: the last id of the page before.
        suspicious: those in which content checks found something, or those in which none did; what
            is under way is looked at as it was stored last.
    """

    owner_id: str
    status: ExecutionStatus | None = None
    name: str | None = None
    event_id: str | None = None
    parent_id: str | None = None
    origin: Origin | None = None
    suspicious: bool | None = None
    since: int | None = None
    until: int | None = None
    before: str | None = None
    limit: int = 50

    def run(self, db: Reads) -> list[Execution]:
        """Ask for one page."""
        check_limit(self.limit)
        filters = in_use(
            {
                "status": None if self.status is None else self.status.value,
                "name": self.name,
                "event_id": self.event_id,
                "parent_id": self.parent_id,
                "origin": self.origin,
                "since": self.since,
                "until": self.until,
                "before": self.before,
            }
        )
        names = set(filters)
        if self.suspicious is not None:
            names.add("suspicious?" if self.suspicious else "no suspicious?")
        statement = page(executions, EXECUTION_NAMES, "started_at", frozenset(names))
        values = {"owner_id": self.owner_id, "limit": self.limit, **filters}
        return [execution_item(row) for row in db.rows(statement, values)]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRecord:
    """What an execution left behind; of a running one only the execution itself.

    Attributes:
        entries: the payload, see `domain.payload`.
        blobs: text by hash of each shared text that `entries` points to.
        event_data: what its event carried.
    """

    execution: Execution
    steps: tuple[Step, ...]
    attempts: tuple[Attempt, ...]
    entries: tuple[Any, ...]
    blobs: Mapping[str, str]
    event_data: Any

    def payload(self) -> Payload:
        """The values behind the indexes of steps and attempts."""
        # Of one that runs, or was lost with its hub, is stored only that it began.
        began = (EVENT_ENTRY,) if self.execution.input is not None else ()
        return Payload(
            self.entries or began, event_data=self.event_data, blobs=self.blobs.__getitem__
        )


@dataclass(frozen=True, slots=True)
class RecordOf(Query[StoredRecord]):
    """An execution's whole record.

    Raises:
        NotFound: no such execution, or another owner's.
    """

    snapshot: ClassVar[bool] = True
    execution_id: str
    owner_id: str

    def run(self, db: Reads) -> StoredRecord:
        """Ask table by table."""
        execution = ExecutionById(self.execution_id, self.owner_id).run(db)
        mine = {"id": execution.id, "owner_id": self.owner_id}
        frames = db.rows(_FRAME, mine)
        data = db.rows(_DATA, {"id": execution.event_id, "owner_id": self.owner_id})
        entries = tuple(entry for (frame,) in frames for entry in db.frames.unpack_entries(frame))
        return StoredRecord(
            execution=execution,
            steps=tuple(STEP.item(row) for row in db.rows(_STEPS, mine)),
            attempts=tuple(ATTEMPT.item(row) for row in db.rows(_ATTEMPTS, mine)),
            entries=entries,
            blobs=self._blobs(db, entries),
            event_data=from_json(data[0][0]) if data else None,
        )

    def _blobs(self, db: Reads, entries: tuple[Any, ...]) -> dict[str, str]:
        hashes = sorted({entry[1] for entry in entries if entry[0] == "b"})
        return {
            key: db.frames.unpack_text(packed)
            for piece in pieces(hashes)
            for key, packed in db.rows(
                _texts(sized(piece)), {"owner_id": self.owner_id, **fill("hash", piece)}
            )
        }


@dataclass(frozen=True, slots=True)
class EventWhole(Query[tuple[Event, list[Execution], StoredRecord | None]]):
    """An event, its executions and, once it rests, the newest one's record: in one question.

    Raises:
        NotFound: no such event, or another owner's.
    """

    snapshot: ClassVar[bool] = True
    event_id: str
    owner_id: str

    def run(self, db: Reads) -> tuple[Event, list[Execution], StoredRecord | None]:
        """Ask one after the other over one connection."""
        event = EventById(self.event_id, self.owner_id).run(db)
        runs = ExecutionsOf(self.event_id, self.owner_id).run(db)
        record = None
        if event.execution_id is not None and event.status in EVENT_ENDS:
            record = RecordOf(event.execution_id, self.owner_id).run(db)
        return event, runs, record

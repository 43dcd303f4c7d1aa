"""The end of an execution: its record and its outcome in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar, Literal, Self

from sqlalchemy import bindparam, delete, func, select, update

from holdfast.domain.events import CHILD
from holdfast.domain.executions import Record
from holdfast.domain.redelivery import not_redelivered, temporary
from holdfast.domain.status import HALTED, EventStatus, ExecutionStatus, event_after
from holdfast.errors import HoldfastError, IllegalMove, NotFound
from holdfast.store.base import Command, Lane, Writes
from holdfast.store.frames import plain
from holdfast.store.rows import ATTEMPT, EXECUTION_COLUMNS, STEP, execution_row
from holdfast.store.statements import Conflict, Insert, Statement, fill, pieces, sized, slots
from holdfast.store.tables import attempts, blobs, executions, payloads, steps

from .budgets import release
from .children import begin, what_came
from .halting import Halts
from .held import HeldEvent, Moved, hold, parents_of, save
from .messages import Answers
from .recordings import admit
from .savings import add_savings
from .usage import write_lines

_BLOBS = Insert(blobs, unless=Conflict(("owner_id", "hash")))
_PAYLOADS = Insert(payloads)
_STEPS = Insert(steps)
_ATTEMPTS = Insert(attempts)
_EXECUTIONS = Insert(executions)
_EXECUTION = Statement(
    update(executions)
    .where(executions.c.id == bindparam("of"))
    .values({name: bindparam(name) for name in EXECUTION_COLUMNS if name != "id"})
)

_REOPENED = Statement(
    delete(steps).where(
        steps.c.execution_id == bindparam("of"), steps.c.step == bindparam("number")
    )
)


@cache
def _stored(count: int) -> Statement:
    return Statement(
        select(
            executions.c.id,
            executions.c.owner_id,
            executions.c.status,
            func.max(payloads.c.part),
        )
        .outerjoin_from(executions, payloads, payloads.c.execution_id == executions.c.id)
        .where(executions.c.id.in_(slots("id", count)))
        .group_by(executions.c.id, executions.c.owner_id, executions.c.status)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What storing a record did.

    Attributes:
        outcome: `superseded` when the lease was lost: the record is kept, its outcome is not.
        event_status: what the event is now.
        others: children started or called off, and parents that go on, with this record or those
            stored beside it.
        pause_us: how long it is not run though it is queued.
    """

    outcome: Literal["applied", "superseded"]
    event_id: str
    event_status: EventStatus
    others: tuple[Moved, ...] = ()
    pause_us: int = 0


@dataclass(frozen=True, slots=True)
class Finish(Command[Finished]):
    """Store a record and let it end its event, if its lease still holds.

    A record that is stored already changes nothing, so a journal may be replayed. A recording's
    event is stored with it; so are the messages of an agent's turn whose outcome is applied.

    Raises:
        NotFound: there is no such event, or it is another owner's.
        IllegalMove: the execution has not ended.
    """

    lane: ClassVar[Lane] = "finish"
    order: ClassVar[int] = 1
    weight: ClassVar[int] = 8
    record: Record

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[Finished | HoldfastError]:
        """Decide each under the events' locks, then write table by table."""
        records = [command.record for command in commands]
        refused = admit(tx, records)
        batch = _Batch(tx, records)
        results = [refused.get(record.execution.id) or batch.take(record) for record in records]
        others = batch.write()
        for place, result in enumerate(results):
            if others and isinstance(result, Finished):
                results[place] = replace(result, others=tuple(others))
                break  # one of them tells it
        return results


class _Batch:
    """Records on their way into the tables."""

    def __init__(self, tx: Writes, records: Sequence[Record]) -> None:
        self._tx = tx
        self._answers = Answers(tx, records)
        ids = [record.execution.event_id for record in records]
        children = [r.execution.event_id for r in records if r.execution.origin == CHILD]
        # With their parents, so that all are locked in the order of ids.
        self._events = hold(tx, [*ids, *parents_of(tx, children)])
        self._known: dict[str, tuple[str, ExecutionStatus, int]] = {}
        for piece in pieces([record.execution.id for record in records]):
            for id_, owner, status, part in tx.rows(_stored(sized(piece)), fill("id", piece)):
                stored = -1 if part is None else part
                self._known[id_] = (owner, ExecutionStatus(status), stored)
        self._new: list[Record] = []
        self._open: list[Record] = []  # the claim made their execution row
        self._moved: dict[str, HeldEvent] = {}
        self._pauses: dict[str, int] = {}  # before the next delivery, by execution
        self._halts = Halts(tx)

    def take(self, record: Record) -> Finished | HoldfastError:
        """Decide what a record does, and queue its rows."""
        run = record.execution
        event = self._events.get(run.event_id)
        if event is None or event.owner_id != run.owner_id:
            return NotFound(f"execution {run.id} belongs to no event {run.event_id}")
        owner, status, stored = self._known.get(run.id, (run.owner_id, None, -1))
        if owner != run.owner_id:
            return NotFound(f"there is no execution {run.id}")
        if stored >= record.part:
            superseded = status is ExecutionStatus.SUPERSEDED
            return _finished(event, superseded=superseded)
        superseded = not event.leased_to(record.lease_owner, record.fence)
        if superseded:
            run = replace(run, status=ExecutionStatus.SUPERSEDED)
            record = replace(record, execution=run)
        else:
            try:
                record = self._apply(record, event)
            except IllegalMove as error:
                return error
        (self._new if status is None else self._open).append(record)
        self._known[run.id] = (owner, record.execution.status, record.part)
        return _finished(event, superseded=superseded, pause_us=self._pauses.get(run.id, 0))

    def _apply(self, record: Record, event: HeldEvent) -> Record:
        run = record.execution
        crash = run.status is ExecutionStatus.CRASHED
        failed = run.status is ExecutionStatus.FAILED and temporary(run.error)
        crashes = event.crashes + (crash and record.counts_as_crash)
        errors = event.errors + failed
        says = record.redelivery
        again = record.event is None and bool(event.redeliver or not record.began)
        after = event_after(
            run.status,
            crashes=crashes,
            cancel_requested=event.cancel_requested_at is not None,
            redeliver=again,
            temporary=failed,
            errors=errors,
            retries=says.retries,
            postponed=record.postponed is not None,
        )
        now = self._tx.now()
        if event.origin == CHILD:
            event.came = what_came(self._tx, record, event.halt)
        pause = None
        if failed and after is EventStatus.QUEUED:
            pause = says.pause_us(errors, run.error or {})
            self._pauses[run.id] = pause
        event.move(after, now, pause=pause)
        if record.postponed is not None and after is EventStatus.QUEUED:
            event.available_at = now + record.postponed.in_us
            event.postponed_for = plain(record.postponed.breaker)
            # What could not even be tried does not count; going on after a halt did not anyway.
            event.deliveries -= record.part == 0
        if after is EventStatus.CANCELLED and run.status in HALTED:
            run = replace(run, status=ExecutionStatus.CANCELLED, finished_at=now)
            record = replace(record, execution=run)
        self._halts.take(record, event)
        self._answers.take(record, event)
        event.crashes, event.errors = crashes, errors
        if run.error is not None:
            event.last_error = run.error
            if crash and after is EventStatus.FAILED and record.event is None:
                event.last_error = not_redelivered(run.error)
        self._moved[event.id] = event
        return record

    def write(self) -> list[Moved]:
        """Write what was taken; the fenced events last.

        Returns:
            Events that moved besides those of the records.
        """
        records = [*self._new, *self._open]
        if not records:
            return []
        tx, frames = self._tx, self._tx.frames
        shared = {(r.execution.owner_id, key): text for r in records for key, text in r.blobs}
        # In the order of their keys: two hubs that store the same texts never wait for each other.
        tx.insert(_BLOBS, [(*key, frames.pack_text(text)) for key, text in sorted(shared.items())])
        tx.insert(_EXECUTIONS, [execution_row(record.execution) for record in self._new])
        tx.change(_EXECUTION, [_changes(record) for record in self._open])
        tx.insert(_PAYLOADS, [_payload(r, *frames.pack_entries(r.entries)) for r in records])
        tx.change(
            _REOPENED,
            [{"of": r.execution.id, "number": step} for r in records for step in r.reopened],
        )
        tx.insert(_STEPS, [(*_keys(r), *STEP.row(step)) for r in records for step in r.steps])
        tx.insert(
            _ATTEMPTS, [(*_keys(r), *ATTEMPT.row(one)) for r in records for one in r.attempts]
        )
        others = self._halts.write()
        others += begin(tx, self._halts)
        others += save(tx, self._moved.values())
        self._answers.write()
        write_lines(tx, records)
        release(tx, records)  # together with the lines, so that nothing counts twice or not at all
        # Last: the rows of a day are shared by all hubs.
        add_savings(tx, [saving for record in records for saving in record.savings])
        self._answers.forget()
        return others


def _finished(event: HeldEvent, *, superseded: bool, pause_us: int = 0) -> Finished:
    return Finished(
        outcome="superseded" if superseded else "applied",
        event_id=event.id,
        event_status=event.status,
        pause_us=pause_us,
    )


def _payload(record: Record, frame: bytes, raw_size: int) -> tuple[Any, ...]:
    run = record.execution
    return run.id, record.part, run.owner_id, frame, raw_size


def _keys(record: Record) -> tuple[str, str]:
    return record.execution.id, record.execution.owner_id


def _changes(record: Record) -> dict[str, Any]:
    values = dict(zip(EXECUTION_COLUMNS, execution_row(record.execution), strict=True))
    values["of"] = values.pop("id")
    return values

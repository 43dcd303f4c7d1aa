"""Halts and what they wait for: stored with the record, ended by an answer, a time or an event."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from sqlalchemy import bindparam, delete, select, update

from holdfast.domain.executions import Record
from holdfast.domain.halts import Halt, Wait, WaitKind
from holdfast.domain.status import (
    EventStatus,
    ExecutionStatus,
    StepStatus,
)
from holdfast.errors import (
    VersionGone,
)
from holdfast.store.base import Row, Writes
from holdfast.store.frames import from_json, to_json
from holdfast.store.statements import Insert, Statement, fill, pieces, sized, slots
from holdfast.store.tables import executions, steps, waits
from holdfast.store.tables.base import word

from .checkpoints import drop_threads, store_saved
from .held import HeldEvent, hold, save

_INSERT = Insert(waits)
_DROP = Statement(delete(waits).where(waits.c.event_id == bindparam("of")))
_ANSWER = Statement(
    update(waits)
    .where(waits.c.event_id == bindparam("of"), waits.c.id == bindparam("wait"))
    .values(answer=bindparam("given"), answered_at=bindparam("at"))
)
_STOP_EXECUTION = Statement(
    update(executions)
    .where(
        executions.c.id == bindparam("of"),
        executions.c.status.in_([word(ExecutionStatus.WAITING), word(ExecutionStatus.PAUSED)]),
    )
    .values(
        status=word(ExecutionStatus.CANCELLED),
        finished_at=bindparam("at"),
        duration_us=bindparam("until") - executions.c.started_at,
    )
)
_STOP_STEPS = Statement(
    update(steps)
    .where(steps.c.execution_id == bindparam("of"), steps.c.status == word(StepStatus.RUNNING))
    .values(
        status=word(StepStatus.CANCELLED),
        duration_us=bindparam("until") - steps.c.started_at,
    )
)

VERSION_GONE = VersionGone.code


@cache
def _of(count: int) -> Statement:
    return Statement(
        select(
            waits.c.event_id,
            waits.c.id,
            waits.c.kind,
            waits.c.name,
            waits.c.wake_at,
            waits.c.answer,
            waits.c.subject,
        ).where(waits.c.event_id.in_(slots("event", count)))
    )


@cache
def _awaiting(count: int) -> Statement:
    return Statement(
        select(waits.c.event_id, waits.c.id, waits.c.owner_id, waits.c.awaits, waits.c.subject)
        .where(
            waits.c.answer.is_(None),
            waits.c.awaits.is_not(None),
            waits.c.awaits.in_(slots("type", count)),
        )
        .order_by(waits.c.event_id, waits.c.id)
    )


@dataclass(frozen=True, slots=True)
class StoredWait:
    """A row of waits."""

    event_id: str
    id: str
    kind: WaitKind
    name: str
    wake_at: int | None
    answer: Any
    subject: str | None


def waits_of(tx: Writes, event_ids: Iterable[str]) -> dict[str, list[StoredWait]]:
    """What halted events wait for, answers included, by event."""
    found: dict[str, list[StoredWait]] = {}
    for piece in pieces(sorted(set(event_ids))):
        for row in tx.rows(_of(sized(piece)), fill("event", piece)):
            event_id, id_, kind, name, wake_at, answer, subject = row
            given = None if answer is None else from_json(answer)
            found.setdefault(event_id, []).append(
                StoredWait(event_id, id_, WaitKind(kind), name, wake_at, given, subject)
            )
    return found


class Halts:
    """Halts of one transaction on their way into the tables."""

    def __init__(self, tx: Writes) -> None:
        self._tx = tx
        self._rows: list[tuple[Record, str]] = []
        self._over: list[str] = []  # events whose waits are done with
        self._ended: list[tuple[str, str]] = []  # (owner, thread) to be forgotten

    def take(self, record: Record, event: HeldEvent) -> None:
        """Note what a record means for its event's halt; the event has moved already."""
        run = record.execution
        if event.status in (EventStatus.WAITING, EventStatus.PAUSED) and record.halt is not None:
            event.halt = record.halt.to_json()
            event.pinned = event.pinned or run.graph_version
            event.pause_requested_at = None
            self._rows.append((record, event.id))
        elif event.status is EventStatus.QUEUED:  # after a crash, or postponed
            if event.halt is not None:
                event.halt = Halt.of(event.halt).broken().to_json()
        elif event.status is not EventStatus.DEAD:  # a dead letter may go on some day
            self.end(event, keep=record.keeps_checkpoints)

    def end(self, event: HeldEvent, *, keep: bool = False) -> None:
        """The event rests: nothing goes on from its halt or its checkpoints any more."""
        if event.halt is not None:
            event.halt = None
            self._over.append(event.id)
        if event.pinned is not None and not keep:
            self._ended.append((event.owner_id, event.id))

    def write(self) -> None:
        """Write what was taken."""
        tx, now = self._tx, self._tx.now
        if self._rows:
            store_saved(
                tx, [(r.execution.owner_id, saved) for r, _ in self._rows for saved in r.saved]
            )
            before = waits_of(tx, [event_id for _, event_id in self._rows])
            tx.change(_DROP, [{"of": event_id} for _, event_id in self._rows])
            rows = [
                _row(record, event_id, wait, before.get(event_id, []), now())
                for record, event_id in self._rows
                for wait in record.waits
            ]
            tx.insert(_INSERT, rows)
        tx.change(_DROP, [{"of": event_id} for event_id in self._over])
        if self._ended:
            drop_threads(tx, self._ended)


def _row(
    record: Record, event_id: str, wait: Wait, before: Sequence[StoredWait], now: int
) -> tuple[Any, ...]:
    wake_at = wait.wake_at if wait.wake_in is None else now + wait.wake_in
    for one in before:
        if one.id == wait.id and one.answer is None:
            wake_at = one.wake_at  # it waits on: its time does not begin anew
    spec = {**asdict(wait), "wake_at": wake_at, "wake_in": None}
    return (
        event_id,
        wait.id,
        record.execution.owner_id,
        wait.kind.value,
        wait.name,
        to_json(spec),
        wake_at,
        wait.awaits,
        wait.subject,
        None,
        None,
    )


def cancel_halted(tx: Writes, cancelled: Sequence[HeldEvent]) -> None:
    """End the executions of halted events that were called off."""
    now = tx.now()
    halts = Halts(tx)
    for event in cancelled:
        halts.end(event)
    of = [{"of": event.execution_id, "at": now, "until": now} for event in cancelled]
    tx.change(_STOP_EXECUTION, of)
    tx.change(_STOP_STEPS, [{"of": one["of"], "until": now} for one in of])
    halts.write()


def answer(tx: Writes, answers: Sequence[tuple[StoredWait | tuple[str, str], Any]]) -> None:
    """Store answers to waits, given as rows or as (event id, wait id)."""
    now = tx.now()
    values: list[dict[str, Any]] = []
    for wait, given in answers:
        of, id_ = wait if isinstance(wait, tuple) else (wait.event_id, wait.id)
        values.append({"of": of, "wait": id_, "given": to_json(given), "at": now})
    tx.change(_ANSWER, values)


def set_aside(event: HeldEvent, version: str, at: int) -> None:
    """Let an event that could go on wait until somebody says under which version."""
    event.move(EventStatus.WAITING, at)
    event.last_error = {"code": VERSION_GONE, "message": version_gone(event, version).message}


def is_set_aside(event: HeldEvent) -> bool:
    """Whether only its version keeps it waiting."""
    return event.last_error is not None and event.last_error.get("code") == VERSION_GONE


def version_gone(event: HeldEvent, version: str) -> VersionGone:
    """Why an event cannot go on."""
    return VersionGone(
        f"event {event.id} began under version {event.pinned} of its pipeline; "
        f"loaded is version {version}",
        hint=f"load that version again, or: holdfast executions migrate ID --to {version}",
    )


@dataclass(frozen=True, slots=True)
class Arrival:
    """An event that may be waited for."""

    id: str
    owner_id: str
    type: str
    subject: str | None
    data: bytes


def awaiting(tx: Writes, types: Collection[str]) -> list[Row]:
    """Open waits for events of these types, of all owners, as `answer_waiting` takes them."""
    return [
        row
        for piece in pieces(sorted(types))
        for row in tx.rows(_awaiting(sized(piece)), fill("type", piece))
    ]


def answer_waiting(
    tx: Writes, waiting: Sequence[Row], arrivals: Sequence[Arrival]
) -> dict[str, list[str]]:
    """Let events go on that wait for one of these.

    Returns:
        By arrival's id, whom it answered.
    """
    held = hold(tx, [row[0] for row in waiting])
    woken: dict[str, HeldEvent] = {}
    answers: list[tuple[StoredWait | tuple[str, str], Any]] = []
    answered: dict[str, list[str]] = {}
    for event_id, wait_id, owner, awaits, subject in waiting:
        event = held[event_id]
        for one in arrivals:
            fits = (one.owner_id, one.type) == (owner, awaits) and subject in (None, one.subject)
            if fits and (event.status is EventStatus.WAITING or event_id in woken):
                if event_id not in woken:
                    event.move(EventStatus.QUEUED, tx.now())
                    woken[event_id] = event
                answers.append(
                    ((event_id, wait_id), {"event": one.id, "data": from_json(one.data)})
                )
                answered.setdefault(one.id, []).append(event_id)
                break
    answer(tx, answers)
    save(tx, woken.values())
    return answered

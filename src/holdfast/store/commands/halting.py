"""Halts and what they wait for: stored with the record, ended by an answer, a time or an event."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import bindparam, delete, select, update

from holdfast.domain.checkpoints import Saved
from holdfast.domain.executions import Execution, Record
from holdfast.domain.halts import ChildRun, Halt, Wait, WaitKind
from holdfast.domain.status import (
    EVENT_ENDS,
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

from .checkpoints import drop_threads, keep_latest, store_saved
from .held import ANSWER_WAIT, HeldEvent, Moved, hold, save

_INSERT = Insert(waits)
_DROP = Statement(delete(waits).where(waits.c.event_id == bindparam("of")))
_DROP_BUT_CHILDREN = Statement(
    delete(waits).where(waits.c.event_id == bindparam("of"), waits.c.child_id.is_(None))
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
            waits.c.child_id,
            waits.c.answered_at,
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
    child_id: str | None
    answered_at: int | None


def waits_of(tx: Writes, event_ids: Iterable[str]) -> dict[str, list[StoredWait]]:
    """What halted events wait for, answers included, by event."""
    found: dict[str, list[StoredWait]] = {}
    for piece in pieces(sorted(set(event_ids))):
        for row in tx.rows(_of(sized(piece)), fill("event", piece)):
            event_id, id_, kind, name, wake_at, answer, *others = row
            given = None if answer is None else from_json(answer)
            found.setdefault(event_id, []).append(
                StoredWait(event_id, id_, WaitKind(kind), name, wake_at, given, *others)
            )
    return found


@dataclass(frozen=True, slots=True)
class NewChild:
    """A child execution that a halt is to start."""

    parent: Execution
    event: HeldEvent
    wait_id: str
    child: ChildRun


class Halts:
    """Halts of one transaction on their way into the tables."""

    def __init__(self, tx: Writes) -> None:
        self._tx = tx
        self._rows: list[tuple[Record, HeldEvent]] = []
        self._over: list[str] = []  # events whose waits are done with
        self._ended: list[tuple[str, str]] = []  # (owner, thread) to be forgotten
        self._carried: list[tuple[str, Saved]] = []  # what a session's next turn begins with
        self.new: list[NewChild] = []  # what `write` left for `children.begin`
        self.answered: list[tuple[HeldEvent, ChildRun, Any]] = []  # children that ended meanwhile

    def take(self, record: Record, event: HeldEvent) -> None:
        """Note what a record means for its event's halt; the event has moved already."""
        run = record.execution
        if event.status in (EventStatus.WAITING, EventStatus.PAUSED) and record.halt is not None:
            event.halt = record.halt.to_json()
            event.pinned = event.pinned or run.graph_version
            event.pause_requested_at = None
            self._rows.append((record, event))
        elif event.status is EventStatus.QUEUED:  # it is delivered again
            if event.halt is not None:
                event.halt = Halt.of(event.halt).broken().to_json()
        elif event.status is not EventStatus.DEAD:  # a dead letter may go on some day
            self.end(event, keep=record.keeps_checkpoints)
            if event.status is EventStatus.SUCCEEDED:
                owned = [(run.owner_id, one) for one in record.saved if one.thread_id != event.id]
                self._carried += owned

    def end(self, event: HeldEvent, *, keep: bool = False) -> None:
        """The event rests: nothing goes on from its halt or its checkpoints any more."""
        if event.halt is not None:
            event.halt = None
            self._over.append(event.id)
        if event.pinned is not None and not keep:
            self._ended.append((event.owner_id, event.id))

    def write(self) -> list[Moved]:
        """Write what was taken, and call off the children that nobody waits for any more.

        Children that are to be started are left in `new`.

        Returns:
            The children that were called off.
        """
        tx = self._tx
        if self._rows:
            store_saved(
                tx, [(r.execution.owner_id, saved) for r, _ in self._rows for saved in r.saved]
            )
        if self._carried:
            store_saved(tx, self._carried)
            for owner, thread in sorted({(owner, one.thread_id) for owner, one in self._carried}):
                # A session must not grow with every turn.
                keep_latest(tx, owner, thread, rests=True)
        before = waits_of(tx, [*(event.id for _, event in self._rows), *self._over])
        kept: set[str] = set()
        rows: list[tuple[Any, ...]] = []
        for record, event in self._rows:
            known = before.get(event.id, [])
            if event.status is EventStatus.PAUSED:  # its children go on, and it asks again
                kept.update(one.child_id for one in known if one.child_id is not None)
            for wait in record.waits:
                rows.append(_row(record, event.id, wait, known, tx.now()))
                kept |= self._take_child(record, event, wait, known)
        for status, drop in (
            (EventStatus.WAITING, _DROP),
            (EventStatus.PAUSED, _DROP_BUT_CHILDREN),
        ):
            tx.change(drop, [{"of": event.id} for _, event in self._rows if event.status is status])
        tx.insert(_INSERT, rows)
        tx.change(_DROP, [{"of": event_id} for event_id in self._over])
        if self._ended:
            drop_threads(tx, self._ended)
        left = [
            one.child_id
            for of in before.values()
            for one in of
            if one.child_id is not None and one.answer is None and one.child_id not in kept
        ]
        return call_off(tx, left) if left else []

    def _take_child(
        self, record: Record, event: HeldEvent, wait: Wait, known: Sequence[StoredWait]
    ) -> set[str]:
        child = wait.child
        if child is None or child.event_id is None:
            return set()
        for one in known:
            if one.child_id == child.event_id:
                if one.answer is not None:
                    self.answered.append((event, child, one.answer))
                break
        else:
            self.new.append(NewChild(record.execution, event, wait.id, child))
        return {child.event_id}


def _row(
    record: Record, event_id: str, wait: Wait, before: Sequence[StoredWait], now: int
) -> tuple[Any, ...]:
    wake_at = wait.wake_at if wait.wake_in is None else now + wait.wake_in
    child = wait.child
    answer = answered_at = None
    for one in before:
        if one.id == wait.id and one.answer is None:
            wake_at = one.wake_at  # it waits on: its time does not begin anew
        if child is not None and one.child_id == child.event_id is not None:
            # Its child ended while the parent ran: that answer has not been given yet.
            answer, answered_at = one.answer, one.answered_at
    spec = {**wait.on_record(), "wake_at": wake_at, "wake_in": None}
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
        None if answer is None else to_json(answer),
        answered_at,
        None if child is None else child.event_id,
        None if child is None else child.group,
    )


def call_off(tx: Writes, ids: Collection[str]) -> list[Moved]:
    """Cancel events that nobody needs any more, and whatever they themselves have started.

    One that runs is left the wish to end, which outlives a crash.
    """
    now = tx.now()
    halted: list[HeldEvent] = []
    moved: list[HeldEvent] = []
    for event in hold(tx, ids).values():
        if event.status in EVENT_ENDS:
            continue
        moved.append(event)
        if event.status is EventStatus.RUNNING:
            event.cancel_requested_at = event.cancel_requested_at or now
            continue
        if event.pinned is not None or event.halt is not None:
            halted.append(event)
        event.move(EventStatus.CANCELLED, now)
    others = cancel_halted(tx, halted) if halted else []
    others += save(tx, moved)
    return [*(Moved(one.id, one.execution_id, one.status) for one in moved), *others]


def cancel_halted(tx: Writes, cancelled: Sequence[HeldEvent]) -> list[Moved]:
    """End the executions of halted events that were called off.

    Returns:
        Their children, which end with them.
    """
    now = tx.now()
    halts = Halts(tx)
    for event in cancelled:
        halts.end(event)
    of = [{"of": event.execution_id, "at": now, "until": now} for event in cancelled]
    tx.change(_STOP_EXECUTION, of)
    tx.change(_STOP_STEPS, [{"of": one["of"], "until": now} for one in of])
    return halts.write()


def answer(tx: Writes, answers: Sequence[tuple[StoredWait | tuple[str, str], Any]]) -> None:
    """Store answers to waits, given as rows or as (event id, wait id)."""
    now = tx.now()
    values: list[dict[str, Any]] = []
    for wait, given in answers:
        of, id_ = wait if isinstance(wait, tuple) else (wait.event_id, wait.id)
        values.append({"of": of, "wait": id_, "given": to_json(given), "at": now})
    tx.change(ANSWER_WAIT, values)


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

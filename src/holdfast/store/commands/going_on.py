"""Going on: halted events get their answer, their time or a version; running ones are paused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from sqlalchemy import bindparam, func, select

from holdfast.domain.agents import AGENT
from holdfast.domain.halts import WaitKind
from holdfast.domain.status import EventStatus
from holdfast.errors import AlreadyAnswered, HoldfastError, IllegalMove, InvalidInput, NotFound
from holdfast.store.base import Command, Lane, Writes
from holdfast.store.statements import Statement
from holdfast.store.tables import events, waits
from holdfast.store.tables.base import word

from .halting import StoredWait, answer, call_off, is_set_aside, waits_of
from .held import HeldEvent, Moved, hold, save
from .rates import next_free
from .unique import forget_duplicates

_DUE = Statement(
    select(
        waits.c.event_id,
        waits.c.id,
        waits.c.kind,
        waits.c.child_id,
        events.c.target,
        events.c.target_kind,
        events.c.pinned,
    )
    .join_from(waits, events, events.c.id == waits.c.event_id)
    .where(
        waits.c.answer.is_(None),
        waits.c.wake_at.is_not(None),
        waits.c.wake_at <= bindparam("now"),
        events.c.status == word(EventStatus.WAITING),
    )
    .order_by(waits.c.wake_at)
    .limit(bindparam("limit"))
)
_DELAYED = (
    events.c.status == word(EventStatus.QUEUED),
    events.c.available_at > events.c.received_at,
)
_NEXT_DELAYED = Statement(
    select(func.min(events.c.available_at)).where(
        *_DELAYED, events.c.available_at > bindparam("now")
    )
)
_NOW_READY = Statement(
    select(events.c.id).where(*_DELAYED, events.c.available_at <= bindparam("now")).limit(1)
)
_NEXT = Statement(
    select(func.min(waits.c.wake_at)).where(
        waits.c.answer.is_(None), waits.c.wake_at.is_not(None), waits.c.wake_at > bindparam("now")
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """What going on did: the event is queued again."""

    event_id: str
    execution_id: str | None
    status: EventStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Command[Resumed]):
    """Give a waiting event the answer it waits for; the first one counts.

    Attributes:
        wait_id: which of several waits.
        given: JSON.

    Raises:
        NotFound: no such event, or another owner's; no such wait.
        AlreadyAnswered: it has an answer.
        IllegalMove: it does not wait for an answer.
        InvalidInput: it waits for several, and none was named.
    """

    lane: ClassVar[Lane] = "finish"
    order: ClassVar[int] = 4
    event_id: str
    owner_id: str
    wait_id: str | None
    given: Any

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[Resumed | HoldfastError]:
        """Decide each under the events' locks, in turn."""
        now = tx.now()
        found = hold(tx, [command.event_id for command in commands])
        known = waits_of(tx, found)
        moved: dict[str, HeldEvent] = {}
        given: list[tuple[StoredWait, Any]] = []
        results: list[Resumed | HoldfastError] = []
        for command in commands:
            event = found.get(command.event_id)
            if event is None or event.owner_id != command.owner_id:
                results.append(NotFound(f"there is no event {command.event_id}"))
                continue
            wait = open_wait(event, known.get(event.id, []), command.wait_id)
            if isinstance(wait, HoldfastError):
                results.append(wait)
                continue
            given.append((wait, {"answer": command.given}))
            event.move(EventStatus.QUEUED, now)
            moved[event.id] = event
            results.append(resumed(event))
        answer(tx, given)
        save(tx, moved.values())
        return results


def open_wait(
    event: HeldEvent, known: Sequence[StoredWait], wait_id: str | None
) -> StoredWait | HoldfastError:
    """The one wait of an event that is to be answered, or why there is none."""
    asked = [one for one in known if one.kind is WaitKind.ANSWER]
    named = [one for one in asked if wait_id in (None, one.id, one.name)]
    if wait_id is not None and not named and event.status is EventStatus.WAITING:
        return NotFound(f"event {event.id} does not wait for {wait_id!r}")
    free = [one for one in named if one.answer is None]
    if event.status is not EventStatus.WAITING or not free:
        stands = event.status in (EventStatus.PAUSED, EventStatus.WAITING)
        if (named and not free) or (not stands and event.halt):
            return AlreadyAnswered(f"event {event.id} has its answer; it is {event.status}")
        return IllegalMove(f"event {event.id} is {event.status} and waits for no answer")
    if len(free) > 1:
        names = ", ".join(f"{one.id} ({one.name})" for one in free)
        return InvalidInput(
            f"event {event.id} waits for {len(free)} answers",
            hint="say which wait is answered",
            fields=[{"field": "wait", "expected": f"one of: {names}", "got": "nothing"}],
        )
    return free[0]


def resumed(event: HeldEvent) -> Resumed:
    """What letting an event go on did."""
    return Resumed(event_id=event.id, execution_id=event.execution_id, status=event.status)


class _Verb(Command[Resumed]):
    """What is done to one event of an owner's, if its status allows it."""

    lane: ClassVar[Lane] = "finish"
    order: ClassVar[int] = 4
    event_id: str
    owner_id: str

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[Resumed | HoldfastError]:
        """Decide each under the events' locks, in turn."""
        now = tx.now()
        found = hold(tx, [command.event_id for command in commands])
        changed: dict[str, HeldEvent] = {}
        results: list[Resumed | HoldfastError] = []
        for command in commands:
            event = found.get(command.event_id)
            if event is None or event.owner_id != command.owner_id:
                results.append(NotFound(f"there is no event {command.event_id}"))
            elif (refused := command.do(event, now)) is not None:
                results.append(refused)
            else:
                changed[event.id] = event
                results.append(resumed(event))
        save(tx, changed.values())
        return results

    def do(self, event: HeldEvent, now: int) -> IllegalMove | None:
        """Change the event; why it cannot be otherwise."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Unpause(_Verb):
    """Let a paused event go on.

    Raises:
        NotFound: no such event, or another owner's.
        IllegalMove: it is not paused.
    """

    event_id: str
    owner_id: str

    def do(self, event: HeldEvent, now: int) -> IllegalMove | None:
        """Queue it again."""
        if event.status is not EventStatus.PAUSED:
            return IllegalMove(f"event {event.id} is {event.status}, not paused")
        event.move(EventStatus.QUEUED, now)
        return None


@dataclass(frozen=True, slots=True)
class AskPause(_Verb):
    """Leave the wish that a running event stops before its next step.

    Raises:
        NotFound: no such event, or another owner's.
        IllegalMove: it does not run.
    """

    event_id: str
    owner_id: str

    def do(self, event: HeldEvent, now: int) -> IllegalMove | None:
        """The first wish counts."""
        if event.status is not EventStatus.RUNNING:
            return IllegalMove(f"event {event.id} is {event.status} and cannot be paused")
        event.pause_requested_at = event.pause_requested_at or now
        return None


@dataclass(frozen=True, slots=True)
class Migrate(_Verb):
    """Let a halted event go on under another version of its pipeline.

    Raises:
        NotFound: no such event, or another owner's.
        IllegalMove: it is not halted.
    """

    event_id: str
    owner_id: str
    version: str

    def do(self, event: HeldEvent, now: int) -> IllegalMove | None:
        """One that was set aside for its version goes on."""
        if event.status not in (EventStatus.WAITING, EventStatus.PAUSED):
            return IllegalMove(f"event {event.id} is {event.status}; only halted ones migrate")
        event.pinned = self.version
        if is_set_aside(event):
            event.last_error = None
            event.move(EventStatus.QUEUED, now)
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Woken:
    """Whose time has come.

    Attributes:
        events: ids of those that are queued now.
        others: children that were called off, for nobody waits for them any more.
        next_in_us: until the next time is due; None when nothing waits for one.
        ready: whether events may run now that were delayed, or had to wait for their rate.
    """

    events: tuple[str, ...]
    next_in_us: int | None
    others: tuple[Moved, ...] = ()
    ready: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Wake(Command[Woken]):
    """Let events go on whose time has come or is over.

    Attributes:
        versions: graph version by pipeline; others wait on until their version is loaded. Agents
            are woken whatever version they have.
        limit: at most so many.
    """

    lane: ClassVar[Lane] = "claim"
    order: ClassVar[int] = 2
    versions: Mapping[str, str]
    limit: int = 500

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[Woken]:
        """One after the other; the second finds nothing left."""
        return [_wake(tx, command) for command in commands]


def _wake(tx: Writes, command: Wake) -> Woken:
    now = tx.now()
    due = [
        (event_id, wait_id, WaitKind(kind), child_id)
        for event_id, wait_id, kind, child_id, target, target_kind, pinned in tx.rows(
            _DUE, {"now": now, "limit": command.limit}
        )
        # An agent's older versions never come back: its turn goes on with what it is now.
        if target_kind == AGENT or command.versions.get(target) == pinned
    ]
    held = hold(tx, [event_id for event_id, *_ in due]) if due else {}
    woken: dict[str, HeldEvent] = {}
    answers: list[tuple[StoredWait | tuple[str, str], Any]] = []
    late: list[str] = []  # children
    for event_id, wait_id, kind, child_id in due:
        event = held[event_id]
        if event.status is EventStatus.WAITING:
            event.move(EventStatus.QUEUED, now)
            woken[event_id] = event
        if event_id in woken:  # several of one event's waits may be due at once
            given = {"woken": True} if kind is WaitKind.TIME else {"expired": True}
            answers.append(((event_id, wait_id), given))
            late += [] if child_id is None else [child_id]
    answer(tx, answers)
    others = save(tx, woken.values())
    others += call_off(tx, late) if late else []
    more = forget_duplicates(tx)
    times = [*tx.rows(_NEXT, {"now": now}), *tx.rows(_NEXT_DELAYED, {"now": now})]
    free_at, free = next_free(tx, now)
    times += [(free_at,), (now if more else None,)]
    following = min((at for (at,) in times if at is not None), default=None)
    return Woken(
        events=tuple(woken),
        next_in_us=None if following is None else following - now,
        others=tuple(others),
        ready=free or bool(tx.rows(_NOW_READY, {"now": now})),
    )

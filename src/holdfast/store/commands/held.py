"""Events as a command holds them: locked, decided upon in Python, written back.

Every move of an event goes through here, so each rule about moves is written once, for both
databases. PostgreSQL locks the rows; SQLite has one writer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any

from sqlalchemy import Select, bindparam, func, select, update

from holdfast.domain.events import CHILD
from holdfast.domain.status import EVENT_ENDS, EventStatus, move_event
from holdfast.store.base import Row, Writes
from holdfast.store.frames import from_json, to_json
from holdfast.store.statements import Statement, fill, pieces, sized, slots
from holdfast.store.tables import events, waits


@dataclass(slots=True, kw_only=True)
class HeldEvent:
    """The part of an event that moves; fields as in `domain.events.Event`.

    Attributes:
        came: what a parent that waits for this event is told when it succeeds: `{"output": …}`, or
            `{"error": {…}}` when its output cannot be handed over.
    """

    id: str
    owner_id: str
    status: EventStatus
    deliveries: int
    crashes: int
    available_at: int
    lease_owner: str | None
    lease_until: int | None
    fence: int
    cancel_requested_at: int | None
    execution_id: str | None
    finished_at: int | None
    last_error: dict[str, Any] | None
    pause_requested_at: int | None
    pinned: str | None
    halt: dict[str, Any] | None
    origin: str | None
    errors: int
    redeliver: int  # 0 when it must not begin again
    postponed_for: str | None
    came: dict[str, Any] | None = field(default=None, init=False)

    def leased_to(self, lease_owner: str, fence: int) -> bool:
        """Whether this lease is the one it runs under now."""
        return (
            self.status is EventStatus.RUNNING
            and self.lease_owner == lease_owner
            and self.fence == fence
        )

    def move(self, new: EventStatus, at: int, *, pause: int | None = None) -> None:
        """Make it `new`; whatever is no longer running loses its lease.

        Args:
            new: the status.
            at: now.
            pause: microseconds that a queued one is not claimed; one that is taken from its worker
                without any keeps its place in line.

        Raises:
            IllegalMove: the status does not allow it.
        """
        was, self.status = self.status, move_event(self.id, self.status, new)
        self.postponed_for = None
        if new is EventStatus.RUNNING:
            return
        self.lease_owner = self.lease_until = None
        if new is EventStatus.QUEUED:
            if pause is not None or was is not EventStatus.RUNNING:
                self.available_at = at + (pause or 0)
        elif new in EVENT_ENDS:
            self.finished_at = at


NAMES = tuple(one.name for one in fields(HeldEvent) if one.init)

COLUMNS = tuple(events.c[name] for name in NAMES)

_JSON = ("last_error", "halt")

_MOVING = tuple(name for name in NAMES if name not in ("id", "owner_id", "origin"))

_SAVE = Statement(
    update(events)
    .where(events.c.id == bindparam("of"))
    .values({name: bindparam(name) for name in _MOVING})
)


ANSWER_WAIT = Statement(
    update(waits)
    .where(waits.c.event_id == bindparam("of"), waits.c.id == bindparam("wait"))
    .values(answer=bindparam("given"), answered_at=bindparam("at"))
)

_OPEN_IN_GROUP = Statement(
    select(func.count())
    .select_from(waits)
    .where(
        waits.c.event_id == bindparam("event"),
        waits.c.child_group == bindparam("of_group"),
        waits.c.child_id.is_not(None),
        waits.c.answer.is_(None),
    )
)


@cache
def _waited_for(count: int) -> Statement:
    return Statement(
        select(waits.c.event_id, waits.c.id, waits.c.child_id, waits.c.child_group, waits.c.spec)
        .where(waits.c.child_id.in_(slots("child", count)), waits.c.answer.is_(None))
        .order_by(waits.c.event_id, waits.c.id)
    )


@dataclass(frozen=True, slots=True)
class Moved:
    """An event that a command moved besides those it was about: a parent, or a child.

    Attributes:
        status: what it is now; `running` when its execution is to be told to stop.
    """

    event_id: str
    execution_id: str | None
    status: EventStatus


def held(row: Row) -> HeldEvent:
    """An event out of a row of `COLUMNS`."""
    values = dict(zip(NAMES, row, strict=True))
    values["status"] = EventStatus(values["status"])
    for name in _JSON:
        if values[name] is not None:
            values[name] = from_json(values[name])
    return HeldEvent(**values)


def lock(pick: Select[*tuple[Any, ...]], *, skip_locked: bool = False) -> Statement:
    """A select whose rows nobody else can move until the transaction ends."""
    # A statement of SQLite's loses the clause: there the transaction is the lock.
    return Statement(pick.with_for_update(skip_locked=skip_locked))


@cache
def _by_id(count: int) -> Statement:
    # In the order of ids everywhere, so that two transactions never wait for each other.
    return lock(select(*COLUMNS).where(events.c.id.in_(slots("id", count))).order_by(events.c.id))


def hold(tx: Writes, ids: Collection[str]) -> dict[str, HeldEvent]:
    """Lock events by id; unknown ids are missing from the answer."""
    found: dict[str, HeldEvent] = {}
    for piece in pieces(sorted(set(ids))):
        for row in tx.rows(_by_id(sized(piece)), fill("id", piece)):
            event = held(row)
            found[event.id] = event
    return found


def save(tx: Writes, moved: Iterable[HeldEvent]) -> list[Moved]:
    """Write held events back; parents that waited for one that rests now get to know.

    Returns:
        Those parents that go on.
    """
    all_moved = list(moved)
    _write(tx, all_moved)
    rest = [one for one in all_moved if one.origin == CHILD and one.status in EVENT_ENDS]
    return _tell_parents(tx, rest) if rest else []


def parents_of(tx: Writes, ids: Collection[str]) -> list[str]:
    """Events that wait for these; to be held together with them, see `hold`."""
    return [
        row[0]
        for piece in pieces(sorted(set(ids)))
        for row in tx.rows(_waited_for(sized(piece)), fill("child", piece))
    ]


def open_in_group(tx: Writes, event_id: str, group: str) -> int:
    """How many children of one group have not ended."""
    ((count,),) = tx.rows(_OPEN_IN_GROUP, {"event": event_id, "of_group": group})
    return int(count)


def _tell_parents(tx: Writes, rest: Sequence[HeldEvent]) -> list[Moved]:
    """Answer the waits for children that rest; whoever can go on with that is queued."""
    children = {one.id: one for one in rest}
    waiting = [
        row
        for piece in pieces(sorted(children))
        for row in tx.rows(_waited_for(sized(piece)), fill("child", piece))
    ]
    if not waiting:
        return []
    parents = hold(tx, [row[0] for row in waiting])
    now = tx.now()
    told: dict[tuple[str, str], bool] = {}  # group of a parent; whether a failure is urgent
    answers: list[dict[str, Any]] = []
    for event_id, wait_id, child_id, group, spec in waiting:
        answer = _answer_of(children[child_id])
        urgent = "error" in answer and from_json(spec)["child"]["eager"]
        told[event_id, group] = told.get((event_id, group), False) or urgent
        answers.append({"of": event_id, "wait": wait_id, "given": to_json(answer), "at": now})
    tx.change(ANSWER_WAIT, answers)
    on: dict[str, HeldEvent] = {}
    for (event_id, group), urgent in told.items():
        parent = parents.get(event_id)
        if parent is None or parent.status is not EventStatus.WAITING:
            continue  # it runs or is paused, and finds the answer when it halts or goes on
        if urgent or not open_in_group(tx, event_id, group):
            parent.move(EventStatus.QUEUED, now)
            on[event_id] = parent
    _write(tx, list(on.values()))
    return [Moved(one.id, one.execution_id, one.status) for one in on.values()]


def _answer_of(child: HeldEvent) -> dict[str, Any]:
    who = {
        "event_id": child.id,
        "execution_id": child.execution_id,
        "status": child.status.value,
    }
    if child.status is EventStatus.SUCCEEDED and child.came is not None:
        return {"child": who, **child.came}
    error = child.last_error
    if child.status is EventStatus.CANCELLED or error is None:
        error = {"code": child.status.value, "message": f"it was {child.status}"}
    return {"child": who, "error": error}


def _write(tx: Writes, moved: Sequence[HeldEvent]) -> None:
    tx.change(
        _SAVE,
        [
            {
                **{name: getattr(event, name) for name in _MOVING},
                "of": event.id,
                "status": event.status.value,
                **{name: _json(getattr(event, name)) for name in _JSON},
            }
            for event in moved
        ],
    )


def _json(value: Any) -> str | None:
    return None if value is None else to_json(value)

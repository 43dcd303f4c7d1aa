"""Events as a command holds them: locked, decided upon in Python, written back.

Every move of an event goes through here, so each rule about moves is written once, for both
databases. PostgreSQL locks the rows; SQLite has one writer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from sqlalchemy import Select, bindparam, select, update

from holdfast.domain.status import EVENT_ENDS, EventStatus, move_event
from holdfast.store.base import Row, Writes
from holdfast.store.frames import from_json, to_json
from holdfast.store.statements import Statement, fill, pieces, sized, slots
from holdfast.store.tables import events


@dataclass(slots=True, kw_only=True)
class HeldEvent:
    """The part of an event that moves; fields as in `domain.events.Event`."""

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
    postponed_for: str | None

    def leased_to(self, lease_owner: str, fence: int) -> bool:
        """Whether this lease is the one it runs under now."""
        return (
            self.status is EventStatus.RUNNING
            and self.lease_owner == lease_owner
            and self.fence == fence
        )

    def move(self, new: EventStatus, at: int) -> None:
        """Make it `new`; whatever is no longer running loses its lease.

        Raises:
            IllegalMove: the status does not allow it.
        """
        self.status = move_event(self.id, self.status, new)
        self.postponed_for = None
        if new is EventStatus.RUNNING:
            return
        self.lease_owner = self.lease_until = None
        if new is EventStatus.QUEUED:
            self.available_at = at
        elif new in EVENT_ENDS:
            self.finished_at = at


NAMES = tuple(field.name for field in fields(HeldEvent))

COLUMNS = tuple(events.c[name] for name in NAMES)

_JSON = ("last_error", "halt")

_MOVING = tuple(name for name in NAMES if name not in ("id", "owner_id"))

_SAVE = Statement(
    update(events)
    .where(events.c.id == bindparam("of"))
    .values({name: bindparam(name) for name in _MOVING})
)


def held(row: Row) -> HeldEvent:
    """An event out of a row of `COLUMNS`."""
    values = dict(zip(NAMES, row, strict=True))
    values["status"] = EventStatus(values["status"])
    for name in _JSON:
        if values[name] is not None:
            values[name] = from_json(values[name])
    return HeldEvent(**values)


def lock(pick: Select[Any], *, skip_locked: bool = False) -> Statement:
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


def save(tx: Writes, moved: Iterable[HeldEvent]) -> None:
    """Write held events back."""
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

"""Schedules: made, paused, and fired by whichever hub is first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Self

from sqlalchemy import bindparam, delete, func, select, update

from holdfast.domain.events import NewEvent
from holdfast.domain.ids import new_id
from holdfast.domain.schedules import NewSchedule, Schedule, following
from holdfast.errors import HoldfastError, NotFound
from holdfast.store.base import Command, Lane, Writes
from holdfast.store.frames import to_json
from holdfast.store.queries.schedules import COLUMNS, schedule_item
from holdfast.store.statements import Conflict, Insert, Statement, fill, pieces, sized, slots
from holdfast.store.tables import schedules

from .held import lock
from .intake import Submit, Submitted

_INSERT = Insert(schedules, unless=Conflict(("owner_id", "name")))

_BY_NAME = lock(
    select(*COLUMNS).where(
        schedules.c.owner_id == bindparam("owner"), schedules.c.name == bindparam("of_name")
    )
)
_BY_ID = lock(select(*COLUMNS).where(schedules.c.id == bindparam("of")))

_MOVING = (
    *("cron", "timezone", "target", "data", "priority", "missed", "enabled", "next_at"),
    *("last_at", "last_event_id", "last_missed_at", "last_error", "updated_at"),
)
_SAVE = Statement(
    update(schedules)
    .where(schedules.c.id == bindparam("of"))
    .values({name: bindparam(name) for name in _MOVING})
)
_DELETE = Statement(delete(schedules).where(schedules.c.id == bindparam("of")))


@dataclass(frozen=True, slots=True)
class PutSchedule(Command[Schedule]):
    """Make a schedule, or put another in the place of the one of that name.

    It fires first at the next time that comes; one that was paused stays so.

    Raises:
        InvalidInput: the cron expression or the time zone is none.
    """

    lane: ClassVar[Lane] = "submit"
    order: ClassVar[int] = 4
    schedule: NewSchedule

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[Schedule | HoldfastError]:
        """One after the other."""
        results: list[Schedule | HoldfastError] = []
        for command in commands:
            try:
                results.append(_put(tx, command.schedule))
            except HoldfastError as error:
                results.append(error)
        return results


def _put(tx: Writes, new: NewSchedule) -> Schedule:
    now = tx.now()
    next_at = following(new.cron, new.timezone, now)
    made = (
        *(new_id(), new.owner_id, new.name, new.cron, new.timezone, new.target),
        *(new.data.decode(), new.priority, new.missed.value, 1, next_at),
        *(None, None, None, None, now, now),
    )
    tx.insert(_INSERT, [made])
    (row,) = tx.rows(_BY_NAME, {"owner": new.owner_id, "of_name": new.name})
    stored = schedule_item(row)
    if stored.id != made[0]:
        values = {
            "cron": new.cron,
            "timezone": new.timezone,
            "target": new.target,
            "data": new.data.decode(),
            "priority": new.priority,
            "missed": new.missed.value,
            "next_at": next_at if stored.enabled else None,
            "updated_at": now,
        }
        _save(tx, stored, values)
        (row,) = tx.rows(_BY_NAME, {"owner": new.owner_id, "of_name": new.name})
    return schedule_item(row)


def _save(tx: Writes, stored: Schedule, values: dict[str, Any]) -> None:
    before: dict[str, Any] = {name: getattr(stored, name) for name in _MOVING}
    before |= {
        "data": to_json(stored.data),
        "missed": stored.missed.value,
        "enabled": int(stored.enabled),
        "last_error": None if stored.last_error is None else to_json(stored.last_error),
    }
    tx.change(_SAVE, [{**before, **values, "of": stored.id}])


@dataclass(frozen=True, slots=True)
class EnableSchedule(Command[Schedule]):
    """Pause a schedule, or let it go on from the next time that comes.

    Raises:
        NotFound: no such schedule of that owner.
    """

    lane: ClassVar[Lane] = "submit"
    order: ClassVar[int] = 5
    name: str
    owner_id: str
    enabled: bool

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[Schedule | HoldfastError]:
        """One after the other."""
        return [_enable(tx, command) for command in commands]


def _enable(tx: Writes, command: EnableSchedule) -> Schedule | HoldfastError:
    by_name = {"owner": command.owner_id, "of_name": command.name}
    for row in tx.rows(_BY_NAME, by_name):
        stored, now = schedule_item(row), tx.now()
        if stored.enabled is not command.enabled:
            next_at = following(stored.cron, stored.timezone, now) if command.enabled else None
            enabled = int(command.enabled)
            _save(tx, stored, {"enabled": enabled, "next_at": next_at, "updated_at": now})
        (row,) = tx.rows(_BY_NAME, by_name)
        return schedule_item(row)
    return NotFound(f"there is no schedule {command.name}")


@dataclass(frozen=True, slots=True)
class DeleteSchedule(Command[None]):
    """Delete a schedule; the events it sent stay.

    Raises:
        NotFound: no such schedule of that owner.
    """

    lane: ClassVar[Lane] = "submit"
    order: ClassVar[int] = 6
    name: str
    owner_id: str

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[HoldfastError | None]:
        """One after the other; the second finds none."""
        return [_delete(tx, command) for command in commands]


def _delete(tx: Writes, command: DeleteSchedule) -> HoldfastError | None:
    for row in tx.rows(_BY_NAME, {"owner": command.owner_id, "of_name": command.name}):
        tx.change(_DELETE, [{"of": schedule_item(row).id}])
        return None
    return NotFound(f"there is no schedule {command.name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """What the clock says.

    Attributes:
        now: the store's time.
        schedules: whose time has come.
        next_in_us: until the next one's; None when none is set.
    """

    now: int
    schedules: tuple[Schedule, ...]
    next_in_us: int | None


@cache
def _due(names: int) -> Statement:
    return Statement(
        select(*COLUMNS)
        .where(
            schedules.c.next_at.is_not(None),
            schedules.c.next_at <= bindparam("now"),
            schedules.c.target.in_(slots("name", names)),
        )
        .order_by(schedules.c.next_at)
        .limit(bindparam("limit"))
    )


@cache
def _next(names: int) -> Statement:
    return Statement(
        select(func.min(schedules.c.next_at)).where(
            schedules.c.next_at.is_not(None),
            schedules.c.next_at > bindparam("now"),
            schedules.c.target.in_(slots("name", names)),
        )
    )


@dataclass(frozen=True, slots=True)
class DueSchedules(Command[Due]):
    """Look at the store's clock: which schedules of loaded pipelines are due. Changes nothing.

    A command and not a query, for only those know the store's time.
    """

    lane: ClassVar[Lane] = "submit"
    order: ClassVar[int] = 7
    targets: tuple[str, ...]
    limit: int = 100

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[Due]:
        """Ask for each."""
        return [_look(tx, command) for command in commands]


def _look(tx: Writes, command: DueSchedules) -> Due:
    now = tx.now()
    due: list[Schedule] = []
    times: list[int] = []
    for piece in pieces(sorted(command.targets)):
        values = {"now": now, **fill("name", piece)}
        rows = tx.rows(_due(sized(piece)), {**values, "limit": command.limit})
        due += [schedule_item(row) for row in rows]
        times += [at for (at,) in tx.rows(_next(sized(piece)), values) if at is not None]
    return Due(now=now, schedules=tuple(due), next_in_us=min(times) - now if times else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fire(Command[Submitted | None]):
    """Send what a schedule is due for and set its next time, in one transaction.

    Who comes second finds another time there and does nothing: the due time is the fence.

    Attributes:
        schedule_id: which.
        due_at: the time it is fired for.
        next_at: when it fires next.
        event: what it sends; None when the time was missed or an error tells why not.
        error: what is told when there is no event.
    """

    lane: ClassVar[Lane] = "submit"
    order: ClassVar[int] = 3
    schedule_id: str
    due_at: int
    next_at: int
    event: NewEvent | None
    error: dict[str, Any] | None = None

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[Submitted | None]:
        """One after the other."""
        return [_fire(tx, command) for command in commands]


def _fire(tx: Writes, command: Fire) -> Submitted | None:
    rows = tx.rows(_BY_ID, {"of": command.schedule_id})
    stored = schedule_item(rows[0]) if rows else None
    if stored is None or stored.next_at != command.due_at:
        return None
    values: dict[str, Any] = {"next_at": command.next_at, "updated_at": tx.now()}
    error, sent = command.error, None
    if command.event is not None:
        (result,) = Submit.write_many(tx, [Submit(command.event)])
        if isinstance(result, HoldfastError):
            error = {"code": result.code, "message": result.message}
        else:
            sent = result
            values |= {"last_at": command.due_at, "last_event_id": sent.id}
    elif error is None:
        values["last_missed_at"] = command.due_at
    values["last_error"] = None if error is None else to_json({**error, "at": command.due_at})
    _save(tx, stored, values)
    return sent

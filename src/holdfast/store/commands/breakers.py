"""Circuit breakers moved, and the events that waited for one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from sqlalchemy import bindparam, select, update

from holdfast.domain.breakers import Breaker, BreakerMove
from holdfast.domain.status import EventStatus
from holdfast.store.base import Command, Lane, Writes
from holdfast.store.frames import plain
from holdfast.store.queries.breakers import COLUMNS as BREAKER_COLUMNS
from holdfast.store.queries.breakers import NAMES, breaker_item
from holdfast.store.statements import Conflict, Insert, Statement
from holdfast.store.tables import breakers, events, pauses
from holdfast.store.tables.base import word

from .held import COLUMNS, held, lock, save

_INSERT = Insert(breakers, unless=Conflict(("name",)))

_LOCKED = lock(select(*BREAKER_COLUMNS).where(breakers.c.name == bindparam("of")))

_SAVE = Statement(
    update(breakers)
    .where(breakers.c.name == bindparam("of"))
    .values({name: bindparam(name) for name in NAMES if name != "name"})
)

_POSTPONED = lock(
    select(*COLUMNS)
    .where(
        events.c.status == word(EventStatus.QUEUED),
        events.c.postponed_for.is_not(None),
        events.c.postponed_for == bindparam("breaker"),
        # One that nobody may claim would wait for nothing, and as a probe let all others wait.
        events.c.target.not_in(select(pauses.c.pipeline)),
    )
    .order_by(events.c.priority.desc(), events.c.id)
    .limit(bindparam("limit")),
    skip_locked=True,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerMoved:
    """What came of a move.

    Attributes:
        breaker: how it stands now, whoever moved it.
        moved: whether this move changed it.
        at: the store's clock, by which its times are meant.
    """

    breaker: Breaker
    moved: bool
    at: int


@dataclass(frozen=True, slots=True)
class MoveBreaker(Command[BreakerMoved]):
    """Let something happen to a breaker; of several hubs that try at once, one does it."""

    lane: ClassVar[Lane] = "claim"
    order: ClassVar[int] = 0
    name: str
    move: BreakerMove

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[BreakerMoved]:
        """One after the other under the row's lock, in the order in which they came."""
        now = tx.now()
        held = {name: _held(tx, name, now) for name in sorted({one.name for one in commands})}
        results: list[BreakerMoved] = []
        moved: set[str] = set()
        for one in commands:
            after = one.move.apply(held[one.name], now)
            if after is not None:
                held[one.name] = after
                moved.add(one.name)
            results.append(BreakerMoved(breaker=held[one.name], moved=after is not None, at=now))
        tx.change(_SAVE, [_changes(held[name]) for name in sorted(moved)])
        return results


def _held(tx: Writes, name: str, now: int) -> Breaker:
    rows = tx.rows(_LOCKED, {"of": name})
    if not rows:
        tx.insert(_INSERT, [_row(Breaker(name=name, changed_at=now))])
        rows = tx.rows(_LOCKED, {"of": name})  # another hub may have been quicker
    return breaker_item(rows[0])


def _row(breaker: Breaker) -> list[Any]:
    values = {name: getattr(breaker, name) for name in NAMES}
    values["status"] = breaker.status.value
    values["by_hand"] = int(breaker.by_hand)
    if breaker.reason is not None:  # what a server said, word for word
        values["reason"] = plain(breaker.reason)
    return [values[column.name] for column in breakers.columns]


def _changes(breaker: Breaker) -> dict[str, Any]:
    values = dict(zip([column.name for column in breakers.columns], _row(breaker), strict=True))
    values["of"] = values.pop("name")
    return values


@dataclass(frozen=True, slots=True)
class ReleasePostponed(Command[int]):
    """Let events that wait for a breaker run now; how many those were.

    Attributes:
        limit: at most so many, the most urgent first.
    """

    lane: ClassVar[Lane] = "claim"
    order: ClassVar[int] = 2
    breaker: str
    limit: int

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[int]:
        """One after the other."""
        return [_release(tx, one) for one in commands]


def _release(tx: Writes, command: ReleasePostponed) -> int:
    rows = tx.rows(_POSTPONED, {"breaker": command.breaker, "limit": command.limit})
    released = [held(row) for row in rows]
    for event in released:
        event.available_at = tx.now()
        event.postponed_for = None
    save(tx, released)
    return len(released)

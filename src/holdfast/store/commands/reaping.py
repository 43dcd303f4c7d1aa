"""Taking events back from hubs that are gone or stand still."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from sqlalchemy import bindparam, select, update

from holdfast.domain.events import CHILD
from holdfast.domain.halts import Halt
from holdfast.domain.redelivery import not_redelivered
from holdfast.domain.status import EventStatus, ExecutionStatus, event_after
from holdfast.store.base import Command, Lane, Row, Writes
from holdfast.store.frames import to_json
from holdfast.store.statements import Statement
from holdfast.store.tables import events, executions
from holdfast.store.tables.base import word

from .forgetting import forget_homeless
from .halting import Halts
from .held import COLUMNS, Moved, held, hold, lock, parents_of, save

_EXPIRED = (
    (
        events.c.status == word(EventStatus.RUNNING),
        events.c.lease_until < bindparam("now"),
        events.c.lease_owner != bindparam("mine"),
    ),
    events.c.lease_until,
)
expired = lock(
    select(*COLUMNS).where(*_EXPIRED[0]).order_by(_EXPIRED[1]).limit(bindparam("limit")),
    skip_locked=True,
)
"""Events whose lease ran out in other hands."""

_EXPIRED_CHILDREN = Statement(
    select(events.c.id)
    .where(*_EXPIRED[0], events.c.origin == CHILD)
    .order_by(_EXPIRED[1])
    .limit(bindparam("limit"))
)

_MINE = (
    events.c.status == word(EventStatus.RUNNING),
    events.c.lease_owner == bindparam("lease_owner"),
)
_LEASED_TO = lock(select(*COLUMNS).where(*_MINE).order_by(events.c.id))
_CHILDREN_LEASED_TO = Statement(select(events.c.id).where(*_MINE, events.c.origin == CHILD))

_CLOSE = Statement(
    update(executions)
    .where(
        executions.c.id == bindparam("of"),
        executions.c.status == word(ExecutionStatus.RUNNING),
    )
    .values(
        status=word(ExecutionStatus.CRASHED),
        finished_at=bindparam("at"),
        duration_us=bindparam("until") - executions.c.started_at,
        error=bindparam("error"),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenBack:
    """An event taken from a worker that is gone.

    Attributes:
        status: what it is now: `queued`, `dead`, `cancelled`, or `failed` if it must not begin
            twice.
        execution_id: the execution that was running, now `crashed`.
        others: parents and children that moved with those given back; told by the first of them.
    """

    event_id: str
    owner_id: str
    execution_id: str | None
    status: EventStatus
    others: tuple[Moved, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reap(Command[list[GivenBack]]):
    """Take back events whose lease ran out; each counts as a crash.

    Attributes:
        lease_owner: boot id of the hub that asks; its own are left alone.
        limit: at most so many.
    """

    lane: ClassVar[Lane] = "claim"
    order: ClassVar[int] = 6
    lease_owner: str
    limit: int = 100

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[list[GivenBack]]:
        """One after the other; the second finds nothing left."""
        now = tx.now()
        reason = "the hub that ran it stopped renewing its lease"
        results: list[list[GivenBack]] = []
        for command in commands:
            which = {"now": now, "mine": command.lease_owner, "limit": command.limit}
            parents = _hold_parents(tx, tx.rows(_EXPIRED_CHILDREN, which))
            rows = tx.rows(expired, which)
            results.append(_give_back(tx, rows, parents, reason, counts_as_crash=True))
        return results


@dataclass(frozen=True, slots=True)
class TakeBack(Command[list[GivenBack]]):
    """Return what a dead boot of this machine still holds; the work did not crash, so none counts.

    Its journal has to be stored first.
    """

    lane: ClassVar[Lane] = "claim"
    order: ClassVar[int] = 7
    lease_owner: str

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[list[GivenBack]]:
        """Each boot's events in turn."""
        results: list[list[GivenBack]] = []
        for command in commands:
            which = {"lease_owner": command.lease_owner}
            parents = _hold_parents(tx, tx.rows(_CHILDREN_LEASED_TO, which))
            rows = tx.rows(_LEASED_TO, which)
            reason = "the hub that ran it died"
            results.append(_give_back(tx, rows, parents, reason, counts_as_crash=False))
        return results


def _hold_parents(tx: Writes, children: Sequence[Row]) -> frozenset[str]:
    """Lock those who wait for these, before the children themselves: as everybody does."""
    ids = parents_of(tx, [id_ for (id_,) in children]) if children else []
    return frozenset(hold(tx, ids)) if ids else frozenset()


def _give_back(
    tx: Writes,
    rows: Sequence[Row],
    parents: frozenset[str],
    reason: str,
    *,
    counts_as_crash: bool,
) -> list[GivenBack]:
    now = tx.now()
    error = {"code": "runner_lost", "message": reason}
    taken = [held(row) for row in rows]
    children = [event.id for event in taken if event.origin == CHILD]
    if children and not parents.issuperset(parents_of(tx, children)):
        # It became one of these only now, and its parent may be locked by who waits for it.
        taken = [event for event in taken if event.origin != CHILD]
    halts = Halts(tx)
    for event in taken:
        event.fence += 1  # whoever still runs it can no longer write
        event.crashes += counts_as_crash
        event.last_error = error
        event.move(
            event_after(
                ExecutionStatus.CRASHED,
                crashes=event.crashes,
                cancel_requested=event.cancel_requested_at is not None,
                redeliver=bool(event.redeliver),
            ),
            now,
        )
        if event.status is EventStatus.FAILED:
            event.last_error = not_redelivered(error)
        if event.status in (EventStatus.CANCELLED, EventStatus.FAILED):
            halts.end(event)
        elif event.halt is not None:
            event.halt = Halt.of(event.halt).broken().to_json()
    others = halts.write()
    others += save(tx, taken)
    tx.change(
        _CLOSE,
        [
            {"of": event.execution_id, "at": now, "until": now, "error": to_json(error)}
            for event in taken
        ],
    )
    # Those whose session was deleted while they ran; told of all the same.
    forget_homeless(tx, [event.id for event in taken if event.status is EventStatus.CANCELLED])
    return [
        GivenBack(
            event_id=event.id,
            owner_id=event.owner_id,
            execution_id=event.execution_id,
            status=event.status,
            others=() if place else tuple(others),
        )
        for place, event in enumerate(taken)
    ]

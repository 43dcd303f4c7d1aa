"""Taking out of the tables what is not to be kept: events with all that ran, whole sessions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache

from sqlalchemy import Table, bindparam, delete, exists, literal_column, select

from holdfast.domain.agents import AGENT
from holdfast.domain.memory_items import Namespace
from holdfast.domain.status import EVENT_ENDS, EventStatus
from holdfast.store.base import Writes
from holdfast.store.statements import Statement, fill, pieces, sized, slots
from holdfast.store.tables import (
    attempts,
    events,
    executions,
    interventions,
    messages,
    payloads,
    sessions,
    steps,
    waits,
)
from holdfast.store.tables.base import word

from .checkpoints import drop_threads
from .halting import cancel_halted
from .held import HeldEvent, Moved, hold, parents_of, save
from .memory_items import drop_namespace


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """What deleting sessions did to the turns that had not ended.

    Attributes:
        moved: the turns, and their children: `cancelled`, or `running` where an execution is to be
            told to stop.
        sessions: how many were deleted.
    """

    moved: tuple[Moved, ...]
    sessions: int


@cache
def _of_events(table: Table, column: str, count: int) -> Statement:
    return Statement(delete(table).where(table.c[column].in_(slots("of", count))))


@cache
def _of_executions(table: Table, count: int) -> Statement:
    ran = select(executions.c.id).where(executions.c.event_id.in_(slots("of", count)))
    return Statement(delete(table).where(table.c.execution_id.in_(ran)))


_BY_EVENT = ((executions, "event_id"), (waits, "event_id"), (interventions, "event_id"))


def drop_events(tx: Writes, ids: Sequence[str], pinned: Collection[tuple[str, str]]) -> None:
    """Delete events with their executions, whose right to go has been checked.

    Args:
        tx: the transaction.
        ids: of the events.
        pinned: (owner, id) of those that have checkpoints.
    """
    drop_threads(tx, list(pinned))
    for piece in pieces(ids):
        of, size = dict(fill("of", piece)), sized(piece)
        for table in (attempts, steps, payloads):
            tx.change(_of_executions(table, size), [of])
        for table, column in (*_BY_EVENT, (events, "id")):
            tx.change(_of_events(table, column, size), [of])


@cache
def _turns(count: int) -> Statement:
    return Statement(
        select(messages.c.event_id)
        .where(messages.c.session_id.in_(slots("of", count)), messages.c.event_id.is_not(None))
        .distinct()
    )


_IN_SESSION = (
    Statement(delete(messages).where(messages.c.session_id == bindparam("of"))),
    Statement(delete(sessions).where(sessions.c.id == bindparam("of"))),
)


def forget_sessions(
    tx: Writes, owner_id: str, ids: Sequence[str], *, agent_id: str | None = None
) -> Removed:
    """Delete sessions of an owner, which are locked, with everything in them; see `DeleteSession`.

    Args:
        tx: the transaction.
        owner_id: whose.
        ids: of the sessions.
        agent_id: its own memory goes as well.
    """
    turns = [
        event_id
        for piece in pieces(ids)
        for (event_id,) in tx.rows(_turns(sized(piece)), fill("of", piece))
    ]
    held = hold(tx, [*turns, *parents_of(tx, turns)])
    mine = [held[event_id] for event_id in sorted(set(turns)) if event_id in held]
    moved = _call_off(tx, [event for event in mine if event.status not in EVENT_ENDS])
    gone = [event for event in mine if event.status is not EventStatus.RUNNING]
    pinned = [(event.owner_id, event.id) for event in gone if event.pinned is not None]
    drop_events(tx, [event.id for event in gone], pinned)
    _drop_threads_and_memory(tx, [(owner_id, session_id) for session_id in ids])
    if agent_id is not None:
        drop_namespace(tx, owner_id, memory_of_agent(agent_id))
    for statement in _IN_SESSION:
        tx.change(statement, [{"of": session_id} for session_id in ids])
    return Removed(moved=tuple(moved), sessions=len(ids))


def _call_off(tx: Writes, unfinished: Sequence[HeldEvent]) -> list[Moved]:
    now = tx.now()
    halted: list[HeldEvent] = []
    for event in unfinished:
        if event.status is EventStatus.RUNNING:
            event.cancel_requested_at = event.cancel_requested_at or now
            continue
        if event.pinned is not None or event.halt is not None:
            halted.append(event)
        event.move(EventStatus.CANCELLED, now)
    others = cancel_halted(tx, halted) if halted else []
    others += save(tx, unfinished)
    return [*(Moved(one.id, one.execution_id, one.status) for one in unfinished), *others]


def memory_of_session(session_id: str) -> Namespace:
    """Where what is remembered for one session alone stands."""
    return ("sessions", session_id)


def memory_of_agent(agent_id: str) -> Namespace:
    """Where what an agent remembers over its sessions stands."""
    return ("agents", agent_id)


def _drop_threads_and_memory(tx: Writes, owned: Sequence[tuple[str, str]]) -> None:
    drop_threads(tx, owned)  # a graph's checkpoints are those of its session
    for owner_id, session_id in owned:
        drop_namespace(tx, owner_id, memory_of_session(session_id))


@cache
def _homeless(count: int) -> Statement:
    return Statement(
        select(events.c.id, events.c.owner_id, events.c.session_id, events.c.pinned).where(
            events.c.id.in_(slots("id", count)),
            events.c.target_kind == literal_column(f"'{AGENT}'"),
            events.c.session_id.is_not(None),
            events.c.status.in_([word(status) for status in sorted(EVENT_ENDS)]),
            ~exists(select(sessions.c.id).where(sessions.c.id == events.c.session_id)),
        )
    )


def forget_homeless(tx: Writes, event_ids: Sequence[str]) -> None:
    """Delete those of these turns that have ended and whose session was deleted while they ran."""
    rows = [
        row
        for piece in pieces(sorted(set(event_ids)))
        for row in tx.rows(_homeless(sized(piece)), fill("id", piece))
    ]
    if not rows:
        return
    pinned = [(owner, id_) for id_, owner, _, pin in rows if pin is not None]
    drop_events(tx, [row[0] for row in rows], pinned)
    _drop_threads_and_memory(tx, sorted({(owner, session) for _, owner, session, _ in rows}))

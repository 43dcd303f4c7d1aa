"""A word to a conversation whose turn was given up without a record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from sqlalchemy import bindparam, literal_column, select

from holdfast.domain.agents import AGENT
from holdfast.domain.conversations import NewMessage
from holdfast.domain.status import EventStatus
from holdfast.store.base import Command, Lane, Writes
from holdfast.store.statements import Statement
from holdfast.store.tables import events, messages
from holdfast.store.tables.base import word

from .messages import INSERT, Place, grown, message_row
from .sessions import hold_sessions, save_sessions

_GIVEN_UP = Statement(
    select(events.c.session_id, events.c.execution_id).where(
        events.c.id == bindparam("event"),
        events.c.owner_id == bindparam("owner_id"),
        events.c.target_kind == literal_column(f"'{AGENT}'"),
        events.c.session_id.is_not(None),
        events.c.status.in_([word(EventStatus.DEAD), word(EventStatus.FAILED)]),
    )
)
_TURN = Statement(
    select(messages.c.turn, messages.c.part, messages.c.execution_id)
    .where(messages.c.event_id == bindparam("event"))
    .order_by(messages.c.part)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Apologise(Command[bool]):
    """Tell a conversation that one of its turns was given up; whether it was told now.

    For turns that were taken back from a hub that is gone (`Reap`, `TakeBack`) and are dead or
    failed for good: no record of theirs brings a word. Each execution is apologised for once; what
    is no agent's, has not been given up, or whose session is gone is passed over.
    """

    lane: ClassVar[Lane] = "submit"
    order: ClassVar[int] = 7
    event_id: str
    owner_id: str
    message: NewMessage

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[bool]:
        """One after the other."""
        return [_apologise(tx, command) for command in commands]


def _apologise(tx: Writes, command: Apologise) -> bool:
    which = {"event": command.event_id, "owner_id": command.owner_id}
    found = tx.rows(_GIVEN_UP, which)
    if not found:
        return False
    session_id, execution_id = found[0]
    session = hold_sessions(tx, [session_id]).get(session_id)
    said = tx.rows(_TURN, which)
    if session is None or not said or any(row[2] == execution_id for row in said):
        return False
    place = Place(
        session=session,
        turn=said[-1][0],
        part=said[-1][1] + 1,
        event_id=command.event_id,
        execution_id=execution_id,
    )
    now = tx.now()
    tx.insert(INSERT, [message_row(command.message, place, now)])
    save_sessions(tx, [grown(session, 1, updated_at=max(now, session.updated_at))])
    return True

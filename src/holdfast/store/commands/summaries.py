"""Summaries, and what answers were worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar, Self

from sqlalchemy import bindparam, select, update

from holdfast.domain.conversations import Feedback, Message, NewMessage, Session, Speaker
from holdfast.errors import HoldfastError, IllegalMove, InvalidInput, NotFound
from holdfast.store.base import Command, Lane, Writes
from holdfast.store.frames import plain
from holdfast.store.queries.conversations import MESSAGE, MESSAGE_COLUMNS, no_session
from holdfast.store.statements import Statement, fill, pieces, sized, slots
from holdfast.store.tables import messages

from .held import lock
from .messages import INSERT, Place, message_row
from .sessions import hold_sessions, save_sessions


@cache
def _by_id(count: int) -> Statement:
    return lock(
        select(*MESSAGE_COLUMNS)
        .where(messages.c.id.in_(slots("id", count)))
        .order_by(messages.c.id)
    )


def _hold(tx: Writes, ids: Sequence[str]) -> dict[str, Message]:
    return {
        row[0]: MESSAGE.item(row)
        for piece in pieces(sorted(set(ids)))
        for row in tx.rows(_by_id(sized(piece)), fill("id", piece))
    }


_MARK = Statement(update(messages).where(messages.c.id == bindparam("of")).values(summarised=1))
_FEEDBACK = Statement(
    update(messages)
    .where(messages.c.id == bindparam("of"))
    .values(feedback=bindparam("worth"), comment=bindparam("told"))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summarise(Command[bool]):
    """Let a summary stand for messages, which are kept as they were said.

    Nothing is changed, and the result is False, when a summary stands for any of them already: a
    message is summarised once, whoever tries it how often.

    Attributes:
        of: ids of the messages.
        summary: its place is that of the last of them.
        execution_id: that wrote it.

    Raises:
        NotFound: no such session of that owner, or a message is not in it.
        InvalidInput: no messages, or a summary among them.
    """

    lane: ClassVar[Lane] = "submit"
    order: ClassVar[int] = 5
    session_id: str
    owner_id: str
    of: Sequence[str]
    summary: NewMessage
    execution_id: str | None = None

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[bool | HoldfastError]:
        """Under the sessions' locks, one after the other."""
        held = hold_sessions(tx, [command.session_id for command in commands])
        results: list[bool | HoldfastError] = []
        for command in commands:
            session = held.get(command.session_id)
            if session is None or session.owner_id != command.owner_id:
                results.append(no_session(command.session_id))
                continue
            found = _summarise(tx, command, session)
            if isinstance(found, Session):
                held[session.id] = found
                results.append(True)
            else:
                results.append(found)
        return results


def _summarise(tx: Writes, command: Summarise, session: Session) -> Session | bool | HoldfastError:
    """The session afterwards, or why there is no summary."""
    if not command.of:
        return InvalidInput("a summary stands for at least one message")
    found = _hold(tx, command.of)
    for message_id in command.of:
        if message_id not in found or found[message_id].session_id != session.id:
            return NotFound(f"there is no message {message_id} in session {session.id}")
    of = sorted(found.values(), key=lambda one: (one.turn, one.part))
    if any(one.role is Speaker.SUMMARY for one in of):
        return InvalidInput("a summary stands for what was said, not for other summaries")
    if any(one.summarised for one in of):
        return False
    ids = [one.id for one in of]
    place = Place(
        session=session,
        turn=of[-1].turn,
        part=of[-1].part,
        event_id=None,
        execution_id=command.execution_id,
        summary_of=ids,
    )
    summary = replace(command.summary, role=Speaker.SUMMARY)
    tx.insert(INSERT, [message_row(summary, place, tx.now())])
    tx.change(_MARK, [{"of": message_id} for message_id in sorted(ids)])
    session = replace(session, unsummarised=session.unsummarised - len(ids))
    save_sessions(tx, [session])
    return session


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveFeedback(Command[Message]):
    """Say what an answer was worth; what was said before is replaced, None takes it back.

    Raises:
        NotFound: no such message of that owner.
        IllegalMove: it is no answer.
    """

    lane: ClassVar[Lane] = "submit"
    order: ClassVar[int] = 6
    message_id: str
    owner_id: str
    feedback: Feedback | None
    comment: str | None = None

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[Message | HoldfastError]:
        """The last one counts."""
        found = _hold(tx, [command.message_id for command in commands])
        results: list[Message | HoldfastError] = []
        values: dict[str, dict[str, Any]] = {}
        for command in commands:
            message = found.get(command.message_id)
            if message is None or message.owner_id != command.owner_id:
                results.append(NotFound(f"there is no message {command.message_id}"))
                continue
            if message.role is not Speaker.ASSISTANT:
                results.append(
                    IllegalMove(f"message {message.id} is the {message.role}'s, not an answer")
                )
                continue
            told = command.comment and plain(command.comment)
            values[message.id] = {"of": message.id, "worth": command.feedback, "told": told}
            found[message.id] = replace(message, feedback=command.feedback, comment=told)
            results.append(found[message.id])
        tx.change(_FEEDBACK, [values[message_id] for message_id in sorted(values)])
        return results

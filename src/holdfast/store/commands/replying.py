"""A message that answers what its session's turn waits for: stored in that turn, which goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from sqlalchemy import bindparam, func, select

from holdfast.domain.conversations import NewMessage, Session, SessionStatus
from holdfast.domain.status import EventStatus
from holdfast.errors import HoldfastError, IllegalMove, NotFound
from holdfast.store.base import Command, Lane, Writes
from holdfast.store.queries.conversations import no_session
from holdfast.store.statements import Statement
from holdfast.store.tables import messages

from .going_on import Resumed, open_wait, resumed
from .halting import StoredWait, answer, waits_of
from .held import HeldEvent, hold, save
from .messages import INSERT, Place, message_row
from .sessions import hold_sessions, save_sessions

_LAST = Statement(
    select(messages.c.turn, func.max(messages.c.part))
    .where(
        messages.c.event_id == bindparam("event_id"),
        messages.c.session_id == bindparam("session_id"),
    )
    .group_by(messages.c.turn)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply(Command[Resumed]):
    """Answer a waiting turn with what was said next in its session.

    The message gets the next place of that turn, and its text is the answer.

    Attributes:
        session_id: the conversation.
        agent_id: whose session it must be.
        event_id: the turn that waits.
        wait_id: what it waits for.
        message: what was said.

    Raises:
        NotFound: no such session of that agent and owner, or no such wait in it.
        IllegalMove: the session is archived, or the turn does not wait for an answer.
        AlreadyAnswered: it has one.
    """

    lane: ClassVar[Lane] = "finish"
    order: ClassVar[int] = 4
    session_id: str
    agent_id: str
    owner_id: str
    event_id: str
    wait_id: str
    message: NewMessage

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[Resumed | HoldfastError]:
        """Decide each under the sessions' locks, then the events', in turn."""
        now = tx.now()
        sessions = hold_sessions(tx, [command.session_id for command in commands])
        found = hold(tx, [command.event_id for command in commands])
        known = waits_of(tx, found)
        moved: dict[str, HeldEvent] = {}
        given: list[tuple[StoredWait, Any]] = []
        results: list[Resumed | HoldfastError] = []
        for command in commands:
            session = sessions.get(command.session_id)
            event = found.get(command.event_id)
            wait = _wait(tx, command, session, event, known.get(command.event_id, []))
            if isinstance(wait, HoldfastError) or session is None or event is None:
                results.append(wait if isinstance(wait, HoldfastError) else _gone(command))
                continue
            given.append((wait, {"answer": command.message.content}))
            event.move(EventStatus.QUEUED, now)
            moved[event.id] = event
            sessions[session.id] = _told(tx, command, session, now)
            results.append(resumed(event))
        answer(tx, given)
        save(tx, moved.values())
        save_sessions(tx, list(sessions.values()))
        return results


def _wait(
    tx: Writes,
    command: Reply,
    session: Session | None,
    event: HeldEvent | None,
    known: Sequence[StoredWait],
) -> StoredWait | HoldfastError:
    whose = None if session is None else (session.owner_id, session.agent_id)
    if session is None or whose != (command.owner_id, command.agent_id):
        return no_session(command.session_id)
    if event is None or event.owner_id != command.owner_id:
        return _gone(command)
    if not tx.rows(_LAST, {"event_id": event.id, "session_id": session.id}):
        return _gone(command)
    if session.status is SessionStatus.ARCHIVED:
        return IllegalMove(
            f"session {session.id} is archived and takes no further messages",
            hint="take it out of the archive, or begin another one",
        )
    return open_wait(event, known, command.wait_id)


def _gone(command: Reply) -> NotFound:
    return NotFound(f"there is no turn {command.event_id} in session {command.session_id}")


def _told(tx: Writes, command: Reply, session: Session, now: int) -> Session:
    """Write the message behind what was said in its turn; the session with it."""
    whose = {"event_id": command.event_id, "session_id": session.id}
    ((turn, part),) = tx.rows(_LAST, whose)
    place = Place(session=session, turn=turn, part=part + 1, event_id=command.event_id)
    tx.insert(INSERT, [message_row(command.message, place, now)])
    return replace(
        session,
        messages=session.messages + 1,
        unsummarised=session.unsummarised + 1,
        updated_at=max(now, session.updated_at),
    )

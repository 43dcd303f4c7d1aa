"""Sessions: made, listed, renamed, archived, deleted with everything in them; what was said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.domain.agents import Agent
from holdfast.domain.conversations import Feedback, Message, Session, SessionStatus
from holdfast.domain.ids import new_id
from holdfast.errors import IllegalMove, InvalidInput, NotFound
from holdfast.store.commands import ChangeSession, DeleteSession, GiveFeedback, MakeSession
from holdfast.store.commands.sessions import NewSession
from holdfast.store.queries import AgentBy, MessageBy, Messages, SessionBy, Sessions
from holdfast.telemetry import logger

from .announce import announce
from .kit import Kit
from .submit import check_depth, kept_json
from .views import View, iso

log = logger("sessions")


async def create(
    kit: Kit,
    agent: Agent,
    *,
    title: str = "",
    channel: str = "api",
    chat_id: str | None = None,
    user: Mapping[str, Any],
    metadata: Mapping[str, Any],
) -> tuple[Session, bool]:
    """Make a session, or find the one of that chat.

    Returns:
        The session, and whether it is new.

    Raises:
        InvalidInput: what is known of the user cannot be kept.
    """
    _check_kept("user", user)
    _check_kept("metadata", metadata)
    new = NewSession(
        id=new_id(),
        owner_id=agent.current.owner_id,
        agent_id=agent.id,
        title=title,
        channel=channel,
        chat_id=chat_id,
        user=user,
        metadata=metadata,
    )
    stored = await kit.store.write(MakeSession(new))
    return stored, stored.id == new.id


async def find(kit: Kit, owner_id: str, session_id: str, *, agent: Agent | None = None) -> Session:
    """A session; with an agent, one of that agent's.

    Raises:
        NotFound: there is none.
    """
    session = await kit.store.read(SessionBy(session_id, owner_id))
    if agent is not None and session.agent_id != agent.id:
        raise NotFound(
            f"there is no session {session_id!a} of agent {agent.current.name}",
            hint="a session belongs to one agent",
        )
    return session


async def page(
    kit: Kit,
    owner_id: str,
    *,
    agent: Agent | None,
    status: SessionStatus | None,
    after: str | None,
    limit: int,
) -> list[Session]:
    """A page of an owner's sessions, those with the newest activity first.

    Args:
        kit: the hub's parts.
        owner_id: whose.
        agent: only this one's.
        status: only these.
        after: `place` of the last session of the page before.
        limit: most of them.

    Raises:
        InvalidInput: `after` is no place.
    """
    return await kit.store.read(
        Sessions(
            owner_id=owner_id,
            agent_id=None if agent is None else agent.id,
            status=status,
            after=None if after is None else _read_place(after),
            limit=limit,
        )
    )


def place(session: Session) -> str:
    """Where a session stands in lists."""
    return f"{session.updated_at}~{session.id}"


def _read_place(text: str) -> tuple[int, str]:
    moved_at, _, session_id = text.partition("~")
    if not session_id or not (moved_at.isascii() and moved_at.isdecimal()) or len(moved_at) > 18:
        expected = "what the page before gave as next"
        raise InvalidInput(
            f"after: expected {expected}",
            fields=[{"field": "after", "expected": expected, "got": ascii(text)[:100]}],
        )
    return int(moved_at), session_id


async def change(
    kit: Kit,
    session: Session,
    *,
    title: str | None,
    status: SessionStatus | None,
    metadata: Mapping[str, Any] | None,
) -> Session:
    """Rename a session, archive it or take it back; None leaves a thing as it is.

    Raises:
        NotFound: it is gone.
        InvalidInput: the metadata cannot be kept.
    """
    if metadata is not None:
        _check_kept("metadata", metadata)
    return await kit.store.write(
        ChangeSession(
            id=session.id,
            owner_id=session.owner_id,
            title=title,
            status=status,
            metadata=metadata,
        )
    )


async def delete(kit: Kit, session: Session) -> None:
    """Delete a session with its messages, executions, checkpoints and memory.

    Raises:
        NotFound: it is gone already.
    """
    removed = await kit.store.write(DeleteSession(session.id, session.owner_id))
    log.info("session.deleted", session_id=session.id, agent=session.agent_id)
    announce(kit, removed.moved)


async def messages(
    kit: Kit, session: Session, *, before: str | None, limit: int
) -> Sequence[Message]:
    """A page of what was said in a session, the newest first.

    Raises:
        NotFound: `before` is no message of it.
    """
    return await kit.store.read(
        Messages(session_id=session.id, owner_id=session.owner_id, before=before, limit=limit)
    )


async def give_feedback(
    kit: Kit,
    session: Session,
    message_id: str,
    *,
    feedback: Feedback | None,
    comment: str | None,
) -> Message:
    """Say what an answer was worth; None takes back what was said before.

    Raises:
        NotFound: it is no message of that session.
        IllegalMove: it is no answer.
    """
    message = await kit.store.read(MessageBy(message_id, session.owner_id))
    if message.session_id != session.id:
        raise NotFound(f"there is no message {message_id!a} in session {session.id}")
    return await kit.store.write(
        GiveFeedback(
            message_id=message_id, owner_id=session.owner_id, feedback=feedback, comment=comment
        )
    )


def _check_kept(field: str, value: Mapping[str, Any]) -> None:
    check_depth(dict(value), field)
    kept_json(dict(value), field)


async def agent_names(kit: Kit, found: Sequence[Session]) -> Mapping[str, str]:
    """The names of the sessions' agents, by id."""
    names: dict[str, str] = {}
    for session in found:
        if session.agent_id not in names:
            agent = await kit.store.read(AgentBy(session.owner_id, session.agent_id))
            names[session.agent_id] = agent.current.name
    return names


def check_open(session: Session) -> None:
    """Make sure that a session takes messages.

    Raises:
        IllegalMove: it is archived.
    """
    if session.status is SessionStatus.ARCHIVED:
        raise IllegalMove(
            f"session {session.id} is archived and takes no messages",
            hint="take it out of the archive: PATCH its status to active",
        )


def session_view(session: Session, agent_name: str) -> View:
    """A session."""
    return {
        "id": session.id,
        "agent": {"id": session.agent_id, "name": agent_name},
        "title": session.title,
        "channel": session.channel,
        "chat_id": session.chat_id,
        "user": session.user,
        "metadata": session.metadata,
        "status": session.status.value,
        "turns": session.turns,
        "messages": session.messages,
        "created_at": iso(session.created_at),
        "updated_at": iso(session.updated_at),
    }


def message_view(message: Message) -> View:
    """One entry of a session."""
    return {
        "id": message.id,
        "session_id": message.session_id,
        "turn": message.turn,
        "part": message.part,
        "role": message.role.value,
        "content": message.content,
        "tokens": message.tokens,
        "event_id": message.event_id,
        "execution_id": message.execution_id,
        "feedback": message.feedback,
        "comment": message.comment,
        "summarised": message.summarised,
        "summary_of": list(message.summary_of),
        "metadata": message.metadata,
        "created_at": iso(message.created_at),
    }

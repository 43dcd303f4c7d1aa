"""Sessions: made, renamed, archived, deleted with everything in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, ClassVar, Self

from sqlalchemy import bindparam, select, update

from holdfast.domain.conversations import Session, SessionStatus
from holdfast.errors import HoldfastError, NotFound
from holdfast.store.base import Command, Lane, Writes
from holdfast.store.frames import plain
from holdfast.store.queries.conversations import SESSION, SESSION_COLUMNS, no_session
from holdfast.store.statements import Conflict, Insert, Statement, fill, pieces, sized, slots
from holdfast.store.tables import sessions

from .forgetting import Removed, forget_sessions
from .held import lock
from .processes import owners_of

_INSERT = Insert(sessions, unless=Conflict(()))
_BY_CHAT = lock(
    select(*SESSION_COLUMNS).where(
        sessions.c.owner_id == bindparam("owner_id"),
        sessions.c.agent_id == bindparam("agent"),
        sessions.c.channel == bindparam("of_channel"),
        sessions.c.chat_id == bindparam("of_chat"),
        sessions.c.chat_id.is_not(None),
    )
)
_MOVING = ("title", "metadata", "status", "turns", "messages", "unsummarised", "updated_at")
_SAVE = Statement(
    update(sessions)
    .where(sessions.c.id == bindparam("of"))
    .values({name: bindparam(name) for name in _MOVING})
)


@cache
def _by_id(count: int) -> Statement:
    # In the order of ids, and before any event of theirs: so does everybody.
    return lock(
        select(*SESSION_COLUMNS)
        .where(sessions.c.id.in_(slots("id", count)))
        .order_by(sessions.c.id)
    )


def hold_sessions(tx: Writes, ids: Sequence[str]) -> dict[str, Session]:
    """Lock sessions by id; unknown ids are missing from the answer."""
    return {
        row[0]: SESSION.item(row)
        for piece in pieces(sorted(set(ids)))
        for row in tx.rows(_by_id(sized(piece)), fill("id", piece))
    }


def save_sessions(tx: Writes, moved: Sequence[Session]) -> None:
    """Write held sessions back."""
    values: list[dict[str, Any]] = []
    for one in moved:
        row = dict(zip(SESSION.names, SESSION.row(one), strict=True))
        values.append({"of": one.id, **{name: row[name] for name in _MOVING}})
    tx.change(_SAVE, values)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSession:
    """A session before it is stored; fields as in `domain.conversations.Session`."""

    id: str
    owner_id: str
    agent_id: str
    title: str = ""
    channel: str = "api"
    chat_id: str | None = None
    user: Mapping[str, Any] = field(default_factory=dict[str, Any])
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])


def find_or_make(tx: Writes, new: NewSession) -> Session | None:
    """The session of that chat, or this one, made; locked. None: its id is another's already.

    The agent has to be held (`owners_of`).
    """
    now = tx.now()
    made = Session(
        id=new.id,
        owner_id=new.owner_id,
        agent_id=new.agent_id,
        title=new.title,
        channel=new.channel,
        chat_id=new.chat_id,
        user=dict(new.user),
        metadata=dict(new.metadata),
        status=SessionStatus.ACTIVE,
        turns=0,
        messages=0,
        unsummarised=0,
        created_at=now,
        updated_at=now,
    )
    tx.insert(_INSERT, [SESSION.row(made)])
    if new.chat_id is None:
        stored = hold_sessions(tx, [new.id]).get(new.id)
    else:
        where = {"of_channel": plain(new.channel), "of_chat": plain(new.chat_id)}
        rows = tx.rows(_BY_CHAT, {"owner_id": new.owner_id, "agent": new.agent_id, **where})
        stored = SESSION.item(rows[0]) if rows else None
    whose = None if stored is None else (stored.owner_id, stored.agent_id)
    return stored if whose == (new.owner_id, new.agent_id) else None


@dataclass(frozen=True, slots=True)
class MakeSession(Command[Session]):
    """Make a session, or find the one of that agent, channel and chat, which has another id then.

    Raises:
        NotFound: no such agent of that owner, or the id is another's session.
    """

    lane: ClassVar[Lane] = "submit"
    order: ClassVar[int] = 3
    session: NewSession

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[Session | HoldfastError]:
        """One after the other, the agents held first."""
        owners = owners_of(tx, [command.session.agent_id for command in commands])
        results: list[Session | HoldfastError] = []
        for command in commands:
            new = command.session
            if owners.get(new.agent_id) != new.owner_id:
                results.append(NotFound(f"there is no agent {new.agent_id}"))
            else:
                results.append(find_or_make(tx, new) or no_session(new.id))
        return results


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeSession(Command[Session]):
    """Rename a session, archive it or take it out of the archive; None leaves a thing as it is.

    Attributes:
        metadata: takes the place of the old.

    Raises:
        NotFound: no such session of that owner.
    """

    lane: ClassVar[Lane] = "submit"
    order: ClassVar[int] = 4
    id: str
    owner_id: str
    title: str | None = None
    status: SessionStatus | None = None
    metadata: Mapping[str, Any] | None = None

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[Session | HoldfastError]:
        """Under the sessions' locks, one after the other."""
        held = hold_sessions(tx, [command.id for command in commands])
        results: list[Session | HoldfastError] = []
        moved: dict[str, Session] = {}
        for command in commands:
            stored = held.get(command.id)
            if stored is None or stored.owner_id != command.owner_id:
                results.append(no_session(command.id))
                continue
            given = {"title": command.title, "status": command.status}
            changes: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
            if command.metadata is not None:
                changes["metadata"] = dict(command.metadata)
            held[command.id] = moved[command.id] = replace(
                stored, **changes, updated_at=max(tx.now(), stored.updated_at)
            )
            results.append(moved[command.id])
        save_sessions(tx, list(moved.values()))
        return results


@dataclass(frozen=True, slots=True)
class DeleteSession(Command[Removed]):
    """Delete a session with everything in it.

    That is: its messages and summaries, what was remembered for it alone, its events with their
    executions, steps, attempts, texts and checkpoints. What was used stays in the ledger. Turns
    that are queued or stand still are cancelled and deleted with it.

    One that runs is asked to stop and loses its place in the conversation at once. Its record is
    still taken in when it comes, so that it counts in budgets and the ledger, its messages are
    dropped, and with it the event and all its executions are deleted; so they are when its worker
    never comes back (`Reap`, `TakeBack`).

    Raises:
        NotFound: no such session of that owner.
    """

    lane: ClassVar[Lane] = "finish"
    order: ClassVar[int] = 7
    weight: ClassVar[int] = 64
    id: str
    owner_id: str

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[Removed | HoldfastError]:
        """One after the other, the sessions held first; the second finds none."""
        held = hold_sessions(tx, [command.id for command in commands])
        results: list[Removed | HoldfastError] = []
        for command in commands:
            stored = held.pop(command.id, None)
            if stored is None or stored.owner_id != command.owner_id:
                if stored is not None:
                    held[command.id] = stored
                results.append(no_session(command.id))
                continue
            results.append(forget_sessions(tx, stored.owner_id, [stored.id]))
        return results

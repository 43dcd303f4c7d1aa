"""Questions about a conversation while it goes on: what was answered, which turn is under way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import and_, bindparam, or_, select

from holdfast.domain.conversations import Message, Speaker
from holdfast.domain.status import EventStatus
from holdfast.errors import NotFound
from holdfast.store.base import Query, Reads
from holdfast.store.statements import Statement, fill, pieces, sized, slots
from holdfast.store.tables import events, messages, sessions
from holdfast.store.tables.base import word
from holdfast.store.tables.conversations import CHAT, SAID
from holdfast.store.tables.events import IN_TURN

from .conversations import MESSAGE, MESSAGE_COLUMNS

_IS_ANSWER = and_(SAID, messages.c.role == word(Speaker.ASSISTANT))

_PLACE = Statement(
    select(messages.c.turn, messages.c.part, messages.c.event_id, messages.c.role).where(
        messages.c.id == bindparam("id"),
        messages.c.session_id == bindparam("session_id"),
        messages.c.owner_id == bindparam("owner_id"),
    )
)

_SINCE = Statement(
    select(*MESSAGE_COLUMNS)
    .where(
        messages.c.session_id == bindparam("session_id"),
        messages.c.owner_id == bindparam("owner_id"),
        messages.c.turn >= bindparam("turn"),
        or_(messages.c.turn > bindparam("turn"), messages.c.part > bindparam("part")),
        _IS_ANSWER,
    )
    .order_by(messages.c.turn, messages.c.part)
    .limit(bindparam("limit"))
)

_NEWEST = Statement(
    select(messages.c.turn, messages.c.part)
    .where(
        messages.c.session_id == bindparam("session_id"),
        messages.c.owner_id == bindparam("owner_id"),
        messages.c.turn < bindparam("before"),
        _IS_ANSWER,
    )
    .order_by(messages.c.turn.desc(), messages.c.part.desc())
    .limit(1)
)

_UNDER_WAY = Statement(
    select(events.c.id, events.c.execution_id, events.c.status).where(
        events.c.owner_id == bindparam("owner_id"),
        events.c.session_id == bindparam("session_id"),
        IN_TURN,
    )
)

_OF_CHAT = Statement(
    select(sessions.c.id).where(
        sessions.c.owner_id == bindparam("owner_id"),
        sessions.c.agent_id == bindparam("agent_id"),
        sessions.c.channel == bindparam("channel"),
        sessions.c.chat_id == bindparam("chat_id"),
        CHAT,
    )
)


@cache
def _moved(count: int) -> Statement:
    return Statement(
        select(sessions.c.id, sessions.c.updated_at).where(
            sessions.c.id.in_(slots("id", count)),
        )
    )


_NO_TURN_YET = 2**31 - 1


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where in a conversation: after that part of that turn."""

    turn: int = 0
    part: int = 0


@dataclass(frozen=True, slots=True)
class Placed:
    """A message's place, and the turn it belongs to."""

    place: Place
    event_id: str | None
    role: Speaker


@dataclass(frozen=True, slots=True)
class PlaceOf(Query[Placed]):
    """Where a message stands.

    Raises:
        NotFound: no such message of that session and owner.
    """

    message_id: str
    session_id: str
    owner_id: str

    def run(self, db: Reads) -> Placed:
        """Ask by primary key."""
        values = {"id": self.message_id, "session_id": self.session_id, "owner_id": self.owner_id}
        for turn, part, event_id, role in db.rows(_PLACE, values):
            return Placed(Place(turn, part), event_id, Speaker(role))
        raise NotFound(f"there is no message {self.message_id!a} in session {self.session_id!a}")


@dataclass(frozen=True, slots=True)
class AnswersSince(Query[list[Message]]):
    """What an agent said in a session after a place, in the order of the talk."""

    session_id: str
    owner_id: str
    after: Place
    limit: int = 100

    def run(self, db: Reads) -> list[Message]:
        """Ask over the index of places."""
        values: dict[str, Any] = {
            "session_id": self.session_id,
            "owner_id": self.owner_id,
            "turn": self.after.turn,
            "part": self.after.part,
            "limit": self.limit,
        }
        return [MESSAGE.item(row) for row in db.rows(_SINCE, values)]


@dataclass(frozen=True, slots=True)
class NewestAnswer(Query[Place]):
    """Where the newest answer of a session stands, or the beginning.

    Attributes:
        before: only those of turns before this one.
    """

    session_id: str
    owner_id: str
    before: int = _NO_TURN_YET

    def run(self, db: Reads) -> Place:
        """Ask over the index of places, backwards."""
        values: dict[str, Any] = {
            "session_id": self.session_id,
            "owner_id": self.owner_id,
            "before": self.before,
        }
        for turn, part in db.rows(_NEWEST, values):
            return Place(turn, part)
        return Place()


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A turn that has begun and does not rest."""

    event_id: str
    execution_id: str | None
    status: EventStatus


@dataclass(frozen=True, slots=True)
class TurnUnderWay(Query[UnderWay | None]):
    """The turn of a session that runs, waits or is paused; there is one at most."""

    session_id: str
    owner_id: str

    def run(self, db: Reads) -> UnderWay | None:
        """Ask over the index that keeps them apart."""
        values = {"session_id": self.session_id, "owner_id": self.owner_id}
        for event_id, execution_id, status in db.rows(_UNDER_WAY, values):
            return UnderWay(event_id, execution_id, EventStatus(status))
        return None


@dataclass(frozen=True, slots=True)
class SessionOfChat(Query[str | None]):
    """The session that a channel knows by a name of its own."""

    owner_id: str
    agent_id: str
    channel: str
    chat_id: str

    def run(self, db: Reads) -> str | None:
        """Ask over the index of chats."""
        values = {
            "owner_id": self.owner_id,
            "agent_id": self.agent_id,
            "channel": self.channel,
            "chat_id": self.chat_id,
        }
        for (session_id,) in db.rows(_OF_CHAT, values):
            return session_id
        return None


@dataclass(frozen=True, slots=True)
class SessionsMoved(Query[dict[str, int]]):
    """When each of these sessions moved last, of all owners: for a hub that follows them."""

    session_ids: Sequence[str]

    def run(self, db: Reads) -> dict[str, int]:
        """Ask by primary key."""
        found: dict[str, int] = {}
        for piece in pieces(self.session_ids):
            found |= dict(db.rows(_moved(sized(piece)), fill("id", piece)))
        return found

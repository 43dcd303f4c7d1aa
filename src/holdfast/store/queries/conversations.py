"""Questions about sessions and their messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, ClassVar

from sqlalchemy import bindparam, func, literal_column, select, tuple_

from holdfast.domain.conversations import Message, Session, SessionStatus, Speaker
from holdfast.domain.status import EVENT_ENDS
from holdfast.errors import NotFound
from holdfast.store.base import Query, Reads
from holdfast.store.rows import Shape
from holdfast.store.statements import Statement, fill, pieces, sized, slots
from holdfast.store.tables import events, messages, sessions
from holdfast.store.tables.base import word

from .pages import check_limit, in_use

_TEXTS = ("title", "channel", "chat_id")
SESSION = Shape(
    Session,
    [one.name for one in fields(Session)],
    json=("user", "metadata"),
    texts=_TEXTS,
    status=SessionStatus,
)
SESSION_COLUMNS = tuple(sessions.c[name] for name in SESSION.names)


def _message(**values: Any) -> Message:
    values |= {"role": Speaker(values["role"]), "summarised": bool(values["summarised"])}
    return Message(**values)


MESSAGE = Shape(
    _message,
    [one.name for one in fields(Message)],
    json=("summary_of", "metadata"),
    texts=("content", "comment"),
)
MESSAGE_COLUMNS = tuple(messages.c[name] for name in MESSAGE.names)

_OWNED = select(*SESSION_COLUMNS).where(sessions.c.owner_id == bindparam("owner_id"))
_BY_ID = Statement(_OWNED.where(sessions.c.id == bindparam("id")))
_ACTIVITY = tuple_(sessions.c.updated_at, sessions.c.id)


def no_session(session_id: str) -> NotFound:
    """What is told of a session that is not there, or another owner's."""
    return NotFound(f"there is no session {session_id}", hint="see: GET /api/v1/sessions")


@dataclass(frozen=True, slots=True)
class SessionBy(Query[Session]):
    """One session.

    Raises:
        NotFound: no such session of that owner.
    """

    id: str
    owner_id: str

    def run(self, db: Reads) -> Session:
        """Ask by primary key."""
        for row in db.rows(_BY_ID, {"id": self.id, "owner_id": self.owner_id}):
            return SESSION.item(row)
        raise no_session(self.id)


@cache
def _sessions(filters: frozenset[str]) -> Statement:
    pick = _OWNED
    for name in sorted(filters - {"after"}):
        pick = pick.where(sessions.c[name] == bindparam(name))
    if "after" in filters:
        pick = pick.where(tuple_(bindparam("after_at"), bindparam("after_id")) > _ACTIVITY)
    newest = pick.order_by(sessions.c.updated_at.desc(), sessions.c.id.desc())
    return Statement(newest.limit(bindparam("limit")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sessions(Query[list[Session]]):
    """A page of an owner's sessions, those with the newest activity first.

    Attributes:
        after: (`updated_at`, id) of the last of the page before. What has moved to the front
            meanwhile is not told again.
    """

    owner_id: str
    agent_id: str | None = None
    status: SessionStatus | None = None
    after: tuple[int, str] | None = None
    limit: int = 50

    def run(self, db: Reads) -> list[Session]:
        """Ask over the index of activity."""
        check_limit(self.limit)
        status = None if self.status is None else self.status.value
        filters = in_use({"agent_id": self.agent_id, "status": status})
        values = {"owner_id": self.owner_id, "limit": self.limit, **filters}
        names = frozenset(filters)
        if self.after is not None:
            names |= {"after"}
            values |= {"after_at": self.after[0], "after_id": self.after[1]}
        return [SESSION.item(row) for row in db.rows(_sessions(names), values)]


_SUMMARY = word(Speaker.SUMMARY)
SAID = messages.c.role != _SUMMARY
OPEN = (SAID, messages.c.summarised == literal_column("0"))
_PLACE = tuple_(messages.c.turn, messages.c.part)
_OF_SESSION = select(*MESSAGE_COLUMNS).where(
    messages.c.session_id == bindparam("session"), messages.c.owner_id == bindparam("owner_id")
)
_BACKWARDS = (messages.c.turn.desc(), messages.c.part.desc())
_FORWARDS = (messages.c.turn, messages.c.part)


@cache
def _page(before: bool) -> Statement:
    pick = _OF_SESSION.where(SAID)
    if before:
        pick = pick.where(tuple_(bindparam("of_turn"), bindparam("of_part")) > _PLACE)
    return Statement(pick.order_by(*_BACKWARDS).limit(bindparam("limit")))


_PLACE_OF = Statement(
    select(messages.c.turn, messages.c.part).where(
        messages.c.id == bindparam("id"),
        messages.c.session_id == bindparam("session"),
        messages.c.owner_id == bindparam("owner_id"),
    )
)
_ONE_MESSAGE = Statement(
    select(*MESSAGE_COLUMNS).where(
        messages.c.id == bindparam("id"), messages.c.owner_id == bindparam("owner_id")
    )
)


@dataclass(frozen=True, slots=True)
class MessageBy(Query[Message]):
    """One message.

    Raises:
        NotFound: no such message of that owner.
    """

    id: str
    owner_id: str

    def run(self, db: Reads) -> Message:
        """Ask by primary key."""
        for row in db.rows(_ONE_MESSAGE, {"id": self.id, "owner_id": self.owner_id}):
            return MESSAGE.item(row)
        raise NotFound(f"there is no message {self.id}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Messages(Query[list[Message]]):
    """A page of what was said in a session, the newest first; summaries are left out.

    Attributes:
        before: id of the last message of the page before.

    Raises:
        NotFound: no such session of that owner, or no such message in it.
    """

    session_id: str
    owner_id: str
    before: str | None = None
    limit: int = 50

    def run(self, db: Reads) -> list[Message]:
        """Ask over the index of places."""
        check_limit(self.limit)
        whose = {"session": self.session_id, "owner_id": self.owner_id}
        values: dict[str, Any] = {**whose, "limit": self.limit}
        if self.before is not None:
            place = db.rows(_PLACE_OF, {**whose, "id": self.before})
            if not place:
                raise NotFound(f"there is no message {self.before}")
            values |= {"of_turn": place[0][0], "of_part": place[0][1]}
        found = [MESSAGE.item(row) for row in db.rows(_page(self.before is not None), values)]
        if not found:
            SessionBy(self.session_id, self.owner_id).run(db)
        return found


_OF_EVENT = Statement(
    select(*MESSAGE_COLUMNS)
    .where(messages.c.event_id == bindparam("event"), messages.c.owner_id == bindparam("owner_id"))
    .order_by(*_FORWARDS)
)


@dataclass(frozen=True, slots=True)
class MessagesOf(Query[list[Message]]):
    """The messages of one turn, the question first; none when its session is gone."""

    event_id: str
    owner_id: str

    def run(self, db: Reads) -> list[Message]:
        """Ask over the index of events."""
        values = {"event": self.event_id, "owner_id": self.owner_id}
        return [MESSAGE.item(row) for row in db.rows(_OF_EVENT, values)]


WINDOW = Statement(
    _OF_SESSION.where(*OPEN, messages.c.turn < bindparam("before"))
    .order_by(*_BACKWARDS)
    .limit(bindparam("limit"))
)
SUMMARIES = Statement(
    _OF_SESSION.where(messages.c.role == _SUMMARY, messages.c.turn < bindparam("before"))
    .order_by(*_BACKWARDS)
    .limit(bindparam("limit"))
)
LATER = Statement(
    select(func.count())
    .select_from(messages)
    .where(
        messages.c.session_id == bindparam("session"),
        messages.c.owner_id == bindparam("owner_id"),
        *OPEN,
        messages.c.turn > bindparam("turn"),
    )
)
NO_TURN = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredWindow:
    """What there is to choose from for a window.

    Attributes:
        messages: the turn's own, then those before it that no summary stands for; newest first.
        summaries: of what is older; newest first.
        unsummarised: how many messages up to this turn no summary stands for.
    """

    messages: Sequence[Message]
    summaries: Sequence[Message]
    unsummarised: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowOf(Query[StoredWindow]):
    """The newest of a session as a turn sees it; costs the same however long the session is.

    Attributes:
        event_id: the turn's; what was said after it is left out, and its own messages are there
            even if a summary stands for them. None: all turns.
        limit: most messages, the turn's own not counted.
        summaries: most summaries.

    Raises:
        NotFound: no such session of that owner.
    """

    snapshot: ClassVar[bool] = True
    session_id: str
    owner_id: str
    event_id: str | None
    limit: int
    summaries: int

    def run(self, db: Reads) -> StoredWindow:
        """Four short looks over partial indexes."""
        session = SessionBy(self.session_id, self.owner_id).run(db)
        own: list[Message] = []
        if self.event_id is not None:
            of_event = MessagesOf(self.event_id, self.owner_id).run(db)
            own = [one for one in of_event if one.session_id == self.session_id]
        whose: dict[str, Any] = {"session": self.session_id, "owner_id": self.owner_id}
        whose["before"] = own[0].turn if own else NO_TURN
        found = db.rows(WINDOW, {**whose, "limit": self.limit})
        summaries = db.rows(SUMMARIES, {**whose, "limit": self.summaries})
        unsummarised = session.unsummarised
        if own:
            ((later,),) = db.rows(LATER, {**whose, "turn": own[0].turn})
            unsummarised -= later
        return StoredWindow(
            messages=[*reversed(own), *(MESSAGE.item(row) for row in found)],
            summaries=[MESSAGE.item(row) for row in summaries],
            unsummarised=unsummarised,
        )


OLDEST = Statement(_OF_SESSION.where(*OPEN).order_by(*_FORWARDS).limit(bindparam("limit")))


@cache
def _unfinished(count: int) -> Statement:
    return Statement(
        select(events.c.id)
        .where(
            events.c.id.in_(slots("id", count)),
            events.c.status.not_in([word(status) for status in sorted(EVENT_ENDS)]),
        )
        .limit(1)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OldestUnsummarised(Query[list[Message]]):
    """The next block of messages that a summary may stand for, oldest first; else nothing.

    There is none as long as `keep` messages would not stay whole behind it, nor over a turn that
    has not ended: its question is still to be read as it was asked.

    Attributes:
        keep: the newest so many stay whole.
        block: so many, not fewer.
    """

    snapshot: ClassVar[bool] = True
    session_id: str
    owner_id: str
    keep: int
    block: int

    def run(self, db: Reads) -> list[Message]:
        """Look at the counter, then read the block."""
        session = SessionBy(self.session_id, self.owner_id).run(db)
        if session.unsummarised < self.keep + self.block:
            return []
        whose = {"session": self.session_id, "owner_id": self.owner_id}
        found = [MESSAGE.item(row) for row in db.rows(OLDEST, {**whose, "limit": self.block})]
        turns = sorted({one.event_id for one in found if one.event_id is not None})
        for piece in pieces(turns):
            if db.rows(_unfinished(sized(piece)), fill("id", piece)):
                return []
        return found if len(found) == self.block else []

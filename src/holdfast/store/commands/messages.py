"""What is said: a turn's question stored with its event, its answers with its record."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from sqlalchemy import bindparam, delete, func, select

from holdfast.domain.agents import AGENT
from holdfast.domain.conversations import NewMessage, NewTurn, Session, SessionStatus
from holdfast.domain.events import NewEvent
from holdfast.domain.executions import Record
from holdfast.domain.status import EVENT_ENDS, EventStatus
from holdfast.errors import HoldfastError, IllegalMove, NotFound
from holdfast.store.base import Writes
from holdfast.store.frames import plain, to_json
from holdfast.store.queries.conversations import no_session
from holdfast.store.statements import Insert, Statement, fill, pieces, sized, slots
from holdfast.store.tables import messages, sessions

from .forgetting import forget_homeless
from .held import HeldEvent
from .processes import owners_of
from .sessions import NewSession, find_or_make, hold_sessions, save_sessions

INSERT = Insert(messages)
_DROP_UNUSED = Statement(
    delete(sessions).where(sessions.c.id == bindparam("of"), sessions.c.turns == 0)
)


@cache
def _places(count: int) -> Statement:
    return Statement(
        select(
            messages.c.event_id,
            messages.c.session_id,
            messages.c.turn,
            func.max(messages.c.part),
        )
        .where(messages.c.event_id.in_(slots("event", count)))
        .group_by(messages.c.event_id, messages.c.session_id, messages.c.turn)
    )


@cache
def _questions(count: int) -> Statement:
    return Statement(
        select(messages.c.event_id, messages.c.session_id, messages.c.id).where(
            messages.c.event_id.in_(slots("event", count)), messages.c.part == 0
        )
    )


def questions_of(tx: Writes, event_ids: Sequence[str]) -> dict[str, tuple[str, str]]:
    """The session and the message with which these turns began, by event."""
    return {
        event_id: (session_id, message_id)
        for piece in pieces(sorted(set(event_ids)))
        for event_id, session_id, message_id in tx.rows(
            _questions(sized(piece)), fill("event", piece)
        )
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where in a conversation a message stands, and what it comes from."""

    session: Session
    turn: int
    part: int
    event_id: str | None
    execution_id: str | None = None
    summary_of: Sequence[str] = ()


def message_row(message: NewMessage, place: Place, now: int) -> tuple[Any, ...]:
    """A new message as it goes into its table."""
    return (
        *(message.id, place.session.id, place.session.owner_id, place.turn, place.part),
        *(message.role.value, plain(message.content), message.tokens),
        *(place.event_id, place.execution_id, 0, to_json(list(place.summary_of)), None, None),
        *(to_json(dict(message.metadata)), now),
    )


def grown(session: Session, by: int, **changes: Any) -> Session:
    """A session with so many messages more."""
    return replace(
        session,
        messages=session.messages + by,
        unsummarised=session.unsummarised + by,
        **changes,
    )


class Turns:
    """Users' messages on their way into sessions, together with their events.

    Attributes:
        refused: why a message is not taken, by event id.
        known: events whose message came before already.
    """

    def __init__(
        self, tx: Writes, wanted: Sequence[tuple[NewEvent, NewTurn]], known: Collection[str]
    ) -> None:
        """Find or make the sessions, and lock them: after their agents, before any event."""
        self.known = known
        self.refused: dict[str, HoldfastError] = {}
        self._tx = tx
        self._seats: dict[str, tuple[str, NewTurn]] = {}  # session by event
        self._held: dict[str, Session] = {}
        self._times: dict[str, int] = {}  # of the newest event by session
        self._order: list[str] = []
        if wanted:
            self._seat(wanted)

    def _seat(self, wanted: Sequence[tuple[NewEvent, NewTurn]]) -> None:
        owners = owners_of(self._tx, [turn.agent_id for _, turn in wanted])
        asked = [turn.session_id for _, turn in wanted if turn.session_id is not None]
        self._held |= hold_sessions(self._tx, asked)
        for event, turn in sorted(wanted, key=_chat_of):
            if owners.get(turn.agent_id) != event.owner_id:
                self.refused[event.id] = NotFound(f"there is no agent {turn.agent_id}")
                continue
            found = self._session(event, turn)
            if isinstance(found, HoldfastError):
                self.refused[event.id] = found
                continue
            self._held.setdefault(found.id, found)
            self._seats[event.id] = (found.id, turn)

    def _session(self, event: NewEvent, turn: NewTurn) -> Session | HoldfastError:
        if turn.session_id is None:
            new = NewSession(
                id=turn.new_session_id,
                owner_id=event.owner_id,
                agent_id=turn.agent_id,
                title=turn.title,
                channel=turn.channel,
                chat_id=turn.chat_id,
                user=turn.user,
            )
            found = find_or_make(self._tx, new)
        else:
            found = self._held.get(turn.session_id)
        whose = None if found is None else (found.owner_id, found.agent_id)
        if found is None or whose != (event.owner_id, turn.agent_id):
            return no_session(turn.session_id or turn.new_session_id)
        if found.status is SessionStatus.ARCHIVED:
            return IllegalMove(
                f"session {found.id} is archived and takes no further messages",
                hint="take it out of the archive, or begin another one",
            )
        return found

    def placed(self, event: NewEvent, now: int) -> tuple[NewEvent, int]:
        """An event with its session, and when it came in.

        Later than any before it in there, so that turns run in the order of their numbers, whoever
        stored them. One that brings no message stays as it is.
        """
        if event.id not in self._seats:
            return event, now
        session_id, _ = self._seats[event.id]
        session, at = self._held[session_id], now
        if session_id in self._times:
            at = max(at, self._times[session_id] + 1)
        elif session.turns:
            at = max(at, session.updated_at + 1)
        self._times[session_id] = at
        self._order.append(event.id)
        return replace(event, session_id=session_id), at

    def write(self, stored: Collection[str]) -> None:
        """Write the messages of those events that were stored, in the order of `placed`.

        A session that was made for one that was not is taken back.
        """
        if not self._seats:
            return
        rows: list[tuple[Any, ...]] = []
        moved: dict[str, Session] = {}
        unused: set[str] = set()
        for event_id in self._order:
            session_id, turn = self._seats[event_id]
            if event_id not in stored:
                unused.add(session_id)
                continue
            at = self._times[session_id]
            session = self._held[session_id]
            session = grown(session, 1, turns=session.turns + 1, updated_at=at)
            self._held[session_id] = moved[session_id] = session
            place = Place(session=session, turn=session.turns, part=0, event_id=event_id)
            rows.append(message_row(turn.message, place, at))
        save_sessions(self._tx, list(moved.values()))
        self._tx.insert(INSERT, rows)
        now = self._tx.now()
        made = {one for one in unused - set(moved) if self._held[one].created_at == now}
        self._tx.change(_DROP_UNUSED, [{"of": session_id} for session_id in sorted(made)])


def _chat_of(one: tuple[NewEvent, NewTurn]) -> tuple[str, ...]:
    """In which order new chats are made, so that two hubs never wait for each other."""
    event, turn = one
    return turn.agent_id, turn.channel, turn.chat_id or "", event.id


class Answers:
    """What agents answered, on its way into the sessions together with the records.

    A session that was deleted while its turn ran takes nothing in any more: what is said is
    dropped, and the turn is deleted with its record once it has ended.
    """

    def __init__(self, tx: Writes, records: Sequence[Record]) -> None:
        """Lock the sessions, before any event."""
        self._tx = tx
        runs = [record.execution for record in records if record.execution.kind == AGENT]
        ids = [run.session_id for run in runs if run.session_id is not None]
        self._held = hold_sessions(tx, ids)
        self._said: list[tuple[Record, tuple[NewMessage, ...]]] = []
        self._homeless: list[str] = []

    def take(self, record: Record, event: HeldEvent) -> None:
        """Note what a record that is applied says; the event has moved already."""
        run = record.execution
        if run.kind != AGENT or run.session_id is None or event.status not in EVENT_ENDS:
            return
        if run.session_id not in self._held:
            self._homeless.append(event.id)
        elif event.status is EventStatus.SUCCEEDED:
            self._said.append((record, record.answers))
        elif event.status is not EventStatus.CANCELLED and record.apology is not None:
            self._said.append((record, (record.apology,)))

    def write(self) -> None:
        """Number the messages after what was said in their turns, and write them."""
        if not self._said:
            return
        tx, now = self._tx, self._tx.now()
        turns = [record.execution.event_id for record, _ in self._said]
        places = {
            event_id: (session_id, turn, part)
            for piece in pieces(sorted(set(turns)))
            for event_id, session_id, turn, part in tx.rows(
                _places(sized(piece)), fill("event", piece)
            )
        }
        rows: list[tuple[Any, ...]] = []
        moved: dict[str, Session] = {}
        for record, said in self._said:
            run = record.execution
            if run.event_id not in places or not said:
                continue  # a replay: nobody asked in this conversation
            session_id, turn, part = places[run.event_id]
            for n, message in enumerate(said, part + 1):
                place = Place(
                    session=self._held[session_id],
                    turn=turn,
                    part=n,
                    event_id=run.event_id,
                    execution_id=run.id,
                )
                rows.append(message_row(message, place, now))
            session = self._held[session_id]
            at = max(now, session.updated_at)
            self._held[session_id] = moved[session_id] = grown(session, len(said), updated_at=at)
        tx.insert(INSERT, rows)
        save_sessions(tx, list(moved.values()))

    def forget(self) -> None:
        """Delete the turns whose sessions are gone; after everything else was written."""
        if self._homeless:
            forget_homeless(self._tx, self._homeless)

"""Taking events in, and calling them off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby
from typing import ClassVar, Self

from sqlalchemy import bindparam, select

from holdfast.domain.conversations import NewTurn
from holdfast.domain.events import ANSWERS, NewEvent
from holdfast.domain.status import EventStatus
from holdfast.errors import (
    HoldfastError,
    IdempotencyConflict,
    IllegalMove,
    InvalidInput,
    NobodyWaits,
    NotFound,
)
from holdfast.store.base import Command, Lane, Writes
from holdfast.store.frames import plain
from holdfast.store.statements import (
    Conflict,
    Insert,
    Statement,
    fill,
    pieces,
    sized,
    slots,
)
from holdfast.store.tables import events

from .halting import Arrival, answer_waiting, awaiting, cancel_halted
from .held import HeldEvent, Moved, hold, parents_of, save
from .messages import Turns, questions_of
from .unique import INSERT_SINGLE, busy_singles, find_duplicates, single_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """What became of a submitted event.

    Attributes:
        id: the stored event's; the earlier one's when the idempotency key was known.
        status: the stored event's, now.
        received_at: when it was stored.
        created: False when the key was known.
        duplicate: an event like it was there already; that one stands for both.
        answered: events that waited for this one and go on now.
        session_id: the conversation it is a turn of.
        message_id: the message that began the turn, stored with it.
    """

    id: str
    status: EventStatus
    received_at: int
    created: bool
    duplicate: bool = False
    answered: tuple[str, ...] = ()
    session_id: str | None = None
    message_id: str | None = None


_INSERT = Insert(
    events,
    unless=Conflict(("owner_id", "idempotency_key"), events.c.idempotency_key.is_not(None)),
)

_TEXTS = (
    "owner_id",
    "type",
    "source",
    "subject",
    "target",
    "idempotency_key",
    "traceparent",
    "session_id",
)


@cache
def _by_key(count: int) -> Statement:
    return Statement(
        select(
            events.c.idempotency_key,
            events.c.body_hash,
            events.c.id,
            events.c.status,
            events.c.received_at,
        ).where(
            events.c.owner_id == bindparam("owner"),
            events.c.idempotency_key.in_(slots("key", count)),
        )
    )


@dataclass(frozen=True, slots=True)
class Submit(Command[Submitted]):
    """Accept an event: queued, once per owner and idempotency key.

    Attributes:
        turn: the message that the event brings to an agent: stored with it, in the session it is
            for, which is made if there is none. The event gets that session.

    Raises:
        NotFound: a turn's agent or session is not there, or not the owner's, or not the agent's.
        IllegalMove: a turn's session is archived.
        IdempotencyConflict: the key was used with another body.
        InvalidInput: a text that a database cannot hold.
        NobodyWaits: it runs nothing by itself, and nothing waits for it.
        SingletonBusy: another event with its singleton key has not ended.
    """

    lane: ClassVar[Lane] = "submit"
    order: ClassVar[int] = 2
    answer_s: ClassVar[float] = 10.0  # whoever sends it waits at a door
    event: NewEvent
    turn: NewTurn | None = None

    @classmethod
    def write_many(
        cls, tx: Writes, commands: Sequence[Self]
    ) -> Sequence[Submitted | HoldfastError]:
        """Insert all and pass over known keys; then see whose event each key holds."""
        now = tx.now()
        refused: list[HoldfastError | None] = [_unfit(command.event) for command in commands]
        fit = [c.event for c, error in zip(commands, refused, strict=True) if error is None]
        same = _duplicates(tx, fit)
        fit = [event for event in fit if event.id not in same]
        turns = _turns(tx, commands, fit)
        fit = [event for event in fit if event.id not in turns.refused]
        answered = _answered(tx, fit)
        asked = fit
        fit = [event for event in fit if event.target_kind != ANSWERS or event.id in answered]
        fit = [event for event in fit if event.id not in turns.known]
        rows = {event.id: event_row(*turns.placed(event, now)) for event in fit}
        # Sorted, so that two hubs that take the same keys never wait for each other.
        plain_ones = [rows[event.id] for event in fit if event.singleton_key is None]
        tx.insert(_INSERT, sorted(plain_ones, key=_key_of_row))
        singles = [event for event in fit if event.singleton_key is not None]
        tx.insert(INSERT_SINGLE, [rows[event.id] for event in sorted(singles, key=single_of)])
        first = _first_by_key(tx, asked)
        busy = busy_singles(tx, singles)
        turns.write([e.id for e in fit if e.id not in busy and _is_first(e, first)])
        results = [
            error
            or same.get(command.event.id)
            or turns.refused.get(command.event.id)
            or _result(command.event, first, answered, busy, now)
            for command, error in zip(commands, refused, strict=True)
        ]
        return _with_messages(tx, commands, results)


def _turns(tx: Writes, commands: Sequence[Submit], fit: Sequence[NewEvent]) -> Turns:
    """The messages that come with events, but for those whose key is known."""
    with_turn = {c.event.id: c.turn for c in commands if c.turn is not None}
    brought = [event for event in fit if event.id in with_turn]
    known = _first_by_key(tx, brought)
    again = {e.id for e in brought if (e.owner_id, e.idempotency_key or "") in known}
    new = [(event, with_turn[event.id]) for event in brought if event.id not in again]
    return Turns(tx, new, again)


def _is_first(event: NewEvent, first: Mapping[tuple[str, str], _Known]) -> bool:
    known = first.get((event.owner_id, event.idempotency_key or ""))
    return known is None or known[1].id == event.id


def _with_messages(
    tx: Writes, commands: Sequence[Submit], results: list[Submitted | HoldfastError]
) -> list[Submitted | HoldfastError]:
    """Those that brought a message are told where it, or the one before it, stands."""
    told: dict[int, Submitted] = {}
    for place, (command, result) in enumerate(zip(commands, results, strict=True)):
        if command.turn is not None and isinstance(result, Submitted):
            told[place] = result
    if told:
        found = questions_of(tx, [result.id for result in told.values()])
        for place, result in told.items():
            session_id, message_id = found.get(result.id, (None, None))
            results[place] = replace(result, session_id=session_id, message_id=message_id)
    return results


_Known = tuple[str, Submitted]
"""A body hash and the event that was stored for it."""


def _first_by_key(tx: Writes, new: Sequence[NewEvent]) -> dict[tuple[str, str], _Known]:
    known: dict[tuple[str, str], _Known] = {}
    keyed = sorted((e.owner_id, e.idempotency_key) for e in new if e.idempotency_key is not None)
    for owner, pairs in groupby(keyed, key=lambda pair: pair[0]):
        for piece in pieces([key for _, key in pairs]):
            for key, body_hash, id_, status, received_at in tx.rows(
                _by_key(sized(piece)), {"owner": owner, **fill("key", piece)}
            ):
                found = Submitted(
                    id=id_, status=EventStatus(status), received_at=received_at, created=False
                )
                known[owner, key] = (body_hash, found)
    return known


def _duplicates(tx: Writes, new: Sequence[NewEvent]) -> dict[str, Submitted]:
    """Events like one that is there already, which stands for them; a known key goes first."""
    asked = [one for one in new if one.dedup_key is not None]
    if not asked:
        return {}
    known = _first_by_key(tx, asked)
    asked = [one for one in asked if (one.owner_id, one.idempotency_key or "") not in known]
    return {
        id_: Submitted(
            id=first, status=status, received_at=received_at, created=False, duplicate=True
        )
        for id_, (first, status, received_at) in find_duplicates(tx, asked).items()
    }


def _answered(tx: Writes, new: Sequence[NewEvent]) -> dict[str, list[str]]:
    """Whom these events answer; a key that is known answers nobody again."""
    waiting = awaiting(tx, {one.type for one in new})
    if not waiting:
        return {}
    known = _first_by_key(tx, new)
    arrivals = [
        Arrival(one.id, one.owner_id, one.type, one.subject, one.data)
        for one in new
        if (one.owner_id, one.idempotency_key or "") not in known
        and one.origin != "replay"  # what is repeated has answered already
    ]
    return answer_waiting(tx, waiting, arrivals)


def _result(
    event: NewEvent,
    first: dict[tuple[str, str], _Known],
    answered: Mapping[str, list[str]],
    busy: Mapping[str, HoldfastError],
    now: int,
) -> Submitted | HoldfastError:
    waited = tuple(answered.get(event.id, ()))
    known = (event.owner_id, event.idempotency_key or "") in first
    if event.target_kind == ANSWERS and not waited and not known:
        return NobodyWaits(
            f"nothing waits for an event of type {event.type}"
            + (f" about {event.subject}" if event.subject else ""),
            hint="it runs nothing by itself; send it again when something waits for it",
        )
    if known is False and event.id in busy:
        return busy[event.id]
    if event.idempotency_key is not None:
        body_hash, found = first[event.owner_id, event.idempotency_key]
        if body_hash != event.body_hash:
            return IdempotencyConflict(
                f"the idempotency key {event.idempotency_key!r} was used with another body",
                hint=f"event {found.id} holds it; use a new key for a new event",
            )
        if found.id != event.id:
            return found
    status = EventStatus.SUCCEEDED if event.target_kind == ANSWERS else EventStatus.QUEUED
    return Submitted(id=event.id, status=status, received_at=now, created=True, answered=waited)


def event_row(event: NewEvent, now: int) -> tuple[object, ...]:
    """An event as it goes into its table: queued, unless it only answers."""
    rests = event.target_kind == ANSWERS
    return (
        event.id,
        event.owner_id,
        event.type,
        event.source,
        event.subject,
        event.target,
        event.target_kind,
        event.data.decode(),
        event.idempotency_key,
        event.body_hash,
        event.priority,
        (EventStatus.SUCCEEDED if rests else EventStatus.QUEUED).value,
        0,  # deliveries
        0,  # crashes
        max(now + event.delay_us, event.deliver_at or 0),  # available_at
        None,  # lease_owner
        None,  # lease_until
        0,  # fence
        None,  # cancel_requested_at
        None,  # execution_id
        event.traceparent,
        event.occurred_at,
        now,  # received_at
        now if rests else None,  # finished_at
        None,  # last_error
        None,  # pause_requested_at
        None,  # pinned
        None,  # halt
        event.parent_id,
        event.origin,
        event.replay,
        0,  # errors
        1,  # redeliver
        event.session_id,
        event.singleton_key,
        None,  # discarded
        None,  # postponed_for
        None,  # told_at
    )


def _key_of_row(row: tuple[object, ...]) -> tuple[str, str]:
    return str(row[1]), str(row[8] or "")


def _unfit(event: NewEvent) -> InvalidInput | None:
    for name in _TEXTS:
        text = getattr(event, name)
        if text is not None and plain(text) != text:
            return InvalidInput(
                f"the event's {name} holds a NUL or a lone surrogate",
                fields=[{"field": name, "expected": "text", "got": ascii(text)[:100]}],
            )
    try:
        event.data.decode()
    except UnicodeDecodeError as error:
        return InvalidInput(f"the event's data is not UTF-8: {error}")
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """What a wish to cancel did.

    Attributes:
        status: `cancelled`, or `running` while the running execution is being told.
        execution_id: the execution to be told; None when there never was one.
        others: its children, called off with it, and a parent that waited for it; those of the
            events cancelled beside it too.
    """

    status: EventStatus
    execution_id: str | None
    others: tuple[Moved, ...] = ()


@dataclass(frozen=True, slots=True)
class Cancel(Command[Cancelled]):
    """Call an event off: at once when nothing runs, else by leaving a wish that outlives a crash.

    Raises:
        NotFound: no such event, or another owner's.
        IllegalMove: it has ended.
    """

    lane: ClassVar[Lane] = "finish"
    order: ClassVar[int] = 4
    event_id: str
    owner_id: str

    @classmethod
    def write_many(
        cls, tx: Writes, commands: Sequence[Self]
    ) -> Sequence[Cancelled | HoldfastError]:
        """Decide each under the events' locks."""
        now = tx.now()
        ids = [command.event_id for command in commands]
        found = hold(tx, [*ids, *parents_of(tx, ids)])  # in one order, see `_Batch`
        moved: dict[str, HeldEvent] = {}
        halted: list[HeldEvent] = []
        results: list[Cancelled | HoldfastError] = []
        for command in commands:
            event = found.get(command.event_id)
            if event is None or event.owner_id != command.owner_id:
                results.append(NotFound(f"there is no event {command.event_id}"))
                continue
            if event.status is EventStatus.DEAD:
                results.append(_not_cancelled(event))
                continue
            if event.status is EventStatus.RUNNING:
                event.cancel_requested_at = event.cancel_requested_at or now
            else:
                stands = event.pinned is not None or event.halt is not None
                try:
                    event.move(EventStatus.CANCELLED, now)
                except IllegalMove as error:
                    results.append(error)
                    continue
                if stands:
                    halted.append(event)
            moved[event.id] = event
            results.append(Cancelled(status=event.status, execution_id=event.execution_id))
        others = cancel_halted(tx, halted) if halted else []
        others += save(tx, moved.values())
        return _with_others(results, tuple(others))


def _with_others(
    results: list[Cancelled | HoldfastError], others: tuple[Moved, ...]
) -> list[Cancelled | HoldfastError]:
    """The first that did something tells what else has moved."""
    for place, result in enumerate(results):
        if others and isinstance(result, Cancelled):
            results[place] = replace(result, others=others)
            break
    return results


def _not_cancelled(event: HeldEvent) -> IllegalMove:
    return IllegalMove(
        f"event {event.id} is dead and cannot become cancelled just so",
        hint=f"a dead letter is discarded with a reason: holdfast dead-letters discard {event.id}",
    )

"""Events that are there once: of a kind at a time (singletons), of a body within a window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.sql.elements import ColumnElement

from holdfast.domain.events import NewEvent
from holdfast.domain.status import EVENT_ENDS, EventStatus
from holdfast.errors import HoldfastError, SingletonBusy
from holdfast.store.base import Writes
from holdfast.store.statements import Conflict, Insert, Statement, fill, pieces, sized, slots
from holdfast.store.tables import duplicates, events
from holdfast.store.tables.base import word

from .held import lock

INSERT_SINGLE = Insert(events, unless=Conflict(()))
"""Passes over an event whose idempotency key is known, and one whose singleton key is taken."""

FORGET_AT_MOST = 500
"""Duplicates forgotten at once whose window is over."""

_UNFINISHED = [word(status) for status in EventStatus if status not in EVENT_ENDS]

_HOLDER = Statement(
    select(events.c.id).where(
        events.c.owner_id == bindparam("owner"),
        events.c.target == bindparam("of_target"),
        events.c.singleton_key == bindparam("of_key"),
        events.c.singleton_key.is_not(None),
        events.c.status.in_(_UNFINISHED),
    )
)
_KEY_OF = Statement(
    select(events.c.owner_id, events.c.target, events.c.singleton_key).where(
        events.c.id == bindparam("of"), events.c.singleton_key.is_not(None)
    )
)

_PLACE = Insert(duplicates, unless=Conflict(("key",)))
_TAKE = Statement(
    update(duplicates)
    .where(duplicates.c.key == bindparam("of_key"))
    .values(event_id=bindparam("first"), until=bindparam("until"))
)
_OVER = lock(
    select(duplicates.c.key)
    .where(duplicates.c.until < bindparam("now"))
    .order_by(duplicates.c.until)
    .limit(bindparam("limit")),
    skip_locked=True,
)
_FORGET = Statement(delete(duplicates).where(duplicates.c.key == bindparam("of_key")))


@cache
def _stored(count: int) -> Statement:
    return Statement(
        select(events.c.id, events.c.status, events.c.received_at).where(
            events.c.id.in_(slots("id", count))
        )
    )


_PLACED_COLUMNS: tuple[ColumnElement[Any], ...] = (
    duplicates.c.key,
    duplicates.c.event_id,
    duplicates.c.until,
)


@cache
def _placed(count: int) -> Statement:
    return lock(
        select(*_PLACED_COLUMNS)
        .where(duplicates.c.key.in_(slots("key", count)))
        .order_by(duplicates.c.key)
    )


def single_of(event: NewEvent) -> tuple[str, str, str]:
    """What no two unfinished events share."""
    return event.owner_id, event.target, event.singleton_key or ""


def busy_singles(tx: Writes, new: Sequence[NewEvent]) -> Mapping[str, HoldfastError]:
    """Why singletons were not inserted, by id; also those whose idempotency key is known."""
    if not new:
        return {}
    there = _states(tx, [event.id for event in new])
    return {event.id: _busy(tx, *single_of(event)) for event in new if event.id not in there}


def refuse_second(tx: Writes, event_id: str) -> None:
    """Make sure that an ended event may be unfinished again.

    Raises:
        SingletonBusy: another one with its singleton key is.
    """
    for owner, target, key in tx.rows(_KEY_OF, {"of": event_id}):
        if _holders(tx, owner, target, key):
            raise _busy(tx, owner, target, key)


def _busy(tx: Writes, owner: str, target: str, key: str) -> SingletonBusy:
    holder = next(iter(_holders(tx, owner, target, key)), "that ended this moment")
    named = f" with the key {key!a}" if key else ""
    return SingletonBusy(
        f"pipeline {target} runs one event{named} at a time: event {holder} has not ended",
        hint="send it again when that one has ended",
    )


def _holders(tx: Writes, owner: str, target: str, key: str) -> list[str]:
    values = {"owner": owner, "of_target": target, "of_key": key}
    return [id_ for (id_,) in tx.rows(_HOLDER, values)]


def find_duplicates(
    tx: Writes, new: Sequence[NewEvent]
) -> Mapping[str, tuple[str, EventStatus, int]]:
    """Which of these are like one that is there already.

    Of two that come at once through two hubs one waits for the other's place in the table.

    Returns:
        By id, the first one's id, status and time.
    """
    if not new:
        return {}
    now = tx.now()
    keys = sorted({event.dedup_key or "" for event in new})
    owners = {event.dedup_key or "": event.owner_id for event in new}
    first: dict[str, tuple[str, int]] = {}
    while missing := [key for key in keys if key not in first]:
        # Once more only if a row was found there and forgotten by somebody else before it was held.
        tx.insert(_PLACE, [(key, owners[key], "", 0) for key in missing])
        for piece in pieces(missing):
            for key, event_id, until in tx.rows(_placed(sized(piece)), fill("key", piece)):
                first[key] = (event_id, until)
    states = _states(tx, [id_ for id_, until in first.values() if until > now])
    same: dict[str, tuple[str, EventStatus, int]] = {}
    taken: dict[str, int] = {}
    for event in new:
        key = event.dedup_key or ""
        id_, until = first[key]
        if until > now and id_ in states:
            same[event.id] = (id_, *states[id_])
            continue
        first[key] = (event.id, now + event.dedup_us)
        states[event.id] = (EventStatus.QUEUED, now)
        taken[key] = now + event.dedup_us
    tx.change(
        _TAKE,
        [{"of_key": key, "first": first[key][0], "until": until} for key, until in taken.items()],
    )
    return same


def _states(tx: Writes, ids: Sequence[str]) -> dict[str, tuple[EventStatus, int]]:
    return {
        id_: (EventStatus(status), received_at)
        for piece in pieces(ids)
        for id_, status, received_at in tx.rows(_stored(sized(piece)), fill("id", piece))
    }


def forget_duplicates(tx: Writes) -> bool:
    """Forget those whose window is over; whether there may be more of them."""
    over = tx.rows(_OVER, {"now": tx.now(), "limit": FORGET_AT_MOST})
    tx.change(_FORGET, [{"of_key": key} for (key,) in over])
    return len(over) == FORGET_AT_MOST

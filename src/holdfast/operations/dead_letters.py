"""Dead letters: looked up with their whole history, edited, run again, discarded."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from holdfast.bus import Notice
from holdfast.bus.base import ENDED, QUEUED
from holdfast.domain.dead_letters import Action, Intervention
from holdfast.domain.events import Event
from holdfast.domain.status import EventStatus
from holdfast.errors import InvalidInput, NotFound
from holdfast.store.commands import Intervene, Intervened
from holdfast.store.queries import InterventionsOf, ListDeadLetters
from holdfast.store.queries.pages import MAX_PAGE

from . import read
from .kit import Kit
from .many import Done
from .submit import check_depth

MAX_REASON_CHARS = 1000


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter, or an event that was one, with everything that happened to it."""

    whole: read.EventWithRuns
    interventions: list[Intervention]


async def dead_letters(kit: Kit, wanted: ListDeadLetters) -> list[Event]:
    """A page of an owner's dead letters, newest event first, without their data."""
    return await kit.store.read(wanted)


async def dead_letter(kit: Kit, event_id: str, owner_id: str) -> DeadLetter:
    """A dead letter with all its executions and all that was done to it.

    Raises:
        NotFound: no such event of that owner, or it never was a dead letter.
    """
    whole = await read.event_whole(kit, event_id, owner_id)
    done = await kit.store.read(InterventionsOf(event_id, owner_id))
    if whole.event.status is not EventStatus.DEAD and not done:
        raise NotFound(
            f"event {event_id} is {whole.event.status} and never was a dead letter",
            hint=f"see: holdfast events show {event_id}",
        )
    return DeadLetter(whole, done)


async def edit(kit: Kit, event_id: str, owner_id: str, by: str, data: Any) -> Intervened:
    """Replace a dead letter's data; what it was is kept with its history.

    Raises:
        NotFound: no such event of that owner.
        IllegalMove: it is no dead letter.
        UnknownPipeline: its pipeline is not loaded.
        InvalidInput: the data does not fit its schema; `fields` says where.
    """
    event = await read.event(kit, event_id, owner_id)
    check_depth(data)
    kit.registry.get(event.target).validate(data)
    return await kit.store.write(
        Intervene(
            event_id=event_id,
            owner_id=owner_id,
            by=by,
            action=Action.EDITED,
            data=orjson.dumps(data),
        )
    )


async def replay(kit: Kit, event_id: str, owner_id: str, by: str) -> Intervened:
    """Queue a dead letter again, its deliveries, crashes and errors counted anew.

    Raises:
        NotFound: no such event of that owner.
        IllegalMove: it is no dead letter.
        UnknownPipeline: its pipeline is not loaded.
    """
    event = await read.event(kit, event_id, owner_id)
    kit.registry.get(event.target)  # nobody would run it
    replayed = await kit.store.write(
        Intervene(event_id=event_id, owner_id=owner_id, by=by, action=Action.REPLAYED)
    )
    kit.bus.publish(Notice(QUEUED, event_id=event_id, target=event.target))
    return replayed


async def discard(kit: Kit, event_id: str, owner_id: str, by: str, reason: str) -> Intervened:
    """Cancel a dead letter for good.

    Raises:
        NotFound: no such event of that owner.
        IllegalMove: it is no dead letter.
    """
    discarded = await kit.store.write(
        Intervene(
            event_id=event_id,
            owner_id=owner_id,
            by=by,
            action=Action.DISCARDED,
            reason=reason,
        )
    )
    kit.bus.publish(Notice(ENDED, event_id=event_id, status=discarded.status))
    return discarded


Verb = Callable[[str], Awaitable[Any]]


async def many(
    kit: Kit,
    act: Verb,
    *,
    ids: Sequence[str] | None,
    wanted: ListDeadLetters | None,
    dry_run: bool,
) -> Done:
    """Do one thing to many dead letters; what refuses is told, and stops none of the others.

    Args:
        kit: the hub's parts.
        act: what is done, called with an event's id.
        ids: which; else
        wanted: those that this chooses.
        dry_run: only count them.

    Raises:
        InvalidInput: not exactly one of `ids` and `wanted` is given.
    """
    if (ids is None) == (wanted is None):
        raise InvalidInput(
            "name the dead letters by ids or by a filter",
            fields=[{"field": "ids", "expected": "ids or filter", "got": "both or neither"}],
        )
    chosen = list(dict.fromkeys(ids or ()))
    if wanted is not None:
        chosen = [one.id async for one in _all(kit, wanted)]
    done = Done()
    for event_id in chosen:
        done.matched += 1
        if not dry_run:
            await done.take(event_id, act(event_id))
    return done


async def _all(kit: Kit, wanted: ListDeadLetters) -> AsyncIterator[Event]:
    page = replace(wanted, limit=MAX_PAGE)
    while True:
        found = await dead_letters(kit, page)
        for event in found:
            yield event
        if len(found) < MAX_PAGE:
            return
        page = replace(page, before=found[-1].id)

"""Look things up: what is stored, and on top of it what runs right now."""

from __future__ import annotations

from dataclasses import dataclass, replace

from holdfast.domain.events import Event
from holdfast.domain.executions import Attempt, Execution, Step
from holdfast.domain.payload import Payload
from holdfast.journal.mirror import Live
from holdfast.store.queries import (
    EventById,
    EventWhole,
    ExecutionById,
    Family,
    FamilyOf,
    ListEvents,
    ListExecutions,
    RecordOf,
    StoredRecord,
)

from . import elsewhere
from .kit import Kit


@dataclass(frozen=True, slots=True)
class Whole:
    """An execution with everything it did."""

    execution: Execution
    steps: tuple[Step, ...]
    attempts: tuple[Attempt, ...]
    payload: Payload


@dataclass(frozen=True, slots=True)
class EventWithRuns:
    """An event, all its executions, and the newest one whole once the event rests."""

    event: Event
    executions: list[Execution]
    last: Whole | None


async def event(kit: Kit, event_id: str, owner_id: str) -> Event:
    """One event with its data.

    Raises:
        NotFound: no such event of that owner.
    """
    return await kit.store.read(EventById(event_id, owner_id))


async def event_whole(kit: Kit, event_id: str, owner_id: str) -> EventWithRuns:
    """An event with its executions and, once it rests, what came of it.

    Raises:
        NotFound: no such event of that owner.
    """
    event, runs, record = await kit.store.read(EventWhole(event_id, owner_id))
    runs = await elsewhere.summaries(kit, runs, owner_id)
    return EventWithRuns(event, runs, None if record is None else _whole(record))


async def events(kit: Kit, wanted: ListEvents) -> list[Event]:
    """A page of an owner's events, newest first, without their data."""
    return await kit.store.read(wanted)


async def executions(kit: Kit, wanted: ListExecutions) -> list[Execution]:
    """A page of an owner's executions, newest first; running ones as they stand this moment."""
    return await elsewhere.summaries(kit, await kit.store.read(wanted), wanted.owner_id)


async def summary(kit: Kit, execution_id: str, owner_id: str) -> Execution:
    """An execution without its steps and texts.

    Raises:
        NotFound: no such execution of that owner.
    """
    running = kit.journal.get(execution_id)
    if running is not None and running.owner_id == owner_id:
        return running.execution()
    return await kit.store.read(ExecutionById(execution_id, owner_id))


async def execution(kit: Kit, execution_id: str, owner_id: str) -> Whole:
    """An execution with its steps, attempts and texts; a running one as far as it has come.

    Raises:
        NotFound: no such execution of that owner.
    """
    running = await elsewhere.live(kit, execution_id, owner_id)
    if running is not None:
        return live(running, await earlier(kit, running))
    return _whole(await kit.store.read(RecordOf(execution_id, owner_id)))


async def family(kit: Kit, execution_id: str, owner_id: str) -> Family:
    """The children of an execution, running ones as they stand this moment, and their sums."""
    found = await kit.store.read(FamilyOf(execution_id, owner_id))
    running = await elsewhere.summaries(kit, list(found.running), owner_id)
    children = await elsewhere.summaries(kit, list(found.children), owner_id)
    return replace(
        found,
        children=tuple(children),
        totals=sum((one.totals for one in running), found.totals),
        estimated=found.estimated + sum("tokens_estimated" in one.flags for one in running),
    )


async def earlier(kit: Kit, running: Live) -> StoredRecord | None:
    """What an execution that goes on did before it halted; None for any other."""
    if not running.goes_on:
        return None
    return await kit.store.read(RecordOf(running.id, running.owner_id))


def live(running: Live, before: StoredRecord | None) -> Whole:
    """A running execution as far as it has come, over what it did before it halted."""
    if before is None:
        return Whole(running.execution(), running.steps(), running.attempts(), running.payload())
    steps = {one.step: one for one in (*before.steps, *running.steps())}
    attempts = {(one.step, one.n): one for one in (*before.attempts, *running.attempts())}
    payload = Payload(
        [*before.entries, *running.entries[len(before.entries) :]],
        event_data=before.event_data,
        blobs=before.blobs.__getitem__,
    )
    return Whole(
        running.execution(),
        tuple(steps[number] for number in sorted(steps)),
        tuple(attempts[key] for key in sorted(attempts)),
        payload,
    )


def _whole(record: StoredRecord) -> Whole:
    return Whole(record.execution, record.steps, record.attempts, record.payload())

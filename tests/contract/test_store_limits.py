"""Claims of pipelines that limit themselves, and what is deleted because it is old."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from sqlalchemy import func, select

from holdfast.domain.status import ExecutionStatus
from holdfast.errors import NotFound
from holdfast.store.base import Query, Reads
from holdfast.store.commands import Cancel, Finish, Prune
from holdfast.store.queries import CountOld, EventById, ExecutionsOf, OldEvents, RecordOf
from holdfast.store.statements import Statement
from holdfast.store.tables import attempts, events, executions, payloads, steps

BOTH = {"triage": ("g1", "c1"), "mail": ("g1", "c1")}
LATER = 2**60


async def test_no_more_are_claimed_than_there_is_room_for(make):
    for _ in range(5):
        await make.submitted()
    assert len(await make.claimed(room={"triage": 2})) == 2
    assert len(await make.claimed(room={"triage": 0})) == 0
    assert len(await make.claimed(room={"other": 0})) == 3


async def test_a_full_pipeline_hides_nobody_behind_it(make):
    for _ in range(20):
        await make.submitted(priority=5)
    mail = {(await make.submitted(target="mail")).id for _ in range(4)}
    claimed = await make.claimed(versions=BOTH, limit=6, room={"triage": 1})
    assert [one.target for one in claimed].count("triage") == 1
    assert {one.event_id for one in claimed if one.target == "mail"} == mail
    assert await make.claimed(versions=BOTH, room={"triage": 0}) == []


async def test_priority_holds_among_pipelines_with_and_without_a_limit(make):
    low = [(await make.submitted(target="mail")).id for _ in range(3)]
    high = [(await make.submitted(priority=5)).id for _ in range(3)]
    claimed = await make.claimed(versions=BOTH, limit=3, room={"triage": 2})
    assert {one.event_id for one in claimed} == {*high[:2], low[0]}


async def ended(make, status=ExecutionStatus.SUCCEEDED, **fields):
    await make.submitted(**fields)
    (claimed,) = await make.claimed(versions=BOTH)
    await make.store.write(Finish(make.record(claimed, status)))
    return claimed


async def prune(store, **fields) -> int:
    old = OldEvents(**({"owner_id": "local", "target": "triage", "before": LATER} | fields))
    ids = await store.read(old)
    return await store.write(Prune(owner_id=old.owner_id, event_ids=ids)) if ids else 0


@dataclass(frozen=True)
class RowsLeft(Query[dict[str, int]]):
    """How many rows the tables of records have in all."""

    def run(self, db: Reads) -> dict[str, int]:
        tables = (events, executions, steps, attempts, payloads)
        return {
            table.name: db.rows(Statement(select(func.count()).select_from(table)), {})[0][0]
            for table in tables
        }


async def test_what_is_old_is_deleted_with_all_that_ran_for_it(store, make):
    old = [
        await ended(make),
        await ended(make, ExecutionStatus.FAILED),
        await ended(make, ExecutionStatus.CANCELLED),
    ]
    assert await store.read(CountOld(owner_id="local", target="triage", before=LATER)) == 3
    assert await prune(store) == 3
    for one in old:
        with pytest.raises(NotFound):
            await store.read(EventById(one.event_id, "local"))
        with pytest.raises(NotFound):
            await store.read(RecordOf(one.execution_id, "local"))
    assert set((await store.read(RowsLeft())).values()) == {0}
    assert await prune(store) == 0


async def test_what_has_not_ended_stays_and_so_do_dead_letters(store, make):
    queued = (await make.submitted(target="mail")).id
    (running,) = await make.claimed(versions=BOTH)
    assert running.event_id == queued
    dead = await make.running()
    for _ in range(3):
        await store.write(Finish(make.record(dead, ExecutionStatus.CRASHED)))
        again = [one for one in await make.claimed() if one.event_id == dead.event_id]
        dead = again[0] if again else dead
    assert (await store.read(EventById(dead.event_id, "local"))).status == "dead"
    waiting = (await make.submitted()).id
    assert await prune(store) == 0
    assert await prune(store, target="mail") == 0
    for event_id in (queued, waiting, dead.event_id):
        await store.read(EventById(event_id, "local"))
    assert await store.read(ExecutionsOf(running.event_id, "local")) != []


async def test_only_what_ended_before_the_time(store, make):
    one = await ended(make)
    event = await store.read(EventById(one.event_id, "local"))
    assert await prune(store, before=event.finished_at) == 0
    assert await prune(store, before=event.finished_at + 1) == 1


async def test_nobody_deletes_what_is_not_theirs(store, make):
    one = await ended(make, owner_id="ann")
    assert await prune(store) == 0
    assert await prune(store, owner_id="ann", target="mail") == 0
    assert (await store.read(EventById(one.event_id, "ann"))).id == one.event_id
    assert await prune(store, owner_id="ann") == 1


async def test_batches_delete_whole_events_oldest_first(store, make):
    old = [await ended(make) for _ in range(5)]
    assert await prune(store, limit=2) == 2
    with pytest.raises(NotFound):
        await store.read(EventById(old[1].event_id, "local"))
    assert (await store.read(RecordOf(old[2].execution_id, "local"))).steps != ()
    assert [await prune(store, limit=2) for _ in range(3)] == [2, 1, 0]


async def test_a_cancelled_event_that_never_ran_is_deleted_too(store, make):
    event = await make.submitted()
    await store.write(Cancel(event_id=event.id, owner_id="local"))
    assert await prune(store) == 1

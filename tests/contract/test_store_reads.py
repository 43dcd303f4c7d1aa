"""Reads: whole pages, one owner's things only, and no way to write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest
from sqlalchemy import bindparam, create_engine, text, update
from sqlalchemy.pool import NullPool

from holdfast.domain.payload import text_hash
from holdfast.domain.status import EventStatus, ExecutionStatus
from holdfast.errors import InvalidInput, NotFound, StoreError
from holdfast.store import Store, queries
from holdfast.store.base import Query, Reads
from holdfast.store.commands import Cancel, Finish
from holdfast.store.queries import (
    CountEvents,
    EventById,
    ExecutionById,
    ExecutionsOf,
    ListEvents,
    ListExecutions,
    Ping,
    RecordOf,
)
from holdfast.store.queries.pages import MAX_PAGE
from holdfast.store.registry import address
from holdfast.store.statements import Statement
from holdfast.store.tables import events


def tamper(store_url: str, sql: str) -> None:
    """Change rows behind the store's back."""
    engine = create_engine(address(store_url).sqlalchemy_url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text(sql))


ACROSS_OWNERS = {
    "AgentsWithWork",
    "AllAgents",
    "AllBreakers",
    "AllCaches",
    "AllBudgets",
    "AllHubs",
    "AllKeys",
    "AllLabels",
    "AllProcesses",
    "AtRest",
    "ComparesVectors",
    "Space",
    "StillReady",
    "PausedPipelines",
    "CountEvents",
    "CountQueued",
    "LeasesOf",
    "Ping",
    "ProcessesLeft",
}
"""Questions of the hub itself."""


async def test_pages_are_complete_and_do_not_overlap(store: Store, make: Any) -> None:
    ids = [(await make.submitted()).id for _ in range(23)]
    seen: list[str] = []
    before = None
    while page := await store.read(ListEvents(owner_id="local", limit=5, before=before)):
        assert len(page) <= 5
        assert not {event.id for event in page} & set(seen)
        seen += [event.id for event in page]
        before = page[-1].id
        await make.submitted()  # newer ones do not disturb the walk
    assert seen == ids[::-1]


async def test_pages_of_executions_are_complete(store: Store, make: Any) -> None:
    claims = [await make.running() for _ in range(7)]
    seen: list[str] = []
    before = None
    while page := await store.read(ListExecutions(owner_id="local", limit=3, before=before)):
        seen += [execution.id for execution in page]
        before = page[-1].id
    assert seen == [claimed.execution_id for claimed in claims][::-1]


async def test_events_are_filtered(store: Store, make: Any) -> None:
    one = await make.submitted(target="a")
    two = await make.submitted(target="b")
    three = await make.submitted(target="b")
    await store.write(Cancel(two.id, "local"))

    async def found(**filters: Any) -> list[str]:
        return [event.id for event in await store.read(ListEvents(owner_id="local", **filters))]

    assert await found(target="b") == [three.id, two.id]
    assert await found(status=EventStatus.CANCELLED) == [two.id]
    assert await found(status=EventStatus.QUEUED, target="b") == [three.id]
    assert await found(since=two.received_at, until=three.received_at) == [two.id]
    assert await found(until=one.received_at) == []
    (listed,) = await store.read(ListEvents(owner_id="local", target="a"))
    assert listed.data is None


async def test_executions_are_filtered(store: Store, make: Any) -> None:
    done, running = await make.running(), await make.running()
    await store.write(Finish(make.record(done)))

    async def found(**filters: Any) -> list[str]:
        pages = await store.read(ListExecutions(owner_id="local", **filters))
        return [execution.id for execution in pages]

    assert await found(status=ExecutionStatus.RUNNING) == [running.execution_id]
    assert await found(event_id=done.event_id) == [done.execution_id]
    assert await found(name="triage") == [running.execution_id, done.execution_id]
    assert await found(name="other") == []
    assert await found(since=running.started_at) == [running.execution_id]


async def test_suspicious_executions_are_found_and_stay_so(store: Store, make: Any) -> None:
    flagged, clean, running = [await make.running() for _ in range(3)]
    told = make.execution(flagged, flags={"suspicious": ["injection: ignore all"]})
    await store.write(Finish(make.record(flagged, execution=told)))
    quoting = make.execution(clean, flags={"recording_faults": ['"suspicious":["x"]']})
    await store.write(Finish(make.record(clean, execution=quoting)))

    async def found(**filters: Any) -> list[str]:
        pages = await store.read(ListExecutions(owner_id="local", **filters))
        return [execution.id for execution in pages]

    assert await found(suspicious=True) == [flagged.execution_id]
    assert await found(suspicious=False) == [running.execution_id, clean.execution_id]
    assert await found(suspicious=True, before=flagged.execution_id) == []
    assert await found(suspicious=True, status=ExecutionStatus.FAILED) == []
    assert await store.read(ListExecutions(owner_id="other", suspicious=True)) == []


async def test_no_read_shows_another_owners_things(store: Store, make: Any) -> None:
    await make.submitted(owner_id="a")
    (claimed,) = await make.claimed()
    await store.write(Finish(make.record(claimed)))
    event_id, execution_id = claimed.event_id, claimed.execution_id

    async def seen(owner: str) -> list[Any]:
        answers: list[Any] = []
        for query in (
            EventById(event_id, owner),
            ExecutionById(execution_id, owner),
            RecordOf(execution_id, owner),
            ExecutionsOf(event_id, owner),
            ListEvents(owner_id=owner),
            ListExecutions(owner_id=owner),
            ListExecutions(owner_id=owner, event_id=event_id),
        ):
            try:
                answers.append(await store.read(query))
            except NotFound:
                answers.append(None)
        return answers

    assert all(await seen("a"))
    assert not any(await seen("b"))


async def test_a_record_shows_no_row_of_another_owner(
    store: Store, make: Any, store_url: str
) -> None:
    key = text_hash("be brief")
    claimed = await make.running()
    record = make.record(claimed, entries=(["e"], ["b", key]), blobs=((key, "be brief"),))
    await store.write(Finish(record))
    assert (await store.read(RecordOf(claimed.execution_id, "local"))).blobs
    for table in ("steps", "attempts", "blobs", "events"):
        tamper(store_url, f"UPDATE {table} SET owner_id = 'b'")
    stored = await store.read(RecordOf(claimed.execution_id, "local"))
    assert (stored.steps, stored.attempts, stored.blobs) == ((), (), {})
    assert stored.event_data is None
    tamper(store_url, "UPDATE payloads SET owner_id = 'b'")
    assert (await store.read(RecordOf(claimed.execution_id, "local"))).entries == ()


def test_every_query_names_an_owner() -> None:
    for name in queries.__all__:
        kind = getattr(queries, name)
        if isinstance(kind, type) and issubclass(kind, Query) and name not in ACROSS_OWNERS:
            assert "owner_id" in {field.name for field in fields(kind)}, name


@pytest.mark.parametrize("limit", [0, -1, MAX_PAGE + 1])
async def test_pages_have_a_size(store: Store, limit: int) -> None:
    with pytest.raises(InvalidInput, match="page"):
        await store.read(ListEvents(owner_id="local", limit=limit))


class Sneaky(Query[None]):
    """Writes under the name of a read."""

    def run(self, db: Reads) -> None:
        statement = update(events).values(status=bindparam("status")).returning(events.c.id)
        db.rows(Statement(statement), {"status": "failed"})


async def test_a_reader_cannot_write(store: Store, make: Any) -> None:
    event = await make.submitted()
    with pytest.raises(StoreError, match=r"(?i)read-?only"):
        await store.read(Sneaky())
    assert not {"change", "insert", "commit"} & set(dir(Reads))
    assert (await store.read(EventById(event.id, "local"))).status is EventStatus.QUEUED


async def test_statements_are_counted_by_origin(store: Store, make: Any) -> None:
    before = dict(store.statements)
    claimed = await make.running()
    await store.read(Ping())
    grown = {name: n - before.get(name, 0) for name, n in store.statements.items()}
    assert set(grown) == {"Submit", "Claim", "Ping"}
    assert grown["Ping"] == 1
    await store.write(Finish(make.record(claimed)))
    assert store.statements["Finish"] > 0
    assert store.statements["Claim"] == grown["Claim"]


async def test_everything_is_there_after_a_restart(
    store: Store, make: Any, reopen: Callable[[], Store]
) -> None:
    claimed = await make.running()
    await store.write(Finish(make.record(claimed)))
    queued = await make.submitted()
    await store.close()
    again = reopen()
    try:
        assert (await again.read(CountEvents()))[EventStatus.SUCCEEDED] == 1
        assert (await again.read(EventById(queued.id, "local"))).status is EventStatus.QUEUED
        assert (await again.read(RecordOf(claimed.execution_id, "local"))).attempts
    finally:
        await again.close()

"""Recordings in the store: event and record in one transaction, once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from holdfast.domain.executions import Record
from holdfast.domain.ids import new_id, now_us
from holdfast.domain.recordings import Begun
from holdfast.domain.status import ExecutionStatus
from holdfast.errors import InvalidInput, NotFound
from holdfast.journal.replay import change_entry, recording_entry, replay
from holdfast.recording import Collector
from holdfast.store import Store
from holdfast.store.commands import Finish
from holdfast.store.queries import EventById, ExecutionById, RecordOf
from holdfast.testing.ports import ASSESSOR, MemorySink


def recording(*, ended: bool = True, **fields: Any) -> Record:
    """As a folder of a recorder has it."""
    values: dict[str, Any] = {
        "execution_id": new_id(),
        "event_id": new_id(),
        "owner_id": "local",
        "name": "report",
        "version": "3",
        "source": "recorder:test",
        "data": '{"day": "monday"}',
        "traceparent": None,
        "started_at": now_us(),
    }
    begun = Begun(**(values | fields))

    sink = MemorySink()
    collector = Collector(begun.execution_id, sink)
    collector.start_step(kind="node", operation="parse", input="text")
    if ended:
        collector.finish(ExecutionStatus.SUCCEEDED, output="done")
    entries = [recording_entry(begun)]
    entries += [change_entry(begun.execution_id, raw) for raw in sink.raw[begun.execution_id]]
    (running,) = replay(entries, ASSESSOR, _raise)
    if not ended:
        running.break_off(ExecutionStatus.CRASHED, now_us(), {"code": "recorder_died"})
    return running.record(counts_as_crash=False)


def _raise(error: Exception) -> None:
    raise error


async def test_the_event_comes_with_the_record_and_never_runs(store: Store, make: Any) -> None:
    record = recording()
    done = await store.write(Finish(record))
    assert (done.outcome, done.event_status) == ("applied", "succeeded")
    event = await store.read(EventById(record.execution.event_id, "local"))
    assert (event.type, event.source, event.target_kind) == ("report", "recorder:test", "recorded")
    assert (event.status, event.data) == ("succeeded", {"day": "monday"})
    assert event.execution_id == record.execution.id
    assert event.finished_at is not None
    execution = await store.read(ExecutionById(record.execution.id, "local"))
    assert (execution.status, execution.graph_version) == ("succeeded", "3")
    assert not await store.write(make.claim_of(versions={"report": ("3", "3")}))


async def test_the_same_again_changes_nothing(store: Store) -> None:
    record = recording()
    await store.write(Finish(record))
    first = await store.read(EventById(record.execution.event_id, "local"))
    again = await store.write(Finish(record))
    assert (again.outcome, again.event_status) == ("applied", "succeeded")
    assert await store.read(EventById(record.execution.event_id, "local")) == first
    assert len((await store.read(RecordOf(record.execution.id, "local"))).steps) == 1


async def test_one_that_died_is_crashed_with_its_steps_and_not_queued_again(
    store: Store, make: Any
) -> None:
    record = recording(ended=False)
    done = await store.write(Finish(record))
    assert done.event_status == "failed"
    execution = await store.read(ExecutionById(record.execution.id, "local"))
    assert (execution.status, execution.steps_total) == ("crashed", 1)
    assert not await store.write(make.claim_of(versions={"report": ("3", "3")}))


async def test_ids_in_use_open_nobodys_record(store: Store, make: Any) -> None:
    mine = recording()
    await store.write(Finish(mine))
    for taken in (
        {"execution_id": mine.execution.id},
        {"event_id": mine.execution.event_id},
        {"execution_id": mine.execution.id, "event_id": mine.execution.event_id},
    ):
        with pytest.raises(NotFound):
            await store.write(Finish(recording(owner_id="somebody else", **taken)))
    with pytest.raises(NotFound):
        await store.write(Finish(recording(event_id=mine.execution.event_id)))
    running = await make.running()
    with pytest.raises(NotFound):
        await store.write(Finish(recording(event_id=running.event_id)))
    event = await store.read(EventById(running.event_id, "local"))
    assert event.status == "running"


async def test_a_text_no_database_holds_is_refused_alone(store: Store) -> None:
    good = recording()
    bad = recording(name="nul\x00")
    with pytest.raises(InvalidInput):
        await store.write(Finish(bad))
    await store.write(Finish(replace(good)))

"""Records: all or nothing, the same out as in, and never over a lost lease."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from holdfast.domain.events import Claimed
from holdfast.domain.payload import text_hash
from holdfast.domain.status import EventStatus, ExecutionStatus, StepStatus
from holdfast.errors import IllegalMove, NotFound, StoreRefused
from holdfast.store import Store
from holdfast.store.commands import Finish, Reap
from holdfast.store.queries import EventById, ExecutionById, ExecutionsOf, RecordOf


async def test_record_and_outcome_land_together(store: Store, make: Any) -> None:
    claimed = await make.running()
    record = make.record(
        claimed,
        steps=(make.step(1), make.step(2, status=StepStatus.SKIPPED, skip_reason="spam")),
        attempts=(make.attempt(1, 1, status=StepStatus.FAILED), make.attempt(1, 2)),
        entries=(["e"], ["b", text_hash("be brief")], ["v", {"a": [1, None, "ü"]}]),
        blobs=((text_hash("be brief"), "be brief"),),
    )
    done = await store.write(Finish(record))
    assert (done.outcome, done.event_id) == ("applied", claimed.event_id)
    assert done.event_status is EventStatus.SUCCEEDED
    event = await store.read(EventById(claimed.event_id, "local"))
    assert (event.status, event.lease_owner) == (EventStatus.SUCCEEDED, None)
    assert event.finished_at is not None
    stored = await store.read(RecordOf(claimed.execution_id, "local"))
    assert stored.execution == record.execution
    assert stored.steps == record.steps
    assert stored.attempts == record.attempts
    assert stored.entries == record.entries
    payload = stored.payload()
    assert [payload.get(i) for i in range(3)] == [{"n": 1}, "be brief", {"a": [1, None, "ü"]}]


@pytest.mark.parametrize(
    ("status", "after"),
    [
        (ExecutionStatus.PARTIAL, EventStatus.SUCCEEDED),
        (ExecutionStatus.FAILED, EventStatus.FAILED),
        (ExecutionStatus.TIMED_OUT, EventStatus.FAILED),
        (ExecutionStatus.CANCELLED, EventStatus.CANCELLED),
        (ExecutionStatus.CRASHED, EventStatus.QUEUED),
    ],
)
async def test_each_outcome_ends_its_event(
    store: Store, make: Any, status: ExecutionStatus, after: EventStatus
) -> None:
    claimed = await make.running()
    error = {"code": "x", "message": "why"}
    record = make.record(claimed, execution=make.execution(claimed, status=status, error=error))
    assert (await store.write(Finish(record))).event_status is after
    event = await store.read(EventById(claimed.event_id, "local"))
    assert (event.status, event.last_error) == (after, error)
    assert (event.finished_at is None) == (after is EventStatus.QUEUED)


async def test_a_running_execution_has_a_readable_record(store: Store, make: Any) -> None:
    claimed = await make.running()
    stored = await store.read(RecordOf(claimed.execution_id, "local"))
    assert (stored.steps, stored.attempts, stored.entries) == ((), (), ())
    assert stored.event_data == {"n": 1}


async def test_storing_twice_changes_nothing(store: Store, make: Any) -> None:
    claimed = await make.running()
    record = make.record(claimed)
    once, twice = await asyncio.gather(store.write(Finish(record)), store.write(Finish(record)))
    thrice = await store.write(Finish(record))
    assert once == twice == thrice
    assert once.outcome == "applied"
    assert len((await store.read(RecordOf(claimed.execution_id, "local"))).steps) == 1


async def test_a_crash_stored_twice_counts_once(store: Store, make: Any) -> None:
    claimed = await make.running()
    record = make.record(claimed, ExecutionStatus.CRASHED)
    await store.write(Finish(record))
    (again,) = await make.claimed()
    assert (await store.write(Finish(record))).outcome == "applied"
    event = await store.read(EventById(claimed.event_id, "local"))
    assert (event.crashes, event.fence) == (1, again.fence)
    assert event.status is EventStatus.RUNNING


async def test_a_record_without_its_execution_row_is_stored(store: Store, make: Any) -> None:
    """As after a restore of the database from before the claim's execution was written."""
    claimed = await make.running()
    other = replace(claimed, execution_id="01900000-0000-7000-8000-000000000001")
    assert (await store.write(Finish(make.record(other)))).outcome == "applied"
    assert (await store.read(RecordOf(other.execution_id, "local"))).steps != ()


async def reaped(store: Store, make: Any) -> Claimed:
    """An event whose first holder lost its lease; the holder's claim."""
    stale = await make.running(lease_us=-1000)
    await store.write(Reap(lease_owner="boot-2"))
    return stale


async def test_a_stale_finish_keeps_its_attempts_but_not_its_outcome(
    store: Store, make: Any
) -> None:
    stale = await reaped(store, make)
    (fresh,) = await make.claimed(lease_owner="boot-2")
    late = await store.write(Finish(make.record(stale)))
    assert (late.outcome, late.event_status) == ("superseded", EventStatus.RUNNING)
    event = await store.read(EventById(stale.event_id, "local"))
    assert (event.status, event.execution_id) == (EventStatus.RUNNING, fresh.execution_id)
    stored = await store.read(RecordOf(stale.execution_id, "local"))
    assert stored.execution.status is ExecutionStatus.SUPERSEDED
    assert stored.execution.totals.cost_pico == 2_600_000
    assert len(stored.attempts) == 1
    done = await store.write(Finish(make.record(fresh, lease_owner="boot-2")))
    assert (done.outcome, done.event_status) == ("applied", EventStatus.SUCCEEDED)
    again = await store.write(Finish(make.record(stale)))
    assert again.outcome == "superseded"


async def test_stale_and_fresh_in_one_commit(store: Store, make: Any) -> None:
    stale = await reaped(store, make)
    (fresh,) = await make.claimed(lease_owner="boot-2")
    late, done = await asyncio.gather(
        store.write(Finish(make.record(stale, ExecutionStatus.FAILED))),
        store.write(Finish(make.record(fresh, lease_owner="boot-2"))),
    )
    assert (late.outcome, done.outcome) == ("superseded", "applied")
    assert (await store.read(EventById(stale.event_id, "local"))).status is EventStatus.SUCCEEDED
    runs = await store.read(ExecutionsOf(stale.event_id, "local"))
    assert [run.status for run in runs] == [ExecutionStatus.SUPERSEDED, ExecutionStatus.SUCCEEDED]


async def test_the_right_fence_in_the_wrong_hands_is_stale(store: Store, make: Any) -> None:
    claimed = await make.running()
    thief = make.record(claimed, lease_owner="boot-9")
    assert (await store.write(Finish(thief))).outcome == "superseded"
    assert (await store.read(EventById(claimed.event_id, "local"))).status is EventStatus.RUNNING


async def test_a_record_that_cannot_be_stored_fails_alone_and_leaves_nothing(
    store: Store, make: Any
) -> None:
    claims = [await make.running() for _ in range(5)]
    records = [make.record(claimed) for claimed in claims]
    doubled = (make.step(1), make.step(1))  # breaks the primary key of steps
    records[2] = replace(records[2], steps=doubled)
    outcomes = await asyncio.gather(
        *(store.write(Finish(record)) for record in records), return_exceptions=True
    )
    assert [isinstance(one, StoreRefused) for one in outcomes] == [False, False, True, False, False]
    event = await store.read(EventById(claims[2].event_id, "local"))
    assert event.status is EventStatus.RUNNING
    kept = await store.read(RecordOf(claims[2].execution_id, "local"))
    assert kept.execution.status is ExecutionStatus.RUNNING
    assert (kept.steps, kept.attempts, kept.entries) == ((), (), ())
    assert (await store.write(Finish(make.record(claims[2])))).outcome == "applied"


async def test_a_number_no_column_holds_fails_alone(store: Store, make: Any) -> None:
    good, bad = await make.running(), await make.running()
    outcomes = await asyncio.gather(
        store.write(Finish(make.record(good))),
        store.write(Finish(make.record(bad, attempts=(make.attempt(tokens_input=2**63),)))),
        return_exceptions=True,
    )
    assert outcomes[0].outcome == "applied"
    assert isinstance(outcomes[1], StoreRefused)


async def test_what_has_not_ended_and_what_is_not_there_is_refused(store: Store, make: Any) -> None:
    claimed = await make.running()
    with pytest.raises(IllegalMove):
        await store.write(Finish(make.record(claimed, ExecutionStatus.RUNNING)))
    with pytest.raises(NotFound):
        await store.write(Finish(make.record(replace(claimed, event_id="unknown"))))
    with pytest.raises(NotFound):
        await store.write(Finish(make.record(replace(claimed, owner_id="other"))))
    assert (await store.read(EventById(claimed.event_id, "local"))).status is EventStatus.RUNNING


async def test_a_shared_text_is_kept_once_per_owner(store: Store, make: Any) -> None:
    key = text_hash("be brief")
    shared = {"entries": (["e"], ["b", key]), "blobs": ((key, "be brief"),)}
    claims = []
    for owner in ("a", "a", "b"):
        await make.submitted(owner_id=owner)
        claims += await make.claimed()
    await asyncio.gather(*(store.write(Finish(make.record(one, **shared))) for one in claims))
    for one in claims:
        stored = await store.read(RecordOf(one.execution_id, one.owner_id))
        assert stored.payload().get(1) == "be brief"


@pytest.mark.parametrize("text", ["nul \0 inside", "half \ud83d a pair", "\U0001f600 whole"])
async def test_strange_characters_never_break_a_record(store: Store, make: Any, text: str) -> None:
    claimed = await make.running()
    key = text_hash(text)
    record = make.record(
        claimed,
        execution=make.execution(claimed, error={"code": "x", "message": text}),
        steps=(make.step(operation=text, error={"message": text}),),
        attempts=(
            make.attempt(request_id=text, parameters={text: text}, validation_errors=[text]),
        ),
        entries=(["e"], ["v", {"answer": text}], ["b", key]),
        blobs=((key, text),),
    )
    await store.write(Finish(record))
    stored = await store.read(RecordOf(claimed.execution_id, "local"))
    assert stored.execution.error == {"code": "x", "message": text}
    assert stored.steps[0].error == {"message": text}
    assert stored.attempts[0].parameters == {text: text}
    assert stored.attempts[0].validation_errors == [text]
    assert stored.payload().get(1) == {"answer": text}
    assert stored.payload().get(2) == text
    # A plain column shows what it cannot hold as an escape.
    shown = text.replace("\0", "\\x00").replace("\ud83d", "\\ud83d")
    assert stored.steps[0].operation == shown
    assert stored.attempts[0].request_id == shown


async def test_a_large_record_is_stored_whole(store: Store, make: Any) -> None:
    claimed = await make.running()
    steps = tuple(make.step(n) for n in range(1, 301))
    attempts = tuple(make.attempt(n) for n in range(1, 301))
    entries = (["e"], *(["v", f"{n} " * 5000] for n in range(300)))
    await store.write(Finish(make.record(claimed, steps=steps, attempts=attempts, entries=entries)))
    stored = await store.read(RecordOf(claimed.execution_id, "local"))
    assert (stored.steps, stored.attempts, stored.entries) == (steps, attempts, entries)
    assert (await store.read(ExecutionById(claimed.execution_id, "local"))).steps_total == 1

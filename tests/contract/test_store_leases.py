"""The right to run an event: one holder at a time, in order, and never for ever."""

from __future__ import annotations

import asyncio
from typing import Any

from holdfast.domain.status import MAX_CRASHES, EventStatus, ExecutionStatus
from holdfast.store import Store
from holdfast.store.commands import Cancel, ExtendLeases, Finish, Reap, TakeBack
from holdfast.store.queries import (
    CountEvents,
    CountQueued,
    EventById,
    ExecutionById,
    ExecutionsOf,
    LeasesOf,
)

EXPIRED = -1000
"""Length in microseconds of a lease that is over when it begins."""


async def test_a_claim_makes_the_execution_it_will_run(store: Store, make: Any) -> None:
    await make.submitted(data=b'{"n": 2}', traceparent="00-abc-def-01")
    (claimed,) = await make.claimed()
    assert (claimed.data, claimed.fence, claimed.delivery) == (b'{"n": 2}', 1, 1)
    event = await store.read(EventById(claimed.event_id, "local"))
    assert (event.status, event.lease_owner) == (EventStatus.RUNNING, "boot-1")
    assert event.lease_until == claimed.started_at + 3600 * 1_000_000
    execution = await store.read(ExecutionById(claimed.execution_id, "local"))
    assert execution.status is ExecutionStatus.RUNNING
    assert (execution.graph_version, execution.code_version) == ("g1", "c1")
    assert (execution.trace_id, execution.event_id) == ("abc", claimed.event_id)


async def test_the_best_come_first(make: Any) -> None:
    low = (await make.submitted(priority=-1)).id
    first = (await make.submitted()).id
    second = (await make.submitted()).id
    high = (await make.submitted(priority=5)).id
    order = [(await make.claimed(limit=1))[0].event_id for _ in range(4)]
    assert order == [high, first, second, low]


async def test_only_named_pipelines_are_claimed(store: Store, make: Any) -> None:
    await make.submitted(target="other")
    mine = await make.submitted(target="triage")
    assert await store.read(CountQueued()) == {"other": 1, "triage": 1}
    assert [one.event_id for one in await make.claimed()] == [mine.id]
    assert await make.claimed(versions={}) == []
    assert await make.claimed(limit=0) == []


async def test_each_event_is_claimed_once(store: Store, make: Any) -> None:
    await asyncio.gather(*(make.submitted() for _ in range(100)))
    claims = await asyncio.gather(
        *(make.claimed(limit=7, lease_owner=f"boot-{n}") for n in range(30))
    )
    ids = [one.event_id for claim in claims for one in claim]
    assert len(ids) == len(set(ids)) == 100
    assert max(len(claim) for claim in claims) <= 7
    assert (await store.read(CountEvents()))[EventStatus.RUNNING] == 100


async def test_leases_are_kept_lost_and_told_of_cancels(store: Store, make: Any) -> None:
    kept, wanted_off, taken = [await make.running(lease_us=EXPIRED) for _ in range(3)]
    await store.write(Cancel(wanted_off.event_id, "local"))
    extended = await store.write(
        ExtendLeases(
            lease_owner="boot-1",
            leases=[
                (kept.event_id, kept.fence),
                (wanted_off.event_id, wanted_off.fence),
                (taken.event_id, taken.fence - 1),
                ("unknown", 1),
            ],
            lease_us=3600 * 1_000_000,
        )
    )
    assert set(extended.lost) == {taken.event_id, "unknown"}
    assert extended.cancel_requested == (wanted_off.event_id,)
    reaped = await store.write(Reap(lease_owner="boot-2"))
    assert [one.event_id for one in reaped] == [taken.event_id]


async def test_another_boot_cannot_extend_my_lease(store: Store, make: Any) -> None:
    claimed = await make.running()
    extended = await store.write(
        ExtendLeases(
            lease_owner="boot-2", leases=[(claimed.event_id, claimed.fence)], lease_us=10**12
        )
    )
    assert extended.lost == (claimed.event_id,)


async def test_an_expired_lease_is_reaped_once_and_counts_as_a_crash(
    store: Store, make: Any
) -> None:
    claimed = await make.running(lease_us=EXPIRED)
    alive = await make.running()
    first, second = await asyncio.gather(
        store.write(Reap(lease_owner="boot-2")), store.write(Reap(lease_owner="boot-3"))
    )
    (back,) = [*first, *second]
    assert (back.event_id, back.status) == (claimed.event_id, EventStatus.QUEUED)
    assert back.execution_id == claimed.execution_id
    event = await store.read(EventById(claimed.event_id, "local"))
    assert (event.crashes, event.fence, event.lease_owner) == (1, claimed.fence + 1, None)
    assert event.last_error is not None
    assert event.last_error["code"] == "runner_lost"
    execution = await store.read(ExecutionById(claimed.execution_id, "local"))
    assert execution.status is ExecutionStatus.CRASHED
    assert execution.finished_at is not None
    assert execution.duration_us == execution.finished_at - execution.started_at
    assert (await store.read(EventById(alive.event_id, "local"))).status is EventStatus.RUNNING


async def test_nobody_reaps_itself(store: Store, make: Any) -> None:
    await make.running(lease_us=EXPIRED)
    assert await store.write(Reap(lease_owner="boot-1")) == []


async def test_an_event_that_keeps_killing_its_process_is_set_aside(
    store: Store, make: Any
) -> None:
    await make.submitted()
    for turn in range(1, MAX_CRASHES + 1):
        (claimed,) = await make.claimed()
        assert (claimed.delivery, claimed.crashes) == (turn, turn - 1)
        done = await store.write(Finish(make.record(claimed, ExecutionStatus.CRASHED)))
        dead = turn == MAX_CRASHES
        assert done.event_status is (EventStatus.DEAD if dead else EventStatus.QUEUED)
    event = await store.read(EventById(claimed.event_id, "local"))
    assert (event.crashes, event.deliveries) == (MAX_CRASHES, MAX_CRASHES)
    assert event.finished_at is not None
    assert await make.claimed() == []
    assert len(await store.read(ExecutionsOf(event.id, "local"))) == MAX_CRASHES


async def test_reaping_too_sets_aside_what_crashed_too_often(store: Store, make: Any) -> None:
    await make.submitted()
    for _ in range(MAX_CRASHES):
        await make.claimed(lease_us=EXPIRED)
        (back,) = await store.write(Reap(lease_owner="boot-2"))
    assert back.status is EventStatus.DEAD


async def test_the_death_of_the_hub_is_not_the_events_fault(store: Store, make: Any) -> None:
    await make.submitted()
    for _ in range(MAX_CRASHES + 1):
        (claimed,) = await make.claimed()
        record = make.record(claimed, ExecutionStatus.CRASHED, counts_as_crash=False)
        assert (await store.write(Finish(record))).event_status is EventStatus.QUEUED
    assert (await store.read(EventById(claimed.event_id, "local"))).crashes == 0


async def test_a_dead_boot_gives_back_what_it_held(store: Store, make: Any) -> None:
    mine = [await make.running(lease_owner="boot-0") for _ in range(3)]
    other = await make.running(lease_owner="boot-1")
    await store.write(Cancel(mine[2].event_id, "local"))
    leases = await store.read(LeasesOf("boot-0"))
    assert [one.event_id for one in leases] == [one.event_id for one in mine]
    back = await store.write(TakeBack("boot-0"))
    assert [(one.event_id, one.status) for one in back] == [
        (mine[0].event_id, EventStatus.QUEUED),
        (mine[1].event_id, EventStatus.QUEUED),
        (mine[2].event_id, EventStatus.CANCELLED),
    ]
    event = await store.read(EventById(mine[0].event_id, "local"))
    assert (event.crashes, event.fence) == (0, mine[0].fence + 1)
    execution = await store.read(ExecutionById(mine[0].execution_id, "local"))
    assert execution.status is ExecutionStatus.CRASHED
    assert await store.read(LeasesOf("boot-0")) == []
    assert (await store.read(EventById(other.event_id, "local"))).lease_owner == "boot-1"
    assert await store.write(TakeBack("boot-0")) == []


async def test_what_is_taken_back_keeps_its_place_in_line(store: Store, make: Any) -> None:
    """With a backlog, it would else run again only when all that came after it has run."""
    first = await make.running()
    later = [(await make.submitted()).id for _ in range(3)]
    await store.write(TakeBack("boot-1"))
    order = [(await make.claimed(limit=1, lease_owner="boot-2"))[0].event_id for _ in range(4)]
    assert order == [first.event_id, *later]

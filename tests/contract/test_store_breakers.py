"""Breakers in the store: one of many hubs moves them, and what waited for one is let go."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from holdfast.domain.breakers import (
    BreakerRules,
    BreakerStatus,
    CloseByHand,
    EndProbe,
    OpenByHand,
    Outcome,
    Postponed,
    Seen,
    TakeProbe,
    TooManyFailures,
)
from holdfast.domain.events import Event
from holdfast.domain.ids import MICROS
from holdfast.domain.status import EventStatus, ExecutionStatus
from holdfast.store import Store
from holdfast.store.commands import (
    Cancel,
    Finish,
    MoveBreaker,
    PausePipeline,
    ReleasePostponed,
    UnpausePipeline,
)
from holdfast.store.queries import AllBreakers, EventById, ExecutionById

B = BreakerStatus
RULES = BreakerRules(cooldown_s=0.000_001)


async def moved(store: Store, move: Any, name: str = "crm") -> Any:
    return await store.write(MoveBreaker(name, move))


async def event_of(store: Store, event_id: str) -> Event:
    return await store.read(EventById(event_id, "local"))


async def test_a_breaker_is_known_once_it_was_used(store: Store) -> None:
    assert (await store.read(AllBreakers())).breakers == {}
    done = await moved(store, Seen())
    assert (done.moved, done.breaker.status, done.breaker.version) == (False, B.CLOSED, 0)
    found = (await store.read(AllBreakers())).breakers
    assert found == {"crm": done.breaker}
    assert done.breaker.changed_at > 0


async def test_it_keeps_all_that_is_known_of_it(store: Store) -> None:
    done = await moved(store, OpenByHand(for_us=5 * MICROS, reason="наводнение \0"))
    assert done.moved
    found = (await store.read(AllBreakers())).breakers["crm"]
    assert found == replace(done.breaker, reason=found.reason)
    assert (found.status, found.by_hand, found.openings) == (B.OPEN, True, 1)
    assert found.reason is not None
    assert found.reason.startswith("наводнение")
    assert found.until == found.changed_at + 5 * MICROS


async def test_of_many_that_count_at_once_one_opens_it(store: Store) -> None:
    await moved(store, Seen())
    moves = [TooManyFailures(version=0, rules=RULES, reason=f"hub {n}") for n in range(20)]
    done = await asyncio.gather(*(moved(store, move) for move in moves))
    assert [one.moved for one in done].count(True) == 1
    assert {one.breaker.version for one in done} == {1}
    assert len({one.breaker.reason for one in done}) == 1, "all hear the same"


async def test_of_many_that_ask_at_once_one_probes(store: Store) -> None:
    await moved(store, TooManyFailures(version=0, rules=RULES, reason="500"))
    done = await asyncio.gather(*(moved(store, TakeProbe(probe=str(n))) for n in range(50)))
    won = [one for one in done if one.moved]
    assert len(won) == 1
    probe = won[0].breaker.probe
    assert {one.breaker.probe for one in done} == {probe}
    other = EndProbe(probe="other", outcome=Outcome.OK, rules=RULES)
    assert not (await moved(store, other)).moved
    assert (await moved(store, replace(other, probe=probe))).breaker.status is B.CLOSED


async def test_closing_what_nobody_used_makes_it_known_and_moves_nothing(store: Store) -> None:
    assert not (await moved(store, CloseByHand())).moved


# -- postponed events ------------------------------------------------------------------------------


async def postponed(store: Store, make: Any, breaker: str = "crm", *, in_us: int = 10**12) -> str:
    claimed = await make.running()
    error = {"code": "breaker_open", "message": "crm is open"}
    record = make.record(claimed, ExecutionStatus.FAILED)
    record = replace(
        record,
        execution=replace(record.execution, error=error, flags={"postponed": breaker}),
        postponed=Postponed(breaker=breaker, in_us=in_us),
    )
    finished = await store.write(Finish(record))
    assert (finished.outcome, finished.event_status) == ("applied", EventStatus.QUEUED)
    return claimed.event_id


async def test_a_postponed_event_waits_and_burns_no_delivery(store: Store, make: Any) -> None:
    event_id = await postponed(store, make)
    event = await event_of(store, event_id)
    assert (event.status, event.deliveries, event.crashes) == (EventStatus.QUEUED, 0, 0)
    assert event.postponed_for == "crm"
    assert event.available_at > event.received_at + 10**12 - 1
    assert event.last_error == {"code": "breaker_open", "message": "crm is open"}
    assert event.lease_owner is None
    assert event.execution_id is not None
    run = await store.read(ExecutionById(event.execution_id, "local"))
    assert (run.status, run.flags) == (ExecutionStatus.FAILED, {"postponed": "crm"})
    assert await make.claimed() == []
    assert (await store.read(AllBreakers())).waiting == {"crm": 1}


async def test_a_stored_postponement_changes_nothing_a_second_time(store: Store, make: Any) -> None:
    claimed = await make.running()
    record = replace(
        make.record(claimed, ExecutionStatus.FAILED),
        postponed=Postponed(breaker="crm", in_us=10**12),
    )
    for _ in range(3):
        await store.write(Finish(record))
    assert (await event_of(store, claimed.event_id)).deliveries == 0


async def test_what_is_let_go_runs_at_once_the_most_urgent_first(store: Store, make: Any) -> None:
    ids = [await postponed(store, make) for _ in range(3)]
    other = await postponed(store, make, "erp")
    assert await store.write(ReleasePostponed("crm", 2)) == 2
    claimed = await make.claimed()
    assert [one.event_id for one in claimed] == ids[:2]
    assert {one.delivery for one in claimed} == {1}, "as if it had never been tried"
    assert (await store.read(AllBreakers())).waiting == {"crm": 1, "erp": 1}
    assert (await event_of(store, ids[0])).postponed_for is None
    assert await store.write(ReleasePostponed("crm", 100)) == 1
    assert (await event_of(store, other)).postponed_for == "erp"


async def test_events_of_a_paused_pipeline_are_not_let_go(store: Store, make: Any) -> None:
    event_id = await postponed(store, make)
    await store.write(PausePipeline("triage", "local"))
    assert await store.write(ReleasePostponed("crm", 1)) == 0
    await store.write(UnpausePipeline("triage"))
    assert await store.write(ReleasePostponed("crm", 1)) == 1
    assert [one.event_id for one in await make.claimed()] == [event_id]


async def test_one_that_nobody_lets_go_runs_when_its_time_has_come(store: Store, make: Any) -> None:
    event_id = await postponed(store, make, in_us=0)
    (claimed,) = await make.claimed()
    assert claimed.event_id == event_id
    assert (await store.read(AllBreakers())).waiting == {}


async def test_a_cancelled_one_waits_for_nothing(store: Store, make: Any) -> None:
    event_id = await postponed(store, make)
    await store.write(Cancel(event_id, "local"))
    assert (await event_of(store, event_id)).postponed_for is None
    assert (await store.read(AllBreakers())).waiting == {}
    assert await store.write(ReleasePostponed("crm", 9)) == 0


async def test_one_that_somebody_cancels_meanwhile_is_cancelled(store: Store, make: Any) -> None:
    claimed = await make.running()
    await store.write(Cancel(claimed.event_id, "local"))
    record = replace(
        make.record(claimed, ExecutionStatus.FAILED), postponed=Postponed(breaker="crm", in_us=1)
    )
    assert (await store.write(Finish(record))).event_status is EventStatus.CANCELLED


async def test_a_success_is_never_postponed(store: Store, make: Any) -> None:
    claimed = await make.running()
    record = replace(make.record(claimed), postponed=Postponed(breaker="crm", in_us=1))
    assert (await store.write(Finish(record))).event_status is EventStatus.SUCCEEDED


@pytest.mark.parametrize("part", ["lease_owner", "fence"])
async def test_one_whose_lease_was_lost_postpones_nothing(
    store: Store, make: Any, part: str
) -> None:
    claimed = await make.running()
    lost = {"lease_owner": "boot-9"} if part == "lease_owner" else {"fence": claimed.fence - 1}
    record = replace(
        make.record(claimed, ExecutionStatus.FAILED, **lost),
        postponed=Postponed(breaker="crm", in_us=1),
    )
    finished = await store.write(Finish(record))
    assert (finished.outcome, finished.event_status) == ("superseded", EventStatus.RUNNING)
    assert (await event_of(store, claimed.event_id)).deliveries == 1

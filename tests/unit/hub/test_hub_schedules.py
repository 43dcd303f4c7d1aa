"""Schedules by a clock that the test turns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from holdfast.domain.events import LOCAL_OWNER
from holdfast.domain.schedules import Missed, NewSchedule, Schedule
from holdfast.errors import InvalidInput, UnknownPipeline
from holdfast.hub import dispatch, timers
from holdfast.operations import schedules as plans
from holdfast.store.commands import PutSchedule
from holdfast.store.queries import ListEvents

from .conftest import Clock, HubForTests, OpenHub

MINUTE = 60 * 1_000_000


@pytest.fixture(autouse=True)
def no_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "SWEEP_S", 3600.0)
    monkeypatch.setattr(timers, "SWEEP_S", 3600.0)


async def every_minute(hub: HubForTests, **fields: Any) -> Schedule:
    values: dict[str, Any] = {
        "owner_id": LOCAL_OWNER,
        "name": "often",
        "cron": "* * * * *",
        "timezone": "UTC",
        "target": "p",
        "data": {"text": "tick"},
    }
    return await plans.put_schedule(hub.kit, **(values | fields))


async def moved_on(hub: HubForTests, clock: Clock, us: int) -> Schedule:
    """Turn the clock and wait until the schedule has another time."""
    before = await plans.schedule(hub.kit, "often", LOCAL_OWNER)
    clock.us += us
    hub.hub.timers.ring()
    written = len(hub.store.written)

    def fired() -> bool:
        return any(type(one).__name__ == "Fire" for one in hub.store.written[written:])

    await hub.until(fired)
    after = await plans.schedule(hub.kit, "often", LOCAL_OWNER)
    assert after.next_at != before.next_at
    return after


async def test_it_sends_an_event_when_its_time_has_come(open_hub: OpenHub, clock: Clock) -> None:
    hub = await open_hub()
    made = await every_minute(hub, priority=3)
    assert made.next_at is not None
    for tick in range(3):
        schedule = await moved_on(hub, clock, MINUTE)
        assert schedule.last_at == made.next_at + tick * MINUTE
        assert schedule.last_event_id is not None
        worker, execution_id = await hub.running(schedule.last_event_id)
        worker.end(execution_id)
        event = await hub.ended(schedule.last_event_id)
        assert (event.data, event.source) == ({"text": "tick"}, "/schedules/often")
        assert (event.occurred_at, event.priority) == (schedule.last_at, 3)
    assert len(await hub.kit.store.read(ListEvents(owner_id=LOCAL_OWNER))) == 3


@pytest.mark.parametrize("missed", list(Missed))
async def test_times_nobody_was_there_for(open_hub: OpenHub, clock: Clock, missed: Missed) -> None:
    hub = await open_hub()
    made = await every_minute(hub, missed=missed)
    schedule = await moved_on(hub, clock, 90 * MINUTE)
    sent = await hub.kit.store.read(ListEvents(owner_id=LOCAL_OWNER))
    assert len(sent) == (missed is Missed.ONCE)
    assert schedule.last_missed_at == (made.next_at if missed is Missed.SKIP else None)
    assert schedule.next_at is not None
    assert clock.us < schedule.next_at <= clock.us + MINUTE


async def test_data_that_fits_no_more_is_told_and_stops_no_later_time(
    open_hub: OpenHub, clock: Clock
) -> None:
    hub = await open_hub()
    await every_minute(hub)
    unfit = NewSchedule(
        owner_id=LOCAL_OWNER,
        name="often",
        cron="* * * * *",
        timezone="UTC",
        target="p",
        data=b'{"before": "the schema changed"}',
        priority=None,
        missed=Missed.SKIP,
    )
    await hub.kit.store.write(PutSchedule(unfit))
    schedule = await moved_on(hub, clock, MINUTE)
    assert schedule.last_error is not None
    assert schedule.last_error["code"] == "invalid_input"
    await hub.kit.store.write(PutSchedule(replace(unfit, data=b"{}")))
    schedule = await moved_on(hub, clock, MINUTE)
    assert (schedule.last_error, schedule.last_event_id is None) == (None, False)


async def test_what_could_never_run_is_refused_at_the_door(open_hub: OpenHub) -> None:
    hub = await open_hub()
    with pytest.raises(UnknownPipeline):
        await every_minute(hub, target="nobody")
    for wrong in ({"data": {"texd": 1}}, {"cron": "often"}, {"timezone": "Nowhere"}):
        with pytest.raises(InvalidInput):
            await every_minute(hub, **wrong)
    assert await plans.schedules(hub.kit, LOCAL_OWNER) == []

"""Schedules fire once for each time, whoever looks at the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from holdfast.domain.ids import new_id, now_us
from holdfast.domain.schedules import Missed, NewSchedule, Schedule
from holdfast.errors import InvalidInput, NotFound
from holdfast.store import Store
from holdfast.store.commands import (
    DeleteSchedule,
    DueSchedules,
    EnableSchedule,
    Fire,
    PutSchedule,
    Submitted,
)
from holdfast.store.queries import EventById, ListSchedules, ScheduleByName

NEW = NewSchedule(
    owner_id="local",
    name="nightly",
    cron="30 2 * * *",
    timezone="Europe/Berlin",
    target="triage",
    data=b'{"n": 1}',
    priority=None,
    missed=Missed.SKIP,
)


async def put(store: Store, **fields: Any) -> Schedule:
    return await store.write(PutSchedule(replace(NEW, **fields)))


def firing(make: Any, schedule: Schedule, **fields: Any) -> Fire:
    due = schedule.next_at or 0
    values: dict[str, Any] = {
        "schedule_id": schedule.id,
        "due_at": due,
        "next_at": due + 1000,
        "event": make.event(idempotency_key=f"schedule {schedule.id} {due}"),
    }
    return Fire(**(values | fields))


async def test_a_schedule_is_made_replaced_listed_and_deleted(store: Store) -> None:
    made = await put(store)
    assert made.next_at is not None
    assert made.next_at > now_us()
    assert (made.enabled, made.data, made.missed) == (True, {"n": 1}, Missed.SKIP)
    other = await put(store, name="another", cron="0 0 1 1 *")
    again = await put(store, data=b'{"n": 2}', cron="0 0 1 1 *", missed=Missed.ONCE)
    assert (again.id, again.created_at) == (made.id, made.created_at)
    assert (again.data, again.missed, again.next_at) == (
        {"n": 2},
        Missed.ONCE,
        (await put(store, cron="0 0 1 1 *")).next_at,
    )
    assert [one.id for one in await store.read(ListSchedules("local"))] == [other.id, made.id]
    assert await store.read(ListSchedules("eve")) == []
    for command in (
        DeleteSchedule("nightly", "eve"),
        EnableSchedule("nightly", "eve", enabled=False),
    ):
        with pytest.raises(NotFound):
            await store.write(command)
    await store.write(DeleteSchedule("nightly", "local"))
    with pytest.raises(NotFound):
        await store.read(ScheduleByName("nightly", "local"))


async def test_nonsense_is_refused_and_spoils_nothing_beside_it(store: Store) -> None:
    results = await asyncio.gather(
        put(store),
        put(store, name="wrong", cron="never"),
        put(store, name="there", timezone="Mars/Olympus"),
        return_exceptions=True,
    )
    assert [type(one) for one in results] == [Schedule, InvalidInput, InvalidInput]
    assert len(await store.read(ListSchedules("local"))) == 1


async def test_a_paused_one_is_never_due_and_stays_paused_when_replaced(store: Store) -> None:
    await put(store)
    paused = await store.write(EnableSchedule("nightly", "local", enabled=False))
    assert (paused.enabled, paused.next_at) == (False, None)
    assert (await put(store, cron="* * * * *")).next_at is None
    due = await store.write(DueSchedules(("triage",)))
    assert (due.schedules, due.next_in_us) == ((), None)
    resumed = await store.write(EnableSchedule("nightly", "local", enabled=True))
    assert resumed.next_at is not None


async def test_only_loaded_pipelines_are_looked_at(store: Store) -> None:
    await put(store)
    due = await store.write(DueSchedules(("mail",)))
    assert (due.schedules, due.next_in_us) == ((), None)
    due = await store.write(DueSchedules(("mail", "triage")))
    assert due.schedules == ()
    assert due.next_in_us is not None
    assert due.next_in_us > 0


async def test_one_time_makes_one_event_whoever_fires_it(
    store: Store, make: Any, backend: str, reopen: Callable[[], Store]
) -> None:
    stores = [store] if backend == "sqlite" else [store, reopen()]
    made = await put(store)
    try:
        sent = await asyncio.gather(
            *(over.write(firing(make, made)) for over in stores for _ in range(8))
        )
    finally:
        for over in stores[1:]:
            await over.close()
    (only,) = [one for one in sent if one is not None]
    assert isinstance(only, Submitted)
    stored = await store.read(ScheduleByName("nightly", "local"))
    assert stored.last_event_id == only.id
    assert (stored.last_at, stored.next_at) == (made.next_at, (made.next_at or 0) + 1000)
    event = await store.read(EventById(only.id, "local"))
    assert event.idempotency_key == f"schedule {made.id} {made.next_at}"
    assert len(await make.claimed()) == 1


async def test_what_makes_no_event_says_why(store: Store, make: Any) -> None:
    made = await put(store)
    assert await store.write(firing(make, made, event=None)) is None
    missed = await store.read(ScheduleByName("nightly", "local"))
    assert (missed.last_missed_at, missed.last_at, missed.last_error) == (made.next_at, None, None)
    error = {"code": "invalid_input", "message": "no such field"}
    await store.write(firing(make, missed, event=None, error=error))
    failed = await store.read(ScheduleByName("nightly", "local"))
    assert failed.last_error == {**error, "at": missed.next_at}
    clash = make.event(idempotency_key="k", body_hash="h2")
    await make.submitted(idempotency_key="k")
    assert await store.write(firing(make, failed, event=clash)) is None
    failed = await store.read(ScheduleByName("nightly", "local"))
    assert failed.last_error is not None
    assert failed.last_error["code"] == "idempotency_conflict"
    assert isinstance(await store.write(firing(make, failed)), Submitted)
    assert (await store.read(ScheduleByName("nightly", "local"))).last_error is None


async def test_what_is_gone_or_paused_meanwhile_is_not_fired(store: Store, make: Any) -> None:
    made = await put(store)
    await store.write(EnableSchedule("nightly", "local", enabled=False))
    assert await store.write(firing(make, made)) is None
    await store.write(DeleteSchedule("nightly", "local"))
    assert await store.write(firing(make, made)) is None
    assert await store.write(firing(make, replace(made, id=new_id()))) is None
    assert await make.claimed() == []

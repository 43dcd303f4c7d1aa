"""Events that are delivered again, set aside, or never begun twice, on every database."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.domain.redelivery import Backoff, Redelivery
from holdfast.domain.status import MAX_CRASHES, EventStatus, ExecutionStatus
from holdfast.store import Store
from holdfast.store.commands import Cancel, Finish, Finished, Reap, TakeBack, Wake
from holdfast.store.queries import EventById

E, X = EventStatus, ExecutionStatus
AWAY = {"code": "step_failed", "message": "away", "error_class": "temporary"}
SECOND = 1_000_000
LATER = Redelivery(retries=2, backoff=Backoff(first=100, jitter=0, most=1000))
AT_ONCE = Redelivery(retries=2, backoff=Backoff(first=0))
ONCE = frozenset({"triage"})
EXPIRED = -1000


async def failed(
    store: Store, make: Any, claimed: Any, says: Redelivery, error: dict[str, Any] = AWAY
) -> Finished:
    run = make.execution(claimed, status=X.FAILED, error=error)
    return await store.write(Finish(make.record(claimed, execution=run, redelivery=says)))


async def test_a_temporary_error_is_delivered_again_after_its_pause(
    store: Store, make: Any
) -> None:
    claimed = await make.running()
    done = await failed(store, make, claimed, LATER)
    assert (done.event_status, done.pause_us) == (E.QUEUED, 100 * SECOND)
    event = await store.read(EventById(claimed.event_id, "local"))
    assert (event.errors, event.crashes, event.deliveries) == (1, 0, 1)
    assert event.last_error == AWAY
    assert event.available_at >= claimed.started_at + 100 * SECOND
    assert event.finished_at is None
    assert await make.claimed() == [], "not before its time"
    woken = await store.write(Wake(versions={}))
    assert woken.next_in_us is not None
    assert 0 < woken.next_in_us <= 100 * SECOND
    assert not woken.ready


async def test_what_is_due_is_told(store: Store, make: Any) -> None:
    claimed = await make.running()
    done = await failed(store, make, claimed, AT_ONCE)
    assert (done.event_status, done.pause_us) == (E.QUEUED, 0)
    await make.submitted()
    woken = await store.write(Wake(versions={}))
    assert (woken.next_in_us, woken.ready) == (None, True)
    again, _ = sorted(await make.claimed(), key=lambda one: -one.delivery)
    assert (again.event_id, again.delivery) == (claimed.event_id, 2)
    assert again.execution_id != claimed.execution_id
    assert not (await store.write(Wake(versions={}))).ready


async def test_temporary_errors_that_use_up_the_retries_make_a_dead_letter(
    store: Store, make: Any
) -> None:
    submitted = await make.submitted()
    for becomes in (E.QUEUED, E.QUEUED, E.DEAD):
        (claimed,) = await make.claimed()
        assert (await failed(store, make, claimed, AT_ONCE)).event_status is becomes
    event = await store.read(EventById(submitted.id, "local"))
    assert (event.errors, event.crashes) == (3, 0)
    assert event.finished_at is not None


async def test_crashes_and_errors_are_counted_apart(store: Store, make: Any) -> None:
    submitted = await make.submitted()
    for _ in range(MAX_CRASHES - 1):
        (claimed,) = await make.claimed()
        await store.write(Finish(make.record(claimed, X.CRASHED, redelivery=AT_ONCE)))
        (claimed,) = await make.claimed()
        assert (await failed(store, make, claimed, AT_ONCE)).event_status is E.QUEUED
    event = await store.read(EventById(submitted.id, "local"))
    assert (event.errors, event.crashes, event.deliveries) == (2, 2, 4)


@pytest.mark.parametrize("error_class", ["permanent", "budget", "unknown", None])
async def test_what_is_not_temporary_fails_at_once(
    store: Store, make: Any, error_class: str | None
) -> None:
    claimed = await make.running()
    error = AWAY | {"error_class": error_class}
    assert (await failed(store, make, claimed, AT_ONCE, error)).event_status is E.FAILED
    assert (await store.read(EventById(claimed.event_id, "local"))).errors == 0


async def test_a_cancel_asked_for_meanwhile_ends_it(store: Store, make: Any) -> None:
    claimed = await make.running()
    await store.write(Cancel(claimed.event_id, "local"))
    assert (await failed(store, make, claimed, AT_ONCE)).event_status is E.CANCELLED


async def test_an_event_that_waits_for_its_next_delivery_can_be_cancelled(
    store: Store, make: Any
) -> None:
    claimed = await make.running()
    await failed(store, make, claimed, LATER)
    done = await store.write(Cancel(claimed.event_id, "local"))
    assert done.status is E.CANCELLED
    assert (await store.write(Wake(versions={}))).next_in_us is None


async def once(make: Any, **fields: Any) -> Any:
    await make.submitted()
    (claimed,) = await make.claimed(once=ONCE, **fields)
    return claimed


async def test_what_must_not_begin_twice_fails_when_its_runner_dies(
    store: Store, make: Any
) -> None:
    claimed = await once(make)
    error = {"code": "runner_lost", "message": "the runner died"}
    run = make.execution(claimed, status=X.CRASHED, error=error)
    done = await store.write(Finish(make.record(claimed, execution=run)))
    assert done.event_status is E.FAILED
    event = await store.read(EventById(claimed.event_id, "local"))
    assert event.last_error is not None
    assert event.last_error["code"] == "not_redelivered"
    assert event.last_error["cause"] == "runner_lost"
    assert event.finished_at is not None
    assert await make.claimed() == []


async def test_what_must_not_begin_twice_fails_on_a_temporary_error(
    store: Store, make: Any
) -> None:
    assert (await failed(store, make, await once(make), LATER)).event_status is E.FAILED


@pytest.mark.parametrize("counts", [True, False])
async def test_what_certainly_never_began_is_given_back(
    store: Store, make: Any, counts: bool
) -> None:
    claimed = await once(make)
    record = make.record(claimed, X.CRASHED, counts_as_crash=counts, began=False)
    assert (await store.write(Finish(record))).event_status is E.QUEUED
    assert len(await make.claimed(once=ONCE)) == 1


async def test_what_must_not_begin_twice_fails_when_its_hub_dies(store: Store, make: Any) -> None:
    reaped = await once(make, lease_us=EXPIRED)
    (back,) = await store.write(Reap(lease_owner="boot-2"))
    assert (back.event_id, back.status) == (reaped.event_id, E.FAILED)
    taken = await once(make)
    (back,) = await store.write(TakeBack("boot-1"))
    assert (back.event_id, back.status) == (taken.event_id, E.FAILED)
    for claimed, cause in ((reaped, "stopped renewing"), (taken, "died")):
        event = await store.read(EventById(claimed.event_id, "local"))
        assert event.last_error is not None
        assert event.last_error["code"] == "not_redelivered"
        assert cause in event.last_error["message"]
        assert event.finished_at is not None

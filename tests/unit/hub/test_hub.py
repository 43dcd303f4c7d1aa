"""The hub in the instants that hurt: claims, cancels, leases, endings, with the store at fault."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from holdfast.bus import Notice
from holdfast.bus.base import ENDED
from holdfast.domain.changes import Finished, write_change
from holdfast.domain.events import LOCAL_OWNER
from holdfast.domain.status import EventStatus, ExecutionStatus, StepStatus
from holdfast.errors import IllegalMove
from holdfast.hub import dispatch, ending, pool
from holdfast.hub.dispatch import LEASE_S
from holdfast.hub.worker import WorkerState
from holdfast.operations.cancel import cancel_event, cancel_execution
from holdfast.operations.kit import Kit
from holdfast.store.commands import Cancel, Claim, Finish, Reap

from .conftest import Clock, FakeWorker, HubForTests, OpenHub

E, X = EventStatus, ExecutionStatus


def not_yet_ready(worker: FakeWorker) -> None:
    worker.becomes_ready = False


def solo_not_ready(worker: FakeWorker) -> None:
    """Told apart by name: whether a worker is to run alone is not yet known when it is made."""
    worker.becomes_ready = worker.name in ("runner-1", "runner-2", "runner-3")


def stubborn(worker: FakeWorker) -> None:
    worker.obeys = False


async def crashed_before(hub: HubForTests, times: int) -> str:
    """An event whose worker has died so often; it is queued or on its way again."""
    event_id = await hub.submit()
    for _ in range(times):
        worker, _ = await hub.running(event_id)
        worker.die()
    return event_id


# -- the plain way ---------------------------------------------------------------------------------


async def test_an_event_is_claimed_run_stored_and_announced(open_hub: OpenHub) -> None:
    hub = await open_hub()
    event_id = await hub.submit(text="x")
    worker, execution_id = await hub.running(event_id)
    assert hub.kit.journal.get(execution_id) is not None
    worker.end(execution_id)
    event = await hub.ended(event_id)
    assert event.status is E.SUCCEEDED
    assert hub.kit.journal.get(execution_id) is None
    ended = [notice for notice in hub.notices if notice.topic == ENDED]
    assert ended == [
        Notice(ENDED, event_id=event_id, execution_id=execution_id, status=E.SUCCEEDED)
    ]


async def test_more_events_than_slots_wait_and_are_all_run(open_hub: OpenHub) -> None:
    hub = await open_hub(runners=2)
    ids = [await hub.submit(text=str(n)) for n in range(30)]
    done: set[str] = set()
    while len(done) < 30:
        worker = await hub.until(lambda: next((one for one in hub.hired if one.in_flight), None))
        assert all(len(one.in_flight) <= one.slots for one in hub.hired)
        execution_id = next(iter(worker.in_flight))
        done.add(execution_id)
        worker.end(execution_id)
    for event_id in ids:
        assert (await hub.ended(event_id)).deliveries == 1


async def test_free_slots_are_used_even_when_the_others_are_held_for_long(
    open_hub: OpenHub,
) -> None:
    """A quarter of the slots is worth waiting for a moment, not for hours."""

    def many(worker: FakeWorker) -> None:
        worker.slots = 40

    hub = await open_hub(prepare=many)
    held = [await hub.submit() for _ in range(35)]
    for event_id in held:
        await hub.running(event_id)
    late = await hub.submit()
    worker, execution_id = await hub.running(late)
    worker.end(execution_id)
    assert (await hub.ended(late)).status is E.SUCCEEDED


async def test_a_runner_that_ends_without_an_outcome_has_crashed(open_hub: OpenHub) -> None:
    hub = await open_hub()
    event_id = await hub.submit()
    worker, execution_id = await hub.running(event_id)
    worker.in_flight.discard(execution_id)
    worker.employer.on_ended(worker, execution_id)
    worker, again = await hub.running(event_id)
    worker.end(again)
    assert (await hub.ended(event_id)).crashes == 1
    crashed, _ = await hub.executions(event_id)
    assert crashed.error == {"code": "runner_lost", "message": "the runner sent no outcome"}


# -- crashes and the last chance -------------------------------------------------------------------


async def test_the_last_chance_runs_alone(open_hub: OpenHub) -> None:
    hub = await open_hub()
    event_id = await crashed_before(hub, 2)
    worker, execution_id = await hub.running(event_id)
    assert worker.solo
    other, beside = await hub.running(await hub.submit())
    assert other is not worker
    worker.end(execution_id)
    event = await hub.ended(event_id)
    assert (event.status, event.crashes, event.deliveries) == (E.SUCCEEDED, 2, 3)
    assert worker.state is WorkerState.GONE, "it leaves after its one run"
    other.end(beside)


async def test_a_third_crash_makes_a_dead_letter(open_hub: OpenHub) -> None:
    hub = await open_hub()
    event = await hub.ended(await crashed_before(hub, 3))
    assert (event.status, event.crashes) == (E.DEAD, 3)
    assert {one.status for one in await hub.executions(event.id)} == {X.CRASHED}


async def test_several_last_chances_take_turns(
    open_hub: OpenHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "MAX_SOLO", 2)
    hub = await open_hub()
    ids = [await hub.submit() for _ in range(4)]
    for _ in range(2):
        for event_id in ids:
            await hub.running(event_id)
        hub.hub.crew.workers[0].die()  # type: ignore[attr-defined]
    for _ in range(4):
        worker = await hub.until(
            lambda: next((one for one in hub.hired if one.solo and one.in_flight), None)
        )
        assert sum(1 for one in hub.hired if one.solo and one.in_flight) <= 2
        worker.end(next(iter(worker.in_flight)))
    for event_id in ids:
        assert (await hub.ended(event_id)).status is E.SUCCEEDED


# -- cancel, in every instant ----------------------------------------------------------------------


async def test_cancel_while_queued(open_hub: OpenHub) -> None:
    hub = await open_hub(prepare=not_yet_ready)
    event_id = await hub.submit()
    told = await cancel_event(hub.kit, event_id, LOCAL_OWNER)
    assert told.status is E.CANCELLED
    hub.worker.be_ready()
    other = await hub.submit()
    worker, execution_id = await hub.running(other)
    worker.end(execution_id)
    await hub.ended(other)
    assert [spec.event_id for spec in worker.specs] == [other], "it was never run"
    assert (await hub.ended(event_id)).deliveries == 0


async def test_cancel_while_the_claim_is_not_yet_heard_of(open_hub: OpenHub) -> None:
    hub = await open_hub()
    reached = hub.store.hold("Claim")
    event_id = await hub.submit()
    await reached.wait()
    told = await cancel_event(hub.kit, event_id, LOCAL_OWNER)
    assert told.status is E.RUNNING
    assert hub.worker.specs == []
    hub.store.let_go("Claim")
    event = await hub.ended(event_id)
    assert event.status is E.CANCELLED
    assert hub.worker.cancelled == [event.execution_id]


async def test_cancel_of_a_last_chance_whose_claim_is_not_yet_heard_of(
    open_hub: OpenHub,
) -> None:
    hub = await open_hub()
    hub._prepare = solo_not_ready  # type: ignore[method-assign]
    event_id = await crashed_before(hub, 1)
    worker, _ = await hub.running(event_id)
    reached = hub.store.hold("Claim")
    worker.die()
    await reached.wait()
    told = await cancel_event(hub.kit, event_id, LOCAL_OWNER)
    assert told.status is E.RUNNING
    hub.store.let_go("Claim")
    assert (await hub.ended(event_id)).status is E.CANCELLED
    assert sum(len(one.specs) for one in hub.hired) == 2, "it was not run a third time"


async def test_cancel_while_waiting_for_a_worker_of_its_own(open_hub: OpenHub) -> None:
    hub = await open_hub()
    hub._prepare = solo_not_ready  # type: ignore[method-assign]
    event_id = await crashed_before(hub, 2)
    extra = await hub.until(lambda: next((one for one in hub.hired if one.solo), None))
    await hub.until(lambda: hub.hub._dispatcher._suspects)
    await cancel_event(hub.kit, event_id, LOCAL_OWNER)
    assert (await hub.ended(event_id)).status is E.CANCELLED
    extra.be_ready()
    await hub.until(lambda: extra.state is WorkerState.GONE)
    assert extra.specs == [], "whom it was hired for was cancelled"


async def test_cancel_while_running(open_hub: OpenHub) -> None:
    hub = await open_hub()
    event_id = await hub.submit()
    worker, execution_id = await hub.running(event_id)
    await cancel_execution(hub.kit, execution_id, LOCAL_OWNER)
    assert (await hub.ended(event_id)).status is E.CANCELLED
    assert worker.cancelled == [execution_id]


async def test_cancel_when_it_has_just_finished_and_the_record_is_on_its_way(
    open_hub: OpenHub,
) -> None:
    hub = await open_hub(prepare=stubborn)
    event_id = await hub.submit()
    worker, execution_id = await hub.running(event_id)
    reached = hub.store.hold("Finish")
    worker.end(execution_id)
    await reached.wait()
    with pytest.raises(IllegalMove):
        await cancel_event(hub.kit, event_id, LOCAL_OWNER)
    hub.store.let_go("Finish")
    assert (await hub.ended(event_id)).status is E.SUCCEEDED


async def test_cancel_that_comes_between_the_end_and_its_record_is_too_late(
    open_hub: OpenHub,
) -> None:
    hub = await open_hub(prepare=stubborn)
    event_id = await hub.submit()
    worker, execution_id = await hub.running(event_id)
    hub.store.fail("Finish", 10**6)
    worker.end(execution_id)
    await cancel_event(hub.kit, event_id, LOCAL_OWNER)
    hub.store.plans.clear()
    event = await hub.ended(event_id)
    assert event.status is E.SUCCEEDED, "what it did is done"


async def test_a_cancel_whose_notice_was_lost_is_seen_by_the_next_beat(open_hub: OpenHub) -> None:
    hub = await open_hub()
    event_id = await hub.submit()
    worker, execution_id = await hub.running(event_id)
    await hub.store.write(Cancel(event_id=event_id, owner_id=LOCAL_OWNER))
    assert worker.cancelled == []
    await hub.hub._leases.beat()
    assert worker.cancelled == [execution_id]
    assert (await hub.ended(event_id)).status is E.CANCELLED


# -- leases ----------------------------------------------------------------------------------------


async def test_a_beat_keeps_the_lease(open_hub: OpenHub, clock: Clock) -> None:
    hub = await open_hub()
    event_id = await hub.submit()
    worker, execution_id = await hub.running(event_id)
    first = (await hub.event(event_id)).lease_until
    assert first is not None
    clock.us += int(LEASE_S / 3 * 1_000_000)
    await hub.hub._leases.beat()
    second = (await hub.event(event_id)).lease_until
    assert second is not None
    assert second - first >= int(LEASE_S / 3 * 1_000_000)
    worker.end(execution_id)
    await hub.ended(event_id)


async def test_a_lost_lease_stops_the_run_and_its_record_is_superseded(
    open_hub: OpenHub, clock: Clock
) -> None:
    hub = await open_hub()
    event_id = await hub.submit()
    worker, execution_id = await hub.running(event_id)
    clock.us += int(2 * LEASE_S * 1_000_000)
    # Another hub finds the lease run out and runs the event itself.
    (given_back,) = await hub.store.store.write(Reap(lease_owner="another hub"))
    assert given_back.event_id == event_id
    (claimed,) = await hub.store.store.write(
        Claim(limit=1, lease_owner="another hub", lease_us=10**9, versions={"p": ("1", "c")})
    )
    await hub.hub._leases.beat()
    assert worker.cancelled == [execution_id]
    await hub.until(lambda: hub.kit.journal.get(execution_id) is None)
    event = await hub.event(event_id)
    assert (event.status, event.execution_id) == (E.RUNNING, claimed.execution_id)
    old = next(one for one in await hub.executions(event_id) if one.id == execution_id)
    assert old.status is X.SUPERSEDED
    assert hub.kit.metrics.get("holdfast_superseded_total", pipeline="p") == 1
    assert not [notice for notice in hub.notices if notice.topic == ENDED]


async def test_leases_of_hubs_that_are_not_heard_of_are_taken(
    open_hub: OpenHub, clock: Clock
) -> None:
    hub = await open_hub(prepare=not_yet_ready)
    event_id = await hub.submit()
    await hub.store.store.write(
        Claim(limit=1, lease_owner="a dead hub", lease_us=1000, versions={"p": ("1", "c")})
    )
    clock.us += 10_000
    hub.worker.be_ready()
    await hub.hub._leases.beat()
    worker, execution_id = await hub.running(event_id)
    worker.end(execution_id)
    event = await hub.ended(event_id)
    assert (event.status, event.crashes, event.deliveries) == (E.SUCCEEDED, 1, 2)


async def test_a_lease_that_runs_out_between_two_beats_does_not_wait_for_the_next(
    open_hub: OpenHub, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    from holdfast.hub import leases

    monkeypatch.setattr(leases, "REAP_S", 0.001)
    hub = await open_hub(prepare=not_yet_ready)
    await hub.until(lambda: any(isinstance(one, Reap) for one in hub.store.written))  # the beat
    event_id = await hub.submit()
    await hub.store.store.write(
        Claim(limit=1, lease_owner="a dead hub", lease_us=1000, versions={"p": ("1", "c")})
    )
    clock.us += 10_000
    hub.worker.be_ready()
    worker, execution_id = await hub.running(event_id)
    worker.end(execution_id)
    await hub.ended(event_id)


async def test_beats_go_on_while_the_store_is_away(
    open_hub: OpenHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from holdfast.hub import leases

    monkeypatch.setattr(leases, "BEAT_S", 0.001)
    hub = await open_hub(start=False)
    hub.store.fail("Reap", 3)
    await hub.hub.start()
    await hub.until(lambda: any(isinstance(one, Reap) for one in hub.store.written))
    assert hub.store.plans["Reap"] == []
    await hub.hub.close()


# -- a store that is away --------------------------------------------------------------------------


@pytest.mark.parametrize("after_commit", [False, True], ids=["not stored", "stored, not told"])
async def test_an_ending_is_stored_once_and_told_once_though_the_store_was_away(
    open_hub: OpenHub, after_commit: bool
) -> None:
    hub = await open_hub()
    event_id = await hub.submit()
    worker, execution_id = await hub.running(event_id)
    hub.store.fail("Finish", 4, after_commit=after_commit)
    worker.end(execution_id)
    event = await hub.ended(event_id)
    assert event.status is E.SUCCEEDED
    assert len(await hub.executions(event_id)) == 1
    await hub.until(lambda: hub.kit.journal.get(execution_id) is None)
    assert len([notice for notice in hub.notices if notice.topic == ENDED]) == 1
    assert hub.kit.metrics.get("holdfast_executions_total", pipeline="p", status="succeeded") == 1


async def test_claims_go_on_after_the_store_was_away(open_hub: OpenHub) -> None:
    hub = await open_hub(start=False)
    hub.store.fail("Claim", 3)
    event_id = await hub.submit()
    await hub.hub.start()
    worker, execution_id = await hub.running(event_id)
    worker.end(execution_id)
    assert (await hub.ended(event_id)).deliveries == 1
    await hub.hub.close()


async def test_a_claim_that_was_stored_but_not_told_does_not_lose_its_events(
    open_hub: OpenHub,
) -> None:
    """They are leased to this very hub, which no other hub and no reaper would touch."""
    hub = await open_hub(start=False)
    hub.store.fail("Claim", 1, after_commit=True)
    ids = [await hub.submit(text=str(n)) for n in range(3)]
    await hub.hub.start()
    for event_id in ids:
        worker, execution_id = await hub.running(event_id)
        worker.end(execution_id)
        event = await hub.ended(event_id)
        assert (event.status, event.deliveries, event.crashes) == (E.SUCCEEDED, 2, 0)
        lost, _ = await hub.executions(event_id)
        assert lost.status is X.CRASHED
        assert lost.error is not None
        assert lost.error["message"] == "it was claimed and not begun"
    await hub.hub.close()


# -- stopping --------------------------------------------------------------------------------------


async def test_closing_hands_back_what_does_not_end_in_time(open_hub: OpenHub) -> None:
    hub = await open_hub(prepare=stubborn)
    event_id = await hub.submit()
    await hub.running(event_id)
    await hub.hub.close()
    event = await hub.event(event_id)
    assert (event.status, event.deliveries, event.crashes) == (E.QUEUED, 1, 0)
    (crashed,) = await hub.executions(event_id)
    assert crashed.status is X.CRASHED
    assert hub.kit.journal.all() == []


async def test_closing_hands_back_what_no_worker_ever_had(open_hub: OpenHub) -> None:
    hub = await open_hub()
    hub._prepare = solo_not_ready  # type: ignore[method-assign]
    event_id = await crashed_before(hub, 2)
    await hub.until(lambda: hub.hub._dispatcher._suspects)
    await hub.hub.close()
    event = await hub.event(event_id)
    assert (event.status, event.crashes) == (E.QUEUED, 2)


async def test_a_fault_of_ours_does_not_end_the_claiming(
    open_hub: OpenHub, monkeypatch: pytest.MonkeyPatch, logs: list[dict[str, Any]]
) -> None:
    monkeypatch.setattr(dispatch, "RETRY_MOST_S", 0.001)
    hub = await open_hub()
    fresh = hub.hub._prompts.refresh
    faults = [RuntimeError("a fault of ours")]

    async def refresh() -> None:
        if faults:
            raise faults.pop()
        await fresh()

    monkeypatch.setattr(hub.hub._prompts, "refresh", refresh)
    event_id = await hub.submit()
    worker, execution_id = await hub.running(event_id)
    worker.end(execution_id)
    assert (await hub.ended(event_id)).status is E.SUCCEEDED
    assert [one["round"] for one in logs if one["event"] == "hub.fault"] == ["dispatcher"]


async def claimed_while_closing(hub: HubForTests, submit: Awaitable[str]) -> asyncio.Task[None]:
    """The hub's closing, after a claim came back that was under way when it began."""
    reached = hub.store.hold("Claim")
    await submit
    await reached.wait()
    closing = asyncio.create_task(hub.hub.close())
    await hub.until(lambda: hub.hub._dispatcher._closing)
    hub.store.let_go("Claim")
    return closing


async def test_closing_lets_run_what_a_claim_under_way_brings(open_hub: OpenHub) -> None:
    hub = await open_hub()
    closing = await claimed_while_closing(hub, hub.submit())
    await hub.until(lambda: hub.worker.specs)
    hub.worker.end(hub.worker.specs[0].execution_id)
    await asyncio.wait_for(closing, 10)
    event = await hub.event(hub.worker.specs[0].event_id)
    assert event.status is E.SUCCEEDED
    assert len(await hub.executions(event.id)) == 1, "nobody ran it again"


async def test_closing_hands_back_what_would_need_a_worker_of_its_own(open_hub: OpenHub) -> None:
    hub = await open_hub(runners=2)
    event_id = await crashed_before(hub, 1)
    worker, _ = await hub.running(event_id)

    async def crash_again() -> str:
        worker.die()
        return event_id

    await asyncio.wait_for(await claimed_while_closing(hub, crash_again()), 10)
    event = await hub.event(event_id)
    assert (event.status, event.crashes) == (E.QUEUED, 2)
    assert sum(len(one.specs) for one in hub.hired) == 2, "nobody was put at risk"


async def test_closing_does_not_wait_for_a_store_that_stays_away(
    open_hub: OpenHub, kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "DRAIN_S", 0.1)
    hub = await open_hub()
    event_id = await hub.submit()
    worker, execution_id = await hub.running(event_id)
    hub.store.fail("Finish", 10**6)
    worker.end(execution_id)
    async with asyncio.timeout(5):
        await hub.hub.close()
    assert kit.journal.get(execution_id) is not None, "its record waits in the journal"
    hub.store.plans.clear()
    assert (await hub.event(event_id)).status is E.RUNNING


async def test_steps_of_a_run_that_crashed_are_shown_as_failed(open_hub: OpenHub) -> None:
    hub = await open_hub()
    event_id = await hub.submit()
    worker, execution_id = await hub.running(event_id)
    worker.die("the runner's process died")
    worker, again = await hub.running(event_id)
    worker.end(again)
    await hub.ended(event_id)
    from holdfast.operations import read

    whole = await read.execution(hub.kit, execution_id, LOCAL_OWNER)
    assert [step.status for step in whole.steps] == [StepStatus.FAILED]
    assert whole.steps[0].error == {
        "code": "runner_lost",
        "message": "the runner's process died",
    }


async def test_changes_of_nobody_and_after_the_end_hurt_nobody(open_hub: OpenHub) -> None:
    hub = await open_hub()
    event_id = await hub.submit()
    worker, execution_id = await hub.running(event_id)
    raw = write_change(Finished(status="succeeded", at=1))
    worker.employer.on_change(worker, "nobody", raw)
    worker.employer.on_change(worker, execution_id, b"garbage")
    worker.employer.on_tokens("nobody", 1, "text")
    worker.employer.on_ended(worker, "nobody")
    worker.end(execution_id)
    worker.employer.on_change(worker, execution_id, raw)
    assert (await hub.ended(event_id)).status is E.SUCCEEDED
    assert len([one for one in hub.store.written if isinstance(one, Finish)]) == 1


async def test_what_a_step_asks_for_reaches_the_operations(open_hub: OpenHub) -> None:
    from holdfast.errors import PortError, UnknownPipeline

    hub = await open_hub()
    event_id = await hub.submit()
    worker, execution_id = await hub.running(event_id)
    args: dict[str, Any] = {"type": "q", "data": {"text": "x"}, "idempotency_key": "k"}
    first = await worker.employer.ask(execution_id, "events.submit", args)
    assert await worker.employer.ask(execution_id, "events.submit", args) == first
    child = await hub.event(first)
    assert (child.target, child.source) == ("q", f"/executions/{execution_id}")
    with pytest.raises(UnknownPipeline):
        await worker.employer.ask(execution_id, "events.submit", {**args, "type": "nobody"})
    with pytest.raises(PortError, match="not under way"):
        await worker.employer.ask("nobody", "events.submit", args)
    with pytest.raises(PortError, match="no port"):
        await worker.employer.ask(execution_id, "bank.transfer", args)

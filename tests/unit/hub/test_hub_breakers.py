"""Breakers in the hub: what is counted, who is told, and what the database's absence changes."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.bus import Notice
from holdfast.bus.base import BREAKER
from holdfast.domain.breakers import (
    PROBE_US,
    Breaker,
    BreakerRules,
    BreakerStatus,
    CloseByHand,
    OpenByHand,
    TakeProbe,
)
from holdfast.domain.changes import Finished
from holdfast.domain.status import EventStatus, ExecutionStatus
from holdfast.errors import StoreError
from holdfast.hub import breakers as room
from holdfast.operations.breakers import close_breaker, open_breaker
from holdfast.store.commands import MoveBreaker
from holdfast.store.queries import AllBreakers, ExecutionById

from .conftest import Clock, FakeWorker, HubForTests, OpenHub

B, X = BreakerStatus, ExecutionStatus


@pytest.fixture(autouse=True)
def no_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "SWEEP_S", 3600.0)


def told(hub: HubForTests, outcome: str = "temporary", *, generation: int = 0, ok: int = 0) -> None:
    """A runner tells of a call."""
    hub.worker.employer.on_outcome(
        {
            "breaker": "crm",
            "generation": generation,
            "ok": ok,
            "outcome": outcome,
            "reason": "it said 500",
        }
    )


def status(hub: HubForTests) -> str | None:
    """How the worker knows it stands."""
    return hub.worker.learned[-1]["status"] if hub.worker.learned else None


async def stored(hub: HubForTests) -> Breaker:
    return (await hub.store.store.read(AllBreakers())).breakers["crm"]


async def opened(hub: HubForTests) -> int:
    """Let it open; the generation since."""
    for _ in range(5):
        told(hub)
    assert status(hub) == "open", "at once, whatever the database does"
    await hub.until(lambda: not hub.hub.breakers._tasks)
    return hub.worker.learned[-1]["generation"]


async def cooled_down(hub: HubForTests) -> int:
    await open_breaker(hub.kit, "crm", seconds=0)
    await hub.until(lambda: hub.worker.learned[-1]["until"] and hub.store.statements)
    return hub.worker.learned[-1]["generation"]


async def postponed(hub: HubForTests, breaker: str = "crm") -> str:
    """Run an event that meets the open breaker."""
    event_id = await hub.submit()
    await meets_open_breaker(hub, event_id, breaker)
    assert (await hub.event(event_id)).postponed_for == breaker
    return event_id


async def meets_open_breaker(
    hub: HubForTests, event_id: str, breaker: str, *, by_hub: bool = False
) -> None:
    worker, execution_id = await hub.running(event_id)
    worker.tell(
        execution_id,
        Finished(
            status=X.FAILED,
            at=2_000_000_000_000_000,
            error={"code": "breaker_open", "message": f"{breaker} is open"},
            postponed={"breaker": breaker, "in_us": 0, "by_hub": by_hub},
        ),
    )
    worker.in_flight.discard(execution_id)
    worker.employer.on_ended(worker, execution_id)
    await hub.until(lambda: hub.kit.journal.get(execution_id) is None)


async def test_it_opens_for_all_workers_and_is_stored(open_hub: OpenHub) -> None:
    hub = await open_hub(runners=2)
    await opened(hub)
    assert [one.learned[-1]["status"] for one in hub.hired] == ["open", "open"]
    found = await stored(hub)
    assert (found.status, found.openings, found.reason) == (B.OPEN, 1, "it said 500")
    metrics = hub.kit.metrics
    assert metrics.get("holdfast_breaker_open", breaker="crm") == 1
    assert metrics.get("holdfast_breaker_openings_total", breaker="crm") == 1


async def test_successes_told_together_keep_it_closed(open_hub: OpenHub) -> None:
    hub = await open_hub()
    told(hub, "none", ok=100)
    for _ in range(50):
        told(hub)
    assert status(hub) is None


async def test_calls_begun_before_it_was_moved_change_nothing(open_hub: OpenHub) -> None:
    """A hundred calls in flight when it opened must not open it again when it has closed."""
    hub = await open_hub()
    generation = await opened(hub)
    for _ in range(20):
        told(hub)
    await close_breaker(hub.kit, "crm")
    await hub.until(lambda: status(hub) == "closed")
    for _ in range(20):
        told(hub, generation=generation)
        told(hub, generation=0)
    assert status(hub) == "closed"
    now = hub.worker.learned[-1]["generation"]
    for _ in range(5):
        told(hub, generation=now)
    assert status(hub) == "open"


async def test_it_opens_though_the_database_is_away_and_is_stored_later(open_hub: OpenHub) -> None:
    hub = await open_hub()
    told(hub, "none", ok=1)
    await hub.until(lambda: not hub.hub.breakers._tasks)
    hub.store.fail("MoveBreaker", 7)
    await opened(hub)
    assert hub.store.plans["MoveBreaker"] == []
    assert (await stored(hub)).status is B.OPEN


async def test_opened_here_and_elsewhere_at_once_it_is_opened_once(open_hub: OpenHub) -> None:
    hub = await open_hub()
    told(hub, "none", ok=1)
    await hub.until(lambda: not hub.hub.breakers._tasks)
    await hub.store.store.write(MoveBreaker("crm", OpenByHand(reason="elsewhere")))
    await opened(hub)
    found = await stored(hub)
    assert (found.version, found.reason) == (1, "elsewhere")
    assert hub.worker.learned[-1]["until"] is None, "what is stored counts"


async def test_what_another_hub_did_is_heard_by_notice_and_by_sweep(
    open_hub: OpenHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = await open_hub()
    await hub.store.store.write(MoveBreaker("crm", OpenByHand()))
    assert status(hub) is None
    hub.kit.bus.publish(Notice(BREAKER))
    await hub.until(lambda: status(hub) == "open")
    await hub.store.store.write(MoveBreaker("crm", CloseByHand()))
    await hub.hub.breakers.look()
    assert status(hub) == "closed"


async def test_a_worker_that_comes_later_is_told(open_hub: OpenHub) -> None:
    hub = await open_hub()
    await opened(hub)
    hub.worker.die()
    later = await hub.until(lambda: hub.hired[1] if len(hub.hired) > 1 else None)
    await hub.until(lambda: later.learned)
    assert [one["status"] for one in later.learned] == ["open"]


async def asks(hub: HubForTests) -> tuple[FakeWorker, str, Any]:
    """A running call asks for the probe; its worker, its execution and the answer."""
    worker, execution_id = await hub.running(await hub.submit())
    answer = await worker.employer.ask(execution_id, "breakers.probe", {"breaker": "crm"})
    return worker, execution_id, answer


async def test_one_of_many_is_the_probe_and_its_success_closes(open_hub: OpenHub) -> None:
    hub = await open_hub()
    await opened(hub)
    await cooled_down(hub)
    _, _, first = await asks(hub)
    _, _, second = await asks(hub)
    assert first["probe"] is not None
    assert first["standing"]["status"] == "half_open"
    assert second["probe"] is None
    hub.worker.employer.on_outcome(
        {
            "breaker": "crm",
            "generation": first["standing"]["generation"],
            "ok": 0,
            "probe": first["probe"],
            "outcome": "ok",
            "reason": "",
        }
    )
    await hub.until(lambda: status(hub) == "closed")
    assert (await stored(hub)).status is B.CLOSED


@pytest.mark.parametrize("how", ["ended", "died"])
async def test_a_probe_whose_run_is_over_leaves_its_turn(open_hub: OpenHub, how: str) -> None:
    hub = await open_hub()
    await opened(hub)
    await cooled_down(hub)
    worker, execution_id, answer = await asks(hub)
    assert answer["probe"] is not None
    worker.end(execution_id) if how == "ended" else worker.die()
    await hub.until(lambda: hub.hub.breakers._of("crm").breaker.status is B.OPEN)
    assert (await stored(hub)).openings == 1, "it does not count as a failure"
    assert (await asks(hub))[2]["probe"] is not None


async def test_while_the_database_is_away_nobody_probes(open_hub: OpenHub) -> None:
    hub = await open_hub()
    await opened(hub)
    await cooled_down(hub)
    hub.store.fail("MoveBreaker", 1)
    with pytest.raises(StoreError):
        await asks(hub)


async def test_one_waiting_event_is_let_go_to_probe_and_the_rest_when_it_closes(
    open_hub: OpenHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "BATCH", 2)
    monkeypatch.setattr(room, "BATCH_PAUSE_S", 0.001)
    hub = await open_hub()
    await opened(hub)
    ids = [await postponed(hub) for _ in range(7)]
    before = len(hub.worker.specs)
    await cooled_down(hub)
    await hub.running(ids[0])
    for _ in range(3):
        await hub.hub.breakers.look()
    waiting = (await hub.store.store.read(AllBreakers())).waiting
    assert waiting == {"crm": 6}, "one at a time"
    await close_breaker(hub.kit, "crm")
    for event_id in ids[1:4]:
        await hub.running(event_id)
    for worker in hub.hired:
        for execution_id in list(worker.in_flight):
            worker.end(execution_id)
    for event_id in ids[4:]:
        worker, execution_id = await hub.running(event_id)
        worker.end(execution_id)
    for event_id in ids:
        event = await hub.ended(event_id)
        assert event.deliveries == 1
    assert len(hub.worker.specs) == before + len(ids)


async def test_what_is_postponed_after_it_has_closed_does_not_wait_for_long(
    open_hub: OpenHub,
) -> None:
    """Its record was on the way while the breaker closed; nobody closes it again."""
    hub = await open_hub()
    await opened(hub)
    await close_breaker(hub.kit, "crm")
    await hub.until(lambda: status(hub) == "closed")
    event_id = await postponed(hub)
    await hub.hub.breakers.look()
    await hub.running(event_id)


async def test_a_breaker_that_never_opened_is_an_error_like_others(open_hub: OpenHub) -> None:
    """A pipeline that raises `BreakerOpen` by itself would wait for nothing, again and again."""
    hub = await open_hub()
    event_id = await hub.submit()
    await meets_open_breaker(hub, event_id, "its own")
    event = await hub.event(event_id)
    assert (event.status, event.deliveries, event.errors) == (EventStatus.DEAD, 1, 1)
    assert event.last_error is not None
    assert event.last_error["code"] == "breaker_open"
    assert event.execution_id is not None
    run = await hub.kit.store.read(ExecutionById(event.execution_id, "local"))
    assert run.flags == {}
    assert hub.kit.metrics.get("holdfast_events_postponed_total", breaker="its own") == 0


async def test_what_met_a_breaker_of_a_hub_that_died_before_it_was_stored_is_postponed(
    open_hub: OpenHub,
) -> None:
    """The hub that takes in the journal has never heard of the opening."""
    hub = await open_hub()
    event_id = await hub.submit()
    await meets_open_breaker(hub, event_id, "of the dead", by_hub=True)
    event = await hub.event(event_id)
    assert (event.status, event.postponed_for) == (EventStatus.QUEUED, "of the dead")
    assert (event.deliveries, event.errors) == (0, 0)


async def test_a_probe_of_a_dead_hub_is_taken_over_in_time(open_hub: OpenHub, clock: Clock) -> None:
    hub = await open_hub()
    await opened(hub)
    await cooled_down(hub)
    moved = await hub.store.store.write(MoveBreaker("crm", TakeProbe(probe="of a dead hub")))
    assert moved.moved
    await hub.hub.breakers.look()
    assert (await asks(hub))[2]["probe"] is None
    clock.us += PROBE_US
    assert (await asks(hub))[2]["probe"] is not None


async def test_without_rules_it_never_opens_by_itself(open_hub: OpenHub) -> None:
    hub = await open_hub()
    hub.hub.breakers._rules = BreakerRules(failures=0)
    for _ in range(100):
        told(hub)
    assert status(hub) is None

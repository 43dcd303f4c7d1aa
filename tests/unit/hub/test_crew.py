"""The crew: as many workers as wanted, replaced when they die, given up visibly."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holdfast.hub import crew as crew_module
from holdfast.hub.crew import Crew
from holdfast.hub.worker import WorkerState
from holdfast.telemetry import Metrics

from .conftest import FakeWorker


class Office:
    """An employer that does for the crew what a hub does."""

    def __init__(self, *, size: int = 2, prepare: Any = lambda _: None) -> None:
        self.hired: list[FakeWorker] = []
        self.metrics = Metrics()

        def hire(name: str) -> FakeWorker:
            worker = FakeWorker(name, self)  # type: ignore[arg-type]
            prepare(worker)
            self.hired.append(worker)
            return worker

        self.crew = Crew(size=size, hire=hire, metrics=self.metrics)

    def on_ready(self, worker: Any) -> None:
        self.crew.became_ready(worker)

    def on_change(self, worker: Any, execution_id: str, raw: bytes) -> None:
        pass

    def on_ended(self, worker: Any, execution_id: str) -> None:
        self.crew.has_worked(worker)

    def on_gone(self, worker: Any, reason: str) -> None:
        lost, worker.in_flight = len(worker.in_flight), set()
        self.crew.is_gone(worker, lost=lost, died=reason != "stopped")

    async def until(self, test: Any) -> None:
        async with asyncio.timeout(10):
            while not test():
                await asyncio.sleep(0)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses asked for; none is made."""
    asked: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        if seconds:
            asked.append(seconds)
        await real(0)

    monkeypatch.setattr(crew_module.asyncio, "sleep", sleep)
    return asked


def never_ready(worker: FakeWorker) -> None:
    worker.becomes_ready = False


async def test_it_starts_as_many_as_wanted_and_they_leave_at_the_end() -> None:
    office = Office(size=3)
    await office.crew.start()
    assert office.crew.ready
    assert [worker.name for worker in office.hired] == ["runner-1", "runner-2", "runner-3"]
    await office.crew.close(grace_s=5)
    assert office.crew.workers == []
    assert office.metrics.get("holdfast_runner_deaths_total") == 0


async def test_a_dead_one_is_replaced_at_once(pauses: list[float]) -> None:
    office = Office()
    await office.crew.start()
    office.hired[0].end("x")
    office.hired[0].die()
    await office.until(lambda: len(office.hired) == 3)
    assert pauses == []
    assert {worker.name for worker in office.crew.workers} == {"runner-2", "runner-3"}
    assert office.metrics.get("holdfast_runner_deaths_total") == 1
    assert office.metrics.get("holdfast_runner_starts_total") == 3
    await office.crew.close(grace_s=5)


async def test_one_that_is_gone_already_may_still_say_that_it_is_ready() -> None:
    office = Office()
    await office.crew.start()
    gone = office.hired[0]
    gone.die()
    office.on_ready(gone)
    await office.until(lambda: len(office.hired) == 3)
    assert gone not in office.crew.workers
    await office.crew.close(grace_s=5)


async def test_those_that_never_get_ready_are_tried_with_pauses_and_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(crew_module, "BACKOFF_S", (0.0, 0.001, 0.002, 0.003))
    monkeypatch.setattr(crew_module, "MAX_FAILED_STARTS", 4)
    office = Office(size=1, prepare=never_ready)
    await office.crew.start()
    for died in range(1, 5):
        assert office.crew.error is None
        await office.until(lambda died=died: len(office.hired) == died)
        office.hired[-1].die()
    assert office.crew.error == "runners died 4 times before they were ready"
    assert not office.crew.ready
    for _ in range(10):
        await asyncio.sleep(0.002)
    assert len(office.hired) == 4
    await office.crew.close(grace_s=1)


async def test_one_that_worked_makes_earlier_failures_forgotten(pauses: list[float]) -> None:
    office = Office(size=1, prepare=never_ready)
    await office.crew.start()
    for _ in range(3):
        office.hired[-1].die()
        count = len(office.hired)
        await office.until(lambda count=count: len(office.hired) > count)
    assert pauses == [0.5, 1.0, 2.0]
    office.hired[-1].be_ready()
    office.hired[-1].end("x")
    office.hired[-1].die()
    await office.until(lambda: len(office.hired) == 5)
    assert pauses == [0.5, 1.0, 2.0], "it had worked: no pause"
    office.hired[-1].die()
    await office.until(lambda: len(office.hired) == 6)
    assert pauses == [0.5, 1.0, 2.0, 0.5], "counted anew"
    await office.crew.close(grace_s=1)


async def test_one_that_was_ready_for_long_is_replaced_at_once(
    pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew_module, "PROVEN_S", 0.0)
    office = Office(size=1)
    await office.crew.start()
    office.hired[0].die()
    await office.until(lambda: len(office.hired) == 2)
    assert pauses == []
    await office.crew.close(grace_s=1)


async def test_those_that_die_right_after_they_are_ready_are_given_up_too(
    pauses: list[float],
) -> None:
    office = Office(size=1)
    await office.crew.start()
    for died in range(1, crew_module.MAX_FAILED_STARTS + 1):
        assert office.crew.error is None
        await office.until(lambda died=died: len(office.hired) == died and office.crew.ready)
        office.hired[-1].die()
    assert office.crew.error == "runners died 6 times right after they were ready"
    assert pauses == list(crew_module.BACKOFF_S[1:])
    await office.crew.close(grace_s=1)


async def test_those_that_die_with_their_first_work_are_never_given_up(
    pauses: list[float],
) -> None:
    """Poison is the events' fault and counts for them; a queue of it takes no hub down."""
    office = Office(size=1)
    await office.crew.start()
    for died in range(1, 10):
        await office.until(lambda died=died: len(office.hired) == died and office.crew.ready)
        office.hired[-1].in_flight.add("x")
        office.hired[-1].die()
    await office.until(lambda: len(office.hired) == 10)
    assert pauses == []
    assert office.crew.error is None
    office.hired[-1].end("x")
    office.hired[-1].die()
    await office.until(lambda: len(office.hired) == 11)
    assert pauses == []
    await office.crew.close(grace_s=1)


async def test_a_place_given_up_is_told_though_another_one_gets_ready(
    pauses: list[float],
) -> None:
    office = Office(size=2, prepare=never_ready)
    await office.crew.start()
    bad, good = office.hired
    for _ in range(crew_module.MAX_FAILED_STARTS):
        count = len(office.hired)
        bad.die()
        if office.crew.error is None:
            await office.until(lambda count=count: len(office.hired) > count)
        bad = office.hired[-1]
    assert office.crew.error == "runners died 6 times before they were ready"
    good.be_ready()
    good.end("x")
    assert office.crew.ready
    assert office.crew.error is not None, "one place stays empty"
    office.crew.hire_solo()
    await office.until(lambda: office.crew.idle_solo == 1)
    await office.crew.close(grace_s=1)


async def test_one_that_cannot_even_be_started_counts_as_a_failed_start(
    pauses: list[float],
) -> None:
    def broken(worker: FakeWorker) -> None:
        worker.start_error = OSError("no more processes")

    office = Office(size=1, prepare=broken)
    await office.crew.start()
    await office.until(lambda: office.crew.error)
    assert len(office.hired) == crew_module.MAX_FAILED_STARTS
    assert pauses == list(crew_module.BACKOFF_S[1:])
    await office.crew.close(grace_s=1)


async def test_an_extra_one_is_not_replaced_after_its_work() -> None:
    office = Office(size=1)
    await office.crew.start()
    office.crew.hire_solo()
    await office.until(lambda: len(office.hired) == 2)
    extra = office.hired[1]
    assert extra.solo
    assert extra.free == 0, "it takes only what it was hired for"
    await office.until(lambda: extra.state is WorkerState.READY)
    extra.retire()
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(office.hired) == 2
    await office.crew.close(grace_s=1)


async def test_an_extra_one_that_never_got_ready_is_replaced_by_one(pauses: list[float]) -> None:
    office = Office(size=0, prepare=never_ready)
    office.crew.hire_solo()
    await office.until(lambda: len(office.hired) == 1)
    assert office.crew.idle_solo == 1
    office.hired[0].die()
    assert office.crew.idle_solo == 1, "its replacement is on the way"
    await office.until(lambda: len(office.hired) == 2)
    assert office.crew.idle_solo == 1
    assert office.hired[1].solo
    await office.crew.close(grace_s=1)


async def test_extra_ones_that_never_get_ready_are_given_up(pauses: list[float]) -> None:
    office = Office(size=1, prepare=never_ready)
    await office.crew.start()
    office.hired[0].be_ready()
    office.crew.hire_solo()
    for died in range(1, crew_module.MAX_FAILED_STARTS + 1):
        await office.until(lambda died=died: len(office.hired) == died + 1)
        office.hired[-1].die()
    assert office.crew.error is not None
    office.crew.hire_solo()
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(office.hired) == crew_module.MAX_FAILED_STARTS + 1
    await office.crew.close(grace_s=1)


async def test_one_that_does_not_leave_in_time_is_killed() -> None:
    office = Office(size=1)
    await office.crew.start()
    office.hired[0].in_flight.add("x")
    await office.crew.close(grace_s=0.01)
    assert office.hired[0].state is WorkerState.GONE
    assert len(office.hired) == 1, "nobody is replaced while closing"

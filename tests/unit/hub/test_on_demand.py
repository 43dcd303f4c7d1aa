"""A hub that claims only when it is asked, as that of a Celery worker does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from holdfast.bus import Notice
from holdfast.bus.base import QUEUED
from holdfast.domain.events import LOCAL_OWNER
from holdfast.domain.status import EventStatus
from holdfast.errors import StoreError
from holdfast.hub import Hub, HubOptions, dispatch
from holdfast.journal import journal
from holdfast.operations import read
from holdfast.operations.kit import Kit
from holdfast.operations.submit import submit
from holdfast.store.commands import Claim

from .conftest import TIMEOUT_S, FakeWorker


class Desk:
    def __init__(self, kit: Kit, slots: int = 100) -> None:
        self.kit = kit
        self.slots = slots
        self.store: Any = kit.store
        self.worker: FakeWorker = None  # type: ignore[assignment]
        options = HubOptions(runners=1, on_demand=True, stop_grace_s=0.1)
        self.hub = Hub(kit, options, hire=self._hire)

    def _hire(self, name: str, employer: Any) -> FakeWorker:
        self.worker = FakeWorker(name, employer, slots=self.slots)
        return self.worker

    async def submit(self) -> str:
        return (await submit(self.kit, owner_id=LOCAL_OWNER, type="p", data={})).id

    @property
    def claims(self) -> int:
        return sum(isinstance(command, Claim) for command in self.store.written)


@pytest.fixture
async def desk(kit: Kit) -> AsyncIterator[Desk]:
    made = Desk(kit)
    await made.hub.start()
    yield made
    await made.hub.close()


async def until(test: Callable[[], Any]) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while not test():
            await asyncio.sleep(0.001)


async def within(work: Awaitable[Any]) -> Any:
    async with asyncio.timeout(TIMEOUT_S):
        return await work


async def test_nothing_is_claimed_unasked_and_an_ask_ends_with_its_run(desk: Desk) -> None:
    event_id = await desk.submit()
    asked = asyncio.create_task(desk.hub.run_next())
    await until(lambda: desk.worker.specs)
    assert desk.claims == 1
    assert not asked.done()
    (spec,) = desk.worker.specs
    desk.worker.end(spec.execution_id)
    assert await within(asked) == spec.execution_id
    event = await read.event(desk.kit, event_id, LOCAL_OWNER)
    assert event.status is EventStatus.SUCCEEDED, "it is stored when the ask ends"
    assert await within(desk.hub.run_next()) is None


async def test_many_who_ask_at_once_are_served_by_few_claims(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "CLAIM_AT_MOST", 4)
    for _ in range(9):
        await desk.submit()
    asked = [asyncio.create_task(desk.hub.run_next()) for _ in range(11)]
    await until(lambda: len(desk.worker.specs) == 9)
    for spec in desk.worker.specs:
        desk.worker.end(spec.execution_id)
    ran = await within(asyncio.gather(*asked))
    assert ran.count(None) == 2
    assert set(ran) - {None} == {spec.execution_id for spec in desk.worker.specs}
    assert desk.claims == 4, "the first one's, then for four, four and the last two"


@pytest.fixture
async def narrow(kit: Kit) -> AsyncIterator[Desk]:
    """A hub that runs one thing at a time."""
    made = Desk(kit, slots=1)
    await made.hub.start()
    yield made
    await made.hub.close()


async def test_who_asks_while_all_slots_are_taken_waits_for_one(narrow: Desk) -> None:
    ids = [await narrow.submit() for _ in range(2)]
    asked = [asyncio.create_task(narrow.hub.run_next()) for _ in range(2)]
    await until(lambda: narrow.worker.specs)
    first = narrow.worker.specs[0].execution_id
    narrow.kit.bus.publish(Notice(QUEUED))  # a ring is no slot
    done, _ = await asyncio.wait(asked, timeout=0.1)
    assert not done
    events = [await read.event(narrow.kit, one, LOCAL_OWNER) for one in ids]
    assert [one.status for one in events] == [EventStatus.RUNNING, EventStatus.QUEUED]
    assert narrow.claims == 1
    narrow.worker.end(first)
    await until(lambda: len(narrow.worker.specs) == 2)
    narrow.worker.end(narrow.worker.specs[1].execution_id)
    ran = await within(asyncio.gather(*asked))
    assert set(ran) == {spec.execution_id for spec in narrow.worker.specs}


async def test_a_hub_that_closes_lets_go_who_waits_for_a_slot(kit: Kit) -> None:
    desk = Desk(kit, slots=1)
    await desk.hub.start()
    for _ in range(2):
        await desk.submit()
    asked = [asyncio.create_task(desk.hub.run_next()) for _ in range(2)]
    await until(lambda: desk.worker.specs)
    await desk.hub.close()
    assert [one is None for one in await within(asyncio.gather(*asked))] == [False, True]


async def test_it_lets_them_go_where_no_runner_is_left(kit: Kit) -> None:
    desk = Desk(kit)
    await desk.hub.start()
    desk.hub.crew.workers.clear()  # as when all were given up
    asked = asyncio.create_task(desk.hub.run_next())
    await asyncio.sleep(0)
    await desk.hub.close()
    assert await within(asked) is None


async def test_nothing_is_begun_while_records_wait_for_the_database(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.submit()
    with monkeypatch.context() as patch:
        patch.setattr(journal, "BACKLOG_BYTES", 0)
        assert await within(desk.hub.run_next()) is None
    assert (desk.claims, desk.worker.specs) == (0, [])
    asked = asyncio.create_task(desk.hub.run_next())
    await until(lambda: desk.worker.specs)
    desk.worker.end(desk.worker.specs[0].execution_id)
    assert await within(asked) is not None


async def test_a_claim_that_fails_is_told_to_who_asked_and_costs_nothing(desk: Desk) -> None:
    desk.store.fail("Claim", 1, after_commit=True)
    event_id = await desk.submit()
    with pytest.raises(StoreError, match="planted"):
        await within(desk.hub.run_next())
    assert desk.worker.specs == []
    async with asyncio.timeout(TIMEOUT_S):
        while not desk.worker.specs:  # until what the lost answer had claimed is given back
            asked = asyncio.create_task(desk.hub.run_next())
            await until(lambda one=asked: one.done() or desk.worker.specs)
    desk.worker.end(desk.worker.specs[0].execution_id)
    assert await within(asked) == desk.worker.specs[0].execution_id
    event = await read.event(desk.kit, event_id, LOCAL_OWNER)
    assert (event.status, event.crashes) == (EventStatus.SUCCEEDED, 0)


async def test_a_hub_that_closes_lets_who_asked_go(kit: Kit) -> None:
    desk = Desk(kit)
    await desk.hub.start()
    event_id = await desk.submit()
    asked = asyncio.create_task(desk.hub.run_next())
    await until(lambda: desk.worker.specs)
    await desk.hub.close()
    assert await within(asked) is not None
    event = await read.event(kit, event_id, LOCAL_OWNER)
    assert (event.status, event.crashes) == (EventStatus.QUEUED, 0)
    assert await within(desk.hub.run_next()) is None

"""What a run asks of the store while it is away: patience, and an end to it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holdfast.domain.checkpoints import CheckpointsWanted
from holdfast.domain.events import LOCAL_OWNER
from holdfast.errors import StoreError, StoreRefused
from holdfast.hub import patience
from holdfast.hub.patience import patiently
from holdfast.operations.kit import Kit
from holdfast.store.commands.pauses import PausePipeline
from holdfast.store.queries import Checkpoints, CountEvents

from .conftest import OpenHub


class Away:
    """Fails so often, then answers."""

    def __init__(self, times: int, error: type[StoreError] = StoreError) -> None:
        self.times = times
        self.error = error
        self.asked = 0

    async def __call__(self) -> str:
        self.asked += 1
        if self.asked <= self.times:
            raise self.error("planted")
        return "answer"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "RETRY_S", (0.001,))


async def test_what_is_away_for_a_while_is_asked_again(kit: Kit) -> None:
    away = Away(5)
    assert await patiently(kit.store, away, event_id="e") == "answer"
    assert away.asked == 6


async def test_a_refusal_is_not_asked_again(kit: Kit) -> None:
    away = Away(5, StoreRefused)
    with pytest.raises(StoreRefused):
        await patiently(kit.store, away, event_id="e")
    assert away.asked == 1


async def test_nobody_asks_for_ever(kit: Kit) -> None:
    with pytest.raises(StoreError, match="planted"):
        await patiently(kit.store, Away(10**9), within_s=0.05, event_id="e")


async def test_what_waits_for_the_database_is_told_when_somebody_else_could_store(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "RETRY_S", (3600.0,))
    away = Away(1)
    waiting = asyncio.create_task(patiently(kit.store, away, event_id="e"))
    while not away.asked:
        await asyncio.sleep(0)
    await kit.store.read(CountEvents())
    assert not waiting.done(), "a full disk can be read, too"
    await kit.store.write(PausePipeline("some.pipeline", LOCAL_OWNER))
    async with asyncio.timeout(10):
        assert await waiting == "answer"


async def test_a_run_that_begins_while_the_database_is_away_gets_its_checkpoints(
    open_hub: OpenHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = await open_hub()
    worker, execution_id = await hub.running(await hub.submit())
    store, failures = hub.store, [StoreError("planted")] * 3
    read = store.read

    async def away(query: Any) -> Any:
        if isinstance(query, Checkpoints) and failures:
            raise failures.pop()
        return await read(query)

    monkeypatch.setattr(store, "read", away)
    args = {"wanted": CheckpointsWanted(thread_id="t")}
    found = await worker.employer.ask(execution_id, "checkpoints.list", args)
    assert (found, failures) == ([], [])

"""Durable pipelines: killed anywhere they go on from the last finished step, and count it once."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import waiting_app

from holdfast.domain.events import LOCAL_OWNER
from holdfast.domain.status import EventStatus, ExecutionStatus, StepStatus
from holdfast.errors import NotFound
from holdfast.hub.hub import Hub
from holdfast.hub.local_worker import LocalWorker
from holdfast.operations import read
from holdfast.store.commands import SaveCheckpoints
from holdfast.testing.postgres import PostgresForTests

from .conftest import HubForTests, OpenHub

SEEDS = int(os.environ.get("DURABLE_SEEDS", "200"))
CALLS = [f"act{n}" for n in range(waiting_app.STEPS)]


@pytest.fixture
def hub_environ(hub_environ: dict[str, str]) -> dict[str, str]:
    return hub_environ | {
        "HOLDFAST_APPS": "waiting_app",
        "HOLDFAST_MODELS": '{"fast": "scripted:rules"}',
    }


@pytest.fixture(params=["sqlite", "postgresql"])
def database(
    request: pytest.FixtureRequest, hub_environ: dict[str, str], postgres: PostgresForTests
) -> str:
    if request.param == "postgresql":
        hub_environ["HOLDFAST_DATABASE_URL"] = postgres.migrated()
    return request.param


def kills(seed: int) -> dict[str, str]:
    """Where the first, and perhaps the second, delivery ends."""
    chance = random.Random(seed)
    return {str(n + 1): chance.choice(CALLS) for n in range(chance.randint(1, 2))}


async def check(hub: HubForTests, event_id: str, folder: Path, killed: dict[str, str]) -> None:
    event = await hub.ended(event_id)
    assert event.status is EventStatus.SUCCEEDED, event.last_error
    executions = await hub.executions(event_id)
    happened = sum(1 for one in executions if one.status is ExecutionStatus.CRASHED)
    assert executions[-1].status is ExecutionStatus.SUCCEEDED
    assert (event.deliveries, event.crashes) == (happened + 1, happened)
    wholes = [await hub.whole(one.id) for one in executions]
    finished = Counter(
        step.operation
        for whole in wholes
        for step in whole.steps
        if step.status is StepStatus.SUCCEEDED
    )
    wanted = {f"{kind}{n}" for kind in ("act", "ask") for n in range(waiting_app.STEPS)}
    assert set(finished) == wanted
    assert set(finished.values()) == {1}, "no finished step runs again"
    made = Counter((folder / "calls").read_text().split())
    began = Counter(
        step.operation for whole in wholes for step in whole.steps if step.operation in CALLS
    )
    assert began == made, "every call is on record"
    assert set(made.values()) <= {1, 2, 3}
    assert sum(made.values()) == len(CALLS) + happened, "only what was under way runs again"
    tokens = sum(one.totals.tokens_output for one in executions)
    alone = wholes[-1].payload.get(wholes[-1].execution.output)
    assert alone == f"said {waiting_app.STEPS - 1}"
    assert tokens == sum(
        attempt.tokens_output or 0 for whole in wholes for attempt in whole.attempts
    )
    assert sum(len(whole.attempts) for whole in wholes) == waiting_app.STEPS
    with pytest.raises(NotFound):
        await read.event_whole(hub.kit, event_id, "eve")


class Mortal:
    """Ends workers of this process as if they were processes: at once and in mid-call."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def __call__(self) -> None:
        for worker in list(self._hub.crew.workers):
            if isinstance(worker, LocalWorker) and worker.in_flight:
                die(worker)
                return


class Deaf:
    """Where a dead worker's last words go."""

    def __getattr__(self, name: str) -> Any:
        async def never(*_: Any) -> None:
            await asyncio.Event().wait()

        return never if name == "ask" else lambda *_: None


def die(worker: LocalWorker) -> None:
    employer, worker._employer = worker._employer, Deaf()  # type: ignore[assignment]
    worker._engine._ports.checkpoints._ask = Deaf().ask  # type: ignore[attr-defined]
    for x in list(worker._engine._running.values()):
        if x.task is not None:
            x.task.cancel()
    worker.state = worker.state.GONE
    employer.on_gone(worker, "killed by the test")


async def test_killed_at_a_random_step_it_goes_on_from_the_last_finished_one(
    open_hub: OpenHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """200 seeds; workers of this process die in place of processes."""
    async with open_hub(in_process=True, runner_slots=1) as hub:
        monkeypatch.setattr(waiting_app, "DIE", [Mortal(hub.parts.hub)])
        for seed in range(SEEDS):
            folder = tmp_path / str(seed)
            folder.mkdir()
            killed = kills(seed)
            event_id = await hub.submit("wait.durable", folder=str(folder), kills=killed)
            await check(hub, event_id, folder, killed)


async def test_real_processes_are_killed(open_hub: OpenHub, database: str, tmp_path: Path) -> None:
    async with open_hub(runners=1) as hub:
        for seed in range(2):
            folder = tmp_path / str(seed)
            folder.mkdir()
            killed = kills(seed)
            event_id = await hub.submit("wait.durable", folder=str(folder), kills=killed)
            await check(hub, event_id, folder, killed)


async def test_without_durable_everything_runs_again(open_hub: OpenHub, tmp_path: Path) -> None:
    async with open_hub(runners=1) as hub:
        event_id = await hub.submit("wait.forgetful", folder=str(tmp_path), kills={"1": "act2"})
        assert (await hub.ended(event_id)).status is EventStatus.SUCCEEDED
        made = Counter((tmp_path / "calls").read_text().split())
        assert made["act0"] == 2
        assert hub.kit.store.statements.get(SaveCheckpoints.__name__, 0) == 0


async def test_a_step_is_stored_before_the_next_one_starts(
    open_hub: OpenHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the database takes no checkpoint the run waits, and does not fail."""
    from holdfast.errors import StoreError
    from holdfast.store.store import Store

    away = asyncio.Event()
    write = Store.write

    async def refuse(self: Store, command: Any) -> Any:
        begun = (tmp_path / "calls").exists()
        if isinstance(command, SaveCheckpoints) and begun and not away.is_set():
            raise StoreError("the database is away")
        return await write(self, command)

    monkeypatch.setattr(Store, "write", refuse)
    async with open_hub(in_process=True) as hub:
        event_id = await hub.submit("wait.durable", folder=str(tmp_path))
        while not (tmp_path / "calls").exists():
            await asyncio.sleep(0.005)
        for _ in range(20):
            await asyncio.sleep(0.005)
        assert (tmp_path / "calls").read_text().split() == ["act0"]
        away.set()
        assert (await hub.ended(event_id)).status is EventStatus.SUCCEEDED
        assert (await read.event(hub.kit, event_id, LOCAL_OWNER)).deliveries == 1

"""Durable pipelines: killed anywhere they go on from the last finished step, and count it once."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import mortal_app
import pytest
import waiting_app

from holdfast.domain.checkpoints import CheckpointWrites
from holdfast.domain.events import LOCAL_OWNER
from holdfast.domain.status import EventStatus, ExecutionStatus, StepStatus
from holdfast.errors import NotFound
from holdfast.hub.hub import Hub
from holdfast.hub.local_worker import LocalWorker
from holdfast.operations import read
from holdfast.store.commands import SaveCheckpoints
from holdfast.store.store import Store
from holdfast.testing.postgres import PostgresForTests
from holdfast.testing.providers import FakeAnswer, FakeOpenAI, FakeRequest

from .conftest import HubForTests, OpenHub

PATIENCE_S = 300.0  # each crash costs the start of a runner
AT_ONCE = 10
CALLS = [f"act{n}" for n in range(waiting_app.STEPS)]


@pytest.fixture
def hub_environ(hub_environ: dict[str, str]) -> dict[str, str]:
    return hub_environ | {
        "FAKE_KEY": "fake",
        "HOLDFAST_APPS": "waiting_app",
        "HOLDFAST_MODELS": '{"fast": "scripted:rules"}',
    }


@pytest.fixture
def seeds(request: pytest.FixtureRequest) -> Callable[[int], range]:
    """How many seeds: those the command line asks for, else the given number."""
    return lambda few: range(request.config.getoption("--seeds") or few)


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
    event = await hub.ended(event_id, within_s=PATIENCE_S)
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
    open_hub: OpenHub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seeds: Callable[[int], range],
) -> None:
    """Workers of this process die in place of processes."""
    async with open_hub(in_process=True, runner_slots=1) as hub:
        monkeypatch.setattr(waiting_app, "DIE", [Mortal(hub.parts.hub)])
        for seed in seeds(200):
            folder = tmp_path / str(seed)
            folder.mkdir()
            killed = kills(seed)
            event_id = await hub.submit("wait.durable", folder=str(folder), kills=killed)
            await check(hub, event_id, folder, killed)


async def test_real_processes_are_killed(
    open_hub: OpenHub, database: str, tmp_path: Path, seeds: Callable[[int], range]
) -> None:
    async with open_hub(runners=1) as hub:
        for seed in seeds(2):
            folder = tmp_path / str(seed)
            folder.mkdir()
            killed = kills(seed)
            event_id = await hub.submit("wait.durable", folder=str(folder), kills=killed)
            await check(hub, event_id, folder, killed)


class Lives:
    """Watches what the store has acknowledged of each event, and kills runners meanwhile."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.acknowledged: dict[str, dict[str, int]] = defaultdict(dict)  # node: lease, by event
        self.saves: Counter[str] = Counter()
        self.kills = 0
        self._saved = asyncio.Event()
        self._room = asyncio.Semaphore(AT_ONCE)

    def note(self, command: SaveCheckpoints) -> None:
        """The store has taken it."""
        event_id = command.fence.event_id
        for saved in command.saved:
            self.saves[event_id] += 1
            if isinstance(saved, CheckpointWrites):
                for write in saved.writes:
                    node = write.path.split(", ")[-1]
                    self.acknowledged[event_id].setdefault(node, command.fence.number)
        self._saved.set()

    async def live(self, hub: HubForTests, seed: int) -> str:
        """Run an event whose runner is killed at a moment the seed chooses."""
        async with self._room:
            return await self._live(hub, seed)

    async def _live(self, hub: HubForTests, seed: int) -> str:
        chance = random.Random(seed)
        event_id = await hub.submit("mortal.durable", name=str(seed), folder=str(self.folder))
        ended = asyncio.create_task(hub.ended(event_id, within_s=PATIENCE_S))
        until = chance.randint(1, 12)
        while self.saves[event_id] < until and not ended.done():
            self._saved.clear()
            saved = asyncio.create_task(self._saved.wait())
            await asyncio.wait({saved, ended}, return_when=asyncio.FIRST_COMPLETED)
            saved.cancel()
        await asyncio.sleep(chance.uniform(0, 0.004))
        self._kill(hub, event_id)
        assert (await ended).status is EventStatus.SUCCEEDED
        return event_id

    def _kill(self, hub: HubForTests, event_id: str) -> None:
        # Those who run alone crashed twice already: once more and their events were dead letters.
        for worker in hub.crew.workers:
            under_way = {hub.kit.journal.get(one) for one in worker.in_flight}
            if not worker.solo and event_id in {one.event_id for one in under_way if one}:
                with suppress(ProcessLookupError):  # it is dead, and nobody has noticed yet
                    os.kill(worker.pid, signal.SIGKILL)
                    self.kills += 1


@pytest.fixture
def lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lives:
    watching = Lives(tmp_path)
    write = Store.write

    async def watched(self: Store, command: Any) -> Any:
        done = await write(self, command)
        if isinstance(command, SaveCheckpoints):
            watching.note(command)
        return done

    monkeypatch.setattr(Store, "write", watched)
    return watching


async def test_runners_killed_at_any_moment_repeat_nothing_acknowledged_and_count_all(
    open_hub: OpenHub, database: str, lives: Lives, seeds: Callable[[int], range]
) -> None:
    """SIGKILL in the middle of anything; neighbours in the same runner crash along."""
    with FakeOpenAI([FakeAnswer(text="said", latency_s=0.008)]) as server:
        model = {"model": "openai:fake-model", "base_url": server.url, "api_key": "env:FAKE_KEY"}
        overrides: dict[str, Any] = {"apps": "mortal_app", "models": {"fast": model}}
        async with open_hub(runners=2, runner_slots=3, **overrides) as hub:
            lived = await asyncio.gather(*(lives.live(hub, seed) for seed in seeds(10)))
            assert lives.kills > len(lived) // 4
            for seed, event_id in enumerate(lived):
                calls = [
                    (int(delivery), node)
                    for line in (lives.folder / "calls").read_text().splitlines()
                    for name, delivery, node in [line.split()]
                    if name == str(seed)
                ]
                asked = [
                    one
                    for one in server.requests
                    if one.body["messages"][-1]["content"].split()[0] == str(seed)
                ]
                await check_life(hub, event_id, lives.acknowledged[event_id], calls, asked)


async def check_life(
    hub: HubForTests,
    event_id: str,
    acknowledged: dict[str, int],
    calls: list[tuple[int, str]],
    asked: list[FakeRequest],
) -> None:
    event = await read.event(hub.kit, event_id, LOCAL_OWNER)
    runs = [await hub.whole(one.id) for one in await hub.executions(event_id)]
    crashed = [one for one in runs if one.execution.status is ExecutionStatus.CRASHED]
    assert (event.crashes, event.deliveries) == (len(crashed), len(runs))
    assert len(runs) == len(crashed) + 1

    nodes = {*mortal_app.NODES, *mortal_app.BRANCHES, *mortal_app.MODELS}
    assert nodes <= acknowledged.keys()
    on_record = Counter(
        (run.execution.delivery, step.operation)
        for run in runs
        for step in run.steps
        if step.operation in nodes
    )
    again = {(n, node) for n, node in on_record if n > acknowledged[node]}
    assert again == set(), "what was acknowledged does not run again"
    assert set(Counter(calls).values()) == {1}
    assert set(calls) <= on_record.keys(), "every call is on record"
    done = {
        (run.execution.delivery, step.operation)
        for run in runs
        for step in run.steps
        if step.operation in nodes and step.status is StepStatus.SUCCEEDED
    }
    assert {one for one in done if one[1] not in mortal_app.MODELS} <= set(calls)
    assert {node for _, node in done} == nodes

    attempts = [(run.execution, one) for run in runs for one in run.attempts]
    billed = {one.request_id: one for one in asked}
    answered = [one for _, one in attempts if one.status is StepStatus.SUCCEEDED]
    for one in answered:
        bill = billed.pop(one.request_id or "")
        assert (one.tokens_input, one.tokens_output) == (bill.tokens_input, bill.tokens_output)
    cut_off = [one for run, one in attempts if one.status is not StepStatus.SUCCEEDED]
    assert all(one.usage == "unknown" for one in cut_off), "what nobody was told is not nothing"
    assert len(billed) <= len(cut_off) <= len(crashed), "every request is an attempt on record"
    totals = [run.execution.totals for run in runs]
    assert sum(one.tokens_output for one in totals) == sum(
        one.tokens_output or 0 for one in answered
    )
    assert sum(one.tokens_input for one in totals) == sum(one.tokens_input or 0 for one in answered)


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

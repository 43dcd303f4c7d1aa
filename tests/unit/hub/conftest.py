"""Hubs over a real SQLite store, with workers that do what the test says."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from structlog.testing import capture_logs

from holdfast.bus import MemoryBus, Notice
from holdfast.bus.base import CANCEL, ENDED, QUEUED
from holdfast.domain.changes import Finished, StepStarted, write_change
from holdfast.domain.events import LOCAL_OWNER, Event
from holdfast.domain.executions import Execution
from holdfast.domain.ids import new_id
from holdfast.domain.status import ExecutionStatus
from holdfast.errors import StoreError
from holdfast.hub import Hub, HubOptions, dispatch, leases, patience
from holdfast.hub.worker import Employer, Worker, WorkerState
from holdfast.journal import Journal
from holdfast.operations import read
from holdfast.operations.kit import Kit
from holdfast.operations.submit import submit
from holdfast.operations.wait import EndedEvents, ended_within
from holdfast.pipelines.pipeline import Pipeline
from holdfast.pipelines.registry import Registry
from holdfast.ports import RunSpec
from holdfast.store import Store, migrations
from holdfast.store.registry import open_store
from holdfast.telemetry import Metrics
from holdfast.testing.ports import ASSESSOR

TIMEOUT_S = 10


class Job(BaseModel):
    text: str = ""


async def nothing(state: Any) -> None:
    return None


def pipeline(name: str = "p") -> Pipeline:
    made = Pipeline(name, version="1", event=Job)
    made.start(made.node("only", nothing))
    return made


class FakeWorker(Worker):
    """A worker without an engine: it ends its runs when the test says so."""

    def __init__(self, name: str, employer: Employer, *, slots: int = 4) -> None:
        super().__init__(name, slots)
        self.employer = employer
        self.specs: list[RunSpec] = []
        self.cancelled: list[str] = []
        self.paused: list[str] = []
        self.learned: list[dict[str, Any]] = []  # of breakers
        self.obeys = True  # a cancel ends the run
        self.becomes_ready = True
        self.start_error: OSError | None = None
        self.changed = asyncio.Event()

    async def start(self) -> None:
        if self.start_error is not None:
            raise self.start_error
        if self.becomes_ready:
            self.be_ready()

    def be_ready(self) -> None:
        self.state = WorkerState.READY
        self.employer.on_ready(self)

    def run(self, spec: RunSpec) -> None:
        assert self.state is WorkerState.READY
        self.specs.append(spec)
        self.in_flight.add(spec.execution_id)
        self.tell(
            spec.execution_id,
            StepStarted(
                step=1,
                parent=None,
                kind="node",
                operation="only",
                version=None,
                at=1,
                texts=[["e"]],
            ),
        )
        self.changed.set()

    def tell(self, execution_id: str, change: Any) -> None:
        self.employer.on_change(self, execution_id, write_change(change))

    def end(self, execution_id: str, status: ExecutionStatus = ExecutionStatus.SUCCEEDED) -> None:
        """The run ends by itself."""
        self.tell(execution_id, Finished(status=status, at=2_000_000_000_000_000))
        self.in_flight.discard(execution_id)
        self.employer.on_ended(self, execution_id)
        self._leave_when_idle()

    def die(self, reason: str = "the runner's process died") -> None:
        self.state = WorkerState.GONE
        self.employer.on_gone(self, reason)

    def cancel(self, execution_id: str) -> None:
        self.cancelled.append(execution_id)
        self.changed.set()
        if self.obeys and execution_id in self.in_flight:
            self.end(execution_id, ExecutionStatus.CANCELLED)

    def pause(self, execution_id: str) -> None:
        self.paused.append(execution_id)

    def learn_breakers(self, standings: Sequence[Mapping[str, Any]]) -> None:
        self.learned += [dict(one) for one in standings]

    def retire(self) -> None:
        if self.state is not WorkerState.GONE:
            self.state = WorkerState.RETIRING
            self._leave_when_idle()

    async def kill(self) -> None:
        if self.state is not WorkerState.GONE:
            self.die("killed")

    async def gone(self) -> None: ...

    def _leave_when_idle(self) -> None:
        if self.state is WorkerState.RETIRING and not self.in_flight:
            self.die("stopped")


class StoreWithFaults:
    """A real store whose commands can be made to fail or to wait."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.lanes_apart = store.lanes_apart
        self.plans: dict[str, list[str]] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.reached: dict[str, asyncio.Event] = {}
        self.written: list[Any] = []

    def fail(self, command: str, times: int, *, after_commit: bool = False) -> None:
        """The next commands of that name fail, as when the database is away."""
        self.plans[command] = ["after" if after_commit else "before"] * times

    def hold(self, command: str) -> asyncio.Event:
        """Answers to commands of that name wait; returns what tells that one does."""
        self.gates[command] = asyncio.Event()
        self.reached[command] = asyncio.Event()
        return self.reached[command]

    def let_go(self, command: str) -> None:
        self.gates.pop(command).set()

    async def write(self, command: Any) -> Any:
        name = type(command).__name__
        plan = self.plans.get(name)
        when = plan.pop(0) if plan else ""
        if when == "before":
            raise StoreError(f"planted: {name}")
        result = await self.store.write(command)
        self.written.append(command)
        if when == "after":
            raise StoreError(f"planted: {name}, though it was stored")
        if name in self.gates and result:  # not a claim that found nothing
            self.reached[name].set()
            await self.gates[name].wait()
        return result

    async def read(self, query: Any) -> Any:
        return await self.store.read(query)

    async def pause(self, seconds: float) -> None:
        await self.store.pause(seconds)

    @property
    def statements(self) -> Any:
        return self.store.statements


class Clock:
    """The store's clock, which a test can turn."""

    def __init__(self) -> None:
        self.us = 1_800_000_000_000_000

    def __call__(self) -> int:
        self.us += 1
        return self.us


class HubForTests:
    """A hub, its fake workers, and short words for what tests do."""

    def __init__(self, kit: Kit, *, runners: int, prepare: Callable[[FakeWorker], None]) -> None:
        self.kit = kit
        self.store: StoreWithFaults = kit.store  # type: ignore[assignment]
        self.hired: list[FakeWorker] = []
        self.notices: list[Notice] = []
        for topic in (QUEUED, ENDED, CANCEL):
            kit.bus.listen(topic, self.notices.append)
        self.ended_events = EndedEvents(kit)
        self._prepare = prepare
        self.hub = Hub(kit, HubOptions(runners=runners, stop_grace_s=0.2), hire=self._hire)
        self.changed = asyncio.Event()

    def _hire(self, name: str, employer: Employer) -> Worker:
        worker = FakeWorker(name, employer)
        self._prepare(worker)
        self.hired.append(worker)
        self.changed.set()
        return worker

    @property
    def worker(self) -> FakeWorker:
        return self.hired[0]

    async def submit(self, name: str = "p", **data: Any) -> str:
        return (await submit(self.kit, owner_id=LOCAL_OWNER, type=name, data=data)).id

    async def event(self, event_id: str) -> Event:
        return await read.event(self.kit, event_id, LOCAL_OWNER)

    async def executions(self, event_id: str) -> list[Execution]:
        return (await read.event_whole(self.kit, event_id, LOCAL_OWNER)).executions

    async def ended(self, event_id: str) -> Event:
        with self.ended_events.expect(event_id) as future:
            event = await self.event(event_id)
            if event.finished_at is None:
                assert await ended_within(future, TIMEOUT_S), f"{event.status}"
        return await self.event(event_id)

    async def until(self, test: Callable[[], Any]) -> Any:
        """Wait for something that shows in memory."""
        async with asyncio.timeout(TIMEOUT_S):
            while not (found := test()):
                await asyncio.sleep(0.001)
        return found

    async def running(self, event_id: str) -> tuple[FakeWorker, str]:
        """Wait until a worker has the event; the worker and the execution."""

        def found() -> tuple[FakeWorker, str] | None:
            for worker in self.hired:
                for spec in worker.specs:
                    if spec.event_id == event_id and spec.execution_id in worker.in_flight:
                        return worker, spec.execution_id
            return None

        return await self.until(found)


OpenHub = Callable[..., Any]


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    with capture_logs() as collected:
        yield collected


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses while the store is away, and no beats but those a test asks for."""
    monkeypatch.setattr(leases, "BEAT_S", 3600.0)
    monkeypatch.setattr(leases, "REAP_S", 3600.0)
    monkeypatch.setattr(patience, "RETRY_S", (0.001,))
    monkeypatch.setattr(dispatch, "RETRY_S", 0.001)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("hub") / "holdfast.db"
    migrations.upgrade(f"sqlite:///{file}")
    return file


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def kit(tmp_path: Path, migrated: Path, clock: Clock) -> AsyncIterator[Kit]:
    file = tmp_path / "holdfast.db"
    shutil.copy(migrated, file)
    store = open_store(f"sqlite:///{file}", home=tmp_path, clock=clock)
    boot_id = new_id()
    metrics = Metrics()
    journal = Journal(tmp_path / "journal", boot_id, ASSESSOR, metrics)
    yield Kit(
        store=StoreWithFaults(store),  # type: ignore[arg-type]
        registry=Registry([pipeline("p"), pipeline("q")]),
        journal=journal,
        bus=MemoryBus(),
        metrics=metrics,
        boot_id=boot_id,
    )
    journal.close()
    await store.close()


@pytest.fixture
async def open_hub(kit: Kit) -> AsyncIterator[OpenHub]:
    """Makes and starts a hub: `await open_hub(runners=1)`; closed at the end."""
    async with AsyncExitStack() as stack:

        async def opened(
            *,
            runners: int = 1,
            prepare: Callable[[FakeWorker], None] = lambda _: None,
            start: bool = True,
        ) -> HubForTests:
            made = HubForTests(kit, runners=runners, prepare=prepare)
            if start:
                await made.hub.start()
                stack.push_async_callback(made.hub.close)
            return made

        yield opened


def with_boot(kit: Kit, boot_id: str) -> Kit:
    """The same store as another hub sees it."""
    return replace(kit, boot_id=boot_id)

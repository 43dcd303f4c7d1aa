"""The contract of a worker, for the one in this process and the one in a process of its own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from holdfast.domain.changes import Finished, StepStarted
from holdfast.domain.ids import new_id
from holdfast.domain.status import ExecutionStatus, StepStatus
from holdfast.errors import PortError
from holdfast.hub.local_worker import LocalWorker
from holdfast.hub.process_worker import ProcessWorker, RunnerOptions
from holdfast.hub.worker import Worker, WorkerState
from holdfast.pipelines.registry import Registry
from holdfast.ports import ModelConfig, RunSpec
from holdfast.testing.ports import MemorySink, Recorded

APPS = ("spine_app", "unruly_app")
MODELS = {"fast": ModelConfig(alias="fast", provider="scripted", model="rules")}
SLOTS = 4
TIMEOUT_S = 20


class Office:
    """An employer that writes down what its worker reports."""

    def __init__(self) -> None:
        self.sink = MemorySink()
        self.log: list[tuple[str, str]] = []  # (what, execution or reason), in order
        self.asked: list[tuple[str, str, dict[str, Any]]] = []
        self.outcomes: list[dict[str, Any]] = []
        self.spent: list[dict[str, Any]] = []
        self.refuse: str | None = None
        self.lost: set[str] = set()
        self._changed = asyncio.Event()

    def on_ready(self, worker: Worker) -> None:
        self._note("ready", worker.name)

    def on_change(self, worker: Worker, execution_id: str, raw: bytes) -> None:
        self.sink.change(execution_id, raw)
        self._note("change", execution_id)

    def on_tokens(self, execution_id: str, step: int, text: str) -> None:
        self.sink.tokens(execution_id, step, text)
        self._note("tokens", execution_id)

    def on_ended(self, worker: Worker, execution_id: str) -> None:
        self._note("ended", execution_id)

    def on_gone(self, worker: Worker, reason: str) -> None:
        self.lost, worker.in_flight = worker.in_flight, set()
        self._note("gone", reason)

    async def ask(self, execution_id: str, port: str, args: dict[str, Any]) -> Any:
        self.asked.append((execution_id, port, args))
        if self.refuse:
            raise PortError(self.refuse)
        return "a new event"

    def on_spent(self, told: Mapping[str, Any]) -> None:
        self.spent.append(dict(told))

    def on_outcome(self, told: Mapping[str, Any]) -> None:
        self.outcomes.append(dict(told))
        self._note("outcome", told["breaker"])

    def _note(self, what: str, whom: str) -> None:
        self.log.append((what, whom))
        self._changed.set()

    async def until(self, what: str, whom: str | None = None) -> str:
        """Wait for a report; who or why."""
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                for noted, of in self.log:
                    if noted == what and whom in (None, of):
                        return of
                self._changed.clear()
                await self._changed.wait()

    def count(self, what: str) -> int:
        return sum(noted == what for noted, _ in self.log)


class Desk:
    """A worker and its office."""

    def __init__(self, office: Office, worker: Worker) -> None:
        self.office = office
        self.worker = worker

    def start(self, name: str, **data: Any) -> str:
        execution_id = new_id()
        self.worker.run(
            RunSpec(
                execution_id=execution_id,
                event_id="e",
                owner_id="local",
                kind="pipeline",
                name=name,
                version="1",
                data=orjson.dumps(data),
                delivery=1,
            )
        )
        return execution_id

    async def ended(self, execution_id: str) -> Recorded:
        await self.office.until("ended", execution_id)
        return self.office.sink.record(execution_id)

    async def run(self, name: str, **data: Any) -> Recorded:
        return await self.ended(self.start(name, **data))


async def there(path: Path) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while not path.exists():
            await asyncio.sleep(0.005)


def local(office: Office) -> Worker:
    return LocalWorker(office, slots=SLOTS, registry=Registry.load(APPS), models=MODELS)


def process(office: Office) -> Worker:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    options = RunnerOptions(
        apps=APPS, models=MODELS, environment=environment, slots=SLOTS, log_level="critical"
    )
    return ProcessWorker("runner-1", office, options)


KINDS: dict[str, Callable[[Office], Worker]] = {"in process": local, "runner": process}


@pytest.fixture(params=list(KINDS))
async def desk(request: pytest.FixtureRequest) -> AsyncIterator[Desk]:
    with capture_logs():
        office = Office()
        worker = KINDS[request.param](office)
        await worker.start()
        await office.until("ready")
        yield Desk(office, worker)
        await worker.kill()


@pytest.mark.parametrize("kind", list(KINDS))
async def test_one_that_is_told_to_leave_before_it_starts_does_so(kind: str) -> None:
    office = Office()
    worker = KINDS[kind](office)
    worker.retire()
    await worker.start()
    assert await office.until("gone") == "stopped"
    assert office.count("ready") == 0
    await worker.gone()


async def test_a_ready_worker_has_all_its_slots_free(desk: Desk) -> None:
    assert desk.worker.state is WorkerState.READY
    assert desk.worker.free == desk.worker.slots == SLOTS
    assert desk.office.count("ready") == 1


async def test_a_run_is_reported_in_order_and_frees_its_slot(desk: Desk) -> None:
    execution_id = desk.start("test.noop", text="x")
    assert desk.worker.in_flight == {execution_id}
    assert desk.worker.free == SLOTS - 1
    record = await desk.ended(execution_id)
    assert record.finished.status == ExecutionStatus.SUCCEEDED
    assert [step.operation for step in record.steps] == ["n0", "n1", "n2", "n3", "n4"]
    changes = desk.office.sink.changes(execution_id)
    assert isinstance(changes[0], StepStarted)
    assert isinstance(changes[-1], Finished)
    assert desk.office.log[-1] == ("ended", execution_id), "its end comes after its last change"
    assert desk.worker.free == SLOTS


async def test_a_full_worker_runs_all_at_once(desk: Desk, tmp_path: Path) -> None:
    folders = [tmp_path / str(n) for n in range(SLOTS)]
    for folder in folders:
        folder.mkdir()
    started = [desk.start("test.gated", folder=str(folder)) for folder in folders]
    for folder in folders:
        await there(folder / "pid-1")
    assert desk.worker.free == 0
    for folder in reversed(folders):
        (folder / "open").touch()
    for execution_id in started:
        assert (await desk.ended(execution_id)).output == "opened"


async def test_a_cancel_reaches_the_running_step(desk: Desk, tmp_path: Path) -> None:
    execution_id = desk.start("test.gated", folder=str(tmp_path))
    await there(tmp_path / "pid-1")
    desk.worker.cancel(execution_id)
    record = await desk.ended(execution_id)
    assert record.finished.status == ExecutionStatus.CANCELLED
    assert record.step("gate").status is StepStatus.CANCELLED
    desk.worker.cancel(execution_id)  # too late is no harm
    desk.worker.cancel(new_id())
    assert (await desk.run("test.noop")).finished.status == ExecutionStatus.SUCCEEDED


async def test_a_cancel_right_after_the_run_was_handed_over_is_not_lost(
    desk: Desk, tmp_path: Path
) -> None:
    execution_id = desk.start("test.gated", folder=str(tmp_path))
    desk.worker.cancel(execution_id)
    record = await desk.ended(execution_id)
    assert record.finished.status == ExecutionStatus.CANCELLED


async def test_what_a_step_asks_of_the_hub_is_answered(desk: Desk) -> None:
    record = await desk.run("unruly.asking")
    assert record.output == "a new event"
    ((execution_id, port, args),) = desk.office.asked
    assert (execution_id, port) == (record.running.id, "events.submit")
    assert args == {"type": "unruly.large", "data": {"text": "child"}, "idempotency_key": "k"}


async def test_what_the_hub_refuses_fails_the_step_and_says_why(desk: Desk) -> None:
    desk.office.refuse = "not today"
    record = await desk.run("unruly.asking")
    assert record.finished.status == ExecutionStatus.FAILED
    assert record.finished.error is not None
    assert record.finished.error["code"] == "port_failed"
    assert "not today" in record.finished.error["message"]


async def test_streamed_text_comes_whole_and_before_the_answer(desk: Desk) -> None:
    execution_id = desk.start("unruly.streaming", text="200")
    record = await desk.ended(execution_id)
    assert record.output == "word " * 200
    text = "".join(piece for _, piece in desk.office.sink.tokens_of[execution_id])
    assert text == "word " * 200
    own = [what for what, whom in desk.office.log if whom == execution_id]
    last_text = len(own) - 1 - own[::-1].index("tokens")
    # After the text: the attempt's end, the step's end, the execution's end, the slot.
    assert own[last_text + 1 :] == ["change", "change", "change", "ended"]


async def test_what_threads_record_stays_in_order(desk: Desk) -> None:
    record = await desk.run("unruly.threads", text="word")
    assert record.finished.status == ExecutionStatus.SUCCEEDED
    assert record.finished.faults == []
    shouts = [step for step in record.steps if step.operation == "shout"]
    for number, step in enumerate(shouts):
        assert record.text(step.input) == f"word {number}"
        assert record.text(step.output) == f"WORD {number}" * 20


async def test_large_values_cross_whole(desk: Desk) -> None:
    record = await desk.run("unruly.large", size=3_000_000)
    assert record.output == "x" * 3_000_000


async def test_a_run_of_something_unknown_fails_and_harms_nobody(desk: Desk) -> None:
    record = await desk.run("test.unheard_of")
    assert record.finished.status == ExecutionStatus.FAILED
    assert record.finished.error is not None
    assert record.finished.error["code"] == "unknown_pipeline"
    assert (await desk.run("test.noop")).finished.status == ExecutionStatus.SUCCEEDED


async def test_a_retired_worker_ends_its_runs_and_leaves(desk: Desk, tmp_path: Path) -> None:
    execution_id = desk.start("test.gated", folder=str(tmp_path))
    await there(tmp_path / "pid-1")
    desk.worker.retire()
    assert desk.worker.state is WorkerState.RETIRING
    assert desk.worker.free == 0
    (tmp_path / "open").touch()
    record = await desk.ended(execution_id)
    assert record.output == "opened"
    assert await desk.office.until("gone") == "stopped"
    assert desk.office.lost == set()
    await desk.worker.gone()
    assert desk.worker.state is WorkerState.GONE


async def test_an_idle_worker_that_is_retired_leaves_at_once(desk: Desk) -> None:
    desk.worker.retire()
    desk.worker.retire()
    assert await desk.office.until("gone") == "stopped"
    await desk.worker.gone()
    assert desk.office.count("gone") == 1


async def test_a_killed_worker_is_gone_and_says_so_once(desk: Desk, tmp_path: Path) -> None:
    execution_id = desk.start("test.gated", folder=str(tmp_path))
    await there(tmp_path / "pid-1")
    await desk.worker.kill()
    assert desk.worker.state is WorkerState.GONE
    assert desk.worker.free == 0
    assert desk.office.count("gone") == 1
    # Either its end was told, or it is among the lost.
    told = any(one == ("ended", execution_id) for one in desk.office.log)
    assert told != (execution_id in desk.office.lost)
    await desk.worker.kill()
    assert desk.office.count("gone") == 1


async def test_blocking_code_is_abandoned_and_its_slot_given_back(
    desk: Desk, tmp_path: Path
) -> None:
    execution_id = desk.start("test.blocking", folder=str(tmp_path))
    await there(tmp_path / "blocked")
    desk.worker.cancel(execution_id)
    record = await desk.ended(execution_id)
    assert record.finished.status == ExecutionStatus.CANCELLED
    assert record.step("block").status is StepStatus.ABANDONED
    assert execution_id not in desk.worker.in_flight
    (tmp_path / "open").touch()

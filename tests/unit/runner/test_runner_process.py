"""Real runner processes that are treated badly, and that treat their hub badly."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from holdfast.domain.ids import new_id
from holdfast.domain.status import ExecutionStatus, StepStatus
from holdfast.hub import process_worker
from holdfast.hub.process_worker import ProcessWorker, RunnerOptions
from holdfast.hub.worker import Worker, WorkerState
from holdfast.ports import ModelConfig, RunSpec
from holdfast.runner.frames import HEADER, Kind
from holdfast.testing.ports import MemorySink, Recorded

TIMEOUT_S = 20
MODELS = {"fast": ModelConfig(alias="fast", provider="scripted", model="rules")}
ENVIRONMENT = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", "")}


class Office:
    """An employer that writes down what its worker reports."""

    def __init__(self) -> None:
        self.sink = MemorySink()
        self.log: list[tuple[str, str]] = []
        self.lost: set[str] = set()
        self._changed = asyncio.Event()

    def on_ready(self, worker: Worker) -> None:
        self._note("ready", worker.name)

    def on_change(self, worker: Worker, execution_id: str, raw: bytes) -> None:
        self.sink.change(execution_id, raw)

    def on_tokens(self, execution_id: str, step: int, text: str) -> None:
        self.sink.tokens(execution_id, step, text)

    def on_ended(self, worker: Worker, execution_id: str) -> None:
        self._note("ended", execution_id)

    def on_gone(self, worker: Worker, reason: str) -> None:
        self.lost, worker.in_flight = worker.in_flight, set()
        self._note("gone", reason)

    async def ask(self, execution_id: str, port: str, args: dict[str, Any]) -> Any:
        return None

    def _note(self, what: str, whom: str) -> None:
        self.log.append((what, whom))
        self._changed.set()

    async def until(self, what: str, whom: str | None = None) -> str:
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                for noted, of in self.log:
                    if noted == what and whom in (None, of):
                        return of
                self._changed.clear()
                await self._changed.wait()


class Desk:
    def __init__(self, office: Office, worker: ProcessWorker) -> None:
        self.office = office
        self.worker = worker

    def start(self, name: str, **data: Any) -> str:
        execution_id = new_id()
        self.worker.run(spec(execution_id, name, **data))
        return execution_id

    async def beats(self, count: int) -> None:
        """Wait until the worker has answered so many pings, or is gone."""
        take, answered = self.worker._wire._on_message, asyncio.Semaphore(0)

        def noting(kind: Kind, body: bytes) -> None:
            take(kind, body)
            if kind is Kind.PONG:
                answered.release()

        self.worker._wire._on_message = noting
        for _ in range(count):
            async with asyncio.timeout(TIMEOUT_S):
                await answered.acquire()

    async def ended(self, execution_id: str) -> Recorded:
        await self.office.until("ended", execution_id)
        return self.office.sink.record(execution_id)


def spec(execution_id: str, name: str, **data: Any) -> RunSpec:
    return RunSpec(
        execution_id=execution_id,
        event_id="e",
        owner_id="local",
        kind="pipeline",
        name=name,
        version="1",
        data=orjson.dumps(data),
        delivery=1,
    )


@asynccontextmanager
async def hired(*, ready: bool = True, **options: Any) -> AsyncIterator[Desk]:
    options.setdefault("apps", ("spine_app", "unruly_app"))
    made = RunnerOptions(
        models=MODELS, environment=ENVIRONMENT, slots=4, log_level="critical", **options
    )
    office = Office()
    worker = ProcessWorker("runner-1", office, made)
    with capture_logs():
        await worker.start()
        if ready:
            await office.until("ready")
        try:
            yield Desk(office, worker)
        finally:
            await worker.kill()


async def there(path: Path) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while not path.exists():
            await asyncio.sleep(0.005)


async def test_it_serves_those_apps_that_are_not_broken(tmp_path: Path) -> None:
    apps = ("no_such_app", "spine_app", "spine_app:nothing_there")
    async with hired(apps=apps) as desk:
        assert (await desk.ended(desk.start("test.noop"))).finished.status == "succeeded"


async def test_ctrl_c_is_its_hubs_business(tmp_path: Path) -> None:
    async with hired() as desk:
        execution_id = desk.start("test.gated", folder=str(tmp_path))
        await there(tmp_path / "pid-1")
        assert desk.worker.pid is not None
        os.kill(desk.worker.pid, signal.SIGINT)
        (tmp_path / "open").touch()
        assert (await desk.ended(execution_id)).output == "opened"


async def test_code_that_exits_fails_its_own_execution_and_nobody_elses(tmp_path: Path) -> None:
    async with hired() as desk:
        neighbour = desk.start("test.gated", folder=str(tmp_path))
        await there(tmp_path / "pid-1")
        for name in ("unruly.leaving", "unruly.leaving_thread"):
            record = await desk.ended(desk.start(name))
            assert record.finished.status == ExecutionStatus.FAILED
            assert record.finished.error is not None
            assert record.finished.error["type"] == "SystemExit"
            assert record.steps[0].status is StepStatus.FAILED
        (tmp_path / "open").touch()
        assert (await desk.ended(neighbour)).output == "opened"
        assert desk.office.log[-1] == ("ended", neighbour)


async def test_it_leaves_even_when_code_left_a_thread_behind(tmp_path: Path) -> None:
    async with hired() as desk:
        await desk.ended(desk.start("unruly.leftover"))
        desk.worker.retire()
        assert await desk.office.until("gone") == "stopped"
        await desk.worker.gone()


async def test_it_ends_with_its_hub_even_while_code_blocks_the_loop(tmp_path: Path) -> None:
    """Nobody kills it: the socket closes, and that is all it gets to know."""
    async with hired() as desk:
        desk.start("unruly.hogging", folder=str(tmp_path))
        await there(tmp_path / "hogging")
        assert desk.worker._process is not None
        # The hub's end goes as if the hub had died; its worker object is kept from killing.
        desk.worker._signal_kill = lambda: None  # type: ignore[method-assign]
        assert desk.worker._wire._transport is not None
        desk.worker._wire._transport.abort()
        ended = asyncio.to_thread(desk.worker._process.wait)
        assert await asyncio.wait_for(ended, TIMEOUT_S) == 0
        await desk.worker.gone()


async def test_one_whose_loop_is_silent_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_worker, "PING_EVERY_S", 0.05)
    monkeypatch.setattr(process_worker, "SILENT_FOR_S", 1.0)
    async with hired() as desk:
        execution_id = desk.start("unruly.hogging", folder=str(tmp_path))
        assert await desk.office.until("gone") == "the runner's loop was silent for 1 s"
        assert desk.office.lost == {execution_id}


async def test_one_that_hangs_while_it_loads_its_apps_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hanging_app.py").write_text("import time\ntime.sleep(3600)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(process_worker, "PING_EVERY_S", 0.05)
    monkeypatch.setattr(process_worker, "READY_WITHIN_S", 2.0)
    async with hired(apps=("hanging_app",), ready=False) as desk:
        assert await desk.office.until("gone") == "the runner was not ready within 2 s"
        assert desk.office.log == [("gone", "the runner was not ready within 2 s")]


async def test_one_that_is_retiring_and_silent_is_killed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_worker, "PING_EVERY_S", 0.05)
    monkeypatch.setattr(process_worker, "SILENT_FOR_S", 1.0)
    async with hired() as desk:
        execution_id = desk.start("unruly.hogging", folder=str(tmp_path))
        await there(tmp_path / "hogging")
        desk.worker.retire()
        await desk.office.until("gone")
        assert desk.office.lost == {execution_id}


async def test_one_that_answers_is_not_blamed_for_a_hub_that_stood_still(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process_worker, "PING_EVERY_S", 0.05)
    monkeypatch.setattr(process_worker, "SILENT_FOR_S", 5.0)
    async with hired() as desk:
        await desk.beats(2)
        loop: Any = asyncio.get_running_loop()
        real, ahead = loop.time, 0.0
        monkeypatch.setattr(loop, "time", lambda: real() + ahead)
        ahead = 3600.0  # the hub's process was stopped for an hour
        await desk.beats(2)
        assert (await desk.ended(desk.start("test.noop"))).finished.status == "succeeded"
        assert desk.worker.state is WorkerState.READY


# -- a runner that sends garbage -------------------------------------------------------------------

FAKE = """#!{python}
import os, socket, struct, sys, time
sock = socket.socket(fileno=int(sys.argv[-1]))
sock.recv(1 << 20)  # HELLO
def send(kind, body, lane=0):
    sock.sendall(struct.pack(">IBB", len(body), lane, kind) + body)
send(2, b'{{"pid": 1, "failures": []}}')
data = b""
while b"test.noop" not in data:
    data += sock.recv(1 << 20)
{misbehave}
time.sleep(60)
"""

MISBEHAVIOUR = {
    "no frame at all": 'sock.sendall(b"\\xff" * 1000)',
    "an unknown kind": 'send(77, b"x")',
    "an unknown lane": 'send(4, b"x", lane=9)',
    "an id that is no text": 'send(4, b"\\xff" * 50)',
    "tokens that are no JSON": 'send(5, b"{")',
    "tokens of the wrong shape": 'send(5, b"[1]")',
    "a question that is no JSON": 'send(8, b"{", lane=1)',
    "half a frame and the end": 'sock.sendall(b"\\x00\\x00\\xff\\x00\\x00\\x04abc"); os._exit(0)',
}


@pytest.fixture
def fake_runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def make(misbehave: str) -> None:
        script = tmp_path / "fake-runner"
        script.write_text(FAKE.format(python=sys.executable, misbehave=misbehave))
        script.chmod(0o700)
        monkeypatch.setattr(sys, "executable", str(script))

    return make


@pytest.mark.parametrize("what", list(MISBEHAVIOUR))
async def test_a_runner_that_sends_garbage_is_ended_and_its_work_is_lost_visibly(
    fake_runner: Callable[[str], None], what: str
) -> None:
    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
    fake_runner(MISBEHAVIOUR[what])
    async with hired() as desk:
        execution_id = desk.start("test.noop")
        reason = await desk.office.until("gone")
        assert reason != "stopped"
        assert desk.office.lost == {execution_id}
        await asyncio.wait_for(desk.worker.gone(), TIMEOUT_S)
        assert desk.worker.state is WorkerState.GONE


def test_frames_look_the_same_from_outside() -> None:
    """The fake above speaks by hand what `frames` speaks."""
    assert HEADER.format == ">IBB"
    assert (Kind.READY, Kind.CHANGE, Kind.TOKENS, Kind.ASK) == (2, 4, 5, 8)
    assert HEADER.size == struct.calcsize(">IBB")


def test_it_needs_no_more_than_a_socket_to_start_and_to_leave() -> None:
    ours, theirs = socket.socketpair()
    with subprocess.Popen(
        [sys.executable, "-m", "holdfast.runner", str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        env=ENVIRONMENT,
    ) as process:
        theirs.close()
        ours.close()
        assert process.wait(TIMEOUT_S) == 0

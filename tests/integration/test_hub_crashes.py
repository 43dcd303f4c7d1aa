"""Processes are killed; nothing accepted is lost and what was done is shown."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest

from holdfast import settings
from holdfast.domain.events import LOCAL_OWNER
from holdfast.domain.status import EventStatus, ExecutionStatus, StepStatus
from holdfast.hub import dispatch
from holdfast.operations.cancel import cancel_event
from holdfast.store import migrations
from holdfast.testing.postgres import PostgresForTests

from .conftest import OpenHub, until, until_true


async def test_a_killed_runner_leaves_its_steps_and_its_work_runs_again(
    open_hub: OpenHub, tmp_path: Path
) -> None:
    async with open_hub(runners=2) as hub:
        event_id = await hub.submit("test.gated", folder=str(tmp_path))
        victim = int(await until(tmp_path / "pid-1"))
        os.kill(victim, signal.SIGKILL)
        assert int(await until(tmp_path / "pid-2")) != victim
        (tmp_path / "open").touch()
        event = await hub.ended(event_id)
        assert event.status is EventStatus.SUCCEEDED
        assert (event.deliveries, event.crashes) == (2, 1)
        crashed, succeeded = await hub.executions(event_id)
        assert crashed.status is ExecutionStatus.CRASHED
        assert succeeded.status is ExecutionStatus.SUCCEEDED
        whole = await hub.whole(crashed.id)
        assert [step.status for step in whole.steps] == [StepStatus.SUCCEEDED, StepStatus.FAILED]
        assert whole.payload.get(whole.steps[0].output) == "done before"
        assert whole.execution.error is not None
        assert whole.execution.error["code"] == "runner_lost"
        assert (await hub.whole(succeeded.id)).execution.delivery == 2


async def test_three_crashes_make_a_dead_letter_and_take_nobody_along(
    open_hub: OpenHub, tmp_path: Path
) -> None:
    async with open_hub(runners=1) as hub:
        innocent = await hub.submit("test.gated", folder=str(tmp_path))
        await until(tmp_path / "pid-1")
        poisoned = await hub.ended(await hub.submit("test.poison"))
        assert poisoned.status is EventStatus.DEAD
        assert (poisoned.deliveries, poisoned.crashes) == (3, 3)
        assert {one.status for one in await hub.executions(poisoned.id)} == {
            ExecutionStatus.CRASHED
        }
        (tmp_path / "open").touch()
        event = await hub.ended(innocent)
        assert event.status is EventStatus.SUCCEEDED
        assert event.crashes <= 2


async def test_a_crash_while_a_cancel_is_asked_for_ends_cancelled(
    open_hub: OpenHub, tmp_path: Path
) -> None:
    async with open_hub(runners=1) as hub:
        event_id = await hub.submit("test.stubborn", folder=str(tmp_path))
        await until(tmp_path / "holding")
        pid = hub.crew.workers[0].pid  # type: ignore[attr-defined]
        await cancel_event(hub.kit, event_id, LOCAL_OWNER)
        os.kill(pid, signal.SIGKILL)
        event = await hub.ended(event_id)
        assert event.status is EventStatus.CANCELLED


@pytest.mark.parametrize("in_process", [True, False])
async def test_what_a_stopping_hub_cannot_finish_runs_again_and_is_not_cancelled(
    open_hub: OpenHub, tmp_path: Path, in_process: bool
) -> None:
    async with open_hub(in_process=in_process, stop_grace=0.1) as hub:
        event_id = await hub.submit("test.gated", folder=str(tmp_path))
        await until(tmp_path / "pid-1")
    (tmp_path / "open").touch()
    async with open_hub(in_process=in_process) as hub:
        event = await hub.ended(event_id)
        assert (event.status, event.crashes) == (EventStatus.SUCCEEDED, 0)
        first, second = await hub.executions(event_id)
        assert (first.status, second.status) == (
            ExecutionStatus.CRASHED,
            ExecutionStatus.SUCCEEDED,
        )


async def test_runners_that_never_get_ready_are_given_up_visibly(
    hub_environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from holdfast.app import run_hub
    from holdfast.hub import crew

    monkeypatch.setattr(crew, "BACKOFF_S", (0.0, 0.01, 0.01))
    monkeypatch.setattr(crew, "MAX_FAILED_STARTS", 3)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    made = settings.load({"runners": 1}, environ=hub_environ)
    migrations.upgrade(made.store_url)
    async with run_hub(made) as parts:
        async with asyncio.timeout(10):
            while not parts.hub.crew.error:
                await asyncio.sleep(0.01)
        assert parts.not_ready() == ["runners died 3 times before they were ready"]


HUB = """
import asyncio, os, signal, sys
import orjson
from holdfast import settings
from holdfast.app import run_hub
from holdfast.hub.ending import Endings
from holdfast.operations.submit import submit

async def main():
    where, data = sys.argv[1], orjson.loads(sys.argv[2])
    if where == "before the record is stored":
        async def die(self, running, *, counts_as_crash=True):
            os.kill(os.getpid(), signal.SIGKILL)
        Endings.store_now = die
    async with run_hub(settings.load()) as parts:
        await parts.hub.ready()
        if where == "right after accepting":
            parts.hub._dispatcher._task.cancel()
        done = await submit(parts.kit, owner_id="local", type=data.pop("type"), data=data)
        print(done.id, flush=True)
        if where == "right after accepting":
            os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def database(
    request: pytest.FixtureRequest, hub_environ: dict[str, str], postgres: PostgresForTests
) -> str:
    if request.param == "postgresql":
        hub_environ["HOLDFAST_DATABASE_URL"] = postgres.migrated()
    return request.param


@contextmanager
def hub_in_process_of_its_own(
    hub_environ: dict[str, str], where: str, **data: Any
) -> Iterator[subprocess.Popen[str]]:
    made = settings.load(environ=hub_environ)
    migrations.upgrade(made.store_url)
    environ = {**hub_environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", HUB, where, orjson.dumps(data).decode()]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def journalled(home: Path, text: bytes) -> bool:
    """Whether a hub has heard of it: what is still on its way dies with the hub."""
    files = [one for one in (home / "journal").rglob("*") if one.is_file()]
    return any(text in one.read_bytes() for one in files)


async def last_words(process: subprocess.Popen[str]) -> str:
    """What a hub printed, once it has killed itself."""
    return (await asyncio.to_thread(process.communicate, timeout=20))[0].strip()


async def test_a_hub_killed_right_after_accepting_loses_nothing(
    open_hub: OpenHub, hub_environ: dict[str, str], database: str
) -> None:
    with hub_in_process_of_its_own(
        hub_environ, "right after accepting", type="test.noop"
    ) as killed:
        event_id = await last_words(killed)
    async with open_hub() as hub:
        event = await hub.ended(event_id)
        assert event.status is EventStatus.SUCCEEDED
        assert (event.deliveries, event.crashes) == (1, 0)


async def test_a_hub_killed_in_mid_run_is_taken_over_at_once(
    open_hub: OpenHub, hub_environ: dict[str, str], database: str, tmp_path: Path
) -> None:
    """The restarted hub does not wait for the lease."""
    with hub_in_process_of_its_own(
        hub_environ, "in mid-run", type="test.gated", folder=str(tmp_path)
    ) as killed:
        runner = int(await until(tmp_path / "pid-1"))
        assert killed.stdout is not None
        event_id = (await asyncio.to_thread(killed.stdout.readline)).strip()
        await until_true(lambda: journalled(tmp_path / "home", b"done before"))
    async with asyncio.timeout(dispatch.LEASE_S / 2):
        async with open_hub() as hub:
            await until(tmp_path / "pid-2")
            (tmp_path / "open").touch()
            event = await hub.ended(event_id)
            assert event.status is EventStatus.SUCCEEDED
            assert (event.deliveries, event.crashes) == (2, 0), "the work did not crash"
            crashed, _ = await hub.executions(event_id)
            whole = await hub.whole(crashed.id)
            assert whole.execution.status is ExecutionStatus.CRASHED
            assert whole.payload.get(whole.steps[0].output) == "done before"
            assert gone(runner), "a runner ends with its hub"
            left = list((tmp_path / "home" / "journal").iterdir())
            assert len(left) == 1, "the dead boot's journal is taken in and gone"


async def test_a_hub_killed_before_it_stored_the_record_still_has_it(
    open_hub: OpenHub, hub_environ: dict[str, str], database: str
) -> None:
    """The outcome was journalled, so the work does not run again."""
    with hub_in_process_of_its_own(
        hub_environ, "before the record is stored", type="test.talking", text="Ada"
    ) as killed:
        event_id = await last_words(killed)
    async with open_hub() as hub:
        event = await hub.ended(event_id)
        assert event.status is EventStatus.SUCCEEDED
        assert event.deliveries == 1
        (only,) = await hub.executions(event_id)
        whole = await hub.whole(only.id)
        assert [attempt.validation for attempt in whole.attempts] == [None, "invalid", "valid"]
        assert whole.payload.get(whole.attempts[0].prompt_system) == "You are Ada."


async def test_a_hub_that_stops_hands_back_what_does_not_end_in_time(
    open_hub: OpenHub, tmp_path: Path
) -> None:
    async with open_hub(stop_grace=0.1) as hub:
        event_id = await hub.submit("test.gated", folder=str(tmp_path))
        await until(tmp_path / "pid-1")
    (tmp_path / "open").touch()
    async with open_hub() as hub:
        event = await hub.ended(event_id)
        assert event.status is EventStatus.SUCCEEDED
        assert (event.deliveries, event.crashes) == (2, 0)


async def test_a_second_hub_on_one_sqlite_file_is_refused(open_hub: OpenHub) -> None:
    from holdfast.errors import StoreLocked

    async with open_hub():
        with pytest.raises(StoreLocked, match=f"pid {os.getpid()}"):
            async with open_hub():
                pass

"""The runner that is spawned before its hub: taken over, and never left behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from holdfast import settings
from holdfast.app import Parts, run_hub
from holdfast.hub.process_worker import ProcessWorker
from holdfast.runner.process import RunnerProcess, SpawnKind, can_fork, open_spawner
from holdfast.store import migrations

from .conftest import HubForTests, until_true

OURS = ("holdfast-runner", "holdfast-zygote")


@pytest.mark.parametrize("kind", ["auto", "plain"])
async def test_the_hub_takes_it_over_and_ends_it(
    hub_environ: dict[str, str], kind: SpawnKind
) -> None:
    made = settings.load({"runners": 1}, environ=hub_environ)
    migrations.upgrade(made.store_url)
    environment = made.runner_environment()
    with (
        closing(open_spawner(kind, made.preload(), environment=environment)) as spawner,
        closing(spawner.spawn(environment)) as first,
    ):
        async with run_hub(made, spawner=spawner, runner=first) as parts:
            await _works(parts, first)
        assert first.pid is not None
        assert not psutil.pid_exists(first.pid)


@pytest.mark.parametrize("kind", ["auto", "plain"])
async def test_a_hub_starts_its_runners_as_it_is_told(
    hub_environ: dict[str, str], kind: SpawnKind
) -> None:
    made = settings.load({"runners": 2, "spawn": kind}, environ=hub_environ)
    migrations.upgrade(made.store_url)
    others = {one.pid for one in psutil.Process().children()}  # of hubs of other tests
    async with run_hub(made) as parts:
        await parts.hub.ready()
        await HubForTests(parts).run("test.noop", text="x")
        forks = kind == "auto" and can_fork()
        own: list[psutil.Process] = []

        async def started() -> bool:  # the hub is ready with the first; each names itself late
            mine = [one for one in psutil.Process().children() if one.pid not in others]
            own[:] = [one for one in mine if one.name() in OURS]
            names = Counter(one.name() for one in own)
            found = (names["holdfast-runner"], names["holdfast-zygote"])
            return found == ((0, 1) if forks else (2, 0))

        await until_true(started)
    _, alive = psutil.wait_procs(own, 20)
    assert alive == []


async def _works(parts: Parts, first: RunnerProcess) -> None:
    await parts.hub.ready()
    (worker,) = parts.hub.crew.workers
    assert isinstance(worker, ProcessWorker)
    assert worker.pid == first.pid
    event, _ = await HubForTests(parts).run("test.noop", text="x")
    assert event.deliveries == 1


def test_a_hub_that_cannot_start_leaves_none(tmp_path: Path) -> None:
    migrations.upgrade(f"sqlite:///{tmp_path / 'holdfast.db'}")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        environ = {
            "PATH": os.environ["PATH"],
            "HOLDFAST_HOME": str(tmp_path),
            "HOLDFAST_PORT": str(taken.getsockname()[1]),
            "TMPDIR": str(tmp_path),  # a runner inherits it, and what forks it
        }
        command = [str(Path(sys.executable).with_name("holdfast")), "up"]
        ended = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, timeout=60)
    assert b"cannot listen" in ended.stderr
    assert [process for process in psutil.process_iter() if _marked(process, str(tmp_path))] == []


def _marked(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get("TMPDIR") == mark
    except psutil.Error:
        return False

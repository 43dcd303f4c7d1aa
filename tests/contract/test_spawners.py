"""Every spawner keeps the contract; the zygote also while it is treated badly."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from structlog.testing import capture_logs

from holdfast.errors import SettingsError
from holdfast.runner import process, zygote_spawner
from holdfast.runner.process import PlainSpawner, Spawner, open_spawner
from holdfast.runner.zygote_spawner import ZygoteSpawner
from holdfast.testing.contracts.spawner import ENVIRONMENT, Hired, SpawnerContract, end, waited

WITHIN_S = 60.0
SECRET = {"HIDDEN": "hunter2", "OPENAI_API_KEY": "sk-hunter2", "LANGSMITH_TRACING": "true"}

on_linux = pytest.mark.skipif(not process.can_fork(), reason="forks only on Linux")


@pytest.fixture
def zygote() -> Iterator[ZygoteSpawner]:
    with opened(TMPDIR="/tmp") as spawner:  # it gets that one
        yield spawner


class opened:  # noqa: N801 - a context manager
    """A zygote's spawner that is closed in the end."""

    def __init__(self, *preload: str, kind: Any = "auto", **environment: str) -> None:
        self.arguments = (kind, preload, {**ENVIRONMENT, **SECRET, **environment})

    def __enter__(self) -> ZygoteSpawner:
        kind, preload, environment = self.arguments
        self.spawner = open_spawner(kind, preload, environment=environment)
        assert isinstance(self.spawner, ZygoteSpawner)
        return self.spawner

    def __exit__(self, *_: object) -> None:
        self.spawner.close()


class TestPlainSpawner(SpawnerContract):
    many = 5  # each takes a second of a core

    @pytest.fixture
    def spawner(self) -> Iterator[Spawner]:
        spawner = open_spawner("plain", environment=SECRET)
        yield spawner
        spawner.close()


@on_linux
class TestZygoteSpawner(SpawnerContract):
    @pytest.fixture
    def spawner(self, zygote: ZygoteSpawner) -> Spawner:
        return zygote


@on_linux
async def test_a_forked_runner_is_like_a_plain_one(zygote: ZygoteSpawner, tmp_path: Path) -> None:
    looks: list[Any] = []
    for spawner in (PlainSpawner(), zygote):
        one = await Hired(spawner, log=tmp_path / "log").start()
        seen = await one.run("spawned.looks")
        seen["descriptors"] = sorted(what.partition("[")[0] for what in seen["descriptors"])
        del seen["pid"], seen["chances"]
        looks.append(seen)
        await end(one)
    assert looks[1] == looks[0]


@on_linux
async def test_no_secret_is_in_what_the_zygote_was_started_with(zygote: ZygoteSpawner) -> None:
    one = await Hired(zygote).start()
    for pid in (zygote.pid, one.worker.pid):
        shown = Path(f"/proc/{pid}/environ").read_text()
        assert "hunter2" not in shown
        assert "LANGSMITH" not in shown
    await end(one)


@on_linux
async def test_a_runner_remembers_nothing_of_its_zygotes_environment(tmp_path: Path) -> None:
    (tmp_path / "early.py").write_text("import langsmith.utils as u\nu.get_tracer_project()\n")
    with opened("early", PYTHONPATH=str(tmp_path)) as spawner:
        one = await Hired(spawner, {**ENVIRONMENT, "LANGSMITH_PROJECT": "its own"}).start()
        assert (await one.run("spawned.looks"))["python"]["project"] == "its own"
        await end(one)


@on_linux
async def test_the_ended_are_buried(zygote: ZygoteSpawner) -> None:
    hired = await asyncio.gather(*(Hired(zygote).start() for _ in range(3)))
    await end(*hired)
    for one in hired:
        assert await waited(one.process) == -signal.SIGKILL
    assert psutil.Process(zygote.pid).children() == []


def _told(logs: list[Any]) -> list[Any]:
    """What people are shown."""
    return [one for one in logs if one["log_level"] != "debug"]


# -- the zygote dies -------------------------------------------------------------------------------


@on_linux
async def test_runners_outlive_their_zygote_and_a_new_one_gives_more(zygote: ZygoteSpawner) -> None:
    first = await asyncio.gather(*(Hired(zygote).start() for _ in range(3)))
    before = zygote.pid
    assert before is not None
    with capture_logs() as logs:
        os.kill(before, signal.SIGKILL)
        second = await Hired(zygote).start()
    assert zygote.pid != before
    assert [one["event"] for one in _told(logs)] == ["zygote.died"]
    for one in (*first, second):
        assert (await one.run("spawned.looks"))["pid"] == one.worker.pid
    first[0].worker.retire()
    assert await first[0].ended() is None, "who could tell is gone"
    first[1].process.kill()
    await first[1].ended()
    await end(first[2], second)


@on_linux
async def test_what_was_asked_of_a_zygote_that_dies_is_asked_of_the_next(
    zygote: ZygoteSpawner,
) -> None:
    await end(await Hired(zygote).start())
    before = zygote.pid
    assert before is not None
    os.kill(before, signal.SIGSTOP)
    asked = [Hired(zygote) for _ in range(zygote_spawner.UNANSWERED + 8)]
    asked[0].process.kill()
    os.kill(before, signal.SIGKILL)
    await asyncio.gather(*(one.start() for one in asked[1:]))
    await asked[0].worker.start()
    assert await asked[0].ended() is None
    await end(*asked[1:])


@on_linux
async def test_a_zygote_that_stands_still_is_followed_by_another(
    zygote: ZygoteSpawner, monkeypatch: pytest.MonkeyPatch
) -> None:
    await end(await Hired(zygote).start())
    monkeypatch.setattr(zygote_spawner, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(zygote_spawner, "ANSWER_WITHIN_S", 0.2)
    before = zygote.pid
    assert before is not None
    os.kill(before, signal.SIGSTOP)
    one = Hired(zygote)
    assert await asyncio.to_thread(_gone, before)
    monkeypatch.setattr(zygote_spawner, "ANSWER_WITHIN_S", WITHIN_S)
    await one.start()
    await end(one)


def _gone(pid: int) -> bool:
    try:
        psutil.Process(pid).wait(WITHIN_S)
    except psutil.NoSuchProcess:
        return True
    return True


@on_linux
async def test_where_no_zygote_lives_runners_are_plain(tmp_path: Path) -> None:
    (tmp_path / "deadly.py").write_text("import os\nos._exit(3)\n")
    with capture_logs() as logs, opened("deadly", PYTHONPATH=str(tmp_path)) as spawner:
        hired = [Hired(spawner) for _ in range(3)]
        await asyncio.gather(*(one.start() for one in hired))
        late = await Hired(spawner).start()
        assert spawner.pid is None
        for one in (*hired, late):
            command = psutil.Process(one.worker.pid).cmdline()
            assert command[1:3] == ["-m", "holdfast.runner"]
        late.process.terminate()
        assert await late.ended() == -signal.SIGTERM
        await end(*hired)
    died = ["zygote.died"] * (zygote_spawner.MAX_FAILED_STARTS - 1)
    assert [one["event"] for one in _told(logs)] == [*died, "zygote.given_up"]


CROWDED = {
    "a thread": "import threading, time\n"
    "threading.Thread(target=time.sleep, args=(3600,), daemon=True, name='noise').start()",
    "a file": "kept = open(__file__)",
}


@on_linux
@pytest.mark.parametrize("what", list(CROWDED))
async def test_a_module_that_no_child_could_inherit_is_told(what: str, tmp_path: Path) -> None:
    (tmp_path / "crowded.py").write_text(CROWDED[what])
    with capture_logs() as logs, opened("crowded", PYTHONPATH=str(tmp_path)) as spawner:
        await end(await Hired(spawner).start())
        await end(await Hired(spawner).start())
    (told,) = _told(logs)
    assert told["event"] == "zygote.given_up"
    assert ("noise" if what == "a thread" else "crowded.py") in told["reason"]


@on_linux
async def test_a_module_that_is_not_there_is_left_out_and_told(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("1 / 0\n")
    modules, found = ("broken", "no_such_module"), str(tmp_path)
    with capture_logs() as logs, opened(*modules, PYTHONPATH=found) as spawner:
        await end(await Hired(spawner).start())
    told = {one["module"]: one["error"] for one in logs if one["event"] == "zygote.not_preloaded"}
    assert told == {
        "broken": "ZeroDivisionError: division by zero",
        "no_such_module": "ModuleNotFoundError: No module named 'no_such_module'",
    }


@on_linux
async def test_who_is_wanted_soon_does_not_wait_for_what_is_preloaded(tmp_path: Path) -> None:
    wait = f"import pathlib, time\nwhile not pathlib.Path({str(tmp_path / 'go')!r}).exists():\n"
    (tmp_path / "slow.py").write_text(f"{wait}    time.sleep(0.01)\n")
    with opened("slow", PYTHONPATH=str(tmp_path)) as spawner:
        soon, late = Hired(spawner, soon=True), Hired(spawner)
        await soon.start()
        assert late.process.pid is None
        (tmp_path / "go").touch()
        await late.start()
        await end(soon, late)


@on_linux
async def test_who_wants_a_zygote_and_nothing_else_is_told_that_there_is_none(
    tmp_path: Path,
) -> None:
    (tmp_path / "crowded.py").write_text(CROWDED["a thread"])
    with capture_logs(), opened("crowded", kind="zygote", PYTHONPATH=str(tmp_path)) as spawner:
        one = Hired(spawner)
        await one.worker.start()
        assert await one.ended() is None
        with pytest.raises(OSError, match="noise"):
            spawner.spawn(ENVIRONMENT)


def test_where_nothing_can_be_forked_there_is_no_zygote(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "can_fork", lambda: False)
    assert isinstance(open_spawner("auto", environment={}), PlainSpawner)
    with pytest.raises(SettingsError, match="HOLDFAST_SPAWN"):
        open_spawner("zygote", environment={})


# -- the hub dies ----------------------------------------------------------------------------------

HUB = """
import sys, time
from holdfast.telemetry import configure_logging
from holdfast.runner.process import open_spawner
configure_logging("error")
spawner = open_spawner("zygote", environment={})
kept = [spawner.spawn({"PATH": "/bin"}) for _ in range(int(sys.argv[1]))]
while None in (pids := [one.pid for one in kept]):
    time.sleep(0.01)
print(spawner.pid, *pids, flush=True)
time.sleep(3600)
"""


@on_linux
@pytest.mark.parametrize(
    ("number", "runners"),
    [(signal.SIGKILL, 3), (signal.SIGKILL, 0), (signal.SIGTERM, 3), (signal.SIGINT, 3)],
)
def test_all_end_with_their_hub_however_it_ends(number: signal.Signals, runners: int) -> None:
    command = [sys.executable, "-c", HUB, str(runners)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as hub:
        assert hub.stdout is not None
        left = [psutil.Process(int(pid)) for pid in hub.stdout.readline().split()]
        assert len(left) == 1 + runners
        hub.send_signal(number)
        _, alive = psutil.wait_procs(left, WITHIN_S)
        hub.kill()
    assert alive == []

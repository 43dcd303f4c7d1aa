"""Folders, databases and hubs that a measure needs, gone when it ends."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import psutil

from holdfast import settings
from holdfast.app import Parts, run_hub
from holdfast.domain.events import LOCAL_OWNER
from holdfast.domain.ids import new_id
from holdfast.operations import read
from holdfast.operations.submit import submit
from holdfast.operations.wait import ended_within
from holdfast.settings import Settings
from holdfast.store import migrations
from holdfast.telemetry import configure_logging
from holdfast.testing.postgres import PostgresForTests, running_postgres

ROOT = Path(__file__).parents[1]
TIMEOUT_S = 60.0

_ADDRESS = re.compile(rb"answers at\s+http://127\.0\.0\.1:(\d+)")


@contextmanager
def environment(*, runners: int, database_url: str | None = None) -> Iterator[dict[str, str]]:
    """Variables of a hub whose files lie in a folder that is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as folder:
        environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",  # this checkout, wherever it is
            "HOLDFAST_HOME": folder,
            "HOLDFAST_APPS": "bench.graphs",
            "HOLDFAST_PORT": "0",
            "HOLDFAST_RUNNERS": str(runners),
            "HOLDFAST_LOG_LEVEL": "error",
        }
        if database_url is not None:
            environ["HOLDFAST_DATABASE_URL"] = database_url
        migrations.upgrade(settings.load(environ=environ).store_url)
        yield environ


@contextmanager
def postgres() -> Iterator[PostgresForTests]:
    """A server that keeps what it has committed, as a real one does."""
    url = os.environ.get("HOLDFAST_TEST_POSTGRES_URL")
    with running_postgres(url) as server:
        if url is None:  # for tests it does without fsync
            server.execute("ALTER SYSTEM RESET ALL")
            server.execute("SELECT pg_reload_conf()")
        yield server


@asynccontextmanager
async def stopped(process: asyncio.subprocess.Process) -> AsyncIterator[None]:
    """End a process with the block: asked at first, then killed."""
    try:
        yield
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 15)
            except TimeoutError:
                process.kill()
                await process.wait()


class Bare:
    """The other end of the process; it runs only while it is asked."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def seconds(self, graph: str, runs: int, in_flight: int = 1) -> float:
        """Seconds that one `ainvoke` costs: wall over runs.

        Args:
            graph: name of a declaration in `graphs`.
            runs: how many.
            in_flight: how many at once.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{graph} {runs} {in_flight}\n".encode())
        async with asyncio.timeout(TIMEOUT_S):
            return float(await self._process.stdout.readline())


@asynccontextmanager
async def bare() -> AsyncIterator[Bare]:
    """Start the process; warm when this returns."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.bare",
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    async with stopped(process):
        side = Bare(process)
        await side.seconds("noop", 200)
        yield side


class HubProcess:
    """A `holdfast up` of its own."""

    def __init__(self, pid: int, port: int) -> None:
        self.pid = pid
        self.port = port
        self._hub = psutil.Process(pid)

    def cpu(self) -> tuple[float, float]:
        """Seconds of CPU used so far: by the hub, by its runners."""
        return _cpu(self._hub), sum(_cpu(one) for one in self._hub.children(recursive=True))


@asynccontextmanager
async def hub_process(environ: dict[str, str]) -> AsyncIterator[HubProcess]:
    """Start a hub; it takes requests when this returns."""
    said = Path(environ["HOLDFAST_HOME"]) / f"stderr-{new_id()}"
    with said.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("holdfast")),
            "up",
            env=environ,
            cwd=environ["HOLDFAST_HOME"],  # no `.env` there
            stderr=stderr,
        )
    async with stopped(process):
        async with asyncio.timeout(TIMEOUT_S):
            while (found := _ADDRESS.search(said.read_bytes())) is None:
                if process.returncode is not None:
                    raise RuntimeError(f"the hub did not start: {said.read_text()}")
                await asyncio.sleep(0.05)
        yield HubProcess(process.pid, int(found[1]))


class LocalHub:
    """A hub in this process, with its runners beside it, and no HTTP."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.kit = parts.kit

    async def run(self, name: str) -> str:
        """Submit an event and wait until its record is stored; the execution's id."""
        event_id = new_id()
        with self.parts.ended.expect(event_id) as rested:
            await submit(
                self.kit, owner_id=LOCAL_OWNER, type=name, data={"text": "x"}, event_id=event_id
            )
            if not await ended_within(rested, TIMEOUT_S):
                raise TimeoutError(f"{name} did not end")
            notice = rested.result()
        assert notice.execution_id is not None
        if notice.status != "succeeded":
            ended = await self.execution(notice.execution_id)
            raise RuntimeError(f"{name} {ended.status}: {ended.error}")
        return notice.execution_id

    async def run_many(self, name: str, runs: int, in_flight: int) -> None:
        """The same many times, so many at once."""

        async def some() -> None:
            for _ in range(runs // in_flight):
                await self.run(name)

        await asyncio.gather(*(some() for _ in range(in_flight)))

    async def execution(self, execution_id: str) -> read.Execution:
        """A stored execution."""
        return (await read.execution(self.kit, execution_id, LOCAL_OWNER)).execution

    def cpu(self) -> tuple[float, float]:
        """Seconds of CPU used so far: by this process, by the runners."""
        pids = [worker.pid for worker in self.parts.hub.crew.workers]  # type: ignore[attr-defined]
        return _cpu(psutil.Process()), sum(_cpu(psutil.Process(pid)) for pid in pids)


@asynccontextmanager
async def local_hub(environ: dict[str, str]) -> AsyncIterator[LocalHub]:
    """Start a hub in this process; a runner is ready when this returns."""
    made: Settings = settings.load(environ=environ)
    configure_logging(made.log_level)
    async with run_hub(made) as parts:
        async with asyncio.timeout(TIMEOUT_S):
            await parts.hub.ready()
        yield LocalHub(parts)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system

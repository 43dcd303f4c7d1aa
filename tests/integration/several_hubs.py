"""Hubs that share one PostgreSQL: in this process, and as processes of their own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psutil

from holdfast import settings
from holdfast.app import make_api, run_hub

from .api_server import serving
from .conftest import HubForTests
from .zygote import zygote

ROOT = Path(__file__).parents[2]
START_S = 60.0

ROLES = {"both": "api,worker", "api": "api", "worker": "worker", "agents": "agents"}


class Shared:
    """What the hubs of one test have in common."""

    def __init__(self, folder: Path, database: str, bus: str | None) -> None:
        self.folder = folder
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOLDFAST_DATABASE_URL": database,
            "HOLDFAST_APPS": "spine_app,waiting_app",
            "HOLDFAST_RUNNERS": "1",
            "HOLDFAST_STOP_GRACE": "3",
            "HOLDFAST_LOG_LEVEL": "warning",
            "HOLDFAST_PORT": "0",
        }
        if bus is not None:
            self.environ["HOLDFAST_BUS_URL"] = bus

    def environ_of(self, home: str, role: str = "both", **more: str) -> dict[str, str]:
        own = {"HOLDFAST_HOME": str(self.folder / home), "HOLDFAST_ROLES": ROLES[role]}
        return self.environ | own | more

    @asynccontextmanager
    async def hub(self, home: str, role: str = "both", **more: str) -> AsyncIterator[HubHere]:
        """A hub in this process, its runners in theirs."""
        made = settings.load(environ=self.environ_of(home, role, **more))
        async with run_hub(made, spawner=zygote()) as parts:
            await parts.hub.ready()
            api = make_api(parts)
            async with (
                serving(api) as url,
                httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as http,
            ):
                yield HubHere(parts, http)

    @contextmanager
    def celery(self, home: str, *arguments: str, **more: str) -> Iterator[CeleryProcess]:
        """A Celery worker, with its pool's processes."""
        process = CeleryProcess(self.environ_of(home, **more), self.folder, arguments)
        try:
            yield process
        finally:
            process.end()

    @contextmanager
    def process(self, home: str, role: str = "both", **more: str) -> Iterator[HubProcess]:
        """`holdfast up`, in a process of its own."""
        process = HubProcess(self.environ_of(home, role, **more), self.folder)
        try:
            yield process
        finally:
            process.end()


class HubHere(HubForTests):
    """A hub in this process, with a client of its own doors."""

    def __init__(self, parts: Any, http: httpx.AsyncClient) -> None:
        super().__init__(parts)
        self.http = http

    async def post(self, type: str, **data: Any) -> str:
        answer = await self.http.post("/api/v1/events", json={"type": type, "data": data})
        assert answer.status_code == 202, answer.text
        return answer.json()["id"]


class Process:
    """A program of ours as a child of the test."""

    def __init__(self, command: list[str], environ: dict[str, str], folder: Path) -> None:
        self._log = folder / f"process-{uuid4().hex}.log"
        paths = os.pathsep.join([str(ROOT / "tests/apps"), str(ROOT)])
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(Path(sys.executable).with_name(command[0])), *command[1:]],
                env=environ | {"PYTHONPATH": paths},
                stderr=log,
                stdout=log,
                cwd=folder,
            )
        self.pid = self._process.pid

    @property
    def log(self) -> str:
        return self._log.read_text()

    async def says(self, text: str) -> None:
        """Wait until its log has the text."""
        async with asyncio.timeout(START_S):
            while text not in self.log:
                assert self._process.poll() is None, self.log
                await asyncio.sleep(0.02)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def ended(self) -> int:
        """Wait for its end; the exit code."""
        return await asyncio.to_thread(self._process.wait, START_S)

    def end(self) -> None:
        """Kill it and what it has started."""
        if self._process.poll() is None:
            children = psutil.Process(self.pid).children(recursive=True)
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            for child in children:
                with suppress(psutil.NoSuchProcess):
                    child.kill()
            self._process.wait()


class HubProcess(Process):
    """`holdfast up`."""

    def __init__(self, environ: dict[str, str], folder: Path) -> None:
        super().__init__(["holdfast", "up"], environ, folder)
        self._url: str | None = None

    async def url(self) -> str:
        """Where it answers, once it takes work."""
        if self._url is not None:
            return self._url
        await self.says("answers at ")
        url = self.log.split("answers at ")[1].split()[0]
        async with asyncio.timeout(START_S), httpx.AsyncClient(trust_env=False) as http:
            while (await http.get(f"{url}/readyz")).status_code != 200:
                await asyncio.sleep(0.02)
        self._url = url
        return url


class CeleryProcess(Process):
    """`celery -A holdfast.celery_app worker`."""

    def __init__(self, environ: dict[str, str], folder: Path, arguments: tuple[str, ...]) -> None:
        self.name = f"{uuid4().hex}@test"
        options = ["--loglevel=info", "--without-gossip", "--without-mingle", "-n", self.name]
        command = ["celery", "-A", "holdfast.celery_app", "worker", *options, *arguments]
        super().__init__(command, environ, folder)

    async def ready(self) -> None:
        """Wait until it takes messages."""
        await self.says(" ready.")

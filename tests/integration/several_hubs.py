"""Hubs that share one PostgreSQL: in this process, and as processes of their own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx

from holdfast import settings
from holdfast.app import make_api, run_hub

from .api_server import serving
from .conftest import HubForTests

ROOT = Path(__file__).parents[2]
START_S = 60.0

ROLES = {"both": "api,worker", "api": "api", "worker": "worker"}


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
        async with run_hub(made) as parts:
            await parts.hub.ready()
            api = make_api(parts)
            async with (
                serving(api) as url,
                httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as http,
            ):
                yield HubHere(parts, http)

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


class HubProcess:
    """`holdfast up` as a child of the test."""

    def __init__(self, environ: dict[str, str], folder: Path) -> None:
        self._log = folder / f"hub-{len(list(folder.glob('hub-*')))}.log"
        paths = os.pathsep.join([str(ROOT / "tests/apps"), str(ROOT)])
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(Path(sys.executable).with_name("holdfast")), "up"],
                env=environ | {"PYTHONPATH": paths},
                stderr=log,
                stdout=log,
                cwd=folder,
            )
        self.pid = self._process.pid

    @property
    def log(self) -> str:
        return self._log.read_text()

    async def url(self) -> str:
        """Where it answers, once it takes work."""
        async with asyncio.timeout(START_S):
            while "answers at " not in self.log:
                assert self._process.poll() is None, self.log
                await asyncio.sleep(0.02)
            url = self.log.split("answers at ")[1].split()[0]
            async with httpx.AsyncClient(trust_env=False) as http:
                while (await http.get(f"{url}/readyz")).status_code != 200:
                    await asyncio.sleep(0.02)
        return url

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def ended(self) -> int:
        """Wait for its end; the exit code."""
        return await asyncio.to_thread(self._process.wait, START_S)

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()

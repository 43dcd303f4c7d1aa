"""The hub under test, seen from outside: its process, its children, its HTTP doors."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from .points import VARIABLE

PATIENCE_S = 60.0
"""Longer than anything may take; a lost host's lease is 15 s."""

_RETRY_S = 0.02


class Alarm:
    """Where an armed point calls; `reached` when it stands still there."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "alarm"
        self.reached = asyncio.Event()
        self.pid = 0
        self._caller: asyncio.StreamWriter | None = None
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Alarm:
        self._server = await asyncio.start_unix_server(self._called, self.path)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.let_go()

    async def _called(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._caller = writer
        self.pid = int(await reader.readline())
        self.reached.set()

    def let_go(self) -> None:
        """The process that stands still may go on."""
        if self._caller is not None:
            self._caller.close()
            self._caller = None


class HubUnderTest:
    """A `holdfast up` that can be killed and started again on the same data."""

    def __init__(self, environ: dict[str, str], folder: Path) -> None:
        self._environ = environ
        self._folder = folder
        self._said = (folder / "hub.log").open("ab")
        self._process: asyncio.subprocess.Process | None = None
        self.url = f"http://127.0.0.1:{environ['HOLDFAST_PORT']}"

    async def start(self, alarm: Alarm | None = None, point: str = "", hit: int = 1) -> None:
        """Start it, with a point armed if one is named; it works when this returns."""
        environ = dict(self._environ)
        if alarm is not None:
            environ[VARIABLE] = f"{alarm.path} {point} {hit}"
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "chaos.hub",
            "up",
            env=environ,
            cwd=self._folder,  # no `.env` there
            stdin=asyncio.subprocess.DEVNULL,
            stdout=self._said,
            stderr=self._said,
        )
        async with asyncio.timeout(PATIENCE_S), httpx.AsyncClient() as http:
            while True:
                if self._process.returncode is not None:
                    raise RuntimeError(f"the hub did not start:\n{self.log()}")
                with suppress(httpx.TransportError):
                    if (await http.get(f"{self.url}/readyz")).status_code == 200:
                        return
                await asyncio.sleep(_RETRY_S)

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def runners(self) -> list[psutil.Process]:
        """Its children that run graphs."""
        return psutil.Process(self.pid).children()

    async def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL for one that does not heed it."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self._process.wait(), PATIENCE_S)
            except TimeoutError:
                await self.kill()
                raise
        self._said.close()

    def log(self) -> str:
        """What it and its runners have written."""
        return (self._folder / "hub.log").read_text()


@asynccontextmanager
async def hub_under_test(environ: dict[str, str], folder: Path) -> AsyncIterator[HubUnderTest]:
    """A hub that is not started yet, and ends with the block."""
    hub = HubUnderTest(environ, folder)
    try:
        yield hub
    finally:
        if hub._process is not None:
            await hub.stop()


class Sender:
    """A client as one should be: each event under a key of its own, sent until it is taken in."""

    def __init__(self, hub: HubUnderTest) -> None:
        self._http = httpx.AsyncClient(base_url=hub.url, timeout=PATIENCE_S)
        self.sent: dict[str, str] = {}  # event id by key

    async def __aenter__(self) -> Sender:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def send(self, key: str, pipeline: str, data: dict[str, Any]) -> str:
        """Send one event; its id once the hub has answered for it."""
        body = {"type": pipeline, "data": data}
        async with asyncio.timeout(PATIENCE_S):
            while True:
                answer = await self._ask("POST", "/api/v1/events", key, body)
                if answer is not None:
                    self.sent[key] = answer["id"]
                    return answer["id"]
                await asyncio.sleep(_RETRY_S)

    async def get(self, path: str) -> Any:
        """What the hub answers, once it answers."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                answer = await self._ask("GET", path)
                if answer is not None:
                    return answer
                await asyncio.sleep(_RETRY_S)

    async def _ask(
        self, method: str, path: str, key: str | None = None, body: Any = None
    ) -> Any | None:
        """An answer, or None when the hub is away or says so."""
        headers = {} if key is None else {"Idempotency-Key": key}
        try:
            answer = await self._http.request(method, path, json=body, headers=headers)
        except httpx.TransportError:
            return None
        if answer.status_code == 503:
            return None
        answer.raise_for_status()
        return answer.json()

    async def ended(self, event_id: str) -> dict[str, Any]:
        """The event with its executions, once it rests."""
        async with asyncio.timeout(2 * PATIENCE_S):
            while True:
                event = await self.get(f"/api/v1/events/{event_id}?wait=5")
                if event["status"] not in ("queued", "running"):
                    return event
                await asyncio.sleep(_RETRY_S)


def kill(pid: int) -> float:
    """SIGKILL; the time."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return time.time()

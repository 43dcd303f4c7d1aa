"""The programs under test, seen from outside: their processes, their children, their HTTP doors."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from . import VARIABLE

PATIENCE_S = 120.0
"""Longer than anything may take; a lost host's lease is 15 s."""

_RETRY_S = 0.02


class Alarm:
    """Where an armed point calls; `reached` when it stands still there."""

    def __init__(self, folder: Path, point: str, hit: int) -> None:
        self.path = folder / "alarm"
        self.point = point
        self.hit = hit
        self.reached = asyncio.Event()
        self.pid = 0
        self._caller: asyncio.StreamWriter | None = None
        self._server: asyncio.Server | None = None

    @property
    def variable(self) -> dict[str, str]:
        """What arms a program, as a part of its environment."""
        return {VARIABLE: f"{self.path} {self.point} {self.hit}"}

    async def __aenter__(self) -> Alarm:
        self._server = await asyncio.start_unix_server(self._called, self.path)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.let_go()

    async def _called(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pid = int(await reader.readline())
        if self.reached.is_set():  # several processes of one program count each for itself
            writer.close()
            return
        self._caller, self.pid = writer, pid
        self.reached.set()

    def let_go(self) -> None:
        """The process that stands still may go on."""
        if self._caller is not None:
            self._caller.close()
            self._caller = None


class Program(ABC):
    """A program that can be killed and started again on the same data."""

    module: str

    def __init__(self, name: str, environ: dict[str, str], folder: Path) -> None:
        self.name = name
        self.environ = environ
        self._folder = folder
        self._log = folder / f"{name}.log"
        self._process: asyncio.subprocess.Process | None = None

    @abstractmethod
    def arguments(self) -> list[str]:
        """Of its command line."""

    @abstractmethod
    async def works(self, said: str) -> bool:
        """Whether it works now; `said` is what this boot has written."""

    async def start(self, alarm: Alarm | None = None) -> None:
        """Start it, with a point armed if one is named; it works when this returns."""
        environ = self.environ | (alarm.variable if alarm else {})
        with self._log.open("ab") as log:
            begins = log.tell()
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                self.module,
                *self.arguments(),
                env=environ,
                cwd=self._folder,  # no `.env` there
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        async with asyncio.timeout(PATIENCE_S):
            while not await self.works(self.log()[begins:]):
                if self._process.returncode is not None:
                    raise RuntimeError(f"{self.name} did not start:\n{self.log()}")
                await asyncio.sleep(_RETRY_S)

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def children(self) -> list[psutil.Process]:
        """Its processes that run graphs, the oldest first."""
        return [process for process in self._below() if not _is_zygote(process)]

    def zygotes(self) -> list[psutil.Process]:
        """Its processes that others are forked from."""
        return [process for process in self._below() if _is_zygote(process)]

    def _below(self) -> list[psutil.Process]:
        try:
            below = psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:  # it has ended by itself
            return []
        return sorted(below, key=lambda process: process.pid)

    async def kill(self) -> float:
        """SIGKILL; the time."""
        assert self._process is not None
        when = kill(self.pid)
        await self._process.wait()
        return when

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL for one that does not heed it."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), PATIENCE_S)
        except TimeoutError:
            await self.kill()
            raise

    def log(self) -> str:
        """What it and its children have written."""
        return self._log.read_text()


class Hub(Program):
    """`holdfast up`."""

    module = "chaos.hub"

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.environ['HOLDFAST_PORT']}"

    def arguments(self) -> list[str]:
        """See `Program`."""
        return ["up"]

    async def works(self, said: str) -> bool:  # noqa: ARG002 - its door tells
        """See `Program`."""
        with suppress(httpx.TransportError):
            async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE_S) as http:
                return (await http.get(f"{self.url}/readyz")).status_code == 200
        return False


class CeleryWorker(Program):
    """`celery -A holdfast.celery_app worker`, with runners as `holdfast up` has.

    When Redis dies while messages wait in the worker, kombu stumbles over the closed connection and
    the worker ends by itself. It is started again, as a service manager would.
    """

    module = "chaos.celery"
    tasks = 2

    def __init__(self, name: str, environ: dict[str, str], folder: Path) -> None:
        super().__init__(name, environ, folder)
        self._manager: asyncio.Task[None] | None = None

    async def start(self, alarm: Alarm | None = None) -> None:
        """See `Program`."""
        await super().start(alarm)
        assert self._process is not None
        self._manager = asyncio.create_task(self._start_when_ended(self._process))

    async def _start_when_ended(self, process: asyncio.subprocess.Process) -> None:
        await process.wait()
        await self.start()

    async def stop(self) -> None:
        """See `Program`."""
        self._leave()
        await super().stop()

    def _leave(self) -> None:
        if self._manager is not None:
            self._manager.cancel()
            self._manager = None

    def arguments(self) -> list[str]:
        """See `Program`."""
        own = ["--loglevel=info", f"--concurrency={self.tasks}", "--hostname=chaos@localhost"]
        quick = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        return ["-A", "holdfast.celery_app", "worker", *own, *quick]

    async def works(self, said: str) -> bool:
        """See `Program`."""
        return " ready." in said

    async def kill(self) -> float:
        """See `Program`."""
        self._leave()
        return await super().kill()


def _is_zygote(process: psutil.Process) -> bool:
    try:
        return process.name() == "holdfast-zygote"
    except psutil.NoSuchProcess:
        return False


class Stand:
    """All programs of a case: one that takes events in, one that runs them, or one for both."""

    def __init__(self, door: Hub, worker: Program) -> None:
        self.door = door
        self.worker = worker

    @property
    def programs(self) -> list[Program]:
        """Each once, in the order in which they are started."""
        return [self.door] if self.worker is self.door else [self.worker, self.door]

    async def start(self, alarm: Alarm | None = None) -> None:
        """Start all of them; a point is armed in the one that passes it."""
        takes_in = alarm is not None and alarm.point.startswith(("accept", "doorbell"))
        armed = self.door if takes_in else self.worker
        await asyncio.gather(*(one.start(alarm if one is armed else None) for one in self.programs))

    async def stop(self) -> None:
        """Stop all of them."""
        for one in reversed(self.programs):
            await one.stop()


class Sender:
    """A client as one should be: each event under a key of its own, sent until it is taken in."""

    def __init__(self, url: str) -> None:
        self._http = httpx.AsyncClient(base_url=url, timeout=PATIENCE_S, trust_env=False)
        self.sent: dict[str, str] = {}  # event id by key
        self.sessions: dict[str, list[str]] = {}  # event ids in the order they were taken in

    async def __aenter__(self) -> Sender:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def send(
        self, key: str, pipeline: str, data: dict[str, Any], session: str | None = None
    ) -> str:
        """Send one event; its id once the hub has answered for it."""
        body = {"type": pipeline, "data": data}
        if session is not None:
            body["session_id"] = session
        async with asyncio.timeout(PATIENCE_S):
            while True:
                answer = await self._ask("POST", "/api/v1/events", key, body)
                if answer is not None:
                    self.sent[key] = answer["id"]
                    if session is not None:
                        self.sessions.setdefault(session, []).append(answer["id"])
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

    async def ended(self, event_id: str, within_s: float = 2 * PATIENCE_S) -> dict[str, Any]:
        """The event with its executions, once it rests."""
        async with asyncio.timeout(within_s):
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

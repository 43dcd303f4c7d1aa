"""Talking to agents: over a WebSocket, to one that is stopped, in many sessions at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from statistics import median
from typing import Any

import httpx
import orjson
import psutil
from websockets.asyncio.client import ClientConnection, connect

from .harness import Line, percentile
from .places import TIMEOUT_S, HubProcess, environment, hub_process
from .replies import SLOW_S

TURNS = 150
WARM_UP = 20
WAKES = 15
IDLE_S = 0.5
"""How soon the agent that is woken falls asleep."""

SESSIONS = 200
IDLE = 1000
_AGENTS = "/api/v1/agents"


async def measure() -> AsyncIterator[Line]:
    """One hub on SQLite with its agents, as a user has it."""
    with environment(runners=1) as environ:
        environ["HOLDFAST_PROCESS_CHECK_INTERVAL"] = str(IDLE_S / 2)
        async with hub_process(environ) as hub:
            base = f"http://127.0.0.1:{hub.port}"
            async with httpx.AsyncClient(base_url=base, timeout=TIMEOUT_S, trust_env=False) as http:
                yield await _round_trips(http, hub)
                yield await _wakes(http)
                yield await _side_by_side(http, hub)
                async for line in _idle(http, hub):
                    yield line


async def _configure(http: httpx.AsyncClient, name: str, rules: str, **more: Any) -> None:
    settings = {"model": "standard", "rules": f"bench.replies:{rules}", **more}
    config = {"simple": {"settings": settings}}
    (await http.put(f"{_AGENTS}/{name}", json={"config": config})).raise_for_status()


async def _say(http: httpx.AsyncClient, name: str, text: str, session: str | None = None) -> Any:
    body = {"text": text} | ({} if session is None else {"session_id": session})
    answered = await http.post(f"{_AGENTS}/{name}/messages?wait=30", json=body)
    answered.raise_for_status()
    said = answered.json()
    assert said["answer"]["error"] is None, said
    return said


class Socket:
    """One end of a WebSocket to an agent."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def said(self, text: str, session: str | None) -> dict[str, Any]:
        """Say something; the frame with the answer."""
        frame = {"type": "message", "text": text} | ({"session_id": session} if session else {})
        await self._connection.send(orjson.dumps(frame).decode())
        return await self.next("message")

    async def say_all(self, texts: Sequence[str]) -> None:
        """Begin as many conversations."""
        for text in texts:
            await self._connection.send(orjson.dumps({"type": "message", "text": text}).decode())

    async def next(self, kind: str) -> dict[str, Any]:
        """The next frame of that kind."""
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                frame = orjson.loads(await self._connection.recv())
                assert frame["type"] != "error", frame
                if frame["type"] == kind:
                    return frame


@asynccontextmanager
async def _socket(port: int, name: str) -> AsyncIterator[Socket]:
    async with connect(f"ws://127.0.0.1:{port}/ws/agents/{name}", proxy=None) as connection:
        socket = Socket(connection)
        await socket.next("connected")
        yield socket


async def _round_trips(http: httpx.AsyncClient, hub: HubProcess) -> Line:
    """What the whole way there and back takes beyond the execution itself."""
    await _configure(http, "quick", "at_once")
    took: list[tuple[float, str]] = []
    async with _socket(hub.port, "quick") as socket:
        session = (await socket.said("hello", None))["session_id"]
        for nth in range(TURNS):
            began = time.perf_counter()
            frame = await socket.said(f"turn {nth}", session)
            took.append((time.perf_counter() - began, frame["execution_id"]))
    added = [1000 * (wall - await _ran(http, run)) for wall, run in took[WARM_UP:]]
    return Line(
        name="a WebSocket round trip adds to the graph's own time",
        value=median(added),
        unit="ms",
        bar=20.0,
        note=f"p95 {percentile(added, 0.95):.1f} ms; {len(added)} turns of one session",
    )


async def _ran(http: httpx.AsyncClient, execution: str) -> float:
    found = (await http.get(f"/api/v1/executions/{execution}")).raise_for_status().json()
    started = datetime.fromisoformat(found["started_at"])
    return (datetime.fromisoformat(found["finished_at"]) - started).total_seconds()


async def _wakes(http: httpx.AsyncClient) -> Line:
    """A message to an agent without a process, beside one to an agent that runs."""
    await _configure(http, "sleepy", "at_once", idle_s=IDLE_S)
    up: list[float] = []
    down: list[float] = []
    session = (await _say(http, "sleepy", "hello"))["session_id"]
    for nth in range(WAKES):
        began = time.perf_counter()
        await _say(http, "sleepy", f"awake {nth}", session)
        up.append(1000 * (time.perf_counter() - began))
        await _asleep(http, "sleepy")
        began = time.perf_counter()
        await _say(http, "sleepy", f"asleep {nth}", session)
        down.append(1000 * (time.perf_counter() - began))
    added = [slow - quick for slow, quick in zip(down, up, strict=True)]
    return Line(
        name="a message to a stopped agent is answered later by",
        value=median(added),
        unit="ms",
        bar=150.0,
        note=f"{median(down):.0f} ms, awake {median(up):.0f} ms; longest {max(down):.0f} ms",
    )


async def _asleep(http: httpx.AsyncClient, name: str) -> None:
    """Until it has been idle for long enough, and is stopped."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            status = (await http.get(f"{_AGENTS}/{name}/status")).raise_for_status().json()
            if status["status"] == "stopped":
                return
            await asyncio.sleep(0.02)


async def _side_by_side(http: httpx.AsyncClient, hub: HubProcess) -> Line:
    """Many sessions of one agent whose model takes a second.

    Over one WebSocket: an HTTP client with hundreds of connections would take more CPU than the
    hub and the agent together.
    """
    await _configure(http, "busy", "slowly")
    await _say(http, "busy", "hello")
    async with _socket(hub.port, "busy") as socket:
        began = time.perf_counter()
        await socket.say_all([f"session {n}" for n in range(SESSIONS)])
        sessions = {(await socket.next("message"))["session_id"] for _ in range(SESSIONS)}
        wall = time.perf_counter() - began
    assert len(sessions) == SESSIONS
    return Line(
        name=f"{SESSIONS} sessions of one agent whose model takes {SLOW_S:g} s",
        value=wall,
        unit="s",
        against=SLOW_S * SESSIONS,
        bar=2.0 * SLOW_S,
        note="all answered; held against one after the other",
    )


async def _idle(http: httpx.AsyncClient, hub: HubProcess) -> AsyncIterator[Line]:
    """What agents cost that are configured and do nothing."""
    process = psutil.Process(hub.pid)

    async def rests() -> tuple[float, float]:
        before = hub.cpu()[0]
        await asyncio.sleep(5)
        return hub.cpu()[0] - before, process.memory_info().rss / 2**20

    children = len(process.children(recursive=True))
    cpu, memory = await rests()
    for nth in range(IDLE):
        await _configure(http, f"idle-{nth}", "at_once")
    more_cpu, more_memory = await rests()
    yield Line(
        name=f"{IDLE} configured agents that do nothing: CPU in 5 s",
        value=1000 * more_cpu,
        unit="ms",
        against=1000 * cpu,
        note=f"{len(process.children(recursive=True)) - children} processes more",
    )
    yield Line(
        name=f"{IDLE} configured agents that do nothing: memory of the hub",
        value=more_memory,
        unit="MB",
        against=memory,
    )

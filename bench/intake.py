"""Events a second from HTTP to the stored record, against one core of bare `ainvoke`."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median

import httpx

from .harness import Line, duel
from .places import (
    TIMEOUT_S,
    Bare,
    HubProcess,
    bare,
    environment,
    hub_process,
    postgres,
    stopped,
)

PIPELINE = "bench.noop"
ROUNDS = 3
WARM = 400
EVENTS = 2500
BARE_RUNS = 1600
IN_FLIGHT = 32
LOOK_EVERY_S = 0.05

_ENDED = f'holdfast_events_ended_total{{pipeline="{PIPELINE}",status="succeeded"}}'


async def measure() -> AsyncIterator[Line]:
    """A burst into a hub with two runners, on SQLite and on PostgreSQL."""
    async with bare() as graph:
        with environment(runners=2) as environ:
            yield await _burst(environ, graph, "SQLite", bar=1.0)
        with (
            postgres() as server,
            environment(runners=2, database_url=server.empty()) as environ,
        ):
            yield await _burst(environ, graph, "PostgreSQL", bar=2 / 3)


async def _burst(environ: dict[str, str], graph: Bare, database: str, bar: float) -> Line:
    async with (
        hub_process(environ) as hub,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{hub.port}") as http,
    ):
        await _store(hub, http, WARM)
        spent: list[float] = []
        answered: list[float] = []
        before = hub.cpu()

        async def ours() -> float:
            seconds, sent, cpu = await _store(hub, http, EVENTS)
            spent.append(1000 * cpu / EVENTS)
            answered.append(EVENTS / sent)
            return EVENTS / seconds

        async def theirs() -> float:
            return 1 / await graph.seconds("noop", BARE_RUNS, IN_FLIGHT)

        both = await duel(ours, theirs, ROUNDS)
        cpu = [1000 * (b - a) / (ROUNDS * EVENTS) for a, b in zip(before, hub.cpu(), strict=True)]
    return Line(
        name=f"HTTP intake to stored record, {database}",
        value=both.ours,
        unit="/s",
        against=both.theirs,
        ratio=both.ratio,
        bar=bar,
        at_least=True,
        note=f"bursts of {EVENTS}, answered at {median(answered):,.0f}/s; CPU an event: hub "
        f"{cpu[0]:.2f} ms, runners {cpu[1]:.2f} ms, load {median(spent):.3f} ms",
    )


async def _store(
    hub: HubProcess, http: httpx.AsyncClient, events: int
) -> tuple[float, float, float]:
    """Send a burst: seconds to its last stored record, to its last answer, and CPU of the load."""
    goal = await _ended(http) + events
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("load.py")),
        *(str(hub.port), PIPELINE, str(events)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    async with stopped(process), asyncio.timeout(TIMEOUT_S):
        await asyncio.sleep(0.2)  # it has imported what it needs
        began = time.perf_counter()
        process.stdin.write(b"go\n")
        sent, cpu = (float(word) for word in (await process.stdout.readline()).split())
        while await _ended(http) < goal:
            await asyncio.sleep(LOOK_EVERY_S)
        return time.perf_counter() - began, sent, cpu


async def _ended(http: httpx.AsyncClient) -> int:
    """Records stored so far, as the hub counts them after their commit."""
    text = (await http.get("/metrics")).text
    return next(
        (int(float(line.split()[-1])) for line in text.splitlines() if line.startswith(_ENDED)), 0
    )

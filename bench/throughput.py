"""Events a second from HTTP to the stored record, one hub, two hubs and Celery, against others.

Beside one core of bare `ainvoke` of the same graph, and over Celery beside a Celery task that does
nothing: same broker, same number of processes, no result backend.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median

from .deployments import (
    CONCURRENCY,
    PLACES,
    Deployment,
    cannot,
    celery_worker,
    delete_queue,
    deployment,
    queue_name,
)
from .harness import Line
from .places import ROOT, TIMEOUT_S, Bare, bare, environment, postgres, stopped

PIPELINE = "bench.noop"
ROUNDS = 3
WARM = 400
EVENTS = {"celery-redis": 600, "celery-rabbitmq": 600}
"""Events of a burst, where they are not 2,500."""

BARS = {"sqlite": 1.0, "postgresql": 2 / 3}
BARE_RUNS = 1600
IN_FLIGHT = 32
LOOK_EVERY_S = 0.05

Rate = Callable[[], Awaitable[float]]


async def measure() -> AsyncIterator[Line]:
    """Bursts into each installation, in turn with what it is held against."""
    with postgres() as server:
        async with bare() as graph:
            for place, name in PLACES.items():
                if (why := cannot(place)) is not None:
                    print(f"NOT MEASURED: {name}: {why}", file=sys.stderr, flush=True)
                    continue
                async with AsyncExitStack() as stack:
                    one = await stack.enter_async_context(deployment(place, server))
                    others = [_graph(graph)]
                    if one.queue is not None:
                        others.append(await stack.enter_async_context(celery_alone(one.queue[0])))
                    for line in await _lines(place, one, others):
                        yield line


async def _lines(place: str, one: Deployment, others: list[Rate]) -> list[Line]:
    events = EVENTS.get(place, 2500)
    await _store(one, min(WARM, events))
    answered: list[float] = []
    rounds: list[list[float]] = []
    spent = 0.0
    for _ in range(ROUNDS):
        theirs = [await other() for other in others]
        before = one.cpu()
        seconds, sent = await _store(one, events)
        spent += one.cpu() - before
        answered.append(events / sent)
        rounds.append([events / seconds, *theirs])
    ours = median(row[0] for row in rounds)
    lines: list[Line] = []
    for number, beside in enumerate(("bare LangGraph", "a Celery no-op")[: len(others)], 1):
        bar = BARS.get(place) if number == 1 else None
        lines.append(
            Line(
                name=f"HTTP to record, {PLACES[place]}, beside {beside}",
                value=ours,
                unit="/s",
                against=median(row[number] for row in rounds),
                ratio=median(row[0] / row[number] for row in rounds),
                bar=bar,
                at_least=True,
                note=f"bursts of {events}, answered at {median(answered):,.0f}/s; CPU an event in "
                f"all processes {1000 * spent / (ROUNDS * events):.2f} ms"
                if number == 1
                else "published to run; same broker, as many processes",
            )
        )
    return lines


def _graph(graph: Bare) -> Rate:
    async def rate() -> float:
        return 1 / await graph.seconds("noop", BARE_RUNS, IN_FLIGHT)

    return rate


async def _store(one: Deployment, events: int) -> tuple[float, float]:
    """Send a burst: seconds to its last stored record, and to its last answer."""
    goal = one.peek.ended() + events
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("load.py")),
        *(",".join(map(str, one.ports)), PIPELINE, str(events)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    async with stopped(process), asyncio.timeout(2 * TIMEOUT_S):
        await asyncio.sleep(0.2)  # it has imported what it needs
        began = time.perf_counter()
        process.stdin.write(b"go\n")
        sent, _ = (float(word) for word in (await process.stdout.readline()).split())
        while one.peek.ended() < goal:
            await asyncio.sleep(LOOK_EVERY_S)
        return time.perf_counter() - began, sent


@asynccontextmanager
async def celery_alone(broker: str) -> AsyncIterator[Rate]:
    """A Celery worker whose task does nothing, and how many of it a second run."""
    async with AsyncExitStack() as stack:
        environ = stack.enter_context(environment(runners=1))
        ends = Path(environ["HOLDFAST_HOME"]) / "ends"
        ends.touch()
        queue = queue_name()
        stack.callback(delete_queue, broker, queue)
        environ |= {"BENCH_BROKER": broker, "BENCH_QUEUE": queue, "BENCH_ENDS": str(ends)}
        processes = f"--concurrency={CONCURRENCY}"
        await stack.enter_async_context(celery_worker("bench.celery_noop", environ, processes))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.celery_noop"),
            cwd=ROOT,
            env=environ,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        await stack.enter_async_context(stopped(process))

        async def rate(count: int = 1000) -> float:
            assert process.stdin is not None
            assert process.stdout is not None
            goal = ends.stat().st_size + count
            async with asyncio.timeout(2 * TIMEOUT_S):
                began = time.perf_counter()
                process.stdin.write(f"{count}\n".encode())
                await process.stdout.readline()
                while ends.stat().st_size < goal:
                    await asyncio.sleep(0.005)
                return count / (time.perf_counter() - began)

        await rate(100)
        yield rate

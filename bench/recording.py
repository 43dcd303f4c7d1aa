"""What recording adds to a run of ten steps, and how soon after its end it is committed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from statistics import median
from typing import Any

import orjson
import uvloop

from holdfast import settings
from holdfast.bus import Notice
from holdfast.bus.base import ENDED
from holdfast.domain.ids import now_us
from holdfast.engine import Engine
from holdfast.engine.threads import ExecutionThreads
from holdfast.llm.factory import Models
from holdfast.pipelines.base import Declaration
from holdfast.pipelines.context import RunContext, running
from holdfast.pipelines.registry import Registry
from holdfast.ports import Ports, RunSpec

from .graphs import STEPS
from .harness import Line, percentile
from .places import environment, local_hub

RUNS = 200
STORED = 150

_DATA = {"text": "x"}


async def measure() -> AsyncIterator[Line]:
    """Ten steps of 2 KB each: plain functions, model calls, and model calls that stream."""
    yield await _adds("bench.values", "nodes that return 2 KB", bar=0.5)
    yield await _adds("bench.models", "model calls, 2 KB in and out", bar=0.5)
    yield await _adds("bench.streams", "the same calls, streamed in 12 pieces each", bar=None)
    waits = await _ended_to_committed("bench.models")
    yield Line(
        name="from the end of a run of 10 model calls to its commit",
        value=median(waits),
        unit="ms",
        bar=5.0,
        note=f"SQLite; p95 {percentile(waits, 0.95):.1f} ms",
    )


async def _adds(name: str, what: str, bar: float | None) -> Line:
    # In a thread, for a runner's loop is another one.
    plain, recorded, size = await asyncio.to_thread(uvloop.run, _both(name))
    return Line(
        name=f"recording adds to a run of {STEPS} {what}",
        value=1000 * median(ours - bare for bare, ours in zip(plain, recorded, strict=True)),
        unit="ms",
        bar=bar,
        note=f"bare {1000 * median(plain):.2f} ms; {size / 1024:.0f} KB told to the hub",
    )


class _Dropped:
    """A sink that counts bytes and keeps none."""

    def __init__(self) -> None:
        self.size = 0

    def change(self, execution_id: str, raw: bytes) -> None:
        self.size += len(execution_id) + len(raw)

    def tokens(self, _execution_id: str, _step: int, text: str) -> None:
        self.size += len(text)


async def _both(name: str) -> tuple[list[float], list[float], float]:
    """Seconds of `RUNS` bare runs and of as many recorded ones, in turn; bytes per record."""
    sink = _Dropped()
    registry = Registry.load(["bench.graphs"])
    models = Models(settings.load(environ={}).model_configs())
    ports = Ports(events=_NoEvents())
    threads = ExecutionThreads(1)
    ended = asyncio.Event()
    engine = Engine(
        registry=registry,
        models=models,
        sink=sink,
        ports=ports,
        threads=threads,
        on_end=lambda _: ended.set(),
    )
    declaration = registry.get(name)
    data = orjson.dumps(_DATA)

    async def recorded() -> None:
        ended.clear()
        engine.start(_spec(name, declaration.version, data))
        await ended.wait()

    async def bare() -> None:
        context = RunContext(
            execution_id="x", event_id="e", owner_id="o", delivery=1, models=models, ports=ports
        )
        with running(context):
            await _ainvoke(declaration, data)

    for _ in range(30):
        await bare()
        await recorded()
    sink.size = 0
    pairs = [(await _timed(bare), await _timed(recorded)) for _ in range(RUNS)]
    await engine.drain()
    threads.shutdown()
    return [a for a, _ in pairs], [b for _, b in pairs], sink.size / RUNS


async def _ainvoke(declaration: Declaration, data: bytes) -> Any:
    """A run as the engine does it, without what watches it."""
    event = declaration.validate(orjson.loads(data))
    config: Any = {"configurable": {"thread_id": "e"}}
    return declaration.result(await declaration.graph().ainvoke(declaration.initial(event), config))


async def _timed(run: Callable[[], Awaitable[None]]) -> float:
    began = time.perf_counter()
    await run()
    return time.perf_counter() - began


def _spec(name: str, version: str, data: bytes) -> RunSpec:
    return RunSpec(
        execution_id="x" * 36,
        event_id="e" * 36,
        owner_id="local",
        kind="pipeline",
        name=name,
        version=version,
        data=data,
        delivery=1,
    )


class _NoEvents:
    async def submit(self, **_: Any) -> str:
        raise NotImplementedError


async def _ended_to_committed(name: str) -> list[float]:
    """Milliseconds from a runner's last word to the notice after the commit, one run at a time."""
    waits: list[float] = []
    committed: dict[str, int] = {}

    def note(notice: Notice) -> None:
        assert notice.execution_id is not None
        committed[notice.execution_id] = now_us()

    with environment(runners=1) as environ:
        async with local_hub(environ) as hub:
            for _ in range(20):
                await hub.run(name)
            stop = hub.kit.bus.listen(ENDED, note)
            for _ in range(STORED):
                execution = await hub.execution(await hub.run(name))
                assert execution.finished_at is not None
                waits.append((committed[execution.id] - execution.finished_at) / 1000)
            stop()
    return waits

"""A hundred agents' processes from a zygote, beside plain ones: when ready, what they hold."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import psutil

from holdfast.domain.ids import new_id
from holdfast.hub.process_worker import ProcessWorker, RunnerOptions
from holdfast.hub.worker import Worker
from holdfast.ports import ModelConfig, RunSpec
from holdfast.runner.process import Spawner, SpawnKind, open_spawner
from holdfast.telemetry import configure_logging

from .harness import Line, percentile
from .places import ROOT, TIMEOUT_S

RUNNERS = 100
PLAIN = 20
"""So many Pythons are measured; a hundred take as much longer and hold as much more."""

SECONDS_BAR = 5.0
BYTES_BAR = 1.5
ONE_BY_ONE = 20

AGENT: dict[str, Any] = {
    "id": new_id(),
    "name": "echo",
    "version": 1,
    "config": {
        "simple": {
            "settings": {
                "model": "fast",
                "rules": "bench.echo:echo",
                "system_prompt": "Say it again.",
                "memory": {"enabled": False},
            }
        }
    },
}
PRELOAD = ("holdfast.llm.scripted", "holdfast.agents.build")
MODELS = {"fast": ModelConfig(alias="fast", provider="scripted", model="rules")}

_PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What one way of starting runners takes."""

    seconds: float  # until all are ready, a zygote's own start included
    idle: float  # GB, when they are ready
    used: float  # GB, when each has answered once
    one: float  # seconds from the start of one to its being ready, the median
    own: float  # GB of the zygote


async def measure() -> AsyncIterator[Line]:
    """Time and memory of both."""
    forked, plain = await _side("zygote", RUNNERS), await _side("plain", PLAIN)
    times = RUNNERS / PLAIN
    scaled = f"plain: {PLAIN} measured, times {times:g}"
    yield Line(
        name=f"{RUNNERS} agents ready, the zygote's own start included",
        value=forked.seconds,
        unit="s",
        against=plain.seconds * times,
        bar=SECONDS_BAR,
        note=scaled,
    )
    yield Line(
        name="… what they hold together (PSS)",
        value=forked.idle,
        unit="GB",
        against=plain.idle * times,
        bar=BYTES_BAR,
        note=f"{1000 * (forked.idle - forked.own) / RUNNERS:.1f} MB each, the zygote "
        f"{1000 * forked.own:.0f} MB; {scaled}",
    )
    yield Line(
        name="… when each has answered once",
        value=forked.used,
        unit="GB",
        against=plain.used * times,
        note=f"{1000 * (forked.used - forked.own) / RUNNERS:.1f} MB each",
    )
    yield Line(
        name="one agent ready",
        value=1000 * forked.one,
        unit="ms",
        against=1000 * plain.one,
        ratio=forked.one / plain.one,
        note=f"median of {ONE_BY_ONE}, one after the other",
    )


async def _side(kind: SpawnKind, number: int) -> Side:
    configure_logging("error")
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    began = time.perf_counter()
    async with AsyncExitStack() as stack:
        spawner = stack.enter_context(closing(open_spawner(kind, PRELOAD, environment=environment)))
        made = RunnerOptions(
            apps=(),
            agent=AGENT,
            models=MODELS,
            environment=environment,
            slots=8,
            log_level="error",
        )
        hired = [Hired(spawner, made) for _ in range(number)]
        stack.push_async_callback(_end, hired)
        await asyncio.gather(*(one.ready() for one in hired))
        seconds = time.perf_counter() - began
        pids = {one.worker.pid for one in hired if one.worker.pid is not None}
        assert len(pids) == number
        parents = {psutil.Process(pid).ppid() for pid in pids} - {os.getpid()}
        idle = _held(pids | parents)
        await asyncio.gather(*(one.turn() for one in hired))
        used = _held(pids | parents)
        own = _held(parents)
        await _end(hired)
        singles = [await _single(spawner, made) for _ in range(ONE_BY_ONE)]
    one = percentile(singles, 0.5)
    return Side(seconds=seconds, idle=idle, used=used, one=one, own=own)


async def _single(spawner: Spawner, made: RunnerOptions) -> float:
    began = time.perf_counter()
    one = Hired(spawner, made)
    await one.ready()
    seconds = time.perf_counter() - began
    await _end([one])
    return seconds


def _held(pids: set[int]) -> float:
    """Gigabytes that processes hold; what several share counts once."""
    told = (Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids)
    return sum(int(_PSS.findall(text)[0]) for text in told) * 1024 / 1e9


async def _end(hired: Sequence[Hired]) -> None:
    await asyncio.gather(*(one.worker.kill() for one in hired))


class Hired:
    """The employer of one runner."""

    def __init__(self, spawner: Spawner, made: RunnerOptions) -> None:
        self.worker = ProcessWorker("runner", self, made, spawner)
        self._ready = asyncio.Event()
        self._ended = asyncio.Event()

    async def ready(self) -> None:
        """Start it and wait until it is ready."""
        await self.worker.start()
        async with asyncio.timeout(TIMEOUT_S):
            await self._ready.wait()

    async def turn(self) -> None:
        """Answer once."""
        self._ended.clear()
        self.worker.run(
            RunSpec(
                execution_id=new_id(),
                event_id=new_id(),
                owner_id="local",
                kind="agent",
                name=AGENT["id"],
                version="1",
                data=orjson.dumps({"text": "hello", "message_id": new_id(), "channel": "api"}),
                delivery=1,
                session_id=new_id(),
            )
        )
        async with asyncio.timeout(TIMEOUT_S):
            await self._ended.wait()

    def on_ready(self, worker: Worker) -> None:  # noqa: ARG002
        self._ready.set()

    def on_ended(self, worker: Worker, execution_id: str) -> None:  # noqa: ARG002
        self._ended.set()

    def on_gone(self, worker: Worker, reason: str) -> None:  # noqa: ARG002
        worker.in_flight.clear()

    def on_change(self, worker: Worker, execution_id: str, raw: bytes) -> None:
        pass

    def on_tokens(self, execution_id: str, step: int, text: str) -> None:
        pass

    def on_outcome(self, told: Any) -> None:
        pass

    def on_spent(self, told: Any) -> None:
        pass

    async def ask(self, execution_id: str, port: str, args: dict[str, Any]) -> Any:  # noqa: ARG002
        raise AssertionError(f"{port} was asked for")

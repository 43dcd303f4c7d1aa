"""Bare LangGraph in a process of its own: `ainvoke` and nothing else, on the loop a runner uses."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvloop

from holdfast.pipelines.base import Declaration

from . import graphs
from .places import ROOT, stopped

TIMEOUT_S = 60.0


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


async def _invoke(declaration: Declaration, runs: int, in_flight: int) -> float:
    graph = declaration.graph()
    event = declaration.validate({"text": "x"})

    async def some(count: int) -> None:
        for number in range(count):
            config = {"configurable": {"thread_id": str(number)}}
            await graph.ainvoke(declaration.initial(event), config)

    began = time.perf_counter()
    await asyncio.gather(*(some(runs // in_flight) for _ in range(in_flight)))
    return (time.perf_counter() - began) / (runs // in_flight * in_flight)


def main() -> None:
    """Answer lines `graph runs in_flight` until the input ends."""
    for line in sys.stdin:
        name, runs, in_flight = line.split()
        print(uvloop.run(_invoke(getattr(graphs, name), int(runs), int(in_flight))), flush=True)


if __name__ == "__main__":
    main()

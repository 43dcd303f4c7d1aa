"""Bare LangGraph: `ainvoke` and nothing else, on the loop and with the modules a runner has.

Started by `places.bare` as a process of its own; reads lines `graph runs in_flight` and answers
each with the seconds that one run cost.
"""

from __future__ import annotations

import asyncio
import sys
import time

import uvloop

from holdfast.pipelines.base import Declaration

from . import graphs


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

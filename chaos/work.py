"""What the hubs under test run; every node leaves a line in a file, so that re-runs show."""

from __future__ import annotations

import asyncio
import os

from pydantic import BaseModel

from holdfast import Pipeline, State
from holdfast.pipelines.context import current_run


class Job(BaseModel):
    effects: str  # file
    seconds: float = 0.0


def leave(state: State[Job], node: str) -> None:
    run = current_run()
    line = f"{run.event_id} {run.delivery} {node}\n".encode()
    file = os.open(state.event.effects, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, line)  # one write of few bytes: lines of several processes never mix
    finally:
        os.close(file)


plain = Pipeline("chaos.plain", version="1", event=Job)


@plain.node
async def begin(state: State[Job]) -> None:
    leave(state, "begin")


@plain.node
async def work(state: State[Job]) -> float:
    await asyncio.sleep(state.event.seconds)
    leave(state, "work")
    return state.event.seconds


plain.start(begin)
plain.edge(begin, work)

durable = Pipeline("chaos.durable", version="1", event=Job, durable=True)


@durable.node
async def first(state: State[Job]) -> None:
    leave(state, "first")


@durable.node
async def second(state: State[Job]) -> None:
    await asyncio.sleep(state.event.seconds)
    leave(state, "second")


@durable.node
async def third(state: State[Job]) -> str:
    leave(state, "third")
    return "done"


durable.start(first)
durable.chain(first, second, third)

PIPELINES = (plain.name, durable.name)

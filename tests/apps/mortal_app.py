"""A durable pipeline that asks a real server, for tests that kill its runner at any moment."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from holdfast.pipelines.context import current_run
from holdfast.pipelines.pipeline import Pipeline
from holdfast.pipelines.state import State

ROUNDS = 3


class Job(BaseModel):
    name: str
    folder: str


pipeline = Pipeline("mortal.durable", version="1", event=Job, durable=True)


def act(name: str, seconds: float = 0.001) -> Any:
    """A node that takes its time and leaves a line: its event, the delivery, its name."""

    async def acting(state: State[Job]) -> str:
        await asyncio.sleep(0)  # what was recorded before leaves the process first
        line = f"{state.event.name} {current_run().delivery} {name}\n"
        fd = os.open(Path(state.event.folder) / "calls", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, line.encode())
        os.close(fd)
        await asyncio.sleep(seconds)
        return name

    return acting


NODES = [f"act{n}" for n in range(ROUNDS)]
BRANCHES = {"left": 0.001, "middle": 0.01, "right": 0.02}  # a crash finds some of them done
MODELS = [f"ask{n}" for n in range(ROUNDS)]

way: list[Any] = []
for n in range(ROUNDS):
    way.append(pipeline.node(NODES[n], act(NODES[n])))
    way.append(pipeline.model(MODELS[n], prompt=f"{{{{ event.name }}}} {MODELS[n]}", alias="fast"))
branches = [pipeline.node(name, act(name, seconds)) for name, seconds in BRANCHES.items()]
way.insert(3, pipeline.parallel("fan", branches))
pipeline.start(way[0])
pipeline.chain(*way)

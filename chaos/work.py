"""What the hubs under test run; every node leaves a line in a file, so that re-runs show."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from holdfast import Pipeline, State
from holdfast.pipelines.context import current_run

if TYPE_CHECKING:
    from .driver import Sender


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

SESSIONS = 20
"""At most; one event in four is a turn of one of them."""


class Events:
    """What is sent in one case; the same seed, the same events.

    Args:
        effects: the file in which nodes leave their lines.
        number: how many.
        seed: of their durations.
        seconds: between how many and how many one takes.
    """

    def __init__(self, effects: Path, number: int, seed: int, seconds: tuple[float, float]) -> None:
        self.effects = effects
        self._seed = seed
        chance = random.Random(seed)
        self._seconds = [chance.uniform(*seconds) for _ in range(number)]

    async def send(self, sender: Sender, at_once: int) -> None:
        """Send all; those of a session one after the other, for then their order is known."""
        numbers = range(len(self._seconds))
        turns = [one for one in numbers if one % 4 == 0]
        sessions = max(1, min(SESSIONS, len(turns) // 3))
        lines: list[tuple[str | None, list[int]]] = [(None, [n]) for n in numbers if n % 4]
        lines += [(f"session-{of}", turns[of::sessions]) for of in range(sessions)]
        lines.sort(key=lambda line: line[1][0])
        gate = asyncio.Semaphore(at_once)

        async def one_line(session: str | None, line: list[int]) -> None:
            for number in line:
                async with gate:
                    await self._send(sender, number, session)

        await asyncio.gather(*(one_line(*line) for line in lines))

    async def _send(self, sender: Sender, number: int, session: str | None) -> None:
        data = {"effects": str(self.effects), "seconds": self._seconds[number]}
        pipeline = PIPELINES[number // 4 % 2 if session else number % 2]
        await sender.send(f"{self._seed}-{number}", pipeline, data, session)

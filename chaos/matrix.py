"""The kill matrix: every point × who is killed there × where the data lies."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .driver import PATIENCE_S, Alarm, HubUnderTest, Sender, hub_under_test, kill
from .places import Place
from .points import POINTS
from .promises import Findings, check
from .work import PIPELINES

VICTIMS = ("runner", "hub", "database")

MOST_S = {"runner": 1.0, "hub": 2.0, "database": 2.0}
"""The longest from a kill (of a hub: from its restart) to the next execution of what it struck."""

_EVENTS = 24
_AT_ONCE = 4
_LAST_HIT = 3


@dataclass(frozen=True, slots=True)
class Case:
    """One cell of the matrix."""

    point: str
    victim: str
    hit: int  # the how manieth time the point is reached
    seed: int

    def __str__(self) -> str:
        return f"{self.victim} at {self.point}, hit {self.hit}"


def cases(place: Place, seed: int) -> Iterator[Case]:
    """All cells that a place allows; the same seed gives the same hits."""
    chance = random.Random(f"{seed} {place.name}")
    for point in POINTS:
        for victim in VICTIMS:
            if victim != "database" or place.restarts:
                yield Case(point, victim, chance.randint(1, _LAST_HIT), chance.randrange(2**32))


async def run(place: Place, case: Case) -> Findings:
    """Bring a hub to the point, kill the victim there, and see that the promises hold."""
    with tempfile.TemporaryDirectory(prefix="holdfast-chaos-") as name:
        folder = Path(name)
        with place.room(folder) as environ:
            async with Alarm(folder) as alarm, hub_under_test(environ, folder) as hub:
                await hub.start(alarm, case.point, case.hit)
                async with Sender(hub) as sender:
                    effects = folder / "effects"
                    sending = asyncio.create_task(_send_all(sender, effects, case.seed))
                    async with asyncio.timeout(PATIENCE_S):
                        await alarm.reached.wait()
                    struck = await _strike(case, place, hub, alarm)
                    await sending
                    return await check(sender, effects, [struck])


async def _send_all(sender: Sender, effects: Path, seed: int) -> None:
    chance = random.Random(seed)
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(number: int) -> None:
        async with gate:
            data = {"effects": str(effects), "seconds": chance.uniform(0, 0.1)}
            await sender.send(f"{seed}-{number}", PIPELINES[number % len(PIPELINES)], data)

    await asyncio.gather(*map(one, range(_EVENTS)))


async def _strike(case: Case, place: Place, hub: HubUnderTest, alarm: Alarm) -> tuple[float, float]:
    """Kill the victim and bring back what nobody else does; see `promises.check`."""
    match case.victim:
        case "runner":
            runners = sorted(hub.runners(), key=lambda process: process.pid)
            when = kill(random.Random(case.seed).choice(runners).pid)
            alarm.let_go()
            return when, when
        case "hub":
            when = kill(hub.pid)
            await hub.kill()
            again = time.time()
            await hub.start()
            return when, again
        case _:
            when = time.time()
            await place.restart()
            again = time.time()
            alarm.let_go()
            return when, again

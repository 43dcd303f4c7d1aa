"""The kill matrix: every point × who is killed there × where events are run and kept."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from .driver import PATIENCE_S, Alarm, Sender, Stand, kill
from .places import Place
from .points import POINTS
from .promises import Findings, Kill, check
from .work import Events

VICTIMS = {
    "runner": 1.0,
    "hub": 2.0,
    "celery": 2.0,
    "api": 2.0,
    "database": 2.0,
    "broker": 2.0,
    "host": 15.0,
}
"""Who, and the longest in seconds from the kill (of what is started again: from its restart) to the
next execution of what it struck."""

HELD = ("claim", "step", "finish")
"""Points at which a worker holds what it would lose with its host."""

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
        for victim in place.victims:
            if victim != "host" or point.startswith(HELD):
                yield Case(point, victim, chance.randint(1, _LAST_HIT), chance.randrange(2**32))


@asynccontextmanager
async def in_a_folder(place: Place, **settings: str) -> AsyncIterator[tuple[Path, Stand]]:
    """A folder for a case, and programs in it that are not started yet."""
    with tempfile.TemporaryDirectory(prefix="holdfast-chaos-") as name:
        async with place.stand(Path(name), **settings) as stand:
            yield Path(name), stand


async def run(place: Place, case: Case) -> Findings:
    """Bring the programs to the point, kill the victim there, and see that the promises hold."""
    async with (
        in_a_folder(place) as (folder, stand),
        Alarm(folder, case.point, case.hit) as alarm,
        Sender(stand.door.url) as sender,
    ):
        await stand.start(alarm)
        events = Events(folder / "effects", _EVENTS, case.seed, (0.0, 0.1))
        sending = asyncio.create_task(events.send(sender, _AT_ONCE))
        async with asyncio.timeout(PATIENCE_S):
            await alarm.reached.wait()
        struck = await _strike(case, place, stand, alarm)
        await sending
        return await check(sender, events.effects, [struck])


async def _strike(case: Case, place: Place, stand: Stand, alarm: Alarm) -> Kill:
    """Kill the victim and bring back what nobody else does."""
    match case.victim:
        case "runner":
            children = stand.worker.children()
            own = [process for process in children if process.pid == alarm.pid]
            when = kill(random.Random(case.seed).choice(own or children).pid)
            alarm.let_go()
            return Kill(case.victim, when, when)
        case "hub" | "api":
            program = stand.worker if case.victim == "hub" else stand.door
            when = await program.kill()
            alarm.let_go()
            again = time.time()
            await program.start()
            return Kill(case.victim, when, again)
        case "host":
            when = await stand.worker.kill()
            alarm.let_go()
            # Another machine: it does not see the first one's journal.
            stand.worker.environ["HOLDFAST_HOME"] += "-elsewhere"
            await stand.worker.start()
            return Kill(case.victim, when, when)
        case server:
            when = time.time()
            await asyncio.to_thread(place.servers[server].restart)
            again = time.time()
            alarm.let_go()
            return Kill(case.victim, when, again)

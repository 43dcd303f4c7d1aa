"""The storm: many events, and every few seconds a process dies."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field

from .driver import CeleryWorker, Program, Sender, Stand, kill
from .matrix import VICTIMS, in_a_folder
from .places import Place
from .promises import Findings, Kill, check
from .work import Events

EVERY_S = 5.0
_SLOTS = 8
_AT_ONCE = 16
_WITHIN_S = 900.0


@dataclass(slots=True)
class Storm(Findings):
    """What was found, and how often who was killed."""

    deaths: Counter[str] = field(default_factory=Counter[str])

    @property
    def killed(self) -> str:
        """In words."""
        return ", ".join(f"{times} × {who}" for who, times in sorted(self.deaths.items()))


async def run(place: Place, events: int, seed: int) -> tuple[Storm, str | None]:
    """Send events of 50 to 500 ms; kill a random process every 5 s until all have ended.

    Returns:
        What was found; and which re-run began too late, if one did.
    """
    deaths: Counter[str] = Counter()
    kills: list[Kill] = []
    async with (
        in_a_folder(place, HOLDFAST_RUNNER_SLOTS=str(_SLOTS)) as (folder, stand),
        Sender(stand.door.url) as sender,
    ):
        if isinstance(stand.worker, CeleryWorker):
            stand.worker.tasks = 2 * _SLOTS  # as many as its two runners have slots
        await stand.start()
        work = Events(folder / "effects", events, seed, (0.05, 0.5))
        async with asyncio.TaskGroup() as group:
            killing = group.create_task(_kill_on(place, stand, seed, kills, deaths))
            await work.send(sender, _AT_ONCE)
            found = await check(sender, work.effects, kills, within_s=_WITHIN_S)
            killing.cancel()
    storm = Storm(found.events, found.reruns, found.waited_s, found.faults, deaths)
    late = [
        f"{who} after {longest:.2f} s, at most {VICTIMS[who]:g} s is promised"
        for who, longest in storm.longest_by_victim.items()
        if longest > VICTIMS[who]
    ]
    return storm, f"a re-run began {'; '.join(late)}" if late else None


async def _kill_on(
    place: Place,
    stand: Stand,
    seed: int,
    kills: list[Kill],
    deaths: Counter[str],
) -> None:
    chance = random.Random(seed)
    due = time.monotonic()
    while True:
        due = max(due + EVERY_S, time.monotonic())
        await asyncio.sleep(due - time.monotonic())
        runners = [("runner", process.pid) for process in stand.worker.children()]
        zygotes = [("zygote", process.pid) for process in stand.worker.zygotes()]
        victim = chance.choice([*stand.programs, *runners, *zygotes, *place.servers.items()])
        if isinstance(victim, Program):
            name, when = victim.name, await victim.kill()
            again = time.time()
            await victim.start()
        elif isinstance(victim[1], int):
            name = victim[0]
            when = again = kill(victim[1])
        else:
            name, when = victim[0], time.time()
            await asyncio.to_thread(victim[1].restart)
            again = time.time()
        kills.append(Kill(name, when, again))
        deaths[name] += 1

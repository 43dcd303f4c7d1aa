"""The storm: many events, and every few seconds a process dies."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from .driver import HubUnderTest, Sender, hub_under_test, kill
from .matrix import MOST_S
from .places import Place
from .promises import Findings, check
from .work import PIPELINES

EVERY_S = 5.0
_SLOTS = 8
_AT_ONCE = 16


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
    with tempfile.TemporaryDirectory(prefix="holdfast-chaos-") as name:
        folder = Path(name)
        with place.room(folder) as environ:
            environ["HOLDFAST_RUNNER_SLOTS"] = str(_SLOTS)
            async with hub_under_test(environ, folder) as hub:
                await hub.start()
                async with Sender(hub) as sender:
                    effects = folder / "effects"
                    deaths: Counter[str] = Counter()
                    kills: list[tuple[float, float]] = []
                    async with asyncio.TaskGroup() as group:
                        killing = group.create_task(_kill_on(hub, seed, kills, deaths))
                        await _send_all(sender, effects, events, random.Random(seed))
                        found = await check(sender, effects, kills)
                        killing.cancel()
    storm = Storm(found.events, found.reruns, found.waited_s, found.faults, deaths)
    most_s = MOST_S["hub"]
    longest = storm.longest_s
    late = longest is not None and longest > most_s
    return storm, f"a re-run began after {longest:.2f} s" if late else None


async def _send_all(sender: Sender, effects: Path, events: int, chance: random.Random) -> None:
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(number: int) -> None:
        data = {"effects": str(effects), "seconds": chance.uniform(0.05, 0.5)}
        async with gate:
            await sender.send(f"storm-{number}", PIPELINES[number % len(PIPELINES)], data)

    await asyncio.gather(*map(one, range(events)))


async def _kill_on(
    hub: HubUnderTest, seed: int, kills: list[tuple[float, float]], deaths: Counter[str]
) -> None:
    chance = random.Random(seed)
    while True:
        await asyncio.sleep(EVERY_S)
        victims = [hub.pid, *(process.pid for process in hub.runners())]
        victim = chance.choice(victims)
        when = again = kill(victim)
        if victim == hub.pid:
            await hub.kill()
            again = time.time()
            await hub.start()
        kills.append((when, again))
        deaths["hub" if victim == victims[0] else "runner"] += 1

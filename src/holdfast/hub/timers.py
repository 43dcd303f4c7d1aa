"""Timers: halted executions, delayed events, schedules and items, each when its time has come."""

from __future__ import annotations

import asyncio

from holdfast.bus import Notice
from holdfast.bus.base import DELAYED, HALTED, QUEUED
from holdfast.domain.ids import MICROS
from holdfast.operations.announce import announce
from holdfast.operations.items import sweep
from holdfast.operations.kit import Kit
from holdfast.operations.schedules import fire_due
from holdfast.store.commands import Wake

from .rounds import Rounds

SWEEP_S = 60.0
"""How long a lost doorbell can delay a timer."""


class Timers:
    """Sleeps until the earliest time anything waits for; the store's clock says when that is."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._versions = {name: one.version for name, one in kit.registry.versions().items()}
        self._sweeps_at = 0.0
        self._rounds = Rounds("timers", self._wake)
        self._stop_listening = [
            kit.bus.listen(topic, lambda _: self.ring()) for topic in (HALTED, DELAYED)
        ]

    def start(self) -> None:
        """Begin to wake."""
        self._rounds.start()

    def ring(self) -> None:
        """Look again: something waits for a new time, or the clock was moved."""
        self._rounds.ring()

    async def close(self) -> None:
        """Wake nobody any more; another hub or the next boot does."""
        for stop in self._stop_listening:
            stop()
        await self._rounds.close()

    async def _wake(self) -> float:
        now = asyncio.get_running_loop().time()
        if now >= self._sweeps_at:  # what has expired is not found before, either
            self._sweeps_at = now + SWEEP_S
            await sweep(self._kit)
        fires_in = await fire_due(self._kit)
        woken = await self._kit.store.write(Wake(versions=self._versions))
        for event_id in woken.events:
            self._kit.bus.publish(Notice(QUEUED, event_id=event_id))
        announce(self._kit, woken.others)
        if woken.ready:
            self._kit.bus.publish(Notice(QUEUED))
        due = [] if woken.next_in_us is None else [woken.next_in_us / MICROS]
        due += [] if fires_in is None else [fires_in]
        return min([SWEEP_S, *due])

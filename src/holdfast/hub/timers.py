"""Timers: halted executions, delayed events and schedules, each when its time has come."""

from __future__ import annotations

import asyncio

from holdfast.bus import Notice
from holdfast.bus.base import DELAYED, HALTED, QUEUED
from holdfast.domain.ids import MICROS
from holdfast.errors import StoreError
from holdfast.operations.announce import announce
from holdfast.operations.kit import Kit
from holdfast.operations.schedules import fire_due
from holdfast.store.commands import Wake
from holdfast.telemetry import logger

log = logger("hub")

SWEEP_S = 60.0
"""How long a lost doorbell can delay a timer."""

RETRY_S = 1.0
"""Pause while the database is away."""


class Timers:
    """Sleeps until the earliest time anything waits for; the store's clock says when that is."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._versions = {name: one.version for name, one in kit.registry.versions().items()}
        self._bell = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stop_listening = [
            kit.bus.listen(topic, lambda _: self._bell.set()) for topic in (HALTED, DELAYED)
        ]

    def start(self) -> None:
        """Begin to wake."""
        self._task = asyncio.create_task(self._loop(), name="timers")

    def ring(self) -> None:
        """Look again: something waits for a new time, or the clock was moved."""
        self._bell.set()

    async def close(self) -> None:
        """Wake nobody any more; another hub or the next boot does."""
        for stop in self._stop_listening:
            stop()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _loop(self) -> None:
        while True:
            self._bell.clear()
            try:
                pause = await self._wake()
            except StoreError as error:
                log.error("hub.wake_failed", error=str(error))
                pause = RETRY_S
            except Exception:  # of our own making: the other timers must not end with it
                log.exception("hub.timers_fault")
                pause = RETRY_S
            try:
                async with asyncio.timeout(pause):
                    await self._bell.wait()
            except TimeoutError:
                pass  # it is time

    async def _wake(self) -> float:
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

"""Leases: kept alive while work runs here, taken from hubs that are not heard of any more."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from holdfast.domain.ids import MICROS
from holdfast.errors import StoreError
from holdfast.operations.kit import Kit
from holdfast.store.commands import ExtendLeases, Reap
from holdfast.telemetry import logger

from .dispatch import LEASE_S
from .recovery import tell

log = logger("hub")

BEAT_S = LEASE_S / 3


class LeaseKeeper:
    """Beats every third of a lease.

    Args:
        kit: the hub's parts.
        stop: called with the id of an execution whose lease another hub has taken, or that
            somebody asked to cancel.
        pause: called with the id of one that somebody asked to pause.
    """

    def __init__(self, kit: Kit, stop: Callable[[str], None], pause: Callable[[str], None]) -> None:
        self._kit = kit
        self._stop = stop
        self._pause = pause
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to beat."""
        self._task = asyncio.create_task(self._loop(), name="leases")

    async def close(self) -> None:
        """Stop; the leases held run out by themselves unless given back."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def beat(self) -> None:
        """Extend what runs here and take back what ran out elsewhere."""
        held = {running.event_id: running for running in self._kit.journal.all()}
        leases = [(r.event_id, r.start.claimed.fence) for r in held.values()]
        if leases:
            extended = await self._kit.store.write(
                ExtendLeases(
                    lease_owner=self._kit.boot_id, leases=leases, lease_us=int(LEASE_S * MICROS)
                )
            )
            for event_id in extended.lost:
                if held[event_id].finished is None:
                    log.warning("lease.lost", event_id=event_id, execution_id=held[event_id].id)
                    self._stop(held[event_id].id)
            for event_id in extended.cancel_requested:  # its notice may have been lost
                self._stop(held[event_id].id)
            for event_id in extended.pause_requested:
                self._pause(held[event_id].id)
        expired = await self._kit.store.write(Reap(lease_owner=self._kit.boot_id))
        for reaped in expired:
            log.warning("lease.expired", event_id=reaped.event_id, status=reaped.status)
        tell(self._kit, expired)

    async def _loop(self) -> None:
        while True:
            try:
                await self.beat()
            except StoreError as error:
                log.error("hub.beat_failed", error=str(error))
            # Jitter: hubs that started together must not reap together.
            await asyncio.sleep(BEAT_S * random.uniform(0.8, 1.0))  # noqa: S311

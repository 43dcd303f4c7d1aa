"""Leases: kept alive while work runs here, taken from hubs that are not heard of any more."""

from __future__ import annotations

from collections.abc import Callable

from holdfast.domain.ids import MICROS
from holdfast.operations.kit import Kit
from holdfast.store.commands import ExtendLeases, Reap
from holdfast.telemetry import logger

from .dispatch import LEASE_S
from .recovery import tell
from .rounds import Rounds, about

log = logger("hub")

BEAT_S = LEASE_S / 3

REAP_S = 1.0
"""Between two looks for leases that ran out elsewhere."""


class LeaseKeeper:
    """Beats every third of a lease, and looks each second for those that ran out.

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
        self._beating = Rounds("leases", self._beat_on)
        self._reaping = Rounds("reaper", self._reap_on)

    def start(self) -> None:
        """Begin to beat."""
        self._beating.start()
        self._reaping.start()

    async def close(self) -> None:
        """Stop; the leases held run out by themselves unless given back."""
        await self._beating.close()
        await self._reaping.close()

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
        await self.reap()

    async def reap(self) -> None:
        """Take back what ran out elsewhere."""
        expired = await self._kit.store.write(Reap(lease_owner=self._kit.boot_id))
        for reaped in expired:
            log.warning("lease.expired", event_id=reaped.event_id, status=reaped.status)
        await tell(self._kit, expired)

    async def _beat_on(self) -> float:
        await self.beat()
        return about(BEAT_S)

    async def _reap_on(self) -> float:
        await self.reap()
        return about(REAP_S)

"""Presence: this hub's row among the hubs of its database, kept fresh while it lives."""

from __future__ import annotations

from dataclasses import replace

from holdfast.domain.hubs import NewHub
from holdfast.errors import StoreError
from holdfast.store import Store
from holdfast.store.commands import HubBeat, HubLeft
from holdfast.telemetry import logger

from .rounds import Rounds, about

log = logger("hub")

BEAT_S = 5.0


class Presence:
    """Tells the others that this hub lives, that it is stopping, and that it has gone.

    Args:
        store: where the row is.
        about: what the row says.
    """

    def __init__(self, store: Store, about: NewHub) -> None:
        self.about = about
        self._store = store
        self._rounds = Rounds("presence", self._beat_on)
        self._here = False

    async def start(self) -> None:
        """Be there; returns when the others can see it, or the database is away."""
        await self._beat()
        self._here = True
        self._rounds.start(after_s=about(BEAT_S))

    async def stopping(self) -> None:
        """Say that nothing more is taken."""
        self.about = replace(self.about, stopping=True)
        await self._beat()

    async def close(self) -> None:
        """Leave."""
        if not self._here:
            return
        await self._rounds.close()
        try:
            await self._store.write(HubLeft(self.about.id))
        except StoreError as error:
            log.warning("hub.leaving_not_told", reason=str(error))

    async def _beat(self) -> None:
        try:
            await self._store.write(HubBeat(self.about))
        except StoreError as error:
            log.warning("hub.presence_not_told", reason=str(error))

    async def _beat_on(self) -> float:
        await self._beat()
        return about(BEAT_S)

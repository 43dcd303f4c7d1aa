"""Presence: this hub's row among the hubs of its database, kept fresh while it lives."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

from holdfast.domain.hubs import NewHub
from holdfast.errors import StoreError
from holdfast.store import Store
from holdfast.store.commands import HubBeat, HubLeft
from holdfast.telemetry import logger

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
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Be there; returns when the others can see it, or the database is away."""
        await self._beat()
        self._task = asyncio.create_task(self._loop(), name="presence")

    async def stopping(self) -> None:
        """Say that nothing more is taken."""
        self.about = replace(self.about, stopping=True)
        await self._beat()

    async def close(self) -> None:
        """Leave."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait({self._task})
        try:
            await self._store.write(HubLeft(self.about.id))
        except StoreError as error:
            log.warning("hub.leaving_not_told", reason=str(error))

    async def _beat(self) -> None:
        try:
            await self._store.write(HubBeat(self.about))
        except StoreError as error:
            log.warning("hub.presence_not_told", reason=str(error))

    async def _loop(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S * random.uniform(0.8, 1.0))  # noqa: S311
            await self._beat()

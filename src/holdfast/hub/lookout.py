"""Keeping what the hub has read from the store up to date, without asking before each use."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from holdfast.bus import Notice
from holdfast.bus.base import GAP
from holdfast.errors import StoreError
from holdfast.operations.kit import Kit

from .rounds import Rounds


class Lookout:
    """Reads something again when a notice tells that it changed, or may have.

    Args:
        kit: the hub's parts.
        read: reads it and takes in what is new; one at a time.
        topic: of the notices.
        sweep_s: how late this hub may be to hear of a change when the notice was lost, seconds.
    """

    def __init__(
        self, kit: Kit, read: Callable[[], Awaitable[None]], *, topic: str, sweep_s: float
    ) -> None:
        self._read = read
        self._sweep_s = sweep_s
        self._stale = False
        self._reading = asyncio.Lock()  # an older look must not end after a newer one
        self._rounds = Rounds(f"lookout-{topic}", self._look_on)
        self._stop_listening = [kit.bus.listen(heard, self._heard) for heard in (topic, GAP)]

    async def start(self) -> None:
        """Read it, then keep up.

        Raises:
            StoreError: the database is away.
        """
        await self.look()
        self._rounds.start(after_s=self._sweep_s)

    async def close(self) -> None:
        """Keep up no more."""
        for stop in self._stop_listening:
            stop()
        await self._rounds.close()

    async def refresh(self) -> None:
        """Read it if it has changed since it was read last; wait for a look under way.

        Raises:
            StoreError: the database is away.
        """
        if self._stale or self._reading.locked():
            async with self._reading:
                if self._stale:
                    await self._look()

    async def look(self) -> None:
        """Read it now.

        Raises:
            StoreError: the database is away.
        """
        async with self._reading:
            await self._look()

    async def _look(self) -> None:
        self._stale = False
        try:
            await self._read()
        except StoreError:
            self._stale = True
            raise

    async def _look_on(self) -> float:
        await self.look()
        return self._sweep_s

    def _heard(self, notice: Notice) -> None:  # noqa: ARG002 - whatever it was, all is read
        self._stale = True
        self._rounds.ring()

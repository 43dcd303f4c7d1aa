"""What a hub does again and again, whatever happens to one round of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from holdfast.errors import StoreError
from holdfast.telemetry import logger

log = logger("hub")

RETRY_S = 1.0
"""Pause after a round that failed."""


class Rounds:
    """Works when it is rung for, or when the pause that the last round asked for is over.

    Neither an absent database nor a fault of ours ends it: the round is told as failed and comes
    again.

    Args:
        name: of its task, and in the log.
        work: one round; returns seconds until the next, None for as long as nobody rings.
        retry_s: pause after one that failed.
    """

    def __init__(
        self, name: str, work: Callable[[], Awaitable[float | None]], *, retry_s: float = RETRY_S
    ) -> None:
        self._name = name
        self._work = work
        self._retry_s = retry_s
        self._bell = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self, *, after_s: float = 0.0) -> None:
        """Begin, with the first round after `after_s` seconds."""
        self._task = asyncio.create_task(self._go_round(after_s), name=self._name)

    async def close(self) -> None:
        """Stop; a round under way is broken off."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def ring(self) -> None:
        """Let the next round begin now; one under way is followed by another."""
        self._bell.set()

    async def rest(self, pause_s: float | None) -> None:
        """Wait until it is rung for, or `pause_s` seconds have passed."""
        try:
            async with asyncio.timeout(pause_s):
                await self._bell.wait()
        except TimeoutError:
            pass  # it is time
        self._bell.clear()

    async def _go_round(self, after_s: float) -> None:
        if after_s:
            await self.rest(after_s)
        while True:
            self._bell.clear()
            try:
                pause_s = await self._work()
            except StoreError as error:
                log.error("hub.round_failed", round=self._name, error=str(error))
                pause_s = self._retry_s
            except Exception:  # of our own making: what else the hub does must not end with it
                log.exception("hub.fault", round=self._name)
                pause_s = self._retry_s
            await self.rest(pause_s)


def about(seconds: float) -> float:
    """A little less, each time another: hubs that started together must not stay in step."""
    return seconds * random.uniform(0.8, 1.0)  # noqa: S311

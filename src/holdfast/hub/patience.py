"""Asking the store again and again while the database is away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from holdfast.errors import StoreError, StoreRefused
from holdfast.store.store import Store
from holdfast.telemetry import logger

R = TypeVar("R")

RETRY_S = (0.1, 0.5, 1.0, 2.0, 5.0)
"""Pauses while the database is away, unless somebody else finds it back; the last one repeats."""

log = logger("hub")


async def patiently(
    store: Store, ask: Callable[[], Awaitable[R]], *, within_s: float | None = None, **whose: str
) -> R:
    """What the store answers, once it does.

    Args:
        store: what is asked.
        ask: puts the question.
        within_s: no pause is begun that would outlast this; None asks for ever.
        **whose: ids for the log.

    Raises:
        HoldfastError: what the store says of what was asked; `StoreError` when it stayed away.
    """
    now = asyncio.get_running_loop().time
    until = None if within_s is None else now() + within_s
    tries = 0
    while True:
        try:
            return await ask()
        except StoreRefused:
            raise
        except StoreError as error:
            pause = RETRY_S[min(tries, len(RETRY_S) - 1)]
            log.error("hub.store_away", **whose, error=str(error), pause=pause)
            if until is not None and now() + pause > until:
                raise
        tries += 1
        await store.pause(pause)

"""What recorders of this machine finished, and what hubs that died here left, is taken in."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from holdfast.journal import Orphan, Running
from holdfast.operations.kit import Kit

from .ending import Endings
from .recovery import take_in
from .rounds import Rounds

LOOK_S = 1.0
"""Pause between two looks at the journal's root; a recorder lets go of a folder to hand it over."""


class Recordings:
    """Takes in the folders that recorders have let go of, or whose process has died."""

    def __init__(self, kit: Kit, endings: Endings) -> None:
        self._kit = kit
        self._endings = endings
        self._rounds = Rounds("recordings", self._look_on, retry_s=LOOK_S)

    def start(self) -> None:
        """Begin to look."""
        self._rounds.start()

    async def close(self) -> None:
        """Stop; what is not stored stays in its folder."""
        await self._rounds.close()

    async def look(self) -> int:
        """Take in what is there now; how many executions that were."""
        taken = 0
        found = self._kit.journal.orphans()
        while (one := await _next(found)) is not None:
            taken += await take_in(self._kit, self._endings, *one)
        return taken

    async def _look_on(self) -> float:
        await self.look()
        return LOOK_S


Found = tuple[Orphan, list[Running]]


async def _next(found: Iterator[Found]) -> Found | None:
    # In a thread, for a folder may hold megabytes and the loop has others to serve.
    reading = asyncio.ensure_future(asyncio.to_thread(next, found, None))
    try:
        return await asyncio.shield(reading)
    except asyncio.CancelledError:
        if (one := await reading) is not None:
            one[0].release()
        raise

"""Wait until an event rests: by notice, with the database as the truth."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager

from holdfast.bus import Notice
from holdfast.bus.base import ENDED
from holdfast.domain.events import Event
from holdfast.domain.status import EVENT_ENDS

from . import read
from .kit import Kit


class EndedEvents:
    """One listener on the bus for everybody who waits; a waiter costs a future."""

    def __init__(self, kit: Kit) -> None:
        self._waiting: dict[str, set[asyncio.Future[Notice]]] = {}
        self._stop = kit.bus.listen(ENDED, self._ended)
        self._closed = False

    @contextmanager
    def expect(self, event_id: str) -> Generator[asyncio.Future[Notice]]:
        """A future that is done when the event rests; listen first, then look at the store."""
        future: asyncio.Future[Notice] = asyncio.get_running_loop().create_future()
        if self._closed:
            future.cancel()
        self._waiting.setdefault(event_id, set()).add(future)
        try:
            yield future
        finally:
            waiting = self._waiting.get(event_id, set())
            waiting.discard(future)
            if not waiting:
                self._waiting.pop(event_id, None)

    def close(self) -> None:
        """Stop listening; who still waits, or will, is told at once that nothing comes."""
        self._closed = True
        self._stop()
        for waiting in self._waiting.values():
            for future in waiting:
                future.cancel()

    def _ended(self, notice: Notice) -> None:
        for future in self._waiting.get(notice.event_id or "", ()):
            if not future.done():
                future.set_result(notice)


async def ended_within(future: asyncio.Future[Notice], seconds: float) -> bool:
    """Whether the event rested within the time; False at once when nobody listens any more."""
    done, _ = await asyncio.wait({future}, timeout=seconds)
    return bool(done) and not future.cancelled()


async def event_at_rest(
    kit: Kit, ended: EndedEvents, event_id: str, owner_id: str, seconds: float
) -> Event:
    """The event as it stands when it rests, or after the time.

    Raises:
        NotFound: no such event of that owner.
    """
    with ended.expect(event_id) as rested:
        event = await read.event(kit, event_id, owner_id)
        if event.status in EVENT_ENDS:
            return event
        await ended_within(rested, seconds)
    return await read.event(kit, event_id, owner_id)

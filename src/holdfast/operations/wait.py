"""Wait until an event rests: by notice, with the database as the truth."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager

from holdfast.bus import Notice
from holdfast.bus.base import ENDED, GAP, HALTED
from holdfast.domain.events import Event
from holdfast.domain.status import EVENT_ENDS
from holdfast.errors import StoreError
from holdfast.store.queries import AtRest
from holdfast.telemetry import logger

from . import read
from .kit import Kit

log = logger("events")

LOOK_S = 1.0
"""Between two looks at the store, where other hubs can be heard of in no other way."""

SWEEP_S = 5.0
"""Between two looks where they are on the bus: how long a lost notice can delay an answer."""


class EndedEvents:
    """One listener on the bus for everybody who waits; a waiter costs a future."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._waiting: dict[str, set[asyncio.Future[Notice]]] = {}
        self._or_halted: set[asyncio.Future[Notice]] = set()
        self._stop = kit.bus.listen(ENDED, self._ended)
        self._stop_halts = kit.bus.listen(HALTED, self._halted)
        self._gap = asyncio.Event()
        self._stop_gaps = kit.bus.listen(GAP, lambda _: self._gap.set())
        self._looking: asyncio.Task[None] | None = None
        self._closed = False

    def start(self) -> None:
        """Look at the store from time to time, too: other hubs may end what is waited for."""
        self._looking = asyncio.create_task(self._look_on(), name="ended-events")

    @contextmanager
    def expect(
        self, event_id: str, *, or_halted: bool = False
    ) -> Generator[asyncio.Future[Notice]]:
        """A future that is done when the event rests; listen first, then look at the store.

        Args:
            event_id: which.
            or_halted: also when it stands still, for it waits or was paused.
        """
        future: asyncio.Future[Notice] = asyncio.get_running_loop().create_future()
        if self._closed:
            future.cancel()
        if or_halted:
            self._or_halted.add(future)
        self._waiting.setdefault(event_id, set()).add(future)
        try:
            yield future
        finally:
            waiting = self._waiting.get(event_id, set())
            waiting.discard(future)
            self._or_halted.discard(future)
            if not waiting:
                self._waiting.pop(event_id, None)

    def close(self) -> None:
        """Stop listening; who still waits, or will, is told at once that nothing comes."""
        self._closed = True
        self._stop()
        self._stop_halts()
        self._stop_gaps()
        if self._looking is not None:
            self._looking.cancel()
        for waiting in self._waiting.values():
            for future in waiting:
                future.cancel()

    def _ended(self, notice: Notice) -> None:
        for future in self._waiting.get(notice.event_id or "", ()):
            if not future.done():
                future.set_result(notice)

    def _halted(self, notice: Notice) -> None:
        for future in self._waiting.get(notice.event_id or "", ()):
            if future in self._or_halted and not future.done():
                future.set_result(notice)

    async def look(self) -> None:
        """Tell those whose event rests by what the store says."""
        if not self._waiting:
            return
        for event_id, status in (await self._kit.store.read(AtRest(list(self._waiting)))).items():
            self._ended(Notice(ENDED, event_id, status=status))

    async def _look_on(self) -> None:
        while True:
            try:
                async with asyncio.timeout(SWEEP_S if self._kit.bus.joins else LOOK_S):
                    await self._gap.wait()
            except TimeoutError:
                pass  # the sweep: a notice may have been lost
            self._gap.clear()
            try:
                await self.look()
            except StoreError as error:
                log.warning("events.not_looked", reason=str(error))


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

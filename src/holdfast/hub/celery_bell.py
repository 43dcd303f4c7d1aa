"""The doorbell of Celery workers: one small task for each event that may run.

The message says which event it was rung for and nothing else; the worker claims the best one. It
may be lost, doubled or late: events that are still ready after a while are rung for again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from celery import Celery

from holdfast.bus import Notice
from holdfast.bus.base import QUEUED
from holdfast.bus.celery_broker import FAULTS, TASK
from holdfast.operations.kit import Kit
from holdfast.store.queries import StillReady
from holdfast.telemetry import logger

from .rounds import Rounds, about

log = logger("hub")

LOOK_S = 1.0
"""Between two looks for events that are still ready."""

AGAIN_S = 2.0
"""An event still ready after so long is rung for again, later and later up to `RAREST_S`."""

RAREST_S = 60.0

AT_MOST = 500
"""Events rung for after one look."""


class CeleryBell:
    """Rings for what this hub stores, and for what has not been claimed in time.

    Args:
        kit: the hub's parts.
        app: see `celery_broker.make_celery`.
    """

    def __init__(self, kit: Kit, app: Celery) -> None:
        self._kit = kit
        self._app = app
        self._wanted: dict[str, None] = {}  # in order, each once
        self._ringing = Rounds("celery-bell", self._ring)
        self._looking = Rounds("celery-look", self._look, retry_s=LOOK_S)
        self._again: dict[str, tuple[float, float]] = {}  # when to ring next, and the pause then
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="celery-bell")
        self._stop_listening = kit.bus.listen(QUEUED, self._heard)
        kit.metrics.describe("holdfast_celery_rings_total", "counter", "Messages sent to Celery.")
        kit.metrics.describe(
            "holdfast_celery_failed_total", "counter", "Messages the broker did not take."
        )

    def start(self, *, looks: bool) -> None:
        """Begin to ring.

        Args:
            looks: also for what is still ready after a while, whoever has stored it. Workers leave
                that to the hubs: under a backlog each would ring for all of it.
        """
        self._ringing.start()
        if looks:
            self._looking.start(after_s=about(LOOK_S))

    async def close(self) -> None:
        """Ring no more; other hubs, or the next boot, find what is still ready."""
        self._stop_listening()
        await self._ringing.close()
        await self._looking.close()
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)
        self._app.close()

    def _heard(self, notice: Notice) -> None:
        # Without an id it came from another hub, which has rung already.
        if notice.event_id is not None:
            self._wanted[notice.event_id] = None
            self._ringing.ring()

    async def _ring(self) -> None:
        wanted, self._wanted = list(self._wanted), {}
        if not wanted:
            return
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._send, wanted)
        except FAULTS as error:
            # Nothing is lost: they stay ready, and the next looks find them.
            self._kit.metrics.add("holdfast_celery_failed_total", len(wanted))
            log.warning("celery.not_rung", events=len(wanted), reason=str(error))
        else:
            self._kit.metrics.add("holdfast_celery_rings_total", len(wanted))

    def _send(self, event_ids: Sequence[str]) -> None:
        app: Any = self._app
        with app.producer_or_acquire() as producer:
            for event_id in event_ids:
                app.send_task(
                    TASK, args=[event_id], producer=producer, ignore_result=True, retry=False
                )

    async def _look(self) -> float:
        pause_s = about(LOOK_S)
        names = self._kit.registry.versions()
        if not names:
            return pause_s
        found = await self._kit.store.read(
            StillReady(targets=sorted(names), for_us=int(AGAIN_S * 1_000_000), limit=AT_MOST)
        )
        now = asyncio.get_running_loop().time()
        again: dict[str, tuple[float, float]] = {}
        for event_id in found:
            due, pause = self._again.get(event_id, (now, AGAIN_S))
            if due <= now:
                self._wanted[event_id] = None
                due, pause = now + pause, min(2 * pause, RAREST_S)
            again[event_id] = (due, pause)
        self._again = again
        if self._wanted:
            self._ringing.ring()
        return pause_s

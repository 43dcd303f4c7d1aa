"""Endings: a finished execution's record into the store, however long that takes, then the news."""

from __future__ import annotations

import asyncio

from holdfast.bus import Notice
from holdfast.bus.base import ENDED, QUEUED
from holdfast.domain.status import EVENT_ENDS, EventStatus
from holdfast.errors import StoreError
from holdfast.journal import Running
from holdfast.operations.kit import Kit
from holdfast.store.commands import Finish
from holdfast.telemetry import logger

log = logger("hub")

RETRY_S = (0.1, 0.5, 1.0, 2.0, 5.0)
"""Pauses while the database is away; the last one repeats. The record waits in the journal."""


class Endings:
    """Stores records and tells who waits.

    Writes of many executions run at once: the store's writer groups them into few commits.
    """

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._tasks: set[asyncio.Task[None]] = set()
        kit.metrics.describe("holdfast_executions_total", "counter", "Executions that ended.")
        kit.metrics.describe("holdfast_events_ended_total", "counter", "Events that came to rest.")
        kit.metrics.describe("holdfast_superseded_total", "counter", "Records that came too late.")

    def store(self, running: Running, *, counts_as_crash: bool = True) -> None:
        """Store a finished execution in the background."""
        task = asyncio.create_task(self.store_now(running, counts_as_crash=counts_as_crash))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def store_now(self, running: Running, *, counts_as_crash: bool = True) -> None:
        """Store a finished execution; returns when it is committed."""
        record = running.record(counts_as_crash=counts_as_crash)
        tries = 0
        while True:
            try:
                finished = await self._kit.store.write(Finish(record))
                break
            except StoreError as error:
                pause = RETRY_S[min(tries, len(RETRY_S) - 1)]
                log.error("hub.store_away", execution_id=running.id, error=str(error), pause=pause)
                tries += 1
                await asyncio.sleep(pause)
        self._kit.journal.settle(running.id)
        name = record.execution.name
        metrics = self._kit.metrics
        metrics.add("holdfast_executions_total", pipeline=name, status=record.execution.status)
        if finished.outcome == "superseded":
            metrics.add("holdfast_superseded_total", pipeline=name)
            log.warning("execution.superseded", execution_id=running.id, event_id=running.event_id)
            return
        status = finished.event_status
        if status in EVENT_ENDS:
            metrics.add("holdfast_events_ended_total", pipeline=name, status=status)
            self._kit.bus.publish(
                Notice(ENDED, event_id=running.event_id, execution_id=running.id, status=status)
            )
        elif status is EventStatus.QUEUED:
            self._kit.bus.publish(Notice(QUEUED, event_id=running.event_id))

    async def drain(self) -> None:
        """Wait until all that was begun is stored."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

"""Endings: a finished execution's record into the store, however long that takes, then the news."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, replace

from holdfast.bus import Notice
from holdfast.bus.base import ENDED, HALTED, QUEUED
from holdfast.domain.executions import Record
from holdfast.domain.status import EVENT_ENDS, EventStatus, ExecutionStatus
from holdfast.errors import HoldfastError, StoreError, StoreRefused
from holdfast.journal import Running
from holdfast.operations.kit import Kit
from holdfast.store.commands import Finish, Finished
from holdfast.telemetry import logger

log = logger("hub")

RETRY_S = (0.1, 0.5, 1.0, 2.0, 5.0)
"""Pauses while the database is away; the last one repeats. The record waits in the journal."""

DRAIN_S = 5.0
"""How long a closing hub waits for its last records to be stored."""


class Endings:
    """Stores records and tells who waits.

    Writes of many executions run at once: the store's writer groups them into few commits.
    """

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._tasks: set[asyncio.Task[None]] = set()
        kit.metrics.describe("holdfast_executions_total", "counter", "Executions that ended.")
        kit.metrics.describe("holdfast_events_ended_total", "counter", "Events that came to rest.")
        kit.metrics.describe(
            "holdfast_records_refused_total", "counter", "Records set aside as files."
        )
        kit.metrics.describe("holdfast_superseded_total", "counter", "Records that came too late.")

    def store(self, running: Running, *, counts_as_crash: bool = True) -> None:
        """Store a finished execution in the background."""
        task = asyncio.create_task(self.store_now(running, counts_as_crash=counts_as_crash))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def store_now(self, running: Running, *, counts_as_crash: bool = True) -> None:
        """Store a finished execution; returns when it is committed."""
        record = running.record(counts_as_crash=counts_as_crash)
        if self._keeps_checkpoints(record.execution.name):
            record = replace(record, keeps_checkpoints=True)
        try:
            finished = await self._write(record)
        except HoldfastError as error:
            finished = await self._write_refused(record, error)
        self._kit.journal.settle(running.id)
        if finished is None:
            return
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
        else:
            self._kit.bus.publish(Notice(HALTED, running.event_id, running.id, status))

    def _keeps_checkpoints(self, name: str) -> bool:
        registry = self._kit.registry
        return name in registry and registry.get(name).keep_checkpoints

    async def _write(self, record: Record) -> Finished:
        """Write a record, again and again while the database is away.

        Raises:
            HoldfastError: the database takes everything but this record.
        """
        tries = 0
        while True:
            try:
                return await self._kit.store.write(Finish(record))
            except StoreRefused:
                raise
            except StoreError as error:
                pause = RETRY_S[min(tries, len(RETRY_S) - 1)]
                log.error(
                    "hub.store_away",
                    execution_id=record.execution.id,
                    error=str(error),
                    pause=pause,
                )
                tries += 1
                await asyncio.sleep(pause)

    async def _write_refused(self, record: Record, error: HoldfastError) -> Finished | None:
        """Keep a record the database will never take as a file, and end its event visibly.

        Returns:
            None when not even the bare outcome could be stored: its event is not in this
            database, or was ended by other hands.
        """
        run = record.execution
        kept = self._kit.journal.set_aside(run.id, asdict(record))
        self._kit.metrics.add("holdfast_records_refused_total")
        log.error("hub.record_refused", execution_id=run.id, error=str(error), kept=kept)
        told = {"code": "record_refused", "message": str(error), "kept": kept}
        bare = replace(
            run, status=ExecutionStatus.FAILED, input=None, output=None, error=told, flags={}
        )
        try:
            return await self._write(
                replace(record, execution=bare, steps=(), attempts=(), entries=(), blobs=())
            )
        except HoldfastError as again:
            log.error("hub.outcome_refused", execution_id=run.id, error=str(again))
            return None

    async def drain(self) -> None:
        """Wait until all that was begun is stored, but not for a database that stays away.

        What is not stored by then waits in the journal for the next boot.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + DRAIN_S
        while self._tasks and (left := until - loop.time()) > 0:
            await asyncio.wait(set(self._tasks), timeout=left)
        if self._tasks:
            log.error("hub.records_left_in_journal", records=len(self._tasks))
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(set(self._tasks))

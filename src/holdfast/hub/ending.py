"""Endings: a finished execution's record into the store, however long that takes, then the news."""

from __future__ import annotations

import asyncio
import random
from dataclasses import asdict, replace

from holdfast.bus import Notice
from holdfast.bus.base import DELAYED, ENDED, HALTED, QUEUED
from holdfast.domain.breakers import Postponed
from holdfast.domain.executions import Record
from holdfast.domain.ids import MICROS
from holdfast.domain.redelivery import Redelivery
from holdfast.domain.status import EVENT_ENDS, EventStatus, ExecutionStatus
from holdfast.errors import HoldfastError, NotFound
from holdfast.journal import Running
from holdfast.operations.announce import announce
from holdfast.operations.kit import Kit
from holdfast.operations.replay import differences
from holdfast.store.commands import Finish, Finished
from holdfast.telemetry import logger

from .patience import patiently

log = logger("hub")

_COMPARED = frozenset(
    {
        ExecutionStatus.SUCCEEDED,
        ExecutionStatus.PARTIAL,
        ExecutionStatus.FAILED,
        ExecutionStatus.TIMED_OUT,
    }
)
"""How a replay ends that came as far as its graph goes."""

PATIENCE_S = 300.0
"""How long a postponed event waits, beyond its breaker's cool-down, for somebody to see the breaker
close and let it go; up to twice as long."""

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
        kit.metrics.describe(
            "holdfast_redeliveries_total", "counter", "Events that are to run again."
        )
        kit.metrics.describe(
            "holdfast_events_postponed_total", "counter", "Runs that met an open breaker."
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
        record = self._with_options(record)
        if record.postponed is not None:
            record = replace(record, postponed=_at_the_latest(record.postponed))
        try:
            record = await self._with_differences(running, record)
            finished = await self._write(record)
        except HoldfastError as error:
            finished = await self._write_refused(record, error)
        was_full = self._kit.journal.full
        self._kit.journal.settle(running.id)
        if was_full and not self._kit.journal.full:
            self._kit.bus.publish(Notice(QUEUED))
        if finished is None:
            return
        announce(self._kit, finished.others)
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
            if record.execution.session_id is not None:  # the next turn of its session
                self._kit.bus.publish(Notice(QUEUED))
        elif status is EventStatus.QUEUED:
            later = bool(finished.pause_us)
            if record.postponed is not None:
                breaker, later = record.postponed.breaker, True
                metrics.add("holdfast_events_postponed_total", breaker=breaker)
            else:
                metrics.add("holdfast_redeliveries_total", pipeline=name)
            topic = DELAYED if later else QUEUED
            self._kit.bus.publish(Notice(topic, event_id=running.event_id))
        else:
            self._kit.bus.publish(Notice(HALTED, running.event_id, running.id, status))

    def _with_options(self, record: Record) -> Record:
        """A record with what its pipeline says of what follows."""
        name = record.execution.name
        if name not in self._kit.registry:
            return record  # it is not loaded any more: nothing is tried again on its behalf
        declared = self._kit.registry.get(name)
        says = Redelivery(
            retries=declared.retries,
            backoff=declared.backoff,
            chance=random.random(),  # noqa: S311 - spreads load, guards nothing
        )
        return replace(record, redelivery=says, keeps_checkpoints=declared.keep_checkpoints)

    async def _with_differences(self, running: Running, record: Record) -> Record:
        """The record of a replay says where it left the one it repeats."""
        run = record.execution
        if run.origin != "replay" or run.status not in _COMPARED:
            return record
        try:
            found = await patiently(lambda: differences(self._kit, running), execution_id=run.id)
        except NotFound as gone:
            found = {"gone": gone.message}
        flags = {**run.flags, "replay": found}
        return replace(record, execution=replace(run, flags=flags))

    async def _write(self, record: Record) -> Finished:
        """Write a record, again and again while the database is away.

        Raises:
            HoldfastError: the database takes everything but this record.
        """
        return await patiently(
            lambda: self._kit.store.write(Finish(record)), execution_id=record.execution.id
        )

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


def _at_the_latest(postponed: Postponed) -> Postponed:
    """With its patience added, spread so that not all that was postponed comes back at once."""
    patience = PATIENCE_S * (1 + random.random())  # noqa: S311
    return replace(postponed, in_us=postponed.in_us + int(patience * MICROS))

"""Endings: a finished execution's record into the store, however long that takes, then the news."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import asdict, replace

from holdfast.bus import Notice
from holdfast.bus.base import DELAYED, ENDED, HALTED, QUEUED
from holdfast.domain.agents import AGENT
from holdfast.domain.breakers import Postponed
from holdfast.domain.changes import CACHED, NO_USAGE
from holdfast.domain.executions import Attempt, Execution, Record
from holdfast.domain.ids import MICROS
from holdfast.domain.redelivery import Redelivery
from holdfast.domain.replays import REPLAYED
from holdfast.domain.status import EVENT_ENDS, EventStatus, ExecutionStatus
from holdfast.errors import HoldfastError, NotFound
from holdfast.journal import Running
from holdfast.operations.announce import announce
from holdfast.operations.compact import compact_if_due
from holdfast.operations.kit import Kit
from holdfast.operations.replay import differences
from holdfast.store.commands import Finish, Finished
from holdfast.telemetry import logger

from .answers import with_answers
from .budgets import Budgets
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

    Args:
        kit: the hub's parts.
        budgets: what was set aside for what is stored.
        has_opened: whether a breaker ever was open, by name.
    """

    def __init__(self, kit: Kit, budgets: Budgets, has_opened: Callable[[str], bool]) -> None:
        self._kit = kit
        self._budgets = budgets
        self._has_opened = has_opened
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
        kit.metrics.describe(
            "holdfast_model_attempts_total", "counter", "Model calls on record, by how they ended."
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
        record = self._budgets.closed(self._with_options(record))
        if record.postponed is not None:
            record = self._postponed(record, record.postponed)
        try:
            record = with_answers(running, await self._with_differences(running, record))
            finished = await self._write(record)
        except HoldfastError as error:
            finished = await self._write_refused(running, record, error)
        self._budgets.stored(record)
        was_full = self._kit.journal.full
        self._kit.journal.settle(running.id)
        if was_full and not self._kit.journal.full:
            self._kit.bus.publish(Notice(QUEUED))
        if finished is None:
            return
        announce(self._kit, finished.others)
        run, metrics = record.execution, self._kit.metrics
        whose = {run.kind: run.name}
        metrics.add("holdfast_executions_total", 1, **whose, status=run.status)
        for attempt in record.attempts:
            self._count_attempt(attempt)
        if finished.outcome == "superseded":
            metrics.add("holdfast_superseded_total", 1, **whose)
            log.warning("execution.superseded", execution_id=running.id, event_id=running.event_id)
            return
        status = finished.event_status
        if status in EVENT_ENDS:
            metrics.add("holdfast_events_ended_total", 1, **whose, status=status)
            self._kit.bus.publish(
                Notice(
                    ENDED,
                    event_id=running.event_id,
                    execution_id=running.id,
                    status=status,
                    session_id=run.session_id,
                )
            )
            if run.session_id is not None:
                # For the next turn; Celery is rung for an event only, whichever it is.
                self._kit.bus.publish(Notice(QUEUED, running.event_id, target=run.name))
            if run.kind == AGENT and status is EventStatus.SUCCEEDED:
                await self._compact(run)
        elif status is EventStatus.QUEUED:
            later = bool(finished.pause_us)
            if record.postponed is not None:
                breaker, later = record.postponed.breaker, True
                metrics.add("holdfast_events_postponed_total", breaker=breaker)
            else:
                metrics.add("holdfast_redeliveries_total", 1, **whose)
            topic = DELAYED if later else QUEUED
            self._kit.bus.publish(Notice(topic, event_id=running.event_id, target=run.name))
        else:
            self._kit.bus.publish(
                Notice(HALTED, running.event_id, running.id, status, session_id=run.session_id)
            )

    async def _compact(self, run: Execution) -> None:
        """Let a session's old messages be put into a summary, where it is time for that."""
        if run.session_id is None:
            return
        try:
            await compact_if_due(
                self._kit, owner_id=run.owner_id, agent_id=run.name, session_id=run.session_id
            )
        except HoldfastError as error:  # the next turn asks again
            log.warning("session.not_compacted", session_id=run.session_id, reason=str(error))

    def _count_attempt(self, attempt: Attempt) -> None:
        if attempt.provider is None or attempt.usage == REPLAYED:
            return  # it asked nobody
        self._kit.metrics.add(
            "holdfast_model_attempts_total",
            provider=attempt.provider,
            # As it was asked for: what an answer calls itself changes with every release.
            model=str(attempt.parameters.get("model") or attempt.model),
            outcome=_outcome(attempt),
        )

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

    def _postponed(self, record: Record, postponed: Postponed) -> Record:
        """A record that runs again when its breaker has closed.

        A breaker that never was open closes never: then it is an error of the pipeline's own, and
        its event comes back as after any other that may pass, so often and no more. What a hub
        knew that died before it had stored the opening stands in the outcome.
        """
        run = record.execution
        told = postponed.by_hub or self._has_opened(postponed.breaker)
        if told or run.error is None:
            return replace(record, postponed=_at_the_latest(postponed))
        error = {**run.error, "error_class": "temporary"}
        flags = {name: flag for name, flag in run.flags.items() if name != "postponed"}
        return replace(record, postponed=None, execution=replace(run, error=error, flags=flags))

    async def _with_differences(self, running: Running, record: Record) -> Record:
        """The record of a replay says where it left the one it repeats."""
        run = record.execution
        if run.origin != "replay" or run.status not in _COMPARED:
            return record
        try:
            found = await patiently(
                self._kit.store, lambda: differences(self._kit, running), execution_id=run.id
            )
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
            self._kit.store,
            lambda: self._kit.store.write(Finish(record)),
            execution_id=record.execution.id,
        )

    async def _write_refused(
        self, running: Running, record: Record, error: HoldfastError
    ) -> Finished | None:
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
            refused = replace(
                record, execution=bare, steps=(), attempts=(), entries=(), blobs=(), savings=()
            )
            return await self._write(with_answers(running, refused))
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


def _outcome(attempt: Attempt) -> str:
    """`succeeded`, `cached`, `refused` before it was made, or the class of the error."""
    if attempt.usage == CACHED:
        return CACHED
    if attempt.usage == NO_USAGE:
        return "refused"
    return attempt.error_class or attempt.status.value


def _at_the_latest(postponed: Postponed) -> Postponed:
    """With its patience added, spread so that not all that was postponed comes back at once."""
    patience = PATIENCE_S * (1 + random.random())  # noqa: S311
    return replace(postponed, in_us=postponed.in_us + int(patience * MICROS))

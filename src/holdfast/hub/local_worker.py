"""A worker inside the hub's own process: the same engine, for tests and notebooks."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.domain.payload import message_of
from holdfast.engine import Engine
from holdfast.engine.threads import ExecutionThreads
from holdfast.errors import HoldfastError, PortError
from holdfast.llm.content.redaction import Redaction
from holdfast.llm.factory import Models
from holdfast.pipelines.base import Declaration
from holdfast.pipelines.registry import Registry
from holdfast.ports import ModelConfig, Ports, RunSpec
from holdfast.runner.breakers import AskedBreakers
from holdfast.runner.budgets import AskedBudgets
from holdfast.runner.client_ports import (
    AskedCache,
    AskedCheckpoints,
    AskedKnowledge,
    AskedMemory,
    AskedPrompts,
    AskedRecords,
)
from holdfast.runner.context_caches import AskedContextCache
from holdfast.runner.limits import AskedLimits
from holdfast.telemetry import logger

from .worker import Employer, Worker, WorkerState

log = logger("hub")


class LocalWorker(Worker):
    """Runs the engine in the hub's loop; its ports are direct calls.

    Args:
        employer: whom it works for.
        slots: executions at once.
        registry: what it runs.
        models: by alias.
        proves: what must be able to run, or the worker does not start.
    """

    def __init__(
        self,
        employer: Employer,
        *,
        slots: int,
        registry: Registry,
        models: Mapping[str, ModelConfig],
        proves: Declaration | None = None,
        redactions: Sequence[Redaction] = (),
    ) -> None:
        super().__init__("local", slots)
        self._employer = employer
        self._proves = proves
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._threads = ExecutionThreads(slots)
        self._changes: deque[tuple[str, bytes]] = deque()
        self._breakers = AskedBreakers(self._put, employer.on_outcome)
        self._budgets = AskedBudgets(self._put, employer.on_spent)
        self._models = Models(
            models,
            self._breakers,
            budgets=self._budgets,
            limits=AskedLimits(self._put, self._tell_outcome),
            cache=AskedCache(self._put),
            context_cache=AskedContextCache(self._put),
        )
        self._engine = Engine(
            registry=registry,
            models=self._models,
            sink=self,
            ports=Ports(
                events=self,
                cache=AskedCache(employer.ask),
                checkpoints=AskedCheckpoints(self._store),
                records=AskedRecords(self._store),
                knowledge=AskedKnowledge(self._put),
                memory=AskedMemory(self._put),
                breakers=self._breakers,
                prompts=AskedPrompts(self._store),
                budgets=self._budgets,
            ),
            threads=self._threads,
            on_end=self._on_end,
            redactions=redactions,
        )

    async def start(self) -> None:
        """Ready at once, unless what it is to run cannot run, or it was told to leave before."""
        if self.state is not WorkerState.STARTING:
            return
        if self._proves is not None:
            try:
                self._proves.check()
            except Exception as error:
                log.exception("agent.refused", name=self._proves.name)
                self._gone(message_of(error))
                return
        self.state = WorkerState.READY
        self._employer.on_ready(self)

    def run(self, spec: RunSpec) -> None:
        """Start an execution in this loop."""
        self.in_flight.add(spec.execution_id)
        if spec.budgeted:
            self._budgets.begin(spec.execution_id)
        self._engine.start(spec)

    def cancel(self, execution_id: str) -> None:
        """Ask an execution to stop."""
        self._engine.cancel(execution_id)

    def pause(self, execution_id: str) -> None:
        """Ask an execution to stop before its next step."""
        self._engine.pause(execution_id)

    async def _store(self, execution_id: str, port: str, args: dict[str, Any]) -> Any:
        self._pass_on()  # what was told before comes before
        return await self._put(execution_id, port, args)

    async def _put(self, execution_id: str, port: str, args: dict[str, Any]) -> Any:
        try:
            return await self._employer.ask(execution_id, port, args)
        except PortError:
            raise
        except HoldfastError as error:
            raise PortError(f"{error.code}: {error}") from error

    def _tell_outcome(self, told: dict[str, Any]) -> None:
        if threading.get_ident() == self._loop_thread:
            self._employer.on_outcome(told)
        else:
            self._loop.call_soon_threadsafe(self._employer.on_outcome, told)

    def learn_breakers(self, standings: Sequence[Mapping[str, Any]]) -> None:
        """Hear how breakers stand; later, as over a socket."""
        self._loop.call_soon(self._breakers.learn, list(standings))

    def retire(self) -> None:
        """Take no new work."""
        if self.state is not WorkerState.GONE:
            self.state = WorkerState.RETIRING
            self._leave_when_idle()

    async def kill(self) -> None:
        """Stop everything; what runs in threads is left behind."""
        running = list(self.in_flight)
        self._gone()  # first, or what is stopped would look as if somebody had cancelled it
        for execution_id in running:
            self._engine.cancel(execution_id)
        await self._engine.drain()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def gone(self) -> None:
        """Close the connections its models have kept."""
        await self._models.aclose()

    def change(self, execution_id: str, raw: bytes) -> None:
        """`RecordSink`: pass a change on, from whatever thread."""
        if self.state is WorkerState.GONE:
            return  # whatever it says of a run that is lost, the hub has ended that already
        self._changes.append((execution_id, raw))
        if threading.get_ident() == self._loop_thread:
            self._pass_on()
        else:
            self._loop.call_soon_threadsafe(self._pass_on)

    def _pass_on(self) -> None:
        # In the order they were made: one from a thread must not come after the loop's next.
        while self._changes:
            self._employer.on_change(self, *self._changes.popleft())

    def tokens(self, execution_id: str, step: int, text: str) -> None:
        """`RecordSink`: pass streamed text on, from whatever thread."""
        self._loop.call_soon_threadsafe(self._employer.on_tokens, execution_id, step, text)

    async def submit(
        self,
        *,
        execution_id: str,
        type: str,  # noqa: A002 - CloudEvents' name
        data: Mapping[str, Any],
        idempotency_key: str | None = None,
    ) -> str:
        """`EventsPort`: send a further event."""
        args = {"type": type, "data": data, "idempotency_key": idempotency_key}
        return await self._employer.ask(execution_id, "events.submit", args)

    def _on_end(self, execution_id: str) -> None:
        self._budgets.end(execution_id)
        if self.state is WorkerState.GONE:
            return
        self._pass_on()
        self.in_flight.discard(execution_id)
        self._employer.on_ended(self, execution_id)
        self._leave_when_idle()

    def _leave_when_idle(self) -> None:
        if self.state is WorkerState.RETIRING and not self.in_flight:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._gone()

    def _gone(self, reason: str = "stopped") -> None:
        if self.state is not WorkerState.GONE:
            self.state = WorkerState.GONE
            self._employer.on_gone(self, reason)

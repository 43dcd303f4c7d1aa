"""The office: what every employer of a hub does with what its workers tell."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from holdfast.domain.status import ExecutionStatus
from holdfast.operations.kit import Kit
from holdfast.telemetry import logger

from .answering import Answering
from .breakers import Breakers
from .budgets import Budgets
from .context_caches import ContextCaches
from .dispatch import Dispatcher
from .ending import Endings
from .limits import Limits
from .worker import Employer, Worker

log = logger("hub")

RUNNER_LOST = "runner_lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What all offices of a hub share."""

    kit: Kit
    answering: Answering
    breakers: Breakers
    budgets: Budgets
    caches: ContextCaches
    endings: Endings
    limits: Limits

    def crash(
        self, execution_id: str, reason: str, *, counts: bool = False, began: bool = True
    ) -> None:
        """End an execution whose worker is gone, or that no worker ever had.

        Args:
            execution_id: which; nothing happens when it has ended already.
            reason: why.
            counts: whether its event is to blame for it.
            began: False when no worker ever had it.
        """
        error = {"code": RUNNER_LOST, "message": reason}
        running = self.kit.journal.break_off(execution_id, ExecutionStatus.CRASHED, error)
        if running is not None:
            running.began = began
            self.run_ended(execution_id)
            self.endings.store(running, counts_as_crash=counts)

    def run_ended(self, execution_id: str) -> None:
        """Let go what an execution held."""
        self.breakers.run_ended(execution_id)
        self.limits.run_ended(execution_id)
        self.caches.run_ended(execution_id)


class Office(Employer, ABC):
    """Employs workers and gives them what its dispatcher claims.

    Args:
        desk: what all offices share.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._closing = False

    @property
    @abstractmethod
    def workers(self) -> Sequence[Worker]:
        """All that it employs now."""

    @property
    @abstractmethod
    def dispatcher(self) -> Dispatcher:
        """Who claims for them."""

    @abstractmethod
    async def close(self, grace_s: float) -> None:
        """Claim nothing more, let work end within the grace, end the workers."""

    @abstractmethod
    def became_ready(self, worker: Worker) -> None:
        """A worker takes work from now on."""

    @abstractmethod
    def has_worked(self, worker: Worker) -> None:
        """A worker has ended an execution."""

    @abstractmethod
    def is_gone(self, worker: Worker, reason: str, *, lost: int) -> None:
        """A worker is gone; `lost` executions crashed with it."""

    def on_ready(self, worker: Worker) -> None:
        """See `Employer`."""
        if standings := self._desk.breakers.standings():
            worker.learn_breakers(standings)
        self.became_ready(worker)
        self.dispatcher.crew_changed()

    def on_change(self, worker: Worker, execution_id: str, raw: bytes) -> None:  # noqa: ARG002
        """See `Employer`."""
        running = self._desk.kit.journal.change(execution_id, raw)
        if running is not None and running.finished is not None:
            self._desk.run_ended(execution_id)
            self._desk.endings.store(running)

    def on_tokens(self, execution_id: str, step: int, text: str) -> None:
        """See `Employer`."""
        self._desk.kit.journal.tokens(execution_id, step, text)

    def on_ended(self, worker: Worker, execution_id: str) -> None:
        """See `Employer`."""
        self.has_worked(worker)
        running = self._desk.kit.journal.get(execution_id)
        if running is not None and running.finished is None:
            # It left without an outcome we could read: never let it hang.
            self._desk.crash(execution_id, "the runner sent no outcome", counts=True)
        self.dispatcher.ring()

    def on_gone(self, worker: Worker, reason: str) -> None:
        """See `Employer`."""
        lost, worker.in_flight = worker.in_flight, set()
        if lost:
            log.warning("runner.died", worker=worker.name, reason=reason, executions=len(lost))
        for execution_id in lost:
            self._desk.crash(execution_id, reason, counts=not self._closing)
        self.is_gone(worker, reason, lost=len(lost))
        self.dispatcher.crew_changed()

    def on_outcome(self, told: Mapping[str, Any]) -> None:
        """See `Employer`."""
        if "limit" in told:
            self._desk.limits.settle(told)
        else:
            self._desk.breakers.take(told)

    def on_spent(self, told: Mapping[str, Any]) -> None:
        """See `Employer`."""
        self._desk.budgets.settle(told)

    async def ask(self, execution_id: str, port: str, args: dict[str, Any]) -> Any:
        """See `Employer`."""
        return await self._desk.answering.ask(execution_id, port, args)

    def pause(self, execution_id: str) -> None:
        """Ask an execution to stop before its next step, if it runs here."""
        for worker in self.workers:
            if execution_id in worker.in_flight:
                worker.pause(execution_id)

    def cancel(self, execution_id: str) -> None:
        """Stop an execution, if it is here."""
        for worker in self.workers:
            if execution_id in worker.in_flight:
                worker.cancel(execution_id)
                return
        if self.dispatcher.withdraw(execution_id):
            journal = self._desk.kit.journal
            running = journal.break_off(execution_id, ExecutionStatus.CANCELLED, None)
            if running is not None:
                self._desk.endings.store(running)

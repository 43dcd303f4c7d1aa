"""The pool: the workers that run pipelines, and the dispatcher that claims for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal

from holdfast.bus import Notice
from holdfast.domain.events import Claimed
from holdfast.operations.kit import Kit
from holdfast.pipelines.base import Declaration

from .crew import Crew
from .dispatch import Dispatcher
from .office import Desk, Office
from .prompts import Prompts
from .staff import Staff
from .worker import Employer, Worker

MAX_SOLO = 2
"""Extra workers at once for executions that must run alone."""


class Pool(Office):
    """Runs pipelines, any of them in any of its workers.

    Args:
        desk: what all offices share.
        prompts: which versions of prompts runs use.
        size: how many workers there are to be.
        hire: makes a worker that reports to the given employer.
        default_deadline_s: deadline of pipelines that name none; None for no limit.
        tell_ready: called when a worker takes work.
    """

    def __init__(
        self,
        desk: Desk,
        prompts: Prompts,
        *,
        size: int,
        hire: Callable[[str, Employer], Worker],
        default_deadline_s: float | None,
        tell_ready: Callable[[], None],
    ) -> None:
        super().__init__(desk)
        self._tell_ready = tell_ready
        self.crew = Crew(size=size, hire=lambda name: hire(name, self), metrics=desk.kit.metrics)
        self._dispatcher = Dispatcher(
            desk.kit,
            PoolStaff(desk.kit, self.crew),
            prompts,
            default_deadline_s=default_deadline_s,
            budgeted=desk.budgets.count,
            give_back=lambda one: desk.crash(one, "it was claimed and not begun", began=False),
        )

    @property
    def workers(self) -> Sequence[Worker]:
        """See `Office.workers`."""
        return self.crew.workers

    @property
    def dispatcher(self) -> Dispatcher:
        """See `Office.dispatcher`."""
        return self._dispatcher

    def became_ready(self, worker: Worker) -> None:
        """See `Office.became_ready`."""
        self.crew.became_ready(worker)
        self._tell_ready()

    def has_worked(self, worker: Worker) -> None:
        """See `Office.has_worked`."""
        self.crew.has_worked(worker)

    def is_gone(self, worker: Worker, reason: str, *, lost: int) -> None:
        """See `Office.is_gone`."""
        self.crew.is_gone(worker, lost=lost, died=reason != "stopped")

    async def close(self, grace_s: float) -> None:
        """See `Office.close`."""
        self._closing = True
        await self._dispatcher.close()
        await self.crew.close(grace_s)


class PoolStaff(Staff):
    """All pipelines the apps declare; any worker runs any of them.

    Args:
        kit: the hub's parts.
        crew: who runs.
    """

    kind: ClassVar[Literal["pipeline", "agent"]] = "pipeline"
    behind_horizon: ClassVar[bool] = True
    hires_for_left: ClassVar[bool] = True

    def __init__(self, kit: Kit, crew: Crew) -> None:
        self._kit = kit
        self._crew = crew
        self._versions = kit.registry.versions()
        self._limits = {
            one.name: one.max_running for one in kit.registry if one.max_running is not None
        }
        self.once = frozenset(one.name for one in kit.registry if not one.redeliver)
        self.rates = {one.name: one.rate for one in kit.registry if one.rate is not None}

    @property
    def workers(self) -> Sequence[Worker]:
        """See `Staff.workers`."""
        return self._crew.workers

    def versions(self) -> Mapping[str, tuple[str, str]]:
        """See `Staff.versions`."""
        return self._versions

    def declared(self, name: str) -> Declaration | None:
        """See `Staff.declared`."""
        return self._kit.registry.get(name)

    def room(self) -> dict[str, int]:
        """See `Staff.room`."""
        if not self._limits:
            return {}
        busy = Counter(
            running.start.claimed.target
            for running in self._kit.journal.all()
            if running.finished is None
        )
        return {name: max(0, most - busy[name]) for name, most in self._limits.items()}

    def worker_for(self, claimed: Claimed) -> Worker | None:  # noqa: ARG002
        """See `Staff.worker_for`."""
        worker = max(self._crew.workers, key=lambda one: one.free, default=None)
        return None if worker is None or worker.free <= 0 else worker

    def suits(self, worker: Worker, claimed: Claimed) -> bool:  # noqa: ARG002
        """See `Staff.suits`."""
        return True

    def hire_alone(self, suspects: Sequence[Claimed]) -> None:
        """Keep as many extra workers coming as there are suspects, up to the limit."""
        idle = self._crew.idle_solo
        busy = sum(1 for one in self._crew.workers if one.solo and one.in_flight)
        for _ in range(min(len(suspects) - idle, MAX_SOLO - idle - busy)):
            self._crew.hire_solo()

    def concerns(self, notice: Notice) -> bool:
        """See `Staff.concerns`."""
        return notice.target is None or notice.target in self._versions

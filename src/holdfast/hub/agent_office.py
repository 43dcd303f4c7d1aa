"""The office of agents: their workers report here, and turns are claimed for those that serve."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal

from holdfast.bus import Notice
from holdfast.domain.agents import AGENT
from holdfast.domain.events import Claimed
from holdfast.pipelines.base import Declaration

from .agent_process import Rules
from .agents import Agents
from .dispatch import Dispatcher
from .office import Desk, Office
from .prompts import Prompts
from .staff import Staff
from .supervisor import HireAgent, Supervisor
from .worker import Worker


class AgentOffice(Office):
    """Runs the turns of agents, each agent in a process of its own.

    Args:
        desk: what all offices share.
        prompts: which versions of prompts runs use.
        agents: the configured ones.
        rules: how processes are supervised.
        hire: makes workers that run an agent.
        host: name of this machine.
        default_deadline_s: of agents that name none; None for no limit.
        clock: of the supervisor.
    """

    def __init__(
        self,
        desk: Desk,
        prompts: Prompts,
        agents: Agents,
        rules: Rules,
        *,
        hire: HireAgent,
        host: str,
        default_deadline_s: float | None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(desk)
        self._rules = rules
        self.supervisor = Supervisor(
            desk.kit,
            agents,
            rules,
            hire=hire,
            employer=self,
            give_up=self._give_up,
            host=host,
            clock=clock,
        )
        self._dispatcher = Dispatcher(
            desk.kit,
            AgentStaff(self.supervisor),
            prompts,
            default_deadline_s=default_deadline_s,
            budgeted=desk.budgets.count,
            give_back=lambda one: desk.crash(one, "it was claimed and not begun", began=False),
        )

    @property
    def workers(self) -> Sequence[Worker]:
        """See `Office.workers`."""
        return self.supervisor.workers

    @property
    def dispatcher(self) -> Dispatcher:
        """See `Office.dispatcher`."""
        return self._dispatcher

    def start(self) -> None:
        """Begin to take agents and their turns."""
        self.supervisor.start()
        self._dispatcher.start()

    async def close(self, grace_s: float) -> None:
        """See `Office.close`."""
        self._closing = True
        await self._dispatcher.close()
        await self.supervisor.close(grace_s)

    def _give_up(self, agent_id: str) -> None:
        self._dispatcher.give_up(agent_id)

    def became_ready(self, worker: Worker) -> None:
        """See `Office.became_ready`."""
        self.supervisor.became_ready(worker)

    def has_worked(self, worker: Worker) -> None:
        """See `Office.has_worked`."""
        self.supervisor.has_worked(worker)

    def is_gone(self, worker: Worker, reason: str, *, lost: int) -> None:  # noqa: ARG002
        """See `Office.is_gone`."""
        self.supervisor.is_gone(worker, reason)


class AgentStaff(Staff):
    """The agents whose processes are in service here; each runs its own turns only.

    Args:
        supervisor: who holds them.
    """

    kind: ClassVar[Literal["pipeline", "agent"]] = AGENT
    behind_horizon: ClassVar[bool] = False
    hires_for_left: ClassVar[bool] = False

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    @property
    def workers(self) -> Sequence[Worker]:
        """See `Staff.workers`."""
        return self._supervisor.workers

    def versions(self) -> Mapping[str, tuple[str, str]]:
        """See `Staff.versions`."""
        return {
            process.id: (declared.version, declared.code_version)
            for process in self._supervisor.serving
            if (declared := process.declared) is not None
        }

    def declared(self, name: str) -> Declaration | None:
        """See `Staff.declared`."""
        process = self._supervisor.processes.get(name)
        return None if process is None else process.declared

    def room(self) -> Mapping[str, int]:
        """See `Staff.room`."""
        return {
            process.id: process.serving.free
            for process in self._supervisor.serving
            if process.serving is not None
        }

    def worker_for(self, claimed: Claimed) -> Worker | None:
        """See `Staff.worker_for`."""
        process = self._supervisor.processes.get(claimed.target)
        if process is None or process.serving is None or process.serving.free <= 0:
            return None
        process.is_given_work()
        return process.serving

    def suits(self, worker: Worker, claimed: Claimed) -> bool:
        """See `Staff.suits`."""
        process = self._supervisor.process_of(worker)
        return process is not None and process.id == claimed.target

    def hire_alone(self, suspects: Sequence[Claimed]) -> None:
        """See `Staff.hire_alone`."""
        for name, wanted in Counter(one.target for one in suspects).items():
            process = self._supervisor.processes.get(name)
            if process is None or not process.hire_alone(wanted):
                self._supervisor.give_up(name)

    def concerns(self, notice: Notice) -> bool:
        """See `Staff.concerns`."""
        return notice.target is None or notice.target in self._supervisor.processes

    def between_claims(self) -> None:
        """Put replacements into service."""
        for process in self._supervisor.processes.values():
            process.between_claims()

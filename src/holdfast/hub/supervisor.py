"""The supervisor: takes agents that have work, and keeps their processes as they are wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from holdfast.bus import Notice
from holdfast.bus.base import AGENTS, GAP, QUEUED
from holdfast.domain.agents import AGENT, Process, ProcessStatus
from holdfast.errors import StoreError
from holdfast.operations.kit import Kit
from holdfast.store.queries.agents import AgentsWithWork
from holdfast.store.queries.processes import ProcessesLeft
from holdfast.telemetry import logger

from .agent_process import AgentProcess, Rules
from .agents import Agents, Configured
from .holding import Holding
from .rounds import Rounds
from .worker import Employer, Worker

log = logger("hub")

SWEEP_S = 5.0
"""How long a lost doorbell can delay a message to an agent whose process is stopped."""

SOON_S = 0.5
"""After a ring that does not say for whom, agents with work are looked for, at most so often."""

ELSEWHERE_S = 5.0
"""For so long an agent that another hub holds is not tried again when its bell rings."""

HireAgent = Callable[[Configured, Employer], Worker]
"""Makes a worker that runs one version of one agent.

Raises:
    HoldfastError: its configuration cannot be read, or a secret is missing.
"""


class Supervisor:
    """Holds agents and their processes; belongs to the hub's loop.

    Args:
        kit: the hub's parts.
        agents: the configured ones.
        rules: how processes are supervised.
        hire: makes their workers.
        employer: whom these report to.
        give_up: called with an agent's id when turns wait for a process of their own in vain.
        host: name of this machine.
        clock: seconds, from wherever they start; None: the loop's.

    Attributes:
        processes: of the agents held here, and of those that still finish something, by id.
    """

    def __init__(
        self,
        kit: Kit,
        agents: Agents,
        rules: Rules,
        *,
        hire: HireAgent,
        employer: Employer,
        give_up: Callable[[str], None],
        host: str,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.processes: dict[str, AgentProcess] = {}
        self.now = clock or asyncio.get_running_loop().time
        self._kit = kit
        self._agents = agents
        self._rules = rules
        self._hire = hire
        self._employer = employer
        self.give_up = give_up
        self._holding = Holding(kit, AGENT, host=host, beat_s=rules.check_s, now=self.now)
        self._pipelines = frozenset(kit.registry.versions())
        self._of: dict[Worker, AgentProcess] = {}
        self._woken: set[str] = set()
        self._elsewhere: dict[str, float] = {}
        self._sweep_at = self._beat_at = self.now()
        self._swept_at = float("-inf")
        self._rounds = Rounds("supervisor", self.look)
        self._tasks: set[asyncio.Task[None]] = set()
        self._stops = [
            kit.bus.listen(QUEUED, self._rung),
            kit.bus.listen(AGENTS, self._asked),
            kit.bus.listen(GAP, self._asked),
        ]
        metrics = kit.metrics
        metrics.describe("holdfast_agent_up", "gauge", "1 while its process takes turns here.")
        metrics.describe("holdfast_agent_in_flight", "gauge", "Turns under way.")
        metrics.describe("holdfast_agent_restarts", "gauge", "Restarts since it proved itself.")
        metrics.describe("holdfast_agent_starts_total", "counter", "Processes started.")
        metrics.describe("holdfast_agent_deaths_total", "counter", "Processes that died.")
        metrics.describe("holdfast_agent_turns_total", "counter", "Turns that ended.")

    def start(self) -> None:
        """Begin to look after agents."""
        self._rounds.start()

    async def close(self, grace_s: float) -> None:
        """Let turns end within the grace, end the processes, let go of the rows.

        The dispatcher has been closed before: nothing new is claimed.
        """
        for stop in self._stops:
            stop()
        await self._rounds.close()
        for process in self.processes.values():
            process.stop(grace_s)
        while self._of:
            dues = [at for one in self.processes.values() if (at := one.look()) is not None]
            # Until one is gone, or somebody's grace is over.
            await self._rounds.rest(max(0.0, min(dues) - self.now()) if dues else None)
        await self.settled()
        try:
            if await self._holding.give_all_back():
                self._kit.bus.publish(Notice(AGENTS))  # for the other hubs
        except StoreError as error:  # the leases run out, or the next boot returns them
            log.warning("agents.not_returned", reason=str(error))

    async def settled(self) -> None:
        """Wait until what was begun for the processes is done."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    # -- what workers tell, and what processes need ------------------------------------------------

    def process_of(self, worker: Worker) -> AgentProcess | None:
        """The agent that a worker runs."""
        return self._of.get(worker)

    @property
    def workers(self) -> Sequence[Worker]:
        """All there are."""
        return list(self._of)

    @property
    def serving(self) -> list[AgentProcess]:
        """Those that take turns; none while another hub may have taken what is held."""
        return [one for one in self.processes.values() if one.takes] if self._holding.fresh else []

    def became_ready(self, worker: Worker) -> None:
        """See `Office.became_ready`."""
        if worker in self._of:  # it may have died with these words
            self._of[worker].became_ready(worker)

    def has_worked(self, worker: Worker) -> None:
        """See `Office.has_worked`."""
        if worker in self._of:
            process = self._of[worker]
            self._kit.metrics.add("holdfast_agent_turns_total", 1, **_labels(process))
            process.has_worked()

    def is_gone(self, worker: Worker, reason: str) -> None:
        """See `Office.is_gone`."""
        process = self._of.pop(worker)
        # Its socket has closed; the process itself may take a moment longer.
        self._run(worker.gone())
        if reason != "stopped":
            self._kit.metrics.add("holdfast_agent_deaths_total", 1, **_labels(process))
        if process.is_gone(worker, reason):
            self.give_up(process.id)
        self._rounds.ring()

    def hire(self, process: AgentProcess, agent: Configured) -> Worker:
        """See `Means.hire`."""
        worker = self._hire(agent, self._employer)
        self._of[worker] = process
        self._kit.metrics.add("holdfast_agent_starts_total", 1, **_labels(process))
        self._run(self._begin(worker))
        return worker

    def end(self, worker: Worker, *, kill: bool) -> None:
        """See `Means.end`."""
        if kill:
            self._run(worker.kill())
        else:
            worker.terminate()

    def changed(self) -> None:
        """See `Means.changed`."""
        self._rounds.ring()

    async def _begin(self, worker: Worker) -> None:
        try:
            await worker.start()
        except (OSError, ValueError) as error:  # no more memory; a variable no process can have
            self._employer.on_gone(worker, f"it could not be started: {error}")

    # -- what people and other hubs tell -----------------------------------------------------------

    def configured(self, agent_id: str) -> None:
        """An agent has a new version, or is gone."""
        process, agent = self.processes.get(agent_id), self._agents.get(agent_id)
        if process is not None and agent is not None:
            process.configured(agent)
        elif process is not None:
            process.stop(self._rules.grace_s)

    def _rung(self, notice: Notice) -> None:
        target = notice.target
        if target is None:
            self._sweep_soon()
        elif target in self._pipelines or self._elsewhere.get(target, 0.0) > self.now():
            return
        elif target not in self.processes:
            self._woken.add(target)
        elif not self.processes[target].wanted:
            self.processes[target].woken = True
        else:
            return  # its dispatcher has heard it too
        self._rounds.ring()

    def _sweep_soon(self) -> None:
        self._sweep_at = min(self._sweep_at, max(self.now(), self._swept_at + SOON_S))

    def _asked(self, notice: Notice) -> None:
        """Somebody asked for a start, a stop or a restart; or a hub has let go of its agents."""
        if notice.target is None:
            self._elsewhere.clear()
        else:
            self._elsewhere.pop(notice.target, None)
        self._sweep_at = self._beat_at = self.now()
        self._rounds.ring()

    # -- the rounds --------------------------------------------------------------------------------

    async def look(self) -> float:
        """Do what is due.

        Returns:
            Seconds until something else is due.

        Raises:
            StoreError: the database is away; what was not done is still due.
        """
        await self._agents.refresh()
        if self._beat_at <= self.now():
            await self._beat()
        await self._take_woken()
        if self._sweep_at <= self.now():
            await self._sweep()
        dues = [self._beat_at, self._sweep_at]
        for process in list(self.processes.values()):
            if (at := process.look()) is not None:
                dues.append(at)
        for process in list(self.processes.values()):
            await self._settle(process)
            self._measure(process)
        return max(0.0, min(dues) - self.now())

    async def _beat(self) -> None:
        """Keep what is held, and hear what people want of it."""
        held = {one.id: one for one in self.processes.values() if one.row is not None}
        beats = [(one.row, one.heard_at) for one in held.values() if one.row is not None]
        kept = await self._holding.beat(beats)
        self._beat_at = self.now() + self._rules.check_s
        for row in kept:
            self._heed(held.pop(row.target), row)
        for process in held.values():
            self._lost(process)

    def _heed(self, process: AgentProcess, row: Process) -> None:
        """Do what people want."""
        process.row = row
        asked, process.asked = row.asked > process.asked, row.asked
        if row.wanted == "off":
            process.woken = False
            if process.wanted:
                log.info("agent.stopped", agent_id=process.id)
                process.stop(self._rules.grace_s)
        elif asked and process.wanted:
            process.restart()
        elif asked:
            process.woken = True

    def _lost(self, process: AgentProcess) -> None:
        """Another hub holds it, or it was deleted: what runs here ends."""
        log.warning("agent.lost", agent_id=process.id)
        process.row = None
        process.stop(self._rules.grace_s)

    async def _sweep(self) -> None:
        """Take agents that have work, and those that a dead hub held or somebody asked for."""
        self._swept_at = self.now()
        with_work = dict(await self._kit.store.read(AgentsWithWork()))
        left = await self._kit.store.read(ProcessesLeft(AGENT))
        if any(target not in self._agents for target in with_work):
            await self._agents.look()  # a notice may have been lost
        to_run = {target for target, _, status in left if status is ProcessStatus.STARTING}
        await self._take(
            with_work | {target: owner for target, owner, _ in left}, to_run | with_work.keys()
        )
        self._sweep_at = self.now() + SWEEP_S

    async def _take_woken(self) -> None:
        """Take those whose bell has rung."""
        woken = set(self._woken)
        agents = [agent for one in woken if (agent := self._agents.get(one)) is not None]
        if len(agents) < len(woken):
            self._sweep_soon()  # its ring may have come before the news that there is such an agent
        await self._take({one.id: one.version.owner_id for one in agents}, woken)
        self._woken -= woken

    async def _take(self, wanted: Mapping[str, str], to_run: set[str]) -> None:
        """Take what nobody holds.

        Args:
            wanted: agents and their owners.
            to_run: those of them that are to be started.
        """
        free: dict[str, str] = {}
        for target, owner in wanted.items():
            process = self.processes.get(target)
            if process is None or process.row is None:
                free[target] = owner
            elif not process.wanted and target in to_run:
                process.woken = True
        if not free:
            return
        for row in await self._holding.take(free.items()):
            del free[row.target]
            agent = self._agents.get(row.target)
            if agent is None or row.target not in to_run:
                await self._holding.give_back(row.target)
            else:
                self._begin_to_run(agent, row)
        until = self.now() + ELSEWHERE_S
        self._elsewhere.update(dict.fromkeys(free, until))

    def _begin_to_run(self, agent: Configured, row: Process) -> None:
        log.info("agent.taken", agent_id=row.target, name=agent.version.name)
        self._elsewhere.pop(row.target, None)
        process = self.processes.get(row.target)
        if process is None:
            process = AgentProcess(agent, row, self._rules, self)
            self.processes[row.target] = process
        else:  # its last processes are still finishing
            process.agent = agent
            process.take(row)
        process.start()

    async def _settle(self, process: AgentProcess) -> None:
        """Write what is so into its row, and let go of one that is over."""
        if process.row is not None and not await self._write(process, process.row):
            self._lost(process)
        elif process.row is not None and process.is_over and process.written:
            again = process.woken and process.row.wanted == "on" and process.id in self._agents
            if again and not process.given_up:
                process.take(process.row)
                process.start()
                return
            await self._holding.give_back(process.id)
            process.row = None
            if process.woken:
                self._woken.add(process.id)
                self._rounds.ring()
        if process.row is None and not process.workers:
            del self.processes[process.id]
            self.give_up(process.id)

    async def _write(self, process: AgentProcess, row: Process) -> bool:
        """Whether the row is still this hub's."""
        if process.written:
            return True
        process.written = True  # what changes from here on is written with the next round
        try:
            return await self._holding.tell(row, process.as_told())
        except StoreError:
            process.written = False
            raise

    def _measure(self, process: AgentProcess) -> None:
        metrics, labels = self._kit.metrics, _labels(process)
        metrics.put("holdfast_agent_up", process.status is ProcessStatus.RUNNING, **labels)
        metrics.put("holdfast_agent_in_flight", process.in_flight, **labels)
        metrics.put("holdfast_agent_restarts", process.restarts, **labels)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _labels(process: AgentProcess) -> dict[str, str]:
    return {"agent": process.agent.version.name, "id": process.id}

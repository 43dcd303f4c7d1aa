"""The hub itself: the parts of this room put together, from recovery to a clean stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from holdfast.bus import Notice
from holdfast.bus.base import CANCEL, PAUSE
from holdfast.domain.breakers import BreakerRules
from holdfast.domain.hubs import NewHub
from holdfast.domain.ids import now_us
from holdfast.operations.kit import Kit

from .agent_office import AgentOffice
from .agent_process import Rules
from .agents import Agents, Configure
from .answering import Answering
from .breakers import Breakers, OwnCalls
from .budgets import Budgets
from .context_caches import ContextCaches
from .ending import Endings
from .keeping import Keeper
from .leases import LeaseKeeper
from .limits import Limits
from .office import Desk, Office
from .pool import Pool
from .presence import Presence
from .prompts import Prompts
from .recordings import Recordings
from .recovery import recover
from .shared_limits import SharedLimits
from .showing import Showing
from .supervisor import HireAgent
from .timers import Timers
from .worker import Employer, Worker


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentOptions:
    """How a hub knows agents, and whether it runs them.

    Attributes:
        configure: reads their configurations.
        hire: makes workers that run one; None: this hub only knows them.
        rules: how their processes are supervised.
        host: name of this machine.
        clock: seconds, from wherever they start; None: the loop's.
    """

    configure: Configure
    hire: HireAgent | None = None
    rules: Rules = field(default_factory=Rules)
    host: str = ""
    clock: Callable[[], float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HubOptions:
    """How a hub works."""

    runners: int  # worker processes; none: this hub runs nothing itself
    about: NewHub | None = None  # told to the other hubs, where there may be some
    on_demand: bool = False  # claim only when `run_next` is called
    default_deadline_s: float | None = None
    stop_grace_s: float = 10.0
    breakers: BreakerRules = field(default_factory=BreakerRules)
    shares: bool = False  # there may be other hubs on its database


class Hub:
    """Runs what is queued, from `start` to `close`.

    Args:
        kit: the hub's parts.
        options: see `HubOptions`.
        hire: makes a worker that reports to the given employer.
        agents: see `AgentOptions`; None: this hub knows of no agents.
    """

    def __init__(
        self,
        kit: Kit,
        options: HubOptions,
        *,
        hire: Callable[[str, Employer], Worker],
        agents: AgentOptions | None = None,
    ) -> None:
        self.kit = kit
        self._options = options
        self._shared_limits = SharedLimits(kit.store) if options.shares else None
        self.limits = Limits(kit.metrics, shared=self._shared_limits)
        self._own_calls: list[OwnCalls] = []
        self.breakers = Breakers(
            kit, options.breakers, lambda: [*self._workers(), *self._own_calls]
        )
        self.budgets = Budgets(kit)
        self._endings = Endings(kit, self.budgets, self.breakers.has_opened)
        self.caches = ContextCaches(
            kit, lambda provider, model: kit.prices.storage(provider, model, now_us())
        )
        self._prompts = Prompts(kit)
        self._keeper = Keeper(kit.store)
        desk = Desk(
            kit=kit,
            answering=Answering(
                kit,
                breakers=self.breakers,
                budgets=self.budgets,
                caches=self.caches,
                limits=self.limits,
                keeper=self._keeper,
                prompts=self._prompts,
            ),
            breakers=self.breakers,
            budgets=self.budgets,
            caches=self.caches,
            endings=self._endings,
            limits=self.limits,
        )
        self._desk = desk
        self._pool = Pool(
            desk,
            self._prompts,
            size=options.runners,
            hire=hire,
            default_deadline_s=options.default_deadline_s,
            tell_ready=self._pool_is_ready,
        )
        self.crew, self._dispatcher = self._pool.crew, self._pool.dispatcher
        self.agents: Agents | None = None
        self.agent_office: AgentOffice | None = None
        if agents is not None:
            self.agents = Agents(kit, agents.configure, self._configured)
            if agents.hire is not None:
                self.agent_office = AgentOffice(
                    desk,
                    self._prompts,
                    self.agents,
                    agents.rules,
                    hire=agents.hire,
                    host=agents.host,
                    clock=agents.clock,
                    default_deadline_s=options.default_deadline_s,
                )
        self._leases = LeaseKeeper(kit, self._cancel, self._pause)
        self.timers = Timers(kit)
        self._showing = Showing(kit)
        self._recordings = Recordings(kit, self._endings)
        self._presence = Presence(kit.store, options.about) if options.about else None
        self._ready = asyncio.Event()
        self._stop_listening = kit.bus.listen(CANCEL, self._cancel_asked)
        self._stop_pausing = kit.bus.listen(PAUSE, self._pause_asked)
        kit.metrics.describe("holdfast_running", "gauge", "Executions under way.")

    async def start(self) -> None:
        """Take in what a dead boot left, then start workers and claims."""
        if self.agents is not None:
            await self.agents.start()
        await recover(self.kit, self._endings)
        self._own_calls.append(OwnCalls(self.breakers))
        self.kit.embeddings.breakers = self._own_calls[0].port
        await self.breakers.start()
        await self._prompts.start()
        await self.budgets.start()
        if self._shared_limits is not None:
            self._shared_limits.start()
        if self._presence is not None:
            await self._presence.start()
        await self.crew.start()
        if not self._options.runners:
            self._ready.set()
        if not self._options.on_demand:
            self._dispatcher.start()
        if self.agent_office is not None:
            self.agent_office.start()
        self._leases.start()
        self.timers.start()
        self._recordings.start()

    @property
    def has_workers(self) -> bool:
        """Whether this hub runs anything itself."""
        return self._options.runners > 0

    async def run_next(self) -> str | None:
        """Claim the best event that may run, run it to its end and store that.

        Returns:
            The execution; None when nothing may run.

        Raises:
            StoreError: the database is away.
        """
        claimed = await self._dispatcher.take()
        if claimed is None:
            return None
        with self.kit.journal.watch(claimed.execution_id) as watcher:
            while self.kit.journal.get(claimed.execution_id) is not None:
                watcher.changed.clear()
                await watcher.changed.wait()
        return claimed.execution_id

    async def ready(self) -> None:
        """Wait until a worker takes work, where there is to be one."""
        await self._ready.wait()

    async def close(self) -> None:
        """Stop claiming, let work end within the grace, hand the rest back."""
        self._stop_listening()
        self._stop_pausing()
        if self._presence is not None:
            await self._presence.stopping()
        await self.timers.close()
        await self._recordings.close()
        if self.agents is not None:
            await self.agents.close()
        grace_s = self._options.stop_grace_s
        await asyncio.gather(*(office.close(grace_s) for office in self._offices()))
        await self._leases.close()
        for running in self.kit.journal.all():
            if running.finished is None:  # claimed, but no worker ever had it
                self._desk.crash(running.id, "the hub stopped before it could start", began=False)
        await self._keeper.close()
        await self.breakers.close()
        await self.caches.close()
        if self._shared_limits is not None:
            await self._shared_limits.close()
        await self._prompts.close()
        await self._endings.drain()
        await self.budgets.close()
        self._showing.close()
        if self._presence is not None:
            await self._presence.close()

    def _offices(self) -> list[Office]:
        return [self._pool] if self.agent_office is None else [self._pool, self.agent_office]

    def _workers(self) -> list[Worker]:
        return [worker for office in self._offices() for worker in office.workers]

    def _pool_is_ready(self) -> None:
        self._ready.set()

    def _configured(self, agent_id: str) -> None:
        if self.agent_office is not None:
            self.agent_office.supervisor.configured(agent_id)

    def _cancel_asked(self, notice: Notice) -> None:
        if notice.execution_id is not None:
            self._cancel(notice.execution_id)

    def _pause_asked(self, notice: Notice) -> None:
        if notice.execution_id is not None:
            self._pause(notice.execution_id)

    def _pause(self, execution_id: str) -> None:
        for office in self._offices():
            office.pause(execution_id)

    def _cancel(self, execution_id: str) -> None:
        for office in self._offices():
            office.cancel(execution_id)

"""The hub itself: the parts of this room put together, from recovery to a clean stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from holdfast.bus import Notice
from holdfast.bus.base import CANCEL, PAUSE
from holdfast.domain.breakers import BreakerRules
from holdfast.domain.hubs import NewHub
from holdfast.domain.ids import new_id
from holdfast.domain.status import ExecutionStatus
from holdfast.errors import NotFound, PortError, StoreRefused
from holdfast.journal import Running
from holdfast.operations.kit import Kit
from holdfast.operations.replay import replayed
from holdfast.operations.submit import submit
from holdfast.ports import CachedResult
from holdfast.runner.client_ports import STORE_TIMEOUT_S
from holdfast.store.queries import EventById
from holdfast.telemetry import logger

from .breakers import Breakers
from .crew import Crew
from .dispatch import Dispatcher
from .ending import Endings
from .keeping import Keeper
from .leases import LeaseKeeper
from .patience import patiently
from .presence import Presence
from .recordings import Recordings
from .recovery import recover
from .results import ResultCache
from .showing import Showing
from .timers import Timers
from .worker import Employer, Worker

log = logger("hub")

RUNNER_LOST = "runner_lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class HubOptions:
    """How a hub works."""

    runners: int  # worker processes; none: this hub runs nothing itself
    about: NewHub | None = None  # told to the other hubs, where there may be some
    on_demand: bool = False  # claim only when `run_next` is called
    default_deadline_s: float | None = None
    stop_grace_s: float = 10.0
    breakers: BreakerRules = field(default_factory=BreakerRules)


class Hub:
    """Runs what is queued, from `start` to `close`.

    Args:
        kit: the hub's parts.
        options: see `HubOptions`.
        hire: makes a worker that reports to the given employer.
    """

    def __init__(
        self, kit: Kit, options: HubOptions, *, hire: Callable[[str, Employer], Worker]
    ) -> None:
        self.kit = kit
        self._options = options
        self._endings = Endings(kit)
        self.crew = Crew(
            size=options.runners, hire=lambda name: hire(name, self), metrics=kit.metrics
        )
        self.breakers = Breakers(kit, options.breakers, lambda: self.crew.workers)
        self._dispatcher = Dispatcher(
            kit,
            self.crew,
            default_deadline_s=options.default_deadline_s,
            give_back=lambda one: self._crash(one, "it was claimed and not begun", began=False),
        )
        self._leases = LeaseKeeper(kit, self._cancel, self._pause)
        self._results = ResultCache()
        self._keeper = Keeper(kit.store)
        self.timers = Timers(kit)
        self._showing = Showing(kit)
        self._recordings = Recordings(kit, self._endings)
        self._presence = Presence(kit.store, options.about) if options.about else None
        self._closing = False
        self._ready = asyncio.Event()
        self._stop_listening = kit.bus.listen(CANCEL, self._cancel_asked)
        self._stop_pausing = kit.bus.listen(PAUSE, self._pause_asked)
        kit.metrics.describe("holdfast_running", "gauge", "Executions under way.")

    async def start(self) -> None:
        """Take in what a dead boot left, then start workers and claims."""
        await recover(self.kit, self._endings)
        await self.breakers.start()
        if self._presence is not None:
            await self._presence.start()
        await self.crew.start()
        if not self._options.runners:
            self._ready.set()
        if not self._options.on_demand:
            self._dispatcher.start()
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
        self._closing = True
        self._stop_listening()
        self._stop_pausing()
        if self._presence is not None:
            await self._presence.stopping()
        await self.timers.close()
        await self._recordings.close()
        await self._dispatcher.close()
        await self.crew.close(self._options.stop_grace_s)
        await self._leases.close()
        for running in self.kit.journal.all():
            if running.finished is None:  # claimed, but no worker ever had it
                self._crash(running.id, "the hub stopped before it could start", began=False)
        await self._keeper.close()
        await self.breakers.close()
        await self._endings.drain()
        self._showing.close()
        if self._presence is not None:
            await self._presence.close()

    def on_ready(self, worker: Worker) -> None:
        """See `Employer`."""
        if standings := self.breakers.standings():
            worker.learn_breakers(standings)
        self.crew.became_ready(worker)
        self._ready.set()
        self._dispatcher.crew_changed()

    def on_change(self, worker: Worker, execution_id: str, raw: bytes) -> None:  # noqa: ARG002
        """See `Employer`."""
        running = self.kit.journal.change(execution_id, raw)
        if running is not None and running.finished is not None:
            self.breakers.run_ended(execution_id)
            self._endings.store(running)

    def on_tokens(self, execution_id: str, step: int, text: str) -> None:
        """See `Employer`."""
        self.kit.journal.tokens(execution_id, step, text)

    def on_ended(self, worker: Worker, execution_id: str) -> None:
        """See `Employer`."""
        self.crew.has_worked(worker)
        running = self.kit.journal.get(execution_id)
        if running is not None and running.finished is None:
            # It left without an outcome we could read: never let it hang.
            self._crash(execution_id, "the runner sent no outcome", counts=True)
        self._dispatcher.ring()

    def on_gone(self, worker: Worker, reason: str) -> None:
        """See `Employer`."""
        lost, worker.in_flight = worker.in_flight, set()
        if lost:
            log.warning("runner.died", worker=worker.name, reason=reason, executions=len(lost))
        for execution_id in lost:
            self._crash(execution_id, reason, counts=not self._closing)
        self.crew.is_gone(worker, lost=len(lost), died=reason != "stopped")
        self._dispatcher.crew_changed()

    def on_outcome(self, told: Mapping[str, Any]) -> None:
        """See `Employer`."""
        self.breakers.take(told)

    async def ask(self, execution_id: str, port: str, args: dict[str, Any]) -> Any:
        """See `Employer`."""
        running = self.kit.journal.get(execution_id)
        if running is None:
            raise PortError(f"execution {execution_id} is not under way")
        if port == "cache.get":
            found = self._results.get(running.owner_id, args["key"])
            return None if found is None else [found.execution_id, found.value]
        if port == "cache.put":
            result = CachedResult(execution_id, args["value"])
            return self._results.put(running.owner_id, args["key"], result, args["ttl_s"])
        if port == "breakers.probe":
            return await self.breakers.probe(args["breaker"], execution_id)
        if port.startswith("checkpoints."):
            return await self._keeper.ask(running, port.removeprefix("checkpoints."), args)
        if port == "records.replayed":
            return (await replayed(self.kit, running)).for_run()
        if port != "events.submit":
            raise PortError(f"no port {port}")
        return await self._submit(running, args)

    async def _submit(self, running: Running, args: Mapping[str, Any]) -> str:
        """Take in what a run sends; while the database is away the step waits."""
        event_id = new_id()  # one for all tries: one whose answer was lost may have been stored

        async def once() -> str:
            try:
                submitted = await submit(
                    self.kit,
                    owner_id=running.owner_id,
                    type=args["type"],
                    data=args["data"],
                    source=f"/executions/{running.id}",
                    idempotency_key=args["idempotency_key"],
                    traceparent=running.start.claimed.traceparent,
                    event_id=event_id,
                )
            except StoreRefused:
                with suppress(NotFound):  # refused because a try before had stored it
                    return (await self.kit.store.read(EventById(event_id, running.owner_id))).id
                raise
            return submitted.id

        return await patiently(once, within_s=STORE_TIMEOUT_S, event_id=running.event_id)

    def _crash(
        self, execution_id: str, reason: str, *, counts: bool = False, began: bool = True
    ) -> None:
        error = {"code": RUNNER_LOST, "message": reason}
        running = self.kit.journal.break_off(execution_id, ExecutionStatus.CRASHED, error)
        if running is not None:
            running.began = began
            self.breakers.run_ended(execution_id)
            self._endings.store(running, counts_as_crash=counts)

    def _cancel_asked(self, notice: Notice) -> None:
        if notice.execution_id is not None:
            self._cancel(notice.execution_id)

    def _pause_asked(self, notice: Notice) -> None:
        if notice.execution_id is not None:
            self._pause(notice.execution_id)

    def _pause(self, execution_id: str) -> None:
        for worker in self.crew.workers:
            if execution_id in worker.in_flight:
                worker.pause(execution_id)

    def _cancel(self, execution_id: str) -> None:
        for worker in self.crew.workers:
            if execution_id in worker.in_flight:
                worker.cancel(execution_id)
                return
        if self._dispatcher.withdraw(execution_id):
            running = self.kit.journal.break_off(execution_id, ExecutionStatus.CANCELLED, None)
            if running is not None:
                self._endings.store(running)

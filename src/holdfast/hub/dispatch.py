"""The dispatcher: claims runnable events and gives each to a worker with a free slot."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable

import orjson

from holdfast.bus import Notice
from holdfast.bus.base import CANCEL, CHANGED, DELAYED, QUEUED
from holdfast.domain.events import Claimed
from holdfast.domain.ids import MICROS, now_us
from holdfast.domain.status import MAX_CRASHES, EventStatus
from holdfast.errors import StoreError
from holdfast.journal.running import Start
from holdfast.operations.kit import Kit
from holdfast.ports import RunSpec
from holdfast.store.commands import Claim
from holdfast.store.queries import EventById
from holdfast.store.queries.hub import LeasesOf
from holdfast.telemetry import logger

from .crew import Crew
from .worker import Worker, WorkerState

log = logger("hub")

CLAIM_AT_MOST = 32
"""Events claimed in one statement."""

SWEEP_S = 5.0
"""How long a lost doorbell can delay an event."""

GATHER_S = 0.01
"""How long to wait for more free slots when only few are."""

MAX_SOLO = 2
"""Extra workers at once for executions that must run alone."""

RETRY_S = 0.5
RETRY_MOST_S = 5.0
"""Pauses before the next claim while the database is away: doubled each time, up to the most."""

LAST_CLAIM_S = 5.0
"""How long a closing hub waits for the answer to a claim under way."""

LEASE_S = 15.0
"""How long an event stays with a hub that is not heard of."""


class Dispatcher:
    """Claims when a slot is free and something may be queued.

    Args:
        kit: the hub's parts.
        crew: who runs.
        default_deadline_s: deadline of pipelines that name none; None for no limit.
        give_back: called with an execution that was claimed and cannot be begun here.
    """

    def __init__(
        self,
        kit: Kit,
        crew: Crew,
        *,
        default_deadline_s: float | None,
        give_back: Callable[[str], None],
    ) -> None:
        self._kit = kit
        self._crew = crew
        self._default_deadline_s = default_deadline_s
        self._give_back = give_back
        self._bell = asyncio.Event()
        self._bell.set()
        self._suspects: deque[Claimed] = deque()
        self._claiming = False
        self._taking = asyncio.Lock()
        self._takers: list[asyncio.Future[Claimed | None]] = []
        self._closing = False
        self._told_full = False
        self._few_until: asyncio.TimerHandle | None = None
        self._in_doubt = False  # a claim may have been stored though its answer was lost
        self._cancelled_early: set[str] = set()
        self._versions = kit.registry.versions()
        self._limits = {
            one.name: one.max_running for one in kit.registry if one.max_running is not None
        }
        self._once = frozenset(one.name for one in kit.registry if not one.redeliver)
        self._rates = {one.name: one.rate for one in kit.registry if one.rate is not None}
        self._stop_listening: Callable[[], None] = kit.bus.listen(QUEUED, self._rung)
        self._task: asyncio.Task[None] | None = None
        kit.metrics.describe("holdfast_claims_total", "counter", "Events claimed.")

    def start(self) -> None:
        """Begin to claim."""
        self._task = asyncio.create_task(self._loop(), name="dispatcher")

    async def close(self) -> None:
        """Claim nothing more; what a claim under way still brings is given back."""
        self._closing = True
        self._stop_listening()
        self._stop_gathering()
        if self._task is None:
            return
        if self._claiming:  # cancelling it would not take it back, only lose its answer
            await asyncio.wait({self._task}, timeout=LAST_CLAIM_S)
        self._task.cancel()
        await asyncio.wait({self._task})

    async def take(self) -> Claimed | None:
        """Claim the best event that may run and begin it, without a bell; None: there is none.

        Those who ask while a claim is under way are served by one further claim.

        Raises:
            StoreError: the database is away.
        """
        mine: asyncio.Future[Claimed | None] = asyncio.get_running_loop().create_future()
        self._takers.append(mine)
        async with self._taking:
            while not mine.done():
                await self._take_for_all()
        return mine.result()

    async def _take_for_all(self) -> None:
        """Claim for everybody who asks, as many as one claim may bring."""
        asking = self._takers[:CLAIM_AT_MOST]
        claimed: list[Claimed] = []
        if not self._closing:
            try:
                if self._in_doubt:
                    await self._give_back_lost_claims()
                claimed = await self._claim(len(asking))
            except StoreError as error:
                self._in_doubt = True
                for one in asking:
                    one.set_exception(error)
                del self._takers[: len(asking)]
                return
        for number, one in enumerate(asking):
            one.set_result(claimed[number] if number < len(claimed) else None)
        del self._takers[: len(asking)]

    def ring(self) -> None:
        """A slot became free or something may be runnable."""
        self._bell.set()

    def withdraw(self, execution_id: str) -> bool:
        """Take back an execution that no worker has yet; False when one has, or will have.

        A cancel may arrive between the commit of a claim and the moment the loop hears of it:
        it is asked for again once the claim is known.
        """
        waiting = deque(one for one in self._suspects if one.execution_id != execution_id)
        withdrawn = len(waiting) < len(self._suspects)
        self._suspects = waiting
        if not withdrawn and self._claiming:
            self._cancelled_early.add(execution_id)
        return withdrawn

    def crew_changed(self) -> None:
        """A worker became ready or went: see to the suspects and claim."""
        for worker in self._crew.workers:
            alone = worker.solo and worker.state is WorkerState.READY and not worker.in_flight
            if alone and self._suspects:
                self._run(worker, self._suspects.popleft())
                worker.retire()
            elif alone:
                worker.retire()  # whom it was hired for was cancelled
        self._hire_for_suspects()
        self.ring()

    def _rung(self, notice: Notice) -> None:  # noqa: ARG002
        self._bell.set()

    async def _loop(self) -> None:
        tries = 0
        while not self._closing:
            try:
                async with asyncio.timeout(SWEEP_S):
                    await self._bell.wait()
            except TimeoutError:
                pass  # the sweep: a bell may have been lost
            self._bell.clear()
            try:
                if self._in_doubt:
                    await self._give_back_lost_claims()
                await self._claim_all()
                tries = 0
            except StoreError as error:
                log.error("hub.claim_failed", error=str(error))
                self._in_doubt = True
                if self._closing:
                    return
                await asyncio.sleep(min(RETRY_MOST_S, RETRY_S * 2.0**tries))
                tries = min(tries + 1, 16)
                self._bell.set()

    async def _claim_all(self) -> None:
        """Claim until nothing is left or the slots are taken."""
        while self._versions and not self._closing and not self._journal_full():
            free = sum(worker.free for worker in self._crew.workers)
            slots = sum(worker.slots for worker in self._crew.workers)
            if free == 0 or (free < min(slots // 4, CLAIM_AT_MOST) and not self._gathered()):
                return
            self._stop_gathering()
            limit = min(free, CLAIM_AT_MOST)
            claimed = await self._claim(limit)
            if len(claimed) < limit:
                return

    def _journal_full(self) -> bool:
        """Whether further work must wait for the records of what has ended to be stored."""
        full = self._kit.journal.full
        if full and not self._told_full:
            log.error("hub.journal_full", backlog=self._kit.journal.backlog)
        self._told_full = full
        return full

    def _gathered(self) -> bool:
        """Whether to claim though few slots are free.

        Under load more will be in a moment, and claims are cheaper in groups; but what holds the
        other slots may take hours.
        """
        if self._few_until is None:
            self._few_until = asyncio.get_running_loop().call_later(GATHER_S, self._bell.set)
        return self._few_until.when() <= asyncio.get_running_loop().time()

    def _stop_gathering(self) -> None:
        if self._few_until is not None:
            self._few_until.cancel()
            self._few_until = None

    async def _claim(self, limit: int) -> list[Claimed]:
        self._claiming = True
        try:
            claimed = await self._kit.store.write(
                Claim(
                    limit=limit,
                    lease_owner=self._kit.boot_id,
                    lease_us=int(LEASE_S * MICROS),
                    versions=self._versions,
                    once=self._once,
                    rates=self._rates,
                    room=self._room(),
                )
            )
            for one in claimed:
                self._begin(one)
        finally:
            self._claiming = False
            early, self._cancelled_early = self._cancelled_early, set()
            for execution_id in early:  # whoever has it now can be told
                self._kit.bus.publish(Notice(CANCEL, execution_id=execution_id))
        self._kit.metrics.add("holdfast_claims_total", len(claimed))
        if any(one.target in self._rates for one in claimed):
            self._kit.bus.publish(Notice(DELAYED))  # others may have to wait for their rate
        return claimed

    async def _give_back_lost_claims(self) -> None:
        """Give back what a claim took whose answer was lost together with the connection.

        Nobody else would: the lease is ours, and no hub reaps its own.
        """
        store, journal = self._kit.store, self._kit.journal
        for lease in await store.read(LeasesOf(self._kit.boot_id)):
            if journal.get(lease.execution_id) is not None:
                continue
            event = await store.read(EventById(lease.event_id, lease.owner_id))
            if event.status is not EventStatus.RUNNING or event.fence != lease.fence:
                continue  # it has ended meanwhile
            self._note(
                Claimed(
                    event_id=event.id,
                    owner_id=event.owner_id,
                    target=event.target,
                    target_kind=event.target_kind,
                    data=b"null",
                    traceparent=event.traceparent,
                    execution_id=lease.execution_id,
                    fence=lease.fence,
                    delivery=event.deliveries,
                    crashes=event.crashes,
                    started_at=now_us(),
                    parent_id=event.parent_id,
                    origin=event.origin,
                )
            )
            self._give_back(lease.execution_id)
        self._in_doubt = False

    def _room(self) -> dict[str, int]:
        """How many more may run of each pipeline that limits itself."""
        if not self._limits:
            return {}
        busy = Counter(
            running.start.claimed.target
            for running in self._kit.journal.all()
            if running.finished is None
        )
        return {name: max(0, most - busy[name]) for name, most in self._limits.items()}

    def _begin(self, claimed: Claimed) -> None:
        self._note(claimed)
        if self._closing:
            self._give_back(claimed.execution_id)
        elif claimed.crashes >= MAX_CRASHES - 1:
            # One crash from being set aside: it runs in a process of its own, so that if it is
            # the poison it takes nobody along, and if it is not, nobody takes it along.
            self._suspects.append(claimed)
            self._hire_for_suspects()
        else:
            self._assign(claimed)

    def _note(self, claimed: Claimed) -> None:
        graph_version, code_version = self._versions[claimed.target]
        self._kit.journal.begin(
            Start(
                claimed=claimed,
                lease_owner=self._kit.boot_id,
                graph_version=graph_version,
                code_version=code_version,
            )
        )
        if claimed.halt is not None:  # who followed it into its halt elsewhere follows it out
            self._kit.bus.publish(Notice(CHANGED, claimed.event_id, claimed.execution_id))

    def _assign(self, claimed: Claimed) -> None:
        worker = max(self._crew.workers, key=lambda one: one.free, default=None)
        if worker is None or worker.free <= 0:
            # Its worker went between the claim and now: it gets one of its own.
            self._suspects.append(claimed)
            self._hire_for_suspects()
            return
        self._run(worker, claimed)

    def _hire_for_suspects(self) -> None:
        """Keep as many extra workers coming as there are suspects, up to the limit."""
        idle = self._crew.idle_solo
        busy = sum(1 for one in self._crew.workers if one.solo and one.in_flight)
        for _ in range(min(len(self._suspects) - idle, MAX_SOLO - idle - busy)):
            self._crew.hire_solo()

    def _run(self, worker: Worker, claimed: Claimed) -> None:
        deadline = self._kit.registry.get(claimed.target).deadline or self._default_deadline_s
        halt = claimed.halt
        worker.run(
            RunSpec(
                execution_id=claimed.execution_id,
                event_id=claimed.event_id,
                owner_id=claimed.owner_id,
                kind=claimed.target_kind,
                name=claimed.target,
                version=self._versions[claimed.target][0],
                data=claimed.data,
                delivery=claimed.delivery,
                deadline_s=deadline,
                traceparent=claimed.traceparent,
                goes_on=claimed.goes_on,
                answers=claimed.answers,
                steps=halt.steps if halt else 0,
                texts=halt.texts if halt else 0,
                open=halt.open if halt else (),
                replay=orjson.loads(claimed.replay) if claimed.replay else None,
            )
        )

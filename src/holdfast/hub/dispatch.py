"""The dispatcher: claims runnable events and gives each to a worker with a free slot."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping

import orjson

from holdfast.bus import Notice
from holdfast.bus.base import CANCEL, CHANGED, DELAYED, QUEUED
from holdfast.domain.agents import AGENT
from holdfast.domain.events import Claimed
from holdfast.domain.ids import MICROS, now_us
from holdfast.domain.status import MAX_CRASHES, EventStatus
from holdfast.errors import StoreError
from holdfast.journal.running import Start
from holdfast.operations.kit import Kit
from holdfast.pipelines.base import Declaration
from holdfast.ports import RunSpec
from holdfast.store.commands import Claim
from holdfast.store.commands.horizon import Horizon
from holdfast.store.queries import EventById
from holdfast.store.queries.hub import LeasesOf
from holdfast.telemetry import logger

from .prompts import Prompts
from .staff import Staff
from .worker import Worker, WorkerState

log = logger("hub")

CLAIM_AT_MOST = 32
"""Events claimed in one statement."""

SWEEP_S = 5.0
"""How long a lost doorbell can delay an event."""

GATHER_S = 0.01
"""How long to wait for more free slots when only few are."""

RETRY_S = 0.25
RETRY_MOST_S = 1.0
"""Pauses before the next claim while the database is away: doubled each time, up to the most. It is
mostly this that finds it back; who waits longer is told."""

LAST_CLAIM_S = 5.0
"""How long a closing hub waits for the answer to a claim under way."""

LEASE_S = 14.0
"""How long an event stays with a hub that is not heard of; a second later it is taken back."""


class Dispatcher:
    """Claims when a slot is free and something may be queued.

    Args:
        kit: the hub's parts.
        staff: whom it claims for.
        prompts: which versions of prompts they use.
        default_deadline_s: deadline of pipelines that name none; None for no limit.
        budgeted: whether a budget may count what an execution spends.
        give_back: called with an execution that was claimed and cannot be begun here.
    """

    def __init__(
        self,
        kit: Kit,
        staff: Staff,
        prompts: Prompts,
        *,
        default_deadline_s: float | None,
        budgeted: Callable[[Claimed], bool],
        give_back: Callable[[str], None],
    ) -> None:
        self._kit = kit
        self._staff = staff
        self._prompts = prompts
        self._default_deadline_s = default_deadline_s
        self._budgeted = budgeted
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
        self._horizon = Horizon()
        self._look_again: asyncio.TimerHandle | None = None
        self._in_doubt = False  # a claim may have been stored though its answer was lost
        self._cancelled_early: set[str] = set()
        self._versions: Mapping[str, tuple[str, str]] = {}  # as the last claim named them
        self._stop_listening: Callable[[], None] = kit.bus.listen(QUEUED, self._rung)
        self._task: asyncio.Task[None] | None = None
        kit.metrics.describe("holdfast_claims_total", "counter", "Events claimed.")

    def start(self) -> None:
        """Begin to claim."""
        self._task = asyncio.create_task(self._loop(), name=f"dispatcher-{self._staff.kind}")

    async def close(self) -> None:
        """Claim nothing more; what a claim under way still brings runs if a worker has room."""
        self._closing = True
        self._stop_listening()
        self._bell.set()  # whoever waits for a slot is let go
        self._stop_gathering()
        if self._look_again is not None:
            self._look_again.cancel()
        if self._task is None:
            return
        if self._claiming:  # cancelling it would not take it back, only lose its answer
            await asyncio.wait({self._task}, timeout=LAST_CLAIM_S)
        self._task.cancel()
        await asyncio.wait({self._task})

    async def take(self) -> Claimed | None:
        """Claim the best event that may run and begin it once a slot is free, without a bell.

        Those who ask while a claim is under way are served by one further claim.

        Returns:
            What is begun; None when there is nothing, or nothing more is begun here for now.

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
        """Claim for everybody who asks, as many as one claim may bring and slots are free."""
        while not (self._closing or self._free()):
            self._bell.clear()
            await self._bell.wait()
        asking = self._takers[: min(self._free() or CLAIM_AT_MOST, CLAIM_AT_MOST)]
        claimed: list[Claimed] = []
        if not (self._closing or self._journal_full()):
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
        for worker in self._staff.workers:
            if not worker.solo or worker.state is not WorkerState.READY or worker.in_flight:
                continue
            mine = next((one for one in self._suspects if self._staff.suits(worker, one)), None)
            if mine is not None:
                self._suspects.remove(mine)
                self._run(worker, mine)
            worker.retire()  # or whom it was hired for was cancelled
        self._staff.hire_alone(tuple(self._suspects))
        self.ring()

    def give_up(self, name: str) -> None:
        """Give back what waits for a worker of its own: none comes any more."""
        given_up = [one for one in self._suspects if one.target == name]
        self._suspects = deque(one for one in self._suspects if one.target != name)
        for one in given_up:
            self._give_back(one.execution_id)

    def _rung(self, notice: Notice) -> None:
        if self._staff.concerns(notice):
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
                await self._kit.store.pause(min(RETRY_MOST_S, RETRY_S * 2.0**tries))
                tries = min(tries + 1, 16)
                self._bell.set()
            except Exception:  # of our own making: the queue must not stand still with it
                log.exception("hub.fault", round="dispatcher")
                self._in_doubt = True
                await asyncio.sleep(RETRY_MOST_S)
                self._bell.set()

    async def _claim_all(self) -> None:
        """Claim until nothing is left or the slots are taken."""
        while not self._closing and not self._journal_full():
            self._staff.between_claims()
            free = self._free()
            slots = sum(worker.slots for worker in self._staff.workers)
            few = free < min(slots // 4, CLAIM_AT_MOST)
            if free == 0 or not self._staff.versions() or (few and not self._gathered()):
                return
            self._stop_gathering()
            limit = min(free, CLAIM_AT_MOST)
            claimed = await self._claim(limit)
            if len(claimed) < limit:
                return

    def _free(self) -> int:
        return sum(worker.free for worker in self._staff.workers)

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
            await self._prompts.refresh()  # what was moved before an event came counts for it
            claimed: list[Claimed] = []
            more = True
            while more:
                some = await self._kit.store.write(self._next_claim(limit - len(claimed)))
                for one in some:
                    self._begin(one)
                claimed += some
                more = self._horizon.again and len(claimed) < limit
            self._look_at_the_whole_later()
        finally:
            self._claiming = False
            early, self._cancelled_early = self._cancelled_early, set()
            for execution_id in early:  # whoever has it now can be told
                self._kit.bus.publish(Notice(CANCEL, execution_id=execution_id))
        self._kit.metrics.add("holdfast_claims_total", len(claimed))
        if any(one.target in self._staff.rates for one in claimed):
            self._kit.bus.publish(Notice(DELAYED))  # others may have to wait for their rate
        return claimed

    def _next_claim(self, limit: int) -> Claim:
        staff = self._staff
        self._versions = staff.versions()
        return Claim(
            limit=limit,
            kind=staff.kind,
            lease_owner=self._kit.boot_id,
            lease_us=int(LEASE_S * MICROS),
            versions=self._versions,
            once=staff.once,
            rates=staff.rates,
            room=staff.room(),
            horizon=self._horizon if staff.behind_horizon and self._kit.store.lanes_apart else None,
        )

    def _look_at_the_whole_later(self) -> None:
        """Ring when the claim may look again at what it passed over in a slow index."""
        if self._look_again is not None:
            self._look_again.cancel()
            self._look_again = None
        if pause := self._horizon.whole_in_us:
            loop = asyncio.get_running_loop()
            self._look_again = loop.call_later(pause / MICROS, self._bell.set)

    async def _give_back_lost_claims(self) -> None:
        """Give back what a claim took whose answer was lost together with the connection.

        Nobody else would: the lease is ours, and no hub reaps its own.
        """
        self._horizon.forget()
        store, journal = self._kit.store, self._kit.journal
        for lease in await store.read(LeasesOf(self._kit.boot_id)):
            if journal.get(lease.execution_id) is not None:
                continue
            event = await store.read(EventById(lease.event_id, lease.owner_id))
            if event.target_kind != self._staff.kind:
                continue  # perhaps the answer to another dispatcher's claim is on its way
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
                ),
                None,
            )
            self._give_back(lease.execution_id)
        self._in_doubt = False

    def _begin(self, claimed: Claimed) -> None:
        declared = self._staff.declared(claimed.target)
        self._note(claimed, declared)
        if declared is None:
            self._give_back(claimed.execution_id)
        elif self._closing:
            self._assign_at_last(claimed)
        elif claimed.crashes >= MAX_CRASHES - 1:
            # One crash from being set aside: it runs in a process of its own, so that if it is
            # the poison it takes nobody along, and if it is not, nobody takes it along.
            self._suspects.append(claimed)
            self._staff.hire_alone(tuple(self._suspects))
        else:
            self._assign(claimed)

    def _note(self, claimed: Claimed, declared: Declaration | None) -> None:
        graph_version, code_version = self._versions[claimed.target]
        self._kit.journal.begin(
            Start(
                claimed=claimed,
                lease_owner=self._kit.boot_id,
                graph_version=graph_version,
                code_version=code_version,
                kind=claimed.target_kind,
                prompts=self._prompts.pins(claimed, declared) if declared else {},
            )
        )
        if claimed.halt is not None or claimed.target_kind == AGENT:
            # Who followed it into its halt elsewhere follows it out; who waits for an answer in a
            # conversation learns whose tokens to follow.
            self._kit.bus.publish(
                Notice(
                    CHANGED,
                    claimed.event_id,
                    claimed.execution_id,
                    session_id=claimed.session_id,
                )
            )

    def _assign(self, claimed: Claimed) -> None:
        worker = self._staff.worker_for(claimed)
        if worker is not None:
            self._run(worker, claimed)
        elif self._staff.hires_for_left:
            self._suspects.append(claimed)
            self._staff.hire_alone(tuple(self._suspects))
        else:
            self._give_back(claimed.execution_id)

    def _assign_at_last(self, claimed: Claimed) -> None:
        """Nobody is hired any more: it runs beside others, if it may, or elsewhere."""
        suspect = claimed.crashes >= MAX_CRASHES - 1
        worker = None if suspect else self._staff.worker_for(claimed)
        if worker is None:
            self._give_back(claimed.execution_id)
        else:
            self._run(worker, claimed)

    def _run(self, worker: Worker, claimed: Claimed) -> None:
        declared = self._staff.declared(claimed.target)
        halt, running = claimed.halt, self._kit.journal.get(claimed.execution_id)
        worker.run(
            RunSpec(
                execution_id=claimed.execution_id,
                event_id=claimed.event_id,
                owner_id=claimed.owner_id,
                kind=claimed.target_kind,
                name=claimed.target,
                version=running.start.graph_version if running else "",
                data=claimed.data,
                delivery=claimed.delivery,
                deadline_s=(declared and declared.deadline) or self._default_deadline_s,
                traceparent=claimed.traceparent,
                goes_on=claimed.goes_on,
                answers=claimed.answers,
                steps=halt.steps if halt else 0,
                texts=halt.texts if halt else 0,
                open=halt.open if halt else (),
                budgeted=self._budgeted(claimed),
                replay=orjson.loads(claimed.replay) if claimed.replay else None,
                prompts=running.start.prompts if running else {},
                session_id=claimed.session_id,
            )
        )

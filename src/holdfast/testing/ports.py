"""In-memory ports for tests: a sink that keeps what a run tells, and events that are only noted.

Labelled as such: nothing here stores, runs or sends anything.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from holdfast.domain.budgets import Unit, no_room
from holdfast.domain.changes import Change, Finished, change_from
from holdfast.domain.context_cache import AskForCache, CacheMove, ContextCache
from holdfast.domain.events import Claimed
from holdfast.domain.executions import Attempt, Step
from holdfast.domain.ids import new_id, now_us
from holdfast.errors import PortError
from holdfast.journal.running import Assessor, Running, Start
from holdfast.llm.checks import suspicious
from holdfast.llm.prices import Prices
from holdfast.ports import (
    CachedResult,
    CacheGrant,
    CacheNews,
    CacheWanted,
    PlannedCall,
    Ports,
    Spending,
)
from holdfast.runner.context_caches import cache_for, grant_of, told


class MemorySink:
    """A `RecordSink` that keeps everything, as it would cross the socket.

    Attributes:
        raw: changes as JSON, by execution, in the order they came.
        tokens_of: streamed text as `(step, text)`, by execution.
    """

    def __init__(self) -> None:
        self.raw: defaultdict[str, list[bytes]] = defaultdict(list)
        self.tokens_of: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)

    def change(self, execution_id: str, raw: bytes) -> None:
        """See `RecordSink.change`."""
        self.raw[execution_id].append(raw)

    def tokens(self, execution_id: str, step: int, text: str) -> None:
        """See `RecordSink.tokens`."""
        self.tokens_of[execution_id].append((step, text))

    def changes(self, execution_id: str) -> list[Change]:
        """What an execution told so far."""
        return [change_from(orjson.loads(raw)) for raw in self.raw[execution_id]]

    def record(self, execution_id: str, *, data: bytes = b"null") -> Recorded:
        """What a hub makes of it.

        Args:
            execution_id: whose.
            data: the event's data as JSON.
        """
        running = Running(start_of(execution_id, data=data), ASSESSOR)
        for change in self.changes(execution_id):
            running.apply(change)
        return Recorded(running)


ASSESSOR = Assessor(price=Prices().price, suspicious=suspicious)
"""Prices and warnings as a hub adds them."""


def start_of(execution_id: str, *, data: bytes = b"null", **claim: Any) -> Start:
    """The beginning of an execution that nobody stored.

    Args:
        execution_id: whose.
        data: the event's data as JSON.
        **claim: fields of `Claimed` that matter to a test.
    """
    claimed: dict[str, Any] = {
        "event_id": "event",
        "owner_id": "local",
        "target": "test.pipeline",
        "target_kind": "pipeline",
        "data": data,
        "traceparent": None,
        "execution_id": execution_id,
        "fence": 1,
        "delivery": 1,
        "crashes": 0,
        "started_at": 1_700_000_000_000_000,
    }
    return Start(
        claimed=Claimed(**(claimed | claim)),
        lease_owner="boot",
        graph_version="1",
        code_version="c",
    )


@dataclass(frozen=True, slots=True)
class Recorded:
    """An execution's record, with short words for what tests ask of it."""

    running: Running

    @property
    def finished(self) -> Finished:
        """Its end.

        Raises:
            LookupError: it has none.
        """
        if self.running.finished is None:
            raise LookupError(f"execution {self.running.id} has not finished")
        return self.running.finished

    @property
    def steps(self) -> tuple[Step, ...]:
        """In order of starting."""
        return self.running.steps()

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """In order of starting."""
        return self.running.attempts()

    @property
    def output(self) -> Any:
        """The execution's result."""
        return self.text(self.finished.output)

    def step(self, operation: str) -> Step:
        """The only step of that name.

        Raises:
            LookupError: there is none, or more than one.
        """
        found = [step for step in self.steps if step.operation == operation]
        if len(found) != 1:
            known = [step.operation for step in self.steps]
            raise LookupError(f"{len(found)} steps are called {operation!r}; there are {known}")
        return found[0]

    def tree(self) -> dict[str, str | None]:
        """Each step's operation, and that of its parent."""
        names = {step.step: step.operation for step in self.steps}
        return {step.operation: names.get(step.parent or 0) for step in self.steps}

    def text(self, index: int | None) -> Any:
        """The value an index points to."""
        return self.running.payload().get(index)


class MemoryEvents:
    """An `EventsPort` that notes what was sent.

    Attributes:
        sent: `(type, data, idempotency key)` of each, in order.
        refuse: raised as a `PortError` instead, when set.
    """

    def __init__(self) -> None:
        self.sent: list[tuple[str, Mapping[str, Any], str | None]] = []
        self.refuse: str | None = None

    async def submit(
        self,
        *,
        execution_id: str,  # noqa: ARG002 - the contract
        type: str,  # noqa: A002 - CloudEvents' name
        data: Mapping[str, Any],
        idempotency_key: str | None = None,
    ) -> str:
        """See `EventsPort.submit`."""
        if self.refuse is not None:
            raise PortError(self.refuse)
        self.sent.append((type, data, idempotency_key))
        return f"event-{len(self.sent)}"


class MemoryCache:
    """A `CachePort` that keeps everything and forgets nothing.

    Attributes:
        kept: `(result, seconds it may be used)` by key.
        refuse: raised as a `PortError` instead, when set.
    """

    def __init__(self) -> None:
        self.kept: dict[str, tuple[CachedResult, float]] = {}
        self.refuse: str | None = None

    async def get(self, *, execution_id: str, key: str) -> CachedResult | None:  # noqa: ARG002
        """See `CachePort.get`."""
        if self.refuse is not None:
            raise PortError(self.refuse)
        kept = self.kept.get(key)
        return None if kept is None else kept[0]

    async def put(self, *, execution_id: str, key: str, value: str, ttl_s: float) -> None:
        """See `CachePort.put`."""
        if self.refuse is not None:
            raise PortError(self.refuse)
        self.kept[key] = (CachedResult(execution_id, value), ttl_s)


class MemoryBudgets:
    """A `BudgetsPort` that keeps one budget in memory, without prices.

    Attributes:
        spent: so far, by unit.
        held: set aside for calls under way, by unit.
    """

    def __init__(self, amounts: Mapping[Unit, int], title: str = "an execution") -> None:
        """Start afresh.

        Args:
            amounts: what may be spent, by unit.
            title: how messages name it.
        """
        self.spent: dict[Unit, int] = dict.fromkeys(amounts, 0)
        self.held: dict[Unit, int] = dict.fromkeys(amounts, 0)
        self._amounts = dict(amounts)
        self._title = title
        self._reserved: dict[str, dict[Unit, int]] = {}

    def wanted(self) -> bool:
        """See `BudgetsPort.wanted`."""
        return bool(self._amounts)

    async def reserve(self, call: PlannedCall | None) -> str | None:
        """See `BudgetsPort.reserve`."""
        return self.reserve_in_thread(call)

    def reserve_in_thread(self, call: PlannedCall | None) -> str | None:
        """See `BudgetsPort.reserve_in_thread`."""
        if call is None:
            return None
        tokens = call.tokens_input + call.tokens_output
        asked = {Unit.TOKENS: tokens, Unit.CREDITS: call.credits}
        needs = {unit: need for unit, need in asked.items() if need and unit in self._amounts}
        for unit, need in needs.items():
            if need > self._amounts[unit] - self.spent[unit] - self.held[unit]:
                raise no_room(
                    self._title,
                    unit,
                    need,
                    limit=self._amounts[unit],
                    spent=self.spent[unit],
                    set_aside=self.held[unit],
                )
        for unit, need in needs.items():
            self.held[unit] += need
        reservation = f"reservation-{len(self._reserved) + 1}"
        self._reserved[reservation] = needs
        return reservation

    def settle(self, spending: Spending) -> None:
        """See `BudgetsPort.settle`."""
        usage = spending.usage or {}
        used = {
            Unit.TOKENS: (usage.get("tokens_input") or 0) + (usage.get("tokens_output") or 0),
        }
        for unit, need in self._reserved[spending.reservation].items():
            self.held[unit] -= need
            kept = spending.unknown or (unit is Unit.CREDITS and spending.credits)
            self.spent[unit] += need if kept else used.get(unit, 0)


def memory_ports() -> Ports:
    """All ports, in memory."""
    return Ports(events=MemoryEvents(), cache=MemoryCache())


class MemoryContextCache:
    """A `ContextCachePort` over the same moves as the hub's, for one process.

    Attributes:
        caches: as they stand, by key.
        news: what was told, oldest first.
    """

    def __init__(self, clock: Callable[[], int] = now_us) -> None:
        self._clock = clock
        self.caches: dict[str, ContextCache] = {}
        self.news: list[CacheNews] = []
        self._changed = asyncio.Condition()

    async def ask(self, wanted: CacheWanted) -> CacheGrant:
        """See `ContextCachePort.ask`."""
        lease = new_id()
        async with self._changed:
            while True:
                cache, _ = self._move(wanted, AskForCache(lease=lease, lost=wanted.lost))
                grant = grant_of(cache, lease, self._clock())
                if grant is not None:
                    return grant
                await self._changed.wait()

    async def tell(self, wanted: CacheWanted, news: CacheNews) -> bool:
        """See `ContextCachePort.tell`."""
        async with self._changed:
            self.news.append(news)
            _, counts = self._move(wanted, told(news))
            self._changed.notify_all()
            return counts

    def _move(self, wanted: CacheWanted, move: CacheMove) -> tuple[ContextCache, bool]:
        cache = self.caches.get(wanted.key) or cache_for(wanted)
        after = move.apply(cache, self._clock())
        self.caches[wanted.key] = after or cache
        return after or cache, after is not None

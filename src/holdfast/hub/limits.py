"""Limits of models: calls and tokens of the last minute, counted here for all runners of a hub."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from holdfast.telemetry import Metrics

from .shared_limits import SharedLimits

WINDOW_S = 60.0

WAIT_AT_MOST_S = 60.0
"""A call that would have to wait longer is refused: a held slot is worth more."""

BY_THE_MINUTE = ("requests_per_minute", "tokens_per_minute")

EARLY = 1024
"""Calls remembered that were given up before their question was looked at."""


@dataclass(slots=True, eq=False)
class _Taken:
    """A call that was let, by the time from which it may be made."""

    at: float
    tokens: int
    slice: int | None = None  # of the database, where other hubs count with us


@dataclass(slots=True)
class _Limited:
    """What is known of one model."""

    calls: deque[_Taken] = field(default_factory=deque[_Taken])  # by time, oldest first
    by_id: dict[str, _Taken] = field(default_factory=dict[str, _Taken])
    under_way: dict[str, str] = field(default_factory=dict[str, str])  # id to execution
    waiting: deque[tuple[str, str, int, asyncio.Future[None]]] = field(
        default_factory=deque[tuple[str, str, int, "asyncio.Future[None]"]]
    )  # id, execution, how many may be under way


class Limits:
    """Answers `ports.LimitsPort`; in no minute are there more calls or tokens than allowed.

    Alone on its database the hub counts in memory, else by slices that it takes of it. Each call
    gets the earliest time that fits, in the order of asking. What it really took takes the place of
    the estimate once it is known.
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        shared: SharedLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shared = shared
        self._clock = clock
        self._metrics = metrics
        self._limited: dict[str, _Limited] = {}
        self._settled_early: deque[str] = deque(maxlen=EARLY)
        metrics.describe(
            "holdfast_model_limit_wait_seconds_total", "counter", "Time calls waited for limits."
        )
        metrics.describe(
            "holdfast_model_limit_refusals_total", "counter", "Calls that would have waited long."
        )

    async def take(
        self,
        execution_id: str,
        *,
        name: str,
        id: str,  # noqa: A002 - as it is asked
        limits: Mapping[str, int],
        tokens: int,
    ) -> tuple[float, bool]:
        """Give leave for one call.

        Args:
            execution_id: who asks.
            name: of the model.
            id: of the call, by which it is settled.
            limits: see `ports.LIMITS`.
            tokens: that it may take.

        Returns:
            Seconds to wait, and whether that is so long that the call is refused.
        """
        one = self._limited.setdefault(name, _Limited())
        if id in self._settled_early:
            return 0.0, True  # nobody waits for the answer
        began = self._clock()
        if not await self._enter(one, id, execution_id, limits.get("in_flight")):
            self._metrics.add("holdfast_model_limit_refusals_total", model=name)
            return WAIT_AT_MOST_S, True
        if self._shared is not None and any(name in limits for name in BY_THE_MINUTE):
            return await self._take_shared(self._shared, one, name, id, limits, tokens, began)
        now = self._clock()
        at = self._earliest(one, now, limits, tokens)
        if at - began > WAIT_AT_MOST_S:
            self._leave(one, id)
            self._metrics.add("holdfast_model_limit_refusals_total", model=name)
            return at - now, True
        one.by_id[id] = _Taken(at, tokens)
        one.calls.append(one.by_id[id])
        self._metrics.add("holdfast_model_limit_wait_seconds_total", at - began, model=name)
        return at - now, False

    async def _take_shared(
        self,
        shared: SharedLimits,
        one: _Limited,
        name: str,
        id_: str,
        limits: Mapping[str, int],
        tokens: int,
        began: float,
    ) -> tuple[float, bool]:
        try:
            leave = await shared.take(name, limits, tokens)
        except BaseException:
            self._leave(one, id_)
            raise
        at = self._clock() + leave.wait_s
        if leave.slice is None or id_ not in one.under_way:
            # It would wait too long; or its run has ended meanwhile, and nobody will settle it.
            if leave.slice is not None:
                shared.settle(name, leave.slice, planned=tokens, made=False, used=None)
            self._leave(one, id_)
            self._metrics.add("holdfast_model_limit_refusals_total", model=name)
            return leave.wait_s, True
        one.by_id[id_] = _Taken(at, tokens, leave.slice)
        self._metrics.add("holdfast_model_limit_wait_seconds_total", at - began, model=name)
        return leave.wait_s, False

    def settle(self, told: Mapping[str, Any]) -> None:
        """Take what became of a call; one that was not made counts no more."""
        one = self._limited.setdefault(told["limit"], _Limited())
        taken = one.by_id.pop(told["id"], None)
        if taken is None and told["id"] not in one.under_way:
            self._settled_early.append(told["id"])
        if taken is not None and taken.slice is not None and self._shared is not None:
            self._shared.settle(
                told["limit"],
                taken.slice,
                planned=taken.tokens,
                made=told["made"],
                used=told["tokens"],
            )
        elif taken is not None and not told["made"]:
            one.calls.remove(taken)
        elif taken is not None and told["tokens"] is not None:
            taken.tokens = told["tokens"]
        self._leave(one, told["id"])

    def run_ended(self, execution_id: str) -> None:
        """Take for ended what a run had under way, or waited for: it says no more of it."""
        for one in self._limited.values():
            lost = [id_ for id_, of in one.under_way.items() if of == execution_id]
            lost += [waiting[0] for waiting in one.waiting if waiting[1] == execution_id]
            for id_ in lost:
                one.by_id.pop(id_, None)
                self._leave(one, id_)

    async def _enter(self, one: _Limited, id_: str, execution_id: str, most: int | None) -> bool:
        """Wait until fewer than `most` calls are under way; False when that takes too long."""
        if most is None or (len(one.under_way) < most and not one.waiting):
            one.under_way[id_] = execution_id
            return True
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        one.waiting.append((id_, execution_id, most, turn))
        try:
            async with asyncio.timeout(WAIT_AT_MOST_S):
                await turn
        except TimeoutError:
            self._leave(one, id_)
            return False
        return id_ in one.under_way

    def _leave(self, one: _Limited, id_: str) -> None:
        """A call is no more under way, or waits no more; who is next may go."""
        one.under_way.pop(id_, None)
        for waiting in list(one.waiting):
            if waiting[0] == id_:
                one.waiting.remove(waiting)
                if not waiting[3].done():
                    waiting[3].set_result(None)
        while one.waiting and len(one.under_way) < one.waiting[0][2]:
            next_id, execution_id, _, turn = one.waiting.popleft()
            if not turn.done():
                one.under_way[next_id] = execution_id
                turn.set_result(None)

    def _earliest(self, one: _Limited, now: float, limits: Mapping[str, int], tokens: int) -> float:
        """When a further call fits: in each window that it is part of there is room for it."""
        while one.calls and one.calls[0].at <= now - WINDOW_S:
            one.calls.popleft()
        requests = limits.get("requests_per_minute")
        most = limits.get("tokens_per_minute")
        at = max(now, one.calls[-1].at) if one.calls else now
        inside = [call for call in one.calls if call.at > at - WINDOW_S]
        count, spent = len(inside), sum(call.tokens for call in inside)
        for call in inside:
            fits = requests is None or count < requests
            if fits and (most is None or spent + tokens <= most):
                break
            at = max(at, call.at + WINDOW_S)
            count, spent = count - 1, spent - call.tokens
        return at

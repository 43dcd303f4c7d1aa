"""Breakers as running work sees them: told by the hub, asked for a probe, told how calls ended.

A call under a closed breaker costs no frame: successes are told together once a second, a failure
at once. Only when a cool-down is over does a call ask the hub, which lets one of them through.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from holdfast.domain.breakers import BreakerStatus, Outcome
from holdfast.domain.ids import MICROS, now_us
from holdfast.errors import BreakerOpen, PortError
from holdfast.ports import Permit, running_execution

TELL_EVERY_S = 1.0
"""How late the hub may hear of successes."""

ASK_TIMEOUT_S = 15.0
"""How long a thread waits for the hub."""

UNSURE_US = 2 * MICROS
"""For how long a call that the hub gave no leave to is put off."""

FAILURES = (Outcome.TEMPORARY, Outcome.RATE_LIMIT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the hub has told of one breaker."""

    name: str
    generation: int  # the hub's own count of its changes
    status: str = BreakerStatus.CLOSED
    until: int | None = None  # when to ask for a probe; None while open: never


class AskedBreakers:
    """Answers `ports.BreakersPort` from what the hub has told.

    Args:
        ask: puts a question to the hub: execution, port, arguments.
        tell: tells it how calls ended, from the loop's thread.
        clock: microseconds since the epoch.
    """

    def __init__(
        self,
        ask: Callable[[str, str, dict[str, Any]], Awaitable[Any]],
        tell: Callable[[dict[str, Any]], None],
        *,
        clock: Callable[[], int] = now_us,
    ) -> None:
        self._ask = ask
        self._tell = tell
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._known: dict[str, Standing] = {}
        self._lock = threading.Lock()  # around what threads count
        self._ok: dict[tuple[str, int], int] = {}

    def learn(self, standings: Iterable[Mapping[str, Any]]) -> None:
        """Take what the hub tells."""
        for one in standings:
            self._known[one["name"]] = Standing(**one)

    async def allow(self, breaker: str) -> Permit:
        """See `BreakersPort.allow`."""
        permit = self._glance(breaker)
        return permit if permit is not None else await self._ask_for_probe(breaker)

    def allow_in_thread(self, breaker: str) -> Permit:
        """See `BreakersPort.allow_in_thread`."""
        permit = self._glance(breaker)
        if permit is not None:
            return permit
        if threading.get_ident() == self._loop_thread:  # blocking it, the answer would never come
            raise _refused(breaker, self._clock() + UNSURE_US)
        asked = asyncio.run_coroutine_threadsafe(self._ask_for_probe(breaker), self._loop)
        return asked.result(ASK_TIMEOUT_S)

    def report(self, permit: Permit, outcome: Outcome, reason: str = "") -> bool:
        """See `BreakersPort.report`."""
        failed = outcome in FAILURES
        if permit.probe is not None:
            self._send(
                permit.breaker,
                permit.generation,
                probe=permit.probe,
                outcome=outcome,
                reason=reason,
            )
            return outcome is Outcome.TEMPORARY
        if failed:
            self._send(permit.breaker, permit.generation, outcome=outcome, reason=reason)
        elif outcome is Outcome.OK:
            self._count(permit)
        now = self._known.get(permit.breaker)
        return now is not None and now.status != BreakerStatus.CLOSED

    def _glance(self, breaker: str) -> Permit | None:
        """Leave at once where that is clear; None when the hub must be asked."""
        known = self._known.get(breaker)
        if known is None or known.status == BreakerStatus.CLOSED:
            return Permit(breaker, known.generation if known else 0)
        if known.until is None or self._clock() < known.until:
            raise _refused(breaker, known.until)
        return None

    async def _ask_for_probe(self, breaker: str) -> Permit:
        try:
            answer = await self._ask(
                running_execution.get() or "", "breakers.probe", {"breaker": breaker}
            )
        except PortError as error:
            message = f"{breaker} is open, and the hub gave no leave to probe it: {error.message}"
            until = self._clock() + UNSURE_US
            raise BreakerOpen(message, breaker=breaker, until=until, by_hub=True) from None
        self.learn([answer["standing"]])
        if answer["probe"] is None and answer["standing"]["status"] != BreakerStatus.CLOSED:
            raise _refused(breaker, answer["standing"]["until"])
        return Permit(breaker, answer["standing"]["generation"], answer["probe"])

    def _count(self, permit: Permit) -> None:
        with self._lock:
            first = not self._ok
            of = permit.breaker, permit.generation
            self._ok[of] = self._ok.get(of, 0) + 1
        if first:
            self._in_loop(lambda: self._loop.call_later(TELL_EVERY_S, self.flush))

    def flush(self) -> None:
        """Tell the hub of the successes since the last time."""
        with self._lock:
            counted, self._ok = self._ok, {}
        for (breaker, generation), ok in counted.items():
            self._tell({"breaker": breaker, "generation": generation, "ok": ok})

    def _send(self, breaker: str, generation: int, **ended: Any) -> None:
        with self._lock:
            ok = self._ok.pop((breaker, generation), 0)
        told = {"breaker": breaker, "generation": generation, "ok": ok, **ended}
        self._in_loop(lambda: self._tell(told))

    def _in_loop(self, call: Callable[[], object]) -> None:
        if threading.get_ident() == self._loop_thread:
            call()
        else:
            self._loop.call_soon_threadsafe(call)


def _refused(breaker: str, until: int | None) -> BreakerOpen:
    return BreakerOpen(
        f"{breaker} is open: calls to it kept failing, or somebody opened it; none is made now",
        breaker=breaker,
        until=until,
        by_hub=True,
    )

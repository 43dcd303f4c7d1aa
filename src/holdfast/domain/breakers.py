"""Circuit breakers: when calls to something outside stop being made, and when they are tried again.

Everything here is pure: a state, a move, the time, and what comes of them. After M. Nygard,
"Release It!", chapter "Circuit Breaker".
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from .ids import MICROS

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/+-]{0,199}")
"""What a breaker may be called."""

BY_HAND = "opened by hand"

PROBE_US = 150 * MICROS
"""How long a probe that nobody hears of keeps others from probing."""


class BreakerStatus(StrEnum):
    """Whether calls are made."""

    CLOSED = "closed"  # calls are made and counted
    OPEN = "open"  # none is made
    HALF_OPEN = "half_open"  # exactly one is made, the probe, and decides


class Outcome(StrEnum):
    """How a call ended, as far as a breaker cares."""

    OK = "ok"  # it was answered, if only with a refusal of what was asked
    TEMPORARY = "temporary"  # refused, broken off, timed out, 5xx
    RATE_LIMIT = "rate_limit"
    NONE = "none"  # it says nothing: cancelled, or the caller's own fault


B = BreakerStatus
BREAKER_MOVES: Mapping[BreakerStatus, frozenset[BreakerStatus]] = {
    B.CLOSED: frozenset({B.OPEN}),
    B.OPEN: frozenset({B.HALF_OPEN, B.CLOSED, B.OPEN}),  # closed and opened anew by hand
    # Half-open again: the probe before was never heard of.
    B.HALF_OPEN: frozenset({B.CLOSED, B.OPEN, B.HALF_OPEN}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerRules:
    """When a breaker opens, and for how long.

    Attributes:
        failures: within the window; 0: it never opens by itself.
        share: of the window's calls that must have failed, 0 to 1.
        window_s: how far back calls count, seconds.
        cooldown_s: seconds from the opening to the probe; doubled by each probe that fails.
        cooldown_most_s: seconds it is never longer than.
        rate_limits: whether a provider's "too many requests" counts as a failure.
    """

    failures: int = 5
    share: float = 0.5
    window_s: float = 60.0
    cooldown_s: float = 10.0
    cooldown_most_s: float = 300.0
    rate_limits: bool = False

    def counts(self, outcome: Outcome) -> bool:
        """Whether such an end is a failure."""
        return outcome is Outcome.TEMPORARY or (outcome is Outcome.RATE_LIMIT and self.rate_limits)

    def cooldown_us(self, openings: int) -> int:
        """Microseconds to stay open the `openings`-th time in a row."""
        seconds = self.cooldown_s * 2.0 ** min(openings - 1, 64)
        return int(min(self.cooldown_most_s, seconds) * MICROS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """The state of one breaker, as the hubs share it. Times are microseconds since the epoch."""

    name: str
    status: BreakerStatus = B.CLOSED
    version: int = 0  # grows with every move
    openings: int = 0  # in a row, with no success between them
    until: int | None = None  # of an open one: when it may be probed; None: never by itself
    reason: str | None = None  # what opened it
    by_hand: bool = False
    probe: str | None = None  # id of the probe under way
    probe_until: int | None = None  # from then on another one may be made
    changed_at: int = 0

    def may_probe(self, now: int) -> bool:
        """Whether the next call may be the probe."""
        if self.status is B.HALF_OPEN:
            return self.probe_until is None or self.probe_until <= now
        return self.status is B.OPEN and self.until is not None and self.until <= now

    def moved(self, status: BreakerStatus, now: int, **changes: Any) -> Breaker:
        """In another status; what is not given of an opening or a probe is forgotten.

        Raises:
            ValueError: the table has no such move.
        """
        if status not in BREAKER_MOVES[self.status]:
            raise ValueError(f"breaker {self.name} is {self.status} and cannot become {status}")
        forgotten: dict[str, Any] = {
            "openings": 0,
            "until": None,
            "reason": None,
            "by_hand": False,
            "probe": None,
            "probe_until": None,
        }
        values = {**forgotten, **changes}
        return replace(self, status=status, version=self.version + 1, changed_at=now, **values)


class BreakerMove(ABC):
    """Something that may happen to a breaker: data, and what it makes of a state."""

    @abstractmethod
    def apply(self, breaker: Breaker, now: int) -> Breaker | None:
        """The state after it; None when it changes nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen(BreakerMove):
    """Somebody uses it: it is known from now on."""

    def apply(self, breaker: Breaker, now: int) -> Breaker | None:  # noqa: ARG002
        """Change nothing."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class TooManyFailures(BreakerMove):
    """The calls counted under one version of the state say that it must open."""

    version: int
    rules: BreakerRules
    reason: str

    def apply(self, breaker: Breaker, now: int) -> Breaker | None:
        """Open, unless somebody else moved it first."""
        if breaker.status is not B.CLOSED or breaker.version != self.version:
            return None
        return _opened(breaker, now, self.rules, self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeProbe(BreakerMove):
    """A call asks to be the probe."""

    probe: str  # an id of its own

    def apply(self, breaker: Breaker, now: int) -> Breaker | None:
        """Let it, when the cool-down is over and no other is under way."""
        if not breaker.may_probe(now):
            return None
        return breaker.moved(
            B.HALF_OPEN,
            now,
            openings=breaker.openings,
            reason=breaker.reason,
            by_hand=breaker.by_hand,
            probe=self.probe,
            probe_until=now + PROBE_US,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EndProbe(BreakerMove):
    """The probe has ended, or its run has without a word of it."""

    probe: str
    outcome: Outcome
    rules: BreakerRules
    reason: str = ""

    def apply(self, breaker: Breaker, now: int) -> Breaker | None:
        """Close after a success, open for longer after a failure, else let another one probe."""
        if breaker.status is not B.HALF_OPEN or breaker.probe != self.probe:
            return None
        if self.rules.counts(self.outcome):
            return _opened(breaker, now, self.rules, self.reason)
        if self.outcome is Outcome.NONE:
            return breaker.moved(
                B.OPEN,
                now,
                openings=breaker.openings,
                until=now,
                reason=breaker.reason,
                by_hand=breaker.by_hand,
            )
        return breaker.moved(B.CLOSED, now)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenByHand(BreakerMove):
    """Somebody wants no calls to be made."""

    for_us: int | None = None  # microseconds until it is probed; None: until closed by hand
    reason: str = BY_HAND

    def apply(self, breaker: Breaker, now: int) -> Breaker | None:
        """Open, whatever it was."""
        until = None if self.for_us is None else now + self.for_us
        openings = max(1, breaker.openings)
        return breaker.moved(
            B.OPEN, now, openings=openings, until=until, reason=self.reason, by_hand=True
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseByHand(BreakerMove):
    """Somebody wants calls to be made."""

    def apply(self, breaker: Breaker, now: int) -> Breaker | None:
        """Close, whatever it was."""
        return None if breaker.status is B.CLOSED else breaker.moved(B.CLOSED, now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Postponed:
    """An event that is to run again when a breaker has closed, and at some time in any case.

    Attributes:
        breaker: its name.
        in_us: microseconds from now after which it runs though nobody saw the breaker close.
        by_hub: the hub that ran it had told that it is open.
    """

    breaker: str
    in_us: int = 0
    by_hub: bool = False


def _opened(breaker: Breaker, now: int, rules: BreakerRules, reason: str) -> Breaker:
    openings = breaker.openings + 1
    until = now + rules.cooldown_us(openings)
    return breaker.moved(B.OPEN, now, openings=openings, until=until, reason=reason)


class Tally:
    """The calls of the last while, counted by the second."""

    def __init__(self) -> None:
        self.ok = 0
        self.failed = 0
        self._seconds: deque[tuple[int, int, int]] = deque()  # (second, ok, failed)

    def add(self, now: int, ok: int, failed: int, rules: BreakerRules) -> bool:
        """Count calls that ended now.

        Returns:
            Whether the breaker must open.
        """
        self._forget(now - int(rules.window_s * MICROS))
        second = now // MICROS
        if self._seconds and self._seconds[-1][0] >= second:
            last, before_ok, before_failed = self._seconds.pop()
            self._seconds.append((last, before_ok + ok, before_failed + failed))
        else:
            self._seconds.append((second, ok, failed))
        self.ok += ok
        self.failed += failed
        if not rules.failures or not failed or self.failed < rules.failures:
            return False
        return self.failed >= rules.share * (self.ok + self.failed)

    def _forget(self, before: int) -> None:
        while self._seconds and (self._seconds[0][0] + 1) * MICROS <= before:
            _, ok, failed = self._seconds.popleft()
            self.ok -= ok
            self.failed -= failed

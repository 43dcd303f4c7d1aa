"""Context caches: who makes one, who waits for it, when it is renewed, what is too small for one.

Everything here is pure: a state, a move, the time, and what comes of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from .ids import MICROS

MAKE_US = 60 * MICROS
"""How long a maker that nobody hears of keeps others from making."""

RENEW_SHARE = 4
"""It is renewed when a quarter of its lifetime is left."""

MARGIN_US = 2 * MICROS
"""So long before its end it is not used any more: a request takes a while to arrive."""


class CacheStatus(StrEnum):
    """Whether the beginning of a prompt is kept by its provider."""

    ENDED = "ended"  # nothing is kept: never made, over, or lost
    MAKING = "making"  # one run is making it, others wait
    READY = "ready"  # the provider keeps it
    REFUSED = "refused"  # it cannot be kept, above all because it is too small


C = CacheStatus
CACHE_MOVES: Mapping[CacheStatus, frozenset[CacheStatus]] = {
    # Making again: the maker before was never heard of.
    C.ENDED: frozenset({C.MAKING, C.READY, C.REFUSED, C.ENDED}),
    C.MAKING: frozenset({C.MAKING, C.READY, C.REFUSED, C.ENDED}),
    C.READY: frozenset({C.READY, C.MAKING, C.REFUSED, C.ENDED}),
    C.REFUSED: frozenset({C.REFUSED, C.MAKING, C.READY, C.ENDED}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextCache:
    """One beginning of prompts as the hubs share it. Times are microseconds since the epoch."""

    key: str  # hash of the content, the model and the account
    provider: str
    model: str
    prompt: str  # whose static part it is
    status: CacheStatus = C.ENDED
    version: int = 0  # grows with every move
    resource: str | None = None  # the provider's name for it; None: it has none
    tokens: int | None = None
    minimum: int | None = None  # tokens below which the model keeps nothing; None: not known
    reason: str | None = None  # why it is not kept
    until: int | None = None  # end of what the status says; None: until told otherwise
    lifetime: int | None = None  # microseconds, when it was made or renewed
    lease: str | None = None  # of who makes or renews it
    lease_until: int | None = None
    changed_at: int = 0

    def usable(self, now: int) -> bool:
        """Whether requests may refer to it."""
        ready = self.status is C.READY and self.resource is not None
        return ready and (self.until is None or self.until - MARGIN_US > now)

    def leased(self, now: int) -> bool:
        """Whether somebody makes or renews it."""
        return self.lease is not None and (self.lease_until or 0) > now

    def due(self, now: int) -> bool:
        """Whether it should be renewed."""
        if self.until is None or self.lifetime is None:
            return False
        return self.until - now < self.lifetime // RENEW_SHARE

    def moved(self, status: CacheStatus, now: int, **changes: object) -> ContextCache:
        """In another status; the lease ends unless it is given anew.

        Raises:
            ValueError: the table has no such move.
        """
        if status not in CACHE_MOVES[self.status]:
            raise ValueError(f"cache {self.key} is {self.status} and cannot become {status}")
        values: dict[str, object] = {"lease": None, "lease_until": None, **changes}
        return replace(self, status=status, version=self.version + 1, changed_at=now, **values)  # pyright: ignore[reportArgumentType]


class CacheMove(ABC):
    """Something that may happen to a cache: data, and what it makes of a state."""

    @abstractmethod
    def apply(self, cache: ContextCache, now: int) -> ContextCache | None:
        """The state after it; None when it changes nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskForCache(CacheMove):
    """A call wants to use it.

    Attributes:
        lease: an id of its own, under which it would make or renew it.
        lost: a resource that the provider says it does not have.
    """

    lease: str
    lost: str | None = None

    def apply(self, cache: ContextCache, now: int) -> ContextCache | None:
        """Make the asker its maker when there is nothing to use, its renewer when it is due."""
        lease = {"lease": self.lease, "lease_until": now + MAKE_US}
        lost = self.lost is not None and self.lost == cache.resource
        if cache.usable(now) and not lost:
            if cache.due(now) and not cache.leased(now):
                return cache.moved(C.READY, now, **lease)
            return None
        if cache.status is C.REFUSED and (cache.until is None or cache.until > now):
            return None
        if cache.leased(now) and not lost:
            return None
        return cache.moved(C.MAKING, now, resource=None, reason=None, until=None, **lease)


@dataclass(frozen=True, slots=True, kw_only=True)
class TellOfCache(CacheMove):
    """What is known of it now.

    Attributes:
        lease: under which it was made, renewed or given up; None: the provider keeps what it
            likes, and this is what it said.
        resource: the provider's name for it; None: it has none.
        tokens: how many it holds, or would hold.
        minimum: tokens below which the model keeps nothing.
        refused: why it is not kept.
        lasts_us: how long that is so; None: until told otherwise. 0 gives the lease back.
    """

    lease: str | None
    resource: str | None = None
    tokens: int | None = None
    minimum: int | None = None
    refused: str | None = None
    lasts_us: int | None = None

    def apply(self, cache: ContextCache, now: int) -> ContextCache | None:
        """Take it in, unless another one has the lease by now."""
        if self.lease is not None and cache.lease != self.lease:
            return None
        if self.lasts_us == 0:
            usable = cache.usable(now)  # it was to be renewed, and serves until its end
            return cache.moved(C.READY if usable else C.ENDED, now)
        until = None if self.lasts_us is None else now + self.lasts_us
        known = {
            "tokens": cache.tokens if self.tokens is None else self.tokens,
            "minimum": cache.minimum if self.minimum is None else self.minimum,
            "until": until,
        }
        if self.refused is not None:
            return cache.moved(C.REFUSED, now, resource=None, reason=self.refused, **known)
        return cache.moved(
            C.READY, now, resource=self.resource, reason=None, lifetime=self.lasts_us, **known
        )


def too_small(tokens: int, minimum: int, *, about: bool = False) -> str:
    """Why a beginning is not kept."""
    return f"{'about ' if about else ''}{tokens:,} tokens, not cacheable below {minimum:,}"


def stored_token_s(before: ContextCache, after: ContextCache, now: int) -> int:
    """Tokens times seconds that a move adds to what is stored; below 0 when it ends early.

    A provider that stores by the hour is paid for the time from the making to the end.
    """

    def left(cache: ContextCache) -> int:
        if cache.resource is None or cache.until is None or cache.status is not C.READY:
            return 0
        return (cache.tokens or 0) * max(0, cache.until - now)

    return (left(after) - left(before)) // MICROS

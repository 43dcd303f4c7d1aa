"""Context caches as running work sees them: a question to the hub, and what its answers say."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from holdfast.domain.context_cache import MARGIN_US, CacheStatus, ContextCache, TellOfCache
from holdfast.domain.ids import MICROS
from holdfast.engine.threads import running_execution
from holdfast.ports import CacheGrant, CacheNews, CacheWanted

UNSURE_S = 1.0
"""For how long a call is sent whole when nothing can be said of its cache."""


class AskedContextCache:
    """A `ContextCachePort` that asks the hub.

    Args:
        ask: puts a question to it: execution, port, arguments.
    """

    def __init__(self, ask: Callable[[str, str, dict[str, Any]], Awaitable[Any]]) -> None:
        self._ask = ask

    async def ask(self, wanted: CacheWanted) -> CacheGrant:
        """See `ContextCachePort.ask`."""
        args = {"wanted": asdict(wanted)}
        return CacheGrant(**await self._ask(_execution(), "context_cache.ask", args))

    async def tell(self, wanted: CacheWanted, news: CacheNews) -> bool:
        """See `ContextCachePort.tell`."""
        args = {"wanted": asdict(wanted), "news": asdict(news)}
        return bool(await self._ask(_execution(), "context_cache.tell", args))


def cache_for(wanted: CacheWanted) -> ContextCache:
    """One that nobody has made."""
    return ContextCache(
        key=wanted.key, provider=wanted.provider, model=wanted.model, prompt=wanted.prompt
    )


def grant_of(cache: ContextCache, lease: str, now: int) -> CacheGrant | None:
    """What a cache's state means for who asked under `lease`; None: wait, another one makes it."""
    if cache.lease == lease:
        if cache.status is CacheStatus.MAKING:
            return CacheGrant(act="make", lease=lease)
        return CacheGrant(
            act="renew", resource=cache.resource, lasts_s=_left_s(cache, now), lease=lease
        )
    if cache.usable(now):
        return CacheGrant(act="use", resource=cache.resource, lasts_s=_left_s(cache, now))
    if cache.status is CacheStatus.MAKING:
        return None
    left_s = UNSURE_S if cache.until is None else max(0, cache.until - now) / MICROS
    return CacheGrant(act="send", lasts_s=left_s)


def told(news: CacheNews) -> TellOfCache:
    """News as a move."""
    fields = asdict(news)
    lasts_s = fields.pop("lasts_s")
    return TellOfCache(**fields, lasts_us=None if lasts_s is None else round(lasts_s * MICROS))


def _left_s(cache: ContextCache, now: int) -> float:
    if cache.until is None:
        return 0.0
    return max(0, cache.until - MARGIN_US - now) / MICROS


def _execution() -> str:
    return running_execution.get() or ""

"""Context caches: how they stand, and what they saved and cost."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from holdfast.domain.context_cache import CacheStatus, ContextCache
from holdfast.domain.ids import now_us
from holdfast.domain.savings import Saving
from holdfast.store.queries import AllCaches, SavingsOf

from .kit import Kit
from .views import View, iso, money

MOST = 1000
"""Caches or savings told at once."""

FIRST_DAY, LAST_DAY = date.min, date.max


async def all_caches(kit: Kit) -> View:
    """Those made or refused lately, by prompt: `items`, and whether there are `more`."""
    found = await kit.store.read(AllCaches(MOST + 1))
    now = now_us()
    return {
        "items": [cache_view(one, now) for one in found[:MOST]],
        "more": len(found) > MOST,
    }


async def savings(
    kit: Kit, owner_id: str, *, since: date = FIRST_DAY, until: date = LAST_DAY
) -> View:
    """An owner's savings by day, prompt and model: `items`, their `total`, if there are `more`.

    Args:
        kit: the hub's parts.
        owner_id: whose.
        since: first day, UTC.
        until: last day.
    """
    asked = SavingsOf(owner_id, since.isoformat(), until.isoformat(), MOST + 1)
    found = await kit.store.read(asked)
    shown = found[:MOST]
    return {
        "items": [
            {
                "day": one.day,
                "prompt": one.prompt,
                "pipeline": one.pipeline,
                "provider": one.provider,
                "model": one.model,
                **sums_view([one]),
            }
            for one in shown
        ],
        "total": sums_view(shown),
        "more": len(found) > MOST,
    }


def cache_view(cache: ContextCache, now: int) -> View:
    """A cache as the doors show it; what is over is shown as ended."""
    status = cache.status
    over = cache.until is not None and cache.until <= now
    if over or (status is CacheStatus.MAKING and not cache.leased(now)):
        status = CacheStatus.ENDED
    return {
        "id": cache.key[:16],
        "prompt": cache.prompt,
        "provider": cache.provider,
        "model": cache.model,
        "status": status.value,
        "tokens": cache.tokens,
        "minimum": cache.minimum,
        "reason": cache.reason,
        "resource": cache.resource,
        "until": iso(cache.until),
        "changed_at": iso(cache.changed_at),
    }


def sums_view(savings: Sequence[Saving]) -> View:
    """Sums of savings; `net_usd` is what is left of what was saved when all is paid."""
    saved = sum(one.saved_pico for one in savings)
    written = sum(one.write_pico for one in savings)
    stored = sum(one.storage_pico for one in savings)
    return {
        "hits": sum(one.hits for one in savings),
        "writes": sum(one.writes for one in savings),
        "tokens_read": sum(one.tokens_read for one in savings),
        "tokens_written": sum(one.tokens_written for one in savings),
        "saved_usd": money(saved),
        "write_usd": money(written),
        "storage_usd": money(stored),
        "storage_token_hours": sum(one.storage_token_s for one in savings) // 3600,
        "net_usd": money(saved - written - stored),
        "unpriced": sum(one.unpriced for one in savings),
    }

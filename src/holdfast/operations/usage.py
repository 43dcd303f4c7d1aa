"""What was used: the ledger's sums as the doors show them."""

from __future__ import annotations

from datetime import date
from typing import Any

from holdfast.domain.schedules import EPOCH
from holdfast.domain.usage import Sums, day_text
from holdfast.store.queries import UsageBy, UsageOf
from holdfast.store.queries.usage import MAX_DAY

from .kit import Kit
from .views import View, money


async def usage(
    kit: Kit,
    *,
    owner_id: str | None,
    by: UsageBy = "day",
    since: date | None = None,
    until: date | None = None,
) -> View:
    """Sums of what was used; calls still under way are not in them.

    Args:
        kit: the hub's parts.
        owner_id: whose; None for everybody's, which is for administrators only.
        by: what there is a sum of.
        since: first day, in UTC.
        until: last day.
    """
    found = await kit.store.read(
        UsageOf(
            owner_id=owner_id,
            by=by,
            since=0 if since is None else max(0, _day(since)),
            until=MAX_DAY if until is None else _day(until),
        )
    )
    total = sum((sums for _, sums in found), start=Sums())
    return {
        "by": by,
        "since": since and since.isoformat(),
        "until": until and until.isoformat(),
        "items": [{"key": _key(by, key), **sums_view(sums)} for key, sums in found],
        "total": sums_view(total),
    }


def sums_view(sums: Sums) -> View:
    """Sums as the doors show them; `unknown` counts the calls they cannot include."""
    return {
        "calls": sums.calls,
        "tokens": {
            "input": sums.tokens_input,
            "cached": sums.tokens_cached,
            "cache_write": sums.tokens_cache_write,
            "output": sums.tokens_output,
            "reasoning": sums.tokens_reasoning,
            "audio": sums.tokens_audio,
            "image": sums.tokens_image,
        },
        "cost_usd": money(sums.cost_pico),
        "saved_usd": money(sums.saved_pico),
        "credits": sums.credits,
        "unknown": {"usage": sums.usage_unknown, "cost": sums.cost_unknown},
        "estimated": sums.estimated,
    }


def _day(day: date) -> int:
    return (day - EPOCH.date()).days


def _key(by: UsageBy, key: tuple[Any, ...]) -> str:
    if by == "day":
        return day_text(key[0])
    return ":".join(part for part in key if part)

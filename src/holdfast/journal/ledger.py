"""Attempts into lines of the ledger."""

from __future__ import annotations

from collections.abc import Iterable

from holdfast.domain.changes import CACHED, NO_USAGE
from holdfast.domain.executions import Attempt
from holdfast.domain.replays import REPLAYED
from holdfast.domain.usage import Sums, UsageLine, day_of


def lines_of(attempts: Iterable[Attempt]) -> tuple[UsageLine, ...]:
    """The lines of some attempts, in a fixed order; their sums are those of the attempts."""
    found: dict[tuple[int, str, str, str], Sums] = {}
    for one in attempts:
        sums = _sums(one)
        if sums == Sums():
            continue  # it asked nobody
        model = one.parameters.get("model", one.model)  # as it was asked for, where that is known
        if not isinstance(model, str):
            model = one.model
        key = (day_of(one.started_at), one.alias or "", one.provider or "", model or "")
        found[key] = found.get(key, Sums()) + sums
    return tuple(
        UsageLine(day=day, alias=alias, provider=provider, model=model, sums=sums)
        for (day, alias, provider, model), sums in sorted(found.items())
    )


def _sums(one: Attempt) -> Sums:
    if one.usage in (NO_USAGE, REPLAYED, CACHED):
        return Sums(credits=one.credits)
    return Sums(
        calls=1,
        tokens_input=one.tokens_input or 0,
        tokens_cached=one.tokens_cached or 0,
        tokens_cache_write=one.tokens_cache_write or 0,
        tokens_output=one.tokens_output or 0,
        tokens_reasoning=one.tokens_reasoning or 0,
        tokens_audio=(one.tokens_input_audio or 0) + (one.tokens_output_audio or 0),
        tokens_image=(one.tokens_input_image or 0) + (one.tokens_output_image or 0),
        cost_pico=one.cost_pico or 0,
        saved_pico=one.saved_pico or 0,
        credits=one.credits,
        usage_unknown=int(one.usage == "unknown"),
        cost_unknown=int(one.cost_pico is None),
        estimated=int(one.usage == "estimated"),
    )

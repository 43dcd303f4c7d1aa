"""What one execution may take, before it runs: told with what that is known from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from holdfast.pipelines.estimating import planned_prompts
from holdfast.store.queries import PastRuns

from .kit import Kit
from .submit import check_depth, checked
from .views import View, money

LOOK_BACK = 200
"""Finished executions of the same version that are looked at, the newest."""


async def estimate(kit: Kit, *, owner_id: str, pipeline: str, data: Any) -> View:
    """Estimate what one execution takes; nothing is run or stored.

    Args:
        kit: the hub's parts.
        owner_id: whose past executions are looked at.
        pipeline: by name.
        data: of its event.

    Raises:
        UnknownPipeline: no such pipeline is loaded.
        InvalidInput: the data does not fit its schema.
    """
    check_depth(data)
    declaration = checked(kit, pipeline, "name")
    event = declaration.validate(data)
    prompts = planned_prompts(declaration, event)
    past = await kit.store.read(
        PastRuns(owner_id=owner_id, name=pipeline, version=declaration.version, limit=LOOK_BACK)
    )
    return {
        "estimate": True,
        "pipeline": pipeline,
        "version": declaration.version,
        "prompts": [
            {"node": one.node, "alias": one.alias, "tokens": one.tokens} for one in prompts
        ],
        "executions": len(past),
        "tokens_input": _spread([one.tokens_input for one in past]),
        "tokens_output": _spread([one.tokens_output for one in past]),
        "cost_usd": _dollars(_spread([one.cost_pico for one in past])),
        "credits": _spread([one.credits for one in past]),
    }


def _spread(values: Sequence[int | None]) -> View | None:
    """Median and 90th percentile (nearest rank) of what is known; None where nothing is."""
    known = sorted(one for one in values if one is not None)
    if not known:
        return None
    return {
        "median": known[(len(known) - 1) // 2],
        "p90": known[-(-9 * len(known) // 10) - 1],
        "of": len(known),
    }


def _dollars(spread: View | None) -> View | None:
    if spread is None:
        return None
    return {**spread, "median": money(spread["median"]), "p90": money(spread["p90"])}

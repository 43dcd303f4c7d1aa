"""Compare two executions, and tell what differs."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from holdfast.domain.diff import Change, Diff, Pair, diff
from holdfast.domain.replays import RecordedStep
from holdfast.errors import InvalidInput

from .kit import Kit
from .replay import recorded
from .views import View


async def compare(kit: Kit, a: str, b: str, owner_id: str) -> Diff:
    """What differs between two executions.

    Raises:
        NotFound: one of them is none of that owner's.
        InvalidInput: they are of different pipelines.
    """
    first, second = await recorded(kit, a, owner_id), await recorded(kit, b, owner_id)
    if first.name != second.name:
        raise InvalidInput(
            f"execution {a} is of {first.name} and {b} of {second.name}: they have no steps in "
            "common",
            fields=[{"field": "other_id", "expected": f"one of {first.name}", "got": second.name}],
        )
    return diff(first, second)


def diff_view(found: Diff) -> View:
    """A comparison: each step with its verdict, the texts that differ as unified diffs."""
    names = [pair.name for pair in found.differing]
    return {
        "a": _side(found.a),
        "b": _side(found.b),
        "same": not names and not found.changes,
        "first": names[0] if names else None,
        "followed": names[1:],
        "changes": [_change(one) for one in found.changes],
        "steps": [_pair(pair) for pair in found.pairs],
    }


def _side(of: Any) -> View:
    return {
        "id": of.execution_id,
        "name": of.name,
        "version": of.version,
        "code_version": of.code_version,
        "status": of.status,
    }


def _pair(pair: Pair) -> View:
    one = pair.b or pair.a
    assert one is not None  # noqa: S101 - a pair is of at least one step
    return {
        "step": pair.name,
        "kind": one.kind,
        "verdict": pair.verdict.value,
        "a": _figures(pair.a),
        "b": _figures(pair.b),
        "changes": [_change(change) for change in pair.changes],
    }


def _figures(step: RecordedStep | None) -> View | None:
    """What is told of a step besides its changes, for information."""
    if step is None:
        return None
    costs = [one.cost_usd for one in step.attempts]
    return {
        "step": step.step,
        "status": step.status,
        "attempts": len(step.attempts),
        "tokens": {
            name: sum(one.tokens.get(name) or 0 for one in step.attempts)
            for name in ("input", "output")
        },
        "cost_usd": None if None in costs else f"{sum(map(Decimal, filter(None, costs))):f}",
        "duration_ms": step.duration_ms,
    }


def _change(change: Change) -> View:
    return {"what": change.what, "a": change.a, "b": change.b, "diff": change.lines()}

"""What a step's attempts come to: the cells of its line, and what is worth saying about them."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from .figures import SHORT, dollars, one_line, tokens

View = dict[str, Any]

CUT_OFF = frozenset({"length", "max_tokens", "content_filter"})
"""Finish reasons that mean the answer is not what it would have been."""


def cells(attempts: Sequence[View]) -> dict[str, str]:
    """Tokens and cost of all attempts together, what nobody knows marked with `?`."""
    ended = [one for one in attempts if one["status"] != "running"]
    if all(one["tokens"]["usage"] == "none" for one in ended):  # it asked no provider
        return {}
    usage = [one["tokens"]["usage"] for one in ended]
    lacks: dict[str, Any] = {
        "unknown": usage.count("unknown"),
        "estimated": "estimated" in usage,
    }
    cached = _sum(ended, "cached")
    return {
        "in": tokens(_sum(ended, "input"), **lacks) + " in",
        "cached": f"({cached:,} cached)" if cached else "",
        "out": tokens(_sum(ended, "output"), **lacks) + " out",
        "cost": "recorded" if set(usage) == {"replayed"} else cost(ended),
    }


def cost(attempts: Sequence[View]) -> str:
    """What attempts cost together."""
    known = [Decimal(one["cost_usd"]) for one in attempts if one["cost_usd"] is not None]
    return dollars(sum(known, Decimal(0)), unknown=len(attempts) - len(known))


def note(attempts: Sequence[View], error: View | None = None) -> str:
    """`attempt 1 invalid: spam > 1 · attempt 2 ok`; empty when one went through unremarkably.

    Args:
        attempts: of one step.
        error: the step's, which is told elsewhere and not repeated.
    """
    told = [(one["n"], verdict(one, error)) for one in attempts]
    if len(told) == 1 and (told[0][1] in ("ok", "running") or _is(attempts[0]["error"], error)):
        return ""
    names = {one["model"] for one in attempts}
    return " · ".join(
        f"attempt {n}{_by(one) if len(names) > 1 else ''} {what}"
        for one, (n, what) in zip(attempts, told, strict=True)
    )


def prompt_line(attempts: Sequence[View]) -> str:
    """`prompt support/judge@production 3f2a91c0d4e8`; empty for prompts that have no name."""
    used = next((one["prompt"] for one in attempts if one.get("prompt")), None)
    if used is None:
        return ""
    name = one_line(used["name"] or "in the code", 200)
    label = f"@{one_line(used['label'])}" if used["name"] else f" {one_line(used['label'])}"
    return f"prompt {name}{label} {used['version'][:SHORT]}"


def verdict(attempt: View, told: View | None = None) -> str:
    """How one attempt went; the message of an error `told` elsewhere is left out."""
    status, validation = attempt["status"], attempt["validation"]
    if status == "succeeded":
        words = "ok"
        if validation and validation["outcome"] != "valid":
            words = str(validation["outcome"])
            if validation["errors"]:
                words += ": " + "; ".join(one_line(error, 160) for error in validation["errors"])
        if attempt["finish_reason"] in CUT_OFF:
            words += f" (cut off: {attempt['finish_reason']})"
        return words
    error = attempt["error"]
    if status != "failed" or not error:
        return str(status)
    kind = f" ({attempt['error_class']})" if attempt["error_class"] else ""
    if _is(error, told):
        return f"failed{kind}"
    return f"failed{kind}: {one_line(error.get('message') or error.get('type') or '', 200)}"


def _is(one: View | None, other: View | None) -> bool:
    return one is not None and other is not None and one.get("message") == other.get("message")


def _by(attempt: View) -> str:
    return f" {one_line(attempt['model'])}" if attempt["model"] else ""


def _sum(attempts: Sequence[View], name: str) -> int:
    return sum(one["tokens"][name] or 0 for one in attempts)

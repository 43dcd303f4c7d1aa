"""Key facts of a session: a short list that every window shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

MAX_FACTS = 20
MAX_FACT_CHARS = 120

KEY = "facts"
"""Of the item that holds them."""


def namespace_of(session_id: str) -> tuple[str, ...]:
    """Where the items of a session are; they go with it."""
    return ("sessions", session_id)


def merged(known: Sequence[str], new: Sequence[str]) -> list[str]:
    """Known facts with new ones, the newest last; the oldest go when there are too many.

    The same fact again, whatever its case, counts as new; a second time changes nothing.
    """
    facts: dict[str, str] = {}
    for fact in [*known, *new]:
        short = " ".join(fact.split())[:MAX_FACT_CHARS].rstrip()
        if short:
            facts.pop(short.casefold(), None)
            facts[short.casefold()] = short
    return list(facts.values())[-MAX_FACTS:]


def as_item(facts: Sequence[str]) -> dict[str, Any]:
    """The value of the item."""
    return {"facts": list(facts)}


def of_item(value: Any) -> list[str]:
    """The facts in an item; whoever wrote it."""
    held: Any = cast("dict[str, Any]", value).get("facts") if isinstance(value, dict) else None
    if not isinstance(held, list):
        return []
    return [one for one in cast("list[Any]", held) if isinstance(one, str)]

"""What a step says of a call besides what it asks: for the wrappers, never for the provider."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MARK = "holdfast_mark"
"""The keyword under which a mark is bound."""


@dataclass(frozen=True, slots=True)
class CallMark:
    """Which prompt is sent, and how much of it is the same in every call.

    Attributes:
        prompt: its name.
        static: how many of the first messages never change.
        ttl_s: seconds for which a cache made for them is kept, where one is made (Gemini); None:
            as long as the alias says.
    """

    prompt: str
    static: int
    ttl_s: int | None = None


def without_mark(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments as the provider may see them."""
    return {name: value for name, value in kwargs.items() if name != MARK}

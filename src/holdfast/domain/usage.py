"""The ledger: what every part of an execution used, in lines that are only ever added."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import UTC, datetime

from .ids import MICROS

DAY_US = 86_400 * MICROS


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """What calls used together; known parts only, and how many calls the sums leave out."""

    calls: int = 0  # attempts that asked a provider, or were to
    tokens_input: int = 0
    tokens_cached: int = 0  # of the input
    tokens_cache_write: int = 0  # of the input
    tokens_output: int = 0
    tokens_reasoning: int = 0  # of the output
    tokens_audio: int = 0  # of input and output
    tokens_image: int = 0  # of input and output
    cost_pico: int = 0  # picodollars
    saved_pico: int = 0  # what the same calls would have cost more without the provider's cache
    credits: int = 0
    usage_unknown: int = 0  # calls whose tokens nobody reported
    cost_unknown: int = 0  # calls without a known price
    estimated: int = 0  # calls whose tokens are an estimate
    held_tokens: int = 0  # what budgets count for calls of unknown usage: their reservations
    held_pico: int = 0

    def __add__(self, other: Sums) -> Sums:
        """Both together."""
        return Sums(**{name: getattr(self, name) + getattr(other, name) for name in SUMS})


SUMS = tuple(one.name for one in fields(Sums))


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageLine:
    """What one part of an execution used of one model on one day.

    Attributes:
        day: days since 1970-01-01 in UTC, of the calls' beginning.
        alias: by which the model was asked; empty where the caller made its own.
    """

    day: int
    alias: str = ""
    provider: str = ""
    model: str = ""
    sums: Sums


def day_of(at_us: int) -> int:
    """The day of a moment, as days since 1970-01-01 in UTC."""
    return at_us // DAY_US


def day_text(day: int) -> str:
    """A day as ISO 8601 has it."""
    return datetime.fromtimestamp(day * 86_400, UTC).date().isoformat()

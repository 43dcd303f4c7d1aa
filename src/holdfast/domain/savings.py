"""What kept beginnings of prompts saved and cost, by day, prompt and model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime

from .ids import MICROS


@dataclass(frozen=True, slots=True, kw_only=True)
class Saving:
    """Sums of one day. Money is picodollars.

    Attributes:
        saved_pico: what the tokens read would have cost more as plain input.
        write_pico: what the tokens written cost more than plain input.
        storage_token_s: tokens times the seconds they were kept, where that is paid for.
        storage_pico: what that cost.
        unpriced: calls and storages whose price is not known; they are in no sum of money.
    """

    day: str  # UTC, 2026-11-20
    owner_id: str
    prompt: str
    pipeline: str  # or agent
    provider: str
    model: str
    hits: int = 0  # calls that read
    writes: int = 0  # calls that wrote
    tokens_read: int = 0
    tokens_written: int = 0
    saved_pico: int = 0
    write_pico: int = 0
    storage_token_s: int = 0
    storage_pico: int = 0
    unpriced: int = 0

    @property
    def key(self) -> tuple[str, ...]:
        """What it is counted under."""
        return tuple(getattr(self, name) for name in KEY)

    def __add__(self, other: Saving) -> Saving:
        sums = {name: getattr(self, name) + getattr(other, name) for name in SUMS}
        return replace(self, **sums)


_NAMES = tuple(field.name for field in fields(Saving))
KEY, SUMS = _NAMES[:6], _NAMES[6:]


def day_of(at_us: int) -> str:
    """The day of a time in microseconds since the epoch, in UTC."""
    return datetime.fromtimestamp(at_us // MICROS, tz=UTC).date().isoformat()


def added_up(savings: Iterable[Saving]) -> list[Saving]:
    """One for each key, in the order of the keys."""
    sums: dict[tuple[str, ...], Saving] = {}
    for one in savings:
        known = sums.get(one.key)
        sums[one.key] = one if known is None else known + one
    return [sums[key] for key in sorted(sums)]

"""Rates: how many of a pipeline's executions may begin within a span of time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from .ids import MICROS

GRAINS = 100
"""Starts are counted in hundredths of the span, each as if it came at the end of its own."""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_FORM = re.compile(r"(?P<count>[1-9][0-9]{0,8})/(?P<span>[1-9][0-9]{0,5})?(?P<unit>[smhd])")

Starts = Mapping[int, int]
"""How many began, by the end of their grain."""


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` starts within any `span_us` microseconds."""

    count: int
    span_us: int

    def __str__(self) -> str:
        return f"{self.count}/{self.span_us // MICROS}s"

    @classmethod
    def of(cls, text: str) -> Rate:
        """Out of its short form: `10/m`, `500/h`, `3/10s`.

        Raises:
            ValueError: not of that form.
        """
        found = _FORM.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is no rate: 10/m, 500/h, 3/10s")
        span = int(found["span"] or 1) * _UNITS[found["unit"]]
        return cls(int(found["count"]), span * MICROS)

    def left(self, starts: Starts, now: int) -> int:
        """How many more may begin now."""
        return max(0, self.count - sum(self.within(starts, now).values()))

    def within(self, starts: Starts, now: int) -> dict[int, int]:
        """The starts that still count."""
        return {end: n for end, n in starts.items() if end > now - self.span_us}

    def after(self, starts: Starts, now: int, taken: int) -> tuple[dict[int, int], int]:
        """What is counted once `taken` more have begun, and when the next may.

        Returns:
            The starts that count, and the time from which another one may begin; now or earlier
            when one may at once.
        """
        grain = max(1, self.span_us // GRAINS)
        counted = self.within(starts, now)
        if taken:
            end = -(-now // grain) * grain
            counted[end] = counted.get(end, 0) + taken
        if sum(counted.values()) < self.count:
            return counted, 0
        over = sum(counted.values()) - self.count  # after the rate was lowered
        for end in sorted(counted):
            over -= counted[end]
            if over < 0:
                return counted, end + self.span_us
        raise AssertionError  # a rate lets at least one begin

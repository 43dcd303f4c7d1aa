"""Limits of models that several hubs share: what all of them began within the last minute.

Hubs take calls in slices and use them without asking again. A slice counts as if all of it were
used at its end, so windows are longer than a minute by as much as a slice lasts: from whichever
call on, no minute has more than is allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .ids import MICROS

WINDOW_US = 60 * MICROS

SLICE_US = MICROS
"""How long a hub may use what it has taken; what is left then is given back."""

WAIT_MOST_US = 60 * MICROS
"""A call that would have to wait longer takes nothing."""

SHARE = 4
"""A slice is at most one part in so many of what is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a hub asks for.

    Attributes:
        requests: most calls of a window; None: any number.
        most: most tokens of a window; None: any number.
        tokens: that the next call may take.
    """

    requests: int | None
    most: int | None
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """What a hub may use.

    Attributes:
        at: by which it is given back; None when nothing was taken, for the wait is too long.
        calls: so many, the one that was asked for included.
        tokens: of all of them.
        wait_us: from when on.
    """

    at: int | None
    calls: int = 0
    tokens: int = 0
    wait_us: int = 0


@dataclass(slots=True)
class Minute:
    """What counts of one model, by the end of the slice it belongs to.

    Attributes:
        taken: calls and tokens, by time.
    """

    taken: dict[int, tuple[int, int]] = field(default_factory=dict[int, tuple[int, int]])

    def give_back(self, changes: Mapping[int, tuple[int, int]]) -> None:
        """Count less, by time: calls and tokens, which may be more as well."""
        for at, (calls, tokens) in changes.items():
            if at in self.taken:
                had = self.taken[at]
                self.taken[at] = max(0, had[0] - calls), max(0, had[1] - tokens)

    def take(
        self, wanted: Wanted, now: int, *, window_us: int = WINDOW_US, slice_us: int = SLICE_US
    ) -> Slice:
        """Take the next slice: at once where there is room, else one call when there is."""
        span = window_us + slice_us
        self.taken = {
            at: had for at, had in self.taken.items() if at > now - window_us and any(had)
        }
        soonest = now + slice_us
        at = max([soonest, *self.taken])  # in the order of asking
        inside = sorted(one for one in self.taken if one > at - span)
        calls, tokens = _sum(self.taken[one] for one in inside)
        for one in inside:
            if _fits(wanted, calls, tokens):
                break
            at = max(at, one + span)
            calls, tokens = calls - self.taken[one][0], tokens - self.taken[one][1]
        wait = at - soonest
        if wait > WAIT_MOST_US:
            return Slice(at=None, wait_us=wait)
        many = _many(wanted, calls, tokens) if not wait else 1
        had = self.taken.get(at, (0, 0))
        self.taken[at] = had[0] + many, had[1] + many * wanted.tokens
        return Slice(at=at, calls=many, tokens=many * wanted.tokens, wait_us=wait)


def _sum(of: Iterable[tuple[int, int]]) -> tuple[int, int]:
    calls = tokens = 0
    for some, more in of:
        calls, tokens = calls + some, tokens + more
    return calls, tokens


def _fits(wanted: Wanted, calls: int, tokens: int) -> bool:
    fits = wanted.requests is None or calls < wanted.requests
    return fits and (wanted.most is None or tokens + wanted.tokens <= wanted.most)


def _many(wanted: Wanted, calls: int, tokens: int) -> int:
    """How many calls like the one that is asked for a slice has."""
    rooms: list[int] = []
    if wanted.requests is not None:
        rooms.append((wanted.requests - calls) // SHARE)
    if wanted.most is not None and wanted.tokens:
        rooms.append((wanted.most - tokens) // SHARE // wanted.tokens)
    return max(1, min(rooms, default=1))

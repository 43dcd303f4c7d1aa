"""Where in the index of ready events a claim begins to look.

What was claimed stays in that index, dead, until vacuum takes it out, and vacuum cannot while any
transaction that is older stays open in the database: each claim would read all of it again. A claim
that was slow is therefore followed by claims that begin where it has shown the living to be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

SLOW_US = 10_000
"""A look over the whole index that took longer is not repeated at once."""

SELDOM = 20
"""How many times its length has to pass before the next one: it takes a twentieth of the time."""

LATE_US = 5_000_000
"""How long before its commit an event may have got its place in line."""

LEAST = -(2**31)


class Bound(NamedTuple):
    """Events of a lower priority or an earlier time are not looked at."""

    priority: int
    since: int


WHOLE = Bound(LEAST, 0)


class Horizon:
    """What one hub remembers between its claims; used by one claim at a time.

    What becomes runnable in an old place (a session's next event, one whose pipeline was paused)
    is found with the next look over the whole, `whole_in_us` from the last claim.

    Attributes:
        whole_in_us: microseconds from the last claim to when the next one looks at everything
            again; 0 when it did.
        again: the last claim brought all of one priority, and others may have lower ones.
    """

    def __init__(self) -> None:
        self.whole_in_us = 0
        self.again = False
        self._bound = WHOLE
        self._whole_at = 0

    def forget(self) -> None:
        """Look over the whole next time."""
        self._bound = WHOLE
        self.whole_in_us = self._whole_at = 0
        self.again = False

    def bound(self, now: int) -> Bound:
        """Where the claim at this time begins."""
        return WHOLE if now >= self._whole_at else self._bound

    def looked(
        self, bound: Bound, found: Sequence[tuple[int, int]], *, more: bool, now: int, took_us: int
    ) -> None:
        """Take note of a claim.

        Args:
            bound: where it began.
            found: priority and time of the events it took, in their order.
            more: there may be others behind them.
            now: its time.
            took_us: microseconds that the statement took.
        """
        self.again = False
        if bound == WHOLE:
            if took_us < SLOW_US:
                self.forget()
                return
            self._whole_at = now + SELDOM * took_us
            self._bound = Bound(*found[-1]) if more else Bound(LEAST, now - LATE_US)
        elif more and found[-1][0] == bound.priority:
            self._bound = Bound(*found[-1])
        elif not more and bound.priority > LEAST:
            self.forget()
            self.again = True
        self.whole_in_us = max(0, self._whole_at - now)

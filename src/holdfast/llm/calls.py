"""Calls to the outside under a breaker: how each ended is told, whatever way it ended."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

from holdfast.domain.breakers import Outcome
from holdfast.errors import BreakerOpen
from holdfast.ports import BreakersPort, Permit

from .failures import classify

_OUTCOMES = {
    "temporary": Outcome.TEMPORARY,
    "rate_limit": Outcome.RATE_LIMIT,
    "permanent": Outcome.OK,  # it lives: it has read and refused what was asked
    "budget": Outcome.OK,
    "unknown": Outcome.NONE,
}

REASON_CHARS = 300

asks_anew: ContextVar[bool] = ContextVar("holdfast_asks_anew", default=False)
"""Whether what runs is to ask models anew, whatever a cache has: a replay's live part."""


class CutOff:
    """Calls that were cancelled within a span, until it is known why."""

    def __init__(self) -> None:
        self.timed_out = False
        self.calls: list[tuple[BreakersPort, Permit]] = []


_cut_off: ContextVar[CutOff | None] = ContextVar("holdfast_cut_off", default=None)


@contextmanager
def cut_off_calls() -> Generator[CutOff]:
    """A span that may cancel its calls for taking too long.

    A call sees only that it was cancelled; whoever set the limit says at the end, by `timed_out`,
    that the other side was too slow.
    """
    cut = CutOff()
    token = _cut_off.set(cut)
    try:
        yield cut
    finally:
        _cut_off.reset(token)
        outcome = Outcome.TEMPORARY if cut.timed_out else Outcome.NONE
        for breakers, permit in cut.calls:
            breakers.report(permit, outcome, "timed out")


@contextmanager
def reported(
    breakers: BreakersPort, permit: Permit, *, failures: tuple[type[Exception], ...] = ()
) -> Generator[None]:
    """A call that was allowed; its end is told to the breaker.

    Args:
        breakers: which to tell.
        permit: what it was allowed by.
        failures: exceptions that count as failures beside timeouts, broken connections and
            answers that ask to come back later.

    Raises:
        BreakerOpen: the call failed, and no further one is to be made now.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, BreakerOpen):  # another breaker's, inside this call
            breakers.report(permit, Outcome.NONE)
            raise
        outcome = Outcome.TEMPORARY
        if not isinstance(error, failures):
            outcome = _OUTCOMES[classify(error).error_class]
        reason = f"{type(error).__name__}: {error}"[:REASON_CHARS]
        is_open = breakers.report(permit, outcome, reason)
        failed = outcome in (Outcome.TEMPORARY, Outcome.RATE_LIMIT)
        if failed and is_open:
            raise BreakerOpen(
                f"a call failed and {permit.breaker} is open: {reason}",
                breaker=permit.breaker,
                by_hub=True,
            ) from error
        raise
    except BaseException:  # cancelled, or nobody reads on
        cut = _cut_off.get()
        if cut is None:
            breakers.report(permit, Outcome.NONE)
        else:
            cut.calls.append((breakers, permit))
        raise
    else:
        breakers.report(permit, Outcome.OK)

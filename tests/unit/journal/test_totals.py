"""Sums of an execution: every attempt counts, and what nobody knows is counted as unknown."""

from __future__ import annotations

from typing import Any

from holdfast.domain.executions import Attempt, Totals
from holdfast.domain.status import StepStatus
from holdfast.journal.running import totals_of


def attempt(step: int, n: int, **known: Any) -> Attempt:
    values: dict[str, Any] = dict.fromkeys(Attempt.__slots__)
    values |= {"step": step, "n": n, "seq": 1, "parameters": {}, "started_at": 1, "credits": 0}
    values |= {"status": StepStatus.SUCCEEDED, "usage": "reported"}
    return Attempt(**(values | known))


def test_every_attempt_counts_and_the_unknown_is_no_zero() -> None:
    tries = (
        attempt(
            1,
            1,
            status=StepStatus.FAILED,
            tokens_input=100,
            tokens_cached=60,
            tokens_output=7,
            tokens_reasoning=5,
            cost_pico=11,
        ),
        attempt(1, 2, tokens_input=200, tokens_cached=90, tokens_output=9, cost_pico=13, credits=1),
        attempt(2, 1, usage="unknown"),
        attempt(3, 1, tokens_input=1, tokens_output=1, usage="estimated"),  # its price unknown
        attempt(4, 1, status=StepStatus.RUNNING, usage="unknown"),  # not over: not counted yet
    )
    assert totals_of(tries) == Totals(
        tokens_input=301,
        tokens_cached=150,
        tokens_output=17,
        tokens_reasoning=5,
        cost_pico=24,
        credits=1,
        usage_unknown=1,
        cost_unknown=2,
    )

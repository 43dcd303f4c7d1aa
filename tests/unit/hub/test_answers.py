"""What a conversation gets of a turn: the answer, or a word that tells no secrets."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.domain.status import ExecutionStatus
from holdfast.hub.answers import APOLOGIES, apology, reason_of

X = ExecutionStatus


@pytest.mark.parametrize(
    ("status", "error", "reason"),
    [
        (X.FAILED, {"code": "model_failed", "error_class": "rate_limit"}, "busy"),
        (X.FAILED, {"code": "model_failed", "error_class": "temporary"}, "busy"),
        (X.FAILED, {"code": "breaker_open", "message": "no call is made now"}, "busy"),
        (X.FAILED, {"code": "budget_exceeded", "message": "0.05 USD are spent"}, "budget"),
        (X.TIMED_OUT, {"code": "deadline_exceeded"}, "timeout"),
        (X.FAILED, {"code": "step_timeout"}, "timeout"),
        (
            X.FAILED,
            {
                "code": "model_failed",
                "error_class": "permanent",
                "message": "This model's maximum context length is 8192 tokens",
            },
            "too_long",
        ),
        (X.FAILED, {"code": "x", "message": "prompt is too long: 210000 tokens"}, "too_long"),
        (X.FAILED, {"code": "x", "message": "Recursion limit of 25 reached"}, "steps"),
        (X.CRASHED, {"code": "runner_lost", "message": "the runner's process died"}, "other"),
        (X.FAILED, {"code": "node_failed", "message": "KeyError: 'sk-secret'"}, "other"),
        (X.FAILED, {}, "other"),
    ],
)
def test_the_reason_is_told_and_the_error_is_not(
    status: ExecutionStatus, error: dict[str, Any], reason: str
) -> None:
    assert reason_of(status, error) == reason
    said = apology(status, error)
    assert said.content == APOLOGIES[reason]
    assert said.metadata == {"error": {"code": error.get("code") or status, "reason": reason}}
    assert str(error.get("message", "no message")) not in repr(said)
    assert said.tokens > 0

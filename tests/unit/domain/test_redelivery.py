"""Which failures come again, and when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.domain.redelivery import (
    BETWEEN_DELIVERIES,
    RETRY_AFTER_AT_MOST_S,
    Backoff,
    Redelivery,
    not_redelivered,
    temporary,
)
from holdfast.domain.status import EventStatus, ExecutionStatus, event_after

E = EventStatus
CHANCES = st.floats(min_value=0, max_value=1)


@given(errors=st.integers(1, 10**6), chance=CHANCES)
def test_a_pause_is_anything_from_nothing_to_its_bound(errors: int, chance: float) -> None:
    pause = Redelivery(retries=3, chance=chance).pause_us(errors, {})
    whole = min(BETWEEN_DELIVERIES.most, 2.0 * 2 ** min(errors - 1, 64)) * 1_000_000
    assert pause == pytest.approx(whole * (1 - chance), abs=1)


@given(asked=st.floats(min_value=0, max_value=10**9), chance=CHANCES)
def test_nobody_comes_back_before_the_provider_asked(asked: float, chance: float) -> None:
    says = Redelivery(retries=3, chance=chance)
    pause = says.pause_us(1, {"retry_after_s": asked})
    assert pause >= int(min(asked, RETRY_AFTER_AT_MOST_S) * 1_000_000)
    assert pause <= (RETRY_AFTER_AT_MOST_S + BETWEEN_DELIVERIES.first) * 1_000_000


def test_pauses_grow_without_overflow() -> None:
    backoff = Backoff(first=1, factor=10, most=50, jitter=0)
    assert [backoff.pause(n, 0.5) for n in (1, 2, 3, 10**9)] == [1, 10, 50, 50]


@pytest.mark.parametrize(
    ("error", "is_temporary"),
    [
        (None, False),
        ({"code": "step_failed"}, False),
        ({"error_class": "temporary"}, True),
        ({"error_class": "rate_limit"}, True),
        ({"error_class": "budget"}, False),
        ({"error_class": "permanent"}, False),
        ({"error_class": "unknown"}, False),
    ],
)
def test_only_what_may_be_gone_comes_again(error: dict[str, str], is_temporary: bool) -> None:
    assert temporary(error) is is_temporary


def test_temporary_errors_come_again_until_they_are_used_up() -> None:
    def after(errors: int, **more: bool) -> EventStatus:
        return event_after(
            ExecutionStatus.FAILED,
            **{"cancel_requested": False, **more},
            crashes=2,
            temporary=True,
            errors=errors,
            retries=2,
        )

    assert [after(n) for n in (1, 2, 3)] == [E.QUEUED, E.QUEUED, E.DEAD]
    assert after(1, redeliver=False) is E.FAILED
    assert after(1, cancel_requested=True) is E.CANCELLED


def test_what_must_not_begin_twice_fails_when_its_process_dies() -> None:
    after = event_after(ExecutionStatus.CRASHED, crashes=0, cancel_requested=False, redeliver=False)
    assert after is E.FAILED
    told = not_redelivered({"code": "hub_died", "message": "the hub died"})
    assert (told["code"], told["cause"]) == ("not_redelivered", "hub_died")
    assert told["message"].startswith("the hub died; ")

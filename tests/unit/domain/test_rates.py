"""Rates hold in every window, and never for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.domain.rates import GRAINS, Rate

SECOND = 1_000_000


def test_rates_are_written_short() -> None:
    assert Rate.of("10/m") == Rate(10, 60 * SECOND)
    assert Rate.of("3/10s") == Rate(3, 10 * SECOND)
    assert Rate.of("500/h") == Rate(500, 3600 * SECOND)
    assert Rate.of("1/7d") == Rate(1, 7 * 86_400 * SECOND)
    assert str(Rate.of("10/m")) == "10/60s"


@pytest.mark.parametrize(
    "text", ["", "10", "10/", "0/m", "-1/m", "10/w", "1.5/m", "10/0s", "10 / m"]
)
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no rate"):
        Rate.of(text)


@given(
    count=st.integers(1, 20),
    span=st.integers(1, 10**6),
    steps=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 30)), max_size=60),
)
def test_no_window_ever_has_more(count: int, span: int, steps: list[tuple[int, int]]) -> None:
    rate, starts, now = Rate(count, span), {}, 10**9
    began: list[int] = []
    for wait, wanted in steps:
        now += wait
        taken = min(wanted, rate.left(starts, now))
        starts, free_at = rate.after(starts, now, taken)
        began += [now] * taken
        assert len(starts) <= GRAINS + 2
        assert sum(1 for at in began if at > now - span) <= count
        if free_at > now:
            assert rate.left(starts, now) == 0
            assert rate.left(starts, free_at) > 0
            assert free_at <= now + span + max(1, span // GRAINS)
        else:
            assert rate.left(starts, now) > 0


def test_a_rate_that_was_lowered_waits_until_enough_are_over() -> None:
    high, low = Rate(10, 100), Rate(2, 100)
    starts, _ = high.after({}, 1000, 5)
    starts, _ = high.after(starts, 1050, 5)
    _, free_at = low.after(starts, 1060, 0)
    assert free_at == 1150
    assert low.left(starts, free_at - 1) == 0
    assert low.left(starts, free_at) == 2

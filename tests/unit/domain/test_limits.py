"""Slices of a model's minute: whatever hubs make of them, no minute has more than is allowed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from holdfast.domain.limits import SLICE_US, WAIT_MOST_US, WINDOW_US, Minute, Wanted

SECOND = 1_000_000

asked = st.lists(
    st.tuples(
        st.integers(0, 40 * SECOND),  # after the one before
        st.integers(0, 60),  # tokens of a call
        st.lists(st.integers(0, SLICE_US), max_size=8),  # when the slice's calls are made
    ),
    max_size=60,
)


@given(asked, st.integers(1, 12), st.integers(60, 200))
def test_no_minute_has_more_calls_or_tokens_than_allowed(
    asked: list[tuple[int, int, list[int]]], requests: int, most: int
) -> None:
    minute, now = Minute(), 10**15
    made: list[tuple[int, int]] = []
    for pause, tokens, moments in asked:
        now += pause
        found = minute.take(Wanted(requests=requests, most=most, tokens=tokens), now)
        if found.at is None:
            assert found.wait_us > WAIT_MOST_US
            continue
        assert found.calls >= 1
        assert found.wait_us <= WAIT_MOST_US
        used = moments[: found.calls]
        made += [(now + found.wait_us + moment, tokens) for moment in used]
        # What is not used is given back, at any time after.
        left = found.calls - len(used)
        minute.give_back({found.at: (left, left * tokens)})
    for at, _ in made:
        inside = [one for one in made if at <= one[0] < at + WINDOW_US]
        assert len(inside) <= requests
        assert sum(tokens for _, tokens in inside) <= most


def test_a_slice_leaves_room_for_others() -> None:
    minute, now = Minute(), 10**15
    wanted = Wanted(requests=100, most=None, tokens=0)
    assert [minute.take(wanted, now).calls for _ in range(3)] == [25, 18, 14]


def test_a_full_minute_lets_the_next_wait_for_the_first_to_pass() -> None:
    minute, now = Minute(), 10**15
    wanted = Wanted(requests=2, most=None, tokens=0)
    assert [minute.take(wanted, now).wait_us for _ in range(2)] == [0, 0]
    late = minute.take(wanted, now + 50 * SECOND)
    assert late.wait_us == 11 * SECOND
    assert minute.take(wanted, now).at is None  # a minute is the longest wait


def test_what_took_less_or_was_not_made_leaves_room() -> None:
    minute, now = Minute(), 10**15
    wanted = Wanted(requests=None, most=100, tokens=100)
    first = minute.take(wanted, now)
    assert first.at is not None
    minute.give_back({first.at: (0, 60)})
    assert minute.take(Wanted(requests=None, most=100, tokens=60), now).wait_us == 0
    minute.give_back({first.at: (0, -500), 7: (1, 1)})  # more than planned; one that is long gone
    assert minute.take(Wanted(requests=None, most=100, tokens=1), now).wait_us > 0

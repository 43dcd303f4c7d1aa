"""A model's limits as the hub counts them: never more in a minute, nobody forgotten."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.hub.limits import WAIT_AT_MOST_S, WINDOW_S, Limits
from holdfast.telemetry import Metrics


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Counting:
    """Limits over a clock of our own."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.limits = Limits(Metrics(), clock=self.clock)
        self.ids = (str(n) for n in count())

    async def take(self, tokens: int = 0, run: str = "x", **limits: int) -> tuple[str, float, bool]:
        id_ = next(self.ids)
        wait, refused = await self.limits.take(run, name="m", id=id_, limits=limits, tokens=tokens)
        return id_, wait, refused

    def settle(self, id_: str, *, made: bool = True, tokens: int | None = None) -> None:
        self.limits.settle({"limit": "m", "id": id_, "made": made, "tokens": tokens})


@pytest.fixture
def counting() -> Counting:
    return Counting()


calls = st.lists(
    st.tuples(
        st.floats(0, 30),  # seconds after the one before
        st.integers(0, 50),  # tokens asked for
        st.one_of(st.none(), st.integers(0, 50)),  # tokens taken
        st.booleans(),  # made at all
    ),
    max_size=60,
)


@given(calls, st.integers(1, 8), st.integers(50, 120))
async def test_no_minute_has_more_calls_or_tokens_than_allowed(asked, requests, tokens):
    counting, made = Counting(), []
    for pause, wanted, took, is_made in asked:
        counting.clock.now += pause
        id_, wait, refused = await counting.take(
            wanted, requests_per_minute=requests, tokens_per_minute=tokens
        )
        assert wait >= 0
        if refused:
            assert wait > WAIT_AT_MOST_S
            continue
        # No call takes more than it asked for.
        took = None if took is None else min(took, wanted)
        counting.settle(id_, made=is_made, tokens=took)
        if is_made:
            made.append((counting.clock.now + wait, wanted if took is None else took))
    for at, _ in made:
        minute = [one for one in made if at <= one[0] < at + WINDOW_S - 1e-6]
        assert len(minute) <= requests
        assert sum(spent for _, spent in minute) <= tokens


async def test_a_call_waits_no_longer_than_it_must(counting: Counting) -> None:
    assert [(await counting.take(requests_per_minute=2))[1] for _ in range(3)] == [0, 0, 60]
    counting.clock.now += 59
    assert (await counting.take(requests_per_minute=2))[1] == 1
    counting.clock.now += 1
    assert (await counting.take(requests_per_minute=2))[1:] == (60, False)


async def test_one_that_would_wait_too_long_is_refused_and_counts_nothing(
    counting: Counting,
) -> None:
    for _ in range(2):
        await counting.take(requests_per_minute=1)
    assert (await counting.take(requests_per_minute=1))[1:] == (120, True)
    counting.clock.now += 60
    assert (await counting.take(requests_per_minute=1))[1:] == (60, False)


async def test_what_was_not_made_or_took_less_leaves_room(counting: Counting) -> None:
    limits = {"requests_per_minute": 2, "tokens_per_minute": 100}
    first, *_ = await counting.take(100, **limits)
    counting.settle(first, tokens=10)
    second, *_ = await counting.take(90, **limits)
    counting.settle(second, made=False)
    assert (await counting.take(90, **limits))[1] == 0


async def test_calls_under_way_go_in_the_order_of_asking(counting: Counting) -> None:
    first, *_ = await counting.take(in_flight=1)
    order: list[str] = []

    async def wait(name: str) -> None:
        id_, _, refused = await counting.take(in_flight=1)
        assert not refused
        order.append(name)
        counting.settle(id_)

    waiting = [asyncio.create_task(wait(name)) for name in "abc"]
    await asyncio.sleep(0)
    assert order == []
    counting.settle(first)
    await asyncio.gather(*waiting)
    assert order == ["a", "b", "c"]


async def test_the_calls_of_a_run_that_ended_are_over(counting: Counting) -> None:
    await counting.take(in_flight=1, run="dead")
    lost = asyncio.create_task(counting.take(in_flight=1, run="dead"))
    alive = asyncio.create_task(counting.take(in_flight=1, run="alive"))
    await asyncio.sleep(0)
    counting.limits.run_ended("dead")
    assert (await alive)[2] is False
    assert (await lost)[2] is True


async def test_one_that_was_given_up_before_it_was_looked_at_holds_nothing(
    counting: Counting,
) -> None:
    counting.settle("0", made=False)
    assert (await counting.take(in_flight=1))[2] is True
    assert (await counting.take(in_flight=1))[2] is False


async def test_one_that_gives_up_while_it_waits_lets_the_next_pass(counting: Counting) -> None:
    first, *_ = await counting.take(in_flight=1)
    waits: Any = asyncio.create_task(counting.take(in_flight=1))
    after: Any = asyncio.create_task(counting.take(in_flight=1))
    await asyncio.sleep(0)
    counting.settle("1", made=False)
    assert (await waits)[2] is True
    counting.settle(first)
    assert (await after)[2] is False

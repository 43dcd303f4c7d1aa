"""Rounds: rung for, timed, and not to be ended by what happens to one of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holdfast.errors import StoreError
from holdfast.hub.rounds import Rounds

FOREVER: float | None = None


class Work:
    """Counts its rounds; each ends as planned."""

    def __init__(self, *plan: float | Exception | None) -> None:
        self.plan = list(plan)
        self.rounds = 0
        self.began = asyncio.Event()
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def __call__(self) -> float | None:
        self.rounds += 1
        self.began.set()
        await self.may_end.wait()
        planned = self.plan.pop(0) if self.plan else FOREVER
        if isinstance(planned, Exception):
            raise planned
        return planned

    async def until(self, rounds: int) -> None:
        async with asyncio.timeout(5):
            while self.rounds < rounds:
                self.began.clear()
                await self.began.wait()


async def idle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_round_begins_at_once_then_when_its_pause_is_over() -> None:
    work = Work(0.001, 0.001)
    rounds = Rounds("test", work)
    rounds.start()
    await work.until(3)
    await idle()
    assert work.rounds == 3, "the third asked for no further one"
    await rounds.close()


async def test_a_ring_is_heard_in_a_pause_and_during_a_round() -> None:
    work = Work()
    rounds = Rounds("test", work)
    rounds.start(after_s=3600)
    await idle()
    assert work.rounds == 0
    work.may_end.clear()
    rounds.ring()
    await work.until(1)
    rounds.ring()
    rounds.ring()
    work.may_end.set()
    await work.until(2)
    await idle()
    assert work.rounds == 2, "what rang during a round is answered by one more"
    await rounds.close()


@pytest.mark.parametrize("error", [StoreError("away"), RuntimeError("a fault of ours")])
async def test_a_failed_round_is_told_and_comes_again(
    error: Exception, logs: list[dict[str, Any]]
) -> None:
    work = Work(error)
    rounds = Rounds("test", work, retry_s=0.001)
    rounds.start()
    await work.until(2)
    await rounds.close()
    (told,) = logs
    assert told["round"] == "test"
    assert told["event"] == ("hub.round_failed" if "away" in str(error) else "hub.fault")


async def test_closed_rounds_end_and_those_that_never_began_can_be_closed() -> None:
    await Rounds("test", Work()).close()
    work = Work(0.0)
    work.may_end.clear()
    rounds = Rounds("test", work)
    rounds.start()
    await work.until(1)
    await rounds.close()
    work.may_end.set()
    await idle()
    assert work.rounds == 1

"""Two hubs on one PostgreSQL: the wire shows no more calls than a model's limits allow."""

from __future__ import annotations

import asyncio
import functools
import time
from pathlib import Path

import orjson
import pytest

from holdfast.domain.events import LOCAL_OWNER
from holdfast.domain.ids import MICROS
from holdfast.domain.status import EventStatus
from holdfast.hub import hub as hub_module
from holdfast.hub.shared_limits import SharedLimits
from holdfast.operations import read
from holdfast.store.commands import TakeCalls
from holdfast.testing.postgres import PostgresForTests
from holdfast.testing.providers import FakeAnswer, FakeOpenAI, FakeRequest

from .conftest import until_true
from .several_hubs import Shared

WINDOW_S = 3.0
MOST = 5
CALLS = 16


async def test_two_hubs_make_no_more_calls_in_a_window_than_one_may(
    postgres: PostgresForTests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = functools.partial(SharedLimits, window_us=int(WINDOW_S * MICROS), slice_us=MICROS // 5)
    monkeypatch.setattr(hub_module, "SharedLimits", short)
    came: list[float] = []

    def answer(_: FakeRequest) -> FakeAnswer:
        came.append(time.monotonic())
        return FakeAnswer(text="fine")

    url = postgres.migrated()
    with FakeOpenAI() as server:
        server.answer(answer)
        fast = {
            "model": "openai:gpt-4.1-mini",
            "base_url": server.url,
            "limits": {"requests_per_minute": MOST},
        }
        more = {
            "HOLDFAST_APPS": "budgets_app",
            "HOLDFAST_MODELS": orjson.dumps({"fast": fast, "standard": fast}).decode(),
            "HOLDFAST_RUNNER_SLOTS": str(CALLS // 2),
        }
        shared = Shared(tmp_path, url, None)
        async with shared.hub("one", **more) as one, shared.hub("two", **more) as two:
            hubs = (one, two) * (CALLS // 2)
            ids = await asyncio.gather(*(hub.submit("test.ask", text="hello") for hub in hubs))

            async def rest() -> bool:
                found = [await read.event(one.kit, id_, LOCAL_OWNER) for id_ in ids]
                return all(event.finished_at is not None for event in found)

            async with asyncio.timeout(60):
                await until_true(rest)
            ended = [await read.event(one.kit, id_, LOCAL_OWNER) for id_ in ids]
            claims = [hub.kit.metrics.get("holdfast_claims_total") for hub in (one, two)]
        assert min(claims) > 0, claims
        assert {event.status for event in ended} == {EventStatus.SUCCEEDED}
    assert len(came) == CALLS
    for at in came:
        # A little less than the window: leave is given here, and the wire is over there.
        inside = [other for other in came if at <= other < at + WINDOW_S - 0.5]
        assert len(inside) <= MOST, sorted(one - came[0] for one in came)
    postgres.drop(url)


async def test_many_calls_of_a_slice_ask_the_database_once(
    postgres: PostgresForTests, tmp_path: Path
) -> None:
    class Counting:
        def __init__(self, store: object) -> None:
            self.store = store
            self.taken = 0

        async def write(self, command: object) -> object:
            self.taken += isinstance(command, TakeCalls)
            return await self.store.write(command)

    url = postgres.migrated()
    shared = Shared(tmp_path, url, None)
    async with shared.hub("one") as hub:
        counting = Counting(hub.kit.store)
        limits = SharedLimits(counting)
        most = {"requests_per_minute": 4000}
        leaves = [await limits.take("m", most, 0) for _ in range(200)]
        assert {leave.wait_s for leave in leaves} == {0.0}
        assert counting.taken < 20
    postgres.drop(url)

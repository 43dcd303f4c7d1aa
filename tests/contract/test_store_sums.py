"""Whatever becomes of executions, the ledger's sums are those of the attempts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from holdfast.domain.changes import (
    AttemptFinished,
    AttemptStarted,
    AttemptValidated,
    Finished,
    StepFinished,
    StepStarted,
)
from holdfast.domain.ids import new_id
from holdfast.domain.status import ExecutionStatus
from holdfast.domain.usage import DAY_US, Sums
from holdfast.journal.running import Assessor, Running, Start
from holdfast.llm.price_list import Tariff
from holdfast.llm.prices import Prices
from holdfast.store import Store
from holdfast.store.commands import Finish, FoldUsage, Unpause
from holdfast.store.queries import UsageOf
from holdfast.store.registry import address

from .conftest import Make

ASSESSOR = Assessor(
    price=Prices().price,
    suspicious=lambda _: [],
    tariff=Tariff((("*", {"fast": 2, "*": 1}),)),
)

count = st.integers(0, 10_000)

ATTEMPT = st.fixed_dictionaries(
    {
        "model": st.sampled_from(["gpt-4.1-mini", "gpt-nothing", "o3"]),
        "alias": st.sampled_from(["fast", "expert", None]),
        "day": st.integers(0, 2),
        "usage": st.sampled_from(["reported", "estimated", "unknown", "none", "refused"]),
        "tokens": st.tuples(count, count, count),
        "valid": st.sampled_from(["valid", "invalid", None]),
        "ends": st.booleans(),
    }
)

PART = st.fixed_dictionaries(
    {
        "steps": st.lists(st.lists(ATTEMPT, max_size=3), max_size=4),
        "end": st.sampled_from(["succeeded", "failed", "crashed", "paused", "superseded"]),
        "twice": st.booleans(),
        "fold": st.booleans(),
    }
)


def play(running: Running, part: dict[str, Any], at: int) -> None:
    """Tell what a runner would tell of one part."""
    first = running.execution().steps_total
    for number, attempts in enumerate(part["steps"], first + 1):
        running.apply(
            StepStarted(step=number, parent=None, kind="model", operation="say", version="1", at=at)
        )
        for n, one in enumerate(attempts, 1):
            begun = at + one["day"] * DAY_US
            asked = one["usage"] != "none"
            running.apply(
                AttemptStarted(
                    step=number,
                    n=n,
                    at=begun,
                    provider="openai" if asked else None,
                    model=one["model"] if asked else None,
                    parameters={},
                    system=None,
                    user=None,
                    messages=None,
                    alias=one["alias"],
                )
            )
            if not one["ends"]:
                continue
            known = one["usage"] in ("reported", "estimated")
            cached, fresh, output = one["tokens"]
            running.apply(
                AttemptFinished(
                    step=number,
                    n=n,
                    status="succeeded" if known else "failed",
                    at=begun + 5,
                    duration_us=5,
                    tokens_input=cached + fresh if known else None,
                    tokens_cached=cached if known else None,
                    tokens_output=output if known else None,
                    usage="unknown" if one["usage"] == "refused" else one["usage"],
                    http_status=429 if one["usage"] == "refused" else None,
                )
            )
            if known and one["valid"]:
                outcome = one["valid"]
                running.apply(AttemptValidated(step=number, n=n, outcome=outcome, duration_us=1))
        if attempts and attempts[-1]["ends"]:
            running.apply(StepFinished(step=number, status="succeeded", at=at + 9, duration_us=9))
    if part["end"] == "crashed":
        running.break_off(ExecutionStatus.CRASHED, at + 10, {"code": "x", "message": "x"})
    else:
        status = "succeeded" if part["end"] == "superseded" else part["end"]
        running.apply(Finished(status=status, at=at + 10))


OF_ATTEMPTS = """
    SELECT COUNT(CASE WHEN usage <> 'none' THEN 1 END), COALESCE(SUM(tokens_input), 0),
        COALESCE(SUM(tokens_cached), 0), COALESCE(SUM(tokens_output), 0),
        COALESCE(SUM(cost_pico), 0), COALESCE(SUM(saved_pico), 0), COALESCE(SUM(credits), 0),
        COUNT(CASE WHEN usage = 'unknown' THEN 1 END), COUNT(CASE WHEN cost_pico IS NULL THEN 1 END)
    FROM attempts WHERE owner_id = :owner
"""

OF_EXECUTIONS = """
    SELECT COALESCE(SUM(tokens_input), 0), COALESCE(SUM(tokens_output), 0),
        COALESCE(SUM(cost_pico), 0), COALESCE(SUM(credits), 0)
    FROM executions WHERE owner_id = :owner
"""


def test_the_ledger_is_the_sum_of_the_attempts(store_url: str, reopen: Callable[[], Store]) -> None:
    engine = create_engine(address(store_url).sqlalchemy_url, poolclass=NullPool)

    def asked(sql: str, owner: str) -> list[int]:
        with engine.connect() as connection:
            return [int(one) for one in connection.execute(text(sql), {"owner": owner}).one()]

    async def total_of(store: Store, owner: str) -> Sums:
        by_model = await store.read(UsageOf(owner_id=owner, by="model"))
        by_day = await store.read(UsageOf(owner_id=owner, by="day"))
        total = sum((sums for _, sums in by_model), start=Sums())
        assert sum((sums for _, sums in by_day), start=Sums()) == total
        return total

    with asyncio.Runner() as loop:
        store = reopen()

        @given(runs=st.lists(st.lists(PART, min_size=1, max_size=3), min_size=1, max_size=3))
        @settings(
            max_examples=10,
            deadline=None,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def every(runs: list[list[dict[str, Any]]]) -> None:
            owner = new_id()
            for parts in runs:
                loop.run(run_all(store, owner, parts))
            total = loop.run(total_of(store, owner))
            assert asked(OF_ATTEMPTS, owner) == [
                total.calls,
                total.tokens_input,
                total.tokens_cached,
                total.tokens_output,
                total.cost_pico,
                total.saved_pico,
                total.credits,
                total.usage_unknown,
                total.cost_unknown,
            ]
            assert asked(OF_EXECUTIONS, owner) == [
                total.tokens_input,
                total.tokens_output,
                total.cost_pico,
                total.credits,
            ]

        try:
            every()
        finally:
            loop.run(store.close())


async def run_all(store: Store, owner: str, parts: list[dict[str, Any]]) -> None:
    """One event through its parts, as long as it goes on."""
    make, target = Make(store), new_id()
    await make.submitted(owner_id=owner, target=target)
    for part in parts:
        claims = await make.claimed(versions={target: ("g1", "c1")})
        if not claims:
            return
        (claimed,) = claims
        start = Start(claimed=claimed, lease_owner="boot-1", graph_version="g1", code_version="c1")
        running = Running(start, ASSESSOR)
        play(running, part, claimed.started_at)
        record = running.record()
        if part["end"] == "superseded":
            record = replace(record, lease_owner="boot-2")
        await store.write(Finish(record))
        if part["twice"]:
            await store.write(Finish(record))
        if part["fold"]:
            await store.write(FoldUsage(3))
        if part["end"] == "paused":
            await store.write(Unpause(claimed.event_id, owner))

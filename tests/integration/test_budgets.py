"""Budgets, end to end: what has no room is not sent, and ends in a state that says why."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from holdfast.domain.budgets import Period, Scope, Unit
from holdfast.domain.events import LOCAL_OWNER, Event
from holdfast.domain.status import EventStatus
from holdfast.operations import budgets, read
from holdfast.operations.resume import resume
from holdfast.operations.usage import usage
from holdfast.testing.postgres import PostgresForTests
from holdfast.testing.providers import FakeAnswer, FakeOpenAI

from .conftest import HubForTests, OpenHub, until_true
from .several_hubs import Shared

MAX_TOKENS = 40


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as serving:
        serving.answer(lambda request: FakeAnswer(text="fine", latency_s=0.2))
        yield serving


@pytest.fixture
def models(server: FakeOpenAI) -> str:
    fast = {
        "model": "openai:gpt-4.1-mini",
        "base_url": server.url,
        "parameters": {"max_tokens": MAX_TOKENS},
    }
    return orjson.dumps({"fast": fast, "standard": fast}).decode()


@pytest.fixture
async def hub(open_hub: OpenHub, models: str) -> AsyncIterator[HubForTests]:
    async with open_hub(runners=2, apps="budgets_app", models=models) as opened:
        yield opened


async def limit(hub: HubForTests, scope: Scope, unit: Unit, amount: str, **more: Any) -> Any:
    return await budgets.set_budget(
        hub.kit, owner_id=LOCAL_OWNER, scope=scope, unit=unit, amount=amount, **more
    )


def outcomes(events: list[Event]) -> dict[Any, int]:
    return dict(Counter((one.status, (one.last_error or {}).get("code")) for one in events))


FIVE_OF_EIGHT = {(EventStatus.SUCCEEDED, None): 5, (EventStatus.FAILED, "budget_exceeded"): 3}


async def test_five_of_eight_parallel_runs_reach_the_wire(
    hub: HubForTests, server: FakeOpenAI
) -> None:
    await limit(hub, Scope.OWNER, Unit.CREDITS, "5", period=Period.DAY)
    await hub.parts.hub.budgets.look()
    ids = await asyncio.gather(*(hub.submit("test.ask", text=f"no {n}") for n in range(8)))
    ended = [await hub.ended(one) for one in ids]
    assert outcomes(ended) == FIVE_OF_EIGHT, ended[0].last_error
    assert len(server.requests) == 5
    failed = next(one for one in ended if one.status is EventStatus.FAILED)
    assert failed.deliveries == 1
    message = failed.last_error["message"]
    assert message.startswith("the budget of owner a day has no room")
    assert "of 5 credits" in message
    (view,) = await budgets.budgets(hub.kit, LOCAL_OWNER)
    assert view["spent"] == "5"


async def test_five_of_eight_parallel_calls_of_one_run(
    hub: HubForTests, server: FakeOpenAI
) -> None:
    event = await hub.submit("test.ask", text="hello")
    await hub.ended(event)
    planned = 100 + MAX_TOKENS  # each needs more than a hundred tokens, words of four letters
    server.requests.clear()
    await limit(hub, Scope.EXECUTION, Unit.TOKENS, str(planned * 6), subject="test.eight")
    await hub.parts.hub.budgets.look()
    event = await hub.submit("test.eight", text="word " * 80)
    ended = await hub.ended(event)
    assert (ended.status, ended.last_error["code"]) == (EventStatus.FAILED, "budget_exceeded")
    assert len(server.requests) == 5


async def test_a_refused_call_is_an_attempt_that_used_nothing(
    hub: HubForTests, server: FakeOpenAI
) -> None:
    await limit(hub, Scope.EXECUTION, Unit.TOKENS, "10", subject="test.ask")
    await hub.parts.hub.budgets.look()
    event, whole = await hub.run("test.ask", text="hello")
    assert (event.status, event.last_error["code"]) == (EventStatus.FAILED, "budget_exceeded")
    (refused,) = whole.attempts
    assert (refused.alias, refused.usage, refused.cost_pico) == ("standard", "none", 0)
    assert (refused.error["code"], refused.error_class) == ("budget_exceeded", "budget")
    assert server.requests == []


async def test_two_hubs_share_a_budget(
    postgres: PostgresForTests, server: FakeOpenAI, models: str, tmp_path: Path
) -> None:
    url = postgres.migrated()
    shared = Shared(tmp_path, url, None)
    more = {
        "HOLDFAST_APPS": "budgets_app",
        "HOLDFAST_MODELS": models,
        "HOLDFAST_RUNNER_SLOTS": "4",
    }
    async with shared.hub("one", **more) as one, shared.hub("two", **more) as two:
        await limit(one, Scope.OWNER, Unit.CREDITS, "5", period=Period.MONTH)
        for hub in (one, two):
            await hub.parts.hub.budgets.look()
        server.answer(lambda request: FakeAnswer(text="fine", latency_s=1))
        hubs = (one, two) * 4
        ids = await asyncio.gather(*(hub.submit("test.ask", text="hello") for hub in hubs))

        async def rest() -> bool:
            found = [await read.event(one.kit, event, LOCAL_OWNER) for event in ids]
            return all(event.finished_at is not None for event in found)

        await until_true(rest)
        ended = [await read.event(one.kit, event, LOCAL_OWNER) for event in ids]
        assert outcomes(ended) == FIVE_OF_EIGHT
        assert len(server.requests) == 5
        claims = [hub.kit.metrics.get("holdfast_claims_total") for hub in (one, two)]
        assert min(claims) > 0, claims
    postgres.drop(url)


async def test_it_holds_over_deliveries(hub: HubForTests, server: FakeOpenAI) -> None:
    ended = await hub.ended(await hub.submit("test.again"))
    assert (ended.status, ended.last_error["code"]) == (EventStatus.FAILED, "budget_exceeded")
    assert ended.deliveries == 3
    assert len(server.requests) == 2
    total = (await usage(hub.kit, owner_id=LOCAL_OWNER))["total"]
    assert (total["calls"], total["credits"]) == (2, 2)


async def test_it_holds_over_a_halt(hub: HubForTests, server: FakeOpenAI) -> None:
    event = await hub.submit("test.halting")

    async def waits() -> bool:
        return (await read.event(hub.kit, event, LOCAL_OWNER)).status is EventStatus.WAITING

    await until_true(waits)
    found = await read.event(hub.kit, event, LOCAL_OWNER)
    await resume(hub.kit, found.execution_id, LOCAL_OWNER, answer="yes")
    ended = await hub.ended(event)
    assert (ended.status, ended.last_error["code"]) == (EventStatus.FAILED, "budget_exceeded")
    assert len(server.requests) == 1


async def test_it_holds_over_children(hub: HubForTests, server: FakeOpenAI) -> None:
    ended = await hub.ended(await hub.submit("test.family"))
    assert ended.status is EventStatus.FAILED
    assert "the budget of an execution of test.family" in ended.last_error["message"]
    assert len(server.requests) == 2


async def test_a_blocking_call_asks_too(hub: HubForTests, server: FakeOpenAI) -> None:
    assert (await hub.ended(await hub.submit("test.blocking"))).status is EventStatus.SUCCEEDED
    await limit(hub, Scope.EXECUTION, Unit.TOKENS, "10", subject="*")
    await hub.parts.hub.budgets.look()
    ended = await hub.ended(await hub.submit("test.blocking"))
    assert (ended.status, ended.last_error["code"]) == (EventStatus.FAILED, "budget_exceeded")
    assert len(server.requests) == 1


async def test_dollars_need_a_price(open_hub: OpenHub, server: FakeOpenAI, tmp_path: Path) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text("'own:dear': {input: 0, output: 10000}")  # a cent a token
    dear = {"model": "openai:gpt-4.1-mini", "base_url": server.url, "price": "own:dear"}
    dear["parameters"] = {"max_tokens": MAX_TOKENS}
    models = orjson.dumps({"standard": dear}).decode()
    async with open_hub(in_process=True, apps="budgets_app", models=models, prices=prices) as hub:
        assert (await hub.ended(await hub.submit("test.dear"))).status is EventStatus.SUCCEEDED
        await limit(hub, Scope.OWNER, Unit.USD, "0.4")
        await hub.parts.hub.budgets.look()
        ended = await hub.ended(await hub.submit("test.dear"))
        assert "may need $0.4: of $0.4, $0.01 are spent" in ended.last_error["message"]
    models = orjson.dumps({"standard": dear | {"price": "own:unheard"}}).decode()
    async with open_hub(in_process=True, apps="budgets_app", models=models) as hub:
        ended = await hub.ended(await hub.submit("test.dear"))
        assert ended.last_error["code"] == "budget_exceeded"
        assert "nobody knows what openai:gpt-4.1-mini costs" in ended.last_error["message"]
    assert len(server.requests) == 1


async def test_an_answer_without_figures_counts_as_reserved(
    hub: HubForTests, server: FakeOpenAI
) -> None:
    server.answer(lambda request: FakeAnswer(text="fine", report_usage=False))
    await limit(hub, Scope.PIPELINE, Unit.TOKENS, "80", subject="test.ask")
    await hub.parts.hub.budgets.look()
    first = await hub.ended(await hub.submit("test.ask"))
    assert first.status is EventStatus.SUCCEEDED
    second = await hub.ended(await hub.submit("test.ask"))
    assert second.last_error["code"] == "budget_exceeded"
    total = (await usage(hub.kit, owner_id=LOCAL_OWNER))["total"]
    assert (total["tokens"]["input"], total["unknown"]["usage"]) == (0, 1)


async def test_what_a_killed_runner_had_set_aside_comes_back(
    hub: HubForTests, server: FakeOpenAI, tmp_path: Path
) -> None:
    server.answer(lambda request: FakeAnswer(text="fine", latency_s=30))
    await limit(hub, Scope.OWNER, Unit.TOKENS, "100")
    await hub.parts.hub.budgets.look()
    event = await hub.submit("test.ask")
    await server.arrived(1)
    server.answer(lambda request: FakeAnswer(text="fine"))
    (busy,) = [one for one in hub.crew.workers if one.in_flight]
    os.kill(busy.pid, signal.SIGKILL)
    assert (await hub.ended(event)).status is EventStatus.SUCCEEDED


async def test_another_amount_holds_at_once(
    hub: HubForTests, server: FakeOpenAI, tmp_path: Path
) -> None:
    await limit(hub, Scope.OWNER, Unit.CREDITS, "1")
    await hub.parts.hub.budgets.look()
    await hub.ended(await hub.submit("test.ask"))
    refused = await hub.ended(await hub.submit("test.ask"))
    assert refused.status is EventStatus.FAILED
    more = await limit(hub, Scope.OWNER, Unit.CREDITS, "2")
    assert (await hub.ended(await hub.submit("test.ask"))).status is EventStatus.SUCCEEDED
    await budgets.remove_budget(hub.kit, more["id"], LOCAL_OWNER)
    assert (await hub.ended(await hub.submit("test.ask"))).status is EventStatus.SUCCEEDED
    assert await budgets.budgets(hub.kit, LOCAL_OWNER) == []

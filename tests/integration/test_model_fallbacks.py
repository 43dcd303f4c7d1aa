"""A provider goes down and comes back, with real runners: what answers, what is seen of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from holdfast.domain.breakers import BreakerStatus
from holdfast.domain.events import LOCAL_OWNER
from holdfast.domain.status import EventStatus, StepStatus
from holdfast.operations.breakers import open_breaker
from holdfast.operations.cancel import cancel_event
from holdfast.operations.usage import usage
from holdfast.store.queries import AllBreakers
from holdfast.testing.providers import FakeAnswer, FakeAnthropic, FakeOpenAI

from .conftest import HubForTests, OpenHub, until_true

S = StepStatus


@pytest.fixture
async def first() -> AsyncIterator[FakeOpenAI]:
    async with FakeOpenAI(["fine"]) as server:
        yield server


@pytest.fixture
async def second() -> AsyncIterator[FakeAnthropic]:
    async with FakeAnthropic(["instead"]) as server:
        yield server


@pytest.fixture
def hub_environ(
    hub_environ: dict[str, str], first: FakeOpenAI, second: FakeAnthropic
) -> dict[str, str]:
    fast: dict[str, Any] = {
        "model": "openai:fake-model",
        "base_url": first.url,
        "fallbacks": ["other"],
    }
    other = {"model": "anthropic:claude-sonnet-5-5", "base_url": second.url}
    return hub_environ | {
        "HOLDFAST_APPS": "breakers_app",
        "HOLDFAST_MODELS": orjson.dumps({"fast": fast, "other": other}).decode(),
        "HOLDFAST_BREAKER_FAILURES": "3",
        "HOLDFAST_BREAKER_COOLDOWN": "3600",
        "HOLDFAST_BREAKER_COOLDOWN_MOST": "7200",
    }


async def tries(hub: HubForTests, text: str) -> list[tuple[Any, ...]]:
    """Provider, status, and error or usage of each attempt of one run, which succeeds."""
    event, whole = await hub.run("test.asking", text=text)
    assert event.status is EventStatus.SUCCEEDED
    return [
        (a.provider, a.status, a.error["code"] if a.error and "code" in a.error else a.usage)
        for a in whole.attempts
    ]


async def test_a_provider_that_is_down_is_stood_in_for_until_one_probe_brings_it_back(
    open_hub: OpenHub, first: FakeOpenAI, second: FakeAnthropic
) -> None:
    name = f"openai@{first.origin.removeprefix('http://')}/fake-model"
    async with open_hub(runners=1) as hub:

        async def stands(status: BreakerStatus) -> None:
            async def so() -> bool:
                found = (await hub.kit.store.read(AllBreakers())).breakers.get(name)
                return found is not None and found.status is status

            await until_true(so)

        first.answer([FakeAnswer(status=503)])
        instead = ("anthropic", S.SUCCEEDED, "reported")
        for n in range(3):
            assert await tries(hub, f"down {n}") == [("openai", S.FAILED, "unbilled"), instead]
        await stands(BreakerStatus.OPEN)
        assert await tries(hub, "open") == [("openai", S.FAILED, "breaker_open"), instead]
        assert (len(first.requests), len(second.requests)) == (3, 4), "it was spared"

        first.answer(["fine"])
        await open_breaker(hub.kit, name, seconds=0)  # as if the cool-down were over now

        async def probed() -> bool:
            (provider, status, _), *_ = await tries(hub, "probe")
            return (provider, status) == ("openai", S.SUCCEEDED)

        await until_true(probed)
        assert len(first.requests) == 4, "one probe"
        await stands(BreakerStatus.CLOSED)
        assert await tries(hub, "closed") == [("openai", S.SUCCEEDED, "reported")]

        metrics = hub.kit.metrics
        assert metrics.get("holdfast_breaker_open", breaker=name) == 0

        def counted(provider: str, model: str, outcome: str) -> float:
            return metrics.get(
                "holdfast_model_attempts_total", provider=provider, model=model, outcome=outcome
            )

        assert counted("openai", "fake-model", "temporary") == 3
        assert counted("openai", "fake-model", "refused") >= 1
        assert counted("openai", "fake-model", "succeeded") == 2
        assert counted("anthropic", "claude-sonnet-5-5", "succeeded") == len(second.requests)


async def test_record_and_ledger_name_the_alias_that_was_asked(
    open_hub: OpenHub, first: FakeOpenAI
) -> None:
    first.answer([FakeAnswer(status=503)])
    async with open_hub(runners=1) as hub:
        _, whole = await hub.run("test.asking", text="hello")
        told = [(one.alias, one.provider, one.usage) for one in whole.attempts]
        assert told == [("fast", "openai", "unbilled"), ("other", "anthropic", "reported")]
        items = (await usage(hub.kit, owner_id=LOCAL_OWNER, by="alias"))["items"]
        spent = {one["key"]: one["tokens"]["output"] for one in items}
        assert spent["other"] > 0
        assert spent.get("fast", 0) == 0


async def test_limits_hold_over_all_runners(
    open_hub: OpenHub, first: FakeOpenAI, hub_environ: dict[str, str]
) -> None:
    fast = {
        "model": "openai:fake-model",
        "base_url": first.url,
        "limits": {"in_flight": 1, "requests_per_minute": 8},
    }
    hub_environ["HOLDFAST_MODELS"] = orjson.dumps({"fast": fast}).decode()
    under_way: list[int] = []

    def answer(_: Any) -> FakeAnswer:
        under_way.append(sum(not request.complete for request in first.requests))
        return FakeAnswer(text="one two three", latency_s=0.02)

    first.answer(answer)
    async with open_hub(runners=2) as hub:
        ids = [await hub.submit("test.asking", text=str(n)) for n in range(8)]
        for event_id in ids:
            assert (await hub.ended(event_id)).status is EventStatus.SUCCEEDED
        assert under_way == [1] * 8

        def waited() -> float:
            name = f"openai@{first.origin.removeprefix('http://')}/fake-model"
            return hub.kit.metrics.get("holdfast_model_limit_wait_seconds_total", model=name)

        before = waited()
        ninth = await hub.submit("test.asking", text="the ninth of the minute")

        async def waits() -> bool:
            return waited() > before + 1

        await until_true(waits)
        assert len(first.requests) == 8
        await cancel_event(hub.kit, ninth, LOCAL_OWNER)
        await hub.ended(ninth)
        assert len(first.requests) == 8

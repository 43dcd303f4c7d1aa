"""Calls that make vectors pass breakers and budgets as calls of chat models do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx
import orjson
import pytest

from holdfast.app import make_api
from holdfast.domain.breakers import BreakerStatus
from holdfast.domain.budgets import Scope, Unit
from holdfast.domain.events import LOCAL_OWNER
from holdfast.domain.status import EventStatus
from holdfast.errors import BreakerOpen, ModelError
from holdfast.operations import budgets, read
from holdfast.operations.breakers import open_breaker
from holdfast.testing.providers import FakeAnswer, FakeOpenAI

from .api_server import serving
from .conftest import HubForTests, OpenHub, until_true
from .test_breakers import stands
from .test_knowledge import database_url, find, keep

__all__ = ["database_url"]

DOWN = FakeAnswer(status=500)
MODEL = "text-embedding-3-small"


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as fake:
        yield fake


@pytest.fixture
async def hub(
    open_hub: OpenHub, hub_environ: dict[str, str], database_url: str, server: FakeOpenAI
) -> AsyncIterator[HubForTests]:
    alias = {"model": f"openai:{MODEL}", "base_url": server.url}
    hub_environ |= {
        "HOLDFAST_APPS": "knowledge_app",
        "HOLDFAST_EMBEDDINGS": orjson.dumps({"default": alias}).decode(),
        "HOLDFAST_BREAKER_FAILURES": "3",
        "HOLDFAST_BREAKER_COOLDOWN": "3600",
        "HOLDFAST_BREAKER_COOLDOWN_MOST": "3600",
    }
    async with open_hub(runners=1, database_url=database_url) as opened:
        yield opened


def name_of(server: FakeOpenAI) -> str:
    return f"openai@{server.url.split('//')[1].split('/')[0]}/{MODEL}"


async def test_a_provider_that_keeps_failing_is_not_asked_and_the_event_waits(
    hub: HubForTests, server: FakeOpenAI
) -> None:
    server.answer([DOWN])
    for n in range(2):
        with pytest.raises(ModelError):
            await keep(hub.kit, f"k{n}", "some words")
    with pytest.raises(BreakerOpen):  # the call that opened it was made
        await keep(hub.kit, "k2", "some words")
    name = name_of(server)
    await stands(hub, name, BreakerStatus.OPEN)
    asked = len(server.requests)
    waits = await hub.submit("knowledge.learn", key="late", text="other words")

    async def postponed() -> bool:
        found = await read.event(hub.kit, waits, LOCAL_OWNER)
        assert found.finished_at is None, found.last_error
        return found.postponed_for == name

    await until_true(postponed)
    (run,) = await hub.executions(waits)
    (refused,) = (await hub.whole(run.id)).attempts
    assert (refused.usage, refused.cost_pico, refused.status) == ("none", 0, "failed")
    with pytest.raises(BreakerOpen):
        await keep(hub.kit, "door", "words")
    assert len(server.requests) == asked, "nobody was asked"

    # One probe closes it again, whoever makes it, and what waited runs.
    server.answer([FakeAnswer()])
    await open_breaker(hub.kit, name, seconds=0)
    await stands(hub, name, BreakerStatus.CLOSED)
    assert (await hub.ended(waits)).status is EventStatus.SUCCEEDED
    found = await find(hub.kit, "other words")
    assert found[0].key == "late"


async def test_the_door_says_when_to_come_back(hub: HubForTests, server: FakeOpenAI) -> None:
    server.answer([DOWN])
    async with (
        serving(make_api(hub.parts)) as url,
        httpx.AsyncClient(base_url=url, trust_env=False) as http,
    ):
        asked = "/api/v1/collections/manuals/documents"
        for status in (502, 502, 502, 503):
            answer = await http.put(asked, json={"key": "a", "text": "words"})
            assert answer.status_code == status, answer.text
            assert "fake provider" not in answer.text
    assert answer.json()["code"] == "provider_away"
    assert int(answer.headers["retry-after"]) > 0
    assert len(server.requests) == 3


async def test_a_budget_without_room_keeps_the_call_from_being_made(
    hub: HubForTests, server: FakeOpenAI
) -> None:
    await budgets.set_budget(
        hub.kit, owner_id=LOCAL_OWNER, scope=Scope.OWNER, unit=Unit.TOKENS, amount="40"
    )
    await hub.parts.hub.budgets.look()
    words = "one two three four five six seven"
    events = [
        await hub.submit("knowledge.learn", key=f"k{n}", text=f"{n} {words}") for n in range(8)
    ]
    ended = [await hub.ended(one) for one in events]
    made = [one for one in ended if one.status is EventStatus.SUCCEEDED]
    refused = [one for one in ended if one.status is EventStatus.FAILED]
    assert len(made) + len(refused) == 8
    assert 0 < len(made) < 8
    assert len(server.requests) == len(made)
    assert {one.last_error["code"] for one in refused if one.last_error} == {"budget_exceeded"}
    used = sum(request.tokens_input or 0 for request in server.requests)
    assert used <= 40
    (execution,) = await hub.executions(refused[0].id)
    (attempt,) = (await hub.whole(execution.id)).attempts
    assert (attempt.usage, attempt.cost_pico, attempt.error_class) == ("none", 0, "budget")

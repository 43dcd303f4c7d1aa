"""Usage, budgets and estimates at the doors: over HTTP, and on the command line."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import orjson
import pytest

from holdfast.app import make_api
from holdfast.client import Client
from holdfast.errors import InvalidInput, NotFound
from holdfast.testing.providers import FakeAnswer, FakeOpenAI

from .api_server import serving
from .conftest import OpenHub


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as running:
        running.answer(lambda request: FakeAnswer(text="two words"))
        yield running


@pytest.fixture
async def client(open_hub: OpenHub, server: FakeOpenAI) -> AsyncIterator[Client]:
    model = {"model": "openai:gpt-4.1-mini", "base_url": server.url}
    models = orjson.dumps({"standard": model}).decode()
    async with (
        open_hub(in_process=True, apps="budgets_app", models=models) as hub,
        serving(make_api(hub.parts)) as url,
        Client(url) as client,
    ):
        yield client


async def run(client: Client, text: str = "hello") -> Any:
    return await client.submit("test.ask", {"text": text}, wait=20)


async def test_what_was_used(client: Client, server: FakeOpenAI) -> None:
    for text in ("one", "two three"):
        await run(client, text)
    view = await client.usage(by="model")
    (item,) = view["items"]
    assert item["key"] == "openai:gpt-4.1-mini"
    assert item["calls"] == 2
    assert item["tokens"]["input"] == sum(one.tokens_input for one in server.requests)
    assert item["tokens"]["output"] == sum(one.tokens_output for one in server.requests)
    assert item["credits"] == 2
    assert float(item["cost_usd"]) > 0
    assert item["unknown"] == {"usage": 0, "cost": 0}
    assert view["total"] == {name: value for name, value in item.items() if name != "key"}
    for by, key in (("pipeline", "test.ask"), ("alias", "standard"), ("owner", "local")):
        assert [one["key"] for one in (await client.usage(by=by))["items"]] == [key]
    with pytest.raises(InvalidInput):
        await client.usage(by="moon")


async def test_a_budget_is_set_seen_and_removed(client: Client) -> None:
    made = await client.set_budget("owner", unit="usd", amount="0.25", period="month")
    assert (made["amount"], made["title"]) == ("0.25", "owner a month")
    changed = await client.set_budget("owner", unit="usd", amount="1.50", period="month")
    assert changed["id"] == made["id"]
    (listed,) = (await client.budgets())["items"]
    assert (listed["amount"], listed["spent"], listed["set_aside"]) == ("1.5", "0", "0")
    await client.remove_budget(made["id"])
    assert (await client.budgets())["items"] == []
    with pytest.raises(NotFound):
        await client.remove_budget(made["id"])


@pytest.mark.parametrize(
    ("scope", "fields"),
    [
        ("owner", {"subject": "x"}),
        ("session", {}),
        ("execution", {"subject": "x", "period": "day"}),
        ("moon", {"subject": "x"}),
        ("owner", {"amount": "1.5"}),
        ("owner", {"amount": "-1"}),
        ("owner", {"amount": "9" * 25}),
    ],
)
async def test_budgets_that_make_no_sense_are_refused(
    client: Client, scope: str, fields: dict[str, str]
) -> None:
    with pytest.raises(InvalidInput) as refused:
        await client.set_budget(scope, **({"unit": "credits", "amount": "1"} | fields))
    assert refused.value.fields


async def test_an_estimate_tells_what_it_rests_on(client: Client) -> None:
    before = await client.estimate("test.ask", {"text": "hello"})
    assert before["estimate"] is True
    assert (before["executions"], before["cost_usd"]) == (0, None)
    (prompt,) = before["prompts"]
    assert (prompt["node"], prompt["alias"]) == ("say", "standard")
    assert prompt["tokens"] > 0
    for _ in range(3):
        await run(client)
    after = await client.estimate("test.ask", {"text": "hello"})
    assert after["executions"] == 3
    assert after["credits"] == {"median": 1, "p90": 1, "of": 3}
    assert after["tokens_output"]["median"] == 2
    assert float(after["cost_usd"]["median"]) > 0
    with pytest.raises(NotFound):
        await client.estimate("test.nothing", {})
    with pytest.raises(InvalidInput):
        await client.estimate("test.ask", {"text": 3})


async def test_nothing_is_run_for_an_estimate(client: Client, server: FakeOpenAI) -> None:
    await client.estimate("test.family", {"text": "hello"})
    assert server.requests == []
    assert (await client.usage())["items"] == []

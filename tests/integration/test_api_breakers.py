"""Breakers at the doors: listed, opened and closed by hand, over HTTP and by the command line."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

import holdfast
from holdfast.api import create_api
from holdfast.api.in_process import InProcessTransport
from holdfast.client import Client
from holdfast.errors import InvalidInput, NotFound

from .api_server import api_parts, serving
from .conftest import HubForTests, OpenHub, until_true

NAME = "openai@api.example.com:8443/family/model+1"


@pytest.fixture
def hub_environ(hub_environ: dict[str, str]) -> dict[str, str]:
    return hub_environ | {"HOLDFAST_APPS": "breakers_app"}


@pytest.fixture
async def hub(open_hub: OpenHub) -> AsyncIterator[HubForTests]:
    async with open_hub(in_process=True) as opened:
        yield opened


@pytest.fixture(params=["over http", "in process"])
async def client(request: pytest.FixtureRequest, hub: HubForTests) -> AsyncIterator[Client]:
    api = create_api(api_parts(hub.parts))
    if request.param == "over http":
        async with serving(api) as url, Client(url) as made:
            yield made
    else:
        async with Client(transport=InProcessTransport(api)) as made:
            yield made


async def test_opened_and_closed_by_hand(client: Client, hub: HubForTests) -> None:
    assert (await client.breakers())["items"] == []
    opened = await client.open_breaker(NAME, reason="they move house")
    assert (opened["status"], opened["by_hand"], opened["until"]) == ("open", True, None)
    assert (await client.breakers())["items"] == [opened]
    closed = await client.close_breaker(NAME)
    assert (closed["status"], closed["reason"], closed["openings"]) == ("closed", None, 0)
    assert (await client.close_breaker(NAME))["status"] == "closed", "twice is once"


async def test_for_a_while_it_says_until_when(client: Client) -> None:
    opened = await client.open_breaker("crm", seconds=60)
    assert opened["until"] > opened["changed_at"]
    assert opened["reason"] == "opened by hand"


async def test_what_waits_is_shown_and_runs_when_it_is_closed(
    client: Client, hub: HubForTests
) -> None:
    await client.open_breaker("crm")
    event = await client.submit("test.serving", {})

    async def waits() -> bool:
        return (await client.event(event["id"]))["postponed_for"] == "crm"

    await until_true(waits)
    (crm,) = (await client.breakers())["items"]
    assert crm["waiting"] == 1
    seen = await client.event(event["id"])
    assert (seen["status"], seen["deliveries"]) == ("queued", 0)
    assert seen["executions"][0]["flags"] == {"postponed": "crm"}
    await client.close_breaker("crm")
    ended = await client.wait(event["id"], 20)
    assert (ended["status"], ended["postponed_for"]) == ("succeeded", None)


async def test_what_cannot_be_meant_is_refused(client: Client) -> None:
    with pytest.raises(NotFound, match="no breaker"):
        await client.close_breaker("cmr")
    for name in ("a b", "-", "x" * 201):
        with pytest.raises(InvalidInput, match="name"):
            await client.open_breaker(name)
    for seconds in (-1, 10**9):
        with pytest.raises(InvalidInput, match="seconds"):
            await client.open_breaker("crm", seconds=seconds)
    assert (await client.breakers())["items"] == []


async def test_metrics_tell_of_it(client: Client, hub: HubForTests) -> None:
    await client.open_breaker("crm")

    async def told() -> bool:
        return 'holdfast_breaker_open{breaker="crm"} 1' in hub.kit.metrics.render()

    await until_true(told)


async def test_connect_has_them_too(hub_environ: dict[str, str]) -> None:
    from holdfast import settings

    made = settings.load(environ=hub_environ)
    async with holdfast.connect(made) as client:
        await client.open_breaker("crm", seconds=1)
    async with holdfast.connect(made, read_only=True) as client:
        assert [one["name"] for one in (await client.breakers())["items"]] == ["crm"]

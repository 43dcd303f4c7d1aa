"""Context caches over real hubs and real runners: one creation on the wire, whatever happens."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import genai_prices
import pytest

from holdfast.api import create_api
from holdfast.api.in_process import InProcessTransport
from holdfast.client import Client
from holdfast.hub import context_caches
from holdfast.hub.worker import WorkerState
from holdfast.testing.postgres import PostgresForTests
from holdfast.testing.providers import FakeGoogle
from holdfast.testing.providers.base import FakeRequest, Reply

from .api_server import api_parts
from .conftest import HubForTests, OpenHub, until_true
from .several_hubs import Shared

STATIC = 1503
NEVER_S = 3600.0


class Held(FakeGoogle):
    """Makes no cache before it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.may_make = asyncio.Event()

    async def handle(self, request: FakeRequest, method: str, reply: Reply) -> None:
        if request.path.endswith("/cachedContents") and method == "POST":
            await self.may_make.wait()
        await super().handle(request, method, reply)

    def let_make(self) -> None:
        self._loop.call_soon_threadsafe(self.may_make.set)

    def made(self) -> list[FakeRequest]:
        return [r for r in self.requests if r.path.endswith("/cachedContents")]

    def asked(self) -> list[FakeRequest]:
        return [r for r in self.requests if "enerateContent" in r.path and r.status == 200]


@pytest.fixture
def server() -> Iterator[Held]:
    with Held() as fake:
        yield fake


def models(server: FakeGoogle) -> str:
    alias = {
        "model": "google:gemini-3.8-flash",
        "base_url": server.url,
        "context_cache": {"ttl_s": 3600},
    }
    return json.dumps({"fast": alias})


@pytest.fixture
def hub_environ(hub_environ: dict[str, str], server: Held) -> dict[str, str]:
    return hub_environ | {
        "HOLDFAST_APPS": "caching_app",
        "HOLDFAST_RUNNERS": "2",
        "HOLDFAST_MODELS": models(server),
    }


@pytest.fixture(params=["sqlite", "postgresql"])
def on_both(
    request: pytest.FixtureRequest, hub_environ: dict[str, str]
) -> Iterator[dict[str, str]]:
    if request.param == "sqlite":
        yield hub_environ
        return
    postgres: PostgresForTests = request.getfixturevalue("postgres")
    url = postgres.migrated()
    hub_environ["HOLDFAST_DATABASE_URL"] = url
    yield hub_environ
    postgres.drop(url)


class Asks:
    """Counts what runners ask of a hub about caches."""

    def __init__(self, *hubs: HubForTests) -> None:
        self.count = 0
        for hub in hubs:
            caches: Any = hub.parts.hub.caches
            caches.answer = self._counting(caches.answer)

    def _counting(self, answer: Any) -> Any:
        async def counted(port: str, args: Any, running: Any) -> Any:
            self.count += port == "context_cache.ask"
            return await answer(port, args, running)

        return counted

    async def came(self, count: int) -> None:
        async def enough() -> bool:
            return self.count >= count

        await until_true(enough)


async def begin(hub: HubForTests, count: int, type: str = "test.parse") -> list[str]:
    return [await hub.submit(type, body=f"mail {at}") for at in range(count)]


async def all_ready(hub: HubForTests) -> None:
    async def ready() -> bool:
        return all(one.state is WorkerState.READY for one in hub.crew.workers)

    await until_true(ready)


async def all_succeed(hub: HubForTests, events: list[str]) -> None:
    assert {(await hub.ended(event)).status.value for event in events} == {"succeeded"}


async def test_two_runners_ask_and_one_makes_it(
    on_both: dict[str, str], open_hub: OpenHub, server: Held
) -> None:
    async with open_hub(runners=2) as hub:
        await all_ready(hub)
        asks = Asks(hub)
        events = await begin(hub, 12)
        await asks.came(2)  # each runner asks once for all its runs
        server.let_make()
        await all_succeed(hub, events)
        assert len(server.made()) == 1
        assert [r.tokens_cached for r in server.asked()] == [STATIC] * 12
        await all_succeed(hub, await begin(hub, 12))
        assert asks.count == 2, "what a runner was told it remembers"

        server.caches.clear()  # as the provider may at any time
        await all_succeed(hub, await begin(hub, 12))
        assert len(server.made()) == 2
        assert {r.tokens_cached for r in server.asked()} == {STATIC}
        assert asks.count >= 4, "both runners met the loss"


async def test_a_runner_that_dies_while_it_makes_leaves_it_to_the_next(
    open_hub: OpenHub, server: Held
) -> None:
    async with open_hub(runners=2) as hub:
        await all_ready(hub)
        asks = Asks(hub)
        events = await begin(hub, 4)
        await asks.came(2)
        await server.arrived(2)  # the count, and the making that hangs
        leases: Any = hub.parts.hub.caches._leases
        ((_, running),) = leases.values()
        (maker,) = [one for one in hub.crew.workers if running.id in one.in_flight]
        os.kill(maker.pid, signal.SIGKILL)

        async def another() -> bool:
            return len(server.made()) == 2

        await until_true(another)
        server.let_make()
        await all_succeed(hub, events)
        assert len(server.made()) == 2


@pytest.fixture
def shared(
    postgres: PostgresForTests, redis_url: str, server: Held, tmp_path: Path
) -> Iterator[Shared]:
    url = postgres.migrated()
    made = Shared(tmp_path, url, redis_url)
    made.environ |= {"HOLDFAST_APPS": "caching_app", "HOLDFAST_MODELS": models(server)}
    yield made
    postgres.drop(url)


@asynccontextmanager
async def two_hubs(shared: Shared) -> AsyncIterator[tuple[HubForTests, HubForTests]]:
    async with shared.hub("one") as one, shared.hub("two") as two:
        yield one, two


async def test_two_hubs_ask_and_one_makes_it(
    shared: Shared, server: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context_caches, "SWEEP_S", NEVER_S)  # by notice only
    async with two_hubs(shared) as (one, two):
        asks = [Asks(one), Asks(two)]
        events = await begin(one, 16)
        for hub in asks:
            await hub.came(1)
        server.let_make()
        await all_succeed(one, events)
        assert len(server.made()) == 1
        assert [r.tokens_cached for r in server.asked()] == [STATIC] * 16
        server.caches.clear()
        await all_succeed(one, await begin(one, 16))
        assert len(server.made()) == 2


async def test_what_is_kept_what_is_too_small_and_what_it_saved_is_told(
    on_both: dict[str, str], open_hub: OpenHub, server: Held
) -> None:
    server.let_make()
    async with open_hub(in_process=True) as hub, AsyncExitStack() as stack:
        transport = InProcessTransport(create_api(api_parts(hub.parts)))
        client = await stack.enter_async_context(Client(transport=transport))
        await all_succeed(hub, await begin(hub, 10))
        await all_succeed(hub, await begin(hub, 3, "test.small"))
        kept, small = (await client.context_caches())["items"]
        assert (kept["prompt"], kept["status"], kept["tokens"]) == (
            "test.parse:parse",
            "ready",
            STATIC,
        )
        assert (small["prompt"], small["status"], small["reason"]) == (
            "test.small:parse",
            "refused",
            "1,000 tokens, not cacheable below 1,024",
        )
        saved = await client.cache_savings()
        (line,) = saved["items"]
        assert (line["prompt"], line["pipeline"]) == ("test.parse:parse", "test.parse")
        assert (line["hits"], line["tokens_read"]) == (10, 10 * STATIC)
        assert line["tokens_read"] == sum(r.tokens_cached for r in server.asked())
        # From the list of prices: what a token read costs less than a plain one.
        whole, read = (
            genai_prices.calc_price(
                genai_prices.Usage(input_tokens=STATIC, cache_read_tokens=cached),
                model_ref="gemini-3.8-flash",
                provider_id="google",
            ).total_price
            for cached in (0, STATIC)
        )
        assert Decimal(line["saved_usd"]) == 10 * (whole - read)
        # A dollar for a million tokens and hour; the cache lives for one.
        stored = Decimal(line["storage_usd"])
        assert Decimal("0.99") < stored * 10**6 / STATIC <= 1
        assert Decimal(line["net_usd"]) == Decimal(line["saved_usd"]) - stored
        assert line["unpriced"] == 0
        assert saved["total"]["net_usd"] == line["net_usd"]
        tomorrow = date.fromisoformat(line["day"]) + timedelta(days=1)
        assert (await client.cache_savings(since=tomorrow))["items"] == []

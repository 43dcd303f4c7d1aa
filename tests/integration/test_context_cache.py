"""Static beginnings kept by their providers: what is billed in full is what changes."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from pydantic import BaseModel

from holdfast.domain.ids import new_id, now_us
from holdfast.engine import Engine
from holdfast.engine.threads import ExecutionThreads
from holdfast.errors import PortError
from holdfast.llm.factory import Models
from holdfast.llm.wrappers.context_cache import ContextCacheChatModel
from holdfast.pipelines.pipeline import Pipeline
from holdfast.pipelines.registry import Registry
from holdfast.ports import ModelConfig, RunSpec
from holdfast.testing.ports import MemoryContextCache, MemorySink, memory_ports
from holdfast.testing.providers import FakeAnthropic, FakeGoogle, FakeOllama, FakeOpenAI

CALLS = 200
STATIC = 1500  # tokens of the system prompt, as each fake counts them
DYNAMIC = 200


class Mail(BaseModel):
    body: str


class Verdict(BaseModel):
    spam: float


def words(count, seed=0):
    return " ".join(f"w{(at * 7919 + seed) % 9973:04d}" for at in range(count))


WAYS = {
    "anthropic": (FakeAnthropic, "claude-sonnet-5-5", {}, STATIC),
    "openai": (FakeOpenAI, "gpt-4.1-mini", {"context_cache": True}, STATIC - 3),
    "openai, marked": (FakeOpenAI, "gpt-6-luna", {"context_cache": True}, STATIC - 3),
    "ollama": (FakeOllama, "llama3.2", {}, STATIC - 3),
}


class Parser:
    """A pipeline whose one prompt has a long static part, and the server it asks."""

    def __init__(self, server, config, static, *, answer=None, port=None):
        self.server = server
        self.sink = MemorySink()
        self.port = port or MemoryContextCache()
        self.models = Models({"fast": config}, context_cache=self.port)
        pipeline = Pipeline("mail.parse", version="1", event=Mail)
        pipeline.start(
            pipeline.model(
                "parse", system=static, prompt="{{ event.body }}", alias="fast", answer=answer
            )
        )
        self.engine = Engine(
            registry=Registry([pipeline]),
            models=self.models,
            sink=self.sink,
            ports=memory_ports(),
            threads=ExecutionThreads(2),
            on_end=lambda execution_id: None,
            on_abandoned=lambda execution_id: None,
        )
        self.runs = []

    def start(self, body):
        execution_id = new_id()
        self.runs.append(execution_id)
        self.engine.start(
            RunSpec(
                execution_id=execution_id,
                event_id=f"event of {execution_id}",
                owner_id="local",
                kind="pipeline",
                name="mail.parse",
                version="1",
                data=orjson.dumps({"body": body}),
                delivery=1,
            )
        )

    async def ask(self, body):
        self.start(body)
        await self.engine.drain()
        return self.server.requests[-1]

    def attempts(self):
        return [one for run in self.runs for one in self.sink.record(run).attempts]


@asynccontextmanager
async def parser(fake, model, static, **fields):
    options = {name: fields.pop(name) for name in ("answer", "port") if name in fields}
    server_options = fields.pop("server", {})
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(fake(**server_options))
        provider = fake.__name__.removeprefix("Fake").lower()
        config = ModelConfig(
            alias="fast", provider=provider, model=model, base_url=server.url, **fields
        )
        made = Parser(server, config, static, **options)
        stack.push_async_callback(made.models.aclose)
        yield made


def in_full(request):
    return request.tokens_input - request.tokens_cached - request.tokens_cache_write


@pytest.mark.parametrize("way", WAYS)
async def test_only_what_changes_is_billed_in_full(way):
    fake, model, fields, size = WAYS[way]
    async with parser(fake, model, words(size), **fields) as mail:
        for at in range(2):  # by then it is kept
            await mail.ask(words(DYNAMIC - 3, seed=at + 1))
        for at in range(CALLS):
            mail.start(words(DYNAMIC - 3, seed=at + 3))
            if at % 25 == 24:
                await mail.engine.drain()
        requests = mail.server.requests
        assert {request.tokens_input for request in requests} == {STATIC + DYNAMIC}
        kept = {"openai": 1408, "ollama": 0}.get(way, STATIC)  # 11 steps of 128
        assert [in_full(r) for r in requests[2:]] == [STATIC + DYNAMIC - kept] * CALLS
        assert {r.tokens_cache_write for r in requests[2:]} == {0}, "kept once, not again"
        recorded = mail.attempts()
        assert [a.tokens_cached or 0 for a in recorded] == [r.tokens_cached for r in requests]
        assert sum(a.tokens_cache_write or 0 for a in recorded) == sum(
            r.tokens_cache_write for r in requests
        )


async def test_a_beginning_that_is_used_once_costs_nothing_more():
    async with parser(FakeAnthropic, "claude-sonnet-5-5", words(STATIC)) as mail:
        first, second, third = [await mail.ask(f"mail {at}") for at in range(3)]
        assert "cache_control" not in orjson.dumps(first.body).decode()
        assert (first.tokens_cache_write, second.tokens_cache_write) == (0, STATIC)
        assert third.tokens_cached == STATIC


async def test_it_is_marked_at_once_where_the_alias_says_so():
    fields = {"context_cache": True, "cache_ttl_s": 3600}
    async with parser(FakeAnthropic, "claude-sonnet-5-5", words(STATIC), **fields) as mail:
        first = await mail.ask("one")
        assert first.tokens_cache_write_1h == STATIC
        assert (await mail.ask("two")).tokens_cached == STATIC


async def test_a_marked_prompt_costs_openai_no_write_until_it_is_used_again():
    static = words(STATIC - 3)
    async with parser(FakeOpenAI, "gpt-6.1-sol", static, context_cache=None) as mail:
        # Another vendor's server may not know the fields; and left alone it writes each prompt.
        request = await mail.ask(words(DYNAMIC))
        assert "prompt_cache_key" not in request.body
        assert request.tokens_cache_write == request.tokens_input
    async with parser(FakeOpenAI, "gpt-6.1-sol", static, context_cache=True) as mail:
        request = await mail.ask(words(DYNAMIC))
        assert request.body["prompt_cache_options"] == {"mode": "explicit"}
        assert (request.tokens_cache_write, request.tokens_cached) == (STATIC, 0)
        assert (await mail.ask(words(DYNAMIC, seed=5))).tokens_cached == STATIC


@pytest.mark.parametrize("way", ["anthropic", "openai", "openai, marked"])
async def test_one_that_is_too_small_is_reported(way):
    fake, model, fields, _ = WAYS[way]
    size = 1000 if way == "anthropic" else 997
    async with parser(fake, model, words(size), **fields) as mail:
        for at in range(3):
            await mail.ask(words(DYNAMIC, seed=at))
        assert {request.tokens_cached for request in mail.server.requests} == {0}
        (cache,) = mail.port.caches.values()
        assert (cache.prompt, cache.status, cache.minimum) == ("mail.parse:parse", "refused", 1024)
        assert abs(cache.tokens - 1000) <= 10
        assert cache.reason == f"about {cache.tokens:,} tokens, not cacheable below 1,024"


async def test_off_means_that_nothing_is_marked():
    options = {"context_cache": False}
    async with parser(FakeAnthropic, "claude-sonnet-5-5", words(STATIC), **options) as mail:
        for at in range(3):
            assert "cache_control" not in orjson.dumps((await mail.ask(f"{at}")).body).decode()


@pytest.mark.parametrize("way", WAYS)
async def test_the_mark_is_nobodys_business_outside(way):
    fake, model, fields, size = WAYS[way]
    async with parser(fake, model, words(size), **fields) as mail:
        for at in range(3):
            assert "holdfast_mark" not in orjson.dumps((await mail.ask(f"{at}")).body).decode()
        for attempt in mail.attempts():
            assert attempt.status == "succeeded"
            assert "holdfast" not in orjson.dumps(attempt.parameters).decode()
            record = mail.sink.record(mail.runs[0])
            assert record.text(attempt.prompt_system) == words(size), "as it was written"


def creations(server):
    return [r for r in server.requests if r.path.endswith("/cachedContents") and r.status == 200]


def asked(server):
    return [r for r in server.requests if "enerateContent" in r.path]


GEMINI = {"context_cache": True, "cache_ttl_s": 3600}


async def test_gemini_bills_in_full_only_what_changes():
    async with parser(FakeGoogle, "gemini-3.8-flash", words(STATIC - 3), **GEMINI) as mail:
        for at in range(CALLS):
            mail.start(words(DYNAMIC - 3, seed=at + 1))
            if at % 25 == 24:
                await mail.engine.drain()
        assert len(creations(mail.server)) == 1
        requests = asked(mail.server)
        assert [in_full(r) for r in requests] == [DYNAMIC] * CALLS
        assert {r.tokens_cached for r in requests} == {STATIC}
        assert not any("systemInstruction" in r.body for r in requests)
        assert [a.tokens_cached for a in mail.attempts()] == [STATIC] * CALLS


async def test_gemini_keeps_the_tools_with_the_prompt():
    from langchain_core.messages import HumanMessage, SystemMessage
    from langchain_core.tools import tool

    from holdfast.llm.calling import CallMark

    @tool
    def weather(town: str) -> str:
        """What the weather is like."""
        return town

    async with parser(FakeGoogle, "gemini-3.8-flash", "unused", **GEMINI) as mail:
        chat = mail.models.chat("fast")
        bound = chat.model.bind_tools([weather], tool_choice="any")
        options = chat.options(operation="ask", mark=CallMark("ask", 1, ttl_s=600))
        messages = [SystemMessage(words(STATIC)), HumanMessage("and in Bergen?")]
        for _ in range(2):
            await bound.ainvoke(messages, **options)
        (made,) = creations(mail.server)
        assert made.body["ttl"] == "600s", "the prompt's own, not the alias's"
        assert made.body["tools"][0]["functionDeclarations"][0]["name"] == "weather"
        assert made.body["toolConfig"]["functionCallingConfig"]["mode"] == "ANY"
        for request in asked(mail.server):
            assert request.body["cachedContent"] == "cachedContents/fake1"
            assert not {"systemInstruction", "tools", "toolConfig"} & request.body.keys()


async def test_gemini_below_the_minimum_is_not_cached_and_said_so():
    async with parser(FakeGoogle, "gemini-3.8-flash", words(997), **GEMINI) as mail:
        for at in range(3):
            request = await mail.ask(words(DYNAMIC, seed=at))
            assert request.tokens_cached == 0
            assert "systemInstruction" in request.body
        assert creations(mail.server) == []
        assert len(mail.server.requests) == 4, "counted once"
        (cache,) = mail.port.caches.values()
        assert (cache.status, cache.tokens, cache.minimum) == ("refused", 1000, 1024)
        assert cache.reason == "1,000 tokens, not cacheable below 1,024"


async def test_an_unknown_minimum_is_the_servers_word():
    server = {"cache_minimum": 5000}
    options = {**GEMINI, "server": server}
    async with parser(FakeGoogle, "gemma-9", words(STATIC), **options) as mail:
        for at in range(3):
            await mail.ask(f"{at}")
        assert {a.status for a in mail.attempts()} == {"succeeded"}
        (cache,) = mail.port.caches.values()
        assert (cache.status, cache.minimum) == ("refused", None)
        assert "400" in cache.reason
        assert sum(r.path.endswith("/cachedContents") for r in mail.server.requests) == 1


def assert_lost_calls_are_told(mail):
    """Each call that named a lost cache is a try of its own, which nobody pays for."""
    assert {a.status for a in mail.attempts()} == {"failed", "succeeded"}
    lost = [a for a in mail.attempts() if a.status == "failed"]
    assert {(a.usage, a.cost_pico) for a in lost} == {("unbilled", 0)}
    assert len(lost) == sum(r.status != 200 for r in asked(mail.server))


async def test_a_cache_that_the_provider_dropped_is_made_once_more():
    async with parser(FakeGoogle, "gemini-3.8-flash", words(STATIC), **GEMINI) as mail:
        await mail.ask("one")
        mail.server.caches.clear()
        for at in range(8):
            mail.start(f"mail {at}")
        await mail.engine.drain()
        assert len(creations(mail.server)) == 2
        assert_lost_calls_are_told(mail)
        assert [r.tokens_cached for r in asked(mail.server) if r.status == 200] == [STATIC + 3] * 9


async def test_a_provider_that_loses_every_cache_is_sent_the_whole_prompt():
    async with parser(FakeGoogle, "gemini-3.8-flash", words(STATIC), **GEMINI) as mail:

        class Nowhere(dict):
            def __setitem__(self, name, cache):
                pass

        mail.server.caches = Nowhere()
        request = await mail.ask("one")
        assert (request.status, request.tokens_cached) == (200, 0)
        assert len(creations(mail.server)) == 2
        assert_lost_calls_are_told(mail)


async def test_another_content_has_another_cache():
    port = MemoryContextCache()
    for static in (words(STATIC), words(STATIC, seed=1)):
        async with parser(FakeGoogle, "gemini-3.8-flash", static, port=port, **GEMINI) as mail:
            await mail.ask("one")
            await mail.ask("two")
            assert len(creations(mail.server)) == 1
    assert len(port.caches) == 2


async def test_a_provider_whose_caches_are_away_fails_no_run():
    async with parser(FakeGoogle, "gemini-3.8-flash", words(STATIC), **GEMINI) as mail:
        mail.server._make_cache = lambda request: 1 / 0
        request = await mail.ask("one")
        assert (request.status, request.tokens_cached) == (200, 0)
        (cache,) = mail.port.caches.values()
        assert cache.status == "refused"
        assert cache.until is not None


def strategy_of(mail):
    model = mail.models.chat("fast").model
    while not isinstance(model, ContextCacheChatModel):
        model = model.inner
    return model.strategy


class Clock:
    """Hours pass at once, for the provider, the hub and the runner alike."""

    def __init__(self):
        self.ahead_s = 0.0

    def wire(self, mail):
        mail.server.clock = lambda: datetime.now(UTC) + timedelta(seconds=self.ahead_s)
        strategy_of(mail)._clock = lambda: time.monotonic() + self.ahead_s

    def us(self):
        return now_us() + int(self.ahead_s * 1_000_000)


async def test_it_is_renewed_before_its_end_while_it_is_used():
    clock = Clock()
    port = MemoryContextCache(clock.us)
    options = {**GEMINI, "port": port}
    async with parser(FakeGoogle, "gemini-3.8-flash", words(STATIC), **options) as mail:
        clock.wire(mail)
        for at in range(1, 25):  # twelve hours with a cache that lives for one
            await mail.ask(f"mail {at}")
            await until_quiet(mail)
            clock.ahead_s = at * 1740  # 29 minutes, then nearly an hour after the making
        assert len(creations(mail.server)) == 1
        assert {r.tokens_cached for r in asked(mail.server)} == {STATIC + 3}
        renewals = [news for news in port.news[1:] if news.resource == "cachedContents/fake1"]
        assert len(renewals) >= 8
        clock.ahead_s += 3601  # nobody asks: it ends, and the next call makes another
        assert (await mail.ask("late")).tokens_cached == STATIC + 3
        assert len(creations(mail.server)) == 2


async def until_quiet(mail):
    """Wait for what the strategy does beside the calls."""
    strategy = strategy_of(mail)
    while strategy._tasks:
        await asyncio.wait(set(strategy._tasks))


class Silent(MemoryContextCache):
    """A hub that does not answer one of the questions."""

    def __init__(self, question):
        super().__init__()
        self.question = question

    async def ask(self, wanted):
        if self.question == "ask":
            raise PortError("the hub did not answer")
        return await super().ask(wanted)

    async def tell(self, wanted, news):
        if self.question == "tell":
            raise PortError("the hub did not answer")
        return await super().tell(wanted, news)


@pytest.mark.parametrize("question", ["ask", "tell"])
async def test_a_hub_that_does_not_answer_fails_no_run(question):
    options = {**GEMINI, "port": Silent(question)}
    async with parser(FakeGoogle, "gemini-3.8-flash", words(STATIC), **options) as mail:
        request = await mail.ask("one")
        assert (request.status, request.tokens_cached) == (200, 0)
        assert {a.status for a in mail.attempts()} == {"succeeded"}
        assert mail.server.caches == {}, "what nobody knows of is not left to cost"


async def test_a_hub_that_hears_nothing_stops_no_mark():
    options = {"context_cache": True, "port": Silent("tell")}
    async with parser(FakeAnthropic, "claude-sonnet-5-5", words(STATIC), **options) as mail:
        await mail.ask("one")
        assert (await mail.ask("two")).tokens_cached == STATIC

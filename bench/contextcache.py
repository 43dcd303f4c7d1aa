"""What keeping the static part of a prompt saves: 1,500 static and 200 changing tokens a call."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import HumanMessage, SystemMessage

from holdfast.domain.ids import now_us
from holdfast.llm.calling import CallMark
from holdfast.llm.factory import Models
from holdfast.llm.prices import Prices, storage_price
from holdfast.llm.usage import Usage
from holdfast.ports import ModelConfig
from holdfast.testing.ports import MemoryContextCache
from holdfast.testing.providers import FakeAnthropic, FakeGoogle, FakeOpenAI
from holdfast.testing.providers.base import FakeRequest, FakeServer

from .harness import Line

CALLS = 200
STATIC, DYNAMIC = 1500, 200  # tokens, as the fakes count
TTL_S = 3600
PICO = 10**12


@dataclass(frozen=True)
class Way:
    """One provider's way."""

    provider: str
    model: str
    fake: type[FakeServer]
    extra: int  # tokens that a system message costs beside its words
    on: dict[str, Any]
    by_itself: bool = False  # it keeps beginnings without being asked


WAYS = (
    Way("anthropic", "claude-sonnet-5-5", FakeAnthropic, 0, {}),
    Way("openai", "gpt-4.1-mini", FakeOpenAI, 3, {"context_cache": True}, by_itself=True),
    Way("openai", "gpt-6-luna", FakeOpenAI, 3, {"context_cache": True}),
    Way("google", "gemini-3.8-flash", FakeGoogle, 3, {"context_cache": True, "cache_ttl_s": TTL_S}),
)


async def measure() -> AsyncIterator[Line]:
    """Tokens billed in full and money, by the fakes' own logs, with and without."""
    for way in WAYS:
        without = await _asked(way, {"context_cache": False})
        kept = await _asked(way, way.on)
        name = f"{way.provider}:{way.model}, {STATIC:,} + {DYNAMIC} tokens"
        full = [sum(_in_full(one) for one in requests) / CALLS for requests in (kept, without)]
        yield Line(
            name=f"{name}: billed in full a call",
            value=full[0],
            against=full[1],
            ratio=full[0] / full[1],
            bar=None if way.by_itself else 0.2,
            unit="tokens",
            note=f"{CALLS} calls, the writing among them" + "; kept by itself" * way.by_itself,
        )
        money = [_dollars(way, requests) for requests in (kept, without)]
        stored = _stored(way, kept)
        yield Line(
            name=f"{name}: input of 1,000 calls",
            value=(money[0] + stored) / CALLS * 1000,
            against=money[1] / CALLS * 1000,
            ratio=(money[0] + stored) / money[1],
            bar=1.0,
            unit="USD",
            note=f"an hour's storage in it: {stored:.4f} USD for {CALLS} calls" if stored else "",
        )


async def _asked(way: Way, fields: dict[str, Any]) -> list[FakeRequest]:
    with way.fake() as server:
        config = ModelConfig(
            alias="fast", provider=way.provider, model=way.model, base_url=server.url, **fields
        )
        models = Models({"fast": config}, context_cache=MemoryContextCache())
        chat = models.chat("fast")
        static = SystemMessage(_words(STATIC - way.extra, 0))
        options = chat.options(operation="parse", mark=CallMark("bench:parse", 1))
        for at in range(CALLS):
            asked = HumanMessage(_words(DYNAMIC - 3, at + 1))
            await chat.model.ainvoke([static, asked], **options)
        await models.aclose()
        return list(server.requests)


def _words(count: int, seed: int) -> str:
    return " ".join(f"w{(at * 7919 + seed) % 9973:04d}" for at in range(count))


def _in_full(request: FakeRequest) -> int:
    """What was not read from a cache; what is written costs as much at least."""
    return request.tokens_input - request.tokens_cached


def _dollars(way: Way, requests: list[FakeRequest]) -> float:
    """The input's price; making a cache costs nothing but its storage."""
    prices, now, total = Prices(), now_us(), 0
    for request in requests:
        usage = Usage(
            tokens_input=request.tokens_input,
            tokens_cached=request.tokens_cached,
            tokens_cache_write=request.tokens_cache_write,
            tokens_output=0,
        )
        if request.tokens_input:
            total += prices.price(way.provider, way.model, usage, now).cost_pico or 0
    return total / PICO


def _stored(way: Way, requests: list[FakeRequest]) -> float:
    made = sum(r.tokens_cache_write for r in requests if not r.tokens_input)
    return made * (storage_price(way.provider, way.model) or 0) * TTL_S / 3600 / PICO

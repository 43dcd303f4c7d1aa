"""What all wrappers and recording add to one model call over HTTP."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import uvloop
from langchain_core.messages import HumanMessage

from holdfast.domain.breakers import Outcome
from holdfast.llm.factory import Models
from holdfast.llm.registry import provider_class
from holdfast.ports import Allowance, ModelConfig, Permit, running_execution
from holdfast.recording import Collector, RecordingHandler
from holdfast.testing.ports import MemoryCache

from .harness import Line, percentile

CALLS = 400
WARM_UP = 60
PIECES = 12

_TEXT = " ".join(f"word{n}" for n in range(60))


async def measure() -> AsyncIterator[Line]:
    """The alias's whole chain against the vendor's bare chat model, call by call in turn."""
    for what, streaming in (("a whole answer", False), (f"streamed in {PIECES} pieces", True)):
        # In a thread, for a runner's loop is another one.
        bare, ours = await asyncio.to_thread(uvloop.run, _both(streaming))
        added = [1000 * (b - a) for a, b in zip(bare, ours, strict=True)]
        yield Line(
            name=f"wrappers and recording add to a model call, {what}",
            value=median(added),
            unit="ms",
            bar=1.0,
            note=f"bare {1000 * median(bare):.2f} ms; p95 of what is added "
            f"{percentile(added, 0.95):.2f} ms; fake server in a process of its own",
        )


class _Dropped:
    """A sink that keeps nothing."""

    def change(self, execution_id: str, raw: bytes) -> None:
        """Drop a change."""

    def tokens(self, execution_id: str, step: int, text: str) -> None:
        """Drop a piece of text."""


class _Here:
    """Breakers and limits that let everything pass; in a runner closed breakers cost no frame."""

    async def allow(self, breaker: str) -> Permit:
        return Permit(breaker)

    def allow_in_thread(self, breaker: str) -> Permit:
        return Permit(breaker)

    def report(self, _permit: Permit, _outcome: Outcome, _reason: str = "") -> bool:
        return False

    async def take(self, *, name: str, **_: Any) -> Allowance:
        return Allowance(name, "x")

    def settle(self, allowance: Allowance, *, made: bool, tokens: int | None) -> None:
        """Count nothing."""


_SERVER = """
import sys
from holdfast.testing.providers import FakeAnswer, FakeOpenAI
text, size = sys.argv[1], int(sys.argv[2])
pieces = tuple(text[at : at + size] for at in range(0, len(text), size))
with FakeOpenAI([FakeAnswer(text=text, chunks=pieces)]) as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""


@contextmanager
def _server() -> Iterator[str]:
    """The URL of a fake in a process of its own: beside us it would share our interpreter."""
    size = -(-len(_TEXT) // PIECES)
    command = [sys.executable, "-c", _SERVER, _TEXT, str(size)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate()


async def _both(streaming: bool) -> tuple[list[float], list[float]]:
    """Seconds of each bare call, and of each of ours."""
    with _server() as url:
        config = ModelConfig(
            alias="fast",
            provider="openai",
            model="gpt-6-luna",
            base_url=url,
            parameters={"streaming": streaming},
            fallbacks=["other"],
            limits={"requests_per_minute": 10**9, "tokens_per_minute": 10**9, "in_flight": 99},
            retries=2,
            time_limit_s=60,
            response_cache_s=60,
        )
        other = ModelConfig(alias="other", provider="openai", model="x", base_url=url)
        here, cache = _Here(), MemoryCache()
        models = Models({"fast": config, "other": other}, here, limits=here, cache=cache)
        provider = provider_class("openai")()
        bare, ours = provider.make(config, None), models.chat("fast").model
        running_execution.set("x" * 36)
        collector = Collector("x" * 36, _Dropped())
        handler = RecordingHandler(collector)
        config_ours: Any = {"callbacks": [handler]}
        seconds: tuple[list[float], list[float]] = ([], [])
        for n in range(WARM_UP + CALLS):
            asked = [HumanMessage(f"{n}: {_TEXT}")]
            pair = (
                await _timed(bare.ainvoke(asked)),
                await _timed(ours.ainvoke(asked, config_ours)),
            )
            if n >= WARM_UP:
                seconds[0].append(pair[0])
                seconds[1].append(pair[1])
        await models.aclose()
        await provider.aclose()
    return seconds


async def _timed(work: Any) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began

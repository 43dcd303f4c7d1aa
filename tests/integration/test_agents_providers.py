"""A simple agent over the real clients of four vendors: windows, tools, a critic, a fallback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import orjson
import pytest
from tests.unit.agents.conftest import Agents, Remembered, agent, function, parts, said

from holdfast.domain.conversations import Speaker, Window
from holdfast.domain.status import ExecutionStatus
from holdfast.llm.factory import Models
from holdfast.ports import ModelConfig
from holdfast.testing.providers import FakeAnswer, FakeAnthropic, FakeGoogle, FakeOllama, FakeOpenAI

__all__ = ["parts"]

FAKES = {
    "anthropic": (FakeAnthropic, "claude-sonnet-5-5"),
    "google": (FakeGoogle, "gemini-3.8-flash"),
    "ollama": (FakeOllama, "llama3.2"),
    "openai": (FakeOpenAI, "gpt-6-luna"),
}

WINDOW = Window(
    summaries=[said(Speaker.SUMMARY, "They talked of parcels.")],
    messages=[
        said(Speaker.USER, "my name is Ann"),
        said(Speaker.ASSISTANT, "Hello Ann"),
        said(Speaker.USER, "this one was never answered"),
        said(Speaker.USER, "where are 17 and 18?"),
    ],
    facts=["the user is called Ann"],
)

BOTH = FakeAnswer(
    text="One moment.",
    tool_calls=(
        {"name": "look_up", "args": {"parcel": "17"}},
        {"name": "look_up", "args": {"parcel": "18"}},
    ),
)


@pytest.fixture
def servers() -> Iterator[Any]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(fake()) for name, (fake, _) in FAKES.items()}


def model(servers: Any, alias: str, provider: str, **fields: Any) -> ModelConfig:
    url = servers[provider].url
    name = FAKES[provider][1]
    return ModelConfig(alias=alias, provider=provider, model=name, base_url=url, **fields)


def desk(parts: Any, models: dict[str, ModelConfig], **settings: Any) -> Agents:
    def look_up(parcel: str) -> str:
        """Where a parcel is."""
        return f"parcel {parcel} is on its way"

    parts.look_up = look_up
    given = {"model": "fast", "system_prompt": "You help.", "tools": [function("look_up")]}
    config = {"simple": {"settings": {**given, **settings}}}
    agents = Agents(agent(config), memory=Remembered(WINDOW))
    agents.engine._models = Models(models)
    return agents


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("vendor", FAKES)
async def test_a_turn_with_two_calls(
    servers: Any, parts: Any, vendor: str, streaming: bool
) -> None:
    servers[vendor].answer([BOTH, FakeAnswer(text="Both are on their way.")])
    models = {"fast": model(servers, "fast", vendor, parameters={"streaming": streaming})}
    agents = desk(parts, models)
    record = await agents.say("where are 17 and 18?")
    assert record.finished.status == ExecutionStatus.SUCCEEDED, record.finished.error
    assert record.output["response"] == "Both are on their way."
    first, second = servers[vendor].requests
    asked, told = (orjson.dumps(one.body).decode() for one in (first, second))
    for text in ("You help.", "They talked of parcels.", "called Ann", "never answered"):
        assert text in asked
    assert "look_up" in asked
    assert "parcel 17 is on its way" in told
    assert "parcel 18 is on its way" in told
    billed = [(one.tokens_input, one.tokens_output) for one in servers[vendor].requests]
    assert [(one.tokens_input, one.tokens_output) for one in record.attempts] == billed
    await agents.engine._models.aclose()


@pytest.mark.parametrize("vendor", FAKES)
async def test_a_critic_gives_its_verdict(servers: Any, parts: Any, vendor: str) -> None:
    verdict = FakeAnswer(text='{"verdict": "revise", "remarks": ["shorter"]}')
    servers[vendor].answer([FakeAnswer(text="long"), verdict, FakeAnswer(text="short")])
    agents = desk(parts, {"fast": model(servers, "fast", vendor)}, critique={})
    record = await agents.say()
    assert record.finished.status == ExecutionStatus.SUCCEEDED, record.finished.error
    assert record.output["response"] == "short"
    await agents.engine._models.aclose()


async def test_another_vendor_stands_in_with_the_tools_in_its_own_words(
    servers: Any, parts: Any
) -> None:
    servers["openai"].answer([FakeAnswer(status=503)])
    servers["anthropic"].answer([BOTH, FakeAnswer(text="Both are on their way.")])
    models = {
        "fast": model(servers, "fast", "openai", fallbacks=("other",)),
        "other": model(servers, "other", "anthropic"),
    }
    agents = desk(parts, models)
    record = await agents.say()
    assert record.output["response"] == "Both are on their way."
    tries = [(one.provider, str(one.status)) for one in record.attempts]
    assert tries == [("openai", "failed"), ("anthropic", "succeeded")] * 2
    await agents.engine._models.aclose()

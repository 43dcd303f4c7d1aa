"""The breaker around a chat model: the same model for everybody else, and every end is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import HumanMessage

from holdfast.domain.breakers import Outcome
from holdfast.errors import BreakerOpen
from holdfast.llm.calls import cut_off_calls
from holdfast.llm.factory import Models
from holdfast.ports import ModelConfig, Permit
from holdfast.testing.providers import FakeAnswer, FakeOpenAI

ASK = [HumanMessage("hello")]


class Noted:
    """A `BreakersPort` that notes what it is asked and told."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.ended: list[Outcome] = []
        self.reasons: list[str] = []
        self.refuse = False
        self.now_open = False

    async def allow(self, breaker: str) -> Permit:
        return self.allow_in_thread(breaker)

    def allow_in_thread(self, breaker: str) -> Permit:
        if self.refuse:
            raise BreakerOpen(f"{breaker} is open", breaker=breaker)
        self.asked.append(breaker)
        return Permit(breaker)

    def report(self, permit: Permit, outcome: Outcome, reason: str = "") -> bool:
        self.ended.append(outcome)
        self.reasons.append(reason)
        return self.now_open


class Callbacks(BaseCallbackHandler):
    """What a recorder sees of a call."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []

    def on_chat_model_start(self, serialized, messages, *, metadata=None, **kwargs) -> None:
        params = kwargs["invocation_params"]
        ls = {name: value for name, value in (metadata or {}).items() if name.startswith("ls_")}
        self.seen.append(("start", (serialized["id"], params, ls)))

    def on_llm_new_token(self, token, **kwargs) -> None:
        self.seen.append(("token", token))

    def on_llm_end(self, response, **kwargs) -> None:
        message = response.generations[0][0].message
        meta = {k: v for k, v in message.response_metadata.items() if k not in ("id", "headers")}
        self.seen.append(("end", (message.text, message.usage_metadata, sorted(meta))))

    def on_llm_error(self, error, **kwargs) -> None:
        self.seen.append(("error", type(error).__name__))


@pytest.fixture
async def provider() -> AsyncIterator[FakeOpenAI]:
    async with FakeOpenAI(["one two three"]) as server:
        yield server


@pytest.fixture
def breakers() -> Noted:
    return Noted()


@pytest.fixture
async def models(provider: FakeOpenAI, breakers: Noted) -> AsyncIterator[Models]:
    made = Models(configs(provider), breakers)
    yield made
    await made.aclose()


def configs(provider: FakeOpenAI, **parameters: Any) -> dict[str, ModelConfig]:
    return {
        "fast": ModelConfig(
            alias="fast",
            provider="openai",
            model="org/fake model",
            base_url=provider.url,
            parameters={"temperature": 0.25, **parameters},
        ),
        "rules": ModelConfig(alias="rules", provider="scripted", model="rules"),
    }


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_recorder_sees_the_same_with_and_without(
    provider: FakeOpenAI, breakers: Noted, streaming: bool
) -> None:
    seen = []
    for guard in (None, breakers):
        models = Models(configs(provider, streaming=streaming), guard)
        callbacks = Callbacks()
        chat = models.chat("fast")
        answer = await chat.model.ainvoke(
            ASK, {"callbacks": [callbacks]}, **chat.options(operation="x")
        )
        assert answer.text == "one two three"
        seen.append(callbacks.seen)
        await models.aclose()
    assert seen[0] == seen[1]
    assert [kind for kind, _ in seen[0]].count("start") == 1
    assert ("token" in {kind for kind, _ in seen[0]}) is streaming
    assert breakers.ended == [Outcome.OK]
    bodies = [request.body for request in provider.requests]
    assert bodies[0] == bodies[1]


async def test_its_name_says_provider_server_and_model(
    models: Models, breakers: Noted, provider: FakeOpenAI
) -> None:
    await models.chat("fast").model.ainvoke(ASK)
    server = provider.origin.removeprefix("http://")
    assert breakers.asked == [f"openai@{server}/org/fake_model"]


def test_openais_own_server_has_a_name_too() -> None:
    from holdfast.llm.openai import OpenAIProvider

    config = ModelConfig(alias="a", provider="openai", model="gpt-4.1")
    assert OpenAIProvider().breaker(config) == "openai@api.openai.com/gpt-4.1"


async def test_what_calls_no_server_has_none(models: Models, breakers: Noted) -> None:
    chat = models.chat("rules", script=lambda _: "by rule")
    assert (await chat.model.ainvoke(ASK)).text == "by rule"
    assert breakers.asked == []


@pytest.mark.parametrize("how", ["ainvoke", "invoke", "astream", "stream"])
async def test_every_way_to_call_is_asked_for_and_told(
    models: Models, breakers: Noted, how: str, provider: FakeOpenAI
) -> None:
    model = models.chat("fast").model

    async def call() -> str:
        if how == "ainvoke":
            return str((await model.ainvoke(ASK)).text)
        if how == "invoke":
            return str((await asyncio.to_thread(model.invoke, ASK)).text)
        if how == "astream":
            return "".join([str(piece.text) async for piece in model.astream(ASK)])
        return "".join(
            str(p.text) for p in await asyncio.to_thread(lambda: list(model.stream(ASK)))
        )

    assert await call() == "one two three"
    provider.answer([FakeAnswer(status=503)])
    with pytest.raises(Exception, match="503"):
        await call()
    assert breakers.ended == [Outcome.OK, Outcome.TEMPORARY]
    breakers.refuse = True
    with pytest.raises(BreakerOpen):
        await call()
    assert len(provider.requests) == 2


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (FakeAnswer(status=500), Outcome.TEMPORARY),
        (FakeAnswer(status=408), Outcome.TEMPORARY),
        (FakeAnswer(status=429), Outcome.RATE_LIMIT),
        (FakeAnswer(status=429, error_code="insufficient_quota"), Outcome.OK),
        (FakeAnswer(status=400), Outcome.OK),
        (FakeAnswer(status=401), Outcome.OK),
        (FakeAnswer(text="one two", cut_after=1), Outcome.TEMPORARY),
        (FakeAnswer(text="one two", close_after=1), Outcome.TEMPORARY),
    ],
)
async def test_what_an_end_means(
    models: Models, breakers: Noted, provider: FakeOpenAI, answer: FakeAnswer, outcome: Outcome
) -> None:
    provider.answer([answer])
    with pytest.raises(Exception) as raised:  # noqa: PT011 - each its own
        await models.chat("fast").model.ainvoke(ASK)
    assert breakers.ended == [outcome]
    assert type(raised.value).__name__ in breakers.reasons[0]


async def test_a_failure_that_finds_it_open_says_so_with_its_cause(
    models: Models, breakers: Noted, provider: FakeOpenAI
) -> None:
    breakers.now_open = True
    provider.answer([FakeAnswer(status=500), FakeAnswer(status=400)])
    with pytest.raises(BreakerOpen, match="500") as raised:
        await models.chat("fast").model.ainvoke(ASK)
    assert raised.value.__cause__ is not None
    with pytest.raises(Exception, match="400") as refused:
        await models.chat("fast").model.ainvoke(ASK)
    assert not isinstance(refused.value, BreakerOpen), "an open breaker is not its reason"


@pytest.mark.parametrize("timed_out", [None, False, True])
async def test_a_cancelled_call_counts_only_when_it_took_too_long(
    models: Models, breakers: Noted, provider: FakeOpenAI, timed_out: bool | None
) -> None:
    provider.answer([FakeAnswer(text="never", hold_after=0)])
    call = asyncio.ensure_future(_cut(models, timed_out))
    await provider.arrived(1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert breakers.ended == [Outcome.TEMPORARY if timed_out else Outcome.NONE]


async def _cut(models: Models, timed_out: bool | None) -> None:
    if timed_out is None:
        await models.chat("fast").model.ainvoke(ASK)
        return
    with cut_off_calls() as cut:
        cut.timed_out = timed_out
        await models.chat("fast").model.ainvoke(ASK)


async def test_a_stream_that_nobody_reads_on_says_nothing(models: Models, breakers: Noted) -> None:
    stream = models.chat("fast").model.astream(ASK)
    await anext(stream)
    await stream.aclose()
    assert breakers.ended == [Outcome.NONE]


async def test_tools_are_bound_to_the_guarded_model(
    models: Models, breakers: Noted, provider: FakeOpenAI
) -> None:
    def look_up(name: str) -> str:
        """Look somebody up."""
        return name

    await models.chat("fast").model.bind_tools([look_up]).ainvoke(ASK)
    assert breakers.ended == [Outcome.OK]
    assert provider.requests[0].body["tools"][0]["function"]["name"] == "look_up"

"""The real Google client against a fake server: what is recorded is what was billed."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from google import genai
from google.genai.errors import ClientError
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.tools import tool
from pydantic import BaseModel, Field

from holdfast.errors import ModelError
from holdfast.llm.factory import Models
from holdfast.llm.failures import classify
from holdfast.llm.usage import answer_facts, usage_of
from holdfast.ports import ModelConfig
from holdfast.testing.providers import FakeAnswer, FakeGoogle

LONG = "The parcel was sent yesterday and will reach you on Friday."


class Verdict(BaseModel):
    spam: float = Field(ge=0, le=1)
    reasons: list[str] = []


@tool
def look_up(parcel: str) -> str:
    """Where a parcel is."""
    return parcel


@pytest.fixture(scope="module")
def running():
    with FakeGoogle(cache_minimum=10) as server:
        yield server


@pytest.fixture
async def fake(running):
    running.requests.clear()
    running.caches.clear()
    running.answer(())
    return running


@pytest.fixture
async def chat(fake):
    """Makes handles for the fake server; closes their connections."""
    opened = []

    def make(**changes):
        fields = {
            "alias": "fast",
            "provider": "google",
            "model": "gemini-2.5-flash",
            "base_url": fake.url,
            **changes,
        }
        models = Models({"fast": ModelConfig(**fields)})
        opened.append(models)
        return models.chat("fast")

    yield make
    for models in opened:
        await models.aclose()


def asked(request):
    return request.body["contents"][0]["parts"][0]["text"]


def assert_billed(usage, request):
    assert usage.usage == "reported"
    assert (usage.tokens_input, usage.tokens_output) == (
        request.tokens_input,
        request.tokens_output,
    )
    assert (usage.tokens_cached or 0) == request.tokens_cached
    assert (usage.tokens_reasoning or 0) == request.tokens_reasoning


@pytest.mark.parametrize("streaming", [True, False])
async def test_tokens_recorded_are_tokens_billed(fake, chat, streaming):
    fake.answer([FakeAnswer(text=LONG, tokens_cached=4, tokens_reasoning=9)])
    answer = await chat(parameters={"streaming": streaming}).model.ainvoke("Where is my parcel?")
    assert answer.text == LONG
    request = fake.requests[0]
    assert ("stream" in request.path) is streaming
    assert_billed(usage_of(answer), request)
    facts = answer_facts(answer)
    assert (facts.finish_reason, facts.model) == ("STOP", "gemini-2.5-flash")


async def test_a_list_of_blocks_is_read_as_text_and_its_deltas_too(fake, chat):
    fake.answer([FakeAnswer(text=LONG, tokens_reasoning=5)])
    model = chat(model="gemini-3-flash-preview").model
    answer = await model.ainvoke("Where is it?")
    assert isinstance(answer.content, list)
    assert answer.text == LONG
    assert_billed(usage_of(answer), fake.requests[0])


async def test_what_is_cached_is_billed_as_cached(fake, chat):
    client = genai.Client(api_key="any", http_options={"base_url": fake.url})
    model = chat().model
    made = await client.aio.caches.create(
        model="gemini-2.5-flash",
        config={"system_instruction": "rule " * 40, "ttl": "300s"},
    )
    assert made.usage_metadata.total_token_count == 43
    answer = await model.ainvoke("What now?", cached_content=made.name)
    assert usage_of(answer).tokens_cached == 43
    assert_billed(usage_of(answer), fake.requests[-1])
    with pytest.raises(Exception, match="can not be used with") as caught:
        await model.ainvoke(
            [SystemMessage("Again."), HumanMessage("What?")], cached_content=made.name
        )
    assert classify(caught.value).error_class == "permanent"
    counted = await client.aio.models.count_tokens(model="gemini-2.5-flash", contents="a b")
    assert counted.total_tokens == 5
    await client.aio.aclose()
    client.close()


async def test_a_cache_has_a_least_size_and_an_end(fake, chat):
    client = genai.Client(api_key="any", http_options={"base_url": fake.url})
    caches = client.aio.caches
    with pytest.raises(ClientError, match="total_token_count=4, min_total_token_count=10"):
        await caches.create(model="gemini-2.5-flash", config={"system_instruction": "Brief."})
    now = datetime.now(UTC)
    fake.clock = lambda: now
    config = {"system_instruction": "rule " * 40, "ttl": "300s"}
    made = await caches.create(model="gemini-2.5-flash", config=config)
    now += timedelta(seconds=299)
    await caches.update(name=made.name, config={"ttl": "60s"})
    now += timedelta(seconds=59)
    assert (await caches.get(name=made.name)).expire_time == now + timedelta(seconds=1)
    now += timedelta(seconds=1)
    with pytest.raises(Exception, match="CachedContent not found") as caught:
        await chat().model.ainvoke("What now?", cached_content=made.name)
    assert classify(caught.value).http_status == 403
    again = await caches.create(model="gemini-2.5-flash", config=config)
    await caches.delete(name=again.name)
    assert not fake.caches
    await client.aio.aclose()
    client.close()


async def test_a_refused_prompt_has_a_reason(fake, chat):
    fake.answer([FakeAnswer(body=b'{"promptFeedback": {"blockReason": "SAFETY"}}')])
    answer = await chat(parameters={"streaming": False}).model.ainvoke("hi")
    assert answer_facts(answer).finish_reason == "SAFETY"
    assert usage_of(answer).usage == "unknown"


async def test_a_sync_caller_gets_the_same(fake, chat):
    fake.answer([FakeAnswer(text=LONG)])
    answer = await asyncio.to_thread(chat().model.invoke, "Where is my parcel?")
    assert answer.text == LONG
    assert_billed(usage_of(answer), fake.requests[0])


async def test_the_first_piece_comes_before_the_answer_is_done(fake, chat):
    fake.answer([FakeAnswer(text=LONG, hold_after=1)])
    pieces = chat().model.astream("Where is my parcel?")
    text = ""
    while not text:
        text += (await anext(pieces)).text
    assert text == "The"
    fake.release()
    assert text + "".join([piece.text async for piece in pieces]) == LONG


async def test_the_limit_is_always_sent(fake, chat):
    await chat().model.ainvoke("hi")
    parameters = {"max_tokens": 7, "temperature": 0.5, "stop": ["x"]}
    await chat(parameters=parameters).model.ainvoke("hi")
    first, second = (request.body["generationConfig"] for request in fake.requests)
    assert first["maxOutputTokens"] == 1024
    assert "temperature" not in first
    assert (second["maxOutputTokens"], second["temperature"]) == (7, 0.5)
    assert second["stopSequences"] == ["x"]


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_structured_answer_keeps_all_facts(fake, chat, streaming):
    fake.answer([FakeAnswer(text='{"spam": 0.5}', tokens_cached=3)])
    handle = chat(parameters={"streaming": streaming})
    model = handle.model.bind(**handle.options(operation="judge", schema=Verdict))
    answer = await model.ainvoke("Is this spam?")
    request = fake.requests[0]
    wanted = request.body["generationConfig"]
    assert wanted["responseMimeType"] == "application/json"
    assert wanted["responseJsonSchema"] == Verdict.model_json_schema()
    assert answer.text == '{"spam": 0.5}'
    assert_billed(usage_of(answer), request)


@pytest.mark.parametrize("streaming", [True, False])
async def test_all_tool_calls_of_a_turn(fake, chat, streaming):
    calls = ({"name": "look_up", "args": {"parcel": n}} for n in ("A 1", "B 2"))
    fake.answer([FakeAnswer(text="Let me look.", tool_calls=tuple(calls))])
    model = chat(parameters={"streaming": streaming}).model.bind_tools([look_up])
    answer = await model.ainvoke("Where are they?")
    assert [(c["name"], c["args"]["parcel"]) for c in answer.tool_calls] == [
        ("look_up", "A 1"),
        ("look_up", "B 2"),
    ]
    assert len({c["id"] for c in answer.tool_calls}) == 2
    assert answer.text == "Let me look."
    assert answer_facts(answer).finish_reason == "STOP"
    assert_billed(usage_of(answer), fake.requests[0])


async def test_usage_said_twice_counts_once(fake, chat):
    fake.answer([FakeAnswer(text=LONG, repetitive=True)])
    answer = await chat().model.ainvoke("Where is it?")
    assert_billed(usage_of(answer), fake.requests[0])
    assert answer_facts(answer).finish_reason == "STOP"


async def test_a_stream_without_usage_is_unknown(fake, chat):
    fake.answer([FakeAnswer(text=LONG, report_usage=False)])
    answer = await chat().model.ainvoke("Where is it?")
    assert answer.text == LONG
    usage = usage_of(answer)
    assert (usage.usage, usage.tokens_input, usage.tokens_output) == ("unknown", None, None)


@pytest.mark.parametrize(
    "broken",
    [
        {"cut_after": 2},
        {"close_after": 2},
        {"garble_after": 2},
        {"cut_after": 0},
        {"error_after": 2},
    ],
)
async def test_a_broken_stream_is_a_temporary_failure(fake, chat, broken):
    fake.answer([FakeAnswer(text=LONG, **broken)])
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the class is the client's business
        await chat().model.ainvoke("Where is it?")
    assert classify(caught.value).error_class == "temporary"
    assert len(fake.requests) == 1


@pytest.mark.parametrize("body", [b'{"type": "mess', b"<html>busy</html>"])
async def test_a_whole_answer_that_is_not_json(fake, chat, body):
    fake.answer([FakeAnswer(body=body)])
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the class is the client's business
        await chat(parameters={"streaming": False}).model.ainvoke("Where is it?")
    assert classify(caught.value).error_class == "temporary"
    assert len(fake.requests) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (429, "rate_limit"),
        (500, "temporary"),
        (503, "temporary"),
        (529, "temporary"),
        (401, "permanent"),
        (404, "permanent"),
        (400, "permanent"),
    ],
)
@pytest.mark.parametrize("streaming", [True, False])
async def test_errors_are_classified_and_nothing_is_retried(fake, chat, status, kind, streaming):
    fake.answer([FakeAnswer(status=status, headers={"retry-after": "2"})])
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the class is the client's business
        await chat(parameters={"streaming": streaming}).model.ainvoke("hi")
    failure = classify(caught.value)
    assert (failure.error_class, failure.http_status) == (kind, status)
    assert failure.retry_after_s == 2.0
    assert len(fake.requests) == 1


async def test_silence_is_a_timeout(fake, chat):
    fake.answer([FakeAnswer(text=LONG, latency_s=30)])
    async with asyncio.timeout(10):  # the alias's own timeout comes first
        with pytest.raises(Exception) as caught:  # noqa: PT011 - the class is the client's business
            await chat(parameters={"timeout_s": 0.5}).model.ainvoke("hi")
    assert classify(caught.value).error_class == "temporary"
    assert len(fake.requests) == 1


async def test_nobody_listens(chat):
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the class is the client's business
        await chat(base_url="http://127.0.0.1:1").model.ainvoke("hi")
    assert classify(caught.value).error_class == "temporary"


async def test_the_key_goes_where_it_belongs(fake, chat, monkeypatch):
    monkeypatch.setenv("GOOGLE_API_KEY", "key-of-the-environment")
    monkeypatch.setenv("GEMINI_API_KEY", "key-of-the-environment")
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    await chat(api_key="mine").model.ainvoke("hi")
    await chat().model.ainvoke("hi")
    assert [request.headers["x-goog-api-key"] for request in fake.requests] == ["mine", "none"]


async def test_a_fake_with_a_key_refuses_others(chat):
    async with FakeGoogle(api_key="right") as server:
        with pytest.raises(Exception) as caught:  # noqa: PT011 - the class is the client's business
            await chat(base_url=server.url, api_key="wrong").model.ainvoke("hi")
        assert classify(caught.value).http_status == 400
        right = chat(base_url=server.url, api_key="right")
        assert (await right.model.ainvoke("hi")).text == "This is a fake answer."


async def test_many_calls_at_once_keep_their_own_facts(fake, chat):
    fake.answer(lambda request: asked(request) + " indeed")
    model = chat().model
    questions = [f"question {i} " + "word " * i for i in range(20)]
    answers = await asyncio.gather(*(model.ainvoke(q) for q in questions))
    billed = {asked(request): request for request in fake.requests}
    for question, answer in zip(questions, answers, strict=True):
        assert answer.text.split() == [*question.split(), "indeed"]
        assert_billed(usage_of(answer), billed[question])


async def test_an_error_that_is_ours_names_the_model(fake, chat):
    fake.answer([FakeAnswer(text=LONG, close_after=3)])
    with pytest.raises(ModelError, match="stream of gemini-2.5-flash stopped before"):
        await chat().model.ainvoke("hi")

"""The real Ollama client against a fake server: what is recorded is what was billed."""

import asyncio

import pytest
from langchain_core.tools import tool
from ollama import AsyncClient
from pydantic import BaseModel, Field

from holdfast.errors import ModelError
from holdfast.llm.factory import Models
from holdfast.llm.failures import classify
from holdfast.llm.usage import answer_facts, usage_of
from holdfast.ports import ModelConfig
from holdfast.testing.providers import FakeAnswer, FakeOllama

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
    with FakeOllama() as server:
        yield server


@pytest.fixture
async def fake(running):
    running.requests.clear()
    running.answer(())
    return running


@pytest.fixture
async def chat(fake):
    """Makes handles for the fake server; closes their connections."""
    opened = []

    def make(**changes):
        fields = {
            "alias": "fast",
            "provider": "ollama",
            "model": "qwen3",
            "base_url": fake.url,
            **changes,
        }
        models = Models({"fast": ModelConfig(**fields)})
        opened.append(models)
        return models.chat("fast")

    yield make
    for models in opened:
        await models.aclose()


def assert_billed(usage, request):
    assert usage.usage == "reported"
    assert (usage.tokens_input, usage.tokens_output) == (
        request.tokens_input,
        request.tokens_output,
    )
    assert usage.tokens_cached is None  # Ollama says nothing of these
    assert usage.tokens_reasoning is None


@pytest.mark.parametrize("streaming", [True, False])
async def test_tokens_recorded_are_tokens_billed(fake, chat, streaming):
    fake.answer([FakeAnswer(text=LONG, tokens_cached=4, tokens_reasoning=9)])
    answer = await chat(parameters={"streaming": streaming}).model.ainvoke("Where is my parcel?")
    assert answer.text == LONG
    request = fake.requests[0]
    assert request.body.get("stream", False) is streaming
    assert_billed(usage_of(answer), request)
    facts = answer_facts(answer)
    assert (facts.request_id, facts.finish_reason, facts.model) == (None, "stop", "qwen3")


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
    parameters = {"max_tokens": 7, "temperature": 0.5, "stop": ["x"], "num_ctx": 8192}
    await chat(parameters=parameters).model.ainvoke("hi")
    first, second = (request.body["options"] for request in fake.requests)
    assert first == {"num_predict": 1024}
    assert second == {"num_predict": 7, "temperature": 0.5, "stop": ["x"], "num_ctx": 8192}


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_structured_answer_keeps_all_facts(fake, chat, streaming):
    fake.answer([FakeAnswer(text='{"spam": 0.5}', tokens_cached=3)])
    handle = chat(parameters={"streaming": streaming})
    model = handle.model.bind(**handle.options(operation="judge", schema=Verdict))
    answer = await model.ainvoke("Is this spam?")
    request = fake.requests[0]
    assert request.body["format"] == Verdict.model_json_schema()
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
    assert_billed(usage_of(answer), fake.requests[0])


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
        (402, "budget"),
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
    monkeypatch.setenv("OLLAMA_API_KEY", "key-of-the-environment")
    monkeypatch.setenv("OLLAMA_HOST", "http://127.0.0.1:1")
    await chat(api_key="mine").model.ainvoke("hi")
    await chat().model.ainvoke("hi")
    sent = [request.headers["authorization"] for request in fake.requests]
    assert sent == ["Bearer mine", "Bearer none"]


async def test_a_model_that_is_not_there(chat):
    async with FakeOllama(models=("qwen3",)) as server:
        with pytest.raises(Exception, match="model 'qwen4' not found") as caught:
            await chat(base_url=server.url, model="qwen4").model.ainvoke("hi")
        assert classify(caught.value).error_class == "permanent"
        assert (await chat(base_url=server.url).model.ainvoke("hi")).text


async def test_many_calls_at_once_keep_their_own_facts(fake, chat):
    fake.answer(lambda request: request.body["messages"][0]["content"] + " indeed")
    model = chat().model
    questions = [f"question {i} " + "word " * i for i in range(20)]
    answers = await asyncio.gather(*(model.ainvoke(q) for q in questions))
    billed = {r.body["messages"][0]["content"]: r for r in fake.requests}
    for question, answer in zip(questions, answers, strict=True):
        assert answer.text.split() == [*question.split(), "indeed"]
        assert_billed(usage_of(answer), billed[question])


async def test_an_error_that_is_ours_names_the_model(fake, chat):
    fake.answer([FakeAnswer(text=LONG, close_after=3)])
    with pytest.raises(ModelError, match="stream of qwen3 stopped before"):
        await chat().model.ainvoke("hi")


async def test_completions_are_served_too(fake):
    fake.answer([FakeAnswer(text=LONG)])
    client = AsyncClient(host=fake.url)
    answer = await client.generate(model="qwen3", prompt="Where is it?", system="Be brief.")
    pieces = await client.generate(model="qwen3", prompt="Where is it?", stream=True)
    assert "".join([piece.response async for piece in pieces]) == answer.response == LONG
    assert answer.prompt_eval_count == fake.requests[0].tokens_input == 11
    assert answer.eval_count == fake.requests[0].tokens_output
    await client.close()

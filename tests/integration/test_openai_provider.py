"""The real OpenAI client against a fake server: what is recorded is what was billed."""

import asyncio
import base64
import struct
import warnings

import pytest
from openai import AsyncOpenAI, RateLimitError
from pydantic import BaseModel

from holdfast.errors import ModelError
from holdfast.llm.factory import Models
from holdfast.llm.failures import classify
from holdfast.llm.usage import answer_facts, usage_of
from holdfast.ports import ModelConfig
from holdfast.testing.providers import FakeAnswer, FakeOpenAI

LONG = "The parcel was sent yesterday and will reach you on Friday."


class Verdict(BaseModel):
    spam: float


@pytest.fixture(scope="module")
def running():
    with FakeOpenAI() as server:
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
            "provider": "openai",
            "model": "gpt-6-luna",
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
    assert usage.tokens_cached == request.tokens_cached
    assert usage.tokens_reasoning == request.tokens_reasoning


@pytest.mark.parametrize("streaming", [True, False])
async def test_tokens_recorded_are_tokens_billed(fake, chat, streaming):
    fake.answer([FakeAnswer(text=LONG, tokens_cached=4, tokens_reasoning=9)])
    answer = await chat(parameters={"streaming": streaming}).model.ainvoke("Where is my parcel?")
    assert answer.text == LONG
    request = fake.requests[0]
    assert request.body.get("stream", False) is streaming
    assert_billed(usage_of(answer), request)
    facts = answer_facts(answer)
    assert (facts.request_id, facts.finish_reason) == (request.request_id, "stop")
    assert (facts.model, facts.provider) == ("gpt-6-luna", "openai")


async def test_a_sync_caller_gets_the_same(fake, chat):
    fake.answer([FakeAnswer(text=LONG)])
    answer = await asyncio.to_thread(chat().model.invoke, "Where is my parcel?")
    assert answer.text == LONG
    assert_billed(usage_of(answer), fake.requests[0])
    assert answer_facts(answer).request_id == fake.requests[0].request_id


async def test_the_first_piece_comes_before_the_answer_is_done(fake, chat):
    fake.answer([FakeAnswer(text=LONG, hold_after=1)])
    pieces = chat().model.astream("Where is my parcel?")
    first = await anext(pieces)
    assert first.text == "The"
    fake.release()
    assert first.text + "".join([piece.text async for piece in pieces]) == LONG


async def test_the_limit_is_always_sent_and_nothing_is_left_to_the_vendor(fake, chat):
    await chat().model.ainvoke("hi")
    await chat(model="qwen3", parameters={"max_tokens": 7, "temperature": 0.5}).model.ainvoke("hi")
    openais, theirs = (request.body for request in fake.requests)
    assert openais["max_completion_tokens"] == 1024
    assert openais["stream_options"] == {"include_usage": True}
    assert (theirs["max_tokens"], theirs["temperature"]) == (7, 0.5)
    assert "max_completion_tokens" not in theirs


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_structured_answer_keeps_all_facts(fake, chat, streaming):
    fake.answer([FakeAnswer(text='{"spam": 0.5}', tokens_cached=3)])
    handle = chat(parameters={"streaming": streaming, "extra_body": {"top_k": 5}})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = handle.model.bind(**handle.options(operation="judge", schema=Verdict))
        answer = await model.ainvoke("Is this spam?")
    request = fake.requests[0]
    assert request.body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "Verdict", "schema": Verdict.model_json_schema(), "strict": False},
    }
    assert request.body["top_k"] == 5
    assert answer.text == '{"spam": 0.5}'
    assert_billed(usage_of(answer), request)
    assert answer_facts(answer).request_id == request.request_id


async def test_a_structured_answer_cut_at_the_limit_is_still_billed(fake, chat):
    fake.answer([FakeAnswer(text='{"spam": ', finish_reason="length")])
    handle = chat()
    answer = await handle.model.bind(**handle.structured(Verdict)).ainvoke("Is this spam?")
    assert answer_facts(answer).finish_reason == "length"
    assert_billed(usage_of(answer), fake.requests[0])


async def test_running_totals_are_not_added_up(fake, chat):
    fake.answer([FakeAnswer(text=LONG, repetitive=True)])
    answer = await chat().model.ainvoke("Where is it?")
    assert_billed(usage_of(answer), fake.requests[0])
    facts = answer_facts(answer)
    assert (facts.finish_reason, facts.model) == ("stop", "gpt-6-luna")


@pytest.mark.parametrize("streaming", [True, False])
async def test_without_a_request_id_the_answers_own_id_is_kept(fake, chat, streaming):
    fake.answer([FakeAnswer(text=LONG, send_request_id=False)])
    answer = await chat(parameters={"streaming": streaming}).model.ainvoke("Where is it?")
    kept = answer_facts(answer).request_id
    assert kept == fake.requests[0].request_id.replace("req_", "chatcmpl-")


async def test_a_stream_without_usage_is_unknown(fake, chat):
    fake.answer([FakeAnswer(text=LONG, report_usage=False)])
    answer = await chat().model.ainvoke("Where is it?")
    assert answer.text == LONG
    usage = usage_of(answer)
    assert (usage.usage, usage.tokens_input, usage.tokens_output) == ("unknown", None, None)


@pytest.mark.parametrize(
    "broken", [{"cut_after": 2}, {"close_after": 2}, {"garble_after": 2}, {"cut_after": 0}]
)
async def test_a_broken_stream_is_a_temporary_failure(fake, chat, broken):
    fake.answer([FakeAnswer(text=LONG, **broken)])
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the class is the client's business
        await chat().model.ainvoke("Where is it?")
    assert classify(caught.value).error_class == "temporary"
    assert len(fake.requests) == 1


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (429, "rate_limit_exceeded", "rate_limit"),
        (429, "insufficient_quota", "budget"),
        (500, None, "temporary"),
        (503, None, "temporary"),
        (401, "invalid_api_key", "permanent"),
        (404, "model_not_found", "permanent"),
        (400, None, "permanent"),
    ],
)
async def test_errors_are_classified_and_nothing_is_retried(fake, chat, status, code, kind):
    fake.answer([FakeAnswer(status=status, error_code=code, headers={"retry-after": "2"})])
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the class is the client's business
        await chat().model.ainvoke("hi")
    failure = classify(caught.value)
    assert (failure.error_class, failure.http_status) == (kind, status)
    assert failure.request_id == fake.requests[0].request_id
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
        await chat(base_url="http://127.0.0.1:1/v1").model.ainvoke("hi")
    assert classify(caught.value).error_class == "temporary"


async def test_the_key_goes_where_it_belongs(fake, chat, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-environment")
    await chat(api_key="sk-mine").model.ainvoke("hi")
    await chat().model.ainvoke("hi")
    sent = [request.headers["authorization"] for request in fake.requests]
    assert sent == ["Bearer sk-mine", "Bearer none"]


async def test_answers_in_order_by_function_and_as_json(fake, chat):
    model = chat().model
    fake.answer(["one", {"two": 2}])
    assert [(await model.ainvoke("hi")).text for _ in range(3)] == ["one", '{"two":2}', '{"two":2}']
    fake.answer(lambda request: request.body["messages"][0]["content"].upper())
    assert (await model.ainvoke("echo")).text == "ECHO"


async def test_a_test_can_wait_for_a_request_and_let_it_hang(fake, chat):
    fake.answer([FakeAnswer(text=LONG, hold_after=0)])
    call = asyncio.create_task(chat().model.ainvoke("hi"))
    request = await fake.arrived(1)
    assert request.body["messages"][0]["content"] == "hi"
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_many_calls_at_once_keep_their_own_facts(fake, chat):
    fake.answer(lambda request: request.body["messages"][0]["content"] + " indeed")
    model = chat().model
    questions = [f"question {i} " + "word " * i for i in range(20)]
    answers = await asyncio.gather(*(model.ainvoke(q) for q in questions))
    billed = {request.request_id: request for request in fake.requests}
    for question, answer in zip(questions, answers, strict=True):
        assert answer.text.split() == [*question.split(), "indeed"]
        assert_billed(usage_of(answer), billed[answer_facts(answer).request_id])


async def test_a_fake_with_a_key_refuses_others(chat):
    async with FakeOpenAI(api_key="right") as server:
        with pytest.raises(Exception) as caught:  # noqa: PT011 - the class is the client's business
            await chat(base_url=server.url, api_key="wrong").model.ainvoke("hi")
        assert classify(caught.value).http_status == 401
        right = chat(base_url=server.url, api_key="right")
        assert (await right.model.ainvoke("hi")).text == "This is a fake answer."
        async with AsyncOpenAI(base_url=server.url, api_key="right") as client:
            listed = await client.models.list()
        assert [model.id for model in listed.data] == ["fake-model"]


async def test_an_error_that_is_ours_names_the_model(fake, chat):
    fake.answer([FakeAnswer(text=LONG, close_after=3)])
    with pytest.raises(ModelError, match="stream of gpt-6-luna stopped before"):
        await chat().model.ainvoke("hi")


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize(
    ("model", "path"), [("qwen3", "/v1/chat/completions"), ("gpt-6-luna", "/v1/responses")]
)
async def test_all_tool_calls_of_a_turn(fake, chat, streaming, model, path):
    calls = ({"name": "look_up", "args": {"parcel": n}} for n in ("A 1", "B 2"))
    fake.answer([FakeAnswer(text="Let me look.", tool_calls=tuple(calls))])
    tool = {"name": "look_up", "parameters": {"type": "object", "properties": {"parcel": {}}}}
    model = chat(model=model, parameters={"streaming": streaming}).model.bind_tools([tool])
    answer = await model.ainvoke("Where are they?")
    assert [(c["name"], c["args"]["parcel"]) for c in answer.tool_calls] == [
        ("look_up", "A 1"),
        ("look_up", "B 2"),
    ]
    assert answer.text == "Let me look."
    assert fake.requests[0].path == path
    assert_billed(usage_of(answer), fake.requests[0])


@pytest.mark.parametrize("finish", ["stop", "length"])
@pytest.mark.parametrize("streaming", [True, False])
async def test_responses_keep_their_facts(fake, chat, streaming, finish):
    said = FakeAnswer(text=LONG, tokens_cached=2, tokens_reasoning=5, finish_reason=finish)
    fake.answer([said])
    tool = {"name": "look_up", "parameters": {"type": "object", "properties": {}}}
    answer = await chat(parameters={"streaming": streaming}).model.bind_tools([tool]).ainvoke("Hm?")
    assert answer.text == LONG
    assert_billed(usage_of(answer), fake.requests[0])
    facts = answer_facts(answer)
    assert facts.request_id == fake.requests[0].request_id
    assert facts.finish_reason == {"stop": "completed", "length": "max_output_tokens"}[finish]
    assert facts.model == "gpt-6-luna"


@pytest.mark.parametrize(
    "broken", [{"cut_after": 2}, {"close_after": 2}, {"garble_after": 2}, {"error_after": 2}]
)
async def test_a_broken_stream_of_responses_is_a_temporary_failure(fake, chat, broken):
    fake.answer([FakeAnswer(text=LONG, **broken)])
    tool = {"name": "look_up", "parameters": {"type": "object", "properties": {}}}
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the class is the client's business
        await chat().model.bind_tools([tool]).ainvoke("Where is it?")
    assert fake.requests[0].path == "/v1/responses"
    assert classify(caught.value).error_class == "temporary"


@pytest.mark.parametrize("encoding", ["float", "base64"])
async def test_embeddings(fake, encoding):
    async with AsyncOpenAI(api_key="any", base_url=fake.url, max_retries=0) as client:
        made = await client.embeddings.create(
            model="text-embedding-3-small",
            input=["one two", "three", "one two"],
            dimensions=8,
            encoding_format=encoding,
        )
        vectors = [one.embedding for one in made.data]
        if encoding == "base64":
            packed = [base64.b64decode(vector) for vector in vectors]
            vectors = [list(struct.unpack("<8f", vector)) for vector in packed]
        assert vectors[0] == vectors[2] != vectors[1]
        assert sum(x * x for x in vectors[1]) == pytest.approx(1)
        assert made.usage.prompt_tokens == fake.requests[0].tokens_input == 5
        fake.answer([FakeAnswer(status=429)])
        with pytest.raises(RateLimitError):
            await client.embeddings.create(model="m", input="x")

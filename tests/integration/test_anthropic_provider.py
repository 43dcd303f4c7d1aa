"""The real Anthropic client against a fake server: what is recorded is what was billed."""

import asyncio

import pytest
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.tools import tool
from pydantic import BaseModel, Field

from holdfast.errors import ModelError
from holdfast.llm.factory import Models
from holdfast.llm.failures import classify
from holdfast.llm.usage import answer_facts, usage_of
from holdfast.ports import ModelConfig
from holdfast.testing.providers import FakeAnswer, FakeAnthropic

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
    with FakeAnthropic(cache_minimum=10) as server:
        yield server


@pytest.fixture
async def fake(running):
    running.requests.clear()
    running.forget()
    running.answer(())
    return running


@pytest.fixture
async def chat(fake):
    """Makes handles for the fake server; closes their connections."""
    opened = []

    def make(**changes):
        fields = {
            "alias": "fast",
            "provider": "anthropic",
            "model": "claude-sonnet-5-5",
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
    assert (usage.tokens_cached or 0) == request.tokens_cached
    assert (usage.tokens_cache_write or 0) == request.tokens_cache_write
    assert (usage.tokens_cache_write_1h or 0) == request.tokens_cache_write_1h
    assert (usage.tokens_reasoning or 0) == request.tokens_reasoning


@pytest.mark.parametrize("streaming", [True, False])
async def test_tokens_recorded_are_tokens_billed(fake, chat, streaming):
    fake.answer([FakeAnswer(text=LONG, tokens_cached=4, tokens_reasoning=9)])
    answer = await chat(parameters={"streaming": streaming}).model.ainvoke("Where is my parcel?")
    assert answer.text == LONG
    request = fake.requests[0]
    assert request.body.get("stream", False) is streaming
    assert_billed(usage_of(answer), request)
    facts = answer_facts(answer)
    assert (facts.request_id, facts.finish_reason) == (request.request_id, "end_turn")
    assert facts.model == "claude-sonnet-5-5"


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("ttl", ["5m", "1h"])
async def test_cache_writes_and_reads_by_lifetime(fake, chat, streaming, ttl):
    mark = {"type": "ephemeral", "ttl": ttl}
    static = {"type": "text", "text": "rule " * 40, "cache_control": mark}
    model = chat(parameters={"streaming": streaming}).model
    usages = []
    for question in ("What now?", "And now, at last?"):
        answer = await model.ainvoke([SystemMessage([static]), HumanMessage(question)])
        usages.append(usage_of(answer))
        assert_billed(usages[-1], fake.requests[-1])
    written, read = usages
    assert (written.tokens_cache_write, written.tokens_cached) == (40, 0)
    assert written.tokens_cache_write_1h == (40 if ttl == "1h" else 0)
    assert (read.tokens_cache_write, read.tokens_cached) == (0, 40)
    assert (written.tokens_input, read.tokens_input) == (45, 47)


async def test_a_cached_prefix_ends_with_its_lifetime(fake, chat):
    static = {"type": "text", "text": "rule " * 40, "cache_control": {"type": "ephemeral"}}
    messages = [SystemMessage([static]), HumanMessage("What now?")]
    now = 1000.0
    fake.clock = lambda: now
    model = chat().model
    await model.ainvoke(messages)
    now += 299
    await model.ainvoke(messages)
    now += 301
    await model.ainvoke(messages)
    assert [r.tokens_cached for r in fake.requests] == [0, 40, 0]


async def test_a_prefix_below_the_minimum_is_not_cached(fake, chat):
    static = {"type": "text", "text": "one two three", "cache_control": {"type": "ephemeral"}}
    for _ in range(2):
        answer = await chat().model.ainvoke([SystemMessage([static]), HumanMessage("Hm?")])
        assert_billed(usage_of(answer), fake.requests[-1])
    assert [r.tokens_cache_write for r in fake.requests] == [0, 0]


async def test_a_sync_caller_gets_the_same(fake, chat):
    fake.answer([FakeAnswer(text=LONG)])
    answer = await asyncio.to_thread(chat().model.invoke, "Where is my parcel?")
    assert answer.text == LONG
    assert_billed(usage_of(answer), fake.requests[0])
    assert answer_facts(answer).request_id == fake.requests[0].request_id


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
    await chat(model="claude-haiku-4-5", parameters=parameters).model.ainvoke("hi")
    first, second = (request.body for request in fake.requests)
    assert first["max_tokens"] == 1024
    assert "temperature" not in first
    assert (second["max_tokens"], second["temperature"]) == (7, 0.5)
    assert second["stop_sequences"] == ["x"]


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_structured_answer_keeps_all_facts(fake, chat, streaming):
    fake.answer([FakeAnswer(text='{"spam": 0.5}', tokens_cached=3)])
    handle = chat(parameters={"streaming": streaming})
    model = handle.model.bind(**handle.options(operation="judge", schema=Verdict))
    answer = await model.ainvoke("Is this spam?")
    request = fake.requests[0]
    wanted = request.body["output_config"]["format"]
    assert wanted["type"] == "json_schema"
    assert wanted["schema"]["required"] == ["spam"]
    assert wanted["schema"]["additionalProperties"] is False
    assert answer.text == '{"spam": 0.5}'
    assert_billed(usage_of(answer), request)
    assert answer_facts(answer).request_id == request.request_id


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
    assert answer_facts(answer).finish_reason == "tool_use"
    assert_billed(usage_of(answer), fake.requests[0])


async def test_usage_said_twice_counts_once(fake, chat):
    fake.answer([FakeAnswer(text=LONG, repetitive=True)])
    answer = await chat().model.ainvoke("Where is it?")
    assert_billed(usage_of(answer), fake.requests[0])
    assert answer_facts(answer).finish_reason == "end_turn"


@pytest.mark.parametrize("streaming", [True, False])
async def test_without_a_request_id_the_answers_own_id_is_kept(fake, chat, streaming):
    fake.answer([FakeAnswer(text=LONG, send_request_id=False)])
    answer = await chat(parameters={"streaming": streaming}).model.ainvoke("Where is it?")
    kept = answer_facts(answer).request_id
    assert kept == fake.requests[0].request_id.replace("req_", "msg_")


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
        {"error_after": 2, "error_code": "api_error"},
    ],
)
async def test_a_broken_stream_is_a_temporary_failure(fake, chat, broken):
    fake.answer([FakeAnswer(text=LONG, **broken)])
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the class is the client's business
        await chat().model.ainvoke("Where is it?")
    assert classify(caught.value).error_class == "temporary"
    assert len(fake.requests) == 1


async def test_a_rate_limit_told_inside_a_stream(fake, chat):
    fake.answer([FakeAnswer(text=LONG, error_after=1, error_code="rate_limit_error")])
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the class is the client's business
        await chat().model.ainvoke("Where is it?")
    assert classify(caught.value).error_class == "rate_limit"


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
        await chat(base_url="http://127.0.0.1:1").model.ainvoke("hi")
    assert classify(caught.value).error_class == "temporary"


async def test_the_key_goes_where_it_belongs(fake, chat, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-of-the-environment")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "token-of-the-environment")
    await chat(api_key="sk-mine").model.ainvoke("hi")
    await chat().model.ainvoke("hi")
    sent = [request.headers["authorization"] for request in fake.requests]
    assert sent == ["Bearer sk-mine", "Bearer none"]


async def test_a_fake_with_a_key_refuses_others(chat):
    async with FakeAnthropic(api_key="right") as server:
        with pytest.raises(Exception) as caught:  # noqa: PT011 - the class is the client's business
            await chat(base_url=server.url, api_key="wrong").model.ainvoke("hi")
        assert classify(caught.value).http_status == 401
        right = chat(base_url=server.url, api_key="right")
        assert (await right.model.ainvoke("hi")).text == "This is a fake answer."


async def test_many_calls_at_once_keep_their_own_facts(fake, chat):
    fake.answer(lambda request: request.body["messages"][0]["content"] + " indeed")
    model = chat().model
    questions = [f"question {i} " + "word " * i for i in range(20)]
    answers = await asyncio.gather(*(model.ainvoke(q) for q in questions))
    billed = {request.request_id: request for request in fake.requests}
    for question, answer in zip(questions, answers, strict=True):
        assert answer.text.split() == [*question.split(), "indeed"]
        assert_billed(usage_of(answer), billed[answer_facts(answer).request_id])


async def test_an_error_that_is_ours_names_the_model(fake, chat):
    fake.answer([FakeAnswer(text=LONG, close_after=3)])
    with pytest.raises(ModelError, match="stream of claude-sonnet-5-5 stopped before"):
        await chat().model.ainvoke("hi")

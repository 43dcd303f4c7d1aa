"""The scripted model: rules answer, every answer says so, and tokens are marked as guessed."""

from typing import Any

import orjson
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from pydantic import BaseModel

from holdfast.errors import ModelError
from holdfast.llm.scripted import (
    LABEL,
    ScriptedAnswer,
    ScriptedCall,
    ScriptedProvider,
    ScriptedRequest,
)
from holdfast.llm.usage import answer_facts, usage_of
from holdfast.ports import ModelConfig

CONFIG = ModelConfig(alias="fast", provider="scripted", model="rules")


def chat(script):
    return ScriptedProvider().make(CONFIG, script)


class Verdict(BaseModel):
    spam: float


async def test_the_rules_see_what_was_asked():
    seen = []

    def rules(request):
        seen.append(request)
        return "fine"

    model = chat(rules).bind(operation="judge", schema_name="V", json_schema={"type": "object"})
    await model.ainvoke(
        [
            SystemMessage("be kind"),
            SystemMessage("be brief"),
            HumanMessage("old"),
            AIMessage("…"),
            HumanMessage("new"),
        ]
    )
    request = seen[0]
    assert (request.operation, request.user) == ("judge", "new")
    assert request.system == "be kind\n\nbe brief"
    assert (request.schema_name, request.schema) == ("V", {"type": "object"})
    assert len(request.messages) == 5


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("plain", "plain"),
        ({"spam": 0.5}, '{"spam":0.5}'),
        (Verdict(spam=0.5), '{"spam":0.5}'),
        (ScriptedAnswer(text="own"), "own"),
        ("", ""),
    ],
)
async def test_what_rules_may_return(said, text):
    model = chat(lambda _: said)
    assert (await model.ainvoke("hi")).text == text
    assert model.invoke("hi").text == text


async def test_it_streams_and_the_pieces_are_the_answer():
    text = orjson.dumps({"long": "word " * 200}).decode()
    pieces = [chunk async for chunk in chat(lambda _: text).astream("hi")]
    texts = [piece.text for piece in pieces if piece.text]
    assert "".join(texts) == text
    assert len(texts) > 5


async def test_the_pieces_can_be_given():
    answer = ScriptedAnswer(text="abc", chunks=("a", "bc"))
    pieces = [c.text async for c in chat(lambda _: answer).astream("hi")]
    assert [p for p in pieces if p] == ["a", "bc"]


async def test_tokens_are_an_estimate_and_the_same_every_time():
    model = chat(lambda _: "four words are here")
    answers = [await model.ainvoke("what is it?") for _ in range(2)]
    first, second = (usage_of(a) for a in answers)
    assert first == second
    assert first.usage == "estimated"
    assert first.tokens_input
    assert first.tokens_output
    assert answers[0].response_metadata["label"] == LABEL == "rules, not a language model"
    facts = answer_facts(answers[0])
    assert (facts.provider, facts.model, facts.finish_reason) == ("scripted", "rules", "stop")
    longer = usage_of(await model.ainvoke("what is it? " * 20))
    assert longer.tokens_input > first.tokens_input


async def test_tokens_given_by_the_rules():
    answer = ScriptedAnswer(
        text="x", tokens_input=100, tokens_output=20, tokens_cached=80, tokens_reasoning=5
    )
    usage = usage_of(await chat(lambda _: answer).ainvoke("hi"))
    assert (usage.tokens_input, usage.tokens_output) == (100, 20)
    assert (usage.tokens_cached, usage.tokens_reasoning) == (80, 5)
    assert usage.usage == "reported"


def failing_rules(request):
    raise KeyError("intent")


async def test_rules_that_raise_are_named():
    with pytest.raises(ModelError) as caught:
        await chat(failing_rules).bind(operation="judge").ainvoke("hi")
    assert "failing_rules failed on operation 'judge': KeyError" in str(caught.value)
    assert isinstance(caught.value.__cause__, KeyError)


async def test_rules_may_play_a_failing_provider():
    def rules(_):
        raise ModelError("slow down", error_class="rate_limit", http_status=429)

    with pytest.raises(ModelError) as caught:
        await chat(rules).ainvoke("hi")
    assert (caught.value.error_class, caught.value.http_status) == ("rate_limit", 429)


async def test_rules_that_return_nonsense_are_named():
    with pytest.raises(ModelError, match="answered operation 'judge' with int"):
        await chat(lambda _: 7).bind(operation="judge").ainvoke("hi")


# -- tools -----------------------------------------------------------------------------------------


def lookup(key: str) -> str:
    """Look it up."""
    return key


@pytest.mark.parametrize("streaming", [True, False])
async def test_rules_call_tools_and_are_told_which_there_are(streaming: bool) -> None:
    asked: list[ScriptedRequest] = []

    def rules(request: ScriptedRequest) -> ScriptedAnswer:
        asked.append(request)
        calls = [{"name": "lookup", "args": {"key": "k"}}, ScriptedCall(name="lookup", id="mine")]
        return ScriptedAnswer(text="One moment.", tool_calls=calls)

    model = chat(rules).bind_tools([lookup])
    if streaming:
        pieces = [piece async for piece in model.astream("hi")]
        message: Any = sum(pieces[1:], pieces[0])
    else:
        message = await model.ainvoke("hi")
    assert asked[0].tools == ("lookup",)
    assert message.text == "One moment."
    first, second = message.tool_calls
    assert (first["name"], first["args"]) == ("lookup", {"key": "k"})
    assert (second["args"], second["id"]) == ({}, "mine")
    assert first["id"]
    assert message.response_metadata["finish_reason"] == "tool_calls"
    assert message.response_metadata["label"] == LABEL


async def test_rules_play_a_model_that_breaks_its_calls() -> None:
    broken = ScriptedAnswer(tool_calls=[ScriptedCall(name="lookup", args="no json {")])
    message = await chat(lambda _: broken).ainvoke("hi")
    assert message.tool_calls == []
    (invalid,) = message.invalid_tool_calls
    assert invalid["args"] == "no json {"


async def test_rules_see_what_tools_have_said_since_the_question() -> None:
    seen: list[Any] = []

    def rules(request: ScriptedRequest) -> str:
        seen.append(dict(request.tool_results))
        return "x"

    call = {"name": "lookup", "args": {}, "id": "1", "type": "tool_call"}
    said = [
        HumanMessage("before"),
        AIMessage("", tool_calls=[call]),
        ToolMessage("old", tool_call_id="1", name="lookup"),
        HumanMessage("now"),
        AIMessage("", tool_calls=[call]),
        ToolMessage("new", tool_call_id="1", name="lookup"),
    ]
    await chat(rules).ainvoke(said)
    await chat(rules).ainvoke(said[:4])
    assert seen == [{"lookup": "new"}, {}]

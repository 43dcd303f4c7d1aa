"""Tokens out of LangChain's messages: what nobody reported stays unknown."""

import pytest
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, LLMResult

from holdfast.llm.usage import Usage, answer_facts, usage_of


def message(tokens=None, **metadata):
    return AIMessage(content="x", usage_metadata=tokens, response_metadata=metadata)


def reported(tokens_input, tokens_output, inside=None, outside=None):
    return {
        "input_tokens": tokens_input,
        "output_tokens": tokens_output,
        "total_tokens": tokens_input + tokens_output,
        "input_token_details": inside or {},
        "output_token_details": outside or {},
    }


def test_all_classes():
    usage = usage_of(
        message(reported(100, 30, {"cache_read": 60, "cache_creation": 10}, {"reasoning": 20}))
    )
    assert usage == Usage(
        tokens_input=100,
        tokens_cached=60,
        tokens_cache_write=10,
        tokens_output=30,
        tokens_reasoning=20,
        usage="reported",
    )


def test_details_under_a_service_tier():
    usage = usage_of(
        message(reported(100, 30, {"flex_cache_read": 60, "flex": 40}, {"flex_reasoning": 20}))
    )
    assert (usage.tokens_cached, usage.tokens_reasoning) == (60, 20)


def test_cached_tokens_counted_outside_the_input():
    usage = usage_of(message(reported(10, 5, {"cache_read": 90})))
    assert usage.tokens_input == 100


def test_reasoning_counted_outside_the_output():
    said = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
    usage = usage_of(message({**said, "output_token_details": {"reasoning": 40}}))
    assert (usage.tokens_output, usage.tokens_reasoning) == (45, 40)


@pytest.mark.parametrize("total", [0, 900, None])
def test_cache_writes_by_lifetime(total):
    """Anthropic's integration leaves the sum at 0 where it names the parts."""
    inside = {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 700}
    if total is not None:
        inside["cache_creation"] = total
    usage = usage_of(message(reported(1000, 5, inside)))
    assert (usage.tokens_input, usage.tokens_cache_write) == (1000, 900)
    assert usage.tokens_cache_write_1h == 700


@pytest.mark.parametrize("answer", [None, AIMessage(content="x"), LLMResult(generations=[])])
def test_nothing_reported_is_unknown(answer):
    assert usage_of(answer) == Usage()
    assert usage_of(answer).usage == "unknown"


def test_a_missing_input_count_is_not_0():
    usage = usage_of(message(reported(0, 7)))
    assert (usage.tokens_input, usage.tokens_output, usage.usage) == (None, 7, "unknown")
    usage = usage_of(message(reported(0, 0)))
    assert (usage.tokens_input, usage.tokens_output, usage.usage) == (None, None, "unknown")


def test_an_estimate_stays_an_estimate():
    assert usage_of(message(reported(5, 5), usage="estimated")).usage == "estimated"


def test_a_result_and_the_older_names():
    generation = ChatGeneration(message=message(reported(5, 6)))
    assert usage_of(LLMResult(generations=[[generation]])).tokens_input == 5
    older = LLMResult(
        generations=[[ChatGeneration(message=AIMessage(content="x"))]],
        llm_output={
            "token_usage": {
                "prompt_tokens": 8,
                "completion_tokens": 3,
                "prompt_tokens_details": {"cached_tokens": 2},
            }
        },
    )
    usage = usage_of(older)
    assert (usage.tokens_input, usage.tokens_cached, usage.tokens_output) == (8, 2, 3)
    assert usage.usage == "reported"


def test_facts():
    facts = answer_facts(
        message(
            headers={"x-request-id": "req_1"},
            id="chatcmpl-1",
            finish_reason="length",
            model_name="gpt-6-luna-2026",
            model_provider="openai",
        )
    )
    assert (facts.request_id, facts.finish_reason) == ("req_1", "length")
    assert (facts.model, facts.provider) == ("gpt-6-luna-2026", "openai")
    assert answer_facts(message(id="chatcmpl-1")).request_id == "chatcmpl-1"
    assert answer_facts(AIMessage(content="", id="msg_1")).request_id == "msg_1"
    assert answer_facts(AIMessage(content="", id="run--1")).request_id is None
    assert answer_facts(AIMessage(content="", id="lc_run--1")).request_id is None
    assert answer_facts(None).model is None

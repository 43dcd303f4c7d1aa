"""The critic: bounded, silent, and never in the way of an answer that stands."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from holdfast.domain.budgets import Unit
from holdfast.domain.status import ExecutionStatus, StepStatus
from holdfast.errors import ModelError
from holdfast.llm.scripted import ScriptedAnswer, ScriptedRequest
from holdfast.testing.ports import MemoryBudgets

from .conftest import Agents, Rules, agent, function, simple

X = ExecutionStatus

ACCEPT = {"verdict": "accept"}
REVISE = {"verdict": "revise", "remarks": ["say it shorter"]}


def by_operation(**answers: Any) -> Any:
    """Rules that answer by the node that asks; a list is gone through."""

    def answer(request: ScriptedRequest) -> Any:
        said = answers[request.operation]
        if isinstance(said, list):
            said = said.pop(0) if len(said) > 1 else said[0]
        if isinstance(said, Exception):
            raise said
        return said

    return answer


async def test_an_accepted_draft_is_the_answer(parts: Any) -> None:
    parts.rules = Rules(by_operation(agent="a draft", critique=ACCEPT))
    record = await Agents(agent(simple(critique={}))).say("why?")
    assert record.output["response"] == "a draft"
    assert parts.rules.operations == ["agent", "critique"]
    asked = parts.rules.asked[1]
    assert asked.schema_name == "Verdict"
    assert "why?" in asked.user
    assert "a draft" in asked.user
    assert record.step("critique").kind == "model"
    assert record.finished.status == X.SUCCEEDED


async def test_a_draft_that_is_sent_back_is_written_anew(parts: Any) -> None:
    parts.rules = Rules(by_operation(agent="long", critique=[REVISE, ACCEPT], revise="short"))
    config = simple(critique={"rounds": 3, "instructions": "No long words."})
    record = await Agents(agent(config)).say()
    assert record.output["response"] == "short"
    assert parts.rules.operations == ["agent", "critique", "revise", "critique"]
    assert "No long words." in parts.rules.asked[1].system
    assert "- say it shorter" in parts.rules.asked[2].user
    assert "short" in parts.rules.asked[3].user, "the second look is at the second version"


@pytest.mark.parametrize("rounds", [1, 2, 5])
async def test_a_critic_that_is_never_content_is_bounded_by_rounds(parts: Any, rounds: int) -> None:
    parts.rules = Rules(by_operation(agent="v0", critique=REVISE, revise="v1"))
    record = await Agents(agent(simple(critique={"rounds": rounds}))).say()
    assert record.output["response"] == "v1"
    assert parts.rules.operations == ["agent", *["critique", "revise"] * rounds]
    assert record.finished.status == X.SUCCEEDED


async def test_and_by_steps(parts: Any) -> None:
    parts.rules = Rules(by_operation(agent="v0", critique=REVISE, revise="v1"))
    config = simple(critique={"rounds": 5}, limits={"steps": 4})
    record = await Agents(agent(config)).say()
    assert record.output["response"] == "v1"
    assert len(parts.rules.asked) <= 4
    assert record.finished.status == X.SUCCEEDED


async def test_a_spent_budget_lets_the_draft_stand(parts: Any) -> None:
    used = ScriptedAnswer(text="the draft", tokens_input=10, tokens_output=10)
    parts.rules = Rules(by_operation(agent=used, critique=REVISE, revise="never"))

    class Spent(MemoryBudgets):
        """Has room for one call."""

        def reserve_in_thread(self, call: Any) -> Any:
            if call is not None and call.provider and len(self._reserved) >= 2:
                call = replace(call, tokens_input=10_000)
            return super().reserve_in_thread(call)

    agents = Agents(agent(simple(critique={})), budgets=Spent({Unit.TOKENS: 5_000}))
    record = await agents.say()
    assert record.finished.status == X.PARTIAL, record.finished.error
    assert record.output["response"] == "the draft"
    assert record.step("critique").status is StepStatus.FAILED
    assert parts.rules.operations == ["agent"]


async def test_a_critic_that_fails_lets_the_draft_stand(parts: Any) -> None:
    away = ModelError("away", error_class="temporary")
    parts.rules = Rules(by_operation(agent="the draft", critique=away))
    record = await Agents(agent(simple(critique={}))).say()
    assert record.finished.status == X.PARTIAL
    assert record.output["response"] == "the draft"


async def test_a_verdict_that_is_none_is_asked_for_again_and_then_the_draft_stands(
    parts: Any,
) -> None:
    parts.rules = Rules(by_operation(agent="the draft", critique={"verdict": "meh"}))
    record = await Agents(agent(simple(critique={}))).say()
    assert record.output["response"] == "the draft"
    assert record.finished.status == X.PARTIAL
    assert parts.rules.operations == ["agent", "critique", "critique"]
    last = [one.validation for one in record.attempts][-2:]
    assert last == ["invalid", "invalid"]


async def test_a_second_version_that_fails_lets_the_first_stand(parts: Any) -> None:
    away = ModelError("away", error_class="permanent")
    parts.rules = Rules(by_operation(agent="v0", critique=REVISE, revise=away))
    record = await Agents(agent(simple(critique={"rounds": 2}))).say()
    assert record.output["response"] == "v0"
    assert record.finished.status == X.PARTIAL


async def test_a_second_version_may_call_tools(parts: Any) -> None:
    def lookup() -> str:
        """Look it up."""
        return "42"

    parts.lookup = lookup
    once = ScriptedAnswer(tool_calls=[{"name": "lookup", "args": {}}])
    parts.rules = Rules(
        by_operation(agent=["v0", "with 42"], critique=[REVISE, ACCEPT], revise=once)
    )
    config = simple(critique={"rounds": 2}, tools=[function("lookup")])
    record = await Agents(agent(config)).say()
    assert record.output["response"] == "with 42"
    assert parts.rules.operations == ["agent", "critique", "revise", "agent", "critique"]
    assert "42" in parts.rules.asked[-1].user


async def test_only_what_is_given_is_heard(parts: Any) -> None:
    parts.rules = Rules(by_operation(agent="a draft", critique=REVISE, revise="the answer"))
    declared = agent(simple(critique={}))
    agents = Agents(declared)
    execution_id = agents.start()
    await agents.engine.drain()
    heard = "".join(text for _, text in agents.sink.tokens_of[execution_id])
    assert heard == "the answer"
    assert declared.speaks == {"revise"}


async def test_the_critic_may_be_another_model(parts: Any) -> None:
    parts.rules = Rules(by_operation(agent="a draft", critique=ACCEPT))
    record = await Agents(agent(simple(critique={"model": "expert"}))).say()
    assert [one.alias for one in record.attempts] == ["fast", "expert"]

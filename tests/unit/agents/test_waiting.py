"""A turn that waits for a person goes on in another process, and does nothing twice."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.domain.checkpoints import saved_from_json
from holdfast.domain.status import ExecutionStatus, StepStatus
from holdfast.engine.holding import HeldCheckpoints
from holdfast.errors import InvalidInput
from holdfast.ports import NoCheckpoints
from holdfast.testing.ports import Recorded

from .conftest import Agents, Rules, agent, function, results, simple

X = ExecutionStatus

ASK = {"type": "ask_human"}


class Stored(HeldCheckpoints):
    """Checkpoints as a hub has them: what an outcome brings is there from then on."""

    def __init__(self) -> None:
        super().__init__(NoCheckpoints(), goes_on=False)

    async def take(self, record: Recorded) -> None:
        saved = [saved_from_json(one) for one in record.finished.saved]
        await self.save(execution_id="", saved=saved)


def going_on(record: Recorded, answer: Any) -> dict[str, Any]:
    """How the same execution goes on after a halt."""
    (wait,) = record.finished.waits
    return {
        "event_id": f"event of {record.running.id}",
        "goes_on": True,
        "answers": {wait["id"]: answer},
        "steps": len(record.steps),
    }


@pytest.fixture
def config(parts: Any) -> Any:
    made: list[str] = []

    def pay(sum: int) -> str:
        """Pay an amount."""
        made.append(f"paid {sum}")
        return made[-1]

    parts.pay, parts.made = pay, made
    return simple(tools=[function("pay"), ASK])


def rules(*more: Any) -> Rules:
    return Rules([("pay", {"sum": 5}), ("ask_human", {"question": "Go on?"})], *more)


async def test_a_question_waits_and_the_answer_goes_on_in_another_process(
    parts: Any, config: Any
) -> None:
    stored = Stored()
    parts.rules = rules()
    first = await Agents(agent(config), checkpoints=stored).say("pay 5")
    assert first.finished.status == X.WAITING
    (wait,) = first.finished.waits
    assert wait["name"] == "ask_human"
    assert wait["question"] == {"question": "Go on?", "takes_message": True}
    assert wait["schema"]["type"] == "string"
    assert parts.made == ["paid 5"]
    await stored.take(first)

    # Another process: another engine, another declaration, other rules at their beginning.
    parts.rules = Rules(lambda request: " / ".join(one.text for one in results(request)))
    again = Agents(agent(config), checkpoints=stored)
    second = await again.say("pay 5", spec=going_on(first, {"answer": "yes, do"}))
    assert second.finished.status == X.SUCCEEDED, second.finished.error
    assert second.output["response"] == "paid 5 / yes, do"
    assert parts.made == ["paid 5"], "the call beside it is not made again"
    assert parts.rules.operations == ["agent"]


async def test_nobody_answers_and_the_model_is_told(parts: Any, config: Any) -> None:
    stored = Stored()
    parts.rules = rules()
    asked = {**ASK, "settings": {"timeout_s": 60}}
    config = simple(tools=[function("pay"), asked])
    first = await Agents(agent(config), checkpoints=stored).say()
    assert first.finished.waits[0]["wake_in"] == 60_000_000
    await stored.take(first)
    parts.rules = Rules(lambda request: results(request)[-1].text)
    second = await Agents(agent(config), checkpoints=stored).say(
        spec=going_on(first, {"expired": True})
    )
    assert second.finished.status == X.SUCCEEDED, second.finished.error
    assert "nobody answered in time" in second.output["response"]
    assert second.step("ask_human").status is StepStatus.FAILED


async def test_two_questions_of_one_turn_are_two_waits(parts: Any) -> None:
    parts.rules = Rules([("ask_human", {"question": q}) for q in ("a?", "b?")])
    record = await Agents(agent(simple(tools=[ASK])), checkpoints=Stored()).say()
    assert record.finished.status == X.WAITING
    questions = {wait["question"]["question"] for wait in record.finished.waits}
    assert questions == {"a?", "b?"}


@pytest.mark.parametrize("answer", [None, "", "  ", 5, {"a": 1}, "x" * 200_001])
def test_an_answer_that_is_no_text_is_refused(answer: Any) -> None:
    with pytest.raises(InvalidInput, match="agent desk: answer"):
        agent(simple(tools=[ASK])).check_answer("ask_human", answer)


def test_an_agent_that_asks_nobody_has_no_checkpoints() -> None:
    assert not agent(simple()).checkpointed
    assert agent(simple(tools=[ASK])).checkpointed


async def test_a_crash_between_answer_and_end_takes_the_answer_once(
    parts: Any, config: Any
) -> None:
    stored = Stored()
    parts.rules = rules()
    first = await Agents(agent(config), checkpoints=stored).say()
    await stored.take(first)
    parts.rules = Rules("done")
    for delivery in (1, 2):  # the first one's outcome is lost with its process
        spec = {**going_on(first, {"answer": "yes"}), "delivery": delivery}
        last = await Agents(agent(config), checkpoints=stored).say(spec=spec)
        assert last.output["response"] == "done"
    assert parts.made == ["paid 5"]

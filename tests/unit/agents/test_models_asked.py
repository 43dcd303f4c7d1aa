"""An agent's calls go the way of every model call: fallbacks, retries, prompts, replays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import pytest
from langchain_core.messages import ToolMessage

from holdfast.domain.conversations import Speaker, Window
from holdfast.domain.prompts import Draft
from holdfast.domain.replays import Plan
from holdfast.domain.replays import Recorded as Repeated
from holdfast.domain.status import ExecutionStatus
from holdfast.errors import ModelError
from holdfast.llm.factory import Models
from holdfast.llm.scripted import ScriptedAnswer
from holdfast.pipelines.prompt_files import PromptFiles
from holdfast.ports import NoPrompts
from holdfast.testing.ports import Recorded

from .conftest import Agents, Remembered, Rules, agent, function, results, said, simple

X = ExecutionStatus

AWAY: Any = ModelError("away for a moment", error_class="temporary")


def failing(*errors: Any, then: Any) -> Any:
    """Rules that fail so often, and then answer like other rules."""
    left = list(errors)

    def answer(request: Any) -> Any:
        if left:
            raise left.pop(0)
        return then(request)

    return answer


def lookup_of(parts: Any) -> list[str]:
    made: list[str] = []

    def lookup(key: str) -> str:
        """Look it up."""
        made.append(key)
        return f"<{key}>"

    parts.lookup = lookup
    return made


async def test_fallbacks_get_the_tools_too_and_each_try_is_on_record(parts: Any) -> None:
    lookup_of(parts)
    inner = Rules([("lookup", {"key": "k"})], lambda request: results(request)[-1].text)
    parts.rules = failing(AWAY, AWAY, then=inner)
    models = {
        "fast": {
            "model": "scripted:first",
            "retries": 1,
            "backoff": {"first": 0, "most": 0},
            "fallbacks": ["standard"],
        },
        "standard": "scripted:second",
    }
    agents = Agents(agent(simple(tools=[function("lookup")])), models=models)
    record = await agents.say()
    assert record.output["response"] == "<k>"
    assert inner.asked[0].tools == ("lookup",)
    first = record.steps[1]
    tries = [one for one in record.attempts if one.step == first.step]
    assert [(one.model, str(one.status)) for one in tries] == [
        ("first", "failed"),
        ("first", "failed"),
        ("second", "succeeded"),
    ]


async def test_a_model_that_is_away_for_good_fails_the_turn(parts: Any) -> None:
    parts.rules = failing(*[AWAY] * 9, then=None)
    record = await Agents(agent(simple())).say()
    assert record.finished.status == X.FAILED
    assert record.finished.error is not None
    assert record.finished.error["code"] == "model_failed"


async def test_without_rules_the_scripted_model_says_so(parts: Any) -> None:
    config = simple()
    del config["simple"]["settings"]["rules"]
    record = await Agents(agent(config)).say()
    assert record.finished.status == X.FAILED
    assert "is scripted" in str(record.finished.error)


# -- prompts of the registry -----------------------------------------------------------------------


class Contents(NoPrompts):
    """A `PromptsPort` with one version."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft

    async def version(self, *, execution_id: str, name: str, version: str) -> Mapping[str, Any]:
        assert (name, version) == (self.draft.name, self.draft.hash)
        return self.draft.to_json()


LABELLED = Draft(name="desk", static="Be brief.", dynamic="You talk to {{ event.user_data.name }}.")


async def test_a_version_that_only_the_registry_has_is_used_and_on_record(parts: Any) -> None:
    parts.rules = Rules("hi")
    declared = agent(simple(prompt="desk@production"))
    assert [one.key for one in declared.stored_prompts()] == ["desk@production"]
    agents = Agents(declared, prompts=Contents(LABELLED))
    record = await agents.say(
        spec={"prompts": {"desk@production": LABELLED.hash}}, user_data={"name": "Ann"}
    )
    assert record.finished.status == X.SUCCEEDED, record.finished.error
    assert parts.rules.asked[0].system == "Be brief.\n\nYou talk to Ann."
    (attempt,) = record.attempts
    assert attempt.prompt_name == "desk"
    assert attempt.prompt_label == "production"


async def test_a_file_says_it_where_no_label_stands(parts: Any, tmp_path: Path) -> None:
    (tmp_path / "desk.md").write_text("Stand at the desk.")
    parts.rules = Rules("hi")
    declared = agent(simple(prompt="desk"))
    agents = Agents(declared)
    declared.find_prompts(PromptFiles([tmp_path]))
    await agents.say()
    assert parts.rules.asked[0].system == "Stand at the desk."


async def test_a_prompt_that_is_nowhere_fails_the_turn_and_says_so(parts: Any) -> None:
    parts.rules = Rules("hi")
    record = await Agents(agent(simple(prompt="desk@production"))).say()
    assert record.finished.status == X.FAILED
    assert record.finished.error is not None
    assert "no prompt 'desk' at 'production'" in record.finished.error["message"]


# -- replays ---------------------------------------------------------------------------------------


class Records:
    """A `RecordsPort` that has one record."""

    def __init__(self, record: Recorded, data: Any) -> None:
        running = record.running
        repeated = Repeated.of(
            running.execution(),
            running.steps(),
            running.attempts(),
            running.payload(),
            data=data,
        )
        self._written = orjson.loads(orjson.dumps(repeated.for_run()))

    async def replayed(self, *, execution_id: str) -> Mapping[str, Any]:
        return self._written


async def test_a_turn_is_repeated_from_its_record_and_nobody_is_asked(parts: Any) -> None:
    made = lookup_of(parts)
    ask = [("lookup", {"key": "a"}), ("lookup", {"key": "b"}), ("made_up", {})]
    verdicts = [{"verdict": "revise", "remarks": ["x"]}, {"verdict": "accept"}]

    def answer(request: Any) -> Any:
        if request.operation == "critique":
            return verdicts.pop(0)
        if request.operation == "revise":
            return "second"
        if results(request):
            return "first"
        return ScriptedAnswer(tool_calls=[{"name": n, "args": args} for n, args in ask])

    parts.rules = Rules(answer)
    config = simple(tools=[function("lookup")], critique={"rounds": 2})
    window = Window(summaries=[], messages=[said(Speaker.USER, "before"), said(Speaker.USER, "q")])
    before = await Agents(agent(config), memory=Remembered(window)).say("q")
    assert before.output["response"] == "second"
    assert made == ["a", "b"]
    asked = len(parts.rules.asked)

    data = {"text": "q", "message_id": "m", "channel": "api"}
    again = Agents(agent(config), records=Records(before, data), memory=None)
    again.engine._models = Models({})  # no alias, no key, no rules
    after = await again.say("q", spec={"replay": asdict(Plan()), "session_id": None})
    assert after.finished.status == X.SUCCEEDED, after.finished.error
    assert after.output == before.output
    assert made == ["a", "b"], "no tool was called"
    assert len(parts.rules.asked) == asked, "no model was asked"
    assert len(after.steps) == len(before.steps)
    known = after.step("recall")
    assert after.text(known.output)["messages"] == [{"role": "user", "content": "before"}]


@pytest.mark.parametrize("text", ["<tool_call>not json</tool_call>", "{}", "{", "```\n```"])
async def test_texts_that_look_like_calls_are_answers(parts: Any, text: str) -> None:
    lookup_of(parts)
    parts.rules = Rules(text)
    record = await Agents(agent(simple(tools=[function("lookup")]))).say()
    assert record.output["response"] == text
    assert not [one for one in parts.rules.asked[0].messages if isinstance(one, ToolMessage)]

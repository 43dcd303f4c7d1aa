"""The pipeline that compacts, over sessions in memory and the scripted model."""

from __future__ import annotations

import re
from typing import Any

import orjson
import pytest

from holdfast.domain.conversations import Message, Speaker
from holdfast.domain.ids import new_id
from holdfast.domain.status import ExecutionStatus
from holdfast.engine import Engine
from holdfast.engine.holding import HeldCheckpoints
from holdfast.engine.threads import ExecutionThreads
from holdfast.llm.factory import Models
from holdfast.llm.scripted import ScriptedRequest
from holdfast.pipelines import compaction
from holdfast.pipelines.registry import Registry
from holdfast.ports import ModelConfig, NoCheckpoints, Ports, RunSpec
from holdfast.testing.ports import MemoryEvents, MemorySink, Recorded
from holdfast.testing.remembering import MemoryMemory, said


def talk(turns: int, **more: Any) -> list[Message]:
    pairs = [
        (said(n, "user", f"question {n}", **more), said(n, "assistant", f"answer {n}", **more))
        for n in range(1, turns + 1)
    ]
    return [message for pair in pairs for message in pair]


async def compact(memory: MemoryMemory, **due: Any) -> Recorded:
    sink = MemorySink()
    scripted = ModelConfig(alias="fast", provider="scripted", model="rules")
    engine = Engine(
        registry=Registry.load([]),
        models=Models({"fast": scripted}),
        sink=sink,
        ports=Ports(
            events=MemoryEvents(),
            memory=memory,
            checkpoints=HeldCheckpoints(NoCheckpoints(), goes_on=False),
        ),
        threads=ExecutionThreads(2),
    )
    asked = {"session_id": "session", "agent_id": "a", "model": "fast", "keep": 20, "block": 10}
    execution_id = new_id()
    engine.start(
        RunSpec(
            execution_id=execution_id,
            event_id=f"event of {execution_id}",
            owner_id="local",
            kind="pipeline",
            name=compaction.NAME,
            version="1",
            data=orjson.dumps(asked | due),
            delivery=1,
        )
    )
    await engine.drain()
    return sink.record(execution_id)


def summaries(memory: MemoryMemory) -> list[Message]:
    return [one for one in memory.sessions["session"] if one.role is Speaker.SUMMARY]


async def test_blocks_are_summarised_one_after_the_other_until_none_is_due() -> None:
    messages = talk(30)
    memory = MemoryMemory(*messages)
    record = await compact(memory)
    assert record.finished.status == ExecutionStatus.SUCCEEDED, record.finished.error
    assert record.output == {"session_id": "session", "summaries": 4, "messages": 40}
    made = summaries(memory)
    ids = [one.id for one in messages]
    assert [list(one.summary_of) for one in made] == [ids[n : n + 10] for n in range(0, 40, 10)]
    assert made[1].content == "The user said: " + " | ".join(f"question {n}" for n in range(6, 11))
    left = [one for one in memory.sessions["session"] if not one.summarised][:20]
    assert [one.content for one in left] == [one.content for one in messages[40:]]


async def test_a_summary_is_a_model_step_on_record() -> None:
    record = await compact(MemoryMemory(*talk(15)))
    attempts = list(record.attempts)
    assert len(attempts) == 1
    prompt = record.text(attempts[0].prompt_user)
    assert "user: question 1\nassistant: answer 1" in prompt
    assert "question 6" not in prompt
    assert attempts[0].tokens_input
    assert [step.operation for step in record.steps] == [
        *("take", "take.route", "digest", "keep", "keep.loop", "take", "take.route")
    ]


async def test_nothing_due_asks_nobody() -> None:
    record = await compact(MemoryMemory(*talk(14)))
    assert record.output == {"session_id": "session", "summaries": 0, "messages": 0}
    assert record.attempts == ()


async def test_facts_and_the_summary_before_are_shown_to_the_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    messages = talk(20)
    messages[0] = said(1, "user", "My name is Zoe. Where is the key?")
    memory = MemoryMemory(*messages)
    record = await compact(memory)
    assert memory.facts["session"] == ["My name is Zoe"]
    first, second = [record.text(one.prompt_user) for one in record.attempts]
    assert "Known already" not in first
    assert "Known already:\n- My name is Zoe\n" in second
    assert "Before this part: The user said: My name is Zoe. Where is the key? | question 2" in (
        second
    )


async def test_one_execution_has_an_end_however_long_the_session() -> None:
    memory = MemoryMemory(*talk(150))
    record = await compact(memory)
    assert record.finished.status == ExecutionStatus.SUCCEEDED
    assert record.output["summaries"] == compaction.ROUNDS
    again = await compact(memory)
    assert again.output == {"session_id": "session", "summaries": 8, "messages": 80}


async def test_what_stands_already_is_not_summarised_again() -> None:
    """Another execution was quicker with the same block."""

    class Slow(MemoryMemory):
        async def summarise(self, **asked: Any) -> bool:
            if not summaries(self):
                await super().summarise(**(asked | {"summary": "the other's"}))
            return await super().summarise(**asked)

    memory = Slow(*talk(15))
    record = await compact(memory)
    assert record.finished.status == ExecutionStatus.SUCCEEDED
    assert record.output["summaries"] == 0
    assert [one.content for one in summaries(memory)] == ["the other's"]


async def test_long_messages_are_cut_for_the_model_only() -> None:
    messages = talk(15)
    messages[0] = said(1, "user", "x" * 150_000)
    memory = MemoryMemory(*messages)
    record = await compact(memory)
    prompt = record.text(record.attempts[0].prompt_user)
    assert len(prompt) < compaction.TALK_CHARS
    assert "x […]\nassistant: answer 1" in prompt
    assert len(memory.sessions["session"][0].content) == 150_000


async def test_a_model_that_is_not_there_fails_by_name() -> None:
    record = await compact(MemoryMemory(*talk(15)), model="nobody")
    assert record.finished.status == ExecutionStatus.FAILED
    assert "nobody" in str(record.finished.error)


@pytest.mark.parametrize("wrong", [{"keep": -1}, {"block": 0}, {"other": 1}])
def test_wrong_data_is_refused(wrong: dict[str, Any]) -> None:
    from holdfast.errors import InvalidInput

    asked = {"session_id": "s", "agent_id": "a", "model": "fast", "keep": 20, "block": 10}
    with pytest.raises(InvalidInput):
        compaction.compaction.validate(asked | wrong)


def test_one_at_a_time_for_a_session() -> None:
    asked = {"session_id": "s", "agent_id": "a", "model": "fast", "keep": 20, "block": 10}
    declared = compaction.compaction
    assert declared.singleton_key(declared.validate(asked)) == "s"
    assert declared.built_in
    assert declared.name in Registry.load([])
    assert declared.name in Registry.load([]).versions()
    assert list(Registry.load([])) == []


def test_the_rules_are_no_language_model_and_fit_the_schema() -> None:
    lines = "\n".join(f"user: {'long ' * 50}{n}. I live in Bonn {n}." for n in range(200))
    made = compaction.rules(
        ScriptedRequest(operation="digest", system="", user=f"The part:\n{lines}", messages=[])
    )
    digest = compaction.Digest.model_validate(made)
    assert len(digest.facts) == compaction.NEW_FACTS
    assert re.match("The user said: long", digest.summary)

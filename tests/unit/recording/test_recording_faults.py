"""Faults planted in the recorder: the run goes on, and its record says what is missing."""

from __future__ import annotations

import asyncio
import sys
import threading
from contextlib import suppress
from typing import Any, TypedDict

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph

from holdfast.domain.payload import LOST_ENTRY, Texts
from holdfast.domain.status import ExecutionStatus, StepStatus
from holdfast.journal.running import Running
from holdfast.llm.scripted import ScriptedChatModel
from holdfast.recording import Collector, RecordingHandler, collector, handler
from holdfast.recording.collector import MAX_FAULTS
from holdfast.testing.ports import ASSESSOR, MemorySink, Recorded, start_of

from .conftest import Recording


class Data(TypedDict):
    text: str


class Faulty(MemorySink):
    """A sink that refuses some changes, before or after it has taken them."""

    def __init__(self, *refused: str, after: bool = False, times: int = 1000) -> None:
        super().__init__()
        self.refused = refused
        self.after = after
        self.times = times

    def change(self, execution_id: str, raw: bytes) -> None:
        planted = self.times > 0 and any(f'"k":"{k}"'.encode() in raw for k in self.refused)
        if not planted or self.after:
            super().change(execution_id, raw)
        if planted:
            self.times -= 1
            raise OSError("planted")


def line() -> Any:
    """Two nodes, the first with a model call inside; what they say is long enough to be kept."""
    model = ScriptedChatModel(script=lambda r: r.user * 5, streaming=True, cache=False)

    async def one(state: Data, config: RunnableConfig) -> Data:
        return {"text": str((await model.ainvoke(state["text"], config)).text)}

    async def two(state: Data) -> Data:
        return {"text": state["text"] + " and then some more of it, to be kept apart"}

    made = StateGraph(Data)
    made.add_node("one", one)
    made.add_node("two", two)
    made.add_edge(START, "one")
    made.add_edge("one", "two")
    made.add_edge("two", END)
    return made.compile()


GIVEN = {"text": "a question that is long enough to be kept as a text of its own"}
EXPECTED = {"text": GIVEN["text"] * 5 + " and then some more of it, to be kept apart"}

KINDS = ["step.started", "step.finished", "attempt.started", "attempt.finished"]


@pytest.mark.parametrize("after", [False, True], ids=["before it took it", "after it took it"])
@pytest.mark.parametrize("times", [1, 2, 1000])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_sink_that_raises_fails_no_run_and_is_noted(
    recording: Recording, kind: str, times: int, after: bool
) -> None:
    recording.sink = Faulty(kind, times=times, after=after)
    recording.collector = Collector("x1", recording.sink)
    given = await line().ainvoke(GIVEN, recording.config)
    recording.collector.finish(ExecutionStatus.SUCCEEDED, output=given)
    assert given == EXPECTED
    running = Running(start_of("x1"), ASSESSOR)
    for change in recording.sink.changes("x1"):
        with suppress(ValueError):  # the end of what was never heard of; the hub counts it
            running.apply(change)
    record = Recorded(running)
    assert record.finished.status == ExecutionStatus.SUCCEEDED
    # Texts that came later are not shifted; one that was lost says so.
    assert record.output == EXPECTED or LOST_ENTRY[1] in (record.output, record.output.get("text"))
    faults = running.execution().flags["recording_faults"]
    assert any(kind in fault and "planted" in fault for fault in faults)
    for step in record.steps:
        assert step.status is not StepStatus.RUNNING
        for index in (step.input, step.output):
            value = record.text(index)
            assert value is None or isinstance(value, dict)


async def test_an_outcome_that_cannot_be_told_does_not_raise(recording: Recording) -> None:
    recording.sink = Faulty("finished")
    recording.collector = Collector("x1", recording.sink)
    recording.collector.finish(ExecutionStatus.SUCCEEDED, output="x" * 100)
    assert recording.sink.raw["x1"] == []
    assert recording.collector.faults


async def test_texts_that_raise_cost_the_values_and_not_the_steps(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    def planted(*_: Any, **__: Any) -> int:
        raise MemoryError("planted")

    monkeypatch.setattr(Texts, "_add", planted)
    record = await recording.run(line(), GIVEN)
    assert {(s.operation, s.status) for s in record.steps} >= {
        ("one", StepStatus.SUCCEEDED),
        ("two", StepStatus.SUCCEEDED),
    }
    assert all(step.input is None and step.output is None for step in record.steps)
    assert "planted" in record.running.execution().flags["recording_faults"][0]


@pytest.mark.parametrize(
    ("where", "name"),
    [(collector, "write_change"), (handler, "usage_of"), (handler, "keep_messages")],
)
async def test_helpers_that_raise_fail_no_run(
    recording: Recording, monkeypatch: pytest.MonkeyPatch, where: Any, name: str
) -> None:
    def planted(*_: Any, **__: Any) -> Any:
        raise RuntimeError("planted")

    monkeypatch.setattr(where, name, planted)
    assert await line().ainvoke(GIVEN, recording.config) == EXPECTED
    monkeypatch.undo()
    recording.collector.finish(ExecutionStatus.SUCCEEDED)
    assert any("planted" in fault for fault in recording.collector.faults)


async def test_a_model_call_whose_usage_cannot_be_read_still_ends_well(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    def planted(_: Any) -> Any:
        raise RuntimeError("planted")

    monkeypatch.setattr(handler, "usage_of", planted)
    record = await recording.run(line(), GIVEN)
    model = record.step("ScriptedChatModel")
    assert model.status is StepStatus.SUCCEEDED
    assert record.text(model.output)["content"] == GIVEN["text"] * 5
    (attempt,) = record.attempts
    assert (attempt.status, attempt.usage) == (StepStatus.SUCCEEDED, "unknown")


async def test_an_error_that_cannot_be_classified_still_ends_its_attempt(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    def planted(_: BaseException) -> Any:
        raise RuntimeError("planted")

    def rules(_: Any) -> str:
        raise ValueError("the rules are broken")

    monkeypatch.setattr(collector, "classify", planted)
    model = ScriptedChatModel(script=rules, streaming=True, cache=False)

    async def one(state: Data, config: RunnableConfig) -> Data:
        await model.ainvoke("hi", config)
        return state

    made = StateGraph(Data)
    made.add_node("one", one)
    made.add_edge(START, "one")
    record = await recording.run(made.compile(), GIVEN)
    (attempt,) = record.attempts
    assert attempt.status is StepStatus.FAILED
    assert attempt.error is not None
    assert "the rules are broken" in attempt.error["message"]
    assert {step.status for step in record.steps} == {StepStatus.FAILED}


@pytest.mark.parametrize(
    "name", ["on_chain_start", "on_chain_end", "on_chat_model_start", "on_llm_end", "_end"]
)
async def test_callbacks_that_raise_fail_no_run(
    recording: Recording, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def planted(*_: Any, **__: Any) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr(RecordingHandler, name, planted)
    assert await line().ainvoke(GIVEN, recording.config) == EXPECTED
    recording.collector.finish(ExecutionStatus.SUCCEEDED)
    assert recording.record().finished.status == ExecutionStatus.SUCCEEDED
    assert all(s.status is not StepStatus.RUNNING for s in recording.record().steps)


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("I say nothing")


@pytest.mark.parametrize(
    "error", [Mute(), ValueError("bad \udc80 byte"), OSError(2, "no", "a\udc80b")]
)
async def test_errors_that_can_hardly_be_written_down_end_their_step(
    recording: Recording, error: Exception
) -> None:
    async def one(state: Data) -> Data:
        raise error

    made = StateGraph(Data)
    made.add_node("one", one)
    made.add_edge(START, "one")
    record = await recording.run(made.compile(), GIVEN)
    (step,) = record.steps
    assert step.status is StepStatus.FAILED
    assert step.error is not None
    assert step.error["type"] == type(error).__name__
    assert record.finished.faults == []


async def test_a_fault_that_cannot_say_what_it_is_is_noted_as_well(recording: Recording) -> None:
    with recording.collector.guard("here"):
        raise Mute
    assert recording.collector.faults == ["here: Mute: <no message: RuntimeError>"]


async def test_the_notes_of_faults_stay_short(recording: Recording) -> None:
    for _ in range(1000):
        with recording.collector.guard("here"):
            raise ValueError("x" * 10_000)
    assert len(recording.collector.faults) == MAX_FAULTS
    assert max(map(len, recording.collector.faults)) <= 500


async def test_a_guard_lets_the_runs_own_end_through(recording: Recording) -> None:
    for end in (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
        with pytest.raises(end), recording.collector.guard("here"):
            raise end


# -- two at once, and too late ---------------------------------------------------------------------


async def test_executions_side_by_side_never_mix() -> None:
    sink = MemorySink()
    meet = asyncio.Barrier(2)

    async def wait(state: Data) -> Data:
        await meet.wait()
        return {"text": state["text"] + "!" * 100}

    made = StateGraph(Data)
    for number in range(5):
        made.add_node(f"n{number}", wait)
        made.add_edge(START if number == 0 else f"n{number - 1}", f"n{number}")
    graph = made.compile()

    async def run(name: str) -> None:
        own = Collector(name, sink)
        output = await graph.ainvoke({"text": name}, {"callbacks": [RecordingHandler(own)]})
        own.finish(ExecutionStatus.SUCCEEDED, output=output)

    await asyncio.gather(run("ada"), run("bob"))
    for name in ("ada", "bob"):
        record = sink.record(name)
        assert [step.step for step in record.steps] == [1, 2, 3, 4, 5]
        assert record.output == {"text": name + "!" * 500}
        for step in record.steps:
            assert record.text(step.input)["text"].startswith(name)


async def test_what_comes_after_the_end_is_not_told(recording: Recording) -> None:
    own = recording.collector
    step = own.start_step(kind="node", operation="late")
    own.finish(ExecutionStatus.CANCELLED, abandoned=True)
    told = len(recording.sink.raw["x1"])
    thread = threading.Thread(target=own.finish_step, args=(step,), kwargs={"output": "too late"})
    thread.start()
    thread.join()
    own.start_step(kind="node", operation="later")
    own.finish(ExecutionStatus.SUCCEEDED)
    assert len(recording.sink.raw["x1"]) == told
    (late,) = recording.record().steps
    assert late.status is StepStatus.ABANDONED


async def test_a_step_closed_twice_ends_once(recording: Recording) -> None:
    own = recording.collector
    step = own.start_step(kind="node", operation="once")
    own.finish_step(step, output="first")
    own.finish_step(step, output="second", status=StepStatus.FAILED)
    own.finish(ExecutionStatus.SUCCEEDED)
    record = recording.record()
    assert record.text(record.step("once").output) == "first"
    assert len(recording.sink.raw["x1"]) == 3


def test_threads_that_record_at_once_point_to_their_own_texts() -> None:
    sink = MemorySink()
    own = Collector("x1", sink)
    barrier = threading.Barrier(6)

    def work(number: int) -> None:
        barrier.wait()
        for turn in range(60):
            said = {"who": number, "said": f"{number} in turn {turn} " * 5}
            step = own.start_step(kind="node", operation=str(number), input=said)
            own.finish_step(step, output=[said, turn])

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    own.finish(ExecutionStatus.SUCCEEDED)
    record = sink.record("x1")
    assert record.finished.faults == []
    assert sorted(step.step for step in record.steps) == list(range(1, 361))
    turns: dict[str, int] = {}
    payload = record.running.payload()
    for step in sorted(record.steps, key=lambda step: step.step):
        turn = turns.get(step.operation, 0)
        turns[step.operation] = turn + 1
        said = {"who": int(step.operation), "said": f"{step.operation} in turn {turn} " * 5}
        assert payload.get(step.input) == said
        assert payload.get(step.output) == [said, turn]

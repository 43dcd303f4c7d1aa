"""Runs answered from a record, in memory: what they ask, what they wait for, what they refuse."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, replace
from typing import Any

import orjson
import pytest
from langchain_core.language_models.fake import FakeListLLM
from pydantic import BaseModel

from holdfast.domain.ids import new_id
from holdfast.domain.replays import Plan, Recorded, RecordedAttempt, RecordedStep
from holdfast.engine import Engine
from holdfast.engine.threads import ExecutionThreads
from holdfast.errors import ReplayMismatch
from holdfast.llm.factory import Models
from holdfast.pipelines.base import Declaration
from holdfast.pipelines.pipeline import Pipeline
from holdfast.pipelines.policy import Backoff
from holdfast.pipelines.registry import Registry
from holdfast.pipelines.state import State
from holdfast.ports import Ports, RunSpec
from holdfast.testing.ports import MemoryEvents, MemorySink
from holdfast.testing.ports import Recorded as Told

HOUR = 3600.0


class Job(BaseModel):
    text: str = ""


class OneRecord:
    def __init__(self, recorded: Recorded) -> None:
        self._recorded = recorded

    async def replayed(self, *, execution_id: str) -> Any:
        return orjson.loads(orjson.dumps(self._recorded.for_run()))


async def run(pipeline: Declaration, *steps: RecordedStep, **plan: Any) -> Told:
    recorded = Recorded(
        execution_id="x",
        name=pipeline.name,
        version="1",
        code_version="c",
        status="succeeded",
        data={},
        steps=steps,
    )
    sink, id_ = MemorySink(), new_id()
    engine = Engine(
        registry=Registry([pipeline]),
        models=Models({}),
        sink=sink,
        ports=Ports(events=MemoryEvents(), records=OneRecord(recorded)),
        threads=ExecutionThreads(2),
    )
    engine.start(
        RunSpec(
            execution_id=id_,
            event_id=id_,
            owner_id="local",
            kind="pipeline",
            name=pipeline.name,
            version="1",
            data=b"{}",
            delivery=1,
            replay=asdict(Plan(**plan)),
        )
    )
    async with asyncio.timeout(30):
        await engine.drain()
    return sink.record(id_)


def asked(*tries: RecordedAttempt, status: str = "succeeded", output: Any = None) -> RecordedStep:
    return RecordedStep(
        step=1,
        parent=None,
        kind="model",
        operation="ask",
        version="1",
        status=status,
        output=output,
        attempts=tries,
    )


def failed(n: int, **more: Any) -> RecordedAttempt:
    error = {"type": "APIConnectionError", "message": "away"}
    fields: dict[str, Any] = {"status": "failed", "error": error, "error_class": "temporary"}
    return RecordedAttempt(n=n, **(fields | more))


def said(n: int, text: str) -> RecordedAttempt:
    return RecordedAttempt(n=n, status="succeeded", answer={"content": text})


def patient(**policy: Any) -> Pipeline:
    pipeline = Pipeline("test.patient", version="1", event=Job)
    options: dict[str, Any] = {"retries": 2, "backoff": Backoff(first=HOUR, most=HOUR)}
    pipeline.start(pipeline.model("ask", prompt="Ask", alias="gone", **(options | policy)))
    return pipeline


async def test_pauses_between_recorded_tries_are_not_waited_for() -> None:
    told = await run(patient(), asked(failed(1), failed(2), said(3, "hello")))
    assert (told.finished.status, told.output) == ("succeeded", "hello")
    assert [(str(one.status), one.usage) for one in told.attempts] == [
        ("failed", "replayed"),
        ("failed", "replayed"),
        ("succeeded", "replayed"),
    ]
    assert told.attempts[0].error == {"type": "APIConnectionError", "message": "away"}


async def test_tries_within_one_call_are_repeated_as_one_call() -> None:
    class Answer(BaseModel):
        n: int

    pipeline = Pipeline("test.stubborn", version="1", event=Job)
    pipeline.start(pipeline.model("ask", prompt="Ask", alias="gone", answer=Answer))
    told = await run(
        pipeline,
        asked(
            failed(1, call=1, provider="openai", model="a"),
            replace(said(2, "no number"), call=1, provider="anthropic", model="b"),
            failed(3, call=3, provider="openai", model="a"),
            replace(said(4, '{"n": 5}'), call=3, provider="google", model="c"),
        ),
    )
    assert (told.finished.status, told.output) == ("succeeded", {"n": 5})
    assert [(one.call, one.provider, one.model, str(one.status)) for one in told.attempts] == [
        (1, "openai", "a", "failed"),
        (1, "anthropic", "b", "succeeded"),
        (3, "openai", "a", "failed"),
        (3, "google", "c", "succeeded"),
    ]
    assert {one.usage for one in told.attempts} == {"replayed"}


async def test_a_call_whose_tries_all_failed_fails_again_and_is_tried_as_often() -> None:
    told = await run(
        patient(retries=1),
        asked(
            *(failed(n, call=1 if n < 3 else 3) for n in (1, 2, 3, 4)), status="failed", output=None
        ),
    )
    assert told.finished.status == "failed"
    assert [one.call for one in told.attempts] == [1, 1, 3, 3]
    assert told.finished.error is not None
    assert told.finished.error["code"] != "replay_mismatch"


@pytest.mark.parametrize(
    ("steps", "names"),
    [
        ((), "no such step"),
        (
            (asked(failed(1, call=1), RecordedAttempt(n=2, call=1, status="cancelled")),),
            "attempt 2",
        ),
        ((asked(failed(1)),), "for the 2. time"),
        ((asked(RecordedAttempt(n=1, status="cancelled")),), "was cancelled"),
    ],
)
async def test_what_the_record_lacks_ends_the_replay(
    steps: tuple[RecordedStep, ...], names: str
) -> None:
    # A node that may fail must not turn a mismatch into a result.
    told = await run(patient(on_failure="continue"), *steps)
    assert told.finished.status == "failed"
    assert told.finished.error is not None
    assert told.finished.error["code"] == "replay_mismatch"
    assert names in told.finished.error["message"]
    assert 'node "ask"' in told.finished.error["message"]


async def test_code_that_swallows_a_mismatch_does_not_hide_it() -> None:
    pipeline = Pipeline("test.swallowing", version="1", event=Job)

    @pipeline.node
    async def ask(state: State) -> str:
        from holdfast.pipelines.context import current_run

        try:
            return await current_run().submit("test.other", {})
        except ReplayMismatch:
            return "never mind"

    pipeline.start(ask)
    told = await run(pipeline)
    assert told.finished.error is not None
    assert told.finished.error["code"] == "replay_mismatch"
    assert "test.other" in told.finished.error["message"]


async def test_a_model_that_completes_texts_is_refused_and_not_asked() -> None:
    pipeline = Pipeline("test.completing", version="1", event=Job)

    @pipeline.node
    async def ask(state: State) -> str:
        return await FakeListLLM(responses=["asked!"]).ainvoke("hello")

    pipeline.start(ask)
    told = await run(pipeline)
    assert told.finished.error is not None
    assert told.finished.error["code"] == "replay_mismatch"
    assert "completion model" in told.finished.error["message"]
    live = await run(pipeline, unrecorded="live")
    assert (live.finished.status, live.output) == ("succeeded", "asked!")


async def test_a_result_that_no_longer_fits_lets_the_node_run_again() -> None:
    class Old(BaseModel):
        score: int

    def typed(kind: type[BaseModel]) -> Pipeline:
        pipeline = Pipeline("test.typed", version="1", event=Job)
        ask = pipeline.model("ask", prompt="Ask", alias="gone", answer=kind, tries=1)

        @pipeline.node
        async def last(state: State) -> str:
            return f"{type(state.ask).__name__} {state.ask.score}"

        pipeline.start(ask)
        pipeline.chain(ask, last)
        return pipeline

    step = asked(said(1, '{"score": 4}'), output={"score": 4})
    told = await run(typed(Old), step, start="last")
    assert (told.output, str(told.step("ask").status)) == ("Old 4", "skipped")

    class New(BaseModel):
        score: str

    told = await run(typed(New), step, start="last")
    assert told.finished.error is not None
    assert told.step("ask").error is not None
    assert told.step("ask").error["code"] == "answer_invalid", "the recorded answer, held anew"  # pyright: ignore[reportOptionalSubscript]


async def test_side_by_side_namesakes_take_the_answer_to_their_own_input() -> None:
    pipeline = Pipeline("test.each", version="1", event=Job)
    one = pipeline.model("one", prompt="Item {{ item }}", alias="gone")
    pipeline.start(pipeline.map("each", one, over=lambda _: ["a", "b", "c"]))

    def item(step: int, index: int) -> RecordedStep:
        text = f"answer {index}"
        return RecordedStep(
            step=step,
            parent=1,
            kind="model",
            operation="one",
            version="1",
            status="succeeded",
            mark=(index,),
            attempts=(said(1, text),),
        )

    each = RecordedStep(
        step=1, parent=None, kind="map", operation="each", version="1", status="succeeded"
    )
    told = await run(pipeline, each, item(2, 2), item(3, 0), item(4, 1))
    assert told.output == ["answer 0", "answer 1", "answer 2"]

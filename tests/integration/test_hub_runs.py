"""Events run in runner processes and in process, and leave complete records."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import psutil
import pytest

from holdfast.domain.events import LOCAL_OWNER
from holdfast.domain.status import EventStatus, ExecutionStatus, StepStatus
from holdfast.errors import InvalidInput, UnknownPipeline
from holdfast.operations.cancel import cancel_event, cancel_execution
from holdfast.operations.submit import submit

from .conftest import HubForTests, OpenHub, until, until_true


@pytest.fixture(params=["runner", "in process"])
async def hub(request: pytest.FixtureRequest, open_hub: OpenHub):
    async with open_hub(in_process=request.param == "in process", runners=1) as opened:
        yield opened


async def test_a_noop_runs_and_its_record_is_whole(hub: HubForTests) -> None:
    event, whole = await hub.run("test.noop", text="x")
    assert event.status is EventStatus.SUCCEEDED
    assert event.deliveries == 1
    assert whole.execution.status is ExecutionStatus.SUCCEEDED
    assert [step.operation for step in whole.steps] == ["n0", "n1", "n2", "n3", "n4"]
    assert {step.status for step in whole.steps} == {StepStatus.SUCCEEDED}
    assert whole.execution.steps_total == whole.execution.steps_succeeded == 5
    assert whole.payload.get(whole.execution.input)["text"] == "x"


async def test_model_steps_keep_prompts_tries_and_sums(hub: HubForTests) -> None:
    _, whole = await hub.run("test.talking", text="Ada")
    say, judge = whole.steps
    first, wrong, right = whole.attempts
    assert (say.kind, judge.kind) == ("model", "model")
    assert whole.payload.get(first.prompt_system) == "You are Ada."
    assert whole.payload.get(first.prompt_user) == "Who am I?"
    assert whole.payload.get(first.raw_response)["content"] == "You are Ada. Who am I?"
    assert (first.provider, first.model, first.validation) == ("scripted", "rules", None)
    assert (wrong.n, wrong.validation, wrong.credits) == (1, "invalid", 0)
    assert "less than or equal to 1" in str(wrong.validation_errors)
    assert (right.n, right.validation, right.credits) == (2, "valid", 3)
    asked = whole.payload.get(right.messages)
    assert asked[:1] == whole.payload.get(wrong.messages)
    assert [message["role"] for message in asked] == ["user", "assistant", "user"]
    totals = whole.execution.totals
    assert totals.tokens_input == sum(one.tokens_input or 0 for one in whole.attempts) > 0
    assert totals.tokens_output == sum(one.tokens_output or 0 for one in whole.attempts) > 0
    assert totals.credits == 3
    assert whole.payload.get(judge.output) == {"score": 0.5}
    assert whole.execution.flags["tokens_estimated"] is True


async def test_two_pipelines_side_by_side_record_their_own_prompts(hub: HubForTests) -> None:
    names = [f"name-{i}" for i in range(20)]
    done = await asyncio.gather(
        *(hub.run("test.talking", text=name) for name in names),
        *(hub.run("test.other", text=name) for name in names),
    )
    for (_, whole), name in zip(done, names * 2, strict=True):
        own = "I am other" if whole.execution.name == "test.other" else "You are"
        assert whole.payload.get(whole.attempts[0].prompt_system) == f"{own} {name}."
        assert {attempt.step for attempt in whole.attempts} <= {s.step for s in whole.steps}


async def test_a_failed_step_fails_its_event_and_says_why(hub: HubForTests) -> None:
    event, whole = await hub.run("test.failing", text="that")
    assert event.status is EventStatus.FAILED
    assert event.deliveries == 1
    assert event.last_error is not None
    assert event.last_error["message"] == "cannot do that"
    works, fails = whole.steps
    assert (works.status, fails.status) == (StepStatus.SUCCEEDED, StepStatus.FAILED)
    assert fails.error is not None
    assert fails.error["type"] == "ValueError"
    assert "spine_app.py" in fails.error["traceback"]
    assert fails.error_phase == "node"
    assert (whole.execution.steps_succeeded, whole.execution.steps_failed) == (1, 1)


async def test_a_deadline_ends_the_run(hub: HubForTests) -> None:
    event, whole = await hub.run("test.hurried")
    assert event.status is EventStatus.FAILED
    assert whole.execution.status is ExecutionStatus.TIMED_OUT
    assert whole.execution.error is not None
    assert whole.execution.error["code"] == "deadline_exceeded"
    assert whole.steps[0].status is StepStatus.CANCELLED


async def test_a_foreign_graph_is_recorded_whole(hub: HubForTests) -> None:
    event, whole = await hub.run("test.foreign", messages=[{"role": "user", "content": "hi"}])
    assert event.status is EventStatus.SUCCEEDED
    operations = [(step.kind, step.operation) for step in whole.steps]
    assert ("node", "reply") in operations
    assert ("node", "polish") in operations
    assert ("chain", "choose") in operations, "the routing decision is on record"
    messages = whole.payload.get(whole.execution.output)["messages"]
    assert [message["content"] for message in messages] == ["hi", "you said hi", "thanks"]


async def test_an_interrupt_without_checkpoints_fails_and_says_why(hub: HubForTests) -> None:
    event, whole = await hub.run("test.mute", messages=[{"role": "user", "content": "hi"}])
    assert event.status is EventStatus.FAILED
    assert whole.execution.error is not None
    assert whole.execution.error["code"] == "interrupted"
    assert "which one?" in whole.execution.error["message"]


async def test_a_step_sends_a_further_event_once(hub: HubForTests) -> None:
    event, whole = await hub.run("test.sending")
    assert event.status is EventStatus.SUCCEEDED, event.last_error
    child = await hub.ended(whole.payload.get(whole.execution.output))
    assert (child.target, child.status) == ("test.noop", EventStatus.SUCCEEDED)
    assert child.source == f"/executions/{event.execution_id}"


async def test_cancel_reaches_a_running_async_step(hub: HubForTests, tmp_path: Path) -> None:
    event_id = await hub.submit("test.gated", folder=str(tmp_path))
    await until(tmp_path / "pid-1")
    running = (await hub.executions(event_id))[0]
    assert running.status is ExecutionStatus.RUNNING
    told = await cancel_execution(hub.kit, running.id, LOCAL_OWNER)
    assert told.status is EventStatus.RUNNING
    event = await hub.ended(event_id)
    assert event.status is EventStatus.CANCELLED
    whole = await hub.whole(running.id)
    assert whole.execution.status is ExecutionStatus.CANCELLED
    assert [step.status for step in whole.steps] == [StepStatus.SUCCEEDED, StepStatus.CANCELLED]


async def test_a_running_execution_is_shown_as_far_as_it_has_come(
    hub: HubForTests, tmp_path: Path
) -> None:
    event_id = await hub.submit("test.gated", folder=str(tmp_path))
    await until(tmp_path / "pid-1")
    listed = (await hub.executions(event_id))[0]

    async def gate_is_shown() -> bool:
        return len((await hub.whole(listed.id)).steps) == 2

    await until_true(gate_is_shown)
    whole = await hub.whole(listed.id)
    assert [step.status for step in whole.steps] == [StepStatus.SUCCEEDED, StepStatus.RUNNING]
    assert whole.payload.get(whole.steps[0].output) == "done before"
    (tmp_path / "open").touch()
    assert (await hub.ended(event_id)).status is EventStatus.SUCCEEDED


async def test_bad_events_are_refused_and_not_stored(hub: HubForTests) -> None:
    async def send(type: str, data: object) -> None:
        await submit(hub.kit, owner_id=LOCAL_OWNER, type=type, data=data)

    with pytest.raises(UnknownPipeline, match="did you mean test.noop"):
        await send("test.nop", {})
    with pytest.raises(InvalidInput) as refused:
        await send("test.noop", {"txet": "x"})
    assert refused.value.fields[0]["field"] == "data.txet"
    deep: object = {}
    for _ in range(300):
        deep = {"text": deep}
    with pytest.raises(InvalidInput, match="levels"):
        await send("test.noop", deep)


async def test_blocking_code_that_ignores_a_cancel_is_abandoned(
    open_hub: OpenHub, tmp_path: Path
) -> None:
    async with open_hub(runners=1) as hub:
        old = hub.crew.workers[0]
        event_id = await hub.submit("test.blocking", folder=str(tmp_path))
        await until(tmp_path / "blocked")
        await cancel_event(hub.kit, event_id, LOCAL_OWNER)
        event = await hub.ended(event_id)
        assert event.status is EventStatus.CANCELLED
        whole = await hub.whole(str(event.execution_id))
        assert whole.steps[0].status is StepStatus.ABANDONED
        assert whole.execution.flags["abandoned"] is True
        # Its runner takes nothing new and is replaced.
        _, after = await hub.run("test.noop")
        assert after.execution.status is ExecutionStatus.SUCCEEDED
        assert old not in hub.crew.workers
        (tmp_path / "open").touch()


async def test_code_that_swallows_the_cancel_is_abandoned(
    open_hub: OpenHub, tmp_path: Path
) -> None:
    async with open_hub(runners=1) as hub:
        event_id = await hub.submit("test.stubborn", folder=str(tmp_path))
        await until(tmp_path / "holding")
        await cancel_event(hub.kit, event_id, LOCAL_OWNER)
        event = await hub.ended(event_id)
        whole = await hub.whole(str(event.execution_id))
        assert event.status is EventStatus.CANCELLED
        assert whole.steps[0].status is StepStatus.ABANDONED


async def test_a_runner_holds_no_database_and_no_setting_of_the_hub(
    open_hub: OpenHub, hub_environ: dict[str, str], tmp_path: Path
) -> None:
    hub_environ["OPENAI_API_KEY"] = "sk-nobody-uses-it"
    hub_environ["HOLDFAST_MODELS"] = (
        '{"fast": "scripted", "standard": "scripted", "expert": "scripted"}'
    )
    async with open_hub(runners=1) as hub:
        event_id = await hub.submit("test.gated", folder=str(tmp_path))
        runner = psutil.Process(int(await until(tmp_path / "pid-1")))
        assert runner.pid != os.getpid()
        opened = [file.path for file in runner.open_files()]
        assert not [path for path in opened if str(tmp_path / "home") in path]
        libraries = Path(f"/proc/{runner.pid}/maps").read_text()
        assert "_sqlite3" not in libraries
        assert "psycopg" not in libraries
        assert not [c for c in runner.net_connections() if c.status == "ESTABLISHED"]
        environ = runner.environ()
        assert not [name for name in environ if name.startswith("HOLDFAST_")]
        assert "OPENAI_API_KEY" not in environ
        (tmp_path / "open").touch()
        await hub.ended(event_id)


async def test_no_sql_comes_from_a_run(open_hub: OpenHub, tmp_path: Path) -> None:
    """Between claim and end, whatever the run does, nothing touches the database."""
    async with open_hub(runners=1) as hub:
        event_id = await hub.submit("test.gated", folder=str(tmp_path))
        await until(tmp_path / "pid-1")
        before = dict(hub.kit.store.statements)
        others = [await hub.submit("test.talking", text=str(i)) for i in range(10)]
        (tmp_path / "open").touch()
        for one in [event_id, *others]:
            await hub.ended(one)
        after = dict(hub.kit.store.statements)
        grown = {name for name in after if after[name] != before.get(name, 0)}
        assert grown <= {"Submit", "Claim", "Finish", "EventById", "Reap", "ExtendLeases"}
        # A run of 2 model steps and 3 tries costs what a no-op costs: one claim, one finish.
        before = dict(hub.kit.store.statements)
        await hub.run("test.talking", text="x")
        talking = hub.kit.store.statements["Finish"] - before["Finish"]
        before = dict(hub.kit.store.statements)
        await hub.run("test.noop")
        assert hub.kit.store.statements["Claim"] >= 1
        # Besides: its attempts, its texts, and their lines in the ledger.
        assert talking <= hub.kit.store.statements["Finish"] - before["Finish"] + 3

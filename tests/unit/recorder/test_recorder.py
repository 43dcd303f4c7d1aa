"""What a recorder writes into its folders, read as whoever stores it reads it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langgraph.graph import END, START, StateGraph
from structlog.testing import capture_logs
from typing_extensions import TypedDict

from holdfast import Recorder
from holdfast.journal.folder import orphans
from holdfast.journal.replay import replay
from holdfast.journal.running import Running
from holdfast.recorder import spool as spool_module
from holdfast.testing.ports import ASSESSOR


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    with capture_logs() as collected:
        yield collected


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    made = Recorder("test", home=tmp_path)
    yield made
    made.close()


@pytest.fixture
def found(recorder: Recorder, tmp_path: Path) -> Callable[[], list[Running]]:
    """Closes the recorder and reads what it left, by the name of the execution."""

    def read() -> list[Running]:
        recorder.close()
        return left_in(tmp_path)

    return read


def left_in(home: Path) -> list[Running]:
    def fault(error: Exception) -> None:
        raise error

    runs: list[Running] = []
    for orphan in orphans(home / "journal", "recorder-"):
        runs += replay(orphan.entries(), ASSESSOR, fault)
        orphan.release()
    return runs


def tree(run: Running) -> list[tuple[str, str, int | None]]:
    return [(step.operation, str(step.status), step.parent) for step in run.steps()]


def test_blocks_become_an_execution_with_steps_attempts_and_cost(
    recorder: Recorder, found: Callable[[], list[Running]]
) -> None:
    with recorder.execution("report", input={"day": "monday"}) as run:
        with run.step("judge", kind="model", input={"text": "a"}) as step:
            with (
                pytest.raises(TimeoutError),
                step.provider_call(provider="openai", model="gpt-4o-mini", user="q"),
            ):
                raise TimeoutError("slow")
            with step.provider_call(
                provider="openai",
                model="gpt-4o-mini",
                system="Be brief.",
                user="q",
                parameters={"temperature": 0.5, "api_key": "sk-1"},
            ) as call:
                call.answer("a", tokens_input=1000, tokens_output=100, finish_reason="stop")
            step.validation("repaired", errors=["was no JSON"], credits=3)
            step.output = {"verdict": "a"}
        run.output = "done"
    (one,) = found()
    execution, payload = one.execution(), one.payload()
    assert (execution.name, execution.status, execution.kind) == ("report", "succeeded", "recorded")
    assert payload.get(execution.input) == {"day": "monday"}
    assert payload.get(execution.output) == "done"
    assert (execution.totals.tokens_input, execution.totals.tokens_output) == (1000, 100)
    assert execution.totals.cost_pico == 210_000_000
    assert execution.totals.usage_unknown == 1  # the try that timed out
    first, second = one.attempts()
    assert (first.n, first.status, first.error_class) == (1, "failed", "temporary")
    assert (second.n, second.status, second.validation) == (2, "succeeded", "repaired")
    assert second.validation_errors == ["was no JSON"]
    assert second.parameters == {"temperature": 0.5, "api_key": "***"}
    assert payload.get(second.prompt_system) == "Be brief."
    assert execution.totals.credits == 3
    assert recorder.faults == 0


def test_an_error_goes_on_and_is_recorded_where_it_happened(
    recorder: Recorder, found: Callable[[], list[Running]]
) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        recorder.execution("sum") as run,
        run.step("outer"),
        run.step("inner"),
    ):
        raise ZeroDivisionError("1/0")
    (one,) = found()
    assert tree(one) == [("outer", "failed", None), ("inner", "failed", 1)]
    execution = one.execution()
    assert execution.status == "failed"
    assert execution.error is not None
    assert (execution.error["type"], execution.error["message"]) == ("ZeroDivisionError", "1/0")


def test_a_failed_step_that_the_code_got_over_makes_it_partial(
    recorder: Recorder, found: Callable[[], list[Running]]
) -> None:
    with recorder.execution("sum") as run:
        with pytest.raises(ValueError, match="no"), run.step("optional"):
            raise ValueError("no")
        with run.step("skipped") as step:
            step.skip("nothing to do")
    (one,) = found()
    assert one.execution().status == "partial"
    assert [step.skip_reason for step in one.steps()] == [None, "nothing to do"]


async def test_tasks_side_by_side_do_not_record_each_other(
    recorder: Recorder, found: Callable[[], list[Running]]
) -> None:
    together = asyncio.Barrier(5)

    @recorder.step
    async def inner(text: str) -> str:
        await together.wait()
        return text.upper()

    async def work(number: int) -> None:
        with recorder.execution(f"task {number}") as run, run.step("outer"):
            await together.wait()  # all are in their step before any goes on
            run.output = await inner(f"text {number}")

    await asyncio.gather(*(work(number) for number in range(5)))
    runs = found()
    assert len(runs) == 5
    for one in runs:
        number = one.execution().name.removeprefix("task ")
        assert tree(one) == [("outer", "succeeded", None), ("inner", "succeeded", 1)]
        assert one.payload().get(one.steps()[1].input) == {"text": f"text {number}"}
        assert one.payload().get(one.execution().output) == f"TEXT {number}"


def test_threads_write_into_one_execution_under_the_step_they_are_given(
    recorder: Recorder, found: Callable[[], list[Running]]
) -> None:
    with recorder.execution("fan") as run, run.step("all") as parent:

        def work(number: int) -> None:
            with parent.step(f"part {number}") as part:
                part.output = number

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    (one,) = found()
    assert sorted(tree(one)[1:]) == [(f"part {n}", "succeeded", 1) for n in range(8)]
    assert recorder.faults == 0


def test_model_calls_at_once_in_one_step_are_steps_of_their_own(
    recorder: Recorder, found: Callable[[], list[Running]]
) -> None:
    with recorder.execution("two") as run, run.step("ask") as step:
        one, two = step.provider_call(model="a", user="x"), step.provider_call(model="b", user="y")
        for call in (one, two):
            with call:
                call.answer("z", tokens_input=1, tokens_output=1)
    (left,) = found()
    assert tree(left) == [("ask", "succeeded", None), ("b", "succeeded", 1)]
    assert [(a.step, a.n, a.model) for a in left.attempts()] == [(1, 1, "a"), (2, 1, "b")]


def test_a_decorated_function_alone_is_an_execution(
    recorder: Recorder, found: Callable[[], list[Running]]
) -> None:
    @recorder.step(name="double", kind="tool")
    def twice(x: int) -> int:
        """Doubles."""
        return 2 * x

    assert twice(4) == 8
    assert twice.__doc__ == "Doubles."
    with pytest.raises(TypeError, match="missing 1 required"):
        twice(*())
    done, failed = found()
    assert (done.execution().name, tree(done)) == ("double", [("double", "succeeded", None)])
    assert done.payload().get(done.execution().output) == 8
    assert failed.execution().status == "failed"


def test_a_generator_cannot_be_a_step(recorder: Recorder) -> None:
    with pytest.raises(TypeError, match="generator"):

        @recorder.step
        def numbers() -> Iterator[int]:
            yield 1


def test_calls_record_what_blocks_record(
    recorder: Recorder, found: Callable[[], list[Running]]
) -> None:
    run = recorder.initialize("report", input=[1])
    outer = recorder.on_step_start(run, "outer")
    step = recorder.on_step_start(run, "judge", kind="model", parent=outer)
    recorder.on_provider_call(
        run,
        step,
        provider="openai",
        model="gpt-4o-mini",
        user="q",
        answer="a",
        duration_s=1.5,
        tokens_input=10,
        tokens_output=5,
    )
    recorder.on_step_validation(run, step, "valid")
    recorder.on_step_complete(run, step, output="a")
    other = recorder.on_step_start(run, "other")
    recorder.on_step_complete(run, other, skipped="no need")
    recorder.on_step_complete(run, outer)
    recorder.finalize(run, output="done")
    (one,) = found()
    assert tree(one) == [
        ("outer", "succeeded", None),
        ("judge", "succeeded", 1),
        ("other", "skipped", None),
    ]
    (attempt,) = one.attempts()
    assert attempt.duration_us is not None
    assert attempt.duration_us >= 1_500_000
    assert (attempt.validation, attempt.tokens_output) == ("valid", 5)
    assert one.execution().status == "succeeded"


def test_unknown_ids_are_faults_and_no_errors(recorder: Recorder, logs: list[Any]) -> None:
    recorder.finalize("nobody")
    recorder.on_step_complete("nobody", 3)
    run = recorder.initialize("x")
    recorder.on_step_complete(run, 7)
    assert recorder.faults == 3
    told = [entry["error"] for entry in logs if entry["event"].startswith("recorder.fault")]
    assert told == ["no execution 'nobody' is under way"]  # the first of its kind


class _State(TypedDict):
    text: str


def _graph() -> Any:
    graph = StateGraph(_State)
    graph.add_node("shout", lambda state: {"text": state["text"].upper()})
    graph.add_edge(START, "shout")
    graph.add_edge("shout", END)
    return graph.compile(name="shouting")


async def test_a_graph_with_the_handler_is_an_execution_of_its_own(
    recorder: Recorder, found: Callable[[], list[Running]]
) -> None:
    handler = recorder.handler()
    assert _graph().invoke({"text": "a"}, {"callbacks": [handler]}) == {"text": "A"}
    await _graph().ainvoke({"text": "b"}, {"callbacks": [handler]})
    first, second = found()
    assert first.execution().name == "shouting"
    assert tree(first) == tree(second) == [("shout", "succeeded", None)]
    assert second.payload().get(second.execution().input) == {"text": "b"}
    assert second.payload().get(second.execution().output) == {"text": "B"}


def test_a_graph_inside_a_step_is_part_of_its_execution(
    recorder: Recorder, found: Callable[[], list[Running]]
) -> None:
    with recorder.execution("all") as run, run.step("graph"):
        _graph().invoke({"text": "a"}, {"callbacks": recorder.callbacks()})
    (one,) = found()
    assert tree(one) == [("graph", "succeeded", None), ("shout", "succeeded", 1)]


def test_disabled_it_touches_nothing(tmp_path: Path) -> None:
    home = tmp_path / "never"
    recorder = Recorder("test", home=home, enabled=False)

    def work() -> int:
        return 1

    assert recorder.step(work) is work
    with recorder.execution("x", input=object()) as run, run.step("y") as step:
        with step.provider_call(model="m") as call:
            call.answer("a")
        step.validation("valid")
    assert recorder.initialize("x") == ""
    recorder.on_step_complete("", recorder.on_step_start("", "y"))
    recorder.finalize("")
    assert _graph().invoke({"text": "a"}, {"callbacks": recorder.callbacks()}) == {"text": "A"}
    recorder.close()
    assert not home.exists()
    assert recorder.faults == 0


def test_a_home_that_cannot_be_written_costs_the_record_only(
    tmp_path: Path, logs: list[Any]
) -> None:
    (tmp_path / "file").write_text("no folder")
    recorder = Recorder("test", home=tmp_path / "file")
    for _ in range(3):
        with recorder.execution("x") as run, run.step("y") as step:
            step.output = 1
    assert recorder.faults == 3
    assert len([e for e in logs if e["event"] == "recorder.fault.begin"]) == 1


def test_a_full_disk_in_the_middle_costs_the_record_only(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "no space left")

    with recorder.execution("x") as run:
        monkeypatch.setattr(spool_module.Folder, "append", full)
        with run.step("y") as step:
            step.output = 1
    monkeypatch.undo()


def test_a_value_that_cannot_be_kept_is_described(
    recorder: Recorder, found: Callable[[], list[Running]]
) -> None:
    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    with recorder.execution("x\ud800", input={"odd": Odd()}) as run, run.step("y", input=Odd()):
        pass
    (one,) = found()
    assert one.execution().name == "x\\ud800"
    assert "Odd" in str(one.payload().get(one.steps()[0].input))


def test_short_executions_do_not_wait_for_a_long_one(recorder: Recorder, tmp_path: Path) -> None:
    long = recorder.initialize("long", input="x")
    first = recorder.on_step_start(long, "first")
    with recorder.execution("short"):
        pass
    assert recorder.flush(5)
    assert [one.execution().name for one in left_in(tmp_path)] == ["short"]
    with recorder.execution("next"):
        pass
    recorder.on_step_complete(long, first, output="of the first folder's step")
    assert recorder.flush(5)
    assert [one.execution().name for one in left_in(tmp_path)] == ["short", "next"]
    recorder.finalize(long)
    assert recorder.flush(5)
    runs = {one.execution().name: one for one in left_in(tmp_path)}
    assert tree(runs["long"]) == [("first", "succeeded", None)]
    assert runs["long"].payload().get(runs["long"].steps()[0].output)
    assert recorder.faults == 0


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_records_into_a_folder_of_its_own(
    recorder: Recorder, tmp_path: Path
) -> None:
    told, tell = os.pipe()
    leave, let_go = os.pipe()
    with recorder.execution("parent") as run:
        child = os.fork()
        if child == 0:
            with run.step("not the child's"), recorder.execution("child"):
                pass
            recorder.close()
            os.write(tell, bytes([recorder.faults]))
            os.read(leave, 1)
            os._exit(0)
        assert os.read(told, 1) == b"\0"
        assert [one.execution().name for one in left_in(tmp_path)] == ["child"]
        with run.step("the parent's"):
            pass
    recorder.close()
    runs = {one.execution().name: one for one in left_in(tmp_path)}  # though the child still lives
    os.write(let_go, b"x")
    os.waitpid(child, 0)
    for end in (told, tell, leave, let_go):
        os.close(end)
    assert tree(runs["parent"]) == [("the parent's", "succeeded", None)]


def test_what_has_not_ended_is_left_open(
    recorder: Recorder, found: Callable[[], list[Running]]
) -> None:
    run = recorder.initialize("cut off")
    recorder.on_step_start(run, "begun")
    (one,) = found()
    assert one.finished is None
    assert tree(one) == [("begun", "running", None)]

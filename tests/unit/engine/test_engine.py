"""Every execution ends with exactly one outcome, whatever its code does."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from holdfast.domain.status import ExecutionStatus, StepStatus
from holdfast.engine import engine as engine_module
from holdfast.testing.ports import MemorySink

from .conftest import Engines, one_node

X = ExecutionStatus


async def nothing(state: Any) -> None:
    return None


class Gate:
    """A node that says when it runs and waits until it may go on."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.open = asyncio.Event()
        self.swallow = False

    async def __call__(self, state: Any) -> str:
        self.reached.set()
        while not self.open.is_set():
            try:
                await self.open.wait()
            except asyncio.CancelledError:
                if not self.swallow:
                    raise
        return "through"


async def test_a_run_ends_once_and_leaves_nothing_behind() -> None:
    engines = Engines([one_node("p", nothing)])
    before = asyncio.all_tasks()
    record = await engines.run("p", text="x")
    assert record.finished.status == X.SUCCEEDED
    assert record.text(0) is None  # the event's data stands in its row
    assert len(engines.ended) == 1
    assert engines.engine.running == 0
    assert engines.threads.active(engines.ended[0]) == 0
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_two_hundred_at_once_each_end_with_their_own_output() -> None:
    async def echo(state: Any) -> str:
        await asyncio.sleep(0)
        return f"{state.event.text} back"

    engines = Engines([one_node("p", echo)])
    ids = {engines.start("p", text=f"call {n}"): n for n in range(200)}
    assert engines.engine.running == 200
    await engines.engine.drain()
    assert sorted(engines.ended) == sorted(ids)
    for execution_id, number in ids.items():
        record = engines.record(execution_id)
        assert record.finished.status == X.SUCCEEDED
        assert record.output == f"call {number} back"


# -- stopping --------------------------------------------------------------------------------------


async def test_a_deadline_stops_the_run() -> None:
    gate = Gate()
    engines = Engines([one_node("p", gate)])
    execution_id = engines.start("p", deadline_s=0.01)
    await engines.engine.drain()
    record = engines.record(execution_id)
    assert record.finished.status == X.TIMED_OUT
    assert record.finished.error is not None
    assert record.finished.error["code"] == "deadline_exceeded"
    assert "p did not finish within 0.01 s" in record.finished.error["message"]
    assert record.step("only").status is StepStatus.CANCELLED


async def test_a_deadline_that_is_not_reached_is_forgotten() -> None:
    engines = Engines([one_node("p", nothing)])
    execution_id = engines.start("p", deadline_s=60)
    await engines.engine.drain()
    assert engines.record(execution_id).finished.status == X.SUCCEEDED
    loop: Any = asyncio.get_running_loop()
    pending = [timer for timer in loop._scheduled if not timer.cancelled()]
    assert not [timer for timer in pending if "_stop" in repr(timer) or "_end" in repr(timer)]


async def test_a_cancel_before_the_first_step_runs_none() -> None:
    gate = Gate()
    engines = Engines([one_node("p", gate)])
    execution_id = engines.start("p")
    assert engines.engine.cancel(execution_id)
    await engines.engine.drain()
    record = engines.record(execution_id)
    assert record.finished.status == X.CANCELLED
    assert record.steps == ()
    assert not gate.reached.is_set()


async def test_a_cancel_in_mid_run_says_which_step_it_met() -> None:
    gate = Gate()
    engines = Engines([one_node("p", gate)])
    execution_id = engines.start("p")
    await gate.reached.wait()
    assert engines.engine.cancel(execution_id)
    assert engines.engine.cancel(execution_id), "twice is no harm"
    await engines.engine.drain()
    record = engines.record(execution_id)
    assert record.finished.status == X.CANCELLED
    assert record.step("only").status is StepStatus.CANCELLED
    assert engines.ended == [execution_id]
    assert not engines.engine.cancel(execution_id), "it has ended"


async def test_a_cancel_after_a_deadline_does_not_change_the_reason() -> None:
    gate = Gate()
    gate.swallow = True
    engines = Engines([one_node("p", gate)])
    execution_id = engines.start("p", deadline_s=0.01)
    await gate.reached.wait()
    while engines.engine._running[execution_id].stopped is None:
        await asyncio.sleep(0.005)
    engines.engine.cancel(execution_id)
    gate.open.set()
    await engines.engine.drain()
    assert engines.record(execution_id).finished.status == X.TIMED_OUT


async def test_a_cancel_in_the_instant_of_the_end_does_not_undo_it() -> None:
    engines = Engines([one_node("p", nothing)])
    execution_id = engines.start("p")
    task = engines.engine._running[execution_id].task
    assert task is not None
    while not task.done():
        await asyncio.sleep(0)
    # Done, but the loop has not told the engine yet.
    if execution_id in engines.engine._running:
        engines.engine.cancel(execution_id)
    await engines.engine.drain()
    assert engines.record(execution_id).finished.status == X.SUCCEEDED


async def test_a_cancel_while_a_large_event_is_checked_stops_it() -> None:
    class Slow:
        """Stands for a schema that takes its time; the cancel comes from within."""

        async def __call__(self, state: Any) -> None: ...

    pipeline = one_node("p", Slow())
    engines = Engines([pipeline])
    original = pipeline.validate
    asked: list[bool] = []

    def validate(data: Any) -> Any:
        asked.append(engines.engine.cancel(execution_id))
        return original(data)

    pipeline.validate = validate  # type: ignore[method-assign]
    execution_id = engines.start("p", text="x" * 1_000_000)
    await engines.engine.drain()
    assert asked == [True]
    record = engines.record(execution_id)
    assert record.finished.status == X.CANCELLED
    assert engines.ended == [execution_id]


async def test_code_that_swallows_the_cancel_is_abandoned_after_the_grace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine_module, "CANCEL_GRACE_S", 0.02)
    gate = Gate()
    gate.swallow = True
    engines = Engines([one_node("p", gate)])
    execution_id = engines.start("p")
    await gate.reached.wait()
    engines.engine.cancel(execution_id)
    await engines.engine.drain()
    assert engines.abandoned == [execution_id]
    told = len(engines.sink.raw[execution_id])
    gate.open.set()  # it goes on after all: what it does is not recorded any more
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(engines.sink.raw[execution_id]) == told
    record = engines.record(execution_id)
    assert record.finished.status == X.CANCELLED
    assert record.step("only").status is StepStatus.ABANDONED
    assert engines.ended == [execution_id]


async def test_blocking_code_that_is_left_running_is_abandoned() -> None:
    release, reached = threading.Event(), threading.Event()

    def block(state: Any) -> str:
        reached.set()
        release.wait(10)
        return "too late"

    engines = Engines([one_node("p", block)])
    execution_id = engines.start("p")
    await asyncio.to_thread(reached.wait, 10)
    assert engines.threads.active(execution_id) == 1
    engines.engine.cancel(execution_id)
    await engines.engine.drain()
    record = engines.record(execution_id)
    assert record.finished.status == X.CANCELLED
    assert record.step("only").status is StepStatus.ABANDONED
    assert engines.abandoned == [execution_id]
    release.set()
    engines.threads.shutdown(wait=True)
    assert engines.threads.active(execution_id) == 0


# -- what user code may do -------------------------------------------------------------------------


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("I say nothing")


class OfItsOwn(BaseException):
    pass


@pytest.mark.parametrize("sync", [False, True], ids=["async", "in a thread"])
@pytest.mark.parametrize(
    "error",
    [ValueError("no"), Mute(), ValueError("bad \udc80"), OfItsOwn("odd")],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_a_node_raises_fails_its_execution(error: BaseException, sync: bool) -> None:
    def in_thread(state: Any) -> None:
        raise error

    async def in_loop(state: Any) -> None:
        raise error

    engines = Engines([one_node("p", in_thread if sync else in_loop), one_node("q", nothing)])
    record = await asyncio.wait_for(engines.run("p"), 10)
    assert record.finished.status == X.FAILED
    assert record.finished.error is not None
    assert record.finished.error["code"] == "step_failed"
    assert record.finished.error["type"] == type(error).__name__
    assert len(engines.ended) == 1
    assert (await engines.run("q")).finished.status == X.SUCCEEDED


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_node_that_raises_what_closes_coroutines_still_ends() -> None:
    async def leave(state: Any) -> None:
        raise GeneratorExit  # Python itself stumbles over it, in LangGraph's coroutines

    engines = Engines([one_node("p", leave)])
    record = await asyncio.wait_for(engines.run("p"), 10)
    assert record.finished.status == X.FAILED
    assert len(engines.ended) == 1


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=["exit", "interrupt"])
def test_a_node_that_exits_fails_its_execution_once_the_loop_goes_on(error: BaseException) -> None:
    """The loop lets such an error out; whoever runs it (the runner does) takes it up again."""

    async def leave(state: Any) -> None:
        raise error

    async def main() -> Any:
        engines = Engines([one_node("p", leave)])
        gate = Gate()
        other = Engines([one_node("q", gate)])
        neighbour = other.start("q")
        await gate.reached.wait()
        record = await engines.run("p")
        gate.open.set()
        await other.engine.drain()
        return record, other.record(neighbour)

    loop = asyncio.new_event_loop()
    task = loop.create_task(main())
    left = 0
    while not task.done():
        try:
            loop.run_until_complete(task)
        except type(error):
            left += 1
            assert left < 10
    record, neighbour = task.result()
    loop.close()
    assert left > 0
    assert record.finished.status == X.FAILED
    assert record.finished.error["type"] == type(error).__name__
    assert record.step("only").status is StepStatus.FAILED
    assert neighbour.finished.status == X.SUCCEEDED


async def test_a_node_that_cancels_itself_has_failed_for_nobody_asked() -> None:
    async def leave(state: Any) -> None:
        raise asyncio.CancelledError

    record = await Engines([one_node("p", leave)]).run("p")
    assert record.finished.status == X.FAILED
    assert record.finished.error is not None
    assert "CancelledError" in record.finished.error["message"]


async def test_results_that_are_no_json_are_described() -> None:
    async def odd(state: Any) -> Any:
        return {"set": {1}, "object": object(), "nan": float("nan"), "huge": 10**30}

    record = await Engines([one_node("p", odd)]).run("p")
    assert record.finished.status == X.SUCCEEDED
    assert record.output["set"] == [1]
    assert record.output["nan"]["repr"] == "nan"
    assert record.finished.faults == []


async def test_an_event_that_does_not_fit_any_more_fails_with_its_field() -> None:
    record = await Engines([one_node("p", nothing)]).run("p", txet="x")
    assert record.finished.status == X.FAILED
    assert record.finished.error is not None
    assert record.finished.error["code"] == "invalid_input"
    assert record.steps == ()


async def test_an_unknown_pipeline_fails_and_is_named() -> None:
    record = await Engines([one_node("p", nothing)]).run("q")
    assert record.finished.status == X.FAILED
    assert record.finished.error is not None
    assert record.finished.error["code"] == "unknown_pipeline"


class Broken(MemorySink):
    def change(self, execution_id: str, raw: bytes) -> None:
        raise OSError("planted")


async def test_a_sink_that_takes_nothing_holds_no_execution_back() -> None:
    engines = Engines([one_node("p", nothing)], sink=Broken())
    for _ in range(3):
        engines.start("p")
    await asyncio.wait_for(engines.engine.drain(), 10)
    assert len(engines.ended) == 3

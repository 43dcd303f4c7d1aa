"""Declaring and running: nodes, routes, groups, results."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from pydantic import BaseModel, field_validator

from holdfast.errors import (
    BranchesFailed,
    DeclarationError,
    InvalidInput,
    NoResult,
    OutsideRun,
)
from holdfast.pipelines.context import current_run
from holdfast.pipelines.nodes import Skip
from holdfast.pipelines.pipeline import END, Pipeline
from holdfast.pipelines.router import Decision
from holdfast.pipelines.state import State


class Note(BaseModel):
    text: str
    size: int = 0


def pipeline(**options) -> Pipeline:
    return Pipeline("test.notes", version="3", event=Note, **options)


async def test_nodes_see_the_event_and_what_ran_before_them(run):
    p = pipeline()

    @p.node
    async def upper(state: State[Note]) -> str:
        return state.event.text.upper()

    @p.node("twice", version="9")
    def doubled(state: State[Note]) -> list[str]:
        return [state.upper, state[upper]]

    p.start(upper)
    p.edge(upper, "twice")

    ran = await run(p, {"text": "hi"})

    assert ran.output == ["HI", "HI"]
    assert ran.recorded_output("twice") == ["HI", "HI"]
    assert list(ran.results) == ["upper", "twice"]
    assert {(s.operation, s.kind, s.version) for s in ran.steps.values()} == {
        ("upper", "node", "3"),
        ("twice", "node", "9"),
    }


async def test_a_class_may_stand_for_two_nodes(run):
    class Add:
        def __init__(self, amount: int = 1) -> None:
            self.amount = amount

        async def __call__(self, state: State) -> int:
            return state.event.size + self.amount

    p = pipeline(output=lambda state: state.one + state.ten)
    one = p.node("one", Add)
    ten = p.node("ten", Add(10))
    p.start(one)
    p.edge(one, ten)

    ran = await run(p, {"text": "", "size": 5})

    assert ran.results == {"one": 6, "ten": 15}
    assert ran.output == 21


async def test_a_decorated_class_is_named_after_itself(run):
    p = pipeline()

    @p.node
    class CloseTicket:
        def __call__(self, state: State) -> str:
            return "closed"

    p.start("close_ticket")
    assert (await run(p, {"text": ""})).results == {"close_ticket": "closed"}


async def test_sync_nodes_run_in_the_runs_own_threads_with_its_context(run):
    p = pipeline()

    @p.node
    def where(state: State) -> tuple[str, str]:
        return threading.current_thread().name, current_run().event_id

    p.start(where)
    with ThreadPoolExecutor(1, thread_name_prefix="mine") as threads:
        ran = await run(p, {"text": ""}, threads=threads)
    assert ran.output == ("mine_0", "e1")


async def test_stop_iteration_from_a_sync_node_is_an_error_and_not_a_hang(run):
    p = pipeline()

    @p.node
    def first(state: State) -> str:
        return next(iter([]))

    p.start(first)
    ran = await asyncio.wait_for(run(p, {"text": ""}), 5)
    assert isinstance(ran.error, RuntimeError)
    assert isinstance(ran.error.__cause__, StopIteration)


async def test_a_partial_around_an_async_function_is_awaited(run):
    async def shift(by: int, state: State) -> int:
        return state.event.size + by

    p = pipeline()
    p.start(p.node("shift", partial(shift, 2)))
    assert (await run(p, {"text": "", "size": 1})).output == 3


async def test_a_skipped_step_carries_its_reason(run):
    p = pipeline()

    @p.node
    async def attach(state: State) -> str:
        raise Skip("no attachment")

    p.start(attach)
    ran = await run(p, {"text": ""})
    assert ran.results == {"attach": None}
    assert ran.ended("attach").status == "skipped"
    assert ran.ended("attach").skip_reason == "no attachment"


async def test_a_result_that_is_not_there_is_named(run):
    p = pipeline()

    @p.node
    async def first(state: State) -> int:
        return 1

    @p.node
    async def second(state: State) -> int:
        return state.third

    @p.node
    async def third(state: State) -> int:
        return 3

    p.start(first)
    p.chain(first, second, third)
    ran = await run(p, {"text": ""})
    assert isinstance(ran.error, NoResult)
    assert '"third" has no result: it has not run (finished so far: first)' in str(ran.error)


def test_a_node_can_be_called_as_the_function_it_is():
    p = pipeline()

    @p.node
    def size(state: State) -> int:
        return state.event.size

    assert size(State(Note(text="", size=4), {})) == 4


# -- routes ------------------------------------------------------------------------------------


def is_long(state: State) -> bool:
    return len(state.event.text) > 5


def routed() -> Pipeline:
    p = pipeline()

    @p.node
    async def read(state: State) -> int:
        return state.event.size

    @p.node
    async def big(state: State) -> str:
        return "big"

    @p.node
    async def long(state: State) -> str:
        return "long"

    p.start(read)
    p.route(
        read,
        [(big, lambda s: s.read > 10), ("long", is_long), (END, lambda s: s.read < 0)],
        otherwise=big,
    )
    return p


@pytest.mark.parametrize(
    ("data", "target", "rule", "output"),
    [
        ({"text": "", "size": 11}, "big", "s.read > 10", "big"),
        ({"text": "abcdefg", "size": 11}, "big", "s.read > 10", "big"),
        ({"text": "abcdefg"}, "long", "is_long", "long"),
        ({"text": "", "size": -1}, END, "s.read < 0", -1),
        ({"text": ""}, "big", None, "big"),
    ],
)
async def test_the_first_rule_that_holds_decides_and_is_recorded(run, data, target, rule, output):
    ran = await run(routed(), data)
    assert ran.output == output
    assert ran.results["read.route"] == Decision(target, rule, fallback=rule is None)
    assert ran.steps["read.route"].kind == "router"
    assert ran.recorded_output("read.route") == {
        "target": target,
        "rule": rule,
        "fallback": rule is None,
    }
    assert ran.steps["read.route"].parent is None


@pytest.mark.parametrize("answer", [None, 0, 1, "yes"])
async def test_a_rule_that_forgets_to_answer_is_no_silent_no(run, answer):
    p = pipeline()

    @p.node
    async def a(state: State) -> int:
        return 1

    @p.node
    async def b(state: State) -> int:
        return 2

    def forgetful(state: State) -> Any:
        return answer

    p.start(a)
    p.route(a, {b: forgetful}, otherwise=END)
    ran = await run(p, {"text": ""})
    assert isinstance(ran.error, DeclarationError)
    assert f"'forgetful' after \"a\" answers {answer!r}, neither True nor" in str(ran.error)
    assert ran.ended("a.route").status == "failed"
    assert ran.ended("a").status == "succeeded"


def test_an_async_rule_is_refused():
    p = pipeline()

    @p.node
    async def a(state: State) -> int:
        return 1

    async def slow(state: State) -> bool:
        return True

    with pytest.raises(DeclarationError, match='rule slow after "a" is async'):
        p.route(a, {END: slow}, otherwise=END)


def test_a_rule_over_several_lines_is_shown_whole():
    p = pipeline()

    @p.node
    async def a(state: State) -> int:
        return 1

    p.start(a)
    p.route(
        a,
        {
            END: lambda state: (
                state.a == 1
                and state.event.text != "ü"
            )
        },
        otherwise=END,
    )  # fmt: skip
    labels = [edge.get("label") for edge in p.describe()["edges"]]
    assert 'state.a == 1 and state.event.text != "ü"' in labels


# -- groups ------------------------------------------------------------------------------------


def grouped(on_failure="abort", *, fail: bool) -> Pipeline:
    p = pipeline()
    met = asyncio.Barrier(2)

    @p.node
    async def left(state: State) -> str:
        await met.wait()  # only a branch that runs beside it lets it go on
        return state.event.text + "L"

    @p.node
    async def right(state: State) -> str:
        await met.wait()
        if fail:
            raise ValueError("right is wrong")
        return state.event.text + "R"

    @p.node
    async def after(state: State) -> list[str]:
        return [state.both.left, state.left]

    p.start(p.parallel("both", [left, right], on_failure=on_failure))
    p.edge("both", after)
    return p


async def test_branches_run_side_by_side_as_children_of_their_group(run):
    ran = await run(grouped(fail=False), {"text": "x"})
    assert ran.output == ["xL", "xL"]
    assert dict(ran.results["both"]) == {"left": "xL", "right": "xR"}
    assert ran.recorded_output("both") == {"left": "xL", "right": "xR"}
    assert ran.results["right"] == "xR"
    group = ran.steps["both"]
    assert group.kind == "parallel"
    assert ran.steps["left"].parent == ran.steps["right"].parent == group.step
    assert set(ran.steps) == {"both", "left", "right", "after"}


async def test_a_failing_branch_aborts_only_when_the_others_have_ended(run):
    ran = await run(grouped(fail=True), {"text": "x"})
    assert isinstance(ran.error, BranchesFailed)
    assert (ran.error.failed, ran.error.succeeded) == (["right"], ["left"])
    assert "failed: right (right is wrong); succeeded: left" in str(ran.error)
    cause = ran.error.__cause__
    assert isinstance(cause, ExceptionGroup)
    assert isinstance(cause.exceptions[0], ValueError)
    assert ran.ended("left").status == "succeeded"
    assert ran.ended("right").status == "failed"
    assert ran.ended("right").error["message"] == "right is wrong"
    assert ran.ended("both").status == "failed"


async def test_a_group_may_go_on_without_a_failed_branch(run):
    ran = await run(grouped("continue", fail=True), {"text": "x"})
    assert ran.output == ["xL", "xL"]
    assert [(f.node, f.type, f.message) for f in ran.failures] == [
        ("right", "ValueError", "right is wrong")
    ]
    assert ran.ended("right").status == "failed"
    assert ran.ended("both").status == "succeeded"
    with pytest.raises(NoResult, match=r'"both.right" has no result: it failed with right is'):
        _ = ran.results["both"].right
    state = State(None, ran.results)
    with pytest.raises(NoResult, match="it failed with right is wrong"):
        _ = state.right


async def test_groups_nest(run):
    p = pipeline()
    leaves = [p.node(name, lambda s, name=name: name) for name in ("a", "b", "c")]
    inner = p.parallel("inner", leaves[:2])
    p.start(p.parallel("outer", [inner, leaves[2]]))
    ran = await run(p, {"text": ""})
    assert ran.results["outer"].inner.a == "a"
    assert {"a", "b", "c", "inner", "outer"} == set(ran.results)
    assert ran.steps["a"].parent == ran.steps["inner"].step


# -- events ------------------------------------------------------------------------------------


class Part(BaseModel):
    amount: int


class Order(BaseModel):
    sender: str
    parts: list[Part] = []


@pytest.mark.parametrize(
    ("data", "field", "expected", "got"),
    [
        ({}, "data.sender", "a value for this field", "nothing"),
        ({"sender": "a", "extra": 1}, "data.extra", "no such field", "1"),
        (
            {"sender": "a", "parts": [{"amount": 1, "unit": "kg"}]},
            "data.parts.0.unit",
            "no such field",
            '"kg"',
        ),
        (
            {"sender": "a", "parts": [{"amount": "x"}]},
            "data.parts.0.amount",
            "Input should be a valid integer, unable to parse string as an integer",
            '"x"',
        ),
        ([], "data", "Input should be an object", "[]"),
    ],
)
def test_wrong_and_unknown_fields_are_named(data, field, expected, got):
    p = Pipeline("test.orders", version="1", event=Order)
    with pytest.raises(InvalidInput) as caught:
        p.validate(data)
    assert caught.value.fields == [{"field": field, "expected": expected, "got": got}]
    assert field in str(caught.value)


def test_a_long_refused_value_is_cut():
    class Short(BaseModel):
        text: str

        @field_validator("text")
        @classmethod
        def refuse(cls, value: str) -> str:
            raise ValueError("too long")

    p = Pipeline("test.short", version="1", event=Short)
    with pytest.raises(InvalidInput) as caught:
        p.validate({"text": "x" * 5000})
    assert len(caught.value.fields[0]["got"]) == 80


# -- the run -----------------------------------------------------------------------------------


async def test_a_node_may_send_further_events(run):
    p = pipeline()

    @p.node
    async def forward(state: State) -> str:
        return await current_run().submit("test.other", {"text": state.event.text})

    p.start(forward)
    ran = await run(p, {"text": "hi"})
    assert ran.output == "event-1"
    assert ran.events.sent == [("test.other", {"text": "hi"})]


async def test_runs_side_by_side_each_see_their_own(run):
    p = pipeline()
    both = asyncio.Barrier(2)

    @p.node
    async def mine(state: State) -> list[str]:
        before = current_run().execution_id
        await both.wait()
        return [before, current_run().execution_id]

    p.start(mine)
    ran = await asyncio.gather(*(run(p, {"text": ""}, execution_id=one) for one in ("x1", "x2")))
    assert [one.output for one in ran] == [["x1", "x1"], ["x2", "x2"]]


def test_there_is_no_run_outside_of_one():
    with pytest.raises(OutsideRun):
        current_run()


def test_the_code_version_follows_the_wiring():
    one, two = routed(), routed()
    assert one.code_version == two.code_version
    assert len(one.code_version) == 12
    three = pipeline()
    three.start(three.node("a", lambda s: 1))
    assert three.code_version != one.code_version

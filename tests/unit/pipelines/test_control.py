"""Loops, maps and included pipelines."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from langgraph.graph import END as LG_END
from langgraph.graph import START, StateGraph
from pydantic import BaseModel
from typing_extensions import TypedDict

from holdfast.domain.changes import StepStarted
from holdfast.domain.payload import Payload
from holdfast.errors import (
    BranchesFailed,
    DeclarationError,
    InvalidInput,
    LoopExceeded,
    NoResult,
    StepTimeout,
)
from holdfast.pipelines.graph import Graph
from holdfast.pipelines.loop import Round
from holdfast.pipelines.nodes import Skip
from holdfast.pipelines.pipeline import END, Pipeline
from holdfast.pipelines.state import Failure, State


class Note(BaseModel):
    text: str = ""
    words: list[str] = []
    rounds: int = 0


def pipeline(name: str = "test.control", **options: Any) -> Pipeline:
    return Pipeline(name, version="1", event=Note, **options)


def refused(p: Pipeline, message: str) -> None:
    with pytest.raises(DeclarationError, match=re.escape(message)):
        p.check()


# -- loops -------------------------------------------------------------------------------------


def too_short(state: State) -> bool:
    return state.draft < state.event.rounds


def revising(**options: Any) -> Pipeline:
    """Drafts count up until there are as many as the event says."""
    p = pipeline()

    @p.node
    async def draft(state: State) -> int:
        return state.results.get("draft", 0) + 1

    @p.node
    async def judge(state: State) -> str:
        return f"judged {state.draft}"

    @p.node
    async def send(state: State) -> str:
        return f"sent {state.draft}"

    p.start(draft)
    p.chain(draft, judge, send)
    p.loop(judge, back_to=draft, while_=too_short, **{"at_most": 5, **options})
    return p


async def test_a_loop_goes_round_while_its_rule_holds(run):
    ran = await run(revising(), {"rounds": 3})
    assert ran.output == "sent 3"
    assert [s.operation for s in ran.of(StepStarted)] == [
        *("draft", "judge", "judge.loop") * 3,
        "send",
    ]
    assert {s.operation: s.kind for s in ran.of(StepStarted)}["judge.loop"] == "loop"


def rounds_recorded(ran: Any, operation: str) -> list[dict[str, Any]]:
    payload = Payload([entry for change in ran.sink.changes for entry in change.texts])
    numbers = [s.step for s in ran.of(StepStarted) if s.operation == operation]
    ends = {c.step: c for c in ran.sink.changes if c.k == "step.finished"}
    return [payload.get(ends[number].output) for number in numbers]


async def test_each_decision_and_its_count_are_recorded(run):
    ran = await run(revising(), {"rounds": 2})
    assert rounds_recorded(ran, "judge.loop") == [
        {
            "target": "draft",
            "rule": "too_short",
            "fallback": False,
            "round": 1,
            "at_most": 5,
            "exhausted": False,
        },
        {
            "target": "send",
            "rule": None,
            "fallback": True,
            "round": 2,
            "at_most": 5,
            "exhausted": False,
        },
    ]


async def test_a_loop_beyond_its_bound_is_an_error_that_names_it(run):
    ran = await run(revising(at_most=4), {"rounds": 99})
    assert isinstance(ran.error, LoopExceeded)
    assert "the loop after \"judge\" has gone round 4 times and 'too_short' still holds" in str(
        ran.error
    )
    assert len([s for s in ran.of(StepStarted) if s.operation == "draft"]) == 4
    assert ran.ended("send") is None if "send" in ran.steps else True


async def test_a_loop_beyond_its_bound_may_go_on(run):
    ran = await run(revising(at_most=4, exceeded="continue"), {"rounds": 99})
    assert ran.output == "sent 4"
    last: Round = ran.results["judge.loop"]
    assert (last.round, last.exhausted, last.target) == (4, True, "send")


async def test_a_node_may_go_back_to_itself_and_end_the_run(run):
    p = pipeline()

    @p.node
    async def draft(state: State) -> int:
        return state.results.get("draft", 0) + 1

    p.start(draft)
    p.loop(draft, back_to=draft, while_=too_short, at_most=9)
    assert (await run(p, {"rounds": 6})).output == 6


async def test_after_a_loop_a_router_may_choose(run):
    p = revising()
    q = pipeline()
    assert p is not q

    @q.node
    async def draft(state: State) -> int:
        return state.results.get("draft", 0) + 1

    @q.node
    async def send(state: State) -> str:
        return "sent"

    q.start(draft)
    q.loop(draft, back_to=draft, while_=too_short, at_most=9)
    q.route(draft, {send: lambda s: s.draft == 3}, otherwise=END)
    assert (await run(q, {"rounds": 3})).output == "sent"
    assert (await run(q, {"rounds": 4})).output == 4


async def test_an_inner_loop_counts_anew_in_each_round_of_the_outer(run):
    p = pipeline()
    tally: list[str] = []

    def node(name: str):
        async def work(state: State) -> int:
            tally.append(name)
            return len(tally)

        return p.node(name, work)

    p.chain(node("a"), node("b"), node("c"), node("d"))
    p.start("a")
    p.loop("c", back_to="b", while_=lambda s: tally[-4:] != ["b", "c"] * 2, at_most=2)
    p.loop("d", back_to="a", while_=lambda s: tally.count("d") < 3, at_most=3)
    ran = await run(p, {})
    assert ran.error is None
    assert "".join(tally) == "abcbcd" * 3
    assert [r["round"] for r in rounds_recorded(ran, "c.loop")] == [1, 2] * 3
    assert [r["round"] for r in rounds_recorded(ran, "d.loop")] == [1, 2, 3]


async def test_many_rounds_are_not_cut_short(run):
    ran = await run(revising(at_most=900), {"rounds": 900})
    assert ran.output == "sent 900"


async def test_a_loop_does_not_repeat_its_state_in_the_record(run):
    p = pipeline()

    @p.node
    async def draft(state: State) -> int:
        return state.results.get("draft", 0) + 1

    @p.node
    async def page(state: State) -> str:
        return f"{state.draft}:" + "x" * 1600

    p.start(draft)
    p.edge(draft, page)
    p.loop(page, back_to=draft, while_=too_short, at_most=50)
    ran = await run(p, {"rounds": 50, "text": "y" * 20_000})
    from holdfast.domain.changes import write_change

    recorded = sum(len(write_change(change)) for change in ran.sink.changes)
    assert recorded < 3 * (50 * 1600 + 20_000)


async def test_a_failed_node_of_an_earlier_round_is_forgiven(run):
    p = pipeline()
    tried = 0

    async def flaky(state: State) -> str:
        nonlocal tried
        tried += 1
        if tried == 1:
            raise ValueError("once")
        return "fine"

    p.start(p.node("flaky", flaky, on_failure="continue"))
    p.loop(
        "flaky",
        back_to="flaky",
        while_=lambda s: isinstance(s.results["flaky"], Failure),
        at_most=3,
    )
    ran = await run(p, {})
    assert (ran.output, ran.failures) == ("fine", [])


async def test_the_output_is_what_finished_last_and_not_what_came_first(run):
    p = pipeline()
    p.node("draft", lambda s: s.results.get("draft", 0) + 1)
    p.node("judge", lambda s: f"judged {s.draft}")
    p.start("draft")
    p.route("draft", {END: lambda s: s.draft == 3}, otherwise="judge")
    p.loop("judge", back_to="draft", while_=lambda s: True, at_most=5)
    ran = await run(p, {})
    assert ran.output == 3
    assert list(ran.results)[-2:] == ["draft", "draft.route"]


async def test_a_rule_that_forgets_to_answer_is_an_error(run):
    p = revising()
    q = pipeline()
    q.start(q.node("draft", lambda s: 1))
    q.loop("draft", back_to="draft", while_=lambda s: None, at_most=2)
    assert p.name == q.name
    ran = await run(q, {})
    assert isinstance(ran.error, DeclarationError)
    assert "answers None, neither True nor False" in str(ran.error)


def test_loops_without_sense_are_refused():
    for bound in (0, -1, 1001):
        with pytest.raises(DeclarationError, match=f'loop after "judge": at_most={bound} is not'):
            revising(at_most=bound)
    with pytest.raises(DeclarationError, match="exceeded='stop' is neither \"fail\" nor"):
        revising(exceeded="stop")
    p = revising()
    with pytest.raises(DeclarationError, match='a loop goes back from "judge" already'):
        p.loop("judge", back_to="draft", while_=too_short, at_most=2)

    async def later(state: State) -> bool:
        return True

    with pytest.raises(DeclarationError, match='rule later after "send" is async'):
        p.loop("send", back_to="draft", while_=later, at_most=2)


def test_a_loop_that_goes_forward_is_refused():
    p = revising()
    p.node("late", lambda s: 1)
    p.edge("send", "late")
    p.loop("send", back_to="late", while_=too_short, at_most=2)
    refused(p, 'the loop after "send" goes back to "late", which does not lead to "send"')


def test_a_loop_names_nodes_there_are():
    p = revising()
    p.loop("send", back_to="drafd", while_=too_short, at_most=2)
    refused(p, 'the loop after "send" names "drafd", which is no node (did you mean draft?')


def test_a_loop_without_a_bound_is_refused_and_told_how_to_bound_it():
    p = pipeline()
    for name in ("a", "b", "c"):
        p.node(name, lambda s: 1)
    p.start("a")
    p.chain("a", "b")
    p.route("b", {"a": lambda s: True}, otherwise="c")
    refused(p, "nodes go round in a loop: a → b → a (bound it: pipeline.loop(")


def test_the_drawing_has_the_way_back_with_its_bound():
    drawn = revising().describe()
    (loop,) = [n for n in drawn["nodes"] if n["kind"] == "loop"]
    assert (loop["name"], loop["at_most"], loop["exceeded"]) == ("judge.loop", 5, "fail")
    assert {"from": "judge", "to": "judge.loop"} in drawn["edges"]
    assert {
        "from": "judge.loop",
        "to": "draft",
        "label": "too_short, at most 5 times",
    } in drawn["edges"]
    assert {"from": "judge.loop", "to": "send", "label": "otherwise"} in drawn["edges"]


# -- maps --------------------------------------------------------------------------------------


def spelling(work: Any = None, **options: Any) -> Pipeline:
    p = pipeline()

    async def upper(state: State) -> str:
        if state.item == "bad":
            raise ValueError(f"{state.item} at {state.index}")
        return f"{state.index}{state.item.upper()}"

    p.node("spell", work or upper)
    p.start(p.map("each", "spell", over=lambda s: s.event.words, **options))
    return p


async def test_a_map_keeps_every_outcome_in_its_place(run):
    ran = await run(spelling(), {"words": ["c", "a", "b"]})
    assert ran.output == ["0C", "1A", "2B"]
    assert list(ran.results) == ["each"]
    steps = ran.of(StepStarted)
    assert [(s.operation, s.kind) for s in steps] == [("each", "map")] + [("spell", "node")] * 3
    assert {s.parent for s in steps[1:]} == {steps[0].step}
    assert ran.recorded_output("each") == ["0C", "1A", "2B"]


async def test_each_items_step_records_the_item_and_the_outcome(run):
    ran = await run(spelling(), {"words": ["c", "a"]})
    payload = Payload([e for change in ran.sink.changes for e in change.texts])
    given = [payload.get(s.input) for s in ran.of(StepStarted) if s.operation == "spell"]
    assert [one["within"] for one in given] == [
        [{"item": "c", "index": 0}],
        [{"item": "a", "index": 1}],
    ]
    assert sorted(rounds_recorded(ran, "spell")) == ["0C", "1A"]


async def test_order_is_the_lists_and_not_the_finishers(run):
    gates = [asyncio.Event() for _ in range(3)]
    gates[2].set()

    async def backwards(state: State) -> int:
        await gates[state.index].wait()
        if state.index:
            gates[state.index - 1].set()
        return state.index

    ran = await run(spelling(backwards), {"words": ["a", "b", "c"]})
    assert ran.output == [0, 1, 2]


@pytest.mark.parametrize("at_once", [1, 3])
async def test_only_so_many_at_once(run, at_once):
    busy = most = 0

    async def work(state: State) -> None:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        for _ in range(5):
            await asyncio.sleep(0)
        busy -= 1

    await run(spelling(work, at_once=at_once), {"words": ["x"] * 10})
    assert most == at_once


async def test_items_that_fail_are_named_once_all_have_ended(run):
    ran = await run(spelling(at_once=2), {"words": ["bad", "a", "bad", "b"]})
    assert isinstance(ran.error, BranchesFailed)
    assert ran.error.failed == ["spell[0]", "spell[2]"]
    assert ran.error.succeeded == ["spell[1]", "spell[3]"]
    assert "spell[0] (bad at 0); spell[2] (bad at 2)" in str(ran.error)
    ends = {c.step: c.status for c in ran.sink.changes if c.k == "step.finished"}
    of = [ends[s.step] for s in ran.of(StepStarted) if s.operation == "spell"]
    assert of == ["failed", "succeeded", "failed", "succeeded"]
    assert ran.ended("each").status == "failed"


@pytest.mark.parametrize("where", ["map", "node"])
async def test_a_map_may_go_on_without_items_that_failed(run, where):
    p = pipeline()

    async def upper(state: State) -> str:
        if state.item == "bad":
            raise ValueError("bad")
        return state.item.upper()

    on = {"on_failure": "continue"}
    p.node("spell", upper, **(on if where == "node" else {}))
    p.start(p.map("each", "spell", over=lambda s: s.event.words, **(on if where == "map" else {})))
    ran = await run(p, {"words": ["a", "bad", "b"]})
    assert ran.output[::2] == ["A", "B"]
    assert isinstance(ran.output[1], Failure)
    assert [(f.node, f.message) for f in ran.failures] == [("spell[1]", "bad")]
    assert ran.ended("each").status == "succeeded"


async def test_a_map_over_nothing_runs_nothing(run):
    ran = await run(spelling(), {"words": []})
    assert ran.output == []
    assert [s.operation for s in ran.of(StepStarted)] == ["each"]


async def test_a_skipped_item_has_no_outcome(run):
    async def odd(state: State) -> int:
        if state.index % 2 == 0:
            raise Skip("even")
        return state.index

    assert (await run(spelling(odd), {"words": ["x"] * 4})).output == [None, 1, None, 3]


async def test_models_see_the_item(run):
    p = pipeline(scripted=lambda request: request.user)
    ask = p.model("ask", prompt="{{ index }} {{ item }} of {{ event.words | length }}")
    p.start(p.map("each", ask, over=lambda s: s.event.words))
    assert (await run(p, {"words": ["a", "b"]})).output == ["0 a of 2", "1 b of 2"]


async def test_maps_nest_and_hold_groups(run):
    p = pipeline()
    p.node("left", lambda s: s.item)
    p.node("right", lambda s: (s.within[0].index, s.index))
    both = p.parallel("both", ["left", "right"])
    inner = p.map("letters", both, over=lambda s: list(s.item), at_once=1)
    p.start(p.map("each", inner, over=lambda s: s.event.words, at_once=1))
    ran = await run(p, {"words": ["ab", "c"]})
    assert [[dict(one) for one in row] for row in ran.output] == [
        [{"left": "a", "right": (0, 0)}, {"left": "b", "right": (0, 1)}],
        [{"left": "c", "right": (1, 0)}],
    ]


async def test_a_maps_limit_is_not_that_of_groups_inside_it(run):
    both_there = asyncio.Barrier(2)

    async def meets(state: State) -> None:
        async with asyncio.timeout(5):
            await both_there.wait()

    p = pipeline()
    both = p.parallel("both", [p.node("left", meets), p.node("right", meets)])
    p.start(p.map("each", both, over=lambda s: s.event.words, at_once=1))
    assert (await run(p, {"words": ["a", "b"]})).error is None


async def test_there_is_no_item_outside_of_a_map(run):
    p = pipeline()
    p.start(p.node("spell", lambda s: s.item))
    assert isinstance((await run(p, {})).error, NoResult)


@pytest.mark.parametrize(
    ("over", "message"),
    [
        (lambda s: "abc", "over= gave str, which is no list"),
        (lambda s: 3, "over= gave int, which is no list"),
        (lambda s: range(1001), "over= gave 1001 items, more than 1000"),
    ],
)
async def test_what_cannot_be_mapped_is_refused(run, over, message):
    p = pipeline()
    p.node("spell", lambda s: 1)
    p.start(p.map("each", "spell", over=over))
    ran = await run(p, {})
    assert isinstance(ran.error, DeclarationError)
    assert f'node "each": {message}' in str(ran.error)


def test_maps_without_sense_are_refused():
    p = pipeline()
    with pytest.raises(DeclarationError, match='there is no node "spell" yet'):
        p.map("each", "spell", over=lambda s: [])
    p.node("spell", lambda s: 1)
    with pytest.raises(DeclarationError, match="at_once=0 lets nothing run"):
        p.map("each", "spell", over=lambda s: [], at_once=0)
    p.map("each", "spell", over=lambda s: [])
    with pytest.raises(DeclarationError, match='"spell" is a branch of "each" already'):
        p.map("again", "spell", over=lambda s: [])


# -- included pipelines ------------------------------------------------------------------------


class Word(BaseModel):
    word: str


def child(**options: Any) -> Pipeline:
    p = Pipeline("test.child", version="7", event=Word, **options)

    @p.node
    async def spell(state: State) -> str:
        if state.event.word == "bad":
            raise ValueError("bad word")
        return state.event.word.upper()

    @p.node(on_failure="continue")
    async def count(state: State) -> int:
        if state.event.word == "uncounted":
            raise ValueError("cannot count")
        return len(state.spell)

    p.start(spell)
    p.edge(spell, count)
    return p


def parent(other: Any, **options: Any) -> Pipeline:
    p = pipeline()
    p.start(p.include("inner", other, input=lambda s: Word(word=s.event.text), **options))

    @p.node
    async def after(state: State) -> Any:
        return [state.inner]

    p.edge("inner", "after")
    return p


async def test_an_included_pipelines_steps_stand_below_one(run):
    ran = await run(parent(child()), {"text": "abc"})
    assert ran.output == [3]
    assert list(ran.results) == ["inner", "after"]
    assert [(s.operation, s.kind, s.version) for s in ran.of(StepStarted)] == [
        ("inner", "pipeline", "1"),
        ("spell", "node", "7"),
        ("count", "node", "7"),
        ("after", "node", "1"),
    ]
    assert ran.steps["spell"].parent == ran.steps["inner"].step
    assert ran.steps["after"].parent is None
    assert ran.recorded_output("inner") == 3


async def test_its_failures_make_this_one_partial_too(run):
    ran = await run(parent(child()), {"text": "uncounted"})
    assert ran.output == ["UNCOUNTED"]
    assert [(f.node, f.message) for f in ran.failures] == [("inner.count", "cannot count")]


async def test_its_error_is_the_nodes(run):
    ran = await run(parent(child(), on_failure="continue"), {"text": "bad"})
    assert isinstance(ran.error, NoResult)  # `after` needed it
    assert ran.ended("inner").status == "failed"
    assert ran.ended("spell").error["message"] == "bad word"


async def test_its_input_is_held_against_its_schema(run):
    p = pipeline()
    p.start(p.include("inner", child(), input=lambda s: {"wort": "x"}))
    ran = await run(p, {})
    assert isinstance(ran.error, InvalidInput)
    assert "pipeline test.child: data." in str(ran.error)


async def test_its_deadline_holds(run):
    slow = Pipeline("test.slow", version="1", event=Word, deadline=0.01)

    @slow.node
    async def forever(state: State) -> None:
        await asyncio.Event().wait()

    slow.start(forever)
    ran = await run(parent(slow), {"text": "x"})
    assert isinstance(ran.error, StepTimeout)
    assert ran.ended("forever").status == "cancelled"


async def test_a_pipeline_may_be_included_twice_and_mapped(run):
    p = pipeline()
    inner = p.include("inner", child(), input=lambda s: {"word": s.item})
    p.start(p.map("each", inner, over=lambda s: s.event.words))
    ran = await run(p, {"words": ["a", "uncounted", "abc"]})
    assert ran.output == [1, "UNCOUNTED", 3]
    assert [f.node for f in ran.failures] == ["inner[1].count"]


async def test_a_foreign_graph_can_be_included(run):
    class Box(TypedDict):
        word: str

    graph = StateGraph(Box)
    graph.add_node("shout", lambda box: {"word": box["word"] + "!"})
    graph.add_edge(START, "shout")
    graph.add_edge("shout", LG_END)
    ran = await run(parent(Graph("test.box", graph, version="1")), {"text": "hi"})
    assert ran.output == [{"word": "hi!"}]
    assert ran.steps["shout"].parent == ran.steps["inner"].step


def test_a_pipeline_cannot_include_itself_even_in_a_roundabout_way():
    p, q = pipeline("test.p"), pipeline("test.q")
    p.start(p.include("inner", q, input=lambda s: s.event))
    q.start(q.include("inner", p, input=lambda s: s.event))
    refused(p, "pipeline test.p: it includes itself: test.p → test.q → test.p")


def test_a_wrong_pipeline_spoils_the_one_that_includes_it():
    wrong = Pipeline("test.wrong", version="1", event=Word)
    refused(parent(wrong), "pipeline test.wrong: no start")


def test_the_code_version_follows_the_included_pipelines():
    changed = child()
    changed.edge("count", changed.node("more", lambda s: 1))
    assert parent(child()).code_version == parent(child()).code_version
    assert parent(child()).code_version != parent(changed).code_version

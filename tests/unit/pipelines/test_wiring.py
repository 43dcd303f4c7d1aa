"""Wrong declarations are refused with an error that names the node."""

from __future__ import annotations

import re

import pytest
from pydantic import BaseModel

from holdfast.errors import DeclarationError
from holdfast.pipelines.pipeline import END, Pipeline


class Empty(BaseModel):
    pass


def yes(state) -> bool:
    return True


async def work(state) -> int:
    return 1


@pytest.fixture
def p() -> Pipeline:
    made = Pipeline("support.triage", version="1", event=Empty)
    for name in ("judge", "draft", "close"):
        made.node(name, work)
    return made


def refused(p: Pipeline, message: str) -> None:
    with pytest.raises(DeclarationError, match=re.escape(message)):
        p.check()


def test_no_start(p):
    refused(p, "pipeline support.triage: no start (say where it begins: pipeline.start(node))")


def test_an_unreachable_node(p):
    p.start("judge")
    p.edge("judge", "draft")
    refused(p, 'pipeline support.triage: node "close" is never reached (no route leads to it)')


def test_an_unknown_target_gets_the_nearest_name(p):
    p.start("judge")
    p.edge("judge", "draff")
    refused(p, 'a way out of "judge" names "draff", which is no node (did you mean draft?')


def test_an_unknown_start(p):
    p.start("juge")
    refused(p, 'the start names "juge", which is no node (did you mean judge?')


def test_an_unknown_source(p):
    p.start("judge")
    p.edge("drift", "close")
    refused(p, 'an edge or a route names "drift", which is no node (did you mean draft?')


def test_a_router_without_a_way_out(p):
    p.start("judge")
    p.route("judge", {"draft": yes, "close": yes})
    refused(p, 'the router after "judge" has no way out when no rule holds (pass otherwise=')


def test_a_loop_is_told_node_by_node(p):
    p.start("judge")
    p.chain("judge", "draft", "close")
    p.route("close", {"draft": yes}, otherwise=END)
    refused(p, "nodes go round in a loop: draft → close → draft")


def test_a_node_that_follows_itself_is_a_loop(p):
    p.start("judge")
    p.route("judge", {"judge": yes, "draft": yes}, otherwise="close")
    refused(p, "nodes go round in a loop: judge → judge")


def test_ways_that_meet_again_are_no_loop(p):
    p.node("send", work)
    p.start("judge")
    p.route("judge", {"draft": yes}, otherwise="close")
    p.edge("draft", "send")
    p.edge("close", "send")
    p.check()


def test_two_edges_out_of_a_node(p):
    p.edge("judge", "draft")
    with pytest.raises(DeclarationError, match=r'node "judge" already leads somewhere.*parallel'):
        p.edge("judge", "close")
    with pytest.raises(DeclarationError, match='node "judge" already leads somewhere'):
        p.route("judge", {"close": yes}, otherwise=END)


def test_a_branch_is_no_target(p):
    group = p.parallel("both", ["draft", "close"])
    p.start("judge")
    p.edge("judge", "draft")
    refused(p, 'names "draft", which is a branch of "both" (use "both"')
    assert group.name == "both"


def test_a_branch_belongs_to_one_group(p):
    p.parallel("both", ["draft", "close"])
    with pytest.raises(DeclarationError, match='node "draft" is a branch of "both" already'):
        p.parallel("again", ["draft"])


@pytest.mark.parametrize("branches", [[], ["draft", "draft"]])
def test_a_group_has_branches_each_once(p, branches):
    with pytest.raises(DeclarationError, match='group "both" needs branches'):
        p.parallel("both", branches)


def test_duplicate_names(p):
    with pytest.raises(DeclarationError, match='two nodes are called "judge"'):
        p.node("judge", work)


@pytest.mark.parametrize("name", ["event", "results", "failures", "items"])
def test_reserved_names(p, name):
    with pytest.raises(DeclarationError, match=f'the name "{name}" is taken'):
        p.node(name, work)


@pytest.mark.parametrize("name", ["two words", "a.b", "_x", "class", "", "__end__"])
def test_unusable_names(p, name):
    with pytest.raises(DeclarationError, match="is no name for a node"):
        p.node(name, work)


def test_a_lambda_needs_a_name(p):
    with pytest.raises(DeclarationError, match="'<lambda>' is no name"):
        p.node(lambda state: 1)


@pytest.mark.parametrize("name", ["", "a b", ".a", "a..b", "a/b", "x" * 201])
def test_unusable_pipeline_names(name):
    with pytest.raises(DeclarationError, match="is no name for a pipeline"):
        Pipeline(name, version="1", event=Empty)


def test_a_node_of_another_pipeline(p):
    other = Pipeline("other", version="1", event=Empty).node("judge", work)
    with pytest.raises(DeclarationError, match="<node other:judge> is a node of another pipeline"):
        p.start(other)


def test_what_cannot_be_called_with_a_state(p):
    class Needs:
        def __init__(self, key: str) -> None: ...

        def __call__(self, state) -> int:
            return 1

    with pytest.raises(DeclarationError, match="class Needs cannot be made without arguments"):
        p.node("needs", Needs)
    with pytest.raises(DeclarationError, match='node "none": it must take one argument'):
        p.node("none", lambda: 1)
    with pytest.raises(DeclarationError, match='node "five": 5 cannot be called'):
        p.node("five", 5)


def test_nothing_is_added_after_the_first_use(p):
    p.start("judge")
    p.chain("judge", "draft", "close")
    p.check()
    assert p.graph() is p.graph()
    with pytest.raises(DeclarationError, match=r"support\.triage: it is sealed"):
        p.node("late", work)
    with pytest.raises(DeclarationError, match="it is sealed"):
        p.edge("close", "judge")


def test_a_check_that_failed_leaves_it_open(p):
    p.start("judge")
    refused(p, "is never reached")
    p.chain("judge", "draft", "close")
    p.check()


def test_a_prompt_may_only_use_nodes_of_the_pipeline(p):
    p.model("ask", prompt="{{ event }} {{ jugde }}")
    p.start("judge")
    p.chain("judge", "draft", "close", "ask")
    refused(
        p,
        'node "ask": the prompt uses "jugde", which is no node of the pipeline '
        "(did you mean judge?)",
    )


def test_a_prompts_syntax_is_checked_at_once(p):
    with pytest.raises(DeclarationError, match='node "ask": line 2 of the prompt'):
        p.model("ask", prompt="hello\n{{ event")


def test_the_drawing(p):
    both = p.parallel("both", ["draft", "close"])
    p.start("judge")
    p.route("judge", {both: yes}, otherwise=END)
    drawn = p.describe()
    assert [(n["name"], n["kind"], n.get("group")) for n in drawn["nodes"]] == [
        ("__start__", "start", None),
        ("judge", "node", None),
        ("draft", "node", "both"),
        ("close", "node", "both"),
        ("both", "parallel", None),
        ("judge.route", "router", None),
        ("__end__", "end", None),
    ]
    assert drawn["edges"] == [
        {"from": "__start__", "to": "judge"},
        {"from": "judge", "to": "judge.route"},
        {"from": "judge.route", "to": "both", "label": "yes"},
        {"from": "judge.route", "to": "__end__", "label": "otherwise"},
        {"from": "both", "to": "__end__"},
    ]

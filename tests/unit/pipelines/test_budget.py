"""Budgets: what is spent stops the next step, whatever its policies say."""

from __future__ import annotations

import pytest
from card_tools import HEAD, card, cards
from pydantic import BaseModel

from holdfast import Graph, Pipeline
from holdfast.errors import BudgetExceeded, DeclarationError
from holdfast.llm.failures import classify
from holdfast.pipelines.budget import Budget


class Text(BaseModel):
    text: str


class Yes(BaseModel):
    yes: bool


def asking(budget: Budget, answer=lambda request: "ok", **policy) -> Pipeline:
    made = Pipeline("test.spending", version="1", event=Text, scripted=answer, budget=budget)
    made.start(made.model("first", prompt="{{ event.text }}"))
    made.edge("first", made.model("second", prompt="again {{ first }}", **policy))
    made.edge("second", made.node("last", lambda state: "done"))
    return made


EVENT = {"text": "word " * 100}


async def test_a_step_is_not_begun_when_the_tokens_are_spent(run):
    ran = await run(asking(Budget(tokens=50)), EVENT)
    assert isinstance(ran.error, BudgetExceeded)
    assert 'node "second" is not begun' in str(ran.error)
    assert "of 50 tokens are spent" in str(ran.error)
    assert classify(ran.error).error_class == "budget"
    assert len(ran.attempts("first")) == 1
    assert ran.attempts("second") == []
    assert ran.ended("second").status == "failed"


async def test_what_fits_the_budget_runs(run):
    ran = await run(asking(Budget(tokens=100_000, credits=1)), EVENT)
    assert ran.output == "done"


@pytest.mark.parametrize(
    "policy", [{"on_failure": "continue"}, {"retries": 3, "retry_on": Exception}]
)
async def test_no_policy_spends_more(run, policy):
    ran = await run(asking(Budget(tokens=50), **policy), EVENT)
    assert isinstance(ran.error, BudgetExceeded)
    assert ran.attempts("second") == []


async def test_repeated_answers_count(run):
    asked = []

    def never(request):
        asked.append(1)
        return "no JSON at all"

    made = Pipeline("t", version="1", event=Text, scripted=never, budget=Budget(tokens=150))
    made.start(made.model("judge", prompt="{{ event.text }}", answer=Yes, tries=50))
    ran = await run(made, EVENT)
    assert isinstance(ran.error, BudgetExceeded)
    assert 1 <= len(asked) < 5


async def test_credits_count(run):
    made = Pipeline(
        "t",
        version="1",
        event=Text,
        scripted=lambda request: {"yes": True},
        budget=Budget(credits=3),
    )
    nodes = [
        made.model(name, prompt="x", answer=Yes, credits=2) for name in ("one", "two", "three")
    ]
    made.start(nodes[0])
    made.chain(*nodes)
    ran = await run(made, EVENT)
    assert "4 of 3 credits are spent" in str(ran.error)
    assert len(ran.attempts("two")) == 1


@pytest.mark.parametrize("on_failure", ["abort", "continue"])
async def test_a_group_does_not_hide_it(run, on_failure):
    made = Pipeline(
        "t", version="1", event=Text, scripted=lambda request: "ok", budget=Budget(tokens=50)
    )
    first = made.model("first", prompt="{{ event.text }}")
    both = made.parallel(
        "both",
        [made.model("a", prompt="x"), made.node("b", lambda state: 1)],
        on_failure=on_failure,
    )
    made.start(first)
    made.edge(first, both)
    ran = await run(made, EVENT)
    assert isinstance(ran.error, BudgetExceeded)


async def test_a_branch_that_spends_it_ends_the_execution(run):
    made = Pipeline(
        "t", version="1", event=Text, scripted=lambda request: "no", budget=Budget(tokens=300)
    )
    judge = made.model("judge", prompt="{{ event.text }}", answer=Yes, tries=9)
    made.start(made.parallel("both", [judge], on_failure="continue"))
    ran = await run(made, EVENT)
    assert isinstance(ran.error, BudgetExceeded)
    assert 1 <= len(ran.attempts("judge")) < 9


async def test_an_item_that_spends_it_ends_the_execution(run):
    made = Pipeline(
        "t", version="1", event=Text, scripted=lambda request: "no", budget=Budget(tokens=300)
    )
    ask = made.model("ask", prompt="{{ event.text }}")
    each = made.map(
        "each", ask, over=lambda state: list(range(9)), at_once=1, on_failure="continue"
    )
    made.start(each)
    ran = await run(made, EVENT)
    assert isinstance(ran.error, BudgetExceeded)


async def test_a_card_has_the_same_budget(run):
    steps = """
        first:
          execute: {model: {prompt: "{{ event.text }}"}}
          next: second
        second:
          execute: {model: {prompt: again}}
        """
    made = card(steps, more="budget: {tokens: 50}\n", script=lambda request: "ok")
    assert made.budget == Budget(tokens=50)
    ran = await run(made, EVENT)
    assert isinstance(ran.error, BudgetExceeded)


def one_node(**options) -> Pipeline:
    made = Pipeline("t", version="1", event=Text, **options)
    made.start(made.node("n", lambda state: 1))
    return made


def including(other: Pipeline) -> Pipeline:
    made = Pipeline("o", version="1", event=Text)
    made.start(made.include("i", other, input=lambda state: state.event))
    return made


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (one_node(budget=Budget(tokens=5), durable=True), "it may halt"),
        (one_node(budget=Budget(tokens=0)), "lets nothing run"),
        (including(asking(Budget(tokens=5))), "nobody would keep"),
    ],
)
def test_what_cannot_be_kept_is_refused(made, told):
    with pytest.raises(DeclarationError, match=told):
        made.check()


def test_a_foreign_graph_has_no_budget():
    graph = asking(Budget()).graph()
    with pytest.raises(DeclarationError, match="between a pipeline's steps"):
        Graph("g", graph, version="1", budget=Budget(tokens=5))


def test_a_card_that_waits_has_no_budget():
    steps = "steps: {a: {wait: {seconds: 1}}}"
    (fault,) = cards(f"{HEAD}budget: {{tokens: 5}}\n{steps}").faults
    assert fault.line == 7
    assert "may halt" in fault.message

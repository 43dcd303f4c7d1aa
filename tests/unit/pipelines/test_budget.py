"""Budgets: what is spent stops the next call, whatever its policies say."""

from __future__ import annotations

import re

import pytest
from card_tools import HEAD, card, cards
from pydantic import BaseModel

from holdfast import Graph, Pipeline
from holdfast.domain.budgets import Unit
from holdfast.errors import BudgetExceeded, DeclarationError, ModelError
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


async def test_a_call_is_not_made_when_the_tokens_do_not_suffice(run):
    ran = await run(asking(Budget(tokens=140)), EVENT)
    assert isinstance(ran.error, BudgetExceeded)
    assert "the budget of an execution of test.spending has no room" in str(ran.error)
    assert re.search(r"of 140 tokens, 1\d\d tokens are spent", str(ran.error))
    assert classify(ran.error).error_class == "budget"
    (made,) = ran.attempts("first")
    assert made.usage == "estimated"
    (refused,) = ran.attempts("second")
    assert (refused.usage, refused.error_class) == ("none", "budget")
    assert ran.ended("second").status == "failed"


async def test_what_fits_the_budget_runs(run):
    ran = await run(asking(Budget(tokens=100_000, credits=1)), EVENT)
    assert ran.output == "done"


@pytest.mark.parametrize(
    "policy", [{"on_failure": "continue"}, {"retries": 3, "retry_on": Exception}]
)
async def test_no_policy_spends_more(run, policy):
    ran = await run(asking(Budget(tokens=140), **policy), EVENT)
    assert isinstance(ran.error, BudgetExceeded)
    assert [one.usage for one in ran.attempts("second")] == ["none"]


async def test_repeated_answers_count(run):
    asked = []

    def never(request):
        asked.append(1)
        return "no JSON at all"

    made = Pipeline("t", version="1", event=Text, scripted=never, budget=Budget(tokens=500))
    made.start(made.model("judge", prompt="{{ event.text }}", answer=Yes, tries=50))
    ran = await run(made, EVENT)
    assert isinstance(ran.error, BudgetExceeded)
    assert 1 <= len(asked) < 5


def charging(nodes, budget, answer=lambda request: {"yes": True}, **options):
    made = Pipeline("t", version="1", event=Text, scripted=answer, budget=budget)
    made.start(made.model("n0", prompt="x", answer=Yes, credits=2, **options))
    made.chain(
        "n0", *(made.model(f"n{i}", prompt="x", answer=Yes, credits=2) for i in range(1, nodes))
    )
    return made


async def test_credits_count(run):
    ran = await run(charging(3, Budget(credits=5)), EVENT)
    assert "may need 2 credits: of 5 credits, 4 credits are spent" in str(ran.error)
    assert ran.attempts("n2") == []


async def test_refused_answers_cost_no_credits(run):
    answers = iter(["no", "no", {"yes": True}])
    made = charging(1, Budget(credits=2), lambda request: next(answers), tries=3)
    assert (await run(made, EVENT)).output == Yes(yes=True)


async def test_an_answer_in_words_costs_its_credits(run):
    made = Pipeline(
        "t", version="1", event=Text, scripted=lambda request: "ok", budget=Budget(credits=3)
    )
    made.start(made.model("a", prompt="x", credits=2))
    made.edge("a", made.model("b", prompt="x", credits=2))
    ran = await run(made, EVENT)
    assert "of 3 credits, 2 credits are spent" in str(ran.error)
    assert [one.credits for one in ran.validations("a")] == [2]


async def test_a_call_that_fails_gives_back_what_was_set_aside(run):
    def broken(request):
        raise ModelError("away", error_class="temporary")

    made = asking(Budget(tokens=100_000), broken)
    ran = await run(made, EVENT)
    budgets = ran.context.ports.budgets
    assert isinstance(ran.error, ModelError)
    assert (budgets.held[Unit.TOKENS], budgets.spent[Unit.TOKENS]) == (0, 0)


@pytest.mark.parametrize("on_failure", ["abort", "continue"])
async def test_a_group_does_not_hide_it(run, on_failure):
    made = Pipeline(
        "t", version="1", event=Text, scripted=lambda request: "ok", budget=Budget(tokens=135)
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
    assert len(ran.attempts("first")) == 1
    assert isinstance(ran.error, BudgetExceeded)


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
    more = "budget: {tokens: 131, usd: 0.25}\n"
    made = card(steps, more=more, script=lambda request: "ok")
    assert made.budget == Budget(tokens=131, usd="0.25")
    assert made.budget.amounts()[Unit.USD] == 250_000_000_000
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
        (one_node(budget=Budget(tokens=0)), "lets nothing run"),
        (one_node(budget=Budget(usd="0.0000000000001")), "lets nothing run"),
        (one_node(budget=Budget(usd="much")), "is none"),
        (including(asking(Budget(tokens=5))), "nobody would keep"),
    ],
)
def test_what_cannot_be_kept_is_refused(made, told):
    with pytest.raises(DeclarationError, match=told):
        made.check()


def test_what_halts_may_have_a_budget():
    one_node(budget=Budget(tokens=5), durable=True).check()
    steps = "steps: {a: {wait: {seconds: 1}}}"
    assert cards(f"{HEAD}budget: {{tokens: 5}}\n{steps}").faults == []


def test_a_foreign_graph_has_no_budget():
    graph = asking(Budget()).graph()
    with pytest.raises(DeclarationError, match="asks its models by itself"):
        Graph("g", graph, version="1", budget=Budget(tokens=5))

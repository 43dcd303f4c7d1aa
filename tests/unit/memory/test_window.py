"""The window keeps its budget, order and pairs, and never loses the newest question."""

from __future__ import annotations

from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.messages.utils import count_tokens_approximately

from holdfast.domain.conversations import Message, Speaker
from holdfast.memory.window import choose, rows_for, weight, weight_of_facts
from holdfast.testing.remembering import said

TEXTS = st.integers(0, 400).map(lambda n: "x" * n)


@st.composite
def talks(draw: st.DrawFn) -> list[Message]:
    """Turns with one answer, none or several, oldest first; the newest is only asked."""
    messages: list[Message] = []
    turns = draw(st.integers(1, 30))
    for turn in range(1, turns + 1):
        messages.append(said(turn, "user", draw(TEXTS)))
        answers = 0 if turn == turns else draw(st.sampled_from([0, 1, 1, 1, 2]))
        for part in range(1, answers + 1):
            answer = said(turn, "assistant", draw(TEXTS), part=part, id=f"{turn}-{part}")
            messages.append(answer)
    return messages


@st.composite
def summarised(draw: st.DrawFn) -> list[Message]:
    texts = draw(st.lists(TEXTS, max_size=3))
    return [said(-n, "summary", text, id=f"s{n}") for n, text in enumerate(texts)]


FACTS = st.lists(st.integers(1, 120).map(lambda n: "f" * n), max_size=5)
BUDGETS = st.integers(1, 3000)


def as_langchain(message: Message) -> BaseMessage:
    kinds = {Speaker.USER: HumanMessage, Speaker.ASSISTANT: AIMessage, Speaker.SUMMARY: AIMessage}
    return kinds[message.role](message.content)


@given(talks(), summarised(), FACTS, BUDGETS, st.none() | st.integers(1, 20))
def test_what_a_window_holds(
    talk: list[Message],
    summaries: list[Message],
    facts: list[str],
    budget: int,
    depth: int | None,
) -> None:
    newest = list(reversed(talk))
    window = choose(
        newest, summaries=summaries, facts=facts, token_budget=budget, depth=depth
    ).window
    assert window.messages[-1] == talk[-1], "the newest question is always there"
    assert list(window.messages) == talk[len(talk) - len(window.messages) :], "no gap, in order"
    assert list(window.summaries) == list(reversed(summaries))
    assert list(window.facts) == facts
    assert window.left_out == len(talk) - len(window.messages)
    for turn, messages in groupby(window.messages, key=lambda one: one.turn):
        assert len(list(messages)) == sum(one.turn == turn for one in talk), "whole turns"
    fixed = weight_of_facts(facts) + sum(map(weight, summaries)) + weight(talk[-1])
    total = fixed + sum(map(weight, window.messages[:-1]))
    assert total <= budget or len(window.messages) == 1
    assert depth is None or len(window.messages) <= max(depth, 1)
    by_langchain = count_tokens_approximately(
        [
            *([SystemMessage("\n".join(f"- {fact}" for fact in facts))] if facts else []),
            *map(as_langchain, [*window.summaries, *window.messages]),
        ]
    )
    assert by_langchain <= max(total, budget), "the estimate is on the safe side"


@given(talks(), BUDGETS)
def test_nothing_that_fits_is_left_out(talk: list[Message], budget: int) -> None:
    window = choose(list(reversed(talk)), token_budget=budget).window
    rest = talk[: len(talk) - len(window.messages)]
    if rest:
        next_turn = [one for one in rest if one.turn == rest[-1].turn]
        assert sum(map(weight, [*next_turn, *window.messages])) > budget


@given(talks(), BUDGETS, st.integers(1, 40), st.none() | st.integers(1, 20))
def test_reading_in_two_goes_gives_the_same_window(
    talk: list[Message], budget: int, first: int, depth: int | None
) -> None:
    newest = list(reversed(talk))
    whole = choose(newest, token_budget=budget, depth=depth)
    part = choose(
        newest[:first],
        token_budget=budget,
        depth=depth,
        unsummarised=len(newest),
        whole=first >= len(newest),
    )
    assert not whole.more
    if not part.more:
        assert part.window == whole.window


def test_a_question_beyond_the_budget_stands_alone() -> None:
    talk = [said(1, "user", "a"), said(1, "assistant", "b"), said(2, "user", "x" * 100_000)]
    window = choose(list(reversed(talk)), token_budget=2000).window
    assert [one.content[:1] for one in window.messages] == ["x"]
    assert window.left_out == 2


def test_a_part_of_a_turn_is_not_taken_for_the_whole() -> None:
    talk = [said(1, "user", "a"), said(1, "assistant", "b"), said(2, "user", "c")]
    chosen = choose([talk[2], talk[1]], token_budget=2000, unsummarised=3, whole=False)
    assert [one.content for one in chosen.window.messages] == ["c"]
    assert chosen.more


def test_enough_rows_are_read_for_a_budget_of_the_shortest_messages() -> None:
    for budget in (1, 500, 2000, 10_000):
        talk = [said(n, "user", "") for n in range(rows_for(budget))]
        chosen = choose(list(reversed(talk)), token_budget=budget, whole=False)
        assert not chosen.more

"""When a block is due, and what is in it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.domain.conversations import Compaction
from holdfast.memory.compaction import block_of, is_due
from holdfast.memory.facts import MAX_FACT_CHARS, MAX_FACTS, as_item, merged, of_item
from holdfast.testing.remembering import said


@pytest.mark.parametrize(
    ("unsummarised", "due"), [(0, False), (29, False), (30, True), (31, True), (100_000, True)]
)
def test_the_usual_rule(unsummarised: int, due: bool) -> None:
    assert is_due(unsummarised, Compaction()) is due


@given(st.integers(0, 200), st.integers(0, 200), st.integers(0, 100), st.integers(1, 50))
def test_what_is_kept_stays_and_blocks_are_whole(
    unsummarised: int, from_messages: int, keep: int, block: int
) -> None:
    rule = Compaction(from_messages=from_messages, keep=keep, block=block)
    if is_due(unsummarised, rule):
        assert unsummarised >= from_messages
        assert unsummarised - block >= keep


def test_a_question_is_not_parted_from_its_answer() -> None:
    talk = [said(1, "user", "a"), said(1, "assistant", "b"), said(2, "user", "c")]
    assert block_of(talk) == talk[:2]
    assert block_of(talk[:2]) == talk[:2]
    assert block_of(talk[:1]) == talk[:1], "alone it would be waited for without end"
    assert block_of([]) == []


LISTS = st.lists(st.text(max_size=200), max_size=40)


@given(LISTS, LISTS)
def test_facts_are_few_short_and_told_once(known: list[str], new: list[str]) -> None:
    facts = merged(known, new)
    assert len(facts) <= MAX_FACTS
    assert all(0 < len(one) <= MAX_FACT_CHARS for one in facts)
    assert len({one.casefold() for one in facts}) == len(facts)
    assert merged(facts, new) == facts, "noted again, nothing changes"
    assert of_item(as_item(facts)) == facts


def test_the_oldest_facts_go_first() -> None:
    facts = merged([f"fact {n}" for n in range(MAX_FACTS)], ["new", "FACT 0"])
    assert facts[-2:] == ["new", "FACT 0"]
    assert facts[0] == "fact 2"


@pytest.mark.parametrize("value", [None, [], {}, {"facts": "x"}, {"facts": [1, None]}])
def test_what_somebody_else_wrote_there_is_no_fact(value: object) -> None:
    assert of_item(value) == []

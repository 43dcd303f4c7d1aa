"""Whatever a card says: it is read within bounds, and what is wrong is a fault, never a crash."""

from __future__ import annotations

from typing import Any

import yaml
from card_tools import ACTIONS, HEAD, cards
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import ExpressionError, NoResult
from holdfast.pipelines.cards.expressions import Expression, Misfit, NoExpression
from holdfast.pipelines.state import State

WORDS = st.sampled_from(
    [
        *("${input.text}", "${input.count}", "${input.tags}", "${input.tags[0]}", "${gone.x}"),
        *("==", "!=", "<", ">=", "in", "not in", "and", "or", "&&", "||", "!", "not", "(", ")"),
        *("'a'", '"b"', "1", "-2.5", "true", "null", "[", "]", ",", "length(", "defined(", "x"),
        *("${", "}", "\\", "'", '"', "é", "__class__", ".", "\n"),
    ]
)


def look(reference: Any) -> Any:
    event = {"text": "a", "count": 2, "tags": ["a", "b"]}
    return reference.value(State(event, {}), {})


def parsed(source: str) -> Expression | Misfit:
    try:
        return Expression.parse(source)
    except NoExpression as error:
        return error.misfit


@settings(max_examples=400, deadline=None)
@given(st.lists(WORDS, max_size=12).map(" ".join) | st.text(max_size=40))
def test_an_expression_is_worked_out_or_refused(source):
    found = parsed(source)
    if isinstance(found, Misfit):
        assert 0 <= found.offset <= len(source)
        return
    try:
        value = found.value(look)
    except (ExpressionError, NoResult):
        return
    assert value is None or isinstance(value, bool | int | float | str | list)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["a", "b", "end", "${a.b}"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["action", "model", "with", "if", "x"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)

KEYS = st.sampled_from(
    [
        *("execute", "condition", "parallel", "map", "subprocess", "wait", "human_checkpoint"),
        *("complete", "next", "loop", "on_failure", "retries", "timeout", "cache", "backoff"),
    ]
)

GOOD = st.sampled_from(
    [
        {"complete": "${input.text}"},
        {"execute": {"action": "text.upper", "with": {"text": "${a}"}}, "next": "b"},
        {"execute": {"action": "fail", "with": {"message": "x"}}, "on_failure": "c", "next": "b"},
        {"parallel": ["b", "c"], "next": "d"},
        {"map": {"over": "${input.tags}", "step": "c"}, "next": "a"},
        {
            "execute": {"model": {"prompt": "{{ b }}"}},
            "loop": {"back_to": "a", "while": "${b} == 1", "at_most": 2},
        },
        {"condition": [{"if": "${a} == ${c}", "then": "d"}, {"else": "b"}]},
        {"subprocess": {"pipeline": "test.card", "with": {"text": "${d}"}}, "next": "c"},
        {"wait": {"seconds": 1}, "next": "c"},
        {"human_checkpoint": {"question": "{{ a }}?"}, "next": "c"},
    ]
)

STEPS = st.dictionaries(
    st.sampled_from(["a", "b", "c", "d"]),
    GOOD | st.dictionaries(KEYS, VALUES, max_size=3) | VALUES,
    max_size=4,
)


@settings(max_examples=400, deadline=None)
@given(STEPS)
def test_a_card_is_declared_or_has_faults(steps):
    text = HEAD + yaml.safe_dump({"steps": steps}, sort_keys=False)
    made = cards(text, uses=ACTIONS)
    lines = len(text.splitlines())
    assert (len(made.declarations()) == 1) is (made.faults == [])
    for fault in made.faults:
        assert 1 <= fault.line <= lines + 1
        assert fault.column >= 1


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab:-[]{}&*!|>'\"#%@`,? \n\t~1.é\x00\ud800", max_size=60))
def test_any_text_is_read_or_refused(text):
    assert cards(text).faults

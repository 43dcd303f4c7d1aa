"""What conditions of cards can say, and what they refuse to guess."""

from __future__ import annotations

from enum import Enum
from types import SimpleNamespace

import pytest
from pydantic import BaseModel

from holdfast.errors import ExpressionError, MissingValue, NoResult
from holdfast.pipelines.cards.expressions import MAX_CHARS, Expression, NoExpression
from holdfast.pipelines.cards.paths import Reference, filled
from holdfast.pipelines.state import Branches, Failure, State


class Colour(Enum):
    RED = "red"


class Letter(BaseModel):
    text: str = "it's 5 > 4 && true"
    words: int = 3
    score: float = 0.5
    tags: list[str] = ["new", "x"]
    colour: Colour = Colour.RED
    gone: str | None = None

    @property
    def secret(self) -> str:
        return "not data"


STATE = State(
    Letter(),
    {
        "judge": {"kind": "spam", "deep": [{"a": 1}]},
        "failed": Failure("failed", "ValueError", "no"),
        "both": Branches("both", {"good": 1, "bad": Failure("bad", "OSError", "away")}),
        "odd": SimpleNamespace(a=1),
    },
)
VARIABLES = {"limit": 0.4, "names": ["spam"]}


def value(source: str) -> object:
    return Expression.parse(source).value(lambda reference: reference.value(STATE, VARIABLES))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("${input.words} == 3", True),
        ("${input.words}>=3&&${input.words}<4", True),
        ("${input.score} > ${variables.limit} and not ${judge.kind} == 'ham'", True),
        ("!(${judge.kind} == 'ham') || false", True),
        ("not ${judge.kind} == 'spam' or ${input.words} != 3", False),
        ("${judge.kind} in ${variables.names}", True),
        ("${judge.kind} not in ['ham', \"egg\"]", True),
        ("'it\\'s' in ${input.text}", True),
        # The text of a value is never read as a part of the expression.
        ('${input.text} == "it\'s 5 > 4 && true"', True),
        ("${input.colour} == 'red'", True),
        ("${input.gone} == null", True),
        ("${judge.deep[0].a} == 1", True),
        ("length(${input.tags}) == 2 and lower('ABC') == 'abc'", True),
        ("defined(${input.gone}) or defined(${later}) or defined(${failed})", False),
        ("defined(${judge})", True),
        ("${both.good} == 1", True),
        ("true or ${later.x} == 1", True),
        ("-1.5e1 < -3", True),
    ],
)
def test_what_holds(source, expected):
    assert value(source) is expected


@pytest.mark.parametrize(
    ("source", "named", "error"),
    [
        ("${input.gome} == null", "input has no gome", MissingValue),
        ("${judge.mind} == 'spam' or true", "judge has no mind", MissingValue),
        ("${judge.deep[3]} == 1", "judge.deep has 1 items, no [3]", MissingValue),
        ("${later.x} == 1", '"later" has no result: it has not run', NoResult),
        ("${failed} == 1", "failed with no", NoResult),
        ("${both.bad} == 1", "both.bad failed with away", NoResult),
        ("${input.words} == '3'", "number and text", ExpressionError),
        ("${input.gone} > 3", "null and number", ExpressionError),
        ("${judge.kind} > 3", "text and number", ExpressionError),
        ("3 in ${variables.names}", "number and list", ExpressionError),
        ("${judge.kind} and true", "neither true nor false", ExpressionError),
        ("not ${input.words}", "neither true nor false", ExpressionError),
        ("length(${input.words}) == 1", "takes a text, a list", ExpressionError),
    ],
)
def test_nothing_is_silently_false(source, named, error):
    with pytest.raises(error) as caught:
        value(source)
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("source", "offset", "told"),
    [
        ("${judge.kind} == spam", 17, '"spam" is neither a text nor a reference'),
        ("${a} = 1", 5, "=="),
        ("${a} & true", 5, "&&"),
        ("${a} == 'x", 8, "not closed"),
        ("${a} == True", 8, "lower case"),
        ("${a} + 1 == 2", 5, "arithmetic"),
        ("(${a} == 1", 10, "too early"),
        ("1 < 2 < 3", 6, "<"),
        ("${a b} == 1", 0, "${step.field}"),
        ("eval('1')", 0, 'no function "eval"'),
        ("__import__('os')", 0, 'no function "__import__"'),
        ("${a}.upper() == 'A'", 4, "cannot read"),
        ("${a['b']} == 1", 0, "${step.field}"),
        ("'a\\x41' == 'aA'", 0, "means nothing"),
        ("defined(1)", 0, "takes a reference"),
        ("", 0, "too early"),
        ("!" * 500 + "true", 31, "deeper"),
        ("(" * 450 + "true" + ")" * 450, None, None),  # brackets alone nest nothing
        ("true" + " or true" * MAX_CHARS, 0, "characters"),
    ],
)
def test_what_is_no_expression(source, offset, told):
    if told is None:
        assert value(source) is True
        return
    with pytest.raises(NoExpression) as caught:
        Expression.parse(source)
    misfit = caught.value.misfit
    assert misfit.offset == offset
    assert told in f"{misfit.message} {misfit.hint}"


@pytest.mark.parametrize(
    "source",
    [
        "${input.secret} == 'not data'",
        "${input.__class__} == 1",
        "${input.model_fields} == 1",
        "${input.text.upper} == 1",
        "${odd.a} == 1",
        "${odd.__dict__} == 1",
        "${both._outcomes} == 1",
        "${judge.keys} == 1",
        "${variables.__class__} == 1",
    ],
)
def test_only_data_can_be_looked_at(source):
    with pytest.raises(MissingValue):
        value(source)


def test_a_text_that_is_one_reference_keeps_its_type():
    assert filled("${input.tags}", STATE, VARIABLES) == ["new", "x"]
    assert filled("${input}", STATE, VARIABLES) is STATE.event
    assert filled({"a": ["${input.words}", 1]}, STATE, VARIABLES) == {"a": [3, 1]}


def test_a_longer_text_takes_the_value_as_text():
    assert filled("${judge.kind}: ${input.tags}!", STATE, VARIABLES) == 'spam: ["new","x"]!'
    assert filled("$${input.words} costs $3", STATE, VARIABLES) == "${input.words} costs $3"
    with pytest.raises(ExpressionError, match="null"):
        filled("so: ${input.gone}", STATE, VARIABLES)


def test_a_reference_is_written_as_it_was_read():
    assert str(Reference.parse("${ a.b[0].c }")) == "${a.b[0].c}"

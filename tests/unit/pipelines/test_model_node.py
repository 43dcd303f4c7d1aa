"""Model nodes: prompts rendered, answers validated, repaired or asked for again."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, Field, ValidationInfo, field_validator

from holdfast.errors import AnswerInvalid, DeclarationError, ModelError, PromptError
from holdfast.llm.scripted import ScriptedRequest
from holdfast.pipelines.answers import judge
from holdfast.pipelines.pipeline import Pipeline
from holdfast.pipelines.state import State


class Mail(BaseModel):
    body: str


class Spam(BaseModel):
    score: float = Field(ge=0, le=1)


class Says:
    """Answers in turn; keeps what it was asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[ScriptedRequest] = []

    def __call__(self, request: ScriptedRequest) -> Any:
        self.asked.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def asking(says: Says, **options) -> Pipeline:
    p = Pipeline("mail.spam", version="1", event=Mail, scripted=says)
    options = {"prompt": "Is this spam? {{ event.body }}", "answer": Spam, **options}
    p.start(p.model("spam", **options))
    return p


async def test_an_answer_becomes_an_instance_of_its_schema(run):
    says = Says('{"score": 0.25}')
    ran = await run(asking(says, system="You judge.", credits=2), {"body": "buy!"})

    assert ran.output == Spam(score=0.25)
    (request,) = says.asked
    assert (request.system, request.user) == ("You judge.", "Is this spam? buy!")
    assert (request.operation, request.schema_name) == ("spam", "Spam")
    assert ran.steps["spam"].kind == "model"
    (attempt,) = ran.attempts("spam")
    assert attempt.status == "succeeded"
    (validation,) = ran.validations("spam")
    assert (validation.outcome, validation.credits, validation.n) == ("valid", 2, 1)


async def test_without_a_schema_the_result_is_the_text(run):
    ran = await run(asking(Says("Good day"), answer=None), {"body": ""})
    assert ran.output == "Good day"
    assert ran.validations("spam") == []


async def test_an_answer_that_does_not_fit_is_asked_for_again_with_the_errors(run):
    says = Says('{"score": 3}', "no idea", '{"score": 1}')
    ran = await run(asking(says, credits=1), {"body": "x"})

    assert ran.output == Spam(score=1)
    assert [(v.n, v.outcome, v.credits) for v in ran.validations("spam")] == [
        (1, "invalid", 0),
        (2, "invalid", 0),
        (3, "valid", 1),
    ]
    assert ran.validations("spam")[0].errors == [
        "score: Input should be less than or equal to 1 (got 3)"
    ]
    assert len(ran.attempts("spam")) == 3
    first, second, third = (
        [(m["role"], m["content"]) for m in messages] for messages in ran.messages("spam")
    )
    assert first == [("user", "Is this spam? x")]
    assert second[:2] == [*first, ("assistant", '{"score": 3}')]
    assert "score: Input should be less than or equal to 1 (got 3)" in second[2][1]
    assert third[:3] == second
    assert third[3] == ("assistant", "no idea")


async def test_tries_are_limited(run):
    says = Says('{"score": 3}', '{"score": 4}', '{"score": 5}')
    ran = await run(asking(says, tries=2), {"body": "x"})

    assert isinstance(ran.error, AnswerInvalid)
    assert 'pipeline mail.spam: node "spam" got no valid Spam in 2 tries' in str(ran.error)
    assert "(got 4)" in str(ran.error)
    assert len(says.asked) == 2
    assert ran.ended("spam").status == "failed"
    assert ran.ended("spam").error_phase == "validation"


async def test_an_error_of_the_model_is_not_hidden(run):
    away = ModelError("the provider is away", error_class="temporary")
    ran = await run(asking(Says(away)), {"body": "x"})
    assert ran.error is away
    assert ran.ended("spam").error_phase == "provider"


async def test_validators_may_look_at_the_run(run):
    class Reply(BaseModel):
        text: str

        @field_validator("text")
        @classmethod
        def fits(cls, value: str, info: ValidationInfo) -> str:
            state: State[Mail] = info.context
            if state.event.body not in value:
                raise ValueError("quote the mail")
            return value

    ran = await run(
        asking(Says('{"text": "?"}', '{"text": "you said x"}'), answer=Reply), {"body": "x"}
    )
    assert ran.output.text == "you said x"
    assert ran.validations("spam")[0].errors == ['text: Value error, quote the mail (got "?")']


async def test_prompts_see_finished_nodes_by_name(run):
    says = Says("{}")
    p = Pipeline("mail.two", version="1", event=Mail, scripted=says)
    first = p.node("first", lambda s: Spam(score=0.5))
    p.start(first)
    p.edge(
        first,
        p.model("ask", prompt="{{ first.score }} {{ results['first'].score }} {{ event.body }}"),
    )
    await run(p, {"body": "b"})
    assert says.asked[0].user == "0.5 0.5 b"


async def test_a_missing_value_is_an_error_and_no_blank(run):
    ran = await run(asking(Says(), prompt="{{ event.subject }}"), {"body": "b"})
    assert isinstance(ran.error, PromptError)
    assert 'pipeline mail.spam: node "spam": the prompt cannot be rendered' in str(ran.error)
    assert "subject" in str(ran.error)
    assert ran.attempts("spam") == []


async def test_a_prompt_cannot_leave_the_sandbox(run):
    ran = await run(
        asking(Says(), prompt="{{ event.__class__.__mro__[1].__subclasses__() }}"), {"body": ""}
    )
    assert isinstance(ran.error, PromptError)


async def test_a_mail_is_not_a_template(run):
    says = Says('{"score": 0}')
    await run(asking(says), {"body": "{{ 7 * 7 }} {% raw %}"})
    assert says.asked[0].user == "Is this spam? {{ 7 * 7 }} {% raw %}"


@pytest.mark.parametrize(("option", "value"), [("tries", 0), ("credits", -1)])
def test_impossible_numbers_are_refused(option, value):
    with pytest.raises(DeclarationError, match=f'node "spam": {option}='):
        asking(Says(), **{option: value})


class Pair(BaseModel):
    a: int
    b: str = ""


@pytest.mark.parametrize(
    ("text", "outcome", "answer"),
    [
        ('{"a": 1}', "valid", Pair(a=1)),
        ('  {"a": 1}\n', "valid", Pair(a=1)),
        ('```json\n{"a": 1}\n```', "valid", Pair(a=1)),
        ('{"a": 1, "b": "x"', "repaired", Pair(a=1, b="x")),
        ("{'a': 1,}", "repaired", Pair(a=1)),
        ('Here you are: {"a": 1}', "repaired", Pair(a=1)),
        ("", "invalid", None),
        ("I would rather not.", "invalid", None),
        ("[1]", "invalid", None),
        ('"a"', "invalid", None),
        ("null", "invalid", None),
        ('{"a": "one"}', "invalid", None),
    ],
)
def test_answers(text, outcome, answer):
    verdict = judge(text, Pair)
    assert (verdict.outcome, verdict.answer) == (outcome, answer)
    assert bool(verdict.errors) is (outcome == "invalid")

"""Two executions side by side: aligned by where steps stand, compared by what they did."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from holdfast.domain.diff import Verdict, diff
from holdfast.domain.replays import (
    FROM_RECORD,
    Recorded,
    RecordedAttempt,
    RecordedStep,
    path_text,
    recorded_from,
)
from holdfast.operations.replay import told


def attempt(text: str, prompt: str = "ask", n: int = 1, **more: Any) -> RecordedAttempt:
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": prompt}]
    fields: dict[str, Any] = {
        "status": "succeeded",
        "provider": "openai",
        "model": "m-2026-01-01",
        "parameters": {"model": "m", "max_tokens": 9},
        "messages": messages,
        "answer": {"content": text},
    }
    return RecordedAttempt(n=n, **(fields | more))


def step(number: int, operation: str, parent: int | None = None, **more: Any) -> RecordedStep:
    fields: dict[str, Any] = {"kind": "node", "status": "succeeded", "version": "1", "end": number}
    return RecordedStep(
        step=number, parent=parent, operation=operation, **(fields | {"output": operation} | more)
    )


def run(*steps: RecordedStep, **more: Any) -> Recorded:
    fields: dict[str, Any] = {"version": "1", "code_version": "c", "status": "succeeded"}
    return Recorded(
        execution_id="x", name="p", data={}, steps=steps, **(fields | {"output": "out"} | more)
    )


PLAIN = run(step(1, "a"), step(2, "b", attempts=(attempt("hi"),)), step(3, "c"))


def changes(a: Recorded, b: Recorded) -> dict[str, list[str]]:
    return {pair.name: [one.what for one in pair.changes] for pair in diff(a, b).differing}


def with_b(**more: Any) -> Recorded:
    first, second, third = PLAIN.steps
    return replace(PLAIN, steps=(first, replace(second, **more), third))


def test_times_tokens_and_cost_are_no_difference() -> None:
    slower = attempt("hi", tokens={"input": 7}, cost_usd="1", usage="replayed")
    found = diff(PLAIN, with_b(attempts=(slower,), duration_ms=9.0, end=99))
    assert (found.differing, found.changes) == ([], ())
    assert {pair.verdict for pair in found.pairs} == {Verdict.SAME}


def test_each_kind_of_difference_is_named() -> None:
    for tried, what in (
        (attempt("hi", "ask again"), ["prompt.user"]),
        (attempt("ho"), ["answer"]),
        (attempt("hi", parameters={"model": "n"}), ["model", "parameters"]),
        (attempt("hi", model="m-2026-05-05"), []),
        (
            attempt("hi", parameters={"model": "m", "max_tokens": 9, "response_format": 1}),
            ["schema"],
        ),
        (attempt("hi", validation="invalid"), ["validation"]),
    ):
        assert changes(PLAIN, with_b(attempts=(tried,))) == ({"b": what} if what else {})
    twice = (attempt("hi"), attempt("ho", "complaint", 2))
    assert changes(PLAIN, with_b(attempts=twice)) == {"b": ["attempts"]}
    error = {"type": "ValueError", "message": "no", "traceback": "line 7"}
    failed = {"status": "failed", "error": error, "output": None}
    assert changes(PLAIN, with_b(**failed)) == {"b": ["status", "output", "error"]}
    moved = error | {"traceback": "line 9"}
    assert changes(with_b(**failed), with_b(**(failed | {"error": moved}))) == {}


def test_what_a_replay_tells_of_itself() -> None:
    edited = with_b(attempts=(attempt("hi", "ask again"),))
    said = told(diff(PLAIN, replace(edited, code_version="d")))
    assert said == {
        "differs": [{"step": "b", "what": ["prompt.user"]}],
        "unrecorded": [],
        "not_reached": [],
        "code_version": ["c", "d"],
    }


def test_a_prompt_asked_twice_is_told_once() -> None:
    two = [attempt("no", p, n) for n, p in ((1, "ask"), (2, "ask"))]
    edited = [attempt("no", p, n) for n, p in ((1, "beg"), (2, "beg"))]
    assert changes(with_b(attempts=tuple(two)), with_b(attempts=tuple(edited))) == {
        "b": ["prompt.user"]
    }


def test_the_first_to_differ_stands_before_what_is_above_it() -> None:
    def grouped(answer: str) -> Recorded:
        return run(
            step(1, "judge", output=answer, end=9),
            step(2, "spam", 1),
            step(3, "intent", 1, output=answer, attempts=(attempt(answer),)),
            step(4, "send", output=answer),
        )

    found = diff(grouped("x"), grouped("y"))
    assert [pair.name for pair in found.differing] == ["judge/intent", "judge", "send"]


def test_items_are_aligned_by_index_and_rounds_by_number() -> None:
    def items(*order: int) -> Recorded:
        above = step(1, "each", output=None)
        below = [
            step(at, "one", 1, mark=(index,), output=f"item {index}")
            for at, index in enumerate(order, 2)
        ]
        rounds = [step(at, "loop", output=at) for at in (8, 9)]
        return run(above, *below, *rounds)

    found = diff(items(0, 1, 2), items(2, 0, 1))
    assert found.differing == []
    assert [path_text(pair.path) for pair in found.pairs if len(pair.path) == 2] == [
        "each/one[2]",
        "each/one[0]",
        "each/one[1]",
    ]
    assert [pair.name for pair in found.pairs][-2:] == ["loop", "loop#2"]
    longer = diff(items(0), items(0, 1))
    assert [(pair.name, pair.verdict) for pair in longer.differing] == [
        ("each/one[1]", Verdict.ONLY_B)
    ]


def test_steps_in_one_of_them_stand_where_they_would_have_run() -> None:
    other = run(step(1, "a"), step(2, "new"), step(3, "c"))
    found = diff(PLAIN, other)
    assert [(pair.name, str(pair.verdict)) for pair in found.pairs] == [
        ("a", "same"),
        ("new", "only_b"),
        ("b", "only_a"),
        ("c", "same"),
    ]


def test_a_result_taken_over_is_no_difference_and_hides_what_was_beneath() -> None:
    whole = run(step(1, "judge"), step(2, "spam", 1), step(3, "send"))
    taken = run(step(1, "judge", status="skipped", skip_reason=f"{FROM_RECORD}x"), step(2, "send"))
    found = diff(whole, taken)
    assert [(pair.name, str(pair.verdict)) for pair in found.pairs] == [
        ("judge", "given"),
        ("judge/spam", "given"),
        ("send", "same"),
    ]
    other = replace(taken, steps=(replace(taken.steps[0], output="?"), taken.steps[1]))
    assert changes(whole, other) == {"judge": ["output"]}


def test_a_record_is_what_it_was_after_json() -> None:
    assert recorded_from(PLAIN.to_json()) == PLAIN

"""A turn on a terminal, entry by entry."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from holdfast.cli.talking import Flow, Screen, footer, questions, takes_message


def console(width=40):
    return Console(file=io.StringIO(), width=width, markup=False, highlight=False, emoji=False)


@pytest.fixture
def out():
    return console()


def token(text, so_far=0, step=1):
    return {"step": step, "text": text, "so_far": so_far}


def lines(out):
    return out.file.getvalue().splitlines()


def test_words_come_as_they_are_said_and_the_answer_adds_what_is_missing(out):
    screen = Screen(out, "desk")
    screen.take("typing", {})
    screen.take("token", token("Order 1042 "))
    assert out.file.getvalue() == "desk › Order 1042"
    screen.take("token", token("is shi", so_far=11))
    screen.take("message", {"response": "Order 1042 is shipped."})

    assert lines(out) == ["desk › Order 1042 is shipped."]


def test_lines_are_broken_between_words_at_the_width_of_the_terminal():
    out = console(20)
    screen = Screen(out, "desk")
    for at, piece in enumerate(("one two thr", "ee four five ", "六七八九十 六七八九十")):
        screen.take("token", token(piece, so_far=(0, 11, 24)[at]))
    screen.stop()

    assert lines(out) == ["desk › one two three", "four five 六七八九十", "六七八九十"]


def test_a_line_end_stays_one_and_indentation_too():
    out = console(30)
    flow = Flow(out, 0)
    flow.write("a list:\n\n  - one\n  - two")
    flow.end()
    assert out.file.getvalue() == "a list:\n\n  - one\n  - two"


def test_an_answer_that_is_another_is_said_whole(out):
    screen = Screen(out, "desk")
    screen.take("token", token("A draft"))
    screen.take("message", {"response": "The answer."})
    assert lines(out) == ["desk › A draft", "desk › The answer."]


def test_lost_words_are_made_good_by_the_answer(out):
    screen = Screen(out, "desk")
    screen.take("token", token("One "))
    screen.take("token", token("three", so_far=8))
    screen.take("message", {"response": "One two three"})
    assert lines(out)[-1] == "desk › One two three"


def test_words_told_again_after_a_reconnect_are_not_said_twice(out):
    screen = Screen(out, "desk")
    screen.take("token", token("One "))
    screen.take("token", token("two", so_far=4))
    screen.take("token", token("wo three", so_far=5))
    screen.take("message", {"response": "One two three"})
    assert lines(out) == ["desk › One two three"]


def test_a_tool_is_one_line_and_one_more_if_it_fails(out):
    screen = Screen(out, "desk")
    screen.take("token", token("Let me look."))
    for status in ("running", "succeeded"):
        screen.take("tool", {"step": 2, "name": "look_up", "status": status})
    for status in ("running", "failed"):
        screen.take("tool", {"step": 3, "name": "open", "status": status})
    screen.take("token", token("Found it.", step=4))
    screen.take("message", {"response": "Found it."})

    assert lines(out) == [
        "desk › Let me look.",
        "  · look_up",
        "  · open",
        "  · open failed",
        "desk › Found it.",
    ]


def test_nobody_moves_the_cursor_from_within_an_answer(out):
    screen = Screen(out, "desk")
    screen.take("token", token("a\x1b[31m"))
    screen.take("message", {"response": "a\x1b[31m\x1b[2J"})
    assert lines(out) == ["desk › a␛[31m␛[2J"]


def test_a_question_of_the_agent_is_said_as_its_words(out):
    asked = [
        {"name": "ask", "question": {"question": "Which order?", "takes_message": True}},
        {"name": "boss", "question": "May I?"},
        {"name": "bare", "question": None},
    ]
    screen = Screen(out, "desk")
    screen.take("waiting", {"waits": asked})

    assert questions(asked) == ["Which order?", "May I?", "bare"]
    assert lines(out) == ["desk › Which order?", "desk › May I?", "desk › bare"]
    assert takes_message(asked)
    assert not takes_message(asked[1:])


def test_an_unknown_entry_is_passed_over(out):
    Screen(out, "desk").take("news", {})
    assert lines(out) == []


def test_rules_are_called_rules(execution, step, attempt):
    by_rules = execution([step("agent", "model", attempts=[attempt(provider="scripted")])])
    by_model = execution([step("agent", "model", attempts=[attempt()])])

    assert footer(by_rules) == "412 ms · 1,204 tokens · $0.00026 · rules, not a language model"
    assert footer(by_model) == "412 ms · 1,204 tokens · $0.00026"

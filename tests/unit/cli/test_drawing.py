"""Drawing executions from canned views."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from holdfast.cli.drawing import draw_execution
from holdfast.cli.transcript import transcript
from holdfast.domain.status import ExecutionStatus, StepStatus

HOSTILE = "\x1b]0;owned\x07\x1b[2J[red]boo[/red]\u202e:smile:\x9b31m\r\nnext"


def invalid(errors):
    return {"outcome": "invalid", "duration_ms": 0.1, "errors": errors}


def test_the_tree_of_the_design(execution, step, attempt, render):
    tokens = {"cached": 860, "usage": "reported"}
    tries = [
        attempt(1, validation=invalid(["spam > 1"]), tokens=tokens),
        attempt(2, tokens={"input": 141, "output": 0}),
    ]
    view = execution(
        [
            step("judge", "model", attempts=tries),
            step(
                "route",
                "router",
                output={"target": "draft", "rule": None, "fallback": True},
            ),
            step("draft", "node", duration_ms=0.24),
        ]
    )

    assert render(draw_execution(view, 100)).splitlines() == [
        "support.triage v1  succeeded  412 ms  1,204 tokens  $0.00026",
        "├─ judge  model  gpt-6.1-luna  311 ms  1,163 in (860 cached)  41 out  $0.00042",
        "│  └─ attempt 1 invalid: spam > 1 · attempt 2 ok",
        "├─ route  → draft (otherwise)",
        "└─ draft  node                 0.2 ms",
        "sum  3 steps  2 attempts  1,163 in (860 cached)  41 out  $0.00026",
        f"execution {view['id']}  event {view['event_id']}",
    ]


def test_a_rule_is_named_and_the_end_is_called_end(execution, step, render):
    chosen = {"target": "__end__", "rule": "spam above 0.8", "fallback": False}
    drawn = render(draw_execution(execution([step("route", "router", output=chosen)]), 100))

    assert "└─ route  → end (spam above 0.8)" in drawn


def test_branches_stand_under_their_group(execution, step, render):
    group = step("screen", "parallel")
    drawn = render(
        draw_execution(
            execution([group, step("spam", parent=1), step("intent", parent=1), step("send")]), 100
        )
    )

    tree = [line.partition("  node")[0].partition("  para")[0] for line in drawn.splitlines()[1:5]]
    tree = [line.rstrip() for line in tree]
    assert tree == ["├─ screen", "│  ├─ spam", "│  └─ intent", "└─ send"]


@pytest.mark.parametrize("status", ExecutionStatus)
def test_every_status_of_an_execution_is_said(execution, render, status):
    drawn = render(draw_execution(execution(status=status.value, duration_ms=None), 100))

    assert drawn.splitlines()[0].split("  ")[1:3] == [status.value, "–"]


@pytest.mark.parametrize("status", [one for one in StepStatus if one != "succeeded"])
def test_every_status_of_a_step_is_said(execution, step, render, status):
    drawn = render(draw_execution(execution([step(status=status.value)]), 100))

    assert f"node  {status.value}" in drawn


def test_an_error_is_told_once_with_its_phase_where_it_arose(execution, step, render):
    error = {"type": "RateLimitError", "message": "slow down", "hint": "wait"}
    view = execution(
        [
            step("graph", "graph", status="failed", error=error, error_phase="node"),
            step("ask", "model", parent=1, status="failed", error=error, error_phase="provider"),
        ],
        status="failed",
        error={"code": "step_failed", "message": "ask failed"},
    )

    drawn = render(draw_execution(view, 100))

    assert drawn.count("slow down") == 1
    assert "   └─ ask" in drawn
    assert "      └─ provider error: RateLimitError: slow down (wait)" in drawn
    assert "failed: step_failed: ask failed" in drawn
    assert "\x1b[31mprovider error" in render(draw_execution(view, 100), ansi=True)


def test_skipped_and_suspicious_say_why(execution, step, render):
    reasons = ["instruction override: ignore all previous"]
    view = execution(
        [step(status="skipped", skip_reason="nothing to do"), step("ask", suspicious=reasons)],
        flags={"suspicious": reasons},
    )

    drawn = render(draw_execution(view, 100))

    assert "judge  node  skipped" in drawn
    assert "reason: nothing to do" in drawn
    assert "suspicious: instruction override\n" in drawn
    assert "suspicious  instruction override: ignore all previous\n" in drawn


def test_what_nobody_knows_is_never_a_zero(execution, step, attempt, render):
    nothing = {"input": None, "output": None, "usage": "unknown"}
    view = execution(
        [
            step("a", "model", attempts=[attempt(cost_usd=None, tokens=nothing)]),
            step("b", "model", attempts=[attempt(), attempt(2, cost_usd=None, tokens=nothing)]),
        ],
        unknown={"usage": 2, "cost": 2},
    )

    drawn = render(draw_execution(view, 120)).splitlines()

    assert drawn[0].endswith("1,204 + ? tokens  $0.00026 + ?")
    assert " ? in" in drawn[1]
    assert drawn[1].endswith("$?")
    assert "1,022 + ? in" in drawn[2]
    assert drawn[2].endswith("$0.00021 + ?")
    assert "? tokens unknown for 2 attempts: not in the sums" in drawn
    assert "? price unknown for 2 attempts: not in the cost" in drawn


def test_an_attempt_under_way_is_not_taken_for_unknown(execution, step, attempt, render):
    under_way = attempt(status="running", cost_usd=None, tokens={"usage": "unknown"})
    drawn = render(
        draw_execution(execution([step("a", "model", status="running", attempts=[under_way])]), 100)
    )

    assert "?" not in drawn
    assert "running" in drawn


def test_estimates_and_rules_are_marked(execution, step, attempt, render):
    tried = attempt(provider="scripted", model="rules", tokens={"usage": "estimated"})
    view = execution([step("a", "model", attempts=[tried])], flags={"tokens_estimated": True})

    drawn = render(draw_execution(view, 100))

    assert "~1,204 tokens" in drawn
    assert "~1,022 in" in drawn
    assert "rules, not a language model" in drawn


def test_a_failed_attempt_tells_its_class(execution, step, attempt, render):
    error = {"type": "RateLimitError", "message": "slow down"}
    tries = [
        attempt(1, status="failed", error=error, error_class="rate_limit"),
        attempt(2, finish_reason="length", model="gpt-6-astra"),
    ]
    drawn = render(draw_execution(execution([step("a", "model", attempts=tries)]), 120))

    assert "attempt 1 gpt-6.1-luna failed (rate_limit): slow down" in drawn
    assert "attempt 2 gpt-6-astra ok (cut off: length)" in drawn


def test_one_plain_attempt_is_not_worth_a_line(execution, step, attempt, render):
    drawn = render(draw_execution(execution([step("a", "model", attempts=[attempt()])]), 100))

    assert "attempt 1" not in drawn


@pytest.mark.parametrize("full", [False, True])
def test_nothing_from_outside_is_obeyed(execution, step, attempt, render, full):
    error = {"type": HOSTILE, "message": HOSTILE, "hint": HOSTILE, "traceback": HOSTILE}
    tried = attempt(
        model=HOSTILE,
        messages=[{"role": HOSTILE, "content": HOSTILE}],
        raw_response={"content": HOSTILE},
        validation=invalid([HOSTILE]),
        parameters={"stop": HOSTILE},
    )
    view = execution(
        [
            step(HOSTILE, HOSTILE, attempts=[tried], suspicious=[HOSTILE], error=error),
            step("r", "router", output={"target": HOSTILE, "rule": HOSTILE, "fallback": False}),
        ],
        name=HOSTILE,
        error=error,
        output=HOSTILE,
    )

    lines = [*draw_execution(view, 100), *(transcript(view) if full else ())]
    drawn = render(lines, ansi=False)

    assert not set(drawn) & {"\x1b", "\x07", "\x9b", "\r", "\u202e"}
    assert "[red]boo[/red]" in drawn
    assert ":smile:" in drawn
    assert "␛" in drawn


def test_lines_keep_to_the_width(execution, step, attempt, render):
    long = "a very long remark " * 20
    tried = attempt(model="some-vendor/an-extraordinarily-long-model-name-2026-11-02-preview")
    view = execution(
        [
            step("x" * 70, "model", attempts=[tried, attempt(2, validation=invalid([long]))]),
            step("分類" * 8, "model", parent=1, attempts=[tried], skip_reason=long),
        ]
    )

    drawn = render(draw_execution(view, 80)).splitlines()

    assert max(cell_len(line) for line in drawn[:-1]) <= 80  # the last has the ids, never cut
    assert any("…" in line for line in drawn)


def test_the_full_text_is_there_and_messages_are_not_repeated(execution, step, attempt, render):
    first = attempt(1, validation=invalid(["spam > 1"]))
    second = attempt(
        2,
        messages=[
            *first["messages"],
            {"role": "assistant", "content": "Fine."},
            {"role": "user", "content": "Again,\nplease."},
        ],
        raw_response={"role": "assistant", "content": [{"type": "text", "text": "Now."}]},
    )
    view = execution([step("ask", "model", attempts=[first, second])])

    drawn = render(transcript(view))

    assert drawn.count("A letter.") == 1
    assert "the 2 messages of the attempt before, then" in drawn
    assert "    Again,\n    please.\n" in drawn
    assert '"text": "Now."' in drawn
    assert '"outcome": "answered"' in drawn


def test_tries_of_plain_nodes_have_no_tokens_and_stand_ins_are_named(
    execution, step, attempt, render
):
    def tried(n, **fields):
        nobody = {"usage": "none", "input": None, "output": None}
        return attempt(n, provider=None, model=None, cost_usd="0", tokens=nobody, **fields)

    error = {"type": "ConnectionError", "message": "gone", "fallback": "cheap"}
    tries = [
        tried(1, status="failed", error={"message": "away"}, error_class="temporary"),
        tried(2, status="failed", error=error, error_class="temporary"),
    ]
    view = execution(
        [
            step("fetch", status="failed", error=error, error_phase="node", attempts=tries),
            step("cheap", parent=1),
            step(
                "cheap.loop",
                "loop",
                output={
                    "target": "fetch",
                    "rule": "too_short",
                    "fallback": False,
                    "round": 2,
                    "at_most": 5,
                    "exhausted": False,
                },
            ),
        ]
    )
    drawn = render(draw_execution(view, 100)).splitlines()
    assert drawn[1:7] == [
        "├─ fetch       node  failed  311 ms",
        "│  ├─ attempt 1 failed (temporary): away · attempt 2 failed (temporary)",
        "│  ├─ node error (temporary): ConnectionError: gone",
        "│  ├─ cheap stands in",
        "│  └─ cheap    node          311 ms",
        "└─ cheap.loop  → fetch (too_short, round 2 of 5)",
    ]


def test_child_executions_stand_below_the_step_that_started_them(execution, step, render):
    sums = {
        "tokens": {"input": 10, "cached": 0, "output": 2, "reasoning": 0},
        "cost_usd": "0.01",
        "credits": 0,
        "unknown": {"usage": 0, "cost": 0},
    }
    child = {
        "id": "c1",
        "event_id": "e1",
        "name": "shop.price",
        "version": "2",
        "status": "failed",
        "step": 1,
        "error": {"code": "step_failed", "message": "no price"},
        "flags": {},
        "started_at": "2026-11-02T14:03:22.000000Z",
        "finished_at": None,
        "duration_ms": 20.0,
        **sums,
    }
    view = execution(
        [step("price_of", "child", attempts=[])],
        children=[child],
        with_children={"executions": 2, "estimated": True, **sums},
    )
    drawn = render(draw_execution(view, 100)).splitlines()
    assert drawn[1].startswith("└─ price_of")
    assert drawn[2].startswith("   └─ shop.price v2  execution  c1  failed")
    assert drawn[2].endswith("10 in  2 out  $0.010")
    assert "no price" in drawn[3]
    assert "with children  2 executions  ~10 in  ~2 out  $0.010" in drawn


def test_an_agent_is_called_by_its_name_and_not_by_its_id(execution, render):
    agent = {"id": "0199c0de-0000-7000-8000-000000000003", "name": "helpdesk"}
    view = execution(name=agent["id"], kind="agent", agent=agent)
    assert render(draw_execution(view, 100)).startswith("helpdesk v1  succeeded")
    # One that was deleted since has only its id.
    view["agent"]["name"] = None
    assert render(draw_execution(view, 100)).startswith(agent["id"])

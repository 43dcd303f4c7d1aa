"""Lists and messages on a terminal."""

from __future__ import annotations

import pytest

from holdfast.cli import tables
from holdfast.cli.tables import event_sheet, events_table, executions_table, pipelines_table
from holdfast.cli.terminal import complain, show
from holdfast.errors import InvalidInput, NotFound

EVENT = {
    "id": "0199c0de-0000-7000-8000-000000000002",
    "type": "[red]t[/red]",
    "source": "/",
    "subject": None,
    "idempotency_key": None,
    "status": "failed",
    "deliveries": 1,
    "crashes": 0,
    "execution_id": None,
    "received_at": "2026-11-02T14:03:22.000000Z",
    "finished_at": None,
    "postponed_for": None,
    "last_error": {"message": "no \x1b[31m" + "and on " * 40},
    "data": {"text": "[bold]\x1b"},
    "result": {"output": {"outcome": "x"}},
}


@pytest.mark.parametrize("columns", [60, 100])
def test_events_take_a_line_each_and_ids_stay_whole(monkeypatch, capsys, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    show(events_table([EVENT], columns))

    header, row = capsys.readouterr().out.splitlines()
    assert header.startswith("event ")
    assert row.startswith(EVENT["id"])
    assert columns == 60 or "[red]t[/red]  failed" in row
    assert columns == 60 or "no ␛[31mand" in row


def test_executions_mark_what_is_not_known(monkeypatch, capsys, execution):
    monkeypatch.setenv("COLUMNS", "100")
    known = execution(flags={"tokens_estimated": True}, name="[red]n[/red]")
    unknown = execution(cost_usd="0", unknown={"usage": 1, "cost": 1}, duration_ms=None)
    show(executions_table([known, unknown]))

    _, first, second = capsys.readouterr().out.splitlines()
    assert "[red]n[/red]" in first
    assert first.split()[-3:] == ["ms", "~1,204", "$0.00026"]
    assert second.split()[-5:] == ["–", "1,204", "+", "?", "$?"]


def test_an_empty_list_is_a_header(capsys):
    show(pipelines_table([], 100), events_table([], 100))

    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        "pipeline",
        "event",
    ]


def test_an_event_with_its_data_and_output(capsys):
    show(*event_sheet(EVENT))

    told = capsys.readouterr().out
    assert "type       [red]t[/red]" in told
    assert '"text": "[bold]\\u001b"' in told
    assert '"outcome": "x"' in told
    assert "\x1b" not in told


def test_plain_text_is_no_markup(capsys):
    show("[red]x[/red] :smile:")

    assert capsys.readouterr().out == "[red]x[/red] :smile:\n"


def test_errors_say_what_where_and_what_to_do(capsys):
    fields = [{"field": f"data.{name}", "expected": "a number", "got": "x"} for name in "ab"]
    complain(InvalidInput("two fields are wrong", hint="see the schema", fields=fields))
    complain(InvalidInput("data.a is wrong\x1b", fields=fields[:1]))
    complain(NotFound("there is no event 7"))

    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "error: two fields are wrong",
        "  data.a: expected a number, got x",
        "  data.b: expected a number, got x",
        "  see the schema",
        "error: data.a is wrong␛",
        "error: there is no event 7",
    ]


@pytest.fixture
def drawn(monkeypatch, capsys):
    """A table as it is shown."""

    def draw(table):
        monkeypatch.setenv("COLUMNS", "120")
        show(table)
        return capsys.readouterr().out

    return draw


def test_what_was_used_with_what_nobody_knows(drawn):
    sums = {
        "calls": 1200,
        "tokens": {"input": 5000, "cached": 40, "output": 7},
        "cost_usd": "0.25",
        "saved_usd": "0",
        "credits": 3,
        "unknown": {"usage": 0, "cost": 2},
        "estimated": 0,
    }
    view = {"by": "model", "items": [{"key": "a:b", **sums}, {"key": "", **sums}], "total": sums}
    text = drawn(tables.usage_table(view))
    assert "model" in text
    assert text.count("$0.25 + ?") == 3
    assert "total" in text
    assert "~" not in text
    guessed = sums | {"estimated": 4}
    view = {"by": "model", "items": [{"key": "a:b", **sums}, {"key": "c", **guessed}]}
    text = drawn(tables.usage_table(view | {"total": guessed}))
    assert text.count("~5,000") == 2, "the sums that hold estimates, and no other"
    assert "~ 4 calls with estimated tokens" in text


def test_what_is_left_of_budgets(drawn):
    budget = {"title": "owner a day", "unit": "usd", "id": "b1", "amount": "2"}
    views = [
        {**budget, "spent": "0.5", "set_aside": "0.1"},
        {**budget, "spent": None, "set_aside": None},
    ]
    text = drawn(tables.budgets_table(views))
    assert "0.5" in text
    assert "each its own" in text


def test_an_estimate_of_what_nobody_knows(drawn):
    spread = {"median": 3, "p90": 5000, "of": 9}
    view = {"tokens_input": spread, "tokens_output": None, "cost_usd": None, "credits": spread}
    text = drawn(tables.estimate_table(view))
    assert "5,000" in text
    assert "–" in text

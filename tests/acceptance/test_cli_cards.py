"""`holdfast cards` as an author uses it: faults by line, a schema for the editor, a run's steps."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from .shell import Shell

APPS = Path(__file__).parents[1] / "apps"


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    shutil.copytree(APPS / "cards", tmp_path / "cards")
    shutil.copy(APPS / "cards_app.py", tmp_path)
    return Shell(tmp_path, HOLDFAST_PORT="1")


def test_cards_that_are_right(shell: Shell) -> None:
    done = shell("cards", "check", HOLDFAST_APPS="cards_app")
    assert (done.stdout, done.stderr) == ("", "4 card(s), nothing wrong.\n")


def test_every_fault_with_its_line_and_column(shell: Shell) -> None:
    card = shell.folder / "cards" / "order.yaml"
    text = (
        card.read_text().replace("quote.sum} >", "quotes.sum} =").replace("then: paid", "then: p")
    )
    card.write_text(text)
    done = shell("cards", "check", "cards/order.yaml", "--app", "cards_app", code=1)
    known = "approve, both, credit, end, gate, paid, price, prices, quote, stock, too_much"
    assert done.stdout.splitlines() == [
        "cards/order.yaml:28:27: cannot read '=' (== compares)",
        f'cards/order.yaml:38:15: there is no step "p" (known: {known})',
        'cards/order.yaml:40:3: step "paid" is never reached (no way leads to it)',
    ]
    assert done.stderr == "3 fault(s) in 1 card(s).\n"
    told = json.loads(shell("cards", "check", "--app", "cards_app", "--json", code=1).stdout)
    assert len(told["files"]) == 4
    assert {(one["line"], one["column"]) for one in told["faults"]} == {(28, 27), (38, 15), (40, 3)}


def test_a_new_card_is_checked_beside_the_apps_own(shell: Shell) -> None:
    new = shell.folder / "new.yaml"
    new.write_text(
        'name: new\nversion: "1"\nevent: {}\n'
        "steps: {a: {subprocess: {pipeline: cards.quote, with: {prices: [1]}}}}\n"
    )
    assert (
        "1 card(s), nothing wrong."
        in shell("cards", "check", "new.yaml", "--app", "cards_app").stderr
    )
    new.write_text(new.read_text().replace("name: new", "name: cards.quote"))
    done = shell("cards", "check", "new.yaml", "--app", "cards_app", code=1)
    assert 'new.yaml:1:7: the card "cards.quote" is in ' in done.stdout


def test_what_cannot_be_checked_is_said(shell: Shell) -> None:
    assert "gone.yaml cannot be read" in shell("cards", "check", "gone.yaml", code=1).stderr
    assert "no_app cannot be imported" in shell("cards", "check", "--app", "no_app", code=1).stderr
    assert "there is no card to check" in shell("cards", "check", code=1).stderr


def test_the_schema(shell: Shell) -> None:
    schema = json.loads(shell("cards", "schema").stdout)
    assert schema["title"] == "Holdfast process card"
    assert schema["additionalProperties"] is False


def test_the_steps_of_a_run(shell: Shell) -> None:
    folder = shell.folder / "gate"
    folder.mkdir()
    (folder / "go").touch()
    env = {"HOLDFAST_APPS": "cards_app", "HOLDFAST_RUNNERS": "1"}
    shell("db", "upgrade")
    data = json.dumps({"folder": str(folder), "parts": ["much too long a name"]})
    shell("events", "submit", "--type", "cards.order", "--data", data, "--wait", **env)
    listed = json.loads(shell("executions", "list", "--json", **env).stdout)
    execution = listed["items"][0]["id"]
    rows = shell("executions", "progress", execution, **env).stdout.splitlines()
    assert [row.split()[:3] for row in rows[1:]][-5:] == [
        ["quote.route", "router", "succeeded"],
        ["approve", "human", "not_run"],
        ["approve.route", "router", "not_run"],
        ["paid", "node", "not_run"],
        ["too_much", "node", "succeeded"],
    ]

"""Dead letters and schedules with the installed command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .shell import Shell

APP = """
from pathlib import Path
from pydantic import BaseModel
from holdfast import Pipeline, State

class Job(BaseModel):
    text: str = ""

away = Pipeline("cli.away", version="1", event=Job)

@away.node
async def call(state: State[Job]) -> str:
    if not Path("open").exists():
        raise ConnectionError("nobody answers")
    return "answered " + state.event.text

away.start(call)
"""


def dead_letter(shell: Shell, text: str) -> str:
    data = json.dumps({"text": text})
    submit = ("events", "submit", "--type", "cli.away", "--data", data, "--wait")
    line = shell.json(*submit, code=1)
    assert line["status"] == "dead"
    return line["event_id"]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    (tmp_path / "letters_app.py").write_text(APP)
    made = Shell(tmp_path, HOLDFAST_APPS="letters_app")
    made("db", "upgrade")
    return made


def test_from_the_dead_letter_to_the_answer(shell: Shell) -> None:
    with shell.up():
        first, second, third = (dead_letter(shell, text) for text in ("a", "b", "c"))
        listed = shell.says("dead-letters", "list")
        assert all(one in listed for one in (first, second, third))
        assert "nobody answers" in listed
        shown = shell.says("dead-letters", "show", first)
        assert "delivered 1: failed  nobody answers" in shown

        refused = shell.says("dead-letters", "edit", first, "--data", '{"tex": 1}', code=1)
        assert "data.tex" in refused
        shell.says("dead-letters", "edit", first, "--data", '{"text": "mended"}')
        shell.says("dead-letters", "discard", second, "--reason", "a mistake")
        assert second not in shell.says("dead-letters", "list")
        assert second in shell.says("dead-letters", "list", "--discarded")
        assert "discarded by local: a mistake" in shell.says("dead-letters", "show", second)

        (shell.folder / "open").touch()
        shell.says("dead-letters", "replay", code=2)
        done = shell.json("dead-letters", "replay", "--pipeline", "cli.away", "--yes")
        assert (done["matched"], done["done"]) == (2, 2)
        again = shell.json("dead-letters", "replay", second, code=1)
        assert again["refused"][0]["code"] == "illegal_move"
        answer = ""
        for _ in range(200):
            answer = shell.says("events", "show", first)
            if "succeeded" in answer:
                break
        assert "answered mended" in answer
        assert "dead" not in shell.says("events", "show", third).split("data")[0]


def test_schedules_are_set_paused_and_deleted(shell: Shell) -> None:
    base = ("schedules", "set", "nightly", "--pipeline", "cli.away", "--data", "{}")
    assert "never" in shell.says(*base, "--cron", "never", code=1)
    made = shell.json(*base, "--cron", "30 2 * * MON-FRI", "--timezone", "Europe/Berlin")
    assert (made["enabled"], made["missed"]) == (True, "skip")
    assert made["loaded"]
    assert "not loaded" not in shell.says("schedules", "list")
    shell.env["HOLDFAST_APPS"] = ""
    assert "not loaded" in shell.says("schedules", "list")
    shell.env["HOLDFAST_APPS"] = "letters_app"
    assert "It is paused." in shell.says("schedules", "pause", "nightly")
    listed = shell.says("schedules", "list")
    assert "nightly" in listed
    assert "paused" in listed
    shell.says("schedules", "delete", "nightly")


def test_an_event_is_sent_for_later_and_as_a_turn_of_a_session(shell: Shell) -> None:
    wish = ("--session", "s", "--delay", "3600")
    sent = shell.json("events", "submit", "--type", "cli.away", "--data", "{}", *wish)
    event = shell.json("events", "show", sent["event_id"])
    assert (event["status"], event["session_id"]) == ("queued", "s")
    assert event["available_at"] > event["received_at"]

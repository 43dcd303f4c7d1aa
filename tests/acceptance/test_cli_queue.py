"""Dead letters and schedules with the installed command, in the store when no hub runs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HOLDFAST = str(Path(sys.executable).with_name("holdfast"))

TIMEOUT_S = 60

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


class Shell:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "letters_app.py").write_text(APP)
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        self.env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("HOLDFAST_", "COV_")) and name != "DATABASE_URL"
        } | {
            "HOLDFAST_HOME": str(folder / "home"),
            "HOLDFAST_PORT": str(port),
            "HOLDFAST_APPS": "letters_app",
            "HOLDFAST_RUNNERS": "1",
            "COLUMNS": "120",
        }

    def __call__(self, *args: str, code: int = 0) -> str:
        done = subprocess.run(
            [HOLDFAST, *args],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == code, f"{args}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def json(self, *args: str, code: int = 0) -> Any:
        done = subprocess.run(
            [HOLDFAST, *args, "--json"],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == code, f"{args}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)

    def send(self, text: str) -> str:
        data = json.dumps({"text": text})
        submit = ("events", "submit", "--type", "cli.away", "--data", data, "--wait")
        line = self.json(*submit, code=1)
        assert line["status"] == "dead"
        return line["event_id"]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    made = Shell(tmp_path)
    made("db", "upgrade")
    return made


def test_from_the_dead_letter_to_the_answer(shell: Shell) -> None:
    first, second, third = (shell.send(text) for text in ("a", "b", "c"))
    listed = shell("dead-letters", "list")
    assert all(one in listed for one in (first, second, third))
    assert "nobody answers" in listed
    shown = shell("dead-letters", "show", first)
    assert "delivered 1: failed  nobody answers" in shown

    refused = shell("dead-letters", "edit", first, "--data", '{"tex": 1}', code=1)
    assert "data.tex" in refused
    shell("dead-letters", "edit", first, "--data", '{"text": "mended"}')
    shell("dead-letters", "discard", second, "--reason", "a mistake")
    assert second not in shell("dead-letters", "list")
    assert second in shell("dead-letters", "list", "--discarded")
    assert "discarded by local: a mistake" in shell("dead-letters", "show", second)

    (shell.folder / "open").touch()
    shell("dead-letters", "replay", code=2)
    done = shell.json("dead-letters", "replay", "--pipeline", "cli.away", "--yes")
    assert (done["matched"], done["done"]) == (2, 2)
    again = shell.json("dead-letters", "replay", second, code=1)
    assert again["refused"][0]["code"] == "illegal_move"
    with subprocess.Popen(
        [HOLDFAST, "up"], cwd=shell.folder, env=shell.env, stderr=subprocess.PIPE, text=True
    ) as hub:
        assert hub.stderr is not None
        try:
            for line in hub.stderr:
                if line.startswith("Ctrl-C"):
                    break
            answer = ""
            for _ in range(200):
                answer = shell("events", "show", first)
                if "succeeded" in answer:
                    break
            assert "answered mended" in answer
            assert "dead" not in shell("events", "show", third).split("data")[0]
        finally:
            hub.terminate()
            hub.communicate(timeout=TIMEOUT_S)


def test_schedules_are_set_paused_and_deleted(shell: Shell) -> None:
    base = ("schedules", "set", "nightly", "--pipeline", "cli.away", "--data", "{}")
    assert "never" in shell(*base, "--cron", "never", code=1)
    made = shell.json(*base, "--cron", "30 2 * * MON-FRI", "--timezone", "Europe/Berlin")
    assert (made["enabled"], made["missed"]) == (True, "skip")
    assert made["loaded"]
    assert "not loaded" not in shell("schedules", "list")
    shell.env["HOLDFAST_APPS"] = ""
    assert "not loaded" in shell("schedules", "list")
    shell.env["HOLDFAST_APPS"] = "letters_app"
    assert "It is paused." in shell("schedules", "pause", "nightly")
    listed = shell("schedules", "list")
    assert "nightly" in listed
    assert "paused" in listed
    shell("schedules", "delete", "nightly")


def test_an_event_is_sent_for_later_and_as_a_turn_of_a_session(shell: Shell) -> None:
    wish = ("--session", "s", "--delay", "3600")
    sent = shell.json("events", "submit", "--type", "cli.away", "--data", "{}", *wish)
    event = shell.json("events", "show", sent["event_id"])
    assert (event["status"], event["session_id"]) == ("queued", "s")
    assert event["available_at"] > event["received_at"]

"""Prompts with the installed command: the commands of docs/prompts.md, in their order."""

from __future__ import annotations

import json
from pathlib import Path

from .shell import Shell

APP = """
from pydantic import BaseModel
from holdfast import Pipeline, stored

class Email(BaseModel):
    body: str

triage = Pipeline("cli.prompts", version="1", event=Email, scripted=lambda asked: asked.user)
triage.start(
    triage.model("judge", prompt=stored("support/judge", label="production"), alias="fast")
)
"""
FILE = "Sort it.\n--- dynamic ---\n{{ event.body }}\n"


def test_pulled_pushed_compared_labelled_and_rolled_back(tmp_path: Path) -> None:
    (tmp_path / "prompts/support").mkdir(parents=True)
    (tmp_path / "prompts/support/judge.md").write_text(FILE)
    (tmp_path / "mail_app.py").write_text(APP)
    (tmp_path / "mail.jsonl").write_text('{"type": "cli.prompts", "data": {"body": "dear"}}\n')
    holdfast = Shell(tmp_path)
    holdfast.env |= {"HOLDFAST_APPS": "mail_app", "HOLDFAST_MODELS": '{"fast": "scripted:rules"}'}
    holdfast("db", "upgrade")
    with holdfast.up():
        assert "support/judge" in holdfast("prompts", "list").stdout
        assert holdfast("prompts", "pull", "support/judge").stdout == FILE
        (tmp_path / "judge.md").write_text(FILE.replace("it.", "it well."))
        pushed = ("prompts", "push", "judge.md", "--name", "support/judge", "--label", "staging")
        assert "staging from now on" in holdfast(*pushed).stderr
        differing = holdfast("prompts", "diff", "support/judge", "file", "staging", code=1).stdout
        assert differing.splitlines() == [
            "static",
            "  @@ -1 +1 @@",
            "  -Sort it.",
            "  +Sort it well.",
        ]
        why = ("--reason", "fewer false alarms")
        holdfast("prompts", "label", "support/judge", "production", "file")
        holdfast("prompts", "label", "support/judge", "production", "staging", *why)
        assert "fewer false alarms" in holdfast("prompts", "show", "support/judge").stdout
        shown = holdfast("prompts", "show", "support/judge@production").stdout
        assert shown == FILE.replace("it.", "it well.")
        holdfast("events", "submit", "mail.jsonl", "--wait")
        (run,) = json.loads(holdfast("executions", "list", "--json").stdout)["items"]
        labels = json.loads(holdfast("prompts", "list", "--json").stdout)["items"][0]["labels"]
        told = f"prompt support/judge@production {labels['production'][:12]}"
        assert told in holdfast("executions", "show", run["id"]).stdout
        holdfast("prompts", "rollback", "support/judge", "production")
        after = json.loads(holdfast("prompts", "list", "--json").stdout)["items"][0]["labels"]
        assert (after["production"], after["staging"]) == (after["file"], labels["production"])
        refused = holdfast("prompts", "rollback", "support/judge", "production", code=1).stderr
        assert "nothing to go back to" in refused
        nameless = holdfast("prompts", "push", "judge.md", code=1).stderr
        assert "--name" in nameless

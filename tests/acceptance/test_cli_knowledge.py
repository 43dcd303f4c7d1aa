"""Documents with the installed command, in the store when no hub runs."""

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

TIMEOUT_S = 120


class Shell:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
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
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def json(self, *args: str) -> Any:
        return json.loads(
            subprocess.run(
                [HOLDFAST, *args, "--json"],
                cwd=self.folder,
                env=self.env,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=True,
            ).stdout
        )


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    made = Shell(tmp_path)
    made("db", "upgrade")
    return made


def test_the_commands_of_the_page(shell: Shell) -> None:
    (shell.folder / "pump.md").write_text("Turn the red knob to the left.")
    (shell.folder / "mower.md").write_text("Pull the cord.")
    facts = ("--metadata", '{"year": 2024}')
    told = shell("knowledge", "add", "manuals", "pump.md", "mower.md", *facts)
    assert "pump.md: 1 chunks, embedded" in told
    assert "there already" in shell("knowledge", "add", "manuals", "pump.md", *facts)
    assert "hashing:ngrams-1 (384)" in shell("knowledge", "list")
    assert "year=2024" in shell("knowledge", "list", "manuals")
    recent = ("--filter", '{"year": {"gte": 2020}}')
    found = shell.json("knowledge", "search", "manuals", "which knob", *recent)
    assert found["items"][0]["key"] == "pump.md"
    assert "Turn the red knob" in shell("knowledge", "search", "manuals", "which knob")
    shell("knowledge", "remove", "manuals", "pump.md")
    left = shell.json("knowledge", "list", "manuals")
    assert [one["key"] for one in left["items"]] == ["mower.md"]
    assert "--all" in shell("knowledge", "remove", "manuals", code=1)
    shell("knowledge", "remove", "manuals", "--all")
    assert "There are no collections" in shell("knowledge", "list")
    assert "no collection manuals" in shell("knowledge", "list", "manuals", code=1)


def test_the_doctor_names_who_embeds_and_who_compares(shell: Shell) -> None:
    told = " ".join(shell("doctor").split())
    assert "default: hashing:ngrams-1 (hashing, not a language model)" in told
    assert "compared in the hub's memory" in told

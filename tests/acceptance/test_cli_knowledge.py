"""Documents with the installed command."""

from __future__ import annotations

from pathlib import Path

import pytest

from .shell import Shell


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    made = Shell(tmp_path)
    made("db", "upgrade")
    return made


def test_the_commands_of_the_page(shell: Shell) -> None:
    with shell.up():
        (shell.folder / "pump.md").write_text("Turn the red knob to the left.")
        (shell.folder / "mower.md").write_text("Pull the cord.")
        facts = ("--metadata", '{"year": 2024}')
        told = shell.says("knowledge", "add", "manuals", "pump.md", "mower.md", *facts)
        assert "pump.md: 1 chunks, embedded" in told
        assert "there already" in shell.says("knowledge", "add", "manuals", "pump.md", *facts)
        assert "hashing:ngrams-1 (384)" in shell.says("knowledge", "list")
        assert "year=2024" in shell.says("knowledge", "list", "manuals")
        recent = ("--filter", '{"year": {"gte": 2020}}')
        found = shell.json("knowledge", "search", "manuals", "which knob", *recent)
        assert found["items"][0]["key"] == "pump.md"
        assert "Turn the red knob" in shell.says("knowledge", "search", "manuals", "which knob")
        shell.says("knowledge", "remove", "manuals", "pump.md")
        left = shell.json("knowledge", "list", "manuals")
        assert [one["key"] for one in left["items"]] == ["mower.md"]
        assert "--all" in shell.says("knowledge", "remove", "manuals", code=1)
        shell.says("knowledge", "remove", "manuals", "--all")
        assert "There are no collections" in shell.says("knowledge", "list")
        assert "no collection manuals" in shell.says("knowledge", "list", "manuals", code=1)


def test_the_doctor_names_who_embeds_and_who_compares(shell: Shell) -> None:
    told = " ".join(shell.says("doctor").split())
    assert "default: hashing:ngrams-1 (hashing, not a language model)" in told
    assert "compared in the hub's memory" in told

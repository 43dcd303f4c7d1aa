"""What docs/replay.md shows, run as it stands."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import holdfast
from holdfast.settings import load
from holdfast.testing import replayed

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "replay.md").read_text()
HOLDFAST = str(Path(sys.executable).with_name("holdfast"))
LETTER = {"sender": "ann@example.com", "subject": "Hi", "body": "How can I sync two folders?"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.chdir(ROOT)
    (tmp_path / "draft.txt").write_text("Answer this:\n{{ event.body }}")
    (tmp_path / "letter.json").write_text(json.dumps(LETTER | {"body": "The client crashes."}))
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "HOLDFAST_HOME": str(tmp_path / "home"),
        "HOLDFAST_APPS": "examples.support_triage.app",
        "HOLDFAST_PORT": "1",
    }


async def test_every_command_and_example(environ: dict[str, str], tmp_path: Path) -> None:
    names: dict[str, Any] = {}
    for example in blocks("python"):
        exec(compile(example, "docs/replay.md", "exec"), names)
    ask: Callable[[holdfast.Client, str], Awaitable[str]] = names["replay_with_another_prompt"]
    async with holdfast.connect(load({}, environ=environ)) as client:
        event = await client.submit("support.triage", LETTER, wait=20)
        id_ = event["execution_id"]
        assert await ask(client, id_) == "draft differs first, then send"
        (other,) = (await client.executions_page(origin="replay"))["items"]

    commands = [line for block in blocks("bash") for line in block.splitlines()]
    assert len(commands) == 7
    for line in commands:
        words = shlex.split(line.replace("OTHER", other["id"]).replace("ID", id_))
        done = await asyncio.to_thread(
            subprocess.run,
            [HOLDFAST, *words[1:]],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == (1 if words[2] == "diff" else 0), done.stderr + done.stdout
    (fixture,) = (tmp_path / "tests" / "recorded").glob("*.json")
    await asyncio.to_thread(names["check"], fixture)
    written = (tmp_path / "tests" / "recorded").glob("test_*.py")
    assert [file.name for file in written] == [f"test_{fixture.stem}.py"]
    assert names["replayed"] is replayed

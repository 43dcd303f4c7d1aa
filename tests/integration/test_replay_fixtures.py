"""An execution exported as a test: green offline, red with the step's name once code differs."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from holdfast import connect
from holdfast.cli.fixtures import write_test
from holdfast.client import Client
from holdfast.errors import IllegalMove, InvalidInput
from holdfast.settings import load
from holdfast.testing import replayed

APP = """
from pydantic import BaseModel, Field
from holdfast import Pipeline, State, current_run


class Letter(BaseModel):
    text: str


class Mood(BaseModel):
    mood: str
    sure: float = Field(ge=0, le=1)


def rules(request):
    if request.operation == "mood":
        if len(request.messages) == 1:
            return {"mood": "glad", "sure": 7}
        return {"mood": "glad", "sure": 0.5}
    return f"answer to {request.user}"


letters = Pipeline("fixture.letters", version="1", event=Letter, scripted=rules)
mood = letters.model("mood", prompt="Judge {{ event.text }}", alias="fast", answer=Mood)
reply = letters.model("reply", prompt="Answer {{ mood.mood }}", alias="fast")
approve = letters.ask("approve", question="Send {{ reply }}?", answer=bool)


@letters.node
async def send(state: State[Letter]) -> dict:
    sent = await current_run().submit("fixture.sent", {"text": state.reply})
    return {"approved": state.approve, "sure": state.mood.sure, "sent": sent}


letters.start(mood)
letters.chain(mood, reply, approve, send)

sent = Pipeline("fixture.sent", version="1", event=Letter)


@sent.node
async def keep(state: State[Letter]) -> str:
    return state.event.text


sent.start(keep)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "fixture_letters.py").write_text(APP)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "fixture_letters", raising=False)
    return tmp_path


async def waits(client: Client, event_id: str) -> str:
    async with asyncio.timeout(20):
        while (event := await client.event(event_id))["status"] != "waiting":
            await asyncio.sleep(0.01)
    return event["execution_id"]


async def exported(folder: Path) -> dict[str, Any]:
    """The fixture of an execution that a real hub ran."""
    environ = {
        "HOLDFAST_HOME": str(folder / "home"),
        "HOLDFAST_APPS": "fixture_letters",
        "HOLDFAST_MODELS": '{"fast": "scripted:rules"}',
    }
    async with connect(load({}, environ=environ)) as client:
        event = await client.submit("fixture.letters", {"text": "hello"})
        execution_id = await waits(client, event["id"])
        with pytest.raises(IllegalMove, match="waiting"):
            await client.fixture(execution_id)
        await client.resume(execution_id, True)
        await client.wait(event["id"], 20)
        return await client.fixture(execution_id)


def run_pytest(folder: Path) -> subprocess.CompletedProcess[str]:
    """As a user would: another process, no hub, no key, no settings."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder / "nowhere")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


async def test_an_exported_test_is_green_until_the_pipeline_differs(folder: Path) -> None:
    fixture = await exported(folder)
    assert fixture["app"] == "fixture_letters:letters"
    files = write_test(folder / "tests", fixture)
    assert [file.suffix for file in files] == [".json", ".py"]
    green = await asyncio.to_thread(run_pytest, folder)
    assert green.returncode == 0, green.stdout + green.stderr
    assert not (folder / "nowhere").exists()

    app = folder / "fixture_letters.py"
    more = 'more = letters.model("more", prompt="More")\nletters.chain(mood, more, reply'
    for old, new, told in (
        ("Answer {{ mood.mood }}", "Answer this {{ mood.mood }}", "reply\nprompt.user"),
        ("Field(ge=0, le=1)", "Field(ge=0, le=9)", "mood\nschema"),
        ('"approved": state.approve', '"allowed": state.approve', "send\noutput"),
        ('submit("fixture.sent"', 'submit("fixture.other"', "ReplayMismatch"),
        ("letters.chain(mood, reply", more, 'node "more"'),
    ):
        assert old in APP
        app.write_text(APP.replace(old, new))
        red = await asyncio.to_thread(run_pytest, folder)
        assert red.returncode == 1, told
        lines = [line.removeprefix("E").strip() for line in red.stdout.splitlines()]
        assert told in "\n".join(lines), red.stdout
        assert "no longer does what execution" in red.stdout


async def test_the_fixture_holds_no_more_than_it_needs(folder: Path) -> None:
    fixture = await exported(folder)
    recorded = fixture["recorded"]
    assert recorded["data"] == {"text": "hello"}
    assert recorded["waits"] == [{"kind": "answer", "name": "approve", "answer": {"answer": True}}]
    assert [one["type"] for one in recorded["submitted"]] == ["fixture.sent"]
    attempts = [one for step in recorded["steps"] for one in step["attempts"]]
    assert [one["validation"] for one in attempts] == ["invalid", "valid", None]
    assert all(set(one["answer"]) <= {"role", "content"} for one in attempts)
    assert "headers" not in orjson.dumps(fixture).decode()


def test_in_process_it_tells_what_differs(folder: Path) -> None:
    fixture = asyncio.run(exported(folder))
    data, _ = write_test(folder / "tests", fixture)
    import fixture_letters  # pyright: ignore[reportMissingImports]

    done = replayed(fixture_letters.letters, data)
    assert done.output == fixture["recorded"]["output"]
    changed = orjson.loads(data.read_bytes())
    changed["recorded"]["steps"][1]["attempts"][0]["messages"][0]["content"] = "Answer so"
    data.write_bytes(orjson.dumps(changed))
    with pytest.raises(AssertionError) as told:
        replayed("fixture_letters:letters", data)
    assert str(told.value).splitlines()[1:] == [
        "  reply",
        "    prompt.user",
        "      @@ -1 +1 @@",
        "      -Answer so",
        "      +Answer glad",
    ]
    replayed(fixture_letters.letters, data, ignore=["prompt.user"])


def test_what_is_no_fixture_is_refused(folder: Path) -> None:
    file = folder / "x.json"
    for text in (
        "{",
        "{}",
        '{"format": "other"}',
        '{"format": "holdfast.fixture/1", "recorded": {"x": 1}}',
    ):
        file.write_text(text)
        with pytest.raises(InvalidInput, match=r"x\.json"):
            replayed("fixture_letters:letters", file)

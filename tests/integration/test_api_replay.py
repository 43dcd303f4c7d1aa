"""Replays and comparisons through the API, the client and the command line."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from holdfast import connect
from holdfast.client import Client
from holdfast.errors import IllegalMove, InvalidInput, NotFound, UnknownPipeline
from holdfast.settings import load

ROOT = Path(__file__).parents[2]
LETTER = {"sender": "ann@example.com", "subject": "Hi", "body": "How can I sync two folders?"}


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.chdir(ROOT)
    return {
        "PATH": os.environ["PATH"],
        "HOLDFAST_HOME": str(tmp_path / "home"),
        "HOLDFAST_APPS": "examples.support_triage.app",
        "HOLDFAST_PORT": "1",  # where no hub answers: commands open the store themselves
    }


@pytest.fixture
async def client(environ: dict[str, str]) -> AsyncIterator[Client]:
    async with connect(load({}, environ=environ)) as opened:
        yield opened


async def handled(client: Client) -> dict[str, Any]:
    event = await client.submit("support.triage", LETTER, wait=20)
    return await client.execution(event["execution_id"])


async def test_a_replay_is_an_event_of_its_own(client: Client) -> None:
    before = await handled(client)
    sent = await client.replay(before["id"], idempotency_key="once")
    assert (sent["created"], sent["status"]) == (True, "queued")
    assert (await client.replay(before["id"], idempotency_key="once"))["id"] == sent["id"]
    event = await client.wait(sent["id"], 20)
    assert (event["origin"], event["parent_id"]) == ("replay", before["id"])
    after = await client.execution(event["execution_id"])
    assert (after["output"], after["origin"]) == (before["output"], "replay")
    assert {one["tokens"]["usage"] for step in after["steps"] for one in step["attempts"]} == {
        "replayed"
    }
    listed = await client.executions_page(origin="replay")
    assert [one["id"] for one in listed["items"]] == [after["id"]]
    listed = await client.events_page(origin="replay")
    assert [one["id"] for one in listed["items"]] == [event["id"]]
    found = await client.diff(before["id"], after["id"])
    assert (found["same"], found["first"]) == (True, None)


async def test_unknown_fields_and_names_are_refused(client: Client) -> None:
    before = await handled(client)
    path = f"/api/v1/executions/{before['id']}/replay"
    for body, field in (
        ({"answer": "live"}, "answer"),
        ({"answers": "perhaps"}, "answers"),
        ({"from": "nope"}, "from"),
        ({"prompts": {"draft": {"usr": "x"}}}, "prompts.draft.usr"),
        ({"prompts": {"close": {"user": "x"}}}, "prompts.close"),
        ({"aliases": {"fast": "nope"}}, "aliases.fast"),
        ({"data": {"body": 1}}, "data.body"),
    ):
        with pytest.raises(InvalidInput) as told:
            await client._ask("POST", path, json=body)  # pyright: ignore[reportPrivateUsage]
        assert field in {one["field"] for one in told.value.fields}, told.value.fields
    unknown = "01a1f944-0000-7000-8000-000000000000"
    for ask in (client.replay(unknown), client.diff(before["id"], unknown)):
        with pytest.raises(NotFound):
            await ask
    assert (await client.events_page(origin="replay"))["items"] == []


async def command(environ: dict[str, str], *args: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run,
        [str(Path(sys.executable).with_name("holdfast")), "executions", *args],
        cwd=ROOT,
        env=environ | {"COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_the_command_line_replays_and_compares(
    environ: dict[str, str], tmp_path: Path
) -> None:
    async with connect(load({}, environ=environ)) as client:
        before = await handled(client)
    id_ = before["id"]
    plain = await command(environ, "replay", id_, "--wait")
    assert plain.returncode == 0, plain.stderr
    assert "as recorded, step by step" in plain.stdout
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("Answer this:\n{{ event.body }}")
    edited = await command(environ, "replay", id_, "--wait", "--prompt", f"draft={prompt}")
    assert "draft: prompt.user not as recorded" in edited.stdout
    other = edited.stdout.split()[-1]
    assert f"executions diff {id_} {other}" in edited.stdout
    shown = await command(environ, "diff", id_, other)
    assert (shown.returncode, shown.stderr) == (1, "")
    assert "+Answer this:" in shown.stdout
    assert "= 6 steps the same" in shown.stdout
    assert shown.stdout.splitlines()[-1] == "first to differ: draft"
    same = await command(environ, "diff", id_, id_)
    assert (same.returncode, same.stdout.splitlines()[-1]) == (0, "the same, step by step")
    tree = await command(environ, "show", other)
    assert f"replay of {id_}" in tree.stdout
    assert "recorded" in tree.stdout
    wrong = await command(environ, "replay", id_, "--from", "nope")
    assert wrong.returncode == 1
    assert "judge, draft" in wrong.stderr
    folder = tmp_path / "tests"
    written = await command(environ, "export", id_, "--pytest", str(folder))
    assert written.returncode == 0, written.stderr
    assert sorted(file.suffix for file in folder.iterdir()) == [".json", ".py"]


async def test_other_pipelines_have_nothing_in_common(
    environ: dict[str, str], tmp_path: Path
) -> None:
    environ["HOLDFAST_APPS"] += ",spine_app"
    async with connect(load({}, environ=environ)) as client:
        one = await handled(client)
        event = await client.submit("test.talking", {"text": "Ada"}, wait=20)
        with pytest.raises(InvalidInput, match=r"support\.triage"):
            await client.diff(one["id"], event["execution_id"])
        other = event["execution_id"]
    environ["HOLDFAST_APPS"] = "spine_app"
    async with connect(load({}, environ=environ)) as client:
        with pytest.raises(UnknownPipeline):
            await client.replay(one["id"])
        with pytest.raises(UnknownPipeline):
            await client.fixture(one["id"])
        sent = await client.submit("test.talking", {"text": "Bob"})
        assert sent["id"] != other
        await client.wait(sent["id"], 20)


async def test_what_has_not_ended_is_not_replayed(environ: dict[str, str], tmp_path: Path) -> None:
    environ |= {"HOLDFAST_APPS": "waiting_app", "HOLDFAST_MODELS": '{"fast": "scripted:rules"}'}
    async with connect(load({}, environ=environ)) as client:
        event = await client.submit("wait.sleepy", {"item": "tea", "folder": str(tmp_path)})
        async with asyncio.timeout(20):
            while (event := await client.event(event["id"]))["status"] != "waiting":
                await asyncio.sleep(0.01)
        with pytest.raises(IllegalMove, match="waiting"):
            await client.replay(event["execution_id"])

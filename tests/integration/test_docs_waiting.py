"""The example of docs/pipelines.md that waits, run over the doors a reader has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import holdfast
from holdfast import settings
from holdfast.errors import AlreadyAnswered, InvalidInput

PAGE = Path(__file__).parents[2] / "docs" / "pipelines.md"
LETTER = {"sender": "ada", "body": "hello"}


async def test_a_payout_waits_for_its_approval(
    hub_environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    (tmp_path / "docs_waiting_page.py").write_text("\n".join(examples))
    monkeypatch.syspath_prepend(tmp_path)
    hub_environ["HOLDFAST_APPS"] = "docs_waiting_page"
    async with holdfast.connect(settings.load(environ=hub_environ)) as client:
        event = await client.submit("docs.payout", LETTER)
        waiting = None
        async for entry in client.follow(await until_claimed(client, event["id"])):
            if entry.type == "execution.waiting":
                waiting = entry
                break
        assert waiting is not None
        execution_id = (await client.event(event["id"]))["execution_id"]
        (wait,) = (await client.execution(execution_id))["waits"]
        assert wait["question"] == "Pay 100 to ada?"
        with pytest.raises(InvalidInput):
            await client.resume(execution_id, {"yes": "perhaps"})
        await client.resume(execution_id, {"yes": True})
        with pytest.raises(AlreadyAnswered):
            await client.resume(execution_id, {"yes": False})
        ended = await client.wait(event["id"], 20)
        assert ended["result"]["output"] == "paid"
        assert ended["result"]["execution_id"] == execution_id


async def until_claimed(client: holdfast.Client, event_id: str) -> str:
    while (execution_id := (await client.event(event_id, wait=0.01))["execution_id"]) is None:
        pass
    return execution_id


async def test_a_tender_waits_for_its_children(
    hub_environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    (tmp_path / "docs_children_page.py").write_text("\n".join(examples))
    monkeypatch.syspath_prepend(tmp_path)
    hub_environ["HOLDFAST_APPS"] = "docs_children_page"
    async with holdfast.connect(settings.load(environ=hub_environ)) as client:
        event = await client.submit("docs.tender", {"parts": ["nut", "bolt"]})
        ended = await client.wait(event["id"], 20)
        assert ended["result"]["output"] == 70
        shown = await client.execution(ended["execution_id"])
        assert {one["name"] for one in shown["children"]} == {"docs.buy"}
        assert shown["with_children"]["executions"] == 3
        page = await client.executions_page(parent_id=ended["execution_id"])
        assert {one["id"] for one in page["items"]} == {one["id"] for one in shown["children"]}

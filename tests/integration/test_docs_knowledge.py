"""The example of docs/knowledge.md runs and does what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import orjson
import pytest

from holdfast.llm.embeddings import PARAMETERS, read_embeddings

from .conftest import OpenHub

PAGE = (Path(__file__).parents[2] / "docs" / "knowledge.md").read_text()


async def test_the_example(
    open_hub: OpenHub,
    hub_environ: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "knowledge_page.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    hub_environ["HOLDFAST_APPS"] = "knowledge_page"
    async with open_hub(in_process=True) as hub:
        old = {"name": "old", "text": "The red knob was blue once.", "year": 2001}
        new = {"name": "new", "text": "Turn the red knob to the left.", "year": 2024}
        for data in (old, new):
            event, _ = await hub.run("docs.learn", **data)
            assert event.status == "succeeded", event.last_error
        event, whole = await hub.run("docs.answer", text="Where do I turn the red knob?")
        assert event.status == "succeeded", event.last_error
        found = whole.payload.get(whole.steps[0].output)
        assert [hit["key"] for hit in found["hits"]] == ["new"]
        assert "[new]\nTurn the red knob to the left." in whole.payload.get(whole.execution.output)


def test_the_settings_of_the_page() -> None:
    (aliases,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    found = read_embeddings(orjson.loads(aliases), {"OPENAI_API_KEY": "k"})
    assert found["default"].parameters == {"dimensions": 512}
    assert all(f"`{name}`" in PAGE for name in PARAMETERS)

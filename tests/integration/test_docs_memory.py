"""The examples of docs/memory.md run, and its numbers are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import orjson
import pytest

from holdfast.agents.config import SimpleSettings, read_config
from holdfast.domain.conversations import Compaction
from holdfast.domain.memory_items import MAX_VALUE_BYTES, OPERATORS
from holdfast.memory.facts import MAX_FACT_CHARS, MAX_FACTS
from holdfast.pipelines import compaction

from .conftest import OpenHub

PAGE = (Path(__file__).parents[2] / "docs" / "memory.md").read_text()


async def test_the_example(
    open_hub: OpenHub,
    hub_environ: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "memory_page.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    hub_environ["HOLDFAST_APPS"] = "memory_page"
    async with open_hub(in_process=True) as hub:
        for said in ("Zoe has a red bicycle", "Zoe likes tea"):
            event, _ = await hub.run("docs.people", said=said)
            assert event.status == "succeeded", event.last_error
        event, whole = await hub.run("docs.people", asked="what colour is the bicycle?")
        assert event.status == "succeeded", event.last_error
        known = whole.payload.get(whole.execution.output)["known"]
        assert known == ["Zoe has a red bicycle", "Zoe likes tea"]


def test_the_settings_of_the_page_are_the_usual_ones() -> None:
    (written,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    settings = {"model": "fast", **orjson.loads(written)}
    said = read_config({"simple": {"settings": settings}}).settings
    usual = read_config({"simple": {"settings": {"model": "fast"}}}).settings
    assert isinstance(said, SimpleSettings)
    assert isinstance(usual, SimpleSettings)
    assert said.memory == usual.memory
    assert said.memory.compaction.rule() == Compaction()


def test_the_numbers_of_the_page() -> None:
    assert f"at most {MAX_FACTS} for a session, {MAX_FACT_CHARS} characters each" in PAGE
    assert f"longer than {compaction.MESSAGE_CHARS:,} characters" in PAGE
    assert f"`{compaction.NAME}`" in PAGE
    assert MAX_VALUE_BYTES == 1024**2
    assert "at most 1 MB" in PAGE
    assert all(f"`{name}`" in PAGE for name in OPERATORS)

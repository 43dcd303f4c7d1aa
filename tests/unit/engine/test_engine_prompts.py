"""The versions an execution is pinned to: fetched once, held to their hash."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from holdfast import Pipeline, stored
from holdfast.domain.prompts import Draft
from holdfast.engine import prompts
from holdfast.engine.prompts import PinnedPrompts
from holdfast.errors import PortError
from holdfast.pipelines.prompt_files import PromptFiles
from holdfast.ports import RunSpec


class Letter(BaseModel):
    body: str = ""


class Versions:
    """A `PromptsPort` that counts what it is asked for."""

    def __init__(self, *drafts: Draft) -> None:
        self.drafts = {one.hash: one for one in drafts}
        self.asked: list[str] = []

    async def version(self, *, execution_id: str, name: str, version: str) -> Mapping[str, Any]:
        self.asked.append(version)
        return self.drafts[version].to_json()


@pytest.fixture
def judging(tmp_path: Path) -> Pipeline:
    (tmp_path / "judge.md").write_text("{{ event.body }}, the file")
    pipeline = Pipeline("test.judging", version="1", event=Letter)
    pipeline.start(pipeline.model("judge", prompt=stored("judge"), alias="fast"))
    pipeline.find_prompts(PromptFiles([tmp_path]))
    pipeline.check()
    return pipeline


def spec(**pins: str) -> RunSpec:
    return RunSpec(
        execution_id="x1",
        event_id="e1",
        owner_id="local",
        kind="pipeline",
        name="test.judging",
        version="1",
        data=b"{}",
        delivery=1,
        prompts=pins,
    )


OTHER = Draft(name="judge", dynamic="{{ event.body }}, other", definitions={"a": [1]})


async def test_what_a_file_says_does_not_cross(judging: Pipeline) -> None:
    port = Versions()
    assert judging.prompt_files is not None
    file = judging.prompt_files.get("judge", "here").draft
    found = await PinnedPrompts(port).of(spec(judge=file.hash), None, judging)
    assert found["judge"].user.source == "{{ event.body }}, the file"
    assert port.asked == []


async def test_what_no_file_says_crosses_once(judging: Pipeline) -> None:
    port = Versions(OTHER)
    pinned = PinnedPrompts(port)
    for _ in range(2):
        found = await pinned.of(spec(judge=OTHER.hash), None, judging)
        assert found["judge"].user.constants == {"a": [1]}
    assert port.asked == [OTHER.hash]


async def test_a_content_that_is_not_the_pinned_one_is_not_used(judging: Pipeline) -> None:
    port = Versions()
    port.drafts["0" * 64] = OTHER
    with pytest.raises(PortError, match="is not what it was"):
        await PinnedPrompts(port).of(spec(judge="0" * 64), None, judging)


async def test_few_are_kept(judging: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts, "KEPT", 2)
    drafts = [Draft(name="judge", dynamic=f"{n} {{{{ event.body }}}}") for n in range(3)]
    port = Versions(*drafts)
    pinned = PinnedPrompts(port)
    for n in (0, 1, 0, 2, 0, 1):
        await pinned.of(spec(judge=drafts[n].hash), None, judging)
    assert port.asked == [drafts[n].hash for n in (0, 1, 2, 1)]

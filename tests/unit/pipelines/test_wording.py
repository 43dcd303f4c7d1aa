"""What a model node sends: which messages are the same in every call, which version they are."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from holdfast import Pipeline, State, stored
from holdfast.domain.changes import AttemptStarted
from holdfast.domain.prompts import EDITED, Draft, Pin
from holdfast.domain.replays import Plan
from holdfast.errors import DeclarationError
from holdfast.llm.scripted import ScriptedRequest
from holdfast.pipelines.prompt_files import PromptFiles
from holdfast.pipelines.wording import worded


class Letter(BaseModel):
    body: str = ""


STATE = State(Letter(body="dear"), {})
TEXT = """\
---
definitions: {tone: kindly}
---
Judge {{ tone }}.
--- dynamic ---
{{ event.body }} {{ tone }}"""


def echo(request: ScriptedRequest) -> str:
    return f"{request.system}|{request.user}"


@pytest.fixture
def judging(tmp_path: Any) -> Pipeline:
    (tmp_path / "judge.md").write_text(TEXT)
    pipeline = Pipeline("test.judging", version="1", event=Letter, scripted=echo)
    pipeline.start(
        pipeline.model("judge", prompt=stored("judge", label="production"), alias="fast")
    )
    pipeline.find_prompts(PromptFiles([tmp_path]))
    return pipeline


@pytest.mark.parametrize(
    ("system", "static"),
    [
        (None, 0),
        ("Be brief.", 1),
        ("{% for n in range(2) %}{{ n }}{% endfor %}", 1),
        ("You read {{ event.body }}.", 0),
        ("{{ [1, 2] | random }}", 0),
        ("{{ lipsum() }}", 0),
    ],
)
def test_a_system_prompt_counts_as_static_only_if_no_run_changes_it(
    system: str | None, static: int
) -> None:
    pipeline = Pipeline("test.inline", version="1", event=Letter)
    node = pipeline.model("say", prompt="{{ event.body }}", system=system)
    asked = node.wording.asked(STATE)
    assert (asked.static, asked.pin) == (static, None)
    assert len(asked.messages) == (1 if system is None else 2)
    assert asked.messages[-1].content == "dear"


def test_a_stored_prompt_is_its_static_and_its_dynamic_part(judging: Pipeline) -> None:
    judging.check()
    (node,) = judging.all_nodes()
    asked = node.wording.asked(STATE)  # type: ignore[attr-defined]
    assert [one.content for one in asked.messages] == ["Judge kindly.", "dear kindly"]
    assert [one.type for one in asked.messages] == ["system", "human"]
    assert asked.static == 1
    assert asked.pin == Pin(name="judge", label="file", hash=asked.pin.hash if asked.pin else "")


async def test_a_run_uses_the_version_it_was_given(judging: Pipeline, run: Any) -> None:
    draft = Draft(name="judge", dynamic="{{ event.body }}, better")
    prompts = {"judge@production": worded(draft, "production")}
    ran = await run(judging, {"body": "dear"}, prompts=prompts)
    assert ran.results["judge"] == "|dear, better"
    told = {"name": "judge", "label": "production", "hash": draft.hash}
    assert [one.prompt for one in ran.of(AttemptStarted)] == [told]
    without = await run(judging, {"body": "dear"})
    assert without.results["judge"] == "Judge kindly.|dear kindly"
    assert without.of(AttemptStarted)[0].prompt["label"] == "file"


async def test_an_edited_prompt_keeps_the_constants_and_says_so(
    judging: Pipeline, run: Any
) -> None:
    judging.check()
    plan = Plan(answers="live", prompts={"test.judging:judge": {"user": "now {{ tone }}"}})
    ran = await run(judging, {"body": "dear"}, plan=plan)
    assert ran.results["judge"] == "Judge kindly.|now kindly"
    told = ran.of(AttemptStarted)[0].prompt
    edited = Draft(
        name="judge",
        static="Judge {{ tone }}.",
        dynamic="now {{ tone }}",
        definitions={"tone": "kindly"},
    )
    assert told == {"name": "judge", "label": EDITED, "hash": edited.hash}


async def test_a_prompt_in_the_code_leaves_no_version(run: Any) -> None:
    pipeline = Pipeline("test.inline", version="1", event=Letter, scripted=echo)
    pipeline.start(pipeline.model("say", prompt="{{ event.body }}", alias="fast"))
    ran = await run(pipeline, {"body": "dear"})
    assert [one.prompt for one in ran.of(AttemptStarted)] == [None]


def test_another_text_in_the_file_is_other_code(tmp_path: Any) -> None:
    def version(text: str) -> str:
        (tmp_path / "judge.md").write_text(text)
        pipeline = Pipeline("test.judging", version="1", event=Letter, scripted=echo)
        pipeline.start(pipeline.model("judge", prompt=stored("judge"), alias="fast"))
        pipeline.find_prompts(PromptFiles([tmp_path]))
        pipeline.check()
        return pipeline.code_version

    one = version(TEXT)
    assert version(TEXT) == one
    assert len({one, version(TEXT.replace("kindly", "sternly")), version("{{ event.body }}")}) == 3


def test_a_prompt_is_found_only_when_its_pipeline_is_checked() -> None:
    pipeline = Pipeline("test.judging", version="1", event=Letter)
    node = pipeline.model("judge", prompt=stored("judge"), alias="fast")
    with pytest.raises(DeclarationError, match="call check"):
        _ = node.wording

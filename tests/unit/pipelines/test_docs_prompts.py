"""The file and the pipeline of docs/prompts.md fit each other and do what the page says."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from holdfast.pipelines.prompt_files import PromptFiles
from holdfast.pipelines.state import State

PAGE = (Path(__file__).parents[3] / "docs" / "prompts.md").read_text()


def block(kind: str) -> str:
    (found,) = re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    return found


def test_the_page(tmp_path: Path) -> None:
    folder = tmp_path / "prompts"
    (folder / "support").mkdir(parents=True)
    (folder / "support" / "judge.md").write_text(block("markdown"))
    module = ModuleType("docs_prompts_page")
    sys.modules[module.__name__] = module
    try:
        exec(compile(block("python"), "page", "exec"), vars(module))
        page: Any = module
        page.triage.find_prompts(PromptFiles([folder]))
        page.triage.check()
        asked = page.judge.wording.asked(State(page.Email(body="Where is my invoice?"), {}))
    finally:
        del sys.modules[module.__name__]
    system, user = [str(one.content) for one in asked.messages]
    assert system.startswith("You sort the mail of Northwind Sync. Say what the writer wants: inv")
    assert user == "<letter>Where is my invoice?</letter>"
    assert asked.static == 1

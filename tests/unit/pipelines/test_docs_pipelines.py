"""Every example of docs/pipelines.md runs and does what the page says."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from holdfast.errors import LoopExceeded
from holdfast.pipelines.pipeline import Pipeline
from holdfast.pipelines.policy import PolicyOptions
from holdfast.pipelines.registry import Registry

PAGE = Path(__file__).parents[3] / "docs" / "pipelines.md"


@pytest.fixture(scope="module")
def docs(tmp_path_factory: pytest.TempPathFactory):
    """The page's examples, one after the other, as one module."""
    text = PAGE.read_text()
    examples = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    file = tmp_path_factory.mktemp("docs") / "docs_pipelines_page.py"
    file.write_text("\n".join(examples))
    module = ModuleType(file.stem)
    module.__file__ = str(file)
    sys.modules[file.stem] = module
    exec(compile(file.read_text(), file, "exec"), vars(module))
    yield module
    del sys.modules[file.stem]


async def no_pause(seconds: float) -> None: ...


def test_the_page_is_an_app_that_loads(docs):
    registry = Registry.load([docs.__name__])
    assert registry.failures == []
    assert {one.name for one in registry} == {
        one.name for one in vars(docs).values() if isinstance(one, Pipeline)
    }
    assert len(registry) == 11


LETTER = {"sender": "ada", "body": " Dear all, hello "}


async def test_the_first_node(docs, run):
    ran = await run(docs.letters, LETTER)
    assert (ran.results, ran.output) == ({"clean": "Dear all, hello", "count": 3}, 3)


@pytest.mark.parametrize(
    ("body", "last"), [("hello", "Thank you for your letter."), ("casino", None)]
)
async def test_asking_a_model(docs, run, body, last):
    ran = await run(docs.triage, {"sender": "ada", "body": body})
    assert ran.results.get("draft") == last


async def test_side_by_side(docs, run):
    ran = await run(docs.screen, {"sender": "ada", "body": "HTTP"})
    assert dict(ran.output) == {"links": 0, "shouting": True}


async def test_policies(docs, run):
    ran = await run(docs.careful, LETTER, sleep=no_pause)
    assert ran.output == "ada: archived profile of ada"
    assert [(f.node, f.message) for f in ran.failures] == [("notify", "no network")]
    assert [a.error_class for a in ran.attempts("profile")] == ["temporary"] * 3
    assert ran.ended("profile").error["fallback"] == "from_the_archive"


def test_every_option_is_explained():
    rows = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(PolicyOptions.__annotations__)


async def test_going_round(docs, run):
    ran = await run(docs.essay, {"topic": "sea", "words": 3})
    assert ran.output == "sea sea sea"
    ran = await run(docs.essay, {"topic": "sea", "words": 9})
    assert isinstance(ran.error, LoopExceeded)


async def test_over_a_list(docs, run):
    ran = await run(docs.order, {"parts": ["nut", "", "bolt"]})
    assert ran.output[::2] == [30, 42]
    assert [f.node for f in ran.failures] == ["price[1]"]


async def test_pipelines_in_pipelines(docs, run):
    ran: Any = await run(docs.shop, {"parts": ["nut", "bolt", "cog"]})
    assert ran.output == 30 + 41


def test_options_of_a_pipeline(docs):
    assert (docs.nightly.priority, docs.nightly.max_running) == (-10, 2)
    assert docs.nightly.retention.days == 30

"""docs/agent-configuration.md: its examples are taken, and it names every field."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from holdfast.agents import config as configuration
from holdfast.agents.config import GraphSettings, SimpleSettings, read_config

from .conftest import Agents, agent, function, simple

PAGE = (Path(__file__).parents[3] / "docs" / "agent-configuration.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("text", [text for kind, text in BLOCKS if kind == "yaml"])
def test_its_files_are_taken(text: str) -> None:
    written = yaml.safe_load(text)
    assert written.pop("name")
    assert written.pop("description")
    assert read_config(written).plain() == written


async def test_its_rules_do_what_it_says(parts: Any) -> None:
    (code,) = [text for kind, text in BLOCKS if kind == "python"]
    made: dict[str, Any] = {}
    exec(compile(code, "the page", "exec", dont_inherit=True), made)

    def look_up_order(number: str) -> str:
        """Look an order up."""
        return f"{number} is on its way"

    parts.rules, parts.look_up_order = made["rules"], look_up_order
    agents = Agents(agent(simple(tools=[function("look_up_order")])))
    assert (await agents.say("hello")).output["response"] == "Tell me the number of your order."
    record = await agents.say("where is my order?")
    assert record.output["response"] == "Your order: 1042 is on its way"


def fields_of(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield name
        for inner in _models_in(field.annotation):
            yield from fields_of(inner)


def _models_in(hint: Any) -> Iterator[type[BaseModel]]:
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        yield hint
    for part in get_args(hint):
        yield from _models_in(part)


@pytest.mark.parametrize("model", [SimpleSettings, GraphSettings])
def test_it_names_every_field(model: type[BaseModel]) -> None:
    missing = [name for name in fields_of(model) if not re.search(rf"\b{name}\b", PAGE)]
    assert missing == []


DEFAULTS = {
    "limits.turn_s": configuration.Limits().turn_s,
    "limits.steps": configuration.Limits().steps,
    "limits.tool_calls": configuration.Limits().tool_calls,
    "memory.token_budget": configuration.MemorySettings().token_budget,
    "memory.compaction.from_messages": configuration.CompactionSettings().from_messages,
    "memory.compaction.keep": configuration.CompactionSettings().keep,
    "memory.compaction.block": configuration.CompactionSettings().block,
    "memory.compaction.summaries": configuration.CompactionSettings().summaries,
    "timeout_s": int(configuration.WebSettings().timeout_s),
    "max_bytes": configuration.WebSettings().max_bytes,
    "critique.rounds": configuration.Critique().rounds,
    "concurrency": 256,
}


@pytest.mark.parametrize("field", DEFAULTS)
def test_its_defaults_are_those_of_the_code(field: str) -> None:
    assert re.search(rf"^\| `{re.escape(field)}` \| {DEFAULTS[field]:g} \|", PAGE, re.MULTILINE)

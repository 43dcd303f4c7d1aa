"""Which kinds of tools there are, and where; each is imported when an agent has one."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.agents.config import SimpleSettings
from holdfast.errors import DeclarationError

from .base import AgentTool

PLACES: Mapping[str, str] = {
    "function": "holdfast.agents.tools.function",
    "web_request": "holdfast.agents.tools.web_request",
    "ask_human": "holdfast.agents.tools.ask_human",
    "knowledge": "holdfast.agents.tools.knowledge",
}
"""Module by kind; each has `make(config, where) -> AgentTool`."""


def make_tools(settings: SimpleSettings, where: str) -> dict[str, AgentTool]:
    """The tools of an agent by name.

    Raises:
        DeclarationError: one cannot be made, or two have one name; the message names the place.
    """
    declared: Sequence[tuple[str, str, Any]] = [
        *((one.type, f"tools.{n}", one) for n, one in enumerate(settings.tools)),
        *(("knowledge", f"knowledge.{n}", one) for n, one in enumerate(settings.knowledge)),
    ]
    made: dict[str, AgentTool] = {}
    places: dict[str, str] = {}
    for kind, place, config in declared:
        at = f"{where}: simple.settings.{place}"
        tool: AgentTool = importlib.import_module(PLACES[kind]).make(config, at)
        if tool.name in made:
            raise DeclarationError(
                f"{at}: a tool is called {tool.name!r} already, at {places[tool.name]}",
                hint="give one of them another name",
            )
        made[tool.name], places[tool.name] = tool, place
    return made

"""The contract of a tool: a LangChain tool, and whether it runs beside others."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, cast

from langchain_core.tools import BaseTool
from pydantic import Field

from holdfast.domain.payload import encode
from holdfast.errors import DeclarationError, ToolFailed

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
"""What vendors take as the name of a tool."""

MAX_RESULT_CHARS = 100_000
"""Of a result; what is longer is cut, and says so."""

NOTE_CHARS = 100
"""Room for the note about a cut: what has been cut once is not cut again."""

CUT = "\n… cut: {left} of {all} characters are left out"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AgentTool:
    """One tool of an agent.

    Attributes:
        tool: as LangChain calls it.
        parallel: whether it may run beside other calls of the same turn.
        source: the function or class behind it, whose code counts to the agent's version.
    """

    tool: BaseTool
    parallel: bool = True
    source: object | None = None

    @property
    def name(self) -> str:
        """By which the model calls it."""
        return self.tool.name


def check_name(name: str, where: str) -> str:
    """A tool's name, if it is one.

    Raises:
        DeclarationError: vendors would not take it.
    """
    if not NAME.fullmatch(name):
        raise DeclarationError(
            f"{where}: {name!r} is no name for a tool",
            hint="letters, digits, _ and -, at most 64",
        )
    return name


def as_text(result: Any) -> str:
    """A tool's result as the model reads it: text as it is, anything else as JSON."""
    text = result if isinstance(result, str) else encode(result).decode()
    if len(text) <= MAX_RESULT_CHARS + NOTE_CHARS:
        return text
    told = CUT.format(left=len(text) - MAX_RESULT_CHARS, all=len(text))
    return text[:MAX_RESULT_CHARS] + told


_ANYTHING: dict[str, Any] = {"type": "object", "properties": {}}


class UnknownTool(BaseTool):
    """Stands for a tool that the model has made up, so that the call is on record as failed."""

    name: str = "unnamed"
    description: str = "not there"
    args_schema: Any = Field(default_factory=lambda: dict(_ANYTHING))
    known: tuple[str, ...] = ()

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        del args, kwargs
        raise ToolFailed(
            f"there is no tool {self.name!r}",
            hint=f"there are: {', '.join(self.known) or 'none'}",
        )

    async def _arun(self, *args: Any, **kwargs: Any) -> Any:
        return self._run(*args, **kwargs)

    def _to_args_and_kwargs(self, tool_input: Any, tool_call_id: str | None) -> Any:
        """Whatever it was called with: there is no schema to hold it against."""
        del tool_call_id
        given = cast("dict[str, Any]", tool_input) if isinstance(tool_input, dict) else {}
        return (), {"given": given}

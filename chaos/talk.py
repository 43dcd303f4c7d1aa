"""What the agents under test are made of: rules that call a tool, and a tool that takes a while."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.llm.scripted import ScriptedAnswer
from holdfast.pipelines.context import current_run

if TYPE_CHECKING:
    from holdfast.llm.scripted import ScriptedRequest

EFFECTS = "CHAOS_EFFECTS"
"""Variable with the file in which the tool leaves its lines."""

MORTAL = "CHAOS_MORTAL"
"""Variable with a file: as long as it is there, processes that import `chaos.mortal` die."""


def answer(request: ScriptedRequest) -> ScriptedAnswer | str:
    """Work as long as was asked for, then say what was done: `work 120 ms on 7`."""
    if request.tool_results:
        return f"done: {request.tool_results['work']}"
    _, ms, _, _, what = request.user.split()
    return ScriptedAnswer(tool_calls=[{"name": "work", "args": {"ms": int(ms), "what": what}}])


async def work(ms: int, what: str) -> str:
    """Take so long, and leave a line."""
    await asyncio.sleep(ms / 1000)
    line = f"{current_run().event_id} {what}\n".encode()
    file = os.open(os.environ[EFFECTS], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, line)
    finally:
        os.close(file)
    return what


def config(rules: str = "chaos.talk:answer", tool: str = "chaos.talk:work") -> dict[str, Any]:
    """Of an agent that does this."""
    tools = [{"type": "function", "path": tool}]
    settings = {"model": "standard", "rules": rules, "tools": tools}
    return {"simple": {"settings": settings}}


def dies_here() -> bool:
    """Whether a process that imports what is mortal is to die now."""
    return Path(os.environ[MORTAL]).exists()

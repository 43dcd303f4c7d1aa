"""Rules and a tool of agents whose turns wait for a file, for tests that end their processes."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from holdfast.llm.scripted import ScriptedAnswer, ScriptedRequest

if (trap := Path(__file__).with_name("held_agent_trap")).exists():
    raise RuntimeError(trap.read_text())


async def gate(folder: str) -> str:
    """Wait until the file `open` is there; who waits leaves its process id.

    Args:
        folder: where.
    """
    here = Path(folder)
    ours = here / f"writing-{os.getpid()}"
    ours.write_text(str(os.getpid()))
    ours.rename(here / f"pid-{len(list(here.glob('pid-*'))) + 1}")
    while not (here / "open").exists():
        await asyncio.sleep(0.01)
    return "opened"


def rules(request: ScriptedRequest) -> Any:
    """`gate FOLDER` waits, `ask` asks a person; anything else is answered at once."""
    verb, _, folder = request.user.partition(" ")
    if verb == "ask" and not request.tool_results:
        return ScriptedAnswer(tool_calls=[{"name": "ask_human", "args": {"question": "May I?"}}])
    if verb == "ask":
        return f"they said {request.tool_results['ask_human']}"
    if verb == "gate" and not request.tool_results:
        return ScriptedAnswer(tool_calls=[{"name": "gate", "args": {"folder": folder}}])
    return f"{request.user!r} answered by {os.getpid()}"

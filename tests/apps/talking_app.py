"""What the agents of the tests answer by, and their tools."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from holdfast.llm.scripted import ScriptedAnswer, ScriptedRequest


def answer(call: ScriptedRequest) -> Any:
    """Repeats the last thing said; does what it is asked for."""
    verb, _, rest = call.user.partition(" ")
    match verb:
        case "count":
            return " ".join(str(n) for n in range(1, 1 + int(rest)))
        case "gate" if "wait_for" not in call.tool_results:
            return _calls("wait_for", path=rest)
        case "gate":
            return f"opened: {call.tool_results['wait_for']}"
        case "ask" if "ask_human" not in call.tool_results:
            return _calls("ask_human", question=rest)
        case "ask":
            return f"they said: {call.tool_results['ask_human']}"
        case "fail":
            raise ValueError(rest)
        case "slow":
            return ScriptedAnswer(text=f"slowly: {rest}", latency_s=0.3)
        case _:
            return f"you said: {call.user}"


def _calls(name: str, **args: Any) -> ScriptedAnswer:
    return ScriptedAnswer(text="Let me see. ", tool_calls=[{"name": name, "args": args}])


async def wait_for(path: str) -> str:
    """Wait until a file is there; what it says."""
    while not Path(path).exists():
        await asyncio.sleep(0.005)
    return Path(path).read_text()

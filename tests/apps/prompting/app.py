"""Pipelines that use prompts of the registry; their model says what it was asked."""

from __future__ import annotations

import asyncio
from pathlib import Path

from pydantic import BaseModel

from holdfast import Pipeline, State, stored
from holdfast.llm.scripted import ScriptedRequest


class Letter(BaseModel):
    body: str = ""
    folder: str = ""


def echo(request: ScriptedRequest) -> str:
    return f"{request.system}|{request.user}"


judging = Pipeline("prompting.judging", version="1", event=Letter, scripted=echo)
judge = judging.model("judge", prompt=stored("mail/judge", label="production"), alias="fast")


@judging.node
async def gate(state: State) -> str:
    """Where a test moves labels, between two calls of one execution."""
    if state.event.folder:
        folder = Path(state.event.folder)
        (folder / "waits").touch()
        while not (folder / "open").exists():
            await asyncio.sleep(0.005)
    return "open"


again = judging.model("again", prompt=stored("mail/judge", label="production"), alias="fast")
plain = judging.model("plain", prompt=stored("mail/judge"), alias="fast")
judging.start(judge)
judging.chain(judge, gate, again, plain)

asking = Pipeline("prompting.asking", version="1", event=Letter, scripted=echo, durable=True)
first = asking.model("first", prompt=stored("mail/judge", label="production"), alias="fast")
ask = asking.ask("ask", question="go on?", answer=str)
then = asking.model("then", prompt=stored("mail/judge", label="production"), alias="fast")
asking.start(first)
asking.chain(first, ask, then)

"""Pipelines that ask a model: alone, side by side, again and again, in children."""

from __future__ import annotations

import asyncio
from pathlib import Path

from pydantic import BaseModel

from holdfast.errors import ModelError
from holdfast.pipelines.budget import Budget
from holdfast.pipelines.context import current_run
from holdfast.pipelines.pipeline import Pipeline
from holdfast.pipelines.state import State


class Job(BaseModel):
    text: str = "hello"
    folder: str = ""


ask = Pipeline("test.ask", version="1", event=Job)
ask.start(ask.model("say", prompt="{{ event.text }}", credits=1))

eight = Pipeline("test.eight", version="1", event=Job)
eight.start(
    eight.map(
        "each",
        eight.model("say", prompt="{{ event.text }}"),
        over=lambda state: list(range(8)),
        at_once=8,
        on_failure="continue",
    )
)

blocking = Pipeline("test.blocking", version="1", event=Job, budget=Budget(tokens=100_000))


@blocking.node
def in_thread(state: State[Job]) -> str:
    return str(current_run().models.chat("fast").model.invoke(state.event.text).text)


blocking.start(in_thread)

again = Pipeline("test.again", version="1", event=Job, budget=Budget(credits=2), retries=5)
again.start(again.model("say", prompt="{{ event.text }}", credits=1))


@again.node
async def fails(state: State[Job]) -> str:
    raise ModelError("not now", error_class="temporary")


again.edge("say", fails)

halting = Pipeline("test.halting", version="1", event=Job, budget=Budget(credits=1), durable=True)
halting.start(halting.model("say", prompt="{{ event.text }}", credits=1))
halting.chain(
    "say",
    halting.ask("approve", question="Go on?"),
    halting.model("more", prompt="more", credits=1),
)

child = Pipeline("test.child", version="1", event=Job)
child.start(child.model("say", prompt="{{ event.text }}", credits=1))

family = Pipeline("test.family", version="1", event=Job, budget=Budget(credits=2))
family.start(family.model("say", prompt="{{ event.text }}", credits=1))
family.chain(
    "say",
    family.child("one", "test.child", input=lambda state: {"text": "one"}),
    family.child("two", "test.child", input=lambda state: {"text": "two"}),
)

slow = Pipeline("test.slow", version="1", event=Job)


@slow.node
async def gate(state: State[Job]) -> str:
    (Path(state.event.folder) / "ready").touch()
    while not (Path(state.event.folder) / "open").exists():
        await asyncio.sleep(0.005)
    return "opened"


slow.start(slow.model("say", prompt="{{ event.text }}", credits=1))
slow.edge("say", gate)

dear = Pipeline("test.dear", version="1", event=Job, budget=Budget(usd="0.5"))
dear.start(dear.model("say", prompt="{{ event.text }}"))

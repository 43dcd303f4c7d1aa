"""Pipelines that call something outside, for the tests of breakers."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from langchain_core.messages import HumanMessage
from pydantic import BaseModel

from holdfast.domain.redelivery import Backoff
from holdfast.pipelines.context import current_run
from holdfast.pipelines.pipeline import Pipeline
from holdfast.pipelines.state import State


class Job(BaseModel):
    text: str = ""
    folder: str = ""
    outcome: str = "ok"  # of the service: ok, down, odd, bug, hang


class Down(Exception):
    """The service's own way to say that it is down."""


def one(name: str, **options: object) -> Pipeline:
    return Pipeline(name, version="1", event=Job, **options)  # type: ignore[arg-type]


asking = one("test.asking")
ask = asking.model("ask", prompt="{{ event.text }}", alias="fast")
asking.start(ask)

retrying = one("test.retrying")
ask_again = retrying.model("ask", prompt="{{ event.text }}", alias="fast", retries=9)
retrying.start(ask_again)

hurried = one("test.hurried")
ask_hurried = hurried.model("ask", prompt="{{ event.text }}", alias="fast", timeout=0.5)
hurried.start(ask_hurried)

careful = one("test.careful")
ask_or_not = careful.model("ask", prompt="{{ event.text }}", alias="fast", on_failure="continue")
careful.start(ask_or_not)

forked = one("test.forked")
left = forked.model("left", prompt="left", alias="fast")
right = forked.model("right", prompt="right", alias="fast")
both = forked.parallel("both", [left, right])
forked.start(both)

split = one("test.split")
asks = split.model("asks", prompt="asks", alias="fast")


@split.node
async def breaks(state: State[Job]) -> None:
    raise ValueError("no breaker's fault")


together = split.parallel("together", [asks, breaks])
split.start(together)

uneven = one("test.uneven", retries=1, backoff=Backoff(first=0.01, most=0.01))
asks_too = uneven.model("asks", prompt="asks", alias="fast")


@uneven.node
async def away_once(state: State[Job]) -> str:
    tried = Path(state.event.folder) / "tried"
    if not tried.exists():
        tried.touch()
        raise ConnectionRefusedError("nobody listens")
    return "there"


uneven.start(uneven.parallel("all", [asks_too, away_once]))

lasting = one("test.lasting", durable=True)


@lasting.node
async def first(state: State[Job]) -> str:
    with (Path(state.event.folder) / "calls").open("a") as calls:
        calls.write("first ")
    return "done"


ask_last = lasting.model("ask", prompt="{{ event.text }}", alias="fast")
lasting.start(first)
lasting.chain(first, ask_last)

threaded = one("test.threaded")


@threaded.node
def in_thread(state: State[Job]) -> str:
    model = current_run().models.chat("fast").model
    return str(model.invoke([HumanMessage(state.event.text)]).text)


threaded.start(in_thread)

serving = one("test.serving")


@serving.node
async def call(state: State[Job]) -> str:
    async with current_run().breaker("crm", failures=Down):
        match state.event.outcome:
            case "down":
                raise ConnectionRefusedError("nobody listens")
            case "odd":
                raise Down("back soon")
            case "bug":
                raise KeyError("customer")
            case "hang":
                (Path(state.event.folder) / f"hangs-{os.getpid()}").touch()
                await asyncio.Event().wait()
            case _:
                return f"called by {os.getpid()}"
    return ""


serving.start(call)

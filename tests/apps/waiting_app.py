"""Pipelines that wait and go on, for the tests of halts. Every call leaves a line in a file."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AnyMessage, HumanMessage
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import interrupt
from pydantic import BaseModel

from holdfast.llm.scripted import ScriptedRequest
from holdfast.pipelines.context import current_run
from holdfast.pipelines.graph import Graph
from holdfast.pipelines.pipeline import Pipeline
from holdfast.pipelines.state import State


class Order(BaseModel):
    item: str = ""
    folder: str = ""
    kills: dict[str, str] = {}  # by delivery: the call at which the process ends


class Verdict(BaseModel):
    yes: bool
    why: str = ""


def say(request: ScriptedRequest) -> str:
    return f"said {request.user}"


def note(folder: str, line: str) -> None:
    fd = os.open(Path(folder) / "calls", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{line}\n".encode())
    os.close(fd)


version = os.environ.get("WAITING_APP_VERSION", "1")

buying = Pipeline("wait.buying", version=version, event=Order, scripted=say)


@buying.node
async def price(state: State[Order]) -> int:
    note(state.event.folder, "price")
    return len(state.event.item)


draft = buying.model("draft", prompt="Buy {{ event.item }} for {{ price }}", alias="fast")
approve = buying.ask("approve", question="Buy it for {{ price }}?", answer=Verdict)


@buying.node
async def buy(state: State[Order]) -> dict[str, Any]:
    note(state.event.folder, "buy")
    verdict = state[approve]
    return {"bought": verdict.yes, "why": verdict.why, "price": state.price, "draft": state.draft}


buying.start(price)
buying.chain(price, draft, approve, buy)

hasty = Pipeline("wait.hasty", version="1", event=Order)
hasty_ask = hasty.ask("confirm", question="Sure?", answer=bool, timeout=3600)
hasty.start(hasty_ask)

sleepy = Pipeline("wait.sleepy", version="1", event=Order)
nap = sleepy.wait("nap", seconds=3600)


@sleepy.node
async def awake(state: State[Order]) -> str:
    return "awake"


sleepy.start(nap)
sleepy.chain(nap, awake)

paid = Pipeline("wait.paid", version="1", event=Order)
payment = paid.wait_for("payment", event="payment", match=lambda s: s.event.item, timeout=3600)


@paid.node
async def ship(state: State[Order]) -> dict[str, Any]:
    return {"paid": state.payment["amount"]}


paid.start(payment)
paid.chain(payment, ship)

both = Pipeline("wait.both", version="1", event=Order)
first = both.ask("first", question="first?", answer=str)
second = both.ask("second", question="second?", answer=str)


@both.node
async def third(state: State[Order]) -> str:
    note(state.event.folder, "third")
    return "third"


all_of_them = both.parallel("all_of_them", [first, second, third])


@both.node
async def joined(state: State[Order]) -> str:
    return f"{state.first} {state.second} {state.third}"


both.start(all_of_them)
both.chain(all_of_them, joined)


gated = Pipeline("wait.gated", version="1", event=Order)
whether = gated.ask("whether", question="go on?", answer=str)


@gated.node
async def gate(state: State[Order]) -> str:
    while not (Path(state.event.folder) / "open").exists():
        await asyncio.sleep(0.005)
    return state.whether


gated.start(whether)
gated.chain(whether, gate)


class Talk(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


async def before(state: Talk) -> Talk:
    return {"messages": [HumanMessage("before")]}


def twice(state: Talk) -> Talk:
    one = interrupt("which one?")
    other = interrupt({"and": one})
    return {"messages": [HumanMessage(f"{one} {other}")]}


_talk = StateGraph(Talk)
_talk.add_node("before", before)
_talk.add_node("twice", twice)
_talk.add_edge(START, "before")
_talk.add_edge("before", "twice")
_talk.add_edge("twice", END)
foreign = Graph("wait.foreign", _talk.compile(), version="1")

STEPS = 5


def steps(name: str, *, durable: bool) -> Pipeline:
    """Five steps, each of which asks a model; the process ends at the calls the event names."""
    pipeline = Pipeline(name, version=version, event=Order, scripted=say, durable=durable)
    nodes: list[Any] = []

    def mortal(n: int) -> Any:
        async def act(state: State[Order]) -> int:
            run = current_run()
            call = f"act{n}"
            note(state.event.folder, call)
            await asyncio.sleep(0)  # the record of what came before is on its way
            if state.event.kills.get(str(run.delivery)) == call:
                DIE[0]()
                await asyncio.Event().wait()
            return n

        return act

    for n in range(STEPS):
        nodes.append(pipeline.node(f"act{n}", mortal(n)))
        nodes.append(pipeline.model(f"ask{n}", prompt=f"{n}", alias="fast"))
    pipeline.start(nodes[0])
    pipeline.chain(*nodes)
    return pipeline


DIE: list[Any] = [lambda: os._exit(1)]
"""How a process ends; a test that runs everything in its own process ends a worker instead."""

durable = steps("wait.durable", durable=True)
forgetful = steps("wait.forgetful", durable=False)

slow = Pipeline("wait.slow", version="1", event=Order, durable=True)


@slow.node
async def begin(state: State[Order]) -> str:
    note(state.event.folder, "begin")
    path = Path(state.event.folder)
    (path / "begun").touch()
    while not (path / "open").exists():
        await asyncio.sleep(0.005)
    return "begun"


@slow.node
async def finish(state: State[Order]) -> str:
    note(state.event.folder, "finish")
    return datetime.now(UTC).isoformat()


slow.start(begin)
slow.chain(begin, finish)

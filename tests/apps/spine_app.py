"""Pipelines for the tests of the spine. What they wait for are files, so that a test says when."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import interrupt
from pydantic import BaseModel, Field

from holdfast.llm.scripted import ScriptedAnswer, ScriptedRequest
from holdfast.pipelines.context import current_run
from holdfast.pipelines.graph import Graph
from holdfast.pipelines.pipeline import Pipeline
from holdfast.pipelines.state import State


class Job(BaseModel):
    text: str = ""
    folder: str = ""
    seconds: float = 0.0


class Verdict(BaseModel):
    score: float = Field(ge=0, le=1)


def rules(request: ScriptedRequest) -> str | dict[str, float] | ScriptedAnswer:
    if request.operation == "judge":
        # Wrong at first; right once the complaint is among the messages.
        return {"score": 0.5 if len(request.messages) > 2 else 7}
    return f"{request.system or ''} {request.user}".strip()


async def there(path: Path) -> None:
    while not path.exists():
        await asyncio.sleep(0.005)


def five(name: str) -> Pipeline:
    pipeline = Pipeline(name, version="1", event=Job)

    async def nothing(state: State) -> None:
        return None

    nodes = [pipeline.node(f"n{i}", nothing) for i in range(5)]
    pipeline.start(nodes[0])
    pipeline.chain(*nodes)
    return pipeline


noop = five("test.noop")

gated = Pipeline("test.gated", version="1", event=Job)


@gated.node
async def before(state: State) -> str:
    return "done before"


@gated.node
async def gate(state: State) -> str:
    folder = Path(state.event.folder)
    ours = folder / f"writing-{os.getpid()}"
    ours.write_text(str(os.getpid()))
    ours.rename(folder / f"pid-{current_run().delivery}")  # there only when it is whole
    await there(folder / "open")
    return "opened"


gated.start(before)
gated.chain(before, gate)

counted = Pipeline("test.counted", version="1", event=Job)


@counted.node
async def effect(state: State) -> str:
    """Does what must not be done twice, once its gate is open."""
    folder, number = Path(state.event.folder), state.event.text
    (folder / f"begun-{number}").touch()
    await there(folder / f"open-{number}")
    with (folder / "effects").open("a") as effects:
        effects.write(f"{number}\n")
    return number


counted.start(effect)

stairs = Pipeline("test.stairs", version="1", event=Job)


def stair(number: int) -> Any:
    async def climb(state: State) -> int:
        await there(Path(state.event.folder) / f"open-{number}")
        return number

    return stairs.node(f"stair{number}", climb)


stairs_up = [stair(number) for number in range(3)]
stairs.start(stairs_up[0])
stairs.chain(*stairs_up)

blocking = Pipeline("test.blocking", version="1", event=Job)


@blocking.node
def block(state: State) -> str:
    folder = Path(state.event.folder)
    (folder / "blocked").touch()
    while not (folder / "open").exists():
        time.sleep(0.005)
    (folder / "thread-ended").touch()
    return "unblocked"


blocking.start(block)

stubborn = Pipeline("test.stubborn", version="1", event=Job)


@stubborn.node
async def hold(state: State) -> str:
    folder = Path(state.event.folder)
    (folder / "holding").touch()
    while not (folder / "open").exists():
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            (folder / "ignored").touch()
    return "never mind"


stubborn.start(hold)

poison = Pipeline("test.poison", version="1", event=Job)


@poison.node
async def drink(state: State) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


poison.start(drink)

failing = Pipeline("test.failing", version="1", event=Job)


@failing.node
async def works(state: State) -> str:
    return "fine"


@failing.node
async def fails(state: State) -> None:
    raise ValueError(f"cannot do {state.event.text}")


failing.start(works)
failing.chain(works, fails)

talking = Pipeline("test.talking", version="1", event=Job, scripted=rules)
say = talking.model("say", system="You are {{ event.text }}.", prompt="Who am I?", alias="fast")
judge = talking.model("judge", prompt="Judge {{ say }}", alias="fast", answer=Verdict, credits=3)
talking.start(say)
talking.chain(say, judge)

other = Pipeline("test.other", version="7", event=Job, scripted=rules)
other_say = other.model("say", system="I am other {{ event.text }}.", prompt="?", alias="fast")
other.start(other_say)

hurried = Pipeline("test.hurried", version="1", event=Job, deadline=0.2)


@hurried.node
async def linger(state: State) -> None:
    await asyncio.Event().wait()


hurried.start(linger)

sending = Pipeline("test.sending", version="1", event=Job)


@sending.node
async def send(state: State) -> str:
    run = current_run()
    return await run.submit("test.noop", {"text": "child"}, idempotency_key=f"{run.event_id}:child")


sending.start(send)


class Talk(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


async def reply(state: Talk) -> Talk:
    return {"messages": [AIMessage(f"you said {state['messages'][-1].content}")]}


def polish(state: Talk) -> Talk:
    return {"messages": [HumanMessage("thanks")]}


def choose(state: Talk) -> str:
    return "polish"


_talk = StateGraph(Talk)
_talk.add_node("reply", reply)
_talk.add_node("polish", polish)
_talk.add_edge(START, "reply")
_talk.add_conditional_edges("reply", choose, ["polish", END])
foreign = Graph("test.foreign", _talk.compile(), version="3")


def ask(state: Talk) -> Talk:
    return {"messages": [HumanMessage(interrupt("which one?"))]}


_ask = StateGraph(Talk)
_ask.add_node("ask", ask)
_ask.add_edge(START, "ask")
asking = Graph("test.asking", _ask.compile(checkpointer=InMemorySaver()), version="1")
mute = Graph("test.mute", _ask.compile(), version="1", checkpoints=False)

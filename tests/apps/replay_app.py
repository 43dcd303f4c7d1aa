"""Pipelines and graphs whose runs are repeated. What really runs leaves a line in a file."""

from __future__ import annotations

import asyncio
import operator
import os
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.messages import AnyMessage, SystemMessage
from langchain_core.retrievers import BaseRetriever
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import interrupt
from pydantic import BaseModel, Field

from holdfast.pipelines.context import current_run
from holdfast.pipelines.graph import Graph
from holdfast.pipelines.pipeline import END as STOP
from holdfast.pipelines.pipeline import Pipeline
from holdfast.pipelines.policy import Backoff
from holdfast.pipelines.state import State

NOTES = os.environ.get("REPLAY_APP_NOTES", "")
EDITED = os.environ.get("REPLAY_APP_EDITED") == "1"


def note(line: str) -> None:
    with Path(NOTES).open("a") as file:
        file.write(f"{line}\n")


class Job(BaseModel):
    text: str = ""
    items: list[str] = []


class Score(BaseModel):
    score: int = Field(ge=0, le=9)


scoring = Pipeline("replay.scoring", version="1", event=Job)


@scoring.node
async def begin(state: State[Job]) -> str:
    note("begin")
    return state.event.text.strip()


first = scoring.model(
    "first",
    prompt="Score {{ begin }}" + (" anew" if EDITED else ""),
    alias="fast",
    answer=Score,
    retries=2,
    backoff=Backoff(first=0.01, jitter=0),
)
one = scoring.model("one", prompt="Item {{ item }}", alias="fast")
each = scoring.map("each", one, over=lambda s: s.event.items)


@scoring.node
async def tell(state: State[Job]) -> dict[str, Any]:
    run = current_run()
    note("tell")
    sent = await run.submit("replay.told", {"text": state.begin}, idempotency_key=run.event_id)
    return {"score": state[first].score, "items": state.results.get("each"), "sent": sent}


scoring.start(begin)
scoring.edge(begin, first)
scoring.route(first, {STOP: lambda s: s.first.score == 0}, otherwise=each)
scoring.edge(each, tell)

told = Pipeline("replay.told", version="1", event=Job)


@told.node
async def heard(state: State[Job]) -> str:
    note("heard")
    return state.event.text


told.start(heard)

listening = Pipeline("replay.listening", version="1", event=Job)
listening.start(listening.wait_for("word", event="replay.told"))

crashing = Pipeline("replay.crashing", version="1", event=Job, durable=True)
ask = crashing.model("ask", prompt="Say {{ event.text }}", alias="fast")


@crashing.node
async def die(state: State[Job]) -> str:
    run = current_run()
    if run.plan is not None and run.delivery == 1:
        os._exit(1)
    return state.ask


crashing.start(ask)
crashing.chain(ask, die)

surviving = Pipeline("replay.surviving", version="1", event=Job, durable=True)
early = surviving.model("early", prompt="Early {{ event.text }}", alias="fast")


@surviving.node
async def fall(state: State[Job]) -> str:
    run = current_run()
    if run.plan is None and run.delivery == 1:
        os._exit(1)
    return "got up"


late = surviving.model("late", prompt="Late {{ early }}", alias="fast")
surviving.start(early)
surviving.chain(early, fall, late)

holding = Pipeline("replay.holding", version="1", event=Job, durable=True)


@holding.node
async def hold(state: State[Job]) -> str:
    while current_run().plan is not None and not Path(f"{NOTES}.open").exists():
        Path(f"{NOTES}.held").touch()
        await asyncio.sleep(0.005)
    return "held"


say = holding.model("say", prompt="Say {{ hold }}", alias="fast")
holding.start(hold)
holding.chain(hold, say)

cached = Pipeline("replay.cached", version="1", event=Job)


@cached.node(cache=600)
async def look(state: State[Job]) -> str:
    note("look")
    return f"saw {state.event.text}"


cached.start(look)

tolerant = Pipeline("replay.tolerant", version="1", event=Job)
hard = tolerant.model("hard", prompt="Try {{ event.text }}", alias="fast", on_failure="continue")


@tolerant.node
async def onward(state: State[Job]) -> str:
    return "went on"


tolerant.start(hard)
tolerant.chain(hard, onward)


@tool
def weigh(thing: str) -> str:
    """Weigh a thing."""
    note(f"weigh {thing}")
    if thing == "air":
        raise ValueError("too light")
    return f"{thing} weighs {len(thing)} kg"


class Shelf(BaseRetriever):
    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        note(f"search {query}")
        return [Document(page_content=f"about {query}", metadata={"page": 3})]


class Talk(TypedDict):
    messages: Annotated[list[AnyMessage], operator.add]


def model() -> ChatOpenAI:
    return ChatOpenAI(
        model="fake-model",
        base_url=os.environ["OPENAI_BASE_URL"],
        api_key="none",  # pyright: ignore[reportArgumentType]
        cache=False,
        max_retries=0,
        stream_usage=True,
    )


async def think(state: Talk) -> dict[str, Any]:
    pieces = [chunk async for chunk in model().bind_tools([weigh]).astream(state["messages"])]
    whole = pieces[0]
    for piece in pieces[1:]:
        whole = whole + piece  # pyright: ignore[reportOperatorIssue]
    return {"messages": [whole]}


def read_up(state: Talk) -> dict[str, Any]:
    found = Shelf().invoke("weights")
    direct = weigh.invoke({"thing": "feather"})
    return {"messages": [SystemMessage(f"{found[0].page_content}; {direct}")]}


def confirm(state: Talk) -> dict[str, Any]:
    return {"messages": [SystemMessage(f"confirmed: {interrupt('sure?')}")]}


_agent = StateGraph(Talk)
_agent.add_node("read_up", read_up)
_agent.add_node("think", think)
_agent.add_node("tools", ToolNode([weigh]))
_agent.add_node("confirm", confirm)
_agent.add_edge(START, "read_up")
_agent.add_edge("read_up", "think")
_agent.add_conditional_edges("think", tools_condition, {"tools": "tools", END: "confirm"})
_agent.add_edge("tools", "think")
_agent.add_edge("confirm", END)
agent = Graph("replay.agent", _agent.compile(), version="1")

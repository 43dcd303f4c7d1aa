"""Graphs that remember: in the store that LangGraph hands them, and in the session of a turn."""

from __future__ import annotations

from typing import Any, TypedDict

from langgraph.config import get_store
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.store.memory import InMemoryStore
from pydantic import BaseModel

from holdfast import Graph, Pipeline, State
from holdfast.pipelines.context import current_run


class Notes(TypedDict, total=False):
    note: str
    query: str
    found: list[str]
    namespaces: list[list[str]]
    store: str


def keep(state: Notes, runtime: Runtime) -> dict[str, Any]:
    """A sync node: it runs in a thread."""
    if state.get("note"):
        runtime.store.put(("notes", "all"), state["note"], {"text": state["note"]})
    return {"store": type(runtime.store).__name__}


async def find(state: Notes) -> dict[str, Any]:
    """An async node, which asks LangGraph for the store."""
    store = get_store()
    found = await store.asearch(("notes",), query=state.get("query"), limit=3)
    spaces = await store.alist_namespaces()
    return {"found": [one.key for one in found], "namespaces": [list(one) for one in spaces]}


def build() -> Any:
    builder = StateGraph(Notes)
    builder.add_node("keep", keep)
    builder.add_node("find", find)
    builder.add_edge(START, "keep")
    builder.add_edge("keep", "find")
    builder.add_edge("find", END)
    return builder


notes = Graph("memory.notes", build().compile(store=InMemoryStore()), version="1")
others = Graph("memory.others", build().compile(), version="1")
halting = Graph("memory.checkpointed", build().compile(), version="1", checkpoints=True)


class Budget(BaseModel):
    tokens: int = 2000
    depth: int | None = None


async def look(state: State[Budget]) -> dict[str, Any]:
    run = current_run()
    seen = await run.ports.memory.window(
        execution_id=run.execution_id, token_budget=state.event.tokens, depth=state.event.depth
    )
    return {
        "messages": [[one.role, one.content] for one in seen.messages],
        "summaries": [one.content for one in seen.summaries],
        "facts": list(seen.facts),
        "left_out": seen.left_out,
    }


window = Pipeline("memory.window", version="1", event=Budget)
window.start(window.node("look", look))

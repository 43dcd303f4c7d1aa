"""Searching a collection, as a tool: the hub searches, the run records what it cost."""

from __future__ import annotations

import re

from langchain_core.runnables.config import ensure_config
from langchain_core.tools import BaseTool, StructuredTool
from pydantic import BaseModel, Field

from holdfast.agents.config import Knowledge
from holdfast.domain.knowledge import MAX_QUERY_CHARS, Found, Hit
from holdfast.errors import ToolFailed
from holdfast.pipelines.context import current_run
from holdfast.recording import step_of

from .base import AgentTool, as_text

_UNFIT = re.compile(r"[^A-Za-z0-9_-]")

NOTHING = "Nothing was found."


class Query(BaseModel):
    """What the model says when it searches."""

    query: str = Field(min_length=1, max_length=MAX_QUERY_CHARS, description="what to look for")


def make(config: Knowledge, where: str) -> AgentTool:  # noqa: ARG001 - as the others
    """The tool that searches one collection."""
    collection, mode = config.collection, config.mode
    asks = {"collection": collection, "mode": mode, "limit": config.limit}

    async def search(query: str) -> str:
        run = current_run()
        answer = await run.ports.knowledge.search(
            execution_id=run.execution_id, asked={**asks, "query": query}
        )
        step_of(ensure_config()).called(answer.calls)
        if answer.error is not None:
            raise ToolFailed(
                f"{answer.error['code']}: {answer.error['message']}",
                hint=str(answer.error.get("hint", "")),
            )
        hits = [Hit(**hit) for hit in answer.value]
        found = Found(collection=collection, query=query, mode=mode, hits=hits)
        return as_text(found.text) if hits else NOTHING

    described = config.description.strip()
    tool: BaseTool = StructuredTool(
        name=name_of(collection),
        description=f"Search the collection {collection}"
        + (f": {described}" if described else ".")
        + " The passages that fit best come back, each under its source.",
        args_schema=Query,
        coroutine=search,
    )
    return AgentTool(tool=tool)


def name_of(collection: str) -> str:
    """The tool's name: `search_` and the collection's."""
    return f"search_{_UNFIT.sub('_', collection)}"[:64]

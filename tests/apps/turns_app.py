"""A LangGraph loop whose state is a growing conversation, for tests of what a record takes."""

from __future__ import annotations

import base64
import random
from typing import Annotated, Any, TypedDict

from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AnyMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages

from holdfast.pipelines.graph import Graph

TURNS = 50
CHARS = 820  # of each question and each answer: 82 KB of text that no compression makes less

chance = random.Random(7)


def text() -> str:
    return base64.b64encode(chance.randbytes(CHARS * 3 // 4)).decode()


QUESTIONS = [text() for _ in range(TURNS)]
model = FakeListChatModel(responses=[text() for _ in range(TURNS)])


class Talk(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    turns: int


async def turn(state: Talk, config: RunnableConfig) -> dict[str, Any]:
    asked = HumanMessage(QUESTIONS[state["turns"]])
    answer = await model.ainvoke([*state["messages"], asked], config)
    return {"messages": [asked, answer], "turns": state["turns"] + 1}


_talk = StateGraph(Talk)
_talk.add_node("turn", turn)
_talk.add_edge(START, "turn")
_talk.add_conditional_edges("turn", lambda state: END if state["turns"] == TURNS else "turn")
turns = Graph("turns", _talk.compile().with_config(recursion_limit=2 * TURNS), version="1")

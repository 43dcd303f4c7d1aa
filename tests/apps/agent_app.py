"""Tools and rules of agents that tests run in processes of their own."""

from __future__ import annotations

import os
from typing import Any

from held_agent import gate
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import START, MessagesState, StateGraph

from holdfast.llm.scripted import ScriptedAnswer, ScriptedRequest


def order_status(number: str) -> dict[str, str]:
    """The status of an order.

    Args:
        number: of the order.
    """
    return {"number": number, "status": "sent"}


async def has_secret() -> bool:
    """Whether the process has its secret."""
    return os.environ.get("CRM_KEY") == "the-secret-value"


def rules(request: ScriptedRequest) -> Any:
    """Call both tools, then tell what they said."""
    if not request.tool_results:
        made = [
            {"name": "order_status", "args": {"number": "17"}},
            {"name": "has_secret", "args": {}},
        ]
        return ScriptedAnswer(tool_calls=made)
    told = request.tool_results
    return f"{told['order_status']} {told['has_secret']} in process {os.getpid()}"


async def _echo(state: MessagesState) -> dict[str, Any]:
    told = [str(one.text) for one in state["messages"] if isinstance(one, HumanMessage)]
    return {"messages": [AIMessage(" | ".join(told))]}


echo = StateGraph(MessagesState).add_node("echo", _echo).add_edge(START, "echo").compile()


async def _held(state: MessagesState) -> dict[str, Any]:
    """`gate FOLDER` waits for the file `open`; then, as ever, all that was said."""
    verb, _, folder = str(state["messages"][-1].text).partition(" ")
    if verb == "gate":
        await gate(folder)
    return await _echo(state)


remembering = StateGraph(MessagesState).add_node("held", _held).add_edge(START, "held").compile()


def asking(request: ScriptedRequest) -> Any:
    """Asks a person once, beside another call, and tells what they said."""
    if not request.tool_results:
        made = [
            {"name": "order_status", "args": {"number": "17"}},
            {"name": "ask_human", "args": {"question": "Send it again?"}},
        ]
        return ScriptedAnswer(tool_calls=made)
    return f"a person said: {request.tool_results['ask_human']}"

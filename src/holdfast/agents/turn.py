"""What travels through a simple agent's graph during one turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypedDict, cast

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.messages.tool import ToolCall

from holdfast.pipelines.state import merge, plus

from .schemas import TurnData

RECALL, AGENT, TOOLS, GATHER, CRITIQUE, REVISE = (
    "recall",
    "agent",
    "tools",
    "gather",
    "critique",
    "revise",
)
"""The nodes."""


class Turn(TypedDict):
    """The channels. Nothing of them outlives the turn.

    Attributes:
        event: what was said.
        results: what each node left behind last, by its name.
        messages: of this turn alone: the question, the model's answers, the tools' results.
        asked: how often models were asked.
        called: tool calls made.
        rounds: answers looked at by the critic.
    """

    event: TurnData
    results: Annotated[dict[str, Any], merge]
    messages: Annotated[list[BaseMessage], plus]
    asked: Annotated[int, plus]
    called: Annotated[int, plus]
    rounds: Annotated[int, plus]


class OneCall(TypedDict):
    """What the tools node is sent, once for each call.

    Attributes:
        call: to be made.
        refused: why it is not made; None where it is.
    """

    call: ToolCall
    refused: str | None


def begin(event: TurnData) -> Turn:
    """The channels of a new turn."""
    return Turn(event=event, results={}, messages=[question(event)], asked=0, called=0, rounds=0)


def question(event: TurnData) -> HumanMessage:
    """What was said, with its pictures."""
    if not event.image_urls:
        return HumanMessage(event.text)
    blocks: list[dict[str, Any]] = [{"type": "text", "text": event.text}]
    blocks += [{"type": "image_url", "image_url": {"url": url}} for url in event.image_urls]
    return HumanMessage(cast("Any", blocks))


EARLIER = "What was said before in this conversation, in short"
FACTS = "What is known of this conversation"


def earlier(recalled: Mapping[str, Any] | None) -> list[BaseMessage]:
    """The messages before the question: summaries and facts first, then the window.

    Summaries come as words of the user's side: they are made of what users said, and must not gain
    the weight of instructions.
    """
    if not recalled:
        return []
    parts: list[str] = []
    if recalled["facts"]:
        parts.append("\n".join([f"{FACTS}:", *(f"- {fact}" for fact in recalled["facts"])]))
    if recalled["summaries"]:
        parts.append("\n\n".join([f"{EARLIER}:", *recalled["summaries"]]))
    before: list[BaseMessage] = [HumanMessage("\n\n".join(parts))] if parts else []
    return [*before, *(_message(one) for one in recalled["messages"])]


def _message(said: Mapping[str, str]) -> BaseMessage:
    make = AIMessage if said["role"] == "assistant" else HumanMessage
    return make(said["content"])


def draft(messages: Sequence[BaseMessage]) -> AIMessage | None:
    """The newest whole answer of the turn; None when there is none yet."""
    for message in reversed(messages):
        if isinstance(message, AIMessage) and not message.tool_calls and str(message.text).strip():
            return message
    return None

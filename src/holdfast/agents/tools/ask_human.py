"""A question to a person: the turn waits until somebody answers."""

from __future__ import annotations

from typing import Any, cast

from langchain_core.tools import BaseTool, StructuredTool
from langgraph.types import interrupt
from pydantic import BaseModel, Field

from holdfast.agents.config import AskTool
from holdfast.domain.conversations import MAX_TEXT_CHARS
from holdfast.domain.halts import WaitKind
from holdfast.domain.ids import MICROS
from holdfast.errors import InvalidInput, WaitExpired
from holdfast.pipelines.waiting import ASKED

from .base import AgentTool

NAME = "ask_human"

ANSWER = {"type": "string", "minLength": 1, "maxLength": MAX_TEXT_CHARS}
"""JSON schema of the answer."""


class Question(BaseModel):
    """What the model says when it asks."""

    question: str = Field(min_length=1, max_length=10_000, description="what to ask, in full")


def make(config: AskTool, where: str) -> AgentTool:  # noqa: ARG001 - as the others
    """The tool."""
    timeout_s = config.settings.timeout_s
    wake_in = None if timeout_s is None else round(timeout_s * MICROS)

    async def ask(question: str) -> str:
        asked = {
            "kind": WaitKind.ANSWER.value,
            "name": NAME,
            # Whoever talks to the agent may answer by the next message.
            "question": {"question": question, "takes_message": True},
            "schema": ANSWER,
            "wake_in": wake_in,
        }
        came = cast("dict[str, Any]", interrupt({ASKED: asked}))
        if came.get("expired"):
            raise WaitExpired("nobody answered in time", hint="go on without the answer")
        return str(came["answer"])

    tool: BaseTool = StructuredTool(
        name=NAME,
        description="Ask a person something that only a person can say, and wait for the answer. "
        "Use it rarely: the conversation stands still meanwhile.",
        args_schema=Question,
        coroutine=ask,
    )
    return AgentTool(tool=tool)


def check_answer(agent: str, answer: Any) -> None:
    """Hold an answer against what is asked for.

    Raises:
        InvalidInput: it is no text, or too long.
    """
    if not isinstance(answer, str) or not answer.strip() or len(answer) > MAX_TEXT_CHARS:
        got = f"{len(answer)} characters" if isinstance(answer, str) else type(answer).__name__
        expected = f"a text of 1 to {MAX_TEXT_CHARS} characters"
        raise InvalidInput(
            f"agent {agent}: answer: {expected}, got {got}",
            fields=[{"field": "answer", "expected": expected, "got": got}],
        )

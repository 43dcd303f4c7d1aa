"""Rules of the agents that are measured: rules, not a language model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.llm.scripted import ScriptedAnswer

if TYPE_CHECKING:
    from holdfast.llm.scripted import ScriptedRequest

SLOW_S = 1.0


def at_once(request: ScriptedRequest) -> str:
    """Answer without a thought."""
    return f"you said: {request.user}"


def slowly(request: ScriptedRequest) -> ScriptedAnswer:
    """Answer as a model does that takes a second."""
    return ScriptedAnswer(text=f"you said: {request.user}", latency_s=SLOW_S)

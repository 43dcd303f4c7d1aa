"""The rules of an agent that says again what it was told."""

from __future__ import annotations

from holdfast.llm.scripted import ScriptedRequest


def echo(request: ScriptedRequest) -> str:
    return f"You said: {request.user}"

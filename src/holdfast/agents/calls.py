"""Tool calls as models write them: mended where that is possible, answered where it is not."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import json_repair
import orjson
from langchain_core.messages import AIMessage, BaseMessage, ToolCall, ToolMessage
from pydantic import ValidationError

from holdfast.domain.ids import new_id
from holdfast.domain.payload import message_of
from holdfast.errors import HoldfastError
from holdfast.pipelines.schemas import shorten

MAX_ERROR_CHARS = 2_000
"""Of what the model is told of an error."""

_TAGGED = re.compile(r"<tool_call>\s*(\{.*?\})\s*</tool_call>", re.DOTALL)
_FENCED = re.compile(r"\A\s*```[a-zA-Z_]*\n(.*?)\n?```\s*\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Broken:
    """A call that nobody can make: it is answered with what is wrong."""

    call: ToolCall
    why: str


def mended(reply: AIMessage, known: Collection[str]) -> tuple[AIMessage, list[Broken]]:
    """A model's answer with calls that can be made, and those that cannot.

    Calls whose arguments are broken JSON are read again; a call that a model wrote as text, in
    `<tool_call>` or as nothing but its JSON, is made a call; each call has an id of its own.

    Args:
        reply: as the model gave it.
        known: names of the agent's tools.

    Returns:
        The answer, in which every call has an id; and those among them that are broken.
    """
    calls, broken, changed = list[ToolCall](), list[Broken](), False
    for call in reply.tool_calls:
        name, args = call["name"], _arguments(call["args"])
        made = _call(name, args or {}, call["id"], calls)
        changed = changed or made["id"] != call["id"] or made["args"] != call["args"]
        calls.append(made)
        if args is None:
            broken.append(Broken(made, _not_an_object(call["args"])))
    for invalid in reply.invalid_tool_calls:
        changed = True
        args = _arguments(invalid.get("args"))
        made = _call(invalid.get("name") or "", args or {}, invalid.get("id"), calls)
        calls.append(made)
        if args is None:
            broken.append(Broken(made, _not_an_object(invalid.get("args"))))
    text = str(reply.text)
    if not calls and known and (found := _written(text, known)):
        for name, args in found:
            calls.append(_call(name, args, None, calls))
        changed, text = True, _TAGGED.sub("", text).strip() if "<tool_call>" in text else ""
        return reply.model_copy(update={"content": text, "tool_calls": calls}), broken
    if not changed:
        return reply, broken
    kwargs = {k: v for k, v in reply.additional_kwargs.items() if k != "tool_calls"}
    update = {"tool_calls": calls, "invalid_tool_calls": [], "additional_kwargs": kwargs}
    return reply.model_copy(update=update), broken


def _call(name: str, args: dict[str, Any], id_: str | None, before: Sequence[ToolCall]) -> ToolCall:
    if not id_ or any(one["id"] == id_ for one in before):
        id_ = f"call_{new_id()}"
    return ToolCall(name=name, args=args, id=id_, type="tool_call")


def _arguments(given: Any) -> dict[str, Any] | None:
    """Arguments as an object; None when they are none."""
    if given is None or given == "":
        return {}
    if isinstance(given, str):
        given = json_repair.loads(given)
    if isinstance(given, Mapping):
        return dict(cast("Mapping[str, Any]", given))
    return None


def _written(text: str, known: Collection[str]) -> list[tuple[str, dict[str, Any]]]:
    """Calls that stand in the text: only such as name one of the tools."""
    bodies = _TAGGED.findall(text)
    if not bodies:
        fenced = _FENCED.match(text)
        body = (fenced.group(1) if fenced else text).strip()
        bodies = [body] if body.startswith("{") and body.endswith("}") else []
    found: list[tuple[str, dict[str, Any]]] = []
    for body in bodies:
        try:
            value: Any = orjson.loads(body)
        except orjson.JSONDecodeError:
            value = json_repair.loads(body)
        if not isinstance(value, dict):
            return []
        said = cast("dict[str, Any]", value)
        given = said.get("arguments", said.get("parameters"))
        if not set(said) <= {"name", "arguments", "parameters", "type", "id"}:
            return []
        args = _arguments(given) if "arguments" in said or "parameters" in said else None
        if said.get("name") not in known or args is None:
            return []
        found.append((str(said["name"]), args))
    return found


def open_calls(messages: Sequence[BaseMessage]) -> list[ToolCall]:
    """The calls of the newest answer that have no result yet."""
    answered: set[str] = set()
    for message in reversed(messages):
        if isinstance(message, ToolMessage):
            answered.add(message.tool_call_id)
        elif isinstance(message, AIMessage):
            return [call for call in message.tool_calls if call["id"] not in answered]
        else:
            return []
    return []


def refusal(call: ToolCall, why: str) -> ToolMessage:
    """A call's result when it failed, or was not made."""
    return ToolMessage(
        content=f"Error: {why}"[:MAX_ERROR_CHARS],
        tool_call_id=str(call["id"]),
        name=call["name"],
        status="error",
    )


def told(error: Exception) -> str:
    """An error as the model is told: enough to call better, no traceback."""
    if isinstance(error, ValidationError):
        lines = [
            f"{'.'.join(map(str, one['loc'])) or 'arguments'}: {one['msg']} "
            f"(got {shorten(one['input'])})"
            for one in error.errors(include_url=False)
        ]
        return "the arguments do not fit: " + "; ".join(lines)
    if isinstance(error, HoldfastError):
        return str(error)
    return f"{type(error).__name__}: {message_of(error)}"


def _not_an_object(given: Any) -> str:
    return f"the arguments are no JSON object: {shorten(given)}; call it again with one"

"""LangChain messages as a record keeps them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from holdfast.domain.payload import Texts

ROLES = {"human": "user", "ai": "assistant", "AIMessageChunk": "assistant"}
"""LangChain's words to the field's; others are the same."""

HIDDEN = "***"
"""Stands for a secret."""

_SECRET = re.compile(
    r"(api|access|secret|private)[-_]?key|authorization|cookie|password|secret|(^|[-_])token$",
    re.IGNORECASE,
)

_ACCOUNT_HEADERS = frozenset({"openai-organization"})


def role_of(message: BaseMessage) -> str:
    """`system`, `user`, `assistant`, `tool` or what else the message calls itself."""
    return ROLES.get(message.type, message.type)


def message_fields(message: BaseMessage, *, raw: bool = False) -> dict[str, Any]:
    """A message as plain fields.

    Args:
        message: any LangChain message.
        raw: keep all that the provider sent along (metadata, usage), not only what was said.
    """
    fields: dict[str, Any] = {"role": role_of(message), "content": message.content}
    if message.name:
        fields["name"] = message.name
    if isinstance(message, ToolMessage):
        fields["tool_call_id"] = message.tool_call_id
    if isinstance(message, AIMessage):
        if message.tool_calls:
            fields["tool_calls"] = message.tool_calls
        if message.invalid_tool_calls:
            fields["invalid_tool_calls"] = message.invalid_tool_calls
    if raw:
        if message.id:
            fields["id"] = message.id
        if message.additional_kwargs:
            fields["additional_kwargs"] = message.additional_kwargs
        fields["response_metadata"] = _without_secret_headers(message.response_metadata)
        if isinstance(message, AIMessage) and message.usage_metadata:
            fields["usage_metadata"] = message.usage_metadata
    return fields


def keep_messages(
    texts: Texts, messages: Sequence[BaseMessage]
) -> tuple[int | None, int | None, int]:
    """Keep a call's messages.

    Returns:
        Indexes of the system prompt, of the newest user text, and of the whole list.
    """
    system: int | None = None
    user: int | None = None
    items: list[int] = []
    for message in messages:
        fields = message_fields(message)
        content = fields.pop("content")
        if message.type == "system" and isinstance(content, str):
            index = texts.add_shared(content)
            system = index if system is None else system
        else:
            index = texts.add(content)
        if message.type == "human":
            user = index
        items.append(texts.add_object(fields, {"content": index}))
    return system, user, texts.add_growing_list(items)


def without_probabilities(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Without those of the answer's tokens, which spell it out a second time, piece by piece."""
    return {key: value for key, value in metadata.items() if not key.startswith("logprobs")}


def without_secrets(given: Mapping[str, Any]) -> dict[str, Any]:
    """A copy in which every text under the name of a secret is hidden, at any level.

    Only texts: a schema may well have a property called `password`.
    """
    return {key: _hidden(str(key), value) for key, value in given.items()}


def _hidden(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return without_secrets(cast("Mapping[str, Any]", value))
    if isinstance(value, list | tuple):
        return [_hidden(name, one) for one in cast("Sequence[Any]", value)]
    if isinstance(value, str | bytes) and _SECRET.search(name):
        return HIDDEN
    return value


def _without_secret_headers(metadata: dict[str, Any]) -> dict[str, Any]:
    headers: Any = metadata.get("headers")
    if not isinstance(headers, Mapping):
        return metadata
    given = cast("Mapping[str, Any]", headers)
    kept = {key: value for key, value in given.items() if key.lower() not in _ACCOUNT_HEADERS}
    return {**metadata, "headers": without_secrets(kept)}

"""LangChain messages as a record keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from holdfast.domain.payload import Texts

ROLES = {"human": "user", "ai": "assistant", "AIMessageChunk": "assistant"}
"""LangChain's words to the field's; others are the same."""

_SECRET_HEADERS = frozenset({"set-cookie", "authorization", "openai-organization"})


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
        fields["response_metadata"] = _without_secrets(message.response_metadata)
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


def _without_secrets(metadata: dict[str, Any]) -> dict[str, Any]:
    headers: Any = metadata.get("headers")
    if not isinstance(headers, dict):
        return metadata
    given = cast("dict[str, Any]", headers)
    kept = {key: value for key, value in given.items() if key.lower() not in _SECRET_HEADERS}
    return {**metadata, "headers": kept}

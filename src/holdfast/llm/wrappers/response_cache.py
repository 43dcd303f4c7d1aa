"""The answer to exactly the same call, kept for a while."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing
from typing import Any, cast

import orjson
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    message_chunk_to_message,
)
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import Field, SkipValidation, ValidationError
from typing_extensions import override

from holdfast.domain.payload import encode
from holdfast.errors import PortError
from holdfast.llm.attempts import tries_of
from holdfast.llm.bridge import Bridge
from holdfast.llm.calls import asks_anew
from holdfast.ports import CachedResult, CachePort, running_execution
from holdfast.telemetry import logger

from .base import RunManager, WrappedChatModel

log = logger("llm")

_KEPT = {"content", "additional_kwargs", "response_metadata", "tool_calls", "name"}
_SAID = {"type", "content", "name", "tool_calls", "tool_call_id", "additional_kwargs"}


class ResponseCacheChatModel(WrappedChatModel):
    """Answers a call that was made before from the cache, at no cost, and says so on record.

    The same call: the same messages, model, parameters, tools and schema, for the same owner. A
    cache that cannot be reached costs the call nothing else.
    """

    seconds: float
    server: str
    port: SkipValidation[CachePort] = Field(exclude=True, repr=False)
    bridge: SkipValidation[Bridge] = Field(exclude=True, repr=False)

    @override
    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        if not self._may_look or not self.bridge.usable:
            return super()._generate(messages, stop, run_manager, **kwargs)
        key = self._key(messages, stop, kwargs)
        found = self.bridge.wait(self._look(key))
        if found is not None:
            return _whole(self._told(found, stop, run_manager, kwargs))
        result = super()._generate(messages, stop, run_manager, **kwargs)
        self.bridge.wait(self._keep(key, result.generations[0].message))
        return result

    @override
    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        if not self._may_look:
            return await super()._agenerate(messages, stop, run_manager, **kwargs)
        key = self._key(messages, stop, kwargs)
        found = await self._look(key)
        if found is not None:
            return _whole(self._told(found, stop, run_manager, kwargs))
        result = await super()._agenerate(messages, stop, run_manager, **kwargs)
        await self._keep(key, result.generations[0].message)
        return result

    @override
    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        may_look = self._may_look and self.bridge.usable
        key = self._key(messages, stop, kwargs) if may_look else ""
        found = self.bridge.wait(self._look(key)) if may_look else None
        if found is not None:
            yield _piece(self._told(found, stop, run_manager, kwargs))
            return
        said: list[ChatGenerationChunk] = []
        stream = cast("Any", super()._stream(messages, stop, run_manager, **kwargs))
        with closing(stream) as pieces:
            for piece in pieces:
                said.append(piece)
                yield piece
        if may_look and said:
            self.bridge.wait(self._keep(key, _joined(said)))

    @override
    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        may_look = self._may_look
        key = self._key(messages, stop, kwargs) if may_look else ""
        found = await self._look(key) if may_look else None
        if found is not None:
            yield _piece(self._told(found, stop, run_manager, kwargs))
            return
        said: list[ChatGenerationChunk] = []
        stream = cast("Any", super()._astream(messages, stop, run_manager, **kwargs))
        async with aclosing(stream) as pieces:
            async for piece in pieces:
                said.append(piece)
                yield piece
        if may_look and said:
            await self._keep(key, _joined(said))

    @property
    def _may_look(self) -> bool:
        return running_execution.get() is not None and not asks_anew.get()

    def _key(
        self, messages: list[BaseMessage], stop: list[str] | None, kwargs: dict[str, Any]
    ) -> str:
        asked = self.asks(stop, kwargs)
        said = [message.model_dump(include=_SAID, exclude_defaults=True) for message in messages]
        parts = [self.server, asked.provider, asked.model, asked.parameters, said]
        return f"llm:{hashlib.blake2b(encode(parts), digest_size=16).hexdigest()}"

    async def _look(self, key: str) -> tuple[CachedResult, AIMessage] | None:
        try:
            found = await self.port.get(execution_id=running_execution.get() or "", key=key)
            if found is None:
                return None
            return found, AIMessage.model_validate(orjson.loads(found.value))
        except (PortError, ValidationError) as error:
            log.warning("response_cache.not_read", error=str(error))
            return None

    async def _keep(self, key: str, answer: BaseMessage) -> None:
        try:
            await self.port.put(
                execution_id=running_execution.get() or "",
                key=key,
                value=encode(answer.model_dump(include=_KEPT)).decode(),
                ttl_s=self.seconds,
            )
        except PortError as error:
            log.warning("response_cache.not_kept", error=str(error))

    def _told(
        self,
        found: tuple[CachedResult, AIMessage],
        stop: list[str] | None,
        run_manager: RunManager | None,
        kwargs: dict[str, Any],
    ) -> AIMessage:
        kept, answer = found
        tries = tries_of(run_manager)
        if tries is not None:
            tries.cached(self.asks(stop, kwargs))
        answer.response_metadata["cached_from"] = kept.execution_id
        return answer


def _whole(answer: AIMessage) -> ChatResult:
    return ChatResult(generations=[ChatGeneration(message=answer)])


def _piece(answer: AIMessage) -> ChatGenerationChunk:
    calls = [
        tool_call_chunk(
            name=call["name"], args=encode(call["args"]).decode(), id=call["id"], index=index
        )
        for index, call in enumerate(answer.tool_calls)
    ]
    return ChatGenerationChunk(
        message=AIMessageChunk(
            content=answer.content,
            additional_kwargs=answer.additional_kwargs,
            response_metadata=answer.response_metadata,
            tool_call_chunks=calls,
        )
    )


def _joined(pieces: list[ChatGenerationChunk]) -> BaseMessage:
    first, *rest = pieces
    whole = first + rest if rest else first
    message = message_chunk_to_message(cast("AIMessageChunk", whole.message))
    message.response_metadata = {**(whole.generation_info or {}), **message.response_metadata}
    return message

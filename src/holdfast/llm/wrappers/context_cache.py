"""Calls of a chat model whose static beginning its provider keeps."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from pydantic import Field, SkipValidation
from typing_extensions import override

from holdfast.llm.calling import MARK, CallMark, without_mark
from holdfast.llm.context_cache import CacheCall, ContextCacheStrategy
from holdfast.llm.usage import usage_of

from .base import WrappedChatModel


class ContextCacheChatModel(WrappedChatModel):
    """Takes the mark of a call, and sends the call as the provider's way of caching wants it.

    Blocking calls are sent as they are: what marks its calls never blocks.
    """

    strategy: SkipValidation[ContextCacheStrategy] = Field(exclude=True, repr=False)

    @override
    def _get_invocation_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return super()._get_invocation_params(stop, **without_mark(kwargs))

    @override
    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        return super()._get_ls_params(stop, **without_mark(kwargs))

    @override
    def _should_stream(self, **kwargs: Any) -> bool:
        return super()._should_stream(**without_mark(kwargs))

    @override
    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return super()._generate(messages, stop, run_manager, **without_mark(kwargs))

    @override
    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        yield from super()._stream(messages, stop, run_manager, **without_mark(kwargs))

    @override
    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        send, call = super()._agenerate, await self._prepared(messages, kwargs)
        while True:
            try:
                result = await send(call.messages, stop, run_manager, **call.kwargs)
                break
            except Exception as error:
                again = await self.strategy.instead(call, error)
                if again is None:
                    raise
                call = again
        if call.wanted is not None and result.generations:
            await self.strategy.answered(call, usage_of(result.generations[0].message))
        return result

    @override
    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        send, call = super()._astream, await self._prepared(messages, kwargs)
        used: UsageMetadata | None = None
        begun = False
        while True:
            stream = send(call.messages, stop, run_manager, **call.kwargs)
            try:
                async with aclosing(cast("Any", stream)) as pieces:
                    async for piece in pieces:
                        begun = True
                        used = add_usage(used, getattr(piece.message, "usage_metadata", None))
                        yield piece
                break
            except Exception as error:
                again = None if begun else await self.strategy.instead(call, error)
                if again is None:
                    raise
                call = again
        if call.wanted is not None and used is not None:
            message = AIMessage(content="", usage_metadata=used)
            await self.strategy.answered(call, usage_of(message))

    async def _prepared(self, messages: list[BaseMessage], kwargs: dict[str, Any]) -> CacheCall:
        mark = cast("CallMark | None", kwargs.get(MARK))
        plain = without_mark(kwargs)
        if mark is None or not 0 < mark.static < len(messages):
            return CacheCall(messages=messages, kwargs=plain)
        return await self.strategy.prepare(mark, messages, plain)

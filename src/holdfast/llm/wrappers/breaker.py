"""Calls of a chat model only while its breaker lets them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing
from typing import Any, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from pydantic import Field, SkipValidation
from typing_extensions import override

from holdfast.llm.calls import reported
from holdfast.ports import BreakersPort

from .base import WrappedChatModel


class BreakerChatModel(WrappedChatModel):
    """Asks before each call and tells how it ended; a stream ends with its last piece.

    Raises `BreakerOpen` instead of calling while the breaker is open.
    """

    breaker: str
    breakers: SkipValidation[BreakersPort] = Field(exclude=True, repr=False)

    @override
    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with reported(self.breakers, self.breakers.allow_in_thread(self.breaker)):
            return super()._generate(messages, stop, run_manager, **kwargs)

    @override
    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with reported(self.breakers, await self.breakers.allow(self.breaker)):
            return await super()._agenerate(messages, stop, run_manager, **kwargs)

    @override
    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        with (
            reported(self.breakers, self.breakers.allow_in_thread(self.breaker)),
            closing(cast("Any", super()._stream(messages, stop, run_manager, **kwargs))) as pieces,
        ):
            yield from pieces

    @override
    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        with reported(self.breakers, await self.breakers.allow(self.breaker)):
            stream = super()._astream(messages, stop, run_manager, **kwargs)
            async with aclosing(cast("Any", stream)) as pieces:
                async for piece in pieces:
                    yield piece

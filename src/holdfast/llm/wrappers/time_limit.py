"""A limit for the time of a whole call, its stream included."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import aclosing, closing
from typing import Any, TypeVar, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from typing_extensions import override

from holdfast.llm.deadline import Deadline, cancelled_for

from .base import WrappedChatModel

T = TypeVar("T")


class TimeLimitChatModel(WrappedChatModel):
    """Gives a call up that takes longer; the error is a temporary one.

    Blocking code cannot be stopped from outside: there a stream ends between two pieces, and a
    whole answer that comes too late is taken all the same, for it is paid.
    """

    seconds: float

    @override
    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        answer = self.inner._agenerate(messages, stop, run_manager, **kwargs)
        return await _in_time(answer, Deadline(self.seconds))

    @override
    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        deadline = Deadline(self.seconds)
        stream = cast("Any", self.inner._stream(messages, stop, run_manager, **kwargs))
        with closing(stream) as pieces:
            for piece in pieces:
                if not deadline.left:
                    pieces.throw(deadline.late())
                yield piece

    @override
    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        deadline = Deadline(self.seconds)
        stream = cast("Any", self.inner._astream(messages, stop, run_manager, **kwargs))
        async with aclosing(stream) as pieces:
            while True:
                # Only the wait for the next piece: what is done with one is the reader's time.
                try:
                    piece = await _in_time(anext(pieces), deadline)
                except StopAsyncIteration:
                    return
                yield piece


async def _in_time(work: Awaitable[T], deadline: Deadline) -> T:
    limit = asyncio.timeout(deadline.left)
    try:
        with cancelled_for(lambda: deadline.late() if limit.expired() else None):
            async with limit:
                return await work
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise deadline.late() from error

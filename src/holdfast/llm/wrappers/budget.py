"""Calls of a chat model only while budgets leave room for all they may use."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, closing
from dataclasses import asdict
from typing import Any, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.messages.utils import count_tokens_approximately
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from pydantic import Field, SkipValidation
from typing_extensions import override

from holdfast.domain.payload import encode
from holdfast.llm.calling import without_mark
from holdfast.llm.usage import usage_of
from holdfast.ports import BudgetsPort, PlannedCall, Spending

from .base import WrappedChatModel

_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "num_predict")
"""By which names a single call may bind a limit of its own."""

CHARS_PER_TOKEN = 4


class BudgetChatModel(WrappedChatModel):
    """Reserves before each call what it may use at most, and tells afterwards what it did use.

    Raises `BudgetExceeded` instead of calling where a budget has no room. An answer without
    figures, and one that is cut off, counts as what was reserved; a call that failed before any
    answer counts nothing.
    """

    alias: str
    provider: str
    model_name: str
    max_tokens: int = 0  # of an answer
    budgets: SkipValidation[BudgetsPort] = Field(exclude=True, repr=False)

    @override
    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        call = _Call(self.budgets, self.budgets.reserve_in_thread(self._planned(messages, kwargs)))
        with call:
            result = super()._generate(messages, stop, run_manager, **kwargs)
            call.answered(result)
            return result

    @override
    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        call = _Call(self.budgets, await self.budgets.reserve(self._planned(messages, kwargs)))
        with call:
            result = await super()._agenerate(messages, stop, run_manager, **kwargs)
            call.answered(result)
            return result

    @override
    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        call = _Call(self.budgets, self.budgets.reserve_in_thread(self._planned(messages, kwargs)))
        stream = super()._stream(messages, stop, run_manager, **kwargs)
        with call, closing(cast("Any", stream)) as pieces:
            for piece in pieces:
                call.streamed(piece)
                yield piece

    @override
    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        call = _Call(self.budgets, await self.budgets.reserve(self._planned(messages, kwargs)))
        stream = super()._astream(messages, stop, run_manager, **kwargs)
        with call:
            async with aclosing(cast("Any", stream)) as pieces:
                async for piece in pieces:
                    call.streamed(piece)
                    yield piece

    def _planned(self, messages: list[BaseMessage], bound: Mapping[str, Any]) -> PlannedCall | None:
        if not self.budgets.wanted():
            return None
        bound = without_mark(bound)
        own = [bound[name] for name in _LIMITS if isinstance(bound.get(name), int)]
        prompt = count_tokens_approximately(messages)
        if bound:  # tools, and the schema of the answer
            prompt += len(encode(bound)) // CHARS_PER_TOKEN
        return PlannedCall(
            alias=self.alias,
            provider=self.provider,
            model=self.model_name,
            tokens_input=prompt,
            tokens_output=own[0] if own else self.max_tokens,
        )


class _Call:
    """One call; leaving it settles its reservation, however it ended."""

    def __init__(self, budgets: BudgetsPort, reservation: str | None) -> None:
        self._budgets = budgets
        self._reservation = reservation
        self._begun = False  # something of an answer came
        self._answer: AIMessage | None = None
        self._sum: UsageMetadata | None = None
        self._metadata: dict[str, Any] = {}

    def answered(self, result: ChatResult) -> None:
        """The whole answer came."""
        self._begun = True
        message = result.generations[0].message if result.generations else None
        self._answer = message if isinstance(message, AIMessage) else None

    def streamed(self, piece: ChatGenerationChunk) -> None:
        """A piece of it came."""
        self._begun = True
        message = piece.message
        if self._reservation is not None and isinstance(message, AIMessageChunk):
            if message.usage_metadata:
                self._sum = add_usage(self._sum, message.usage_metadata)
            self._metadata |= message.response_metadata

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._reservation is None:
            return
        stopped = kind is not None and not issubclass(kind, Exception)  # perhaps after it was sent
        if kind is None or self._begun:
            if self._sum is not None:
                self._answer = AIMessage(
                    content="", usage_metadata=self._sum, response_metadata=self._metadata
                )
            used = None if kind is not None else usage_of(self._answer)
            told = None if used is None or used.usage == "unknown" else asdict(used)
            self._budgets.settle(Spending(self._reservation, usage=told, unknown=told is None))
        else:
            self._budgets.settle(Spending(self._reservation, unknown=stopped))

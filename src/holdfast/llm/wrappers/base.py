"""A chat model around another: it passes everything on, and a feature overrides what it needs.

Three shapes: `WrappedChatModel` changes what it likes, `AroundChatModel` does something before and
after each call, `AgainChatModel` makes another call when one has failed.
"""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from langchain_core.caches import BaseCache
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableBinding
from langchain_core.tools import BaseTool
from pydantic import Field, SerializeAsAny
from typing_extensions import override

from holdfast.llm.attempts import TELLS_ATTEMPTS, Asked
from holdfast.llm.base import ALIAS_KEY

RunManager = CallbackManagerForLLMRun | AsyncCallbackManagerForLLMRun


class WrappedChatModel(BaseChatModel):
    """Callbacks run once, at the outermost wrapper, and tell what the innermost model is.

    Only LangChain's own hooks are called on the inner model: its public methods would run the
    callbacks again. Whether a call that is not to be streamed to the caller is streamed from the
    provider is decided innermost, so that a failed try can be made again.
    """

    inner: SerializeAsAny[BaseChatModel]

    cache: BaseCache | bool | None = Field(default=False, exclude=True)
    metadata: dict[str, Any] | None = Field(
        default_factory=lambda: {TELLS_ATTEMPTS: True}, exclude=True
    )

    @property
    def _llm_type(self) -> str:
        return self.inner._llm_type

    @property
    def _identifying_params(self) -> Any:
        return self.inner._identifying_params

    @property
    def _serialized(self) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleVariableOverride] - cached there
        return self.inner._serialized

    def _get_invocation_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return self.inner._get_invocation_params(stop, **kwargs)

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        return self.inner._get_ls_params(stop, **kwargs)

    def _resolve_model_profile(self) -> Any:
        return self.inner.profile

    def _should_stream(self, *, run_manager: RunManager | None = None, **kwargs: Any) -> bool:
        # With a run it is `invoke` that asks.
        return run_manager is None and self.inner._should_stream(**kwargs)

    def _should_use_protocol_streaming(self, **kwargs: Any) -> bool:
        del kwargs
        return False

    def get_num_tokens(self, text: str) -> int:
        """See `BaseChatModel`."""
        return self.inner.get_num_tokens(text)

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """See `BaseChatModel`; what the inner model would bind is bound to the wrapper."""
        return self.bind(**bound_tools(self.inner, tools, tool_choice=tool_choice, **kwargs))

    def asks(self, stop: list[str] | None, kwargs: dict[str, Any]) -> Asked:
        """Whom a call asks, and how: what the record says of it."""
        told: dict[str, Any] = dict(self._get_ls_params(stop, **kwargs))
        parameters: dict[str, Any] = self._get_invocation_params(stop, **kwargs)
        model = told.get("ls_model_name") or parameters.get("model") or parameters.get("model_name")
        return Asked(
            provider=told.get("ls_provider"),
            model=str(model) if model else None,
            parameters=parameters,
            alias=told.get(ALIAS_KEY),
        )

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return self.inner._generate(messages, stop, run_manager, **kwargs)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return await self.inner._agenerate(messages, stop, run_manager, **kwargs)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        yield from self.inner._stream(messages, stop, run_manager, **kwargs)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        stream = cast("Any", self.inner._astream(messages, stop, run_manager, **kwargs))
        async with aclosing(stream) as pieces:
            async for piece in pieces:
                yield piece


@dataclass(slots=True, kw_only=True)
class Call:
    """One call on its way to the provider.

    Attributes:
        said: its answer, once it is there; of a stream the piece that tells what it used.
    """

    messages: list[BaseMessage]
    stop: list[str] | None
    run_manager: RunManager | None
    kwargs: dict[str, Any]
    said: BaseMessage | None = None


class AroundChatModel(WrappedChatModel):
    """Does something before each call and after it, however it was made and however it ends.

    A stream ends with its last piece, or when nobody reads on.
    """

    @contextmanager
    def _around_in_thread(self, call: Call) -> Generator[None]:
        """What is done around a call in blocking code."""
        del call
        yield

    @asynccontextmanager
    async def _around(self, call: Call) -> AsyncGenerator[None]:
        """What is done around a call; unless overridden the same as in blocking code."""
        with self._around_in_thread(call):
            yield

    def _ask(self, call: Call) -> ChatResult:
        return self.inner._generate(
            call.messages,
            call.stop,
            cast("CallbackManagerForLLMRun | None", call.run_manager),
            **call.kwargs,
        )

    async def _aask(self, call: Call) -> ChatResult:
        return await self.inner._agenerate(
            call.messages,
            call.stop,
            cast("AsyncCallbackManagerForLLMRun | None", call.run_manager),
            **call.kwargs,
        )

    @override
    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        call = Call(messages=messages, stop=stop, run_manager=run_manager, kwargs=kwargs)
        with self._around_in_thread(call):
            result = self._ask(call)
            call.said = result.generations[0].message
            return result

    @override
    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        call = Call(messages=messages, stop=stop, run_manager=run_manager, kwargs=kwargs)
        async with self._around(call):
            result = await self._aask(call)
            call.said = result.generations[0].message
            return result

    @override
    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        call = Call(messages=messages, stop=stop, run_manager=run_manager, kwargs=kwargs)
        stream = cast("Any", self.inner._stream(messages, stop, run_manager, **kwargs))
        with self._around_in_thread(call), closing(stream) as pieces:
            for piece in pieces:
                _heard(call, piece)
                yield piece

    @override
    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        call = Call(messages=messages, stop=stop, run_manager=run_manager, kwargs=kwargs)
        async with self._around(call):
            stream = cast("Any", self.inner._astream(messages, stop, run_manager, **kwargs))
            async with aclosing(stream) as pieces:
                async for piece in pieces:
                    _heard(call, piece)
                    yield piece


def _heard(call: Call, piece: ChatGenerationChunk) -> None:
    if getattr(piece.message, "usage_metadata", None) is not None:
        call.said = piece.message


@dataclass(frozen=True, slots=True, kw_only=True)
class Next:
    """What follows a failed try."""

    model: BaseChatModel
    kwargs: dict[str, Any]
    pause_s: float = 0.0


@dataclass(slots=True)
class Failed:
    """The tries of a call that have failed so far."""

    kwargs: dict[str, Any]  # of the call, as it came
    errors: list[Exception] = field(default_factory=list[Exception])


class AgainChatModel(WrappedChatModel):
    """Makes another call when one has failed, as long as the caller has seen nothing of it.

    Of a stream the caller sees the first piece that says something; what comes before it is held
    back so long. From then on an error is passed on.
    """

    @abstractmethod
    def _first(self, kwargs: dict[str, Any]) -> Next:
        """The first try."""

    @abstractmethod
    def _after(self, failed: Failed) -> Next | None:
        """The try after those that failed; None when there is to be none."""

    def _final(self, failed: Failed) -> Exception:
        """The error that the caller gets when no try is left."""
        return failed.errors[-1]

    def _then(self, failed: Failed, error: Exception) -> Next:
        """What follows an error; raises it, or what stands for all, when nothing does."""
        failed.errors.append(error)
        then = self._after(failed)
        if then is None:
            final = self._final(failed)
            if final is error:
                raise error
            raise final from error
        return then

    @override
    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        failed, now = Failed(kwargs), self._first(kwargs)
        while True:
            try:
                return now.model._generate(messages, stop, run_manager, **now.kwargs)
            except Exception as error:  # noqa: BLE001 - passed on, unless another try is made
                now = self._then(failed, error)
            time.sleep(now.pause_s)

    @override
    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        failed, now = Failed(kwargs), self._first(kwargs)
        while True:
            try:
                return await now.model._agenerate(messages, stop, run_manager, **now.kwargs)
            except Exception as error:  # noqa: BLE001 - passed on, unless another try is made
                now = self._then(failed, error)
            await asyncio.sleep(now.pause_s)

    @override
    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        failed, now = Failed(kwargs), self._first(kwargs)
        while True:
            held: list[ChatGenerationChunk] | None = []
            try:
                stream = cast("Any", now.model._stream(messages, stop, run_manager, **now.kwargs))
                with closing(stream) as pieces:
                    for piece in pieces:
                        if held is not None and says_something(piece):
                            begun, held = held, None
                            yield from begun
                        if held is None:
                            yield piece
                        else:
                            held.append(piece)
                yield from held or ()
                return
            except Exception as error:
                if held is None:
                    raise
                now = self._then(failed, error)
            time.sleep(now.pause_s)

    @override
    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        failed, now = Failed(kwargs), self._first(kwargs)
        while True:
            held: list[ChatGenerationChunk] | None = []
            try:
                stream = cast("Any", now.model._astream(messages, stop, run_manager, **now.kwargs))
                async with aclosing(stream) as pieces:
                    async for piece in pieces:
                        if held is not None and says_something(piece):
                            begun, held = held, None
                            for one in begun:
                                yield one
                        if held is None:
                            yield piece
                        else:
                            held.append(piece)
                for one in held or ():
                    yield one
                return
            except Exception as error:
                if held is None:
                    raise
                now = self._then(failed, error)
            await asyncio.sleep(now.pause_s)


def says_something(piece: ChatGenerationChunk) -> bool:
    """Whether a piece of a stream holds a part of the answer."""
    return bool(piece.message.content) or bool(getattr(piece.message, "tool_call_chunks", None))


def bound_tools(
    model: BaseChatModel,
    tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
    **kwargs: Any,
) -> dict[str, Any]:
    """What a model binds when it is given tools.

    Raises:
        NotImplementedError: it binds tools in a way of its own.
    """
    bound = model.bind_tools(tools, **kwargs)
    if not isinstance(bound, RunnableBinding):
        raise NotImplementedError(f"{type(model).__name__} binds tools in its own way")
    return dict(bound.kwargs)

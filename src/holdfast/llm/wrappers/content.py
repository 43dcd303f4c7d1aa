"""Calls of a chat model whose texts were checked: what it reads, and what it says."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from langchain_core.callbacks import (
    AsyncCallbackManagerForLLMRun,
    BaseRunManager,
    CallbackManagerForLLMRun,
)
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult, LLMResult
from langchain_core.runnables import RunnableConfig, ensure_config
from pydantic import Field, SkipValidation
from typing_extensions import override

from holdfast.llm.content.gate import REDACTED, Gate, held_back
from holdfast.llm.content.rules import Rule, read_rules

from .base import WrappedChatModel

R = TypeVar("R", bound=BaseRunManager)


def checked(model: BaseChatModel, rules: Sequence[Mapping[str, Any]]) -> BaseChatModel:
    """A chat model whose input and output pass the rules that redact or refuse.

    To be put around all other wrappers: what is refused is no attempt, and answers out of a cache
    are checked too.

    Args:
        model: any chat model.
        rules: fields of `Rule`, besides those it has; without any that acts the model itself is
            given back.
    """
    read = read_rules(list(rules), "content checks")
    if isinstance(model, CheckedChatModel):  # one around another would not see its input
        model, read = model.inner, (*model.rules, *read)
    given, said = Gate(read, "input"), Gate(read, "output")
    if not (given.acts or said.acts):
        return model
    return CheckedChatModel(
        inner=model, rules=read, given=given, said=said, metadata=model.metadata
    )


class CheckedChatModel(WrappedChatModel):
    """Changes messages before a run begins, so that nobody who follows the run sees them.

    Answers are checked whole: with rules for the output there are no pieces, a stream is one.
    """

    rules: SkipValidation[tuple[Rule, ...]] = Field(exclude=True, repr=False)
    given: SkipValidation[Gate] = Field(exclude=True, repr=False)
    said: SkipValidation[Gate] = Field(exclude=True, repr=False)

    def _should_stream(self, **kwargs: Any) -> bool:
        return not self.said.acts and super()._should_stream(**kwargs)

    def _should_use_protocol_streaming(self, **kwargs: Any) -> bool:
        del kwargs
        return False

    @override
    def generate(
        self,
        messages: list[list[BaseMessage]],
        *args: Any,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        """See `BaseChatModel`."""
        messages, metadata = self._passed(messages, metadata)
        return super().generate(messages, *args, metadata=metadata, **kwargs)

    @override
    async def agenerate(
        self,
        messages: list[list[BaseMessage]],
        *args: Any,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        """See `BaseChatModel`."""
        messages, metadata = self._passed(messages, metadata)
        return await super().agenerate(messages, *args, metadata=metadata, **kwargs)

    @override
    def stream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessageChunk]:
        """See `BaseChatModel`."""
        messages, config = self._passed_input(input, config)
        yield from super().stream(messages, config, **kwargs)

    @override
    async def astream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessageChunk]:
        """See `BaseChatModel`."""
        messages, config = self._passed_input(input, config)
        async for piece in super().astream(messages, config, **kwargs):
            yield piece

    @override
    def stream_events(self, *args: Any, **kwargs: Any) -> Any:
        """Not there: events would tell of an answer before it is checked.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("a model with content checks tells no events; use stream")

    @override
    def astream_events(self, *args: Any, **kwargs: Any) -> Any:
        """Not there, see `stream_events`.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("a model with content checks tells no events; use astream")

    # Whole answers by LangChain's own method, which streams from the provider where that is set.

    @override
    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        if not self.said.acts:
            return super()._generate(messages, stop, run_manager, **kwargs)
        with _holding_back():
            answer = self.inner._generate_with_cache(
                messages, stop, run_manager=_unheard(run_manager), **kwargs
            )
        return self._let_out(answer)

    @override
    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        if not self.said.acts:
            return await super()._agenerate(messages, stop, run_manager, **kwargs)
        with _holding_back():
            answer = await self.inner._agenerate_with_cache(
                messages, stop, run_manager=_unheard(run_manager), **kwargs
            )
        return self._let_out(answer)

    def _passed(
        self, messages: list[list[BaseMessage]], metadata: dict[str, Any] | None
    ) -> tuple[list[list[BaseMessage]], dict[str, Any] | None]:
        if not self.given.acts:
            return messages, metadata
        changed: list[list[BaseMessage]] = []
        total: Counter[str] = Counter()
        for one in messages:
            passed, taken = self.given.messages(one)
            changed.append(passed)
            total += taken
        return changed, {**(metadata or {}), REDACTED: dict(total)} if total else metadata

    def _passed_input(
        self, given: LanguageModelInput, config: RunnableConfig | None
    ) -> tuple[list[BaseMessage], RunnableConfig]:
        config = ensure_config(config)
        (messages,), metadata = self._passed(
            [self._convert_input(given).to_messages()], config.get("metadata")
        )
        return messages, {**config, "metadata": metadata or {}}

    def _let_out(self, answer: ChatResult) -> ChatResult:
        """An answer as it may go on.

        Raises:
            ContentRefused: a check that refuses found something in it.
        """
        passed, taken = self.said.messages([one.message for one in answer.generations])
        if not taken:
            return answer
        return ChatResult(
            generations=[_generation(message, taken) for message in passed],
            llm_output=answer.llm_output,
        )


def _generation(message: BaseMessage, taken: Counter[str]) -> ChatGeneration:
    facts = {**message.response_metadata, REDACTED: dict(taken)}
    changed = message.model_copy(update={"response_metadata": facts})
    return ChatGeneration(message=cast("AIMessage", changed))


@contextmanager
def _holding_back() -> Generator[None]:
    token = held_back.set(True)
    try:
        yield
    finally:
        held_back.reset(token)


def _unheard(run_manager: R | None) -> R | None:
    """The same run, heard only by those who keep what is held back to themselves."""
    if run_manager is None:
        return None
    kind = type(run_manager)
    return kind(
        run_id=run_manager.run_id,
        handlers=[h for h in run_manager.handlers if getattr(h, "heeds_held_back", False)],
        inheritable_handlers=[],
        parent_run_id=run_manager.parent_run_id,
    )

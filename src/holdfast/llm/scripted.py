"""A chat model without a language model: the app's own rules answer, and every answer says so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, cast

import orjson
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage
from langchain_core.messages.tool import ToolCallChunk, tool_call_chunk
from langchain_core.messages.utils import count_tokens_approximately
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.outputs.chat_generation import ChatGeneration
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, Field

from holdfast.domain.ids import new_id
from holdfast.errors import HoldfastError, ModelError

from .base import Provider

if TYPE_CHECKING:
    from holdfast.ports import ModelConfig

LABEL = "rules, not a language model"
"""Shown wherever a scripted answer is shown."""

_PIECES = 12
_PIECE_CHARS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedRequest:
    """What the rules are asked."""

    operation: str  # name of the step; empty when none was bound
    system: str  # all system texts, joined by empty lines
    user: str  # the newest user text
    messages: Sequence[BaseMessage]
    schema_name: str | None = None  # None: free text is wanted
    schema: Mapping[str, Any] | None = None  # JSON schema of the wanted answer
    tools: Sequence[str] = ()  # names of those that may be called

    @property
    def tool_results(self) -> Mapping[str, str]:
        """What tools have said since the newest user text: the newest result of each, by name."""
        said: dict[str, str] = {}
        for message in self.messages:
            if isinstance(message, ToolMessage):
                said[message.name or ""] = str(message.text)
            elif message.type == "human":
                said = {}
        return said


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedCall:
    """A call of a tool.

    Attributes:
        name: the tool's.
        args: its arguments; a text plays a model that writes them as broken JSON.
        id: of the call; None for a new one.
    """

    name: str
    args: Mapping[str, Any] | str = field(default_factory=dict[str, Any])
    id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedAnswer:
    """An answer with control over how it arrives and what it is said to have used."""

    text: str = ""
    tool_calls: Sequence[ScriptedCall | Mapping[str, Any]] = ()  # mappings: {"name", "args"}
    tokens_input: int | None = None  # None: counted approximately and marked as an estimate
    tokens_output: int | None = None
    tokens_cached: int | None = None
    tokens_reasoning: int | None = None
    latency_s: float = 0.0  # seconds until the first piece
    chunks: Sequence[str] | None = None  # the pieces it streams in; None: about a dozen
    finish_reason: str = "stop"


Script = Callable[[ScriptedRequest], "str | Mapping[str, Any] | BaseModel | ScriptedAnswer"]
"""An app's rules: called once per model call, on the event loop, so they must not block."""


class ScriptedProvider(Provider):
    """Makes chat models out of rules."""

    name: ClassVar[str] = "scripted"
    scripted: ClassVar[bool] = True

    def make(self, config: ModelConfig, script: Callable[..., Any] | None) -> ScriptedChatModel:
        """See `Provider.make`."""
        if script is None:
            raise ModelError(f"alias {config.alias} is scripted and has no rules")
        return ScriptedChatModel(
            script=script, model_name=config.model, streaming=True, cache=False
        )

    def structured(self, name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
        """See `Provider.structured`."""
        return {"schema_name": name, "json_schema": dict(schema)}

    def options(self, operation: str) -> dict[str, Any]:
        """See `Provider.options`."""
        return {"operation": operation}


class ScriptedChatModel(BaseChatModel):
    """A LangChain chat model that answers by a script and streams what it says.

    Bound keyword arguments `operation`, `schema_name`, `json_schema` and `tools` reach the script.
    """

    script: Callable[..., Any] = Field(exclude=True, repr=False)
    model_name: str = "rules"
    streaming: bool = True

    @property
    def _llm_type(self) -> str:
        return "scripted"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model_name, "label": LABEL}

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """See `BaseChatModel`; the rules are told which there are."""
        choice = {} if tool_choice is None else {"tool_choice": tool_choice}
        described = [convert_to_openai_tool(tool) for tool in tools]
        return self.bind(tools=described, **choice, **kwargs)

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        del stop, kwargs
        return LangSmithParams(
            ls_provider="scripted", ls_model_name=self.model_name, ls_model_type="chat"
        )

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        del stop, run_manager
        answer = self._answer(messages, kwargs)
        time.sleep(answer.latency_s)
        whole = AIMessageChunk(content=answer.text, tool_call_chunks=_calls(answer))
        message = AIMessage(
            content=answer.text,
            tool_calls=whole.tool_calls,
            invalid_tool_calls=whole.invalid_tool_calls,
            **self._facts(messages, answer, kwargs),
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        del stop, run_manager
        answer = self._answer(messages, kwargs)
        time.sleep(answer.latency_s)
        yield from self._chunks(messages, answer, kwargs)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        del stop, run_manager
        answer = self._answer(messages, kwargs)
        if answer.latency_s:
            await asyncio.sleep(answer.latency_s)
        for chunk in self._chunks(messages, answer, kwargs):
            yield chunk

    def _answer(self, messages: list[BaseMessage], kwargs: dict[str, Any]) -> ScriptedAnswer:
        request = ScriptedRequest(
            operation=kwargs.get("operation") or "",
            system="\n\n".join(m.text for m in messages if m.type == "system"),
            user=next((m.text for m in reversed(messages) if m.type == "human"), ""),
            messages=messages,
            schema_name=kwargs.get("schema_name"),
            schema=kwargs.get("json_schema"),
            tools=tuple(_tool_name(tool) for tool in kwargs.get("tools") or ()),
        )
        try:
            said = self.script(request)
        except HoldfastError:
            raise  # rules may play a failing provider
        except Exception as error:
            raise ModelError(
                f"the rules {_name(self.script)} failed on operation {request.operation!r}: "
                f"{type(error).__name__}: {error}",
                error_class="permanent",
            ) from error
        return self._as_answer(said, request.operation)

    def _as_answer(self, said: object, operation: str) -> ScriptedAnswer:
        if isinstance(said, ScriptedAnswer):
            return said
        if isinstance(said, str):
            return ScriptedAnswer(text=said)
        if isinstance(said, BaseModel):
            return ScriptedAnswer(text=said.model_dump_json())
        if isinstance(said, Mapping):
            body = dict(cast("Mapping[str, Any]", said))
            return ScriptedAnswer(text=orjson.dumps(body).decode())
        raise ModelError(
            f"the rules {_name(self.script)} answered operation {operation!r} with "
            f"{type(said).__name__}",
            error_class="permanent",
            hint="return text, a mapping, a pydantic model or a ScriptedAnswer",
        )

    def _chunks(
        self, messages: list[BaseMessage], answer: ScriptedAnswer, kwargs: dict[str, Any]
    ) -> Iterator[ChatGenerationChunk]:
        pieces = _pieces(answer.text) if answer.chunks is None else list(answer.chunks)
        for piece in pieces[:-1]:
            yield ChatGenerationChunk(message=AIMessageChunk(content=piece))
        yield ChatGenerationChunk(
            message=AIMessageChunk(
                content=pieces[-1] if pieces else "",
                tool_call_chunks=_calls(answer),
                chunk_position="last",
                **self._facts(messages, answer, kwargs),
            )
        )

    def _facts(
        self, messages: list[BaseMessage], answer: ScriptedAnswer, kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        """The keyword arguments that give a message its usage and its label."""
        tokens_input, tokens_output = answer.tokens_input, answer.tokens_output
        estimated = tokens_input is None or tokens_output is None
        if tokens_input is None:
            tokens_input = count_tokens_approximately(messages)
            schema = kwargs.get("json_schema")
            if schema:
                tokens_input += len(orjson.dumps(schema)) // 4
        if tokens_output is None:
            whole = AIMessageChunk(content=answer.text, tool_call_chunks=_calls(answer))
            tokens_output = count_tokens_approximately([whole])
        return {
            "usage_metadata": {
                "input_tokens": tokens_input,
                "output_tokens": tokens_output,
                "total_tokens": tokens_input + tokens_output,
                "input_token_details": _given(cache_read=answer.tokens_cached),
                "output_token_details": _given(reasoning=answer.tokens_reasoning),
            },
            "response_metadata": {
                "usage": "estimated" if estimated else "reported",
                "model_provider": "scripted",
                "model_name": self.model_name,
                "finish_reason": "tool_calls" if answer.tool_calls else answer.finish_reason,
                "label": LABEL,
            },
        }


def _calls(answer: ScriptedAnswer) -> list[ToolCallChunk]:
    """As a stream brings them: the arguments are JSON, or what the rules say in its place."""
    chunks: list[ToolCallChunk] = []
    for index, call in enumerate(answer.tool_calls):
        made = call if isinstance(call, ScriptedCall) else ScriptedCall(**call)
        args = made.args if isinstance(made.args, str) else orjson.dumps(dict(made.args)).decode()
        id_ = made.id or f"call_{new_id()}"
        chunks.append(tool_call_chunk(name=made.name, args=args, id=id_, index=index))
    return chunks


def _tool_name(tool: Mapping[str, Any]) -> str:
    return str(tool.get("function", tool).get("name", ""))


def _given(**numbers: int | None) -> dict[str, int]:
    return {name: number for name, number in numbers.items() if number is not None}


def _pieces(text: str) -> list[str]:
    size = max(_PIECE_CHARS, -(-len(text) // _PIECES))
    return [text[at : at + size] for at in range(0, len(text), size)]


def _name(script: Callable[..., Any]) -> str:
    owner = script if hasattr(script, "__qualname__") else type(script)
    return f"{owner.__module__}.{owner.__qualname__}"

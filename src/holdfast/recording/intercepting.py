"""Where a replay steps in: calls of models and tools, of whatever make, answered from a record.

LangChain has no public place where a chat model's or a tool's answer can be supplied for every
model and tool of a graph made elsewhere, so its own methods are wrapped, once in a process that
replays. A call that belongs to no replay passes through unchanged.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MethodType
from typing import Any, cast

from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel, BaseLLM
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage, convert_to_messages
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool
from langgraph.types import Command

from holdfast.domain.replays import REPLAYED, RecordedAttempt, RecordedStep
from holdfast.domain.status import StepStatus
from holdfast.errors import ReplayMismatch
from holdfast.llm.attempts import Asked

from .collector import OpenStep
from .handler import RecordingHandler
from .replaying import Replaying, call_error_of, error_of, replaying_now

_installing = threading.Lock()
_installed = False

_MESSAGE_FIELDS = (
    "name",
    "id",
    "tool_calls",
    "invalid_tool_calls",
    "additional_kwargs",
    "response_metadata",
    "usage_metadata",
)


def install() -> None:
    """Wrap LangChain's methods; further calls do nothing."""
    global _installed
    with _installing:
        if not _installed:
            _wrap_models()
            for name in ("run", "arun"):  # `arun` gives back what is to be awaited
                _wrap(BaseTool, name, _calling)
            for name in ("invoke", "ainvoke"):
                _wrap(BaseRetriever, name, _searching)
            _installed = True


def _wrap(kind: type[Any], name: str, wrapper: Callable[..., Callable[..., Any]]) -> None:
    """Put a method in the place of another, which it is given to call.

    Raises:
        AttributeError: this version of LangChain has no such method.
    """
    setattr(kind, name, wrapper(getattr(kind, name)))


def _wrap_models() -> None:
    _wrap(BaseChatModel, "_generate_with_cache", _generating)
    _wrap(BaseChatModel, "_agenerate_with_cache", _agenerating)
    _wrap(BaseChatModel, "_should_stream", _streaming)
    for name in ("_iter_v2_events", "_aiter_v2_events"):
        _wrap(BaseChatModel, name, _telling_events)
    for name in ("_generate_helper", "_agenerate_helper"):
        _wrap(BaseLLM, name, _completing)


def _generating(generate: Callable[..., ChatResult]) -> Callable[..., ChatResult]:
    def generated(*args: Any, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        answer = _answer(run_manager)
        return answer or generate(*args, run_manager=run_manager, **kwargs)

    return generated


def _agenerating(
    generate: Callable[..., Awaitable[ChatResult]],
) -> Callable[..., Awaitable[ChatResult]]:
    async def generated(*args: Any, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        answer = _answer(run_manager)
        return answer or await generate(*args, run_manager=run_manager, **kwargs)

    return generated


def _streaming(streams: Callable[..., bool]) -> Callable[..., bool]:
    def streaming(*args: Any, run_manager: Any = None, **kwargs: Any) -> bool:
        # Without a run it is `stream` that asks, and then falls back to one whole answer.
        if run_manager is None and replaying_now.get() is not None:
            return False
        return streams(*args, run_manager=run_manager, **kwargs)

    return streaming


def _telling_events(events: Callable[..., Any]) -> Callable[..., Any]:
    def told(*args: Any, run_manager: Any = None, **kwargs: Any) -> Any:
        found = _place(run_manager)
        if found is not None:
            replaying, step = found
            replaying.refuse_unanswerable(step.number if step else None, "a model's event stream")
        return events(*args, run_manager=run_manager, **kwargs)

    return told


def _completing(complete: Callable[..., Any]) -> Callable[..., Any]:
    def completed(self: BaseLLM, prompts: Any, stop: Any, run_managers: Any, **kwargs: Any) -> Any:
        for found in filter(None, map(_place, run_managers)):
            replaying, step = found
            replaying.refuse_unanswerable(step.number if step else None, "a completion model")
        return complete(self, prompts, stop, run_managers, **kwargs)

    return completed


def _calling(call: Callable[..., Any]) -> Callable[..., Any]:
    def called(self: BaseTool, *args: Any, **kwargs: Any) -> Any:
        return call(_answering(self), *args, **kwargs)

    return called


def _searching(search: Callable[..., Any]) -> Callable[..., Any]:
    def searched(self: BaseRetriever, *args: Any, **kwargs: Any) -> Any:
        return search(_finding(self), *args, **kwargs)

    return searched


def _place(run_manager: Any) -> tuple[Replaying, OpenStep | None] | None:
    """The replay and the step that a call belongs to; None when it belongs to no replay."""
    handler = _replaying_handler(run_manager)
    if handler is None or handler.collector.replaying is None:
        return None
    return handler.collector.replaying, handler.step(run_manager.run_id)


def _replaying_handler(run_manager: Any) -> RecordingHandler | None:
    """The recorder of the replay that a call belongs to; None when it belongs to none."""
    for handler in getattr(run_manager, "handlers", ()):
        if isinstance(handler, RecordingHandler) and handler.collector.replaying is not None:
            return handler
    return None


def _answer(run_manager: Any) -> ChatResult | None:
    """The recorded answer to a model call; None when the model is to be asked.

    Raises:
        ReplayMismatch: the record has none.
        RecordedError: the provider failed then, and so it does now.
    """
    handler = _replaying_handler(run_manager)
    if handler is None or handler.collector.replaying is None:
        return None
    step = handler.step(run_manager.run_id)
    if step is None or not step.call:
        raise ReplayMismatch("a model is asked in a step that is not recorded")
    what = f'node "{step.operation}"'
    recorded = handler.collector.replaying.attempts(step.number, step.call, what)
    if not recorded:
        return None
    *failed, last = recorded
    for one in failed:
        _begin(handler, step, one)
        handler.collector.finish_attempt(step, status=StepStatus.FAILED, error=error_of(one))
    _begin(handler, step, last)
    if last.answer is None:
        raise error_of(last)
    return ChatResult(generations=[ChatGeneration(message=_message(last.answer))])


def _begin(handler: RecordingHandler, step: OpenStep, recorded: RecordedAttempt) -> None:
    """Open an attempt that repeats a recorded one, unless the call itself has done so."""
    if step.attempt is None:
        asked = step.asked
        if recorded.n > step.call:  # by what the record says: which one that was, nobody asks now
            parameters = dict(recorded.parameters)
            model = parameters.pop("model", recorded.model)
            asked = Asked(provider=recorded.provider, model=model, parameters=parameters)
        handler.start_attempt(step, asked)
    handler.collector.supplied(step, REPLAYED)


def _message(answer: Mapping[str, Any]) -> BaseMessage:
    fields = {name: answer[name] for name in _MESSAGE_FIELDS if answer.get(name)}
    return AIMessage(content=answer.get("content") or "", **fields)


def _answering(tool: BaseTool) -> BaseTool:
    """The tool itself, or in a replay its twin that answers from the record."""
    if replaying_now.get() is None:
        return tool
    twin = tool.model_copy()
    own, aown = (getattr(tool, name) for name in ("_run", "_arun"))

    def given(run_manager: Any) -> Any:
        found = _place(run_manager)
        if found is None:
            return _CALL
        replaying, step = found
        recorded = replaying.call(step.number if step else None, f"tool {tool.name}")
        if recorded is None:
            return _CALL
        twin.response_format = "content"  # an artifact is in the recorded message already
        return _result(recorded)

    def answered(
        _: BaseTool, *args: Any, config: RunnableConfig, run_manager: Any = None, **kwargs: Any
    ) -> Any:
        answer = given(run_manager)
        if answer is not _CALL:
            return answer
        return own(*args, **kwargs, **_wanted(own, config, run_manager))

    async def aanswered(
        _: BaseTool, *args: Any, config: RunnableConfig, run_manager: Any = None, **kwargs: Any
    ) -> Any:
        answer = given(run_manager)
        if answer is not _CALL:
            return answer
        return await aown(*args, **kwargs, **_wanted(aown, config, run_manager))

    # On the twin alone: its class, and with it all else that the tool does, stays the same.
    object.__setattr__(twin, "_run", MethodType(answered, twin))
    object.__setattr__(twin, "_arun", MethodType(aanswered, twin))
    return twin


def _finding(retriever: BaseRetriever) -> BaseRetriever:
    """The retriever itself, or in a replay its twin that finds what was found."""
    if replaying_now.get() is None:
        return retriever
    twin = retriever.model_copy()
    own, aown = (getattr(retriever, name) for name in _SEARCHES)

    def given(run_manager: Any) -> list[Document] | None:
        found = _place(run_manager)
        if found is None:
            return None
        replaying, step = found
        recorded = replaying.call(step.number if step else None, "retriever")
        if recorded is None:
            return None
        if recorded.status == "failed":
            raise call_error_of(recorded)
        return [Document(**one) for one in recorded.output or ()]

    def searched(_: BaseRetriever, query: str, *, run_manager: Any = None, **kwargs: Any) -> Any:
        known = given(run_manager)
        return own(query, run_manager=run_manager, **kwargs) if known is None else known

    async def asearched(
        _: BaseRetriever, query: str, *, run_manager: Any = None, **kwargs: Any
    ) -> Any:
        known = given(run_manager)
        return await aown(query, run_manager=run_manager, **kwargs) if known is None else known

    for name, method in zip(_SEARCHES, (searched, asearched), strict=True):
        object.__setattr__(twin, name, MethodType(method, twin))
    return twin


_SEARCHES = ("_get_relevant_documents", "_aget_relevant_documents")

_CALL = object()
"""Stands for: the tool is to be called."""


def _wanted(method: Callable[..., Any], config: RunnableConfig, run_manager: Any) -> dict[str, Any]:
    known = inspect.signature(method).parameters
    offered = {"config": config, "run_manager": run_manager}
    return {name: value for name, value in offered.items() if name in known}


def _result(recorded: RecordedStep) -> Any:
    if recorded.status == "failed":
        raise call_error_of(recorded)
    output = recorded.output
    if not isinstance(output, dict):
        return output
    fields = cast("dict[str, Any]", output)
    if fields.get("type") == "tool" and "tool_call_id" in fields:
        return ToolMessage(**{k: v for k, v in fields.items() if k != "type"})
    if fields.keys() == {"graph", "update", "resume", "goto"}:
        return Command(**{**fields, "update": _with_messages(fields["update"])})
    return fields


def _with_messages(update: Any) -> Any:
    """An update of channels, its messages made of what the record has of them."""
    if not isinstance(update, dict):
        return update
    return {
        name: convert_to_messages(cast("Sequence[Any]", value)) if _are_messages(value) else value
        for name, value in cast("dict[str, Any]", update).items()
    }


def _are_messages(value: Any) -> bool:
    items = cast("list[Any]", value) if isinstance(value, list) else []
    return bool(items) and all(
        isinstance(one, dict) and "content" in one and "type" in one for one in items
    )

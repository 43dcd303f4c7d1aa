"""LangChain callbacks into steps: any graph, node, model, tool or retriever run is recorded."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from typing import Any, cast
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.messages import BaseMessage
from langchain_core.outputs import (
    ChatGeneration,
    ChatGenerationChunk,
    GenerationChunk,
    LLMResult,
)
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphBubbleUp, ParentCommand
from langgraph.types import Command

from holdfast.domain.changes import CACHED, NO_USAGE
from holdfast.domain.prompts import Pin
from holdfast.domain.status import StepStatus
from holdfast.llm.attempts import TELLS_ATTEMPTS, Asked, note_call
from holdfast.llm.base import ALIAS_KEY
from holdfast.llm.content.gate import REDACTED, held_back, told
from holdfast.llm.usage import answer_facts, usage_of
from holdfast.ports import EmbeddingCall

from .collector import Collector, OpenStep, Sent
from .messages import (
    keep_messages,
    message_fields,
    without_probabilities,
    without_secrets,
)

HIDDEN_TAG = "langsmith:hidden"
"""LangGraph marks its own plumbing (channel writes, branches' writers) with this tag."""

INNER_GRAPH = "holdfast:inner"
"""Name of the runs by which a node of ours runs further nodes; not shown, its nodes are."""

KIND_KEY = "holdfast_kind"
VERSION_KEY = "holdfast_version"

RETRIEVAL, INDEX = "retrieval", "index"

TELL_THEMSELVES = frozenset({"model", RETRIEVAL, INDEX})
"""Kinds of steps whose attempts are the calls that they make, and not their tries."""

_PLAIN_PARAMETERS = frozenset({"stream", "_type", "model", "model_name", "messages", "input"})


class RecordingHandler(BaseCallbackHandler):
    """Feeds one execution's collector.

    Runs inline: LangChain calls it in the task of the run itself, so order is the order of
    things, and nothing is left behind when a run is cancelled.
    """

    run_inline = True
    raise_error = False
    heeds_held_back = True  # see `llm.content.gate.held_back`

    def __init__(self, collector: Collector) -> None:
        self.collector = collector
        self._lock = threading.Lock()
        # Run id to the step that stands for it; None for the graph's own outermost run.
        self._steps: dict[UUID, OpenStep | None] = {}
        self._hidden: set[UUID] = set()

    def step(self, run_id: UUID | None) -> OpenStep | None:
        """The step a run belongs to."""
        return self._steps.get(run_id) if run_id is not None else None

    def on_chain_start(
        self,
        serialized: dict[str, Any] | None,  # noqa: ARG002
        inputs: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        with self.collector.guard("chain.start"):
            if parent_run_id is None:
                self._steps[run_id] = None
                return
            parent = self._steps.get(parent_run_id)
            tags = tags or []
            is_node = any(tag.startswith("graph:step") for tag in tags)
            name = str(kwargs.get("name") or "runnable")
            # The graph inside a group, say, is no step of its own.
            if HIDDEN_TAG in tags or (name == INNER_GRAPH and not is_node):
                self._hidden.add(run_id)
                self._steps[run_id] = parent
                return
            metadata = metadata or {}
            step = self.collector.start_step(
                kind=str(metadata.get(KIND_KEY, "node")) if is_node else "chain",
                operation=name,
                version=metadata.get(VERSION_KEY) if is_node else None,
                parent=parent.number if parent else None,
                input=inputs,
            )
            step.ours = is_node and KIND_KEY in metadata
            self._steps[run_id] = step

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002
        self._end(run_id, output=outputs)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002
        if isinstance(error, ParentCommand):  # how a subgraph hands a command to its parent
            self._end(run_id, output=error.args[0] if error.args else None)
            return
        if not self._halt(run_id, error):
            self._end(run_id, error=error)

    def _halt(self, run_id: UUID, error: BaseException) -> bool:
        """Leave the step of a node that waits open; whether the error says that it does."""
        if not isinstance(error, GraphBubbleUp):
            return False
        with self.collector.guard("step.halt"):
            step = self._steps.pop(run_id, None)
            if run_id not in self._hidden and step is not None:
                self.collector.halt_step(step)
            self._hidden.discard(run_id)
        return True

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        with self.collector.guard("model.start"):
            batch = messages[0] if messages else []
            sent = Sent(*keep_messages(self.collector.texts, batch))
            self._start_model(serialized, run_id, parent_run_id, metadata, sent, kwargs)

    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        with self.collector.guard("model.start"):
            text = self.collector.texts.add("\n".join(prompts))
            sent = Sent(None, text, text)
            self._start_model(serialized, run_id, parent_run_id, metadata, sent, kwargs)

    def on_llm_new_token(
        self,
        token: str | list[str | dict[str, Any]],
        *,
        run_id: UUID,
        chunk: GenerationChunk | ChatGenerationChunk | None = None,
        **kwargs: Any,  # noqa: ARG002
    ) -> None:
        self.piece(run_id, token, chunk)

    def piece(self, run_id: UUID, token: str | list[Any], chunk: Any) -> None:
        """See `llm.wrappers.pieces.TakesPieces`."""
        step = self._steps.get(run_id)
        if step is None:
            return
        attempt = step.attempt
        if attempt is not None and attempt.first_token_us is None:
            self.collector.first_token(step)
        if held_back.get():
            return
        if not isinstance(token, str):  # a list of blocks, as Gemini and thinking models stream
            token = str(chunk.text) if chunk is not None else ""
        if token:
            self.collector.tokens(step, token)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002
        output: Any = None
        with self.collector.guard("model.end"):
            step = self._steps.get(run_id)
            if step is None:
                return
            generation = response.generations[0][0] if response.generations else None
            if isinstance(generation, ChatGeneration):
                message = generation.message
                output = message_fields(message)
                if taken := message.response_metadata.get(REDACTED):
                    self.collector.mark(step, told(taken, "output"))
                self._finish_attempt(step, message)
            else:
                output = generation.text if generation else None
                self.collector.finish_attempt(
                    step, status=StepStatus.SUCCEEDED, answer=response.model_dump(mode="json")
                )
        self._end_model(run_id, output=output)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002
        with self.collector.guard("model.error"):
            step = self._steps.get(run_id)
            if step is not None:
                status = _status_of(error) or StepStatus.FAILED
                self.collector.finish_attempt(step, status=status, error=error)
        self._end_model(run_id, error=error)

    def _start_model(
        self,
        serialized: Mapping[str, Any] | None,
        run_id: UUID,
        parent_run_id: UUID | None,
        metadata: Mapping[str, Any] | None,
        sent: Sent,
        kwargs: Mapping[str, Any],
    ) -> None:
        metadata = metadata or {}
        asked: Mapping[str, Any] = kwargs.get("invocation_params") or {}
        parent = self._steps.get(parent_run_id) if parent_run_id else None
        name = str(kwargs.get("name") or _class_name(serialized) or "model")
        if parent is not None and parent.kind == "model":
            # A model node's call is an attempt of that node's step.
            step = parent
            self._hidden.add(run_id)
        else:
            step = self.collector.start_step(
                kind="model", operation=name, parent=parent.number if parent else None
            )
        self._steps[run_id] = step
        step.call, step.sent = step.attempts + 1, sent
        if taken := metadata.get(REDACTED):
            self.collector.mark(step, told(taken, "input"))
        model = metadata.get("ls_model_name") or asked.get("model") or asked.get("model_name")
        step.asked = Asked(
            provider=metadata.get("ls_provider") or _class_name(serialized),
            model=str(model) if model else None,
            parameters=asked,
            alias=metadata.get(ALIAS_KEY),
        )
        if metadata.get(TELLS_ATTEMPTS):
            note_call(run_id, self)
        else:  # made elsewhere: all that is seen of it is one try
            self.start_attempt(step, step.asked)

    def start_attempt(self, step: OpenStep, asked: Asked) -> None:
        """Record that a model is about to be asked for a step."""
        self.collector.start_attempt(
            step,
            provider=asked.provider,
            model=asked.model,
            parameters={
                key: value
                for key, value in without_secrets(asked.parameters).items()
                if key not in _PLAIN_PARAMETERS and value is not None
            },
            system=step.sent.system,
            user=step.sent.user,
            messages=step.sent.messages,
            alias=asked.alias,
        )

    # `llm.attempts.AttemptLog`: what models of ours tell of their tries.

    def attempt_started(self, run_id: UUID, asked: Asked) -> None:
        with self.collector.guard("attempt.start"):
            step = self._steps.get(run_id)
            if step is not None:
                self.start_attempt(step, asked)

    def attempt_answered(self, run_id: UUID, said: BaseMessage | None) -> None:
        with self.collector.guard("attempt.answered"):
            step = self._steps.get(run_id)
            if step is not None:
                self.collector.answered(step, _tokens(said))

    def attempt_failed(self, run_id: UUID, error: BaseException) -> None:
        with self.collector.guard("attempt.failed"):
            step = self._steps.get(run_id)
            if step is not None:
                status = _status_of(error) or StepStatus.FAILED
                self.collector.finish_attempt(step, status=status, error=error)

    def attempt_refused(self, run_id: UUID, asked: Asked, error: BaseException) -> None:
        with self.collector.guard("attempt.refused"):
            step = self._steps.get(run_id)
            if step is not None:
                self.start_attempt(step, asked)
                self.collector.finish_attempt(
                    step, status=StepStatus.FAILED, error=error, usage=NO_USAGE
                )

    def attempt_cached(self, run_id: UUID, asked: Asked) -> None:
        with self.collector.guard("attempt.cached"):
            step = self._steps.get(run_id)
            if step is not None:
                self.start_attempt(step, asked)
                self.collector.supplied(step, CACHED)

    def attempts_of(self, run_id: UUID) -> int:
        step = self._steps.get(run_id)
        return 0 if step is None else step.attempts

    def _finish_attempt(self, step: OpenStep, message: BaseMessage) -> None:
        facts = answer_facts(message)
        answer = message_fields(message, raw=True)
        if self.collector.redactor is not None:
            answer["response_metadata"] = without_probabilities(answer["response_metadata"])
        self.collector.finish_attempt(
            step,
            status=StepStatus.SUCCEEDED,
            answer=answer,
            request_id=facts.request_id,
            finish_reason=facts.finish_reason,
            model=facts.model,
            # What its tries told of the answer already is not worked out again.
            **({} if step.attempt is not None and step.attempt.used else _tokens(message)),
        )

    def _end_model(
        self, run_id: UUID, *, output: Any = None, error: BaseException | None = None
    ) -> None:
        if run_id in self._hidden:
            self._hidden.discard(run_id)
            self._steps.pop(run_id, None)
            return
        self._end(run_id, output=output, error=error)

    def on_tool_start(
        self,
        serialized: dict[str, Any],
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        inputs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        name = str(kwargs.get("name") or (serialized or {}).get("name") or "tool")
        self._start_plain("tool", name, run_id, parent_run_id, inputs or input_str)

    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002
        self._end(run_id, output=output)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002
        if not self._halt(run_id, error):
            self._end(run_id, error=error)

    def on_retriever_start(
        self,
        serialized: dict[str, Any],
        query: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **kwargs: Any,
    ) -> None:
        name = str(kwargs.get("name") or _class_name(serialized) or "retriever")
        self._start_plain("retriever", name, run_id, parent_run_id, query)

    def on_retriever_end(
        self,
        documents: Sequence[Any],
        *,
        run_id: UUID,
        **kwargs: Any,  # noqa: ARG002
    ) -> None:
        self._end(run_id, output=list(documents))

    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002
        self._end(run_id, error=error)

    def _start_plain(
        self, kind: str, name: str, run_id: UUID, parent_run_id: UUID | None, given: Any
    ) -> None:
        with self.collector.guard(f"{kind}.start"):
            parent = self._steps.get(parent_run_id) if parent_run_id else None
            self._steps[run_id] = self.collector.start_step(
                kind=kind, operation=name, parent=parent.number if parent else None, input=given
            )

    def _end(self, run_id: UUID, *, output: Any = None, error: BaseException | None = None) -> None:
        with self.collector.guard("step.end"):
            step = self._steps.pop(run_id, None)
            if step is None or run_id in self._hidden:
                self._hidden.discard(run_id)
                return
            if step.ours:
                with self.collector.guard("step.output"):
                    output = _own_result(output, step.operation)
            status = _status_of(error) if error is not None else None
            self.collector.finish_step(
                step, output=output, error=None if status else error, status=status
            )


class StepHandle:
    """What a node may say of its own step beyond returning or raising."""

    def __init__(self, collector: Collector | None, step: OpenStep | None) -> None:
        self._collector = collector
        self._step = step

    @property
    def number(self) -> int | None:
        """Of the step within its execution; None where nothing records."""
        return None if self._step is None else self._step.number

    def fail(
        self, error: BaseException, phase: str | None = None, *, stand_in: str | None = None
    ) -> None:
        """Record the step as failed though its node returns normally.

        Args:
            error: why.
            phase: what it was doing; None to tell by the error.
            stand_in: the node that now runs in its place.
        """
        if self._step is not None:
            self._step.failure = (error, phase)
            self._step.stand_in = stand_in

    def skip(self, reason: str) -> None:
        """Record the step as skipped, with the reason."""
        if self._step is not None:
            self._step.skip_reason = reason

    def uses_prompt(self, pin: Pin | None) -> None:
        """Record which version of which prompt its calls use; None: one in the code."""
        if self._step is not None:
            self._step.prompt = pin

    def start_try(self) -> None:
        """Record that the node is about to be tried, unless its calls tell that themselves."""
        if self._collector is not None and self._step and self._step.kind not in TELL_THEMSELVES:
            self._collector.start_try(self._step)

    def finish_try(self, status: StepStatus, error: BaseException | None = None) -> None:
        """Record how the try ended, unless a model's answer or error told it already."""
        if self._collector is not None and self._step is not None:
            self._collector.finish_attempt(self._step, status=status, error=error)

    def called(self, calls: Sequence[EmbeddingCall]) -> None:
        """Record calls that the hub made for the node, each as an attempt."""
        if self._collector is not None and self._step is not None:
            for call in calls:
                self._collector.record_call(self._step, call)

    def validated(
        self,
        *,
        outcome: str | None,
        duration_us: int,
        errors: list[str] | None = None,
        credits: int = 0,  # noqa: A002
    ) -> None:
        """Record how the newest attempt's answer fared: `valid`, `repaired` or `invalid`."""
        if self._collector is not None and self._step is not None:
            self._collector.validated(
                self._step,
                outcome=outcome,
                duration_us=duration_us,
                errors=errors,
                credits=credits,
            )


NO_STEP = StepHandle(None, None)
"""Stands in when a graph runs where nothing records."""


def step_of(config: RunnableConfig) -> StepHandle:
    """The handle of the step whose node was given `config`."""
    manager = config.get("callbacks")
    if isinstance(manager, BaseCallbackManager):
        for handler in manager.handlers:
            if isinstance(handler, RecordingHandler):
                return StepHandle(handler.collector, handler.step(manager.parent_run_id))
    return NO_STEP


def _own_result(output: Any, operation: str) -> Any:
    """What a node of ours returned, out of its channel updates; a router's stand in a Command."""
    update: Any = output.update if isinstance(output, Command) else output
    if not isinstance(update, dict):
        return update
    return cast("dict[str, Any]", update).get("results", {}).get(operation)


def _tokens(message: BaseMessage | None) -> dict[str, Any]:
    """What an answer used, by the record's fields."""
    usage = usage_of(message)
    return {
        "tokens_input": usage.tokens_input,
        "tokens_cached": usage.tokens_cached,
        "tokens_cache_write": usage.tokens_cache_write,
        "tokens_cache_write_1h": usage.tokens_cache_write_1h,
        "tokens_output": usage.tokens_output,
        "tokens_reasoning": usage.tokens_reasoning,
        "tokens_input_audio": usage.tokens_input_audio,
        "tokens_output_audio": usage.tokens_output_audio,
        "tokens_input_image": usage.tokens_input_image,
        "tokens_output_image": usage.tokens_output_image,
        "usage": usage.usage,
    }


def _status_of(error: BaseException) -> StepStatus | None:
    # The step did not fail, it was stopped; a stream nobody reads on is closed by GeneratorExit.
    stopped = isinstance(error, asyncio.CancelledError | GeneratorExit)
    return StepStatus.CANCELLED if stopped else None


def _class_name(serialized: Mapping[str, Any] | None) -> str | None:
    path = cast("list[str] | None", (serialized or {}).get("id"))
    return path[-1] if path else None

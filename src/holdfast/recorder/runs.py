"""What a recorder's user holds: an execution, its steps, their model calls."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, Self

from holdfast.domain.payload import Texts
from holdfast.domain.status import ExecutionStatus, StepStatus
from holdfast.recording.collector import Collector, OpenStep
from holdfast.recording.messages import without_secrets

Fault = Callable[[str, Exception], None]

HERE: ContextVar[tuple[RecordedExecution, RecordedStep | None] | None] = ContextVar(
    "holdfast_recorded", default=None
)
"""The execution and the step that this task or thread is in."""

STEPS_FAILED = {"code": "steps_failed", "message": "steps failed and the code went on"}


class Quiet:
    """A context manager whose own faults never reach the code inside or around it."""

    def __init__(self, fault: Fault) -> None:
        self._fault = fault
        self._token: Token[Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        try:
            self._close(error)
        except Exception as fault:  # noqa: BLE001 - never raise into the host's code
            self._fault("exit", fault)

    def _close(self, error: BaseException | None) -> None:
        raise NotImplementedError

    def _enter_context(self, here: tuple[RecordedExecution, RecordedStep | None]) -> None:
        self._token = HERE.set(here)

    def _leave_context(self) -> None:
        token, self._token = self._token, None
        if token is not None:
            try:
                HERE.reset(token)
            except ValueError:  # left in another task than it was entered in
                HERE.set(None)


class RecordedExecution(Quiet):
    """One execution of code that runs elsewhere; made by `Recorder.execution`.

    Attributes:
        id: of the execution; an empty text when nothing is recorded.
        event_id: of the event that stands for the call.
        output: its result; set it before the block ends.
    """

    def __init__(
        self,
        id: str,  # noqa: A002 - what it is
        event_id: str,
        collector: Collector | None,
        on_end: Callable[[str], None],
        fault: Fault,
    ) -> None:
        super().__init__(fault)
        self.id = id
        self.event_id = event_id
        self.output: Any = None
        self.steps: dict[int, RecordedStep] = {}
        self._collector = collector
        self._on_end = on_end
        self._pid = os.getpid()
        self._failed_steps: list[str] = []
        self._lock = threading.Lock()

    @property
    def collector(self) -> Collector | None:
        """Takes what is told; None when nothing is recorded, or the process was forked off."""
        return self._collector if self._pid == os.getpid() else None

    def __enter__(self) -> Self:
        self._enter_context((self, None))
        return self

    def step(
        self,
        name: str,
        *,
        input: Any = None,  # noqa: A002 - the record's own word
        kind: str = "node",
        version: str | None = None,
    ) -> RecordedStep:
        """Begin a step; use it as `with run.step("parse") as step`.

        Its parent is the step this task is in. A thread begins outside of all steps: use
        `step.step(…)` of the parent there.

        Args:
            name: what is done.
            input: what it is given.
            kind: node, model, tool, retriever, router or what else it is.
            version: of the code.
        """
        here = HERE.get()
        parent = here[1] if here is not None and here[0] is self else None
        return RecordedStep.begin(self, parent, name, input, kind, version, self._fault)

    def finish(
        self,
        *,
        output: Any = None,
        error: BaseException | None = None,
        status: ExecutionStatus | None = None,
    ) -> None:
        """End the execution, where no `with` does; a second end does nothing."""
        with self._lock:
            collector, self._collector = self.collector, None
        if collector is None:
            return
        try:
            told: Mapping[str, Any] | None = None
            if error is not None and not _stopped(error):
                told = collector.describe(error)
                told.setdefault("code", "step_failed")
            elif self._failed_steps:
                told = {**STEPS_FAILED, "failures": self._failed_steps}
            collector.finish(status or self._status(error), output=output, error=told)
        except Exception as fault:  # noqa: BLE001 - never raise into the host's code
            self._fault("finish", fault)
        self._on_end(self.id)

    def step_failed(self, name: str) -> None:
        """A step of no other step failed: unless the error goes on, the execution is `partial`."""
        self._failed_steps.append(name)

    def _status(self, error: BaseException | None) -> ExecutionStatus:
        if error is not None:
            return ExecutionStatus.CANCELLED if _stopped(error) else ExecutionStatus.FAILED
        return ExecutionStatus.PARTIAL if self._failed_steps else ExecutionStatus.SUCCEEDED

    def _close(self, error: BaseException | None) -> None:
        self._leave_context()
        self.finish(output=self.output, error=error)


class RecordedStep(Quiet):
    """One step.

    Attributes:
        number: within the execution, from 1; 0 when nothing is recorded.
        output: its result; set it before the block ends.
    """

    def __init__(
        self,
        run: RecordedExecution,
        parent: RecordedStep | None,
        opened: OpenStep | None,
        fault: Fault,
    ) -> None:
        super().__init__(fault)
        self.number = opened.number if opened else 0
        self.output: Any = None
        self.opened = opened
        self._run = run
        self._parent = parent

    @classmethod
    def begin(
        cls,
        run: RecordedExecution,
        parent: RecordedStep | None,
        name: str,
        given: Any,
        kind: str,
        version: str | None,
        fault: Fault,
    ) -> Self:
        """Open a step in the record."""
        collector = run.collector
        opened: OpenStep | None = None
        if collector is not None:
            number = (parent.number or None) if parent else None
            opened = collector.start_step(
                kind=kind, operation=name, version=version, parent=number, input=given
            )
        return cls(run, parent, opened, fault)

    @property
    def collector(self) -> Collector | None:
        """Of the execution."""
        return self._run.collector if self.opened is not None else None

    def __enter__(self) -> Self:
        self._enter_context((self._run, self))
        return self

    def step(
        self,
        name: str,
        *,
        input: Any = None,  # noqa: A002 - the record's own word
        kind: str = "node",
        version: str | None = None,
    ) -> RecordedStep:
        """Begin a step inside this one, from any thread; see `RecordedExecution.step`."""
        return RecordedStep.begin(self._run, self, name, input, kind, version, self._fault)

    def provider_call(
        self,
        *,
        provider: str | None = None,
        model: str | None = None,
        system: str | None = None,
        user: Any = None,
        messages: Sequence[Mapping[str, Any]] = (),
        parameters: Mapping[str, Any] | None = None,
    ) -> Call:
        """Begin a model call, an attempt of this step: `with step.provider_call(…) as call`.

        Calls of one step follow each other, each a further attempt; one that begins while another
        is under way becomes a step of its own.

        Args:
            provider: `openai`, … as price lists name it.
            model: as the provider names it.
            system: system prompt.
            user: newest user text.
            messages: earlier messages as `{"role", "content"}`, oldest first, without those two.
            parameters: of the model; secrets among them are hidden.
        """
        inner = RecordedStep(self._run, self, None, self._fault)
        collector = self.collector
        if collector is None or self.opened is None:
            return Call(inner, own=False, fault=self._fault)
        own = self.opened.attempt is not None
        if own:
            inner = self.step(model or provider or "model", kind="model")
        else:
            inner.opened = self.opened
        if inner.opened is not None:
            with collector.guard("call"):
                kept = _keep(collector.texts, system, user, messages)
                collector.start_attempt(
                    inner.opened,
                    provider=provider,
                    model=model,
                    parameters=without_secrets(parameters or {}),
                    system=kept[0],
                    user=kept[1],
                    messages=kept[2],
                )
        return Call(inner, own=own, fault=self._fault)

    def validation(
        self,
        outcome: str,
        *,
        errors: Sequence[str] = (),
        duration_s: float = 0.0,
        credits: int = 0,  # noqa: A002 - the record's own word
    ) -> None:
        """Note how the newest answer fared against its schema; without one, as a step of its own.

        Args:
            outcome: `valid`, `repaired` or `invalid`.
            errors: what was wrong.
            duration_s: seconds it took.
            credits: charged for it.
        """
        collector = self.collector
        if collector is None or self.opened is None:
            return
        with collector.guard("validation"):
            told = list(errors)
            if self.opened.attempts:
                collector.validated(
                    self.opened,
                    outcome=outcome,
                    duration_us=int(duration_s * 1_000_000),
                    errors=told,
                    credits=credits,
                )
                return
            own = collector.start_step(
                kind="validation", operation="validation", parent=self.opened.number
            )
            status = StepStatus.FAILED if outcome == "invalid" else StepStatus.SUCCEEDED
            collector.finish_step(own, output={"outcome": outcome, "errors": told}, status=status)

    def skip(self, reason: str) -> None:
        """The step was not done, and why."""
        if self.opened is not None:
            self.opened.skip_reason = reason

    def finish(self, *, output: Any = None, error: BaseException | None = None) -> None:
        """End the step, where no `with` does; a second end does nothing."""
        collector, opened = self.collector, self.opened
        if collector is None or opened is None:
            return
        status = StepStatus.CANCELLED if error is not None and _stopped(error) else None
        if status is not None:
            error = None
        elif error is not None and self._parent is None:
            self._run.step_failed(opened.operation)
        collector.finish_step(opened, output=output, error=error, status=status)

    def _close(self, error: BaseException | None) -> None:
        self._leave_context()
        self.finish(output=self.output, error=error)


class Call(Quiet):
    """One model call; `answer` says what came back."""

    def __init__(self, step: RecordedStep, *, own: bool, fault: Fault) -> None:
        super().__init__(fault)
        self._step = step
        self._own = own
        self._answer: Any = None
        self._facts: dict[str, Any] = {}

    def first_token(self) -> None:
        """The first piece of a stream has come."""
        collector = self._step.collector
        if collector is not None and self._step.opened is not None:
            collector.first_token(self._step.opened)

    def answer(
        self,
        text: Any = None,
        *,
        raw: Any = None,
        tokens_input: int | None = None,
        tokens_cached: int | None = None,
        tokens_cache_write: int | None = None,
        tokens_cache_write_1h: int | None = None,
        tokens_output: int | None = None,
        tokens_reasoning: int | None = None,
        estimated: bool = False,
        model: str | None = None,
        request_id: str | None = None,
        finish_reason: str | None = None,
    ) -> None:
        """The provider has answered.

        Args:
            text: what it said.
            raw: the whole response, kept instead of the text.
            tokens_input: all input, cached included; None when unknown, never 0.
            tokens_cached: of the input: read from a cache.
            tokens_cache_write: of the input: written to a cache.
            tokens_cache_write_1h: of those: to be kept for an hour, where that has its own price.
            tokens_output: all output, reasoning included.
            tokens_reasoning: of the output.
            estimated: the tokens are not the provider's own figures.
            model: as the answer names it.
            request_id: the provider's.
            finish_reason: why it stopped.
        """
        known = tokens_input is not None and tokens_output is not None
        self._answer = {"role": "assistant", "content": text} if raw is None else raw
        self._facts = {
            "tokens_input": tokens_input,
            "tokens_cached": tokens_cached,
            "tokens_cache_write": tokens_cache_write,
            "tokens_cache_write_1h": tokens_cache_write_1h,
            "tokens_output": tokens_output,
            "tokens_reasoning": tokens_reasoning,
            "usage": "unknown" if not known else "estimated" if estimated else "reported",
            "model": model,
            "request_id": request_id,
            "finish_reason": finish_reason,
        }

    def finish(
        self, *, error: BaseException | None = None, duration_s: float | None = None
    ) -> None:
        """End the call, where no `with` does.

        Args:
            error: what the provider or its client raised.
            duration_s: seconds it took, when it is told afterwards.
        """
        collector, opened = self._step.collector, self._step.opened
        if collector is None or opened is None:
            return
        if duration_s is not None and opened.attempt is not None:
            opened.attempt.began_ns -= int(duration_s * 1_000_000_000)
        status, failed = StepStatus.SUCCEEDED, None
        if error is not None:
            stopped = _stopped(error)
            status = StepStatus.CANCELLED if stopped else StepStatus.FAILED
            failed = None if stopped else error
        collector.finish_attempt(
            opened, status=status, answer=self._answer, error=failed, **self._facts
        )
        if self._own:
            self._step.finish(error=error)

    def _close(self, error: BaseException | None) -> None:
        self.finish(error=error)


def _keep(
    texts: Texts, system: str | None, user: Any, messages: Sequence[Mapping[str, Any]]
) -> tuple[int | None, int | None, int | None]:
    """Keep a call's messages as `recording.messages.keep_messages` does LangChain's."""
    items: list[int] = []
    kept_system = kept_user = None
    if system is not None:
        kept_system = texts.add_shared(system)
        items.append(texts.add_object({"role": "system"}, {"content": kept_system}))
    for message in messages:
        plain = {key: value for key, value in message.items() if key != "content"}
        items.append(texts.add_object(plain, {"content": texts.add(message.get("content"))}))
    if user is not None:
        kept_user = texts.add(user)
        items.append(texts.add_object({"role": "user"}, {"content": kept_user}))
    return kept_system, kept_user, texts.add_growing_list(items) if items else None


def _stopped(error: BaseException) -> bool:
    return isinstance(error, asyncio.CancelledError | GeneratorExit | KeyboardInterrupt)

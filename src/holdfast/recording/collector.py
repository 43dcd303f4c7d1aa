"""The collector of one execution: numbers its steps and hands every change to the sink."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import orjson

from holdfast.domain.changes import (
    NO_USAGE,
    AttemptFinished,
    AttemptStarted,
    AttemptValidated,
    Change,
    Finished,
    StepFinished,
    StepStarted,
    write_change,
)
from holdfast.domain.ids import now_us
from holdfast.domain.payload import INLINE_BYTES, LOST_ENTRY, Texts, encode, message_of, printable
from holdfast.domain.replays import REPLAYED
from holdfast.domain.status import HALTED, ExecutionStatus, StepStatus
from holdfast.errors import AnswerInvalid, BreakerOpen, HoldfastError
from holdfast.llm.failures import classify
from holdfast.ports import RecordSink
from holdfast.telemetry import logger

from .replaying import Replaying

log = logger("recording")

MAX_ERROR_CHARS = 4000
"""Characters kept of an error's message and of its traceback."""

MAX_FAULTS = 20
"""Recording faults kept by name; further ones are only counted in the log."""


@dataclass(slots=True)
class OpenAttempt:
    """A model call, or a try of another node, that has not ended."""

    n: int
    began_ns: int
    first_token_us: int | None = None
    usage: str = "unknown"  # what is said of its tokens when nobody reports any
    replayed: bool = False  # its answer comes from a record


@dataclass(slots=True)
class OpenStep:
    """A step that has not ended."""

    number: int
    kind: str
    operation: str
    began_ns: int
    parent: int | None = None
    started_at: int = 0
    ours: bool = False  # a node of a pipeline of ours, whose output is `{"results": {name: …}}`
    attempts: int = 0
    attempt: OpenAttempt | None = None
    last_attempt_failed: bool = False
    failure: tuple[BaseException, str | None] | None = None  # set by `StepHandle.fail`
    stand_in: str | None = None  # the node that runs in place of this failed one
    skip_reason: str | None = None


@dataclass(slots=True)
class Spent:
    """What an execution's attempts have spent so far, as far as it was reported."""

    tokens: int = 0
    credits: int = 0


class Collector:
    """Turns what happens inside one execution into changes.

    Its methods may be called from any thread, and never raise: a fault of the recorder's own is
    logged, noted on the execution, and the run goes on.
    """

    def __init__(
        self,
        execution_id: str,
        sink: RecordSink,
        *,
        texts: Texts | None = None,
        clock: Callable[[], int] = now_us,
        code_left_running: Callable[[], bool] = lambda: False,
        steps: int = 0,
        halted: Sequence[Mapping[str, Any]] = (),
        replaying: Replaying | None = None,
    ) -> None:
        """Start the record of one execution.

        Args:
            execution_id: whose.
            sink: takes the changes.
            texts: its pool of texts.
            clock: microseconds since the epoch.
            code_left_running: whether blocking code of this execution still runs in a thread;
                a step stopped meanwhile is abandoned and not merely cancelled.
            steps: how many the execution had before it halted.
            halted: those of them that had not ended; each goes on when its node runs again.
            replaying: the record that this execution repeats, if it does.
        """
        self.execution_id = execution_id
        self.texts = texts or Texts()
        self.faults: list[str] = []
        self.spent = Spent()
        self._sink = sink
        self._clock = clock
        self._code_left_running = code_left_running
        self._lock = threading.RLock()
        self._steps = steps
        self._halted = list(halted)
        self._open: dict[int, OpenStep] = {}
        self._waiting: list[OpenStep] = []
        self._finished = False
        self.replaying = replaying

    def start_step(
        self,
        *,
        kind: str,
        operation: str,
        version: str | None = None,
        parent: int | None = None,
        input: Any = None,  # noqa: A002 - the record's own word
    ) -> OpenStep:
        """Open a step and return it; its number counts from 1.

        A step that had not ended when the execution halted is taken up again.
        """
        with self._lock:
            if self._halted and (step := self._taken_up(kind, operation, parent)) is not None:
                return step
            self._steps += 1
            step = OpenStep(self._steps, kind, operation, time.perf_counter_ns(), parent)
            step.started_at = self._clock()
            self._open[step.number] = step
        if self.replaying is not None:
            with self.guard("step.replayed"):
                self.replaying.started(
                    step.number, parent, operation, ours=version is not None, given=input
                )
        with self.guard("step.started"):
            self._send(
                StepStarted(
                    step=step.number,
                    parent=parent,
                    kind=kind,
                    operation=operation,
                    version=version,
                    at=step.started_at,
                    input=self._keep("input", input),
                )
            )
        return step

    def _taken_up(self, kind: str, operation: str, parent: int | None) -> OpenStep | None:
        for place, known in enumerate(self._halted):
            if (known["kind"], known["operation"], known["parent"]) == (kind, operation, parent):
                del self._halted[place]
                # It has lasted since it began, the halt included.
                began = time.perf_counter_ns() - (self._clock() - known["started_at"]) * 1000
                step = OpenStep(
                    known["step"],
                    kind,
                    operation,
                    began,
                    parent,
                    known["started_at"],
                    attempts=known["attempts"],
                )
                self._open[step.number] = step
                return step
        return None

    def halt_step(self, step: OpenStep) -> None:
        """Its node waits: the step stays open, only the try under way is over."""
        if step.attempt is not None:
            self.finish_attempt(step, status=StepStatus.CANCELLED)
        self._waiting.append(step)

    def go_on(self) -> None:
        """The execution goes on at once: its steps that wait are taken up again."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
            self._halted += [
                {
                    "step": one.number,
                    "kind": one.kind,
                    "operation": one.operation,
                    "parent": one.parent,
                    "started_at": one.started_at,
                    "attempts": one.attempts,
                }
                for one in waiting
            ]

    def finish_step(
        self,
        step: OpenStep,
        *,
        output: Any = None,
        error: BaseException | None = None,
        status: StepStatus | None = None,
    ) -> None:
        """Close a step; a second close of the same step does nothing."""
        with self._lock:
            if self._open.pop(step.number, None) is None:
                return
        if status is StepStatus.CANCELLED and self._code_left_running():
            status = StepStatus.ABANDONED
        phase: str | None = None
        if step.failure is not None and status is None:
            # Its own failure, though what stood in for it may have failed as well.
            error, phase = step.failure
        if status is None:
            status = StepStatus.SUCCEEDED if error is None else StepStatus.FAILED
            if step.skip_reason is not None and error is None:
                status = StepStatus.SKIPPED
        if error is not None and phase is None and status is StepStatus.FAILED:
            phase = _phase(step, error)
        if step.attempt is not None:  # given up before the provider answered
            self.finish_attempt(step, status=status)
        with self.guard("step.finished"):
            self._send(
                StepFinished(
                    step=step.number,
                    status=status,
                    at=self._clock(),
                    duration_us=(time.perf_counter_ns() - step.began_ns) // 1000,
                    output=self._keep("output", output),
                    error=None if error is None else _with_stand_in(error, step.stand_in),
                    error_phase=phase,
                    skip_reason=step.skip_reason,
                )
            )

    def start_attempt(
        self,
        step: OpenStep,
        *,
        provider: str | None,
        model: str | None,
        parameters: Mapping[str, Any],
        system: int | None,
        user: int | None,
        messages: int | None,
    ) -> None:
        """Note that a model call is about to be made."""
        step.attempts += 1
        step.attempt = OpenAttempt(step.attempts, time.perf_counter_ns())
        with self.guard("attempt.started"):
            self._send(
                AttemptStarted(
                    step=step.number,
                    n=step.attempts,
                    at=self._clock(),
                    provider=provider,
                    model=model,
                    parameters={key: self._parameter(value) for key, value in parameters.items()},
                    system=system,
                    user=user,
                    messages=messages,
                )
            )

    def start_try(self, step: OpenStep) -> None:
        """Note that a node which asks no provider itself is about to be tried."""
        self.start_attempt(
            step, provider=None, model=None, parameters={}, system=None, user=None, messages=None
        )
        if step.attempt is not None:
            step.attempt.usage = NO_USAGE

    def first_token(self, step: OpenStep) -> None:
        """Note the moment the provider's first token came."""
        attempt = step.attempt
        if attempt is not None and attempt.first_token_us is None:
            attempt.first_token_us = (time.perf_counter_ns() - attempt.began_ns) // 1000

    def finish_attempt(
        self,
        step: OpenStep,
        *,
        status: StepStatus,
        answer: Any = None,
        error: BaseException | None = None,
        **facts: Any,
    ) -> None:
        """Close the step's open attempt.

        Args:
            step: whose attempt.
            status: how it ended.
            answer: the raw response, as it came.
            error: what the provider or its client raised.
            **facts: further fields of `AttemptFinished` (tokens, request id, …).
        """
        attempt, step.attempt = step.attempt, None
        if attempt is None:
            return
        if attempt.replayed:
            facts["usage"] = REPLAYED
        if isinstance(error, BreakerOpen) and error.__cause__ is None:
            attempt.usage = NO_USAGE  # the call was not made
        facts.setdefault("usage", attempt.usage)
        step.last_attempt_failed = status is not StepStatus.SUCCEEDED
        with self._lock:
            self.spent.tokens += (facts.get("tokens_input") or 0) + (
                facts.get("tokens_output") or 0
            )
        if error is not None:
            facts["error"] = describe_error(error, with_traceback=False)
            with self.guard("attempt.error"):
                failure = classify(error)
                facts["error_class"] = failure.error_class
                facts["http_status"] = failure.http_status
                facts.setdefault("request_id", failure.request_id)
        with self.guard("attempt.finished"):
            self._send(
                AttemptFinished(
                    step=step.number,
                    n=attempt.n,
                    status=status,
                    at=self._clock(),
                    duration_us=(time.perf_counter_ns() - attempt.began_ns) // 1000,
                    first_token_us=attempt.first_token_us,
                    answer=self._keep("answer", answer),
                    **facts,
                )
            )

    def validated(
        self,
        step: OpenStep,
        *,
        outcome: str,
        duration_us: int,
        errors: list[str] | None = None,
        credits: int = 0,  # noqa: A002 - the record's own word
    ) -> None:
        """Note how the newest attempt's answer fared against its schema."""
        with self._lock:
            self.spent.credits += credits
        with self.guard("attempt.validated"):
            self._send(
                AttemptValidated(
                    step=step.number,
                    n=step.attempts,
                    outcome=outcome,
                    duration_us=duration_us,
                    errors=errors or [],
                    credits=credits,
                )
            )

    def tokens(self, step: OpenStep, text: str) -> None:
        """Pass on a piece of streamed text."""
        with self.guard("tokens"):
            self._sink.tokens(self.execution_id, step.number, text)

    def finish(
        self,
        status: ExecutionStatus,
        *,
        output: Any = None,
        error: Mapping[str, Any] | None = None,
        abandoned: bool = False,
        waits: Sequence[Mapping[str, Any]] = (),
        saved: Sequence[Mapping[str, Any]] = (),
        postponed: Mapping[str, Any] | None = None,
    ) -> None:
        """End the execution: close what is open, then say so; later changes are refused.

        One that waits or is paused keeps its open steps open.

        Args:
            status: how it ended.
            output: its result.
            error: `{"code", "message", …}` when it did not succeed.
            abandoned: steps still open are running code that could not be stopped.
            waits: what it waits for, see `domain.halts.Wait`.
            saved: checkpoints to be stored together with its end.
            postponed: its event is to run again, see `domain.breakers.Postponed`.
        """
        left = StepStatus.ABANDONED if abandoned else StepStatus.CANCELLED
        if status not in HALTED:
            for step in reversed(list(self._open.values())):
                self.finish_step(step, status=left)
        kept = self._keep("output", output)
        with self._lock, self.guard("finished"):
            self._send(
                Finished(
                    status=status,
                    at=self._clock(),
                    output=kept,
                    error=dict(error) if error else None,
                    faults=self.faults,
                    waits=[dict(one) for one in waits],
                    saved=[dict(one) for one in saved],
                    postponed=dict(postponed) if postponed else None,
                )
            )
        self._finished = True

    def guard(self, where: str) -> Guard:
        """Keep a recorder's own fault away from the run: log it, note it on the execution."""
        return Guard(self._fault, where)

    def _fault(self, where: str, fault: Exception) -> None:
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(f"{where}: {type(fault).__name__}: {message_of(fault)}"[:500])
            shown = fault
        else:  # a recorder that is broken for good must not slow the run by its tracebacks
            shown = None
        log.error("recording.fault", execution_id=self.execution_id, where=where, exc_info=shown)

    def _keep(self, where: str, value: Any) -> int | None:
        """Keep a value; one that cannot be kept costs its step nothing else."""
        if value is None:
            return None
        try:
            return self.texts.add(value)
        except Exception as fault:  # noqa: BLE001 - promise 3: recording never fails a run
            self._fault(where, fault)
            return None

    def _send(self, change: Change) -> None:
        # One lock around both: the entries a change carries are those its indexes point to.
        with self._lock:
            if self._finished:
                return
            change.first, change.texts = self.texts.take_new()
            try:
                self._sink.change(self.execution_id, write_change(change))
            except Exception as fault:  # the change matters more than its texts
                if not change.texts:
                    raise
                self._fault(change.k, fault)
                change.texts = [LOST_ENTRY] * len(change.texts)
                self._sink.change(self.execution_id, write_change(change))

    def _parameter(self, value: Any) -> Any:
        body = encode(value)
        if len(body) > INLINE_BYTES or body.startswith(b'{"$"'):  # which would look like an index
            return {"$": self.texts.add(value, 0)}
        return orjson.Fragment(body)


class Guard:
    """Swallows what goes wrong inside it; promise 3: recording never fails a run.

    A class, for one made with `contextmanager` costs four times as much and a step needs several.
    """

    __slots__ = ("_tell", "_where")

    def __init__(self, tell: Callable[[str, Exception], None], where: str) -> None:
        self._tell = tell
        self._where = where

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        fault: BaseException | None,
        _trace: TracebackType | None,
    ) -> bool:
        if not isinstance(fault, Exception):
            return False
        self._tell(self._where, fault)
        return True


def describe_error(error: BaseException, *, with_traceback: bool = True) -> dict[str, Any]:
    """An error as a record keeps it: type, message, code and where it was raised."""
    described: dict[str, Any] = {
        "type": type(error).__name__,
        "message": (error.message if isinstance(error, HoldfastError) else message_of(error))[
            :MAX_ERROR_CHARS
        ],
    }
    if isinstance(error, HoldfastError):
        described["code"] = error.code
        if error.hint:
            described["hint"] = error.hint
    elif with_traceback:
        frames = traceback.format_exception(error)
        described["traceback"] = printable("".join(frames)[-MAX_ERROR_CHARS:])
    return described


def _with_stand_in(error: BaseException, stand_in: str | None) -> dict[str, Any]:
    described = describe_error(error)
    if stand_in is not None:
        described["fallback"] = stand_in
    return described


def _phase(step: OpenStep, error: BaseException) -> str:
    if isinstance(error, AnswerInvalid):
        return "validation"
    if step.kind == "model" and step.last_attempt_failed:
        return "provider"
    return "node"

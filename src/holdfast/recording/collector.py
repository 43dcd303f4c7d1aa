"""The collector of one execution: numbers its steps and hands every change to the sink."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

import orjson

from holdfast.domain.changes import (
    CACHED,
    NO_USAGE,
    AttemptFinished,
    AttemptStarted,
    AttemptValidated,
    Change,
    ContentChecked,
    Finished,
    StepFinished,
    StepMarked,
    StepStarted,
    write_change,
)
from holdfast.domain.ids import now_us
from holdfast.domain.payload import (
    INLINE_BYTES,
    LOST_ENTRY,
    Texts,
    encode,
    message_of,
    printable,
    redacted,
)
from holdfast.domain.prompts import Pin
from holdfast.domain.status import HALTED, ExecutionStatus, StepStatus
from holdfast.errors import AnswerInvalid, BreakerOpen, BudgetExceeded, HoldfastError
from holdfast.llm.attempts import Asked
from holdfast.llm.content.redaction import Redaction, Redactor
from holdfast.llm.failures import classify
from holdfast.ports import EmbeddingCall, RecordSink
from holdfast.telemetry import logger

from .replaying import Replaying

log = logger("recording")

T = TypeVar("T")

MAX_ERROR_CHARS = 4000
"""Characters kept of an error's message and of its traceback."""

TOKENS = (
    "tokens_input",
    "tokens_cached",
    "tokens_cache_write",
    "tokens_cache_write_1h",
    "tokens_output",
    "tokens_reasoning",
    "tokens_input_audio",
    "tokens_output_audio",
    "tokens_input_image",
    "tokens_output_image",
)

_READ = frozenset({"code", "type", "error_class"})

MAX_FAULTS = 20
"""Recording faults kept by name; further ones are only counted in the log."""


class Sent(NamedTuple):
    """A call's messages, as indexes into the texts."""

    system: int | None = None
    user: int | None = None
    messages: int | None = None


NOTHING_SENT = Sent()

NOBODY = Asked(provider=None, model=None, parameters={})


@dataclass(slots=True)
class OpenAttempt:
    """A model call, or a try of another node, that has not ended."""

    n: int
    began_ns: int
    first_token_us: int | None = None
    usage: str = "unknown"  # what is said of its tokens when nobody reports any
    instead: str | None = None  # … whatever is reported: its answer was there already
    took_us: int | None = None  # until the answer was whole
    used: dict[str, Any] = field(default_factory=dict[str, Any])  # tokens, known before its end


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
    call: int = 0  # n of the first try of the model call under way
    sent: Sent = NOTHING_SENT  # what that call sends
    asked: Asked = NOBODY  # whom it asks first
    last_attempt_failed: bool = False
    failure: tuple[BaseException, str | None] | None = None  # set by `StepHandle.fail`
    stand_in: str | None = None  # the node that runs in place of this failed one
    skip_reason: str | None = None
    prompt: Pin | None = None  # what its next attempts say, where that has a name


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
        redactions: Sequence[Redaction] = (),
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
            redactions: what is taken out of all that is recorded.
        """
        self.execution_id = execution_id
        self.redactor: Redactor | None = None
        if redactions:
            # A later part must not call other texts by the same placeholder.
            begin = f"{steps}." if steps else ""
            self.redactor = Redactor(redactions, begin, self._fault)
        self.texts = texts or Texts(redact=self.redactor)
        self.faults: list[str] = []
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
                given = input
                if self.redactor is not None:  # as it is on record, by which it is found
                    given = redacted(orjson.loads(encode(input)), self.redactor)
                self.replaying.started(
                    step.number, parent, operation, ours=version is not None, given=given
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
                    error=None if error is None else self._with_stand_in(error, step.stand_in),
                    error_phase=phase,
                    skip_reason=self._clean(step.skip_reason),
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
        alias: str | None = None,
    ) -> None:
        """Note that a model is about to be asked; it is a try of the step's present call."""
        if step.attempt is not None:  # it was left without an end
            self.finish_attempt(step, status=StepStatus.CANCELLED)
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
                    prompt=None if step.prompt is None else asdict(step.prompt),
                    call=step.call or None,
                    alias=alias,
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

    def supplied(self, step: OpenStep, usage: str) -> None:
        """Note that the open attempt asks nobody: its answer is there already.

        Args:
            step: whose attempt.
            usage: what is said of its tokens: `REPLAYED` or `CACHED`.
        """
        if step.attempt is not None:
            step.attempt.instead = usage

    def answered(self, step: OpenStep, used: Mapping[str, Any]) -> None:
        """Note that the provider's answer is whole, and what it used.

        The answer itself is told when the call ends; should it be refused on its way there, what
        it used counts all the same.
        """
        attempt = step.attempt
        if attempt is not None:
            attempt.took_us = (time.perf_counter_ns() - attempt.began_ns) // 1000
            attempt.used = dict(used)

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
        facts = {**attempt.used, **facts}
        if attempt.instead is not None:
            facts["usage"] = attempt.instead
        if attempt.instead == CACHED:  # what it took was billed when it was first given
            facts |= dict.fromkeys(TOKENS)
        if isinstance(error, BreakerOpen | BudgetExceeded) and error.__cause__ is None:
            attempt.usage = NO_USAGE  # the call was not made
        took_us = attempt.took_us
        if took_us is None:
            took_us = (time.perf_counter_ns() - attempt.began_ns) // 1000
        facts.setdefault("usage", attempt.usage)
        step.last_attempt_failed = status is not StepStatus.SUCCEEDED
        if error is not None:
            facts["error"] = self.describe(error, with_traceback=False)
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
                    duration_us=took_us,
                    first_token_us=attempt.first_token_us,
                    answer=self._keep("answer", answer),
                    **facts,
                )
            )

    def record_call(self, step: OpenStep, call: EmbeddingCall) -> None:
        """Note a call that the hub made for the step: an attempt that has ended already."""
        step.attempts += 1
        n, failed = step.attempts, call.error is not None
        step.last_attempt_failed = failed
        with self.guard("attempt.told"):
            parameters = {**call.parameters, "texts": call.texts}
            self._send(
                AttemptStarted(
                    step=step.number,
                    n=n,
                    at=call.at,
                    provider=call.provider,
                    model=call.model,
                    parameters={key: self._parameter(value) for key, value in parameters.items()},
                    system=None,
                    user=None,
                    messages=None,
                )
            )
            self._send(
                AttemptFinished(
                    step=step.number,
                    n=n,
                    status=StepStatus.FAILED if failed else StepStatus.SUCCEEDED,
                    at=call.at + call.duration_us,
                    duration_us=call.duration_us,
                    first_token_us=None,
                    answer=None,
                    usage=call.usage,
                    tokens_input=call.tokens,
                    tokens_output=None if call.tokens is None else 0,
                    request_id=call.request_id,
                    http_status=call.http_status,
                    error=None if call.error is None else {"message": self._clean(call.error)},
                    error_class=call.error_class,
                )
            )

    def validated(
        self,
        step: OpenStep,
        *,
        outcome: str | None,
        duration_us: int,
        errors: list[str] | None = None,
        credits: int = 0,  # noqa: A002 - the record's own word
    ) -> None:
        """Note how the newest attempt's answer fared against its schema."""
        with self.guard("attempt.validated"):
            self._send(
                AttemptValidated(
                    step=step.number,
                    n=step.attempts,
                    outcome=outcome,
                    duration_us=duration_us,
                    errors=self._clean(errors or []),
                    credits=credits,
                )
            )

    def mark(self, step: OpenStep, reasons: list[str]) -> None:
        """Note what content checks took out, by kind and count."""
        with self.guard("step.marked"):
            self._send(StepMarked(step=step.number, reasons=reasons))

    def content_checked(self, check: str, action: str, on: str) -> None:
        """Count that a content check acted on a model call."""
        with self.guard("content.checked"):
            self._send(ContentChecked(check=check, action=action, on=on))

    def tokens(self, step: OpenStep, text: str) -> None:
        """Pass on a piece of streamed text, unless what is told has to be looked at whole."""
        if self.redactor is not None:
            return
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
            output: its result, which is the caller's: it is kept as it is.
            error: `{"code", "message", …}` when it did not succeed, from `describe`.
            abandoned: steps still open are running code that could not be stopped.
            waits: what it waits for, see `domain.halts.Wait`.
            saved: checkpoints to be stored together with its end.
            postponed: its event is to run again, see `domain.breakers.Postponed`.
        """
        left = StepStatus.ABANDONED if abandoned else StepStatus.CANCELLED
        if status not in HALTED:
            for step in reversed(list(self._open.values())):
                self.finish_step(step, status=left)
        kept = None if output is None else self._keep("output", output, whole=True)
        counts = {} if self.redactor is None else self.redactor.counts
        with self._lock, self.guard("finished"):
            self._send(
                Finished(
                    status=status,
                    at=self._clock(),
                    output=kept,
                    error=self._clean_error(error) if error else None,
                    faults=self.faults,
                    waits=[dict(one) for one in waits],
                    saved=[dict(one) for one in saved],
                    postponed=dict(postponed) if postponed else None,
                    redacted=counts,
                )
            )
        self._finished = True

    def guard(self, where: str) -> Guard:
        """Keep a recorder's own fault away from the run: log it, note it on the execution."""
        return Guard(self._fault, where)

    def _fault(self, where: str, fault: Exception) -> None:
        if len(self.faults) < MAX_FAULTS:
            told = message_of(fault)
            if self.redactor is not None:  # which may be at fault itself: what it says stays here
                told = "see the log"
            self.faults.append(f"{where}: {type(fault).__name__}: {told}"[:500])
            shown = fault
        else:  # a recorder that is broken for good must not slow the run by its tracebacks
            shown = None
        log.error("recording.fault", execution_id=self.execution_id, where=where, exc_info=shown)

    def describe(self, error: BaseException, *, with_traceback: bool = True) -> dict[str, Any]:
        """See `describe_error`; redacted as the rest of the record."""
        return describe_error(error, with_traceback=with_traceback, clean=self.redactor)

    def _with_stand_in(self, error: BaseException, stand_in: str | None) -> dict[str, Any]:
        described = self.describe(error)
        if stand_in is not None:
            described["fallback"] = stand_in
        return described

    def _clean(self, value: T) -> T:
        """A text, or a value of JSON, as it may be recorded."""
        return value if self.redactor is None else redacted(value, self.redactor)

    def _clean_error(self, error: Mapping[str, Any]) -> dict[str, Any]:
        """An error of a whole execution; what programs read in it stays."""
        if self.redactor is None:
            return dict(error)
        plain = orjson.loads(encode(error))
        return {key: one if key in _READ else self._clean(one) for key, one in plain.items()}

    def _keep(self, where: str, value: Any, *, whole: bool = False) -> int | None:
        """Keep a value; one that cannot be kept costs its step nothing else."""
        if value is None:
            return None
        try:
            return self.texts.add_whole(value) if whole else self.texts.add(value)
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
        if self.redactor is not None:
            body = encode(redacted(orjson.loads(body), self.redactor))
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


def describe_error(
    error: BaseException,
    *,
    with_traceback: bool = True,
    clean: Callable[[str], str] | None = None,
) -> dict[str, Any]:
    """An error as a record keeps it: type, message, code and where it was raised.

    Args:
        error: any.
        with_traceback: where it is none of ours.
        clean: what is kept of a text; looks at it whole, before it is cut to its length.
    """
    clean = clean or str
    message = error.message if isinstance(error, HoldfastError) else message_of(error)
    described: dict[str, Any] = {
        "type": type(error).__name__,
        "message": clean(message)[:MAX_ERROR_CHARS],
    }
    if isinstance(error, HoldfastError):
        described["code"] = error.code
        if error.hint:
            described["hint"] = clean(error.hint)
    elif with_traceback:
        frames = printable("".join(traceback.format_exception(error)))
        described["traceback"] = clean(frames)[-MAX_ERROR_CHARS:]
    return described


def _phase(step: OpenStep, error: BaseException) -> str:
    if isinstance(error, AnswerInvalid):
        return "validation"
    if step.kind == "model" and step.last_attempt_failed:
        return "provider"
    return "node"

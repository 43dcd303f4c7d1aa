"""The engine: runs graphs, many at once in one loop, and ends each with exactly one outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import orjson
from langchain_core.runnables import RunnableConfig

from holdfast.domain.ids import now_us
from holdfast.domain.payload import Texts, encode
from holdfast.domain.replays import Plan, recorded_from
from holdfast.domain.status import ExecutionStatus
from holdfast.errors import HoldfastError
from holdfast.llm.calls import asks_anew
from holdfast.llm.content.gate import acts, placeholders
from holdfast.llm.content.placeholders import Placeholders
from holdfast.llm.content.redaction import Redaction
from holdfast.llm.factory import Models
from holdfast.pipelines.base import Declaration
from holdfast.pipelines.context import RunContext, running
from holdfast.pipelines.onward import nodes_from
from holdfast.pipelines.policy import breakers_open, worth_retrying
from holdfast.pipelines.registry import Registry
from holdfast.pipelines.wording import Wording
from holdfast.ports import Ports, RecordSink, RunSpec, running_execution
from holdfast.recording import Collector, RecordingHandler, Replaying
from holdfast.recording.replaying import replaying_now
from holdfast.telemetry import logger

from .checkpointed import CheckpointedRun, thread_of, with_own
from .item_store import PortStore
from .prompts import PinnedPrompts
from .serializer import StrictSerializer
from .threads import ExecutionThreads

log = logger("engine")

CANCEL_GRACE_S = 2.0
"""How long a cancelled run may take to stop before its code is called abandoned."""

CANCELLED_ITSELF = {
    "code": "step_failed",
    "type": "CancelledError",
    "message": "a step was cancelled by its own code; nobody had asked to cancel the execution",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an execution ended."""

    status: ExecutionStatus
    output: Any = None
    error: dict[str, Any] | None = None
    waits: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    saved: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    postponed: dict[str, Any] | None = None  # `domain.breakers.Postponed`


@dataclass(slots=True)
class _Running:
    """One execution that has not ended."""

    spec: RunSpec
    collector: Collector
    task: asyncio.Task[Outcome] | None = None
    deadline: asyncio.TimerHandle | None = None
    grace: asyncio.TimerHandle | None = None
    stopped: Outcome | None = None  # why it was told to stop; decides the outcome from then on
    run: CheckpointedRun | None = None  # only with checkpoints can it be paused
    pausing: bool = False
    plan: Plan | None = None  # how a replay is to run
    prompts: Mapping[str, Wording] = field(default_factory=dict[str, Wording])


class Engine:
    """Runs executions in the present event loop.

    Args:
        registry: the graphs that can be run, by name.
        models: the chat models their nodes may use.
        sink: takes what happens.
        ports: the services of the hub.
        threads: where sync code runs; also to be set as the loop's default executor.
        on_end: called in the loop after the last change of an execution, with its id.
        on_abandoned: called when code was left running that could not be stopped.
        redactions: what is taken out of all that is recorded; runs see it.
    """

    def __init__(
        self,
        *,
        registry: Registry,
        models: Models,
        sink: RecordSink,
        ports: Ports,
        threads: ExecutionThreads,
        on_end: Callable[[str], None] = lambda _: None,
        on_abandoned: Callable[[str], None] = lambda _: None,
        redactions: Sequence[Redaction] = (),
    ) -> None:
        self._redactions = tuple(redactions)
        self._registry = registry
        self._models = models
        self._sink = sink
        self._ports = ports
        self._threads = threads
        self._on_end = on_end
        self._on_abandoned = on_abandoned
        self._prompts = PinnedPrompts(ports.prompts)
        self._serializers: dict[str, StrictSerializer] = {}  # by name of the declaration
        self._running: dict[str, _Running] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def running(self) -> int:
        """Executions that have not ended."""
        return len(self._running)

    def start(self, spec: RunSpec) -> None:
        """Begin an execution; its end is told to the sink and then to `on_end`."""
        collector = Collector(
            spec.execution_id,
            self._sink,
            code_left_running=lambda: self._threads.active(spec.execution_id) > 0,
            steps=spec.steps,
            halted=spec.open,
            redactions=self._redactions,
        )
        x = _Running(spec, collector, plan=None if spec.replay is None else Plan(**spec.replay))
        self._running[spec.execution_id] = x
        self._idle.clear()
        x.task = asyncio.create_task(self._run(x), name=f"execution {spec.execution_id}")
        x.task.add_done_callback(lambda task: self._task_done(x, task))
        if spec.deadline_s is not None:
            x.deadline = asyncio.get_running_loop().call_later(
                spec.deadline_s, self._stop, x, _timed_out(spec)
            )

    def cancel(self, execution_id: str) -> bool:
        """Ask a run to stop; False when it is not (or no longer) running here."""
        x = self._running.get(execution_id)
        if x is None:
            return False
        self._stop(x, Outcome(ExecutionStatus.CANCELLED))
        return True

    def pause(self, execution_id: str) -> bool:
        """Ask a run to stop before its next step; False when it is not running here.

        A run without checkpoints goes on: it would lose what it has done. So does a replay that a
        record answers: going on from a checkpoint it would not know where in the record it is.
        """
        x = self._running.get(execution_id)
        if x is None:
            return False
        if x.plan is not None and x.plan.needs_record and not x.spec.goes_on:
            return True
        x.pausing = True
        if x.run is not None:
            x.run.pause()
        return True

    async def drain(self) -> None:
        """Wait until everything started here has ended."""
        await self._idle.wait()

    def _stop(self, x: _Running, outcome: Outcome) -> None:
        if x.stopped is not None or x.task is None or x.task.done():
            return  # what has ended cannot be stopped: its own outcome stands
        x.stopped = outcome
        x.task.cancel()
        # Code that swallows the cancellation must not hold the outcome back.
        x.grace = asyncio.get_running_loop().call_later(
            CANCEL_GRACE_S, partial(self._end, x, outcome, abandoned=True)
        )

    def _task_done(self, x: _Running, task: asyncio.Task[Outcome]) -> None:
        if x.stopped is not None:
            abandoned = self._threads.active(x.spec.execution_id) > 0
            self._end(x, x.stopped, abandoned=abandoned)
        elif task.cancelled():
            self._end(x, Outcome(ExecutionStatus.FAILED, error=CANCELLED_ITSELF))
        else:
            self._end(x, task.result())

    def _end(self, x: _Running, outcome: Outcome, *, abandoned: bool = False) -> None:
        """Finish the record of an execution, once."""
        if self._running.pop(x.spec.execution_id, None) is None:
            return
        for timer in (x.deadline, x.grace):
            if timer is not None:
                timer.cancel()
        # A step may have given its code up while the execution went on and ended otherwise.
        if abandoned or self._threads.active(x.spec.execution_id) > 0:
            self._on_abandoned(x.spec.execution_id)
        x.collector.finish(
            outcome.status,
            output=outcome.output,
            error=outcome.error,
            abandoned=abandoned,
            waits=outcome.waits,
            saved=outcome.saved,
            postponed=outcome.postponed,
        )
        self._on_end(x.spec.execution_id)
        if not self._running:
            self._idle.set()

    async def _run(self, x: _Running) -> Outcome:
        """Run the graph on the event; every failure becomes an outcome."""
        running_execution.set(x.spec.execution_id)
        asks_anew.set(x.plan is not None)
        # A later part of an execution must not call other people by the same placeholder.
        placeholders.set(Placeholders(f"{x.spec.steps}." if x.spec.steps else ""))
        acts.set(x.collector.content_checked)
        try:
            declaration = self._registry.get(x.spec.name)
            event = declaration.validate(orjson.loads(x.spec.data))
            x.collector.texts = Texts(
                *_event_forms(event, x.spec.data),
                before=x.spec.texts,
                redact=x.collector.redactor,
            )
            if x.plan is not None:
                x.collector.replaying = await self._replaying(x, declaration)
            x.prompts = await self._prompts.of(x.spec, x.plan, declaration)
            outcome = await self._run_graph(x, declaration, event)
            return _unless_mismatched(x, outcome)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # user code may raise anything; it is recorded
            if not isinstance(error, HoldfastError):
                log.debug("execution.failed", execution_id=x.spec.execution_id, exc_info=error)
            return _unless_mismatched(x, _failed(error, self._told(x, error)))

    async def _replaying(self, x: _Running, declaration: Declaration) -> Replaying | None:
        """What answers in a replay; None when all runs live, as after a halt."""
        if x.plan is None or not x.plan.needs_record or x.spec.goes_on:
            return None
        from holdfast.recording.intercepting import install  # what it wraps, others do not need

        written = await self._ports.records.replayed(execution_id=x.spec.execution_id)
        install()
        onward = nodes_from(declaration, x.plan.start) if x.plan.start else frozenset[str]()
        return Replaying(recorded_from(written), x.plan, onward=onward)

    def _told(self, x: _Running, error: BaseException) -> dict[str, Any]:
        """An error as the record keeps it, with its class: that decides whether it runs again."""
        described = _described(x, error)
        if x.spec.name not in self._registry or self._threads.active(x.spec.execution_id) > 0:
            return described  # code that could not be stopped still runs: never two of it at once
        try:
            retry_on = self._registry.get(x.spec.name).retry_on
            failure = worth_retrying(error, retry_on, later=True)
        except Exception as fault:  # an error may raise when it is looked at: its class is unknown
            log.debug(
                "execution.error_unreadable", execution_id=x.spec.execution_id, exc_info=fault
            )
            return described
        if failure is not None:
            described["error_class"] = failure.error_class
            if failure.retry_after_s is not None:
                described["retry_after_s"] = failure.retry_after_s
        return described

    def _checkpointed(
        self, x: _Running, declaration: Declaration, items: PortStore | None
    ) -> CheckpointedRun:
        serializer = self._serializers.get(declaration.name)
        if serializer is None:
            serializer = StrictSerializer(declaration.kept(), f"pipeline {declaration.name}")
            self._serializers[declaration.name] = serializer
        x.run = CheckpointedRun(
            declaration, x.spec, self._ports.checkpoints, serializer, x.collector, items
        )
        if x.pausing:
            x.run.pause()
        return x.run

    def _items(self, x: _Running, declaration: Declaration) -> PortStore | None:
        """What its graph knows as the store; None where it is to have none."""
        if not declaration.long_term:
            return None
        replaying = x.collector.replaying
        return PortStore(self._ports.memory, x.spec.execution_id, replaying=replaying)

    async def _run_graph(self, x: _Running, declaration: Declaration, event: Any) -> Outcome:
        replaying = x.collector.replaying
        context = RunContext(
            execution_id=x.spec.execution_id,
            event_id=x.spec.event_id,
            owner_id=x.spec.owner_id,
            delivery=x.spec.delivery,
            models=self._models,
            ports=self._ports,
            threads=self._threads,
            plan=x.plan,
            replaying=replaying,
            prompts=x.prompts,
            session_id=x.spec.session_id,
            sleep=_no_pause if x.plan and x.plan.answers == "recorded" else asyncio.sleep,
        )
        config: RunnableConfig = {
            "callbacks": [RecordingHandler(x.collector)],
            "configurable": {"thread_id": thread_of(declaration, x.spec)},
        }
        replaying_now.set(replaying)
        items = self._items(x, declaration)
        with running(context):
            # What halted goes on from there, also where a new version would not halt any more.
            if declaration.checkpointed or x.spec.goes_on:
                ran = await self._checkpointed(x, declaration, items).run(event, config)
                if ran.paused:
                    return Outcome(ExecutionStatus.PAUSED, saved=ran.saved)
                if ran.waits:
                    return Outcome(ExecutionStatus.WAITING, waits=ran.waits, saved=ran.saved)
                final, saved = ran.final, ran.saved
            else:
                saved = []
                graph = with_own(declaration.graph(), items, None)
                final: Any = await graph.ainvoke(declaration.initial(event), config)
        if interrupts := _interrupts_in(final):
            return _interrupted(interrupts)
        output = declaration.result(final)
        failures = declaration.failures(final)
        if not failures:
            return Outcome(ExecutionStatus.SUCCEEDED, output=output, saved=saved)
        error = {
            "code": "steps_failed",
            "message": f"{len(failures)} step(s) failed and were allowed to",
            "failures": failures,
        }
        return Outcome(ExecutionStatus.PARTIAL, output=output, error=error)


def _unless_mismatched(x: _Running, outcome: Outcome) -> Outcome:
    """A mismatch decides, whatever the graph made of it: its further course means nothing."""
    replaying = x.collector.replaying
    if replaying is None or replaying.mismatch is None:
        return outcome
    return Outcome(ExecutionStatus.FAILED, error=_described(x, replaying.mismatch))


async def _no_pause(_: float) -> None:
    """How a replay waits between tries that were recorded."""


def _failed(error: BaseException, described: dict[str, Any]) -> Outcome:
    """A failed run; one that failed only because breakers were open is to run again."""
    closed_ways = breakers_open(error)
    if not closed_ways:
        return Outcome(ExecutionStatus.FAILED, error=described)
    last = max(closed_ways, key=lambda one: one.until or 0)
    in_us = 0 if last.until is None else max(0, last.until - now_us())
    postponed = {"breaker": last.breaker, "in_us": in_us, "by_hub": last.by_hub}
    if last is not error:  # branches that met one: the code that readers match on
        described["code"] = last.code
    return Outcome(ExecutionStatus.FAILED, error=described, postponed=postponed)


def _timed_out(spec: RunSpec) -> Outcome:
    message = f"{spec.name} did not finish within {spec.deadline_s:g} s"
    return Outcome(
        ExecutionStatus.TIMED_OUT, error={"code": "deadline_exceeded", "message": message}
    )


def _interrupts_in(final: object) -> Any:
    return cast("dict[str, Any]", final).get("__interrupt__") if isinstance(final, dict) else None


def _interrupted(interrupts: Any) -> Outcome:
    asked = [encode(getattr(one, "value", one)).decode()[:500] for one in interrupts]
    return Outcome(
        ExecutionStatus.FAILED,
        error={
            "code": "interrupted",
            "message": "the graph called interrupt(), but has no checkpoints to wait with; "
            f"it asked: {'; '.join(asked)}",
            "hint": "register it with Graph(…, checkpoints=True)",
        },
    )


def _event_forms(event: Any, data: bytes) -> tuple[bytes, ...]:
    """JSON spellings under which the event may appear in a step's input.

    The validated event stands for the stored data only when it says the same: defaults that the
    schema filled in make it another value.
    """
    spelled = encode(event)
    if spelled != data and orjson.loads(spelled) == orjson.loads(data):
        return (data, spelled)
    return (data,)


def _described(x: _Running, error: BaseException) -> dict[str, Any]:
    described = x.collector.describe(error)
    described.setdefault("code", "step_failed")
    return described

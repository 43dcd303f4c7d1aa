"""A run with checkpoints: where it begins or goes on, and what it waits for when it halts."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl
from langgraph.store.base import BaseStore
from langgraph.types import Command, Interrupt, StateSnapshot

from holdfast.domain.checkpoints import Saved, of_one_task, saved_to_json
from holdfast.domain.halts import Wait, WaitKind
from holdfast.pipelines.base import AnyGraph, Declaration
from holdfast.pipelines.waiting import ASKED
from holdfast.ports import CheckpointsPort, RunSpec
from holdfast.recording import Collector

from .holding import HeldCheckpoints
from .saver import PortSaver
from .serializer import StrictSerializer

BREAKPOINT = "breakpoint"
"""Id of the wait of a graph that stops at a breakpoint it was compiled with."""


@dataclass(frozen=True, slots=True)
class Ran:
    """How far a run came.

    Attributes:
        final: the graph's final state, when it finished.
        paused: it was asked to stop, and did before its next step.
        waits: what it waits for.
        saved: checkpoints that are to be stored with the outcome, as JSON.
    """

    final: Any = None
    paused: bool = False
    waits: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    saved: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


class CheckpointedRun:
    """One execution of a declaration whose graph has checkpoints.

    Durable: each step's state is stored before the next one starts. Otherwise it is held in memory
    and leaves with the outcome, if that is a halt. Where the thread is that of a session, what the
    next turn begins with leaves with a success: a turn that is lost, or fails, has never been.
    """

    def __init__(
        self,
        declaration: Declaration,
        spec: RunSpec,
        port: CheckpointsPort,
        serializer: StrictSerializer,
        collector: Collector,
        items: BaseStore | None = None,
    ) -> None:
        self._declaration = declaration
        self._spec = spec
        self._collector = collector
        self._control = RunControl()
        # A replay that crashes begins anew: what it repeats costs nothing.
        self._durable = declaration.durable and spec.replay is None
        self._carries_on = thread_of(declaration, spec) != spec.event_id
        known = spec.goes_on or self._carries_on  # there may be checkpoints
        self._held = None if self._durable else HeldCheckpoints(port, goes_on=known)
        saver = PortSaver(
            self._held or port,
            spec.execution_id,
            serializer,
            new_thread=None if known else spec.event_id,
        )
        self._graph = with_own(declaration.graph(), items, saver)

    def pause(self) -> None:
        """Let it stop before its next step."""
        self._control.request_drain("pause")

    async def run(self, event: Any, config: RunnableConfig) -> Ran:
        """Run to the end or the next halt; in a replay to the next that has no recorded answer."""
        given = await self._given(event, config)
        while True:
            try:
                final: Any = await self._graph.ainvoke(
                    given,
                    config,
                    durability="sync" if self._durable else "exit",
                    control=self._control,
                )
            except GraphDrained:
                return Ran(paused=True, saved=self._saved())
            snapshot = None
            if _interrupts(final) or self._has_breakpoints():
                snapshot = await self._graph.aget_state(config, subgraphs=True)
            if snapshot is None or not (waits := _waits(snapshot)):
                return Ran(final, saved=self._carried())
            answers = self._answers(waits)
            if not answers:
                return Ran(waits=waits, saved=self._saved())
            self._collector.go_on()
            given = _command(snapshot, answers)

    def _answers(self, waits: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """What a replay's record has for these waits, by their ids."""
        replaying = self._collector.replaying
        if replaying is None:
            return {}
        came = {one["id"]: replaying.came(one) for one in waits}
        return {id_: answer for id_, answer in came.items() if answer is not None}

    async def _given(self, event: Any, config: RunnableConfig) -> Any:
        """The graph's input: the event, or the answers to what it waits for, or to just go on."""
        if not self._spec.goes_on:
            return self._declaration.initial(event)
        snapshot = await self._graph.aget_state(config, subgraphs=True)
        if snapshot.metadata is None:  # it crashed before its first checkpoint
            return self._declaration.initial(event)
        # Only what still waits: after a crash an answer may have been taken already, and must not
        # be given to the next question as well.
        return _command(snapshot, self._spec.answers)

    def _saved(self) -> list[dict[str, Any]]:
        held: list[Saved] = self._held.saved if self._held is not None else []
        return [saved_to_json(one) for one in held]

    def _carried(self) -> list[dict[str, Any]]:
        """What the next turn of the thread begins with."""
        if not self._carries_on or self._held is None:
            return []
        return [saved_to_json(one) for one in self._held.saved if not of_one_task(one.ns)]

    def _has_breakpoints(self) -> bool:
        return bool(self._graph.interrupt_before_nodes or self._graph.interrupt_after_nodes)


def thread_of(declaration: Declaration, spec: RunSpec) -> str:
    """The thread an execution runs on; a replay has one of its own, whatever it repeats."""
    session_id = spec.session_id if spec.replay is None else None
    return declaration.thread_id(spec.event_id, session_id)


def with_own(graph: AnyGraph, items: BaseStore | None, saver: PortSaver | None) -> AnyGraph:
    """The graph over our store and saver; those it was compiled with have no place in a run."""
    ours = copy.copy(graph)
    ours.checkpointer = saver
    ours.store = items
    return ours


def _command(snapshot: StateSnapshot, answers: Mapping[str, Any]) -> Command[Any] | None:
    """What lets a graph go on: the answers to what it waits for; None to just go on."""
    resume = {
        one.id: _came(one, answers[one.id]) for one in snapshot.interrupts if one.id in answers
    }
    return Command(resume=resume) if resume else None


def _interrupts(final: object) -> Any:
    return cast("dict[str, Any]", final).get("__interrupt__") if isinstance(final, dict) else None


def _came(one: Interrupt, answer: Mapping[str, Any]) -> Any:
    """What the interrupted node gets: ours the whole, a foreign one the bare answer."""
    value: Any = one.value
    if isinstance(value, dict) and ASKED in value:
        return answer
    return answer.get("answer")


def _waits(snapshot: StateSnapshot) -> list[dict[str, Any]]:
    found = [_wait(one, task.name) for task in snapshot.tasks for one in task.interrupts]
    known = {wait.id for wait in found}
    found += [_wait(one, "interrupt") for one in snapshot.interrupts if one.id not in known]
    pending = {one.id for one in snapshot.interrupts}
    found = [wait for wait in found if wait.id in pending]
    if not found and snapshot.next:
        before = ", ".join(snapshot.next)
        question = f"go on with {before}?"
        found = [Wait(id=BREAKPOINT, kind=WaitKind.ANSWER, name=before, question=question)]
    unique = {wait.id: wait for wait in found}
    return [asdict(wait) for wait in unique.values()]


def _wait(one: Interrupt, name: str) -> Wait:
    value: Any = one.value
    if isinstance(value, dict) and ASKED in value:
        return Wait.of({"id": one.id, **cast("dict[str, Any]", value[ASKED])})
    schema: Any = getattr(one, "response_schema", None)
    return Wait(id=one.id, kind=WaitKind.ANSWER, name=name, question=value, schema=schema)

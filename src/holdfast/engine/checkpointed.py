"""A run with checkpoints: where it begins or goes on, and what it waits for when it halts."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl
from langgraph.types import Command, Interrupt, StateSnapshot

from holdfast.domain.checkpoints import Saved, saved_to_json
from holdfast.domain.halts import Wait, WaitKind
from holdfast.pipelines.base import AnyGraph, Declaration
from holdfast.pipelines.waiting import ASKED
from holdfast.ports import CheckpointsPort, RunSpec

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
    and leaves with the outcome, if that is a halt.
    """

    def __init__(
        self,
        declaration: Declaration,
        spec: RunSpec,
        port: CheckpointsPort,
        serializer: StrictSerializer,
    ) -> None:
        self._declaration = declaration
        self._spec = spec
        self._control = RunControl()
        self._held = None if declaration.durable else HeldCheckpoints(port, goes_on=spec.goes_on)
        saver = PortSaver(
            self._held or port,
            spec.execution_id,
            serializer,
            new_thread=None if spec.goes_on else spec.event_id,
        )
        self._graph = _with_saver(declaration.graph(), saver)

    def pause(self) -> None:
        """Let it stop before its next step."""
        self._control.request_drain("pause")

    async def run(self, event: Any, config: RunnableConfig) -> Ran:
        """Run to the end or the next halt."""
        given = await self._given(event, config)
        try:
            final: Any = await self._graph.ainvoke(
                given,
                config,
                durability="sync" if self._declaration.durable else "exit",
                control=self._control,
            )
        except GraphDrained:
            return Ran(paused=True, saved=self._saved())
        snapshot = None
        if _interrupts(final) or self._has_breakpoints():
            snapshot = await self._graph.aget_state(config, subgraphs=True)
        if snapshot is not None and (waits := _waits(snapshot)):
            return Ran(waits=waits, saved=self._saved())
        return Ran(final)

    async def _given(self, event: Any, config: RunnableConfig) -> Any:
        """The graph's input: the event, or the answers to what it waits for, or to just go on."""
        if not self._spec.goes_on:
            return self._declaration.initial(event)
        snapshot = await self._graph.aget_state(config, subgraphs=True)
        if snapshot.metadata is None:  # it crashed before its first checkpoint
            return self._declaration.initial(event)
        # Only what still waits: after a crash an answer may have been taken already, and must not
        # be given to the next question as well.
        resume = {
            one.id: _came(one, self._spec.answers[one.id])
            for one in snapshot.interrupts
            if one.id in self._spec.answers
        }
        return Command(resume=resume) if resume else None

    def _saved(self) -> list[dict[str, Any]]:
        held: list[Saved] = self._held.saved if self._held is not None else []
        return [saved_to_json(one) for one in held]

    def _has_breakpoints(self) -> bool:
        return bool(self._graph.interrupt_before_nodes or self._graph.interrupt_after_nodes)


def _with_saver(graph: AnyGraph, saver: PortSaver) -> AnyGraph:
    """The graph over our saver; one it was compiled with, and a store, have no place in a run."""
    ours = copy.copy(graph)
    ours.checkpointer = saver
    ours.store = None
    return ours


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

"""Runs declarations as the engine does: a current run, scripted models, everything recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from holdfast.domain.changes import (
    AttemptFinished,
    AttemptStarted,
    AttemptValidated,
    Change,
    StepFinished,
    StepStarted,
    read_change,
)
from holdfast.domain.payload import Payload
from holdfast.llm.factory import Models
from holdfast.pipelines.base import Declaration
from holdfast.pipelines.context import RunContext, running
from holdfast.ports import ModelConfig, NoCache, Ports
from holdfast.recording import Collector, RecordingHandler
from holdfast.testing.ports import MemoryBudgets


@dataclass
class Sink:
    changes: list[Change] = field(default_factory=list)

    def change(self, execution_id: str, raw: bytes) -> None:
        self.changes.append(read_change(raw))

    def tokens(self, execution_id: str, step: int, text: str) -> None: ...


@dataclass
class SentEvents:
    sent: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)

    async def submit(self, *, execution_id, type, data, idempotency_key=None) -> str:
        self.sent.append((type, data))
        return f"event-{len(self.sent)}"


@dataclass
class Ran:
    """One run and its record."""

    declaration: Declaration
    context: RunContext
    sink: Sink
    events: SentEvents
    final: Any = None
    error: Exception | None = None

    @property
    def output(self) -> Any:
        if self.error:
            raise self.error
        return self.declaration.result(self.final)

    @property
    def results(self) -> dict[str, Any]:
        if self.error:
            raise self.error
        return self.final["results"]

    @property
    def failures(self) -> list[Any]:
        return self.declaration.failures(self.final)

    def of(self, kind: type[Any]) -> list[Any]:
        return [change for change in self.sink.changes if isinstance(change, kind)]

    @property
    def steps(self) -> dict[str, StepStarted]:
        return {step.operation: step for step in self.of(StepStarted)}

    def ended(self, operation: str) -> StepFinished:
        number = self.steps[operation].step
        return next(step for step in self.of(StepFinished) if step.step == number)

    def attempts(self, operation: str) -> list[AttemptFinished]:
        number = self.steps[operation].step
        return [a for a in self.of(AttemptFinished) if a.step == number]

    def validations(self, operation: str) -> list[AttemptValidated]:
        number = self.steps[operation].step
        return [a for a in self.of(AttemptValidated) if a.step == number]

    def recorded_output(self, operation: str) -> Any:
        payload = Payload([entry for change in self.sink.changes for entry in change.texts])
        return payload.get(self.ended(operation).output)

    def messages(self, operation: str) -> list[list[dict[str, Any]]]:
        payload = Payload([entry for change in self.sink.changes for entry in change.texts])
        number = self.steps[operation].step
        return [payload.get(a.messages) for a in self.of(AttemptStarted) if a.step == number]


class Runner:
    async def __call__(self, declaration: Declaration, data: Any, **options: Any) -> Ran:
        configs = {
            alias: ModelConfig(alias=alias, provider="scripted", model="rules")
            for alias in ("fast", "standard")
        }
        sink, events = Sink(), SentEvents()
        collector = Collector("x1", sink)
        cache = options.pop("cache", None) or NoCache()
        declared = declaration.budget
        amounts = {} if declared is None else declared.amounts()
        budgets = MemoryBudgets(amounts, f"an execution of {declaration.name}")
        context = RunContext(
            execution_id=options.pop("execution_id", "x1"),
            event_id="e1",
            owner_id="local",
            delivery=1,
            models=Models(configs, budgets=budgets),
            ports=Ports(events=events, cache=cache, budgets=budgets),
            **options,
        )
        ran = Ran(declaration, context, sink, events)
        handler = RecordingHandler(collector)
        event = declaration.validate(data)
        with running(context):
            try:
                ran.final = await declaration.graph().ainvoke(
                    declaration.initial(event), {"callbacks": [handler]}
                )
            except Exception as error:  # noqa: BLE001 - tests look at it
                ran.error = error
        return ran


@pytest.fixture
def run() -> Runner:
    return Runner()

"""Halts: what an execution that stands still waits for, and where it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from typing import Any


class WaitKind(StrEnum):
    """What ends a wait."""

    ANSWER = "answer"  # a person's
    TIME = "time"
    EVENT = "event"
    CHILD = "child"  # an execution of another pipeline, which the wait itself starts


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildRun:
    """The execution that a wait starts, and waits for.

    Attributes:
        pipeline: that it runs.
        target_kind: as in `NewEvent`.
        data: JSON of its event; None once the event is stored.
        priority: of its event; None for the parent event's.
        step: the parent's step that asked for it; None where nothing records.
        group: waits of one event with the same group end together: nothing could go on before.
        eager: a failure lets the parent go on at once, for it has something to do about it.
        after_us: how long the event is held back, microseconds.
        event_id: its event's, given by the hub that takes the halt in.
    """

    pipeline: str
    target_kind: str = "pipeline"
    data: str | None = None
    priority: int | None = None
    step: int | None = None
    group: str = ""
    eager: bool = False
    after_us: int = 0
    event_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """One thing a halted execution waits for.

    Attributes:
        id: LangGraph's, of the interrupt.
        name: of the node that waits.
        question: what to ask a person; any JSON.
        schema: JSON Schema an answer must fit; None takes any.
        wake_at: microseconds since the epoch; for an answer or an event, when the wait expires.
        wake_in: the same from the moment the halt is stored, microseconds.
        awaits: type of the event waited for.
        subject: what that event's subject must be; None takes any.
        child: what is run, and waited for.
    """

    id: str
    kind: WaitKind
    name: str
    question: Any = None
    schema: dict[str, Any] | None = None
    wake_at: int | None = None
    wake_in: int | None = None
    awaits: str | None = None
    subject: str | None = None
    child: ChildRun | None = None

    @classmethod
    def of(cls, written: Mapping[str, Any]) -> Wait:
        """Out of JSON."""
        fields: dict[str, Any] = {**written, "kind": WaitKind(written["kind"])}
        if fields.get("child") is not None:
            fields["child"] = ChildRun(**fields["child"])
        return cls(**fields)

    def on_record(self) -> dict[str, Any]:
        """As JSON, without what a child's event has."""
        child = None if self.child is None else replace(self.child, data=None)
        return asdict(replace(self, child=child))


def answer_on_record(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What came, without the output of a child: that stands in the child's own record."""
    return {name: value for name, value in answer.items() if name != "output"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums over an execution's attempts; a sum of known parts only, see the two counters."""

    tokens_input: int = 0
    tokens_output: int = 0
    tokens_cached: int = 0
    tokens_reasoning: int = 0
    cost_pico: int = 0  # picodollars
    credits: int = 0
    usage_unknown: int = 0  # attempts whose tokens nobody reported
    cost_unknown: int = 0  # attempts without a known price

    def __add__(self, other: Totals) -> Totals:
        """Both together."""
        return Totals(
            **{one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(self)}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Halt:
    """Where an execution stands still, with all that is needed to go on counting.

    Attributes:
        part: number of the record's next part.
        steps: steps so far.
        texts: payload entries so far.
        seq: number of its last change.
        started_at: when the execution began.
        code_version: under which it began.
        counts: ended steps so far by status.
        totals: sums so far.
        flags: as in `Execution`.
        open: fields of the steps that had not ended.
        stops: as in `Execution`, this one last.
        same: whether the same execution goes on; after a crash another one does.
        prompts: the versions of prompts that it uses, as its nodes ask for them.
    """

    part: int
    steps: int
    texts: int
    seq: int
    started_at: int
    code_version: str
    counts: Mapping[str, int]
    totals: Totals
    flags: Mapping[str, Any]
    open: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    stops: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    same: bool = True
    prompts: Mapping[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def of(cls, written: Mapping[str, Any]) -> Halt:
        """Out of JSON."""
        known: dict[str, Any] = {**written, "totals": Totals(**written["totals"])}
        return cls(**known)

    def to_json(self) -> dict[str, Any]:
        """The inverse of `of`."""
        return asdict(self)

    def broken(self) -> Halt:
        """After a crash: its checkpoints and answers hold, but another execution goes on."""
        return replace(self, same=False)

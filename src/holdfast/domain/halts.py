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

    @classmethod
    def of(cls, written: Mapping[str, Any]) -> Wait:
        """Out of JSON."""
        fields: dict[str, Any] = {**written, "kind": WaitKind(written["kind"])}
        return cls(**fields)


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

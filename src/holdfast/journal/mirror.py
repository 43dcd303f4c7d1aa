"""A running execution seen from another hub: as it stood when its own hub was asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from holdfast.domain.executions import Attempt, Execution, Step, Totals
from holdfast.domain.payload import Entry, Payload
from holdfast.domain.status import ExecutionStatus, StepStatus

from .running import Running


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """What `Running` shows, out of `reflect`.

    Attributes:
        seq: number of its newest change.
        ended: whether it has told its end; the record may not be stored yet.
        goes_on: whether it stood still before this part.
        streamed: text so far of model calls under way, by step.
    """

    id: str
    owner_id: str
    seq: int
    ended: bool
    goes_on: bool
    streamed: Mapping[int, str]
    entries: list[Entry]
    event_data: Any
    parts: tuple[Execution, tuple[Step, ...], tuple[Attempt, ...]]

    def execution(self) -> Execution:
        """See `Running.execution`."""
        return self.parts[0]

    def steps(self) -> tuple[Step, ...]:
        """See `Running.steps`."""
        return self.parts[1]

    def attempts(self) -> tuple[Attempt, ...]:
        """See `Running.attempts`."""
        return self.parts[2]

    def payload(self) -> Payload:
        """See `Running.payload`."""
        return Payload(self.entries, event_data=self.event_data)


Live = Running | Mirror
"""A running execution, of this hub or of another."""


def reflect(running: Running) -> dict[str, Any]:
    """What another hub needs to show a running execution, as JSON."""
    return {
        "seq": running.seq,
        "ended": running.ended,
        "goes_on": running.goes_on,
        "streamed": list(running.streamed.items()),
        "entries": running.entries,
        "event_data": orjson.loads(running.start.claimed.data),
        "execution": asdict(running.execution()),
        "steps": [asdict(step) for step in running.steps()],
        "attempts": [asdict(attempt) for attempt in running.attempts()],
    }


def mirror(body: Mapping[str, Any]) -> Mirror:
    """The inverse of `reflect`."""
    execution = execution_from(body["execution"])
    return Mirror(
        id=execution.id,
        owner_id=execution.owner_id,
        seq=body["seq"],
        ended=body["ended"],
        goes_on=body["goes_on"],
        streamed=dict(body["streamed"]),
        entries=body["entries"],
        event_data=body["event_data"],
        parts=(
            execution,
            tuple(Step(**_with_status(step)) for step in body["steps"]),
            tuple(Attempt(**_with_status(attempt)) for attempt in body["attempts"]),
        ),
    )


def execution_from(body: Mapping[str, Any]) -> Execution:
    """An execution out of its fields as JSON."""
    fields: dict[str, Any] = {
        **body,
        "status": ExecutionStatus(body["status"]),
        "totals": Totals(**body["totals"]),
    }
    return Execution(**fields)


def _with_status(body: Mapping[str, Any]) -> dict[str, Any]:
    return {**body, "status": StepStatus(body["status"])}

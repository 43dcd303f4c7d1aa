"""Recordings: executions of code that Holdfast did not run, told by a `Recorder`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .events import NewEvent

RECORDED = "recorded"
"""The kind of an execution that ran elsewhere, and the target kind of the event made for it."""

FOLDER_PREFIX = "recorder-"
"""How the journal folders of recorders begin; a hub's are named by its boot alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """The first thing a recorder tells of an execution."""

    execution_id: str
    event_id: str  # of the event that is stored together with the record
    owner_id: str
    name: str
    version: str
    source: str  # `recorder:NAME`
    data: str  # JSON: what the execution was given
    traceparent: str | None
    started_at: int

    def event(self) -> NewEvent:
        """The event that stands for the call."""
        return NewEvent(
            id=self.event_id,
            owner_id=self.owner_id,
            type=self.name,
            source=self.source,
            subject=None,
            target=self.name,
            target_kind=RECORDED,
            data=self.data.encode(),
            idempotency_key=None,
            body_hash="",
            priority=0,
            traceparent=self.traceparent,
            occurred_at=self.started_at,
        )


def begun_from(fields: dict[str, Any]) -> Begun:
    """A beginning out of its decoded JSON object.

    Raises:
        ValueError: a field is missing, unknown or of a wrong type.
    """
    try:
        begun = Begun(**fields)
    except TypeError as error:
        raise ValueError(f"not the beginning of a recording: {error}") from error
    for name, value in fields.items():
        if name == "traceparent" and value is None:
            continue
        if type(value) is not (int if name == "started_at" else str):
            raise ValueError(f"not the beginning of a recording: {name} is {value!r:.100}")
    return begun

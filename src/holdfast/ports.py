"""What running work may ask of its hub, and what it tells it: one small Protocol per service.

Inside a runner these are answered over the socket, in tests and notebooks by direct calls. Every
call has a deadline on the asking side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """One execution to run: everything a runner needs to know, and nothing it does not."""

    execution_id: str
    event_id: str
    owner_id: str
    kind: str  # pipeline
    name: str
    version: str
    data: bytes  # the event's data as JSON
    delivery: int
    deadline_s: float | None = None  # seconds from the start
    traceparent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """What a model alias stands for.

    Secrets are resolved by the hub and only for the aliases in use; they never enter a record.
    """

    alias: str
    provider: str
    model: str
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])
    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)


class RecordSink(Protocol):
    """Takes an execution's changes in order; never blocks, never raises into the run."""

    def change(self, execution_id: str, raw: bytes) -> None:
        """Take one change as `domain.changes.write_change` wrote it."""
        ...

    def tokens(self, execution_id: str, step: int, text: str) -> None:
        """Take a piece of streamed text; may be dropped under load, is never journalled."""
        ...


class EventsPort(Protocol):
    """Lets a step send a further event."""

    async def submit(
        self,
        *,
        execution_id: str,
        type: str,  # noqa: A002 - CloudEvents' name
        data: Mapping[str, Any],
        idempotency_key: str | None = None,
    ) -> str:
        """Store an event for the execution's owner and return its id.

        Raises:
            PortError: the hub did not answer in time or refused.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The services one execution may use."""

    events: EventsPort

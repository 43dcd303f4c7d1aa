"""What running work may ask of its hub, and what it tells it: one small Protocol per service.

Inside a runner these are answered over the socket, in tests and notebooks by direct calls. Every
call has a deadline on the asking side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from holdfast.domain.breakers import Outcome
from holdfast.domain.checkpoints import Checkpoint, CheckpointsWanted, Saved
from holdfast.errors import PortError


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
    goes_on: bool = False  # there are checkpoints to go on from
    answers: Mapping[str, Any] = field(default_factory=dict[str, Any])  # by id of the wait
    steps: int = 0  # of the same execution before it halted
    texts: int = 0  # … its payload entries
    open: Sequence[Mapping[str, Any]] = ()  # … its steps that had not ended
    replay: Mapping[str, Any] | None = None  # fields of `domain.replays.Plan`; None: no replay


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


@dataclass(frozen=True, slots=True)
class CachedResult:
    """A result kept for the same input."""

    execution_id: str  # whose it was
    value: str  # JSON


class CachePort(Protocol):
    """Keeps results of steps for a while, apart for each owner; may forget any of them."""

    async def get(self, *, execution_id: str, key: str) -> CachedResult | None:
        """What was kept under the key by an execution of the same owner; None when nothing.

        Raises:
            PortError: the hub did not answer in time or refused.
        """
        ...

    async def put(self, *, execution_id: str, key: str, value: str, ttl_s: float) -> None:
        """Keep a result, as JSON, for so many seconds at most.

        Raises:
            PortError: the hub did not answer in time or refused.
        """
        ...


class NoCache:
    """A cache that keeps nothing, where there is no hub to keep it."""

    async def get(self, *, execution_id: str, key: str) -> CachedResult | None:  # noqa: ARG002
        """See `CachePort.get`."""
        return None

    async def put(self, *, execution_id: str, key: str, value: str, ttl_s: float) -> None:
        """See `CachePort.put`."""


class CheckpointsPort(Protocol):
    """Keeps the state of graphs, for the execution's owner and under its lease.

    Calls take effect in the order in which they were made, not in that of their answers. Each
    raises `PortError` when the hub did not answer in time or refused, above all when the lease
    is lost.
    """

    async def save(self, *, execution_id: str, saved: Sequence[Saved]) -> None:
        """Store checkpoints and writes that follow one, all or none; stored when this returns."""
        ...

    async def list(self, *, execution_id: str, wanted: CheckpointsWanted) -> Sequence[Checkpoint]:
        """Checkpoints with their values and writes, newest first."""
        ...

    async def drop_runs(self, *, execution_id: str, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints whose metadata name one of these runs."""
        ...

    async def copy(self, *, execution_id: str, source: str, target: str) -> None:
        """Copy a thread; what the other thread had is gone."""
        ...

    async def prune(self, *, execution_id: str, thread_ids: Sequence[str], keep: str) -> None:
        """Delete threads; with `keep="latest"` the newest checkpoint of each namespace stays."""
        ...


class NoCheckpoints:
    """Where nothing keeps checkpoints: graphs that need none run, others say why they do not."""

    async def save(self, *, execution_id: str, saved: Sequence[Saved]) -> None:  # noqa: ARG002
        """See `CheckpointsPort.save`."""
        raise PortError("nothing keeps checkpoints here")

    async def list(
        self,
        *,
        execution_id: str,  # noqa: ARG002
        wanted: CheckpointsWanted,  # noqa: ARG002
    ) -> Sequence[Checkpoint]:
        """See `CheckpointsPort.list`."""
        return []

    async def drop_runs(self, *, execution_id: str, run_ids: Sequence[str]) -> None:  # noqa: ARG002
        """See `CheckpointsPort.drop_runs`."""
        raise PortError("nothing keeps checkpoints here")

    async def copy(self, *, execution_id: str, source: str, target: str) -> None:  # noqa: ARG002
        """See `CheckpointsPort.copy`."""
        raise PortError("nothing keeps checkpoints here")

    async def prune(self, *, execution_id: str, thread_ids: Sequence[str], keep: str) -> None:  # noqa: ARG002
        """See `CheckpointsPort.prune`."""
        raise PortError("nothing keeps checkpoints here")


class RecordsPort(Protocol):
    """Hands out the record that a replay repeats."""

    async def replayed(self, *, execution_id: str) -> Mapping[str, Any]:
        """The record that this execution repeats, as `domain.replays.Recorded` writes it.

        Raises:
            PortError: the hub did not answer in time, or the record is gone.
        """
        ...


class NoRecords:
    """Where no records are kept."""

    async def replayed(self, *, execution_id: str) -> Mapping[str, Any]:  # noqa: ARG002
        """See `RecordsPort.replayed`."""
        raise PortError("no records are kept here")


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to make one call.

    Attributes:
        breaker: whose.
        generation: of its state as the caller knew it; what is told of older ones does not count.
        probe: id of the probe that this call is; None for an ordinary one.
    """

    breaker: str
    generation: int = 0
    probe: str | None = None


class BreakersPort(Protocol):
    """Says whether calls to something outside are made, and hears how they ended."""

    async def allow(self, breaker: str) -> Permit:
        """Ask before a call; asks the hub only when a probe may be due.

        Raises:
            BreakerOpen: no call is to be made now.
        """
        ...

    def allow_in_thread(self, breaker: str) -> Permit:
        """The same for blocking code in a thread of its own.

        Raises:
            BreakerOpen: no call is to be made now.
        """
        ...

    def report(self, permit: Permit, outcome: Outcome, reason: str = "") -> bool:
        """Tell how the call ended, from any thread; never waits.

        Returns:
            Whether the breaker is known to be open, so that the event had better run later.
        """
        ...


class NoBreakers:
    """Where there is no hub to count failures: every call is made."""

    async def allow(self, breaker: str) -> Permit:
        """See `BreakersPort.allow`."""
        return Permit(breaker)

    def allow_in_thread(self, breaker: str) -> Permit:
        """See `BreakersPort.allow_in_thread`."""
        return Permit(breaker)

    def report(self, permit: Permit, outcome: Outcome, reason: str = "") -> bool:  # noqa: ARG002
        """See `BreakersPort.report`."""
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The services one execution may use."""

    events: EventsPort
    cache: CachePort = field(default_factory=NoCache)
    checkpoints: CheckpointsPort = field(default_factory=NoCheckpoints)
    records: RecordsPort = field(default_factory=NoRecords)
    breakers: BreakersPort = field(default_factory=NoBreakers)

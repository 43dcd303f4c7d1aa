"""The contract of a worker: something that runs executions for the hub."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Protocol

from holdfast.ports import RunSpec


class WorkerState(StrEnum):
    """Where a worker stands; alive is not ready."""

    STARTING = "starting"
    READY = "ready"
    RETIRING = "retiring"  # takes no new work, leaves when its runs have ended
    GONE = "gone"


class Employer(Protocol):
    """Whom a worker reports to. Called in the hub's loop."""

    def on_ready(self, worker: Worker) -> None:
        """It takes work from now on."""
        ...

    def on_change(self, worker: Worker, execution_id: str, raw: bytes) -> None:
        """A change of an execution, in order."""
        ...

    def on_tokens(self, execution_id: str, step: int, text: str) -> None:
        """Streamed text."""
        ...

    def on_ended(self, worker: Worker, execution_id: str) -> None:
        """An execution has sent its last change; its slot is free."""
        ...

    def on_gone(self, worker: Worker, reason: str) -> None:
        """The process has ended; whatever it was running has crashed."""
        ...

    async def ask(self, execution_id: str, port: str, args: dict[str, Any]) -> Any:
        """Answer a port call of a running step."""
        ...

    def on_outcome(self, told: Mapping[str, Any]) -> None:
        """How calls under a breaker ended."""
        ...

    def on_spent(self, told: Mapping[str, Any]) -> None:
        """What a call did use of its reservation."""
        ...


class Worker(ABC):
    """Runs up to `slots` executions at once."""

    def __init__(self, name: str, slots: int) -> None:
        self.name = name
        self.slots = slots
        self.state = WorkerState.STARTING
        self.in_flight: set[str] = set()  # execution ids
        self.solo = False  # hired for one execution that must run alone
        self.pid: int | None = None  # of its process, where it has one
        self.heard_at: int | None = None  # when its loop last answered, microseconds

    @property
    def free(self) -> int:
        """Executions it can take now."""
        if self.state is not WorkerState.READY or self.solo:
            return 0
        return self.slots - len(self.in_flight)

    @abstractmethod
    async def start(self) -> None:
        """Begin; `on_ready` follows."""

    @abstractmethod
    def run(self, spec: RunSpec) -> None:
        """Start an execution; the caller has seen that a slot is free."""

    @abstractmethod
    def cancel(self, execution_id: str) -> None:
        """Ask an execution to stop."""

    @abstractmethod
    def pause(self, execution_id: str) -> None:
        """Ask an execution to stop before its next step."""

    def learn_breakers(self, standings: Sequence[Mapping[str, Any]]) -> None:  # noqa: B027
        """Hear how breakers stand; for a worker that makes calls."""

    @abstractmethod
    def retire(self) -> None:
        """Take no new work and leave when the running has ended."""

    def terminate(self) -> None:  # noqa: B027
        """SIGTERM, for one that has a process of its own."""

    @abstractmethod
    async def kill(self) -> None:
        """End at once; returns when it is gone."""

    @abstractmethod
    async def gone(self) -> None:
        """Wait until nothing of it is left."""

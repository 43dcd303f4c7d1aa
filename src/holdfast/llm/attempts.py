"""The tries of a model call, as told to whoever records the call."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from langchain_core.callbacks import BaseRunManager
from langchain_core.messages import BaseMessage

TELLS_ATTEMPTS = "holdfast_attempts"
"""Metadata of a chat model that tells its tries by itself: its run's start is not one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Whom a try asks, and how."""

    provider: str | None
    model: str | None
    parameters: Mapping[str, Any]
    alias: str | None = None  # by which it is asked; None: the caller made the model


class AttemptLog(Protocol):
    """Notes the tries of model calls by the run they belong to; other runs mean nothing to it."""

    def attempt_started(self, run_id: UUID, asked: Asked) -> None:
        """A try is about to be made."""
        ...

    def attempt_answered(self, run_id: UUID, said: BaseMessage | None) -> None:
        """It was answered; `said` knows what it used. The answer comes with the run's end."""
        ...

    def attempt_failed(self, run_id: UUID, error: BaseException) -> None:
        """It failed, or was given up."""
        ...

    def attempt_refused(self, run_id: UUID, asked: Asked, error: BaseException) -> None:
        """A try was not made: what stands before the provider refused it."""
        ...

    def attempt_cached(self, run_id: UUID, asked: Asked) -> None:
        """No try was needed: the answer was kept."""
        ...

    def attempts_of(self, run_id: UUID) -> int:
        """Tries so far of the step that the run belongs to."""
        ...


_call: ContextVar[tuple[UUID, tuple[AttemptLog, ...]] | None] = ContextVar(
    "holdfast_model_call", default=None
)


def note_call(run_id: UUID, log: AttemptLog) -> None:
    """Tell who records the model call that has just started in this context.

    LangChain hands no run to a model that streams; its callbacks run in the caller's context.
    """
    known = _call.get()
    before = known[1] if known is not None and known[0] == run_id else ()
    _call.set((run_id, (*before, log)))


class Tries:
    """Tells the tries of one call to all who record it."""

    __slots__ = ("_logs", "_run_id")

    def __init__(self, run_id: UUID, logs: tuple[AttemptLog, ...]) -> None:
        self._run_id = run_id
        self._logs = logs

    @property
    def count(self) -> int:
        """Tries so far."""
        return sum(log.attempts_of(self._run_id) for log in self._logs)

    def started(self, asked: Asked) -> None:
        """See `AttemptLog.attempt_started`."""
        for log in self._logs:
            log.attempt_started(self._run_id, asked)

    def answered(self, said: BaseMessage | None) -> None:
        """See `AttemptLog.attempt_answered`."""
        for log in self._logs:
            log.attempt_answered(self._run_id, said)

    def failed(self, error: BaseException) -> None:
        """See `AttemptLog.attempt_failed`."""
        for log in self._logs:
            log.attempt_failed(self._run_id, error)

    def refused(self, asked: Asked, error: BaseException) -> None:
        """See `AttemptLog.attempt_refused`."""
        for log in self._logs:
            log.attempt_refused(self._run_id, asked, error)

    def cached(self, asked: Asked) -> None:
        """See `AttemptLog.attempt_cached`."""
        for log in self._logs:
            log.attempt_cached(self._run_id, asked)


def tries_of(run_manager: BaseRunManager | None) -> Tries | None:
    """The tries of the call under way; None where nobody records it."""
    known = _call.get()
    if known is None:
        return None
    run_id, logs = known
    # Several calls begun at once share a context; only the run tells them apart.
    return Tries(run_id if run_manager is None else run_manager.run_id, logs)

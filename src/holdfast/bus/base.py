"""The contract of the bus: small notices with ids, never payloads; a doorbell, not the truth."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

QUEUED = "event.queued"  # something may be claimed
ENDED = "event.ended"  # an event reached a status in which it rests
CANCEL = "execution.cancel"  # a running execution is to be stopped
PAUSE = "execution.pause"  # … before its next step, to go on later
HALTED = "event.halted"  # something waits, perhaps for a time
DELAYED = "event.delayed"  # something is queued for a later time
BREAKER = "breaker.moved"  # a breaker was opened or closed; the store says which


@dataclass(frozen=True, slots=True)
class Notice:
    """One ring of the bell."""

    topic: str
    event_id: str | None = None
    execution_id: str | None = None
    status: str | None = None


class Bus(ABC):
    """Carries notices. They may be lost; whoever listens must be right without them, only later."""

    @abstractmethod
    def publish(self, notice: Notice) -> None:
        """Send a notice; returns at once. Only to be called after the commit it speaks of."""

    @abstractmethod
    def listen(self, topic: str, call: Callable[[Notice], None]) -> Callable[[], None]:
        """Call `call` in the loop for each notice of `topic`; the returned function ends that."""

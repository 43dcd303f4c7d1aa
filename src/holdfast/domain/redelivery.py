"""Redelivery: which failures are worth running an event again, and when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .ids import MICROS

RETRIED = frozenset({"temporary", "rate_limit"})
"""Classes of errors that are worth another try."""

RETRY_AFTER_AT_MOST_S = 24 * 3600.0
"""A provider that asks to wait longer is asked again after this: no slot is held meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Pauses before retries: `first`, then each `factor` times the one before, at most `most`.

    Attributes:
        first: seconds before the first retry.
        factor: by which each further pause grows.
        most: seconds no pause is longer than.
        jitter: share of a pause that is left to chance, 0 to 1, so that many executions that
            failed together do not come back together.
    """

    first: float = 0.5
    factor: float = 2.0
    most: float = 30.0
    jitter: float = 0.5

    def pause(self, retry: int, chance: float) -> float:
        """Seconds before a retry.

        Args:
            retry: its number, from 1.
            chance: a random number from 0 to 1.
        """
        whole = min(self.most, self.first * self.factor ** min(retry - 1, 64))
        return whole * (1 - self.jitter * chance)


BETWEEN_DELIVERIES = Backoff(first=2.0, factor=2.0, most=600.0, jitter=1.0)
"""Pauses between an event's deliveries: all of each is left to chance ("full jitter", Marc Brooker,
AWS Architecture Blog, 2015)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Redelivery:
    """What a pipeline says of running an event again.

    Attributes:
        retries: further deliveries after temporary errors.
        backoff: pauses before them.
        chance: a random number from 0 to 1 for this once.
    """

    retries: int = 0
    backoff: Backoff = field(default_factory=lambda: BETWEEN_DELIVERIES)
    chance: float = 0.0

    def pause_us(self, errors: int, error: Mapping[str, Any]) -> int:
        """Microseconds before the next delivery.

        Args:
            errors: how many deliveries ended with a temporary error, this one included.
            error: the execution's; what the provider asked to wait comes before the pause.
        """
        asked = min(error.get("retry_after_s") or 0.0, RETRY_AFTER_AT_MOST_S)
        return int((asked + self.backoff.pause(errors, self.chance)) * MICROS)


def temporary(error: Mapping[str, Any] | None) -> bool:
    """Whether an execution's error may be gone the next time."""
    return error is not None and error.get("error_class") in RETRIED


def not_redelivered(error: Mapping[str, Any]) -> dict[str, Any]:
    """What is told of an event that began, was broken off, and must not begin again."""
    return {
        **error,
        "code": "not_redelivered",
        "message": f"{error['message']}; its pipeline runs no event twice (redeliver=False)",
        "cause": error["code"],
    }

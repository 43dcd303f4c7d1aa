"""The time a model call has, known to all that work for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar

from holdfast.errors import ModelError


class Deadline:
    """When a call is to be over.

    Attributes:
        seconds: it was given.
    """

    __slots__ = ("_at", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._at = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds it still has; 0 afterwards."""
        return max(0.0, self._at - time.monotonic())

    def late(self) -> ModelError:
        """The error of a call that took longer."""
        return ModelError(
            f"the model did not answer within {self.seconds:g} s, its time_limit_s",
            error_class="temporary",
        )


_why: ContextVar[Callable[[], ModelError | None] | None] = ContextVar(
    "holdfast_why_cancelled", default=None
)


@contextmanager
def cancelled_for(why: Callable[[], ModelError | None]) -> Generator[None]:
    """A span whose calls may be cancelled for a reason that they cannot see."""
    token = _why.set(why)
    try:
        yield
    finally:
        _why.reset(token)


def why_cancelled() -> ModelError | None:
    """Why the call under way was cancelled, if because its time was over."""
    why = _why.get()
    return None if why is None else why()

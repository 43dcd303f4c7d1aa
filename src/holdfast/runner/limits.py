"""Limits of models as running work sees them: leave is asked of the hub, which counts for all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from holdfast.domain.ids import new_id
from holdfast.errors import ModelError
from holdfast.ports import Allowance

ASK_TIMEOUT_S = 75.0
"""How long to wait for the hub, which itself gives up after a minute."""


class AskedLimits:
    """Answers `ports.LimitsPort` by asking the hub.

    Args:
        ask: puts a question to the hub: execution, port, arguments.
        tell: tells it what became of a call; from any thread.
    """

    def __init__(
        self,
        ask: Callable[[str, str, dict[str, Any]], Awaitable[Any]],
        tell: Callable[[dict[str, Any]], None],
    ) -> None:
        self._ask = ask
        self._tell = tell

    async def take(
        self, *, execution_id: str, name: str, limits: Mapping[str, int], tokens: int
    ) -> Allowance:
        """See `LimitsPort.take`."""
        taken = Allowance(name, new_id())
        asked = {"name": name, "id": taken.id, "limits": dict(limits), "tokens": tokens}
        try:
            wait_s, refused = await self._ask(execution_id, "limits.take", asked)
        except BaseException:  # it may have been given all the same
            self.settle(taken, made=False, tokens=None)
            raise
        if refused:
            raise LimitReached(name, wait_s)
        return Allowance(name, taken.id, wait_s)

    def settle(self, allowance: Allowance, *, made: bool, tokens: int | None) -> None:
        """See `LimitsPort.settle`."""
        self._tell({"limit": allowance.name, "id": allowance.id, "made": made, "tokens": tokens})


class LimitReached(ModelError):
    """A model's own limits leave no room for a call soon enough.

    Attributes:
        retry_after_s: when there is room again.
    """

    code = "model_limit_reached"

    def __init__(self, name: str, retry_after_s: float) -> None:
        super().__init__(
            f"{name} is at the limits set for it; there is room in {retry_after_s:.0f} s",
            error_class="rate_limit",
            hint="raise the alias's limits, or name fallbacks",
        )
        self.retry_after_s = retry_after_s

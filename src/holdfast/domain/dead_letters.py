"""Dead letters: events that used up their deliveries, and what people do about them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Action(StrEnum):
    """What can be done to a dead letter."""

    EDITED = "edited"  # its data was replaced; it begins anew when it is replayed
    REPLAYED = "replayed"  # queued again, its counters at nought
    DISCARDED = "discarded"  # cancelled for good


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervention:
    """What somebody did to a dead letter.

    Attributes:
        by: id of the API key, or the local user.
        data: the event's data before it was edited.
        before: `deliveries`, `crashes`, `errors`, `last_error` and `finished_at` until then.
    """

    id: str
    event_id: str
    action: Action
    at: int
    by: str
    reason: str | None
    data: Any
    before: dict[str, Any]

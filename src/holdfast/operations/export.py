"""Hand out an execution whole, as one self-contained JSON document."""

from __future__ import annotations

from typing import Any

from . import read
from .kit import Kit
from .views import event_view, record_view

EXPORT_FORMAT = "holdfast.execution/1"


async def export_execution(kit: Kit, execution_id: str, owner_id: str) -> dict[str, Any]:
    """The execution and its event, nothing left out.

    Raises:
        NotFound: no such execution of that owner.
    """
    whole = await read.execution(kit, execution_id, owner_id)
    event = await read.event(kit, whole.execution.event_id, owner_id)
    family = await read.family(kit, execution_id, owner_id)
    return {
        "format": EXPORT_FORMAT,
        "event": event_view(event),
        "execution": record_view(
            whole.execution, whole.steps, whole.attempts, whole.payload, family
        ),
    }

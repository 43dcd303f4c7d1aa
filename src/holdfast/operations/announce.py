"""Tell whom it concerns what a command has moved besides what it was about."""

from __future__ import annotations

from collections.abc import Iterable

from holdfast.bus import Notice
from holdfast.bus.base import CANCEL, ENDED, QUEUED
from holdfast.domain.status import EVENT_ENDS, EventStatus
from holdfast.store.commands import Moved

from .kit import Kit


def announce(kit: Kit, moved: Iterable[Moved]) -> None:
    """Publish a notice for each child and each parent that moved."""
    for one in moved:
        if one.status is EventStatus.QUEUED:
            kit.bus.publish(Notice(QUEUED, event_id=one.event_id))
        elif one.status is EventStatus.RUNNING:
            kit.bus.publish(Notice(CANCEL, event_id=one.event_id, execution_id=one.execution_id))
        elif one.status in EVENT_ENDS:
            kit.bus.publish(
                Notice(
                    ENDED,
                    event_id=one.event_id,
                    execution_id=one.execution_id,
                    status=one.status,
                )
            )

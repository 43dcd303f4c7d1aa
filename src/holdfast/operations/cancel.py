"""Stop an event: at once when it waits, through its runner when it runs."""

from __future__ import annotations

from holdfast.bus import Notice
from holdfast.bus.base import CANCEL, ENDED, QUEUED
from holdfast.domain.status import EXECUTION_ENDS, EventStatus
from holdfast.errors import IllegalMove
from holdfast.store.commands import Cancel, Cancelled
from holdfast.store.queries import EventById, ExecutionById

from .announce import announce
from .kit import Kit


async def cancel_event(kit: Kit, event_id: str, owner_id: str) -> Cancelled:
    """Cancel an unfinished event, and with it the child executions it waits for.

    Returns:
        Where it stands now: `cancelled`, or `running` while its step is being stopped.

    Raises:
        NotFound: no such event of that owner.
        IllegalMove: it has ended.
    """
    cancelled = await kit.store.write(Cancel(event_id=event_id, owner_id=owner_id))
    if cancelled.status is EventStatus.CANCELLED:
        event = await kit.store.read(EventById(event_id, owner_id))
        kit.bus.publish(
            Notice(ENDED, event_id=event_id, status=cancelled.status, session_id=event.session_id)
        )
        # For the next of its session.
        kit.bus.publish(Notice(QUEUED, event_id, target=event.target))
    else:
        kit.bus.publish(Notice(CANCEL, event_id=event_id, execution_id=cancelled.execution_id))
    announce(kit, cancelled.others)
    return cancelled


async def cancel_execution(kit: Kit, execution_id: str, owner_id: str) -> Cancelled:
    """Cancel the event an execution runs.

    Raises:
        NotFound: no such execution of that owner.
        IllegalMove: it has ended.
    """
    running = kit.journal.get(execution_id)
    if running is not None and running.owner_id == owner_id:
        return await cancel_event(kit, running.event_id, owner_id)
    execution = await kit.store.read(ExecutionById(execution_id, owner_id))
    if execution.status in EXECUTION_ENDS:
        raise IllegalMove(
            f"execution {execution_id} is {execution.status} and cannot be cancelled",
            hint="its event may be running again: cancel the event",
        )
    return await cancel_event(kit, execution.event_id, owner_id)

"""Recovery: what a dead boot of this machine left behind is taken in before anything new runs."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.bus import Notice
from holdfast.bus.base import CHANGED, ENDED, QUEUED
from holdfast.domain.ids import now_us
from holdfast.domain.status import EventStatus, ExecutionStatus
from holdfast.errors import StoreError
from holdfast.journal import Orphan, Running
from holdfast.operations.announce import announce
from holdfast.operations.kit import Kit
from holdfast.store.commands import Apologise, GivenBack, HubLeft, TakeBack
from holdfast.store.commands.processes import ReturnProcesses
from holdfast.telemetry import logger

from .answers import apology
from .ending import Endings

log = logger("hub")

HUB_DIED = {"code": "hub_died", "message": "the hub's process died while this was running"}

RECORDER_DIED = {
    "code": "recorder_died",
    "message": "the process that recorded this ended before it told the end",
}


async def recover(kit: Kit, endings: Endings) -> int:
    """Take in every journal folder whose boot is dead.

    An execution that had told its outcome is stored with it; one that had not becomes a `crashed`
    record with the steps it had done, and its event is given back without counting a crash, for
    it was the hub that died. Leases without a journal entry are given back as well.

    Returns:
        How many executions were taken in.
    """
    taken = 0
    for orphan, left in kit.journal.orphans():
        taken += await take_in(kit, endings, orphan, left)
    return taken


async def tell(kit: Kit, given_back: Sequence[GivenBack]) -> None:
    """Ring for events that were taken back, and tell who follows their executions.

    A turn that was given up with them has no record to bring a word to its conversation.
    """
    for one in given_back:
        if one.status in (EventStatus.DEAD, EventStatus.FAILED):
            await _apologise(kit, one)
        if one.status is not EventStatus.QUEUED:
            kit.bus.publish(Notice(ENDED, one.event_id, status=one.status))
        kit.bus.publish(Notice(QUEUED, one.event_id))  # it, or the next of its session
        announce(kit, one.others)
        kit.bus.publish(Notice(CHANGED, one.event_id, one.execution_id))


async def _apologise(kit: Kit, lost: GivenBack) -> None:
    message = apology(ExecutionStatus.CRASHED, HUB_DIED)
    try:
        await kit.store.write(
            Apologise(event_id=lost.event_id, owner_id=lost.owner_id, message=message)
        )
    except StoreError as error:
        log.error("hub.not_apologised", event_id=lost.event_id, reason=str(error))


async def take_in(kit: Kit, endings: Endings, orphan: Orphan, left: list[Running]) -> int:
    """Store what is left in one folder and remove it; see `recover`."""
    stored = False
    try:
        for running in left:
            if running.finished is None:
                reason = HUB_DIED if running.start.begun is None else RECORDER_DIED
                running.break_off(ExecutionStatus.CRASHED, now_us(), reason)
            await endings.store_now(running, counts_as_crash=False)
        given_back = await kit.store.write(TakeBack(orphan.boot_id))
        await kit.store.write(ReturnProcesses(orphan.boot_id))
        await kit.store.write(HubLeft(orphan.boot_id))
        stored = True
    finally:
        if stored:
            orphan.remove()
        else:
            orphan.release()
    log.info("hub.recovered", boot=orphan.boot_id, executions=len(left), leases=len(given_back))
    await tell(kit, given_back)
    return len(left) + len(given_back)

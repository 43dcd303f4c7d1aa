"""Recovery: what a dead boot of this machine left behind is taken in before anything new runs."""

from __future__ import annotations

from holdfast.bus import Notice
from holdfast.bus.base import QUEUED
from holdfast.domain.ids import now_us
from holdfast.domain.status import ExecutionStatus
from holdfast.operations.kit import Kit
from holdfast.store.commands import TakeBack
from holdfast.telemetry import logger

from .ending import Endings

log = logger("hub")

HUB_DIED = {"code": "hub_died", "message": "the hub's process died while this was running"}


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
        stored = False
        try:
            for running in left:
                if running.finished is None:
                    running.break_off(ExecutionStatus.CRASHED, now_us(), HUB_DIED)
                await endings.store_now(running, counts_as_crash=False)
                taken += 1
            given_back = await kit.store.write(TakeBack(orphan.boot_id))
            stored = True
        finally:
            if stored:
                orphan.remove()
            else:
                orphan.release()
        log.info("hub.recovered", boot=orphan.boot_id, executions=len(left), leases=len(given_back))
        taken += len(given_back)
    if taken:
        kit.bus.publish(Notice(QUEUED))
    return taken

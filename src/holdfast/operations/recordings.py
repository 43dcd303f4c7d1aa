"""Recordings sent over the network: checked, stored, each answered for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from holdfast.bus import Notice
from holdfast.bus.base import ENDED
from holdfast.domain.executions import Record
from holdfast.domain.ids import is_id, now_us
from holdfast.domain.status import EXECUTION_ENDS, ExecutionStatus
from holdfast.errors import HoldfastError, InvalidInput, StoreError, StoreRefused
from holdfast.journal import Running
from holdfast.store.commands import Finish, Finished

from .announce import announce
from .kit import Kit

CUT_OFF = {"code": "recorder_died", "message": "the recording ends before its execution's end"}


OUTCOMES = EXECUTION_ENDS - {ExecutionStatus.SUPERSEDED}
"""How a recording may end: it has no lease to lose, and nothing resumes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What became of sent recordings.

    Attributes:
        stored: executions that are in the database now, sent before or not.
        refused: why others never will be, by execution.
        faults: entries that could not be understood and were passed over.
    """

    stored: list[str]
    refused: dict[str, HoldfastError]
    faults: int


async def keep_recordings(kit: Kit, owner_id: str, entries: Sequence[bytes]) -> Kept:
    """Store executions that ran elsewhere; when this returns, they are committed.

    One whose end is not among the entries becomes `crashed`. The same may be sent again.

    Args:
        kit: the hub's parts.
        owner_id: whose they are.
        entries: as a journal has them, each execution whole.

    Raises:
        InvalidInput: there is none that can be understood.
        StoreError: the database is away; send them again.
    """
    found, faults = await asyncio.to_thread(kit.journal.recordings, entries, owner_id)
    if not found:
        raise InvalidInput(
            f"there is no recording in these {len(entries)} lines",
            hint="a recording begins with an entry `r`; holdfast.Recorder sends them",
        )
    refused: dict[str, HoldfastError] = {}
    fit: list[tuple[Running, Record]] = []
    for running in found:
        try:
            fit.append((running, _record(running)))
        except InvalidInput as error:
            refused[running.id] = error
    results = await asyncio.gather(
        *(kit.store.write(Finish(record)) for _, record in fit), return_exceptions=True
    )
    stored: list[str] = []
    for (running, _), result in zip(fit, results, strict=True):
        if isinstance(result, StoreError) and not isinstance(result, StoreRefused):
            raise result
        if isinstance(result, HoldfastError):
            refused[running.id] = result
        elif isinstance(result, BaseException):
            raise result
        else:
            stored.append(running.id)
            _tell(kit, running, result)
            announce(kit, result.others)
    return Kept(stored=stored, refused=refused, faults=faults)


def _record(running: Running) -> Record:
    """What is to be stored of it.

    Raises:
        InvalidInput: what it tells makes no sense.
    """
    if not (is_id(running.id) and is_id(running.event_id)):
        raise InvalidInput(f"{running.id!a} of event {running.event_id!a} is no id of a recording")
    if running.finished is None:
        running.break_off(ExecutionStatus.CRASHED, now_us(), CUT_OFF)
    elif running.finished.status not in OUTCOMES:
        raise InvalidInput(f"a recording cannot end as {running.finished.status!a}")
    try:
        return running.record(counts_as_crash=False)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise InvalidInput(f"recording {running.id} makes no sense: {error}") from error


def _tell(kit: Kit, running: Running, finished: Finished) -> None:
    kit.bus.publish(
        Notice(
            ENDED,
            event_id=running.event_id,
            execution_id=running.id,
            status=finished.event_status,
        )
    )

"""What runs on other hubs, as it stands this moment: asked of them over the bus."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.domain.executions import Execution
from holdfast.domain.status import ExecutionStatus
from holdfast.errors import HubSilent
from holdfast.journal.mirror import Live, execution_from, mirror
from holdfast.store.queries import ExecutionById, Holders
from holdfast.telemetry import logger

from .kit import Kit

log = logger("live")

RECORD = "live.record"  # an execution whole, and perhaps notices of its changes
SUMMARIES = "live.summaries"  # executions without their steps

LIST_S = 0.5
"""How long a list waits for another hub; what it does not tell is shown as it is stored."""


async def live(kit: Kit, execution_id: str, owner_id: str, *, follow: bool = False) -> Live | None:
    """A running execution, wherever it runs; None when it does not, or its hub is silent.

    Args:
        kit: the hub's parts.
        execution_id: which.
        owner_id: whose.
        follow: ring `CHANGED` here for a while when it comes further.

    Raises:
        NotFound: no such execution of that owner.
    """
    running = kit.journal.get(execution_id)
    if running is not None and running.owner_id == owner_id:
        return running
    if not kit.bus.joins:
        return None
    execution = await kit.store.read(ExecutionById(execution_id, owner_id))
    if execution.status is not ExecutionStatus.RUNNING:
        return None
    holders = await kit.store.read(Holders(owner_id, [execution.event_id]))
    holder = holders.get(execution_id)
    if holder is None or holder == kit.boot_id:
        return None
    args = {"execution_id": execution_id, "owner_id": owner_id, "follow": follow}
    body = await _ask(kit, holder, RECORD, args)
    return None if body is None else mirror(body)


async def summaries(kit: Kit, found: Sequence[Execution], owner_id: str) -> list[Execution]:
    """The same executions, those that run as they stand this moment."""
    shown = [
        execution if (running := kit.journal.get(execution.id)) is None else running.execution()
        for execution in found
    ]
    away = {
        one.id: place
        for place, one in enumerate(shown)
        if one.status is ExecutionStatus.RUNNING and kit.journal.get(one.id) is None
    }
    if not kit.bus.joins or not away:
        return shown
    event_ids = [shown[place].event_id for place in away.values()]
    by_hub: defaultdict[str, list[str]] = defaultdict(list)
    for execution_id, holder in (await kit.store.read(Holders(owner_id, event_ids))).items():
        if execution_id in away and holder != kit.boot_id:
            by_hub[holder].append(execution_id)
    asked = [
        _ask(kit, hub, SUMMARIES, {"ids": ids, "owner_id": owner_id}, within_s=LIST_S)
        for hub, ids in by_hub.items()
    ]
    for bodies in await asyncio.gather(*asked):
        for body in bodies or ():
            execution = execution_from(body)
            shown[away[execution.id]] = execution
    return shown


async def _ask(kit: Kit, hub: str, verb: str, args: Mapping[str, Any], **rest: float) -> Any:
    try:
        return await kit.bus.ask(hub, verb, args, **rest)
    except HubSilent as error:
        log.info("live.hub_silent", hub=hub, verb=verb, reason=str(error))
        return None

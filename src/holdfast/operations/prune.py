"""Delete what pipelines say need not be kept any longer."""

from __future__ import annotations

from collections.abc import Mapping

from holdfast.domain.ids import MICROS, now_us
from holdfast.store.commands import Prune
from holdfast.store.queries import CountOld, OldEvents

from .kit import Kit

BATCH = 50
"""Events deleted in one transaction."""


async def prune(
    kit: Kit,
    owner_id: str,
    *,
    pipeline: str | None = None,
    dry_run: bool = False,
    now: int | None = None,
) -> Mapping[str, int]:
    """Delete ended events older than their pipeline's `retention`, with all that ran for them.

    What has not ended stays, and so do dead letters. Each batch is a transaction of its own:
    broken off, it has deleted whole events only, and can be called again.

    Args:
        kit: the hub's parts.
        owner_id: whose.
        pipeline: only this one's; None for all that declare a retention.
        dry_run: only count.
        now: microseconds since the epoch; None for the clock's.

    Returns:
        Events by pipeline; only pipelines that declare a retention.

    Raises:
        UnknownPipeline: no such pipeline is loaded.
    """
    chosen = kit.registry if pipeline is None else [kit.registry.pipeline(pipeline)]
    at = now_us() if now is None else now
    pruned: dict[str, int] = {}
    for one in sorted(chosen, key=lambda declaration: declaration.name):
        if one.retention is None:
            continue
        before = at - int(one.retention.total_seconds() * MICROS)
        if dry_run:
            old = CountOld(owner_id=owner_id, target=one.name, before=before)
            pruned[one.name] = await kit.store.read(old)
            continue
        pruned[one.name] = await _prune(kit, owner_id, one.name, before)
    return pruned


async def _prune(kit: Kit, owner_id: str, target: str, before: int) -> int:
    deleted, after = 0, ""
    while True:
        old = OldEvents(owner_id=owner_id, target=target, before=before, after=after)
        ids = await kit.store.read(old)
        for start in range(0, len(ids), BATCH):
            batch = Prune(owner_id=owner_id, event_ids=ids[start : start + BATCH])
            deleted += await kit.store.write(batch)
        if len(ids) < old.limit:
            return deleted
        after = ids[-1]

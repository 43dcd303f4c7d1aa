"""Stop running executions before their next step, and keep queued ones from starting."""

from __future__ import annotations

from holdfast.bus import Notice
from holdfast.bus.base import PAUSE, QUEUED
from holdfast.domain.replays import Plan
from holdfast.domain.status import ExecutionStatus
from holdfast.errors import IllegalMove
from holdfast.store.commands import AskPause, PausePipeline, Resumed, UnpausePipeline

from . import read
from .kit import Kit


async def pause(kit: Kit, execution_id: str, owner_id: str) -> Resumed:
    """Ask a running execution to stop before its next step; the answer comes at once.

    Raises:
        NotFound: no such execution of that owner.
        IllegalMove: it does not run, or has no checkpoints and would lose what it has done.
    """
    execution = await read.summary(kit, execution_id, owner_id)
    if execution.status is not ExecutionStatus.RUNNING:
        raise IllegalMove(f"execution {execution_id} is {execution.status} and cannot be paused")
    if not kit.registry.get(execution.name).checkpointed:
        raise IllegalMove(
            f"execution {execution_id} has no checkpoints and cannot be paused",
            hint=f"declare {execution.name} with durable=True, or cancel it",
        )
    event = await read.event(kit, execution.event_id, owner_id)
    if event.replay is not None and Plan(**event.replay).needs_record:
        raise IllegalMove(
            f"execution {execution_id} is answered from a record and cannot be paused",
            hint="cancel it; to replay it again costs nothing",
        )
    asked = await kit.store.write(AskPause(execution.event_id, owner_id))
    kit.bus.publish(Notice(PAUSE, event_id=execution.event_id, execution_id=execution_id))
    return asked


async def pause_pipeline(kit: Kit, name: str, owner_id: str) -> None:
    """Let no further event of a pipeline start; what runs goes on.

    Raises:
        UnknownPipeline: no such pipeline is loaded.
    """
    kit.registry.pipeline(name)
    await kit.store.write(PausePipeline(name, owner_id))


async def resume_pipeline(kit: Kit, name: str) -> None:
    """Let a pipeline's events start again.

    Raises:
        UnknownPipeline: no such pipeline is loaded.
    """
    kit.registry.pipeline(name)
    await kit.store.write(UnpausePipeline(name))
    kit.bus.publish(Notice(QUEUED, target=name))

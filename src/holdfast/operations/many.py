"""One verb on many executions or events, chosen by a filter; a failure stops none of the others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from holdfast.domain.executions import Execution
from holdfast.domain.status import EventStatus, ExecutionStatus
from holdfast.errors import HoldfastError, InvalidInput
from holdfast.store.queries import ListEvents, ListExecutions
from holdfast.store.queries.pages import MAX_PAGE

from . import read
from .cancel import cancel_event, cancel_execution
from .kit import Kit
from .pause import pause, pause_pipeline, resume_pipeline
from .resume import resume

MAX_REFUSED = 50
"""Refusals told by name; further ones are only counted."""

Verb = Callable[[Kit, str, str], Awaitable[Any]]

VERBS: dict[str, tuple[Verb, frozenset[ExecutionStatus]]] = {
    "cancel": (
        cancel_execution,
        frozenset({ExecutionStatus.RUNNING, ExecutionStatus.WAITING, ExecutionStatus.PAUSED}),
    ),
    "pause": (pause, frozenset({ExecutionStatus.RUNNING})),
    "resume": (resume, frozenset({ExecutionStatus.PAUSED})),
}
"""What can be done to many, and in which status."""

UNFINISHED = (EventStatus.QUEUED, EventStatus.RUNNING, EventStatus.WAITING, EventStatus.PAUSED)


@dataclass(slots=True)
class Done:
    """What came of it.

    Attributes:
        matched: how many the filter chose.
        done: how many took the verb; none in a dry run.
        refused: id, code and message of those that did not, the first `MAX_REFUSED`.
    """

    matched: int = 0
    done: int = 0
    refused: list[dict[str, str]] = field(default_factory=list[dict[str, str]])

    async def take(self, id_: str, work: Awaitable[Any]) -> None:
        """Count one more."""
        try:
            await work
        except HoldfastError as error:
            if len(self.refused) < MAX_REFUSED:
                self.refused.append({"id": id_, "code": error.code, "message": error.message})
        else:
            self.done += 1


async def many_executions(kit: Kit, verb: str, wanted: ListExecutions, *, dry_run: bool) -> Done:
    """Cancel, pause or resume all executions that a filter chooses.

    Args:
        kit: the hub's parts.
        verb: one of `VERBS`.
        wanted: the filter; without a status those for which the verb has a sense.
        dry_run: only count them.

    Raises:
        InvalidInput: the verb has no sense for the status asked for.
    """
    act, statuses = VERBS[verb]
    if wanted.status is not None and wanted.status not in statuses:
        known = ", ".join(sorted(statuses))
        raise InvalidInput(
            f"executions that are {wanted.status} cannot be chosen for {verb}",
            fields=[
                {"field": "filter.status", "expected": f"one of: {known}", "got": wanted.status}
            ],
        )
    done = Done()
    chosen = [wanted.status] if wanted.status is not None else sorted(statuses)
    for execution in [one async for one in _executions(kit, wanted, chosen)]:
        done.matched += 1
        if not dry_run:
            await done.take(execution.id, act(kit, execution.id, wanted.owner_id))
    return done


async def whole_pipeline(
    kit: Kit, verb: str, name: str, owner_id: str, *, dry_run: bool = False
) -> Done:
    """Cancel, pause or resume a pipeline: its executions, and for its queued events the pipeline.

    Cancelling ends every unfinished event. Pausing keeps queued ones from starting and stops the
    running ones that have checkpoints; the others run to their end and are told as refused.

    Raises:
        UnknownPipeline: no such pipeline is loaded.
    """
    kit.registry.pipeline(name)
    if verb == "cancel":
        return await _cancel_events(kit, name, owner_id, dry_run=dry_run)
    if not dry_run:
        await (
            pause_pipeline(kit, name, owner_id) if verb == "pause" else resume_pipeline(kit, name)
        )
    wanted = ListExecutions(owner_id=owner_id, name=name)
    return await many_executions(kit, verb, wanted, dry_run=dry_run)


async def _cancel_events(kit: Kit, name: str, owner_id: str, *, dry_run: bool) -> Done:
    done = Done()
    for status in UNFINISHED:
        page = ListEvents(owner_id=owner_id, status=status, target=name, limit=MAX_PAGE)
        while True:
            found = await read.events(kit, page)
            for event in found:
                done.matched += 1
                if not dry_run:
                    await done.take(event.id, cancel_event(kit, event.id, owner_id))
            if len(found) < MAX_PAGE:
                break
            page = replace(page, before=found[-1].id)
    return done


async def _executions(
    kit: Kit, wanted: ListExecutions, statuses: Sequence[ExecutionStatus]
) -> AsyncIterator[Execution]:
    for status in statuses:
        page = replace(wanted, status=status, limit=MAX_PAGE)
        while True:
            found = await read.executions(kit, page)
            for execution in found:
                yield execution
            if len(found) < MAX_PAGE:
                break
            page = replace(page, before=found[-1].id)

"""Let what stands still go on: with an answer, after a pause, under another version."""

from __future__ import annotations

from typing import Any

from holdfast.bus import Notice
from holdfast.bus.base import QUEUED
from holdfast.domain.agents import AGENT
from holdfast.domain.events import Event
from holdfast.domain.halts import WaitKind
from holdfast.domain.status import EventStatus
from holdfast.errors import IllegalMove, InvalidInput, NotFound, VersionGone
from holdfast.store.commands import Answer, Migrate, Resumed, Unpause
from holdfast.store.queries import GivenWait, WaitsOf

from . import read
from .kit import Kit

NOTHING: Any = object()
"""No answer was given; null may be one."""


async def resume(
    kit: Kit,
    execution_id: str,
    owner_id: str,
    *,
    answer: Any = NOTHING,
    wait: str | None = None,
) -> Resumed:
    """Let a halted execution go on.

    Args:
        kit: the hub's parts.
        execution_id: which.
        owner_id: whose it is.
        answer: what it waits for, as JSON; a paused one takes none.
        wait: id or name of the wait that is answered, where there are several.

    Raises:
        NotFound: no such execution of that owner, or no such wait.
        AlreadyAnswered: somebody else's answer was first.
        IllegalMove: it neither waits for an answer nor is paused.
        InvalidInput: the answer is missing or does not fit; `fields` says where.
        VersionGone: the version it began under is not loaded.
    """
    event = await _event_of(kit, execution_id, owner_id)
    if event.status in (EventStatus.WAITING, EventStatus.PAUSED):
        _check_version(kit, event)
    if event.status is EventStatus.PAUSED:
        if answer is not NOTHING:
            raise InvalidInput(
                f"execution {execution_id} is paused and takes no answer",
                fields=[{"field": "answer", "expected": "nothing", "got": "an answer"}],
            )
        resumed = await kit.store.write(Unpause(event.id, owner_id))
    else:
        if event.status is EventStatus.WAITING:
            await _check_answer(kit, event, answer, wait)
        elif answer is NOTHING:
            raise IllegalMove(f"execution {execution_id} is {event.status} and needs no resume")
        resumed = await kit.store.write(
            Answer(event_id=event.id, owner_id=owner_id, wait_id=wait, given=answer)
        )
    kit.bus.publish(Notice(QUEUED, event_id=event.id, target=event.target))
    return resumed


async def migrate(kit: Kit, execution_id: str, owner_id: str, version: str) -> Resumed:
    """Let a halted execution go on under another version of its pipeline, on purpose.

    Its checkpoints were written by the version it began under: the nodes that are still to run
    must be able to go on from them.

    Raises:
        NotFound: no such execution of that owner.
        IllegalMove: it is not halted.
        VersionGone: the version asked for is not the loaded one.
    """
    event = await _event_of(kit, execution_id, owner_id)
    loaded = kit.registry.get(event.target).version
    if version != loaded:
        raise VersionGone(
            f"version {version} of {event.target} is not loaded", hint=f"loaded is version {loaded}"
        )
    migrated = await kit.store.write(Migrate(event.id, owner_id, version))
    kit.bus.publish(Notice(QUEUED, event_id=event.id, target=event.target))
    return migrated


async def _event_of(kit: Kit, execution_id: str, owner_id: str) -> Event:
    execution = await read.summary(kit, execution_id, owner_id)
    event = await read.event(kit, execution.event_id, owner_id)
    if event.execution_id != execution_id:
        raise IllegalMove(
            f"execution {execution_id} is {execution.status}",
            hint=f"its event goes on with execution {event.execution_id}",
        )
    return event


def _check_version(kit: Kit, event: Event) -> None:
    if event.target_kind == AGENT:  # its older versions never come back
        return
    loaded = kit.registry.get(event.target).version
    if event.target_kind != AGENT and event.pinned not in (None, loaded):
        raise VersionGone(
            f"execution {event.execution_id} began under version {event.pinned} of "
            f"{event.target}; loaded is version {loaded}",
            hint="load that version again, or: holdfast executions migrate "
            f"{event.execution_id} --to {loaded}",
        )


async def _check_answer(kit: Kit, event: Event, answer: Any, wait: str | None) -> None:
    given = await kit.store.read(WaitsOf(event.id, event.owner_id))
    asked = [one for one in given if one.wait.kind is WaitKind.ANSWER]
    named = [one for one in asked if wait in (None, one.wait.id, one.wait.name)]
    if asked and wait is not None and not named:
        raise NotFound(
            f"execution {event.execution_id} does not wait for {wait!r}",
            hint=f"it waits for: {', '.join(one.wait.name for one in asked)}",
        )
    open_ = [one for one in named if one.answer is None]
    if len(open_) != 1:
        return  # none or several: the store says what is wrong with that
    _check_fits(kit, event, open_[0], answer)


def _check_fits(kit: Kit, event: Event, asked: GivenWait, answer: Any) -> None:
    if answer is NOTHING:
        raise InvalidInput(
            f"execution {event.execution_id} waits for an answer to {asked.wait.name}",
            hint="pass it as answer",
            fields=[{"field": "answer", "expected": "a value", "got": "nothing"}],
        )
    kit.registry.get(event.target).check_answer(asked.wait.name, answer)

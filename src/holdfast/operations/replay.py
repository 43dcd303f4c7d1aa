"""Run a recorded execution once more, and say where the two differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import orjson

from holdfast.bus import Notice
from holdfast.bus.base import QUEUED
from holdfast.domain.diff import Diff, Pair, Verdict, diff
from holdfast.domain.events import Event, NewEvent
from holdfast.domain.executions import Execution
from holdfast.domain.ids import new_id
from holdfast.domain.prompts import EDITED, Draft
from holdfast.domain.recordings import RECORDED
from holdfast.domain.redaction import is_redacted
from holdfast.domain.replays import REPLAYED, Plan, Recorded
from holdfast.domain.status import EXECUTION_ENDS, ExecutionStatus
from holdfast.errors import IllegalMove, InvalidInput, NotFound, NotReplayable, PortError
from holdfast.journal import Running
from holdfast.pipelines.base import Declaration
from holdfast.pipelines.replayable import check_plan, models_of
from holdfast.store.commands import Submit, Submitted
from holdfast.store.queries import ExecutionsOf, SentBy

from . import read
from .kit import Kit
from .prompts import find_version
from .submit import check_depth, event_hash

MOST_TOLD = 100
"""Steps that an execution's flags name; `diff` names them all."""

UNCHANGED: Any = object()
"""The replay gets the data that the recorded execution had; null may be other data."""


async def replay(
    kit: Kit,
    execution_id: str,
    owner_id: str,
    plan: Plan,
    *,
    data: Any = UNCHANGED,
    idempotency_key: str | None = None,
) -> Submitted:
    """Send an event that runs a recorded execution once more; when this returns, it is committed.

    Args:
        kit: the hub's parts.
        execution_id: what is repeated.
        owner_id: whose it is.
        plan: how; see `domain.replays.Plan`.
        data: other data for the event.
        idempotency_key: the same key and plan give the same event again.

    Raises:
        NotFound: no such execution of that owner.
        IllegalMove: it has not ended.
        NotReplayable: it ran elsewhere and was only recorded.
        UnknownPipeline: its pipeline is not loaded.
        InvalidInput: the plan names a node or an alias that does not exist, or the data does not
            fit.
        IdempotencyConflict: the key came before with another plan.
    """
    execution = await read.summary(kit, execution_id, owner_id)
    if execution.kind == RECORDED:
        raise NotReplayable(
            f"execution {execution_id} of {execution.name} was recorded where it ran; no pipeline "
            "here can run it again",
            hint="the code that ran it can; compare the two with: holdfast executions diff",
        )
    if execution.status not in EXECUTION_ENDS:
        raise IllegalMove(
            f"execution {execution_id} is {execution.status}; what has ended can be replayed"
        )
    declaration = kit.registry.get(execution.name)
    plan, versions = await _versions(kit, declaration, plan, owner_id)
    plan = check_plan(declaration, plan, versions)
    _check_aliases(kit, plan)
    event = await read.event(kit, execution.event_id, owner_id)
    if data is UNCHANGED:
        data = event.data
    check_depth(data)
    declaration.validate(data)
    how = orjson.dumps(asdict(plan))
    submitted = await kit.store.write(
        Submit(
            NewEvent(
                id=new_id(),
                owner_id=owner_id,
                type=event.type,
                source=f"/executions/{execution_id}/replay",
                subject=event.subject,
                target=execution.name,
                target_kind=declaration.kind,
                data=orjson.dumps(data),
                idempotency_key=idempotency_key,
                body_hash=""
                if idempotency_key is None
                else event_hash([execution_id, how.decode(), data]),
                priority=event.priority,
                traceparent=None,
                occurred_at=None,
                parent_id=execution_id,
                origin="replay",
                replay=how.decode(),
            )
        )
    )
    if submitted.created:
        kit.metrics.add("holdfast_events_submitted_total", pipeline=execution.name)
        kit.bus.publish(Notice(QUEUED, event_id=submitted.id, target=execution.name))
    return submitted


async def _versions(
    kit: Kit, declaration: Declaration, plan: Plan, owner_id: str
) -> tuple[Plan, dict[str, Draft]]:
    """The plan with the versions of prompts that it names in full, and their contents."""
    nodes = {name: node for name, (node, _) in models_of(declaration)}
    prompts: dict[str, Mapping[str, str]] = dict(plan.prompts)
    drafts: dict[str, Draft] = {}
    for name, parts in plan.prompts.items():
        node = nodes.get(name)
        if "version" not in parts or node is None:
            continue
        if node.stored is None:
            raise InvalidInput(
                f'the prompt of node "{name}" stands in the code: it has no versions',
                fields=[
                    {
                        "field": f"prompts.{name}.version",
                        "expected": "user or system",
                        "got": parts["version"],
                    }
                ],
            )
        found = await find_version(kit, node.stored.name, parts["version"], owner_id)
        drafts[found.version.hash] = found.version.draft
        prompts[name] = {
            "name": node.stored.name,
            "version": found.version.hash,
            "label": found.label or EDITED,
        }
    return replace(plan, prompts=prompts), drafts


def _check_aliases(kit: Kit, plan: Plan) -> None:
    for alias, other in plan.aliases.items():
        if other not in kit.aliases:
            known = ", ".join(sorted(kit.aliases)) or "none"
            raise InvalidInput(
                f"there is no model alias {other!r} to ask instead of {alias}",
                hint=f"known: {known}",
                fields=[
                    {"field": f"aliases.{alias}", "expected": f"one of: {known}", "got": other}
                ],
            )


async def recorded(kit: Kit, execution_id: str, owner_id: str) -> Recorded:
    """An execution as it was recorded, with what it sent.

    Raises:
        NotFound: no such execution of that owner.
    """
    whole = await read.execution(kit, execution_id, owner_id)
    event = await read.event(kit, whole.execution.event_id, owner_id)
    found = replace(_recorded(whole, event.data), submitted=tuple(await _sent(kit, event)))
    runs = await kit.store.read(ExecutionsOf(event.id, owner_id))
    for run in reversed([run for run in runs if run.id < execution_id]):
        if not _went_on(kit, event, run):
            break
        found = found.after(_recorded(await read.execution(kit, run.id, owner_id), event.data))
    return found


def _recorded(whole: read.Whole, data: Any) -> Recorded:
    return Recorded.of(whole.execution, whole.steps, whole.attempts, whole.payload, data=data)


def _went_on(kit: Kit, event: Event, run: Execution) -> bool:
    """Whether the event's next execution began where this one had crashed."""
    if run.status is not ExecutionStatus.CRASHED or event.origin == "replay":
        return False
    name = run.name
    durable = name in kit.registry and kit.registry.get(name).durable
    return durable or bool(run.stops)


async def _sent(kit: Kit, event: Event) -> list[dict[str, Any]]:
    """The events that the executions of an event sent; a replay's are those it repeats, too."""
    found: list[dict[str, Any]] = []
    while True:
        # An event sent again with its key keeps the source of the delivery that sent it first.
        for one in await kit.store.read(ExecutionsOf(event.id, event.owner_id)):
            found += await kit.store.read(SentBy(one.id, event.owner_id))
        if event.origin != "replay" or event.parent_id is None:
            return found
        try:
            repeated = await read.summary(kit, event.parent_id, event.owner_id)
        except NotFound:  # deleted meanwhile
            return found
        event = await read.event(kit, repeated.event_id, event.owner_id)


async def replayed(kit: Kit, running: Running) -> Recorded:
    """The record that a running replay repeats.

    Raises:
        PortError: it is no replay.
        NotFound: the record was deleted meanwhile.
    """
    claimed = running.start.claimed
    if claimed.parent_id is None or claimed.origin != "replay":
        raise PortError(f"execution {running.id} is no replay")
    return await recorded(kit, claimed.parent_id, running.owner_id)


async def differences(kit: Kit, running: Running) -> dict[str, Any]:
    """What a replay that has just ended says of itself: where it left the record.

    Raises:
        NotFound: the record it repeats was deleted meanwhile.
    """
    before = await replayed(kit, running)
    whole = read.live(running, await read.earlier(kit, running))
    data = orjson.loads(running.start.claimed.data)
    after = Recorded.of(whole.execution, whole.steps, whole.attempts, whole.payload, data=data)
    return told(diff(before, after))


def _answered_in_part(pair: Pair) -> bool:
    """Whether a step was answered from the record by something of which a part was not kept."""
    old, new = pair.a, pair.b
    if old is None or new is None:
        return False
    if new.given or new.kind in ("tool", "retriever", "retrieval"):
        return is_redacted(old.output)
    return any(
        is_redacted(then.answer) and now.usage == REPLAYED
        for then, now in zip(old.attempts, new.attempts, strict=False)
    )


def told(found: Diff) -> dict[str, Any]:
    """A comparison as the flags of a replay tell it: what differs, without the texts."""
    differing = found.differing[:MOST_TOLD]
    said: dict[str, Any] = {
        "differs": [
            {"step": pair.name, "what": [change.what for change in pair.changes]}
            for pair in differing
            if pair.verdict is Verdict.CHANGED
        ],
        "unrecorded": [pair.name for pair in differing if pair.verdict is Verdict.ONLY_B],
        "not_reached": [pair.name for pair in differing if pair.verdict is Verdict.ONLY_A],
    }
    if lost := [pair.name for pair in found.pairs if _answered_in_part(pair)]:
        said["redacted"] = lost[:MOST_TOLD]
    for change in found.changes:
        if change.what in ("version", "code_version"):
            said[change.what] = [change.a, change.b]
    return said

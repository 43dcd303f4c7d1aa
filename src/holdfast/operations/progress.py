"""Follow an execution: ordered entries that can be taken up again from any number.

Entries are made from the record, live or stored, so they read the same during the run and after
it. Each has the number of the journalled change it stands for; streamed text has none.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from holdfast.domain.status import EXECUTION_ENDS

from . import read
from .kit import Kit
from .views import View, attempt_view, execution_view, step_view

HEARTBEAT_S = 15.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened.

    Attributes:
        seq: change number; None for streamed text and heartbeats.
        type: `execution.started`, `step.started`, `attempt.started`, `attempt.finished`,
            `step.finished`, `execution.finished`, `tokens` or `heartbeat`.
        data: JSON object.
    """

    seq: int | None
    type: str
    data: View


def entries(whole: read.Whole, after: int) -> list[Entry]:
    """What happened after change number `after`, in order."""
    execution, payload = whole.execution, whole.payload
    found: list[Entry] = []
    if after < 0:
        started = {"id": execution.id, "event_id": execution.event_id, "name": execution.name}
        found.append(Entry(0, "execution.started", started))
    for step in whole.steps:
        if step.seq > after:
            data: dict[str, Any] = {
                "step": step.step,
                "parent": step.parent,
                "kind": step.kind,
                "operation": step.operation,
            }
            found.append(Entry(step.seq, "step.started", data))
        if step.end_seq is not None and step.end_seq > after:
            view = step_view(step, payload)
            del view["input"]
            found.append(Entry(step.end_seq, "step.finished", view))
    for attempt in whole.attempts:
        if attempt.seq > after:
            data = {
                "step": attempt.step,
                "n": attempt.n,
                "provider": attempt.provider,
                "model": attempt.model,
            }
            found.append(Entry(attempt.seq, "attempt.started", data))
        if attempt.end_seq is not None and attempt.end_seq > after:
            view = attempt_view(attempt, payload)
            kept = ("n", "status", "provider", "model", "duration_ms", "tokens", "cost_usd")
            data = {"step": attempt.step, **{key: view[key] for key in kept}}
            found.append(Entry(attempt.end_seq, "attempt.finished", data))
    if execution.status in EXECUTION_ENDS and execution.seq > after:
        view = {**execution_view(execution), "output": payload.get(execution.output)}
        found.append(Entry(execution.seq, "execution.finished", view))
    return sorted(found, key=lambda entry: entry.seq or 0)


async def follow(
    kit: Kit, execution_id: str, owner_id: str, after: int = -1
) -> AsyncIterator[Entry]:
    """Everything after change number `after`, until the execution ends.

    A follower that comes late gets the text of model calls under way as one piece first.

    Raises:
        NotFound: no such execution of that owner.
    """
    with kit.journal.watch(execution_id) as watcher:
        running = kit.journal.get(execution_id)
        if running is not None and running.owner_id == owner_id:
            for step, text in running.streamed.items():
                yield Entry(None, "tokens", {"step": step, "text": text, "so_far": True})
        while True:
            watcher.changed.clear()
            ended = watcher.ended
            for entry in entries(await read.execution(kit, execution_id, owner_id), after):
                after = entry.seq or 0
                yield entry
                if entry.type == "execution.finished":
                    return
            while watcher.tokens:
                step, text = watcher.tokens.popleft()
                yield Entry(None, "tokens", {"step": step, "text": text})
            if ended or kit.journal.get(execution_id) is None:
                # It ended between two looks: one more look at the store shows the end, and a
                # `running` row without a run belongs to another hub.
                whole = await read.execution(kit, execution_id, owner_id)
                for entry in entries(whole, after):
                    yield entry
                return
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await watcher.changed.wait()
            except TimeoutError:
                yield Entry(None, "heartbeat", {})

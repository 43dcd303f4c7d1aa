"""Follow an execution: ordered entries that can be taken up again from any number.

Entries are made from the record, live or stored, so they read the same during the run and after
it. Each has the number of the journalled change it stands for; streamed text has none.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from holdfast.domain.status import EXECUTION_ENDS
from holdfast.journal.mirror import Live
from holdfast.store.queries import StoredRecord

from . import elsewhere, read
from .kit import Kit
from .views import View, attempt_view, execution_view, iso, step_view

HEARTBEAT_S = 15.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened.

    Attributes:
        seq: change number; None for streamed text and heartbeats.
        type: `execution.started`, `step.started`, `attempt.started`, `attempt.finished`,
            `step.finished`, `execution.waiting`, `execution.paused`, `execution.resumed`,
            `execution.finished`, `tokens` or `heartbeat`.
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
            # Not the model: the record keeps the name the provider gave it in its answer.
            data = {"step": attempt.step, "n": attempt.n, "provider": attempt.provider}
            found.append(Entry(attempt.seq, "attempt.started", data))
        if attempt.end_seq is not None and attempt.end_seq > after:
            view = attempt_view(attempt, payload)
            kept = ("n", "status", "provider", "model", "duration_ms", "tokens", "cost_usd")
            data = {"step": attempt.step, **{key: view[key] for key in kept}}
            found.append(Entry(attempt.end_seq, "attempt.finished", data))
    for stop in execution.stops or ():
        if stop["seq"] > after:
            stopped = {"at": iso(stop["at"]), "waits": stop["waits"]}
            found.append(Entry(stop["seq"], f"execution.{stop['status']}", stopped))
        if stop.get("resumed_seq", -1) > after:
            resumed = {"at": iso(stop["resumed_at"]), "answers": stop["answers"]}
            found.append(Entry(stop["resumed_seq"], "execution.resumed", resumed))
    if execution.status in EXECUTION_ENDS and execution.seq > after:
        view = {**execution_view(execution), "output": payload.get(execution.output)}
        found.append(Entry(execution.seq, "execution.finished", view))
    return sorted(found, key=lambda entry: entry.seq or 0)


async def follow(
    kit: Kit, execution_id: str, owner_id: str, after: int = -1
) -> AsyncGenerator[Entry]:
    """Everything after change number `after`, until the execution has ended and is stored.

    A follower that comes late gets the text of model calls under way as one piece first
    (`so_far`); a further try of a call begins with such a piece, too.

    Raises:
        NotFound: no such execution of that owner.
    """
    shown: dict[int, int] = {}  # characters of streamed text given out, by step
    with kit.journal.watch(execution_id) as watcher:
        while True:
            watcher.changed.clear()
            running = await elsewhere.live(kit, execution_id, owner_id, follow=True)
            if running is not None:
                earlier = await read.earlier(kit, running)
                # Both of the same moment, for each yield lets the run go on.
                news, texts = _news(running, earlier, after), dict(running.streamed)
                for entry in news:
                    after = entry.seq or 0
                    if entry.type in _TEXT_ENDS:
                        shown.pop(entry.data["step"], None)
                    yield entry
                for step, text in texts.items():
                    given = shown.get(step, 0)
                    if len(text) > given:
                        piece = {"step": step, "text": text[given:], "so_far": given == 0}
                        shown[step] = len(text)
                        yield Entry(None, "tokens", piece)
            else:
                whole = await read.execution(kit, execution_id, owner_id)
                for entry in entries(whole, after):
                    after = entry.seq or 0
                    yield entry
                if whole.execution.status in EXECUTION_ENDS:
                    return
                # Claimed but not yet begun, or of a hub that is silent: look again.
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await watcher.changed.wait()
            except TimeoutError:
                yield Entry(None, "heartbeat", {})


_TEXT_ENDS = frozenset({"attempt.started", "step.finished"})


_UNTIL_STORED = frozenset({"execution.finished", "execution.waiting", "execution.paused"})


def _news(running: Live, earlier: StoredRecord | None, after: int) -> list[Entry]:
    """What a run did since; its end is told only once it is stored, for it may yet be refused."""
    if running.seq <= after:
        return []
    return [
        entry
        for entry in entries(read.live(running, earlier), after)
        if not (running.ended and entry.type in _UNTIL_STORED and entry.seq == running.seq)
    ]

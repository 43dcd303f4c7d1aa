"""What must hold once everything has ended, whoever was killed meanwhile."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from .driver import Sender

_AT_ONCE = 16
_LEFT_BEHIND = {"crashed", "superseded"}


@dataclass(slots=True)
class Findings:
    """What was found.

    Attributes:
        events: how many were taken in.
        reruns: executions beyond the first of each event.
        waited_s: from a kill to the next execution of each event it struck.
        faults: promises that were broken, in words.
    """

    events: int = 0
    reruns: int = 0
    waited_s: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def longest_s(self) -> float | None:
        """The longest wait for a re-run; None when nothing had to run again."""
        return max(self.waited_s, default=None)


async def check(sender: Sender, effects: Path, kills: list[tuple[float, float]]) -> Findings:
    """Wait until every event has ended, and hold the records against the promises.

    Args:
        sender: knows what was taken in.
        effects: lines that the nodes have left.
        kills: (when somebody was killed, from when on a re-run could begin) in Unix seconds.
    """
    gate = asyncio.Semaphore(_AT_ONCE)

    async def ended(event_id: str) -> dict[str, Any]:
        async with gate:
            return await sender.ended(event_id)

    events = await asyncio.gather(*map(ended, sender.sent.values()))
    lines = Counter(tuple(line.split()[::2]) for line in effects.read_text().splitlines())
    found = Findings(events=len(events))
    known = len(set(sender.sent.values()))
    if known != len(sender.sent):
        found.faults.append(f"{len(sender.sent)} keys, but {known} events")
    stored = await _count(sender)
    if stored != known:
        found.faults.append(f"{known} events were taken in, {stored} are stored")
    for event in events:
        _judge(event, lines, kills, found)
    return found


async def _count(sender: Sender) -> int:
    stored, path = 0, "/api/v1/events?limit=200"
    while path:
        page = await sender.get(path)
        stored += len(page["items"])
        path = page["next"]
    return stored


def _judge(
    event: dict[str, Any],
    lines: Counter[tuple[str, ...]],
    kills: list[tuple[float, float]],
    found: Findings,
) -> None:
    id_, runs = event["id"], sorted(event["executions"], key=lambda run: run["started_at"])
    counts = Counter(run["status"] for run in runs)
    if event["status"] != "succeeded":
        found.faults.append(f"event {id_} {event['status']}: {event['last_error']}")
    if counts["succeeded"] != 1:
        found.faults.append(f"event {id_} has {counts['succeeded']} successful records")
    if odd := counts.keys() - _LEFT_BEHIND - {"succeeded"}:
        found.faults.append(f"event {id_} has executions that are {', '.join(sorted(odd))}")
    nodes = {node: times for (of, node), times in lines.items() if of == id_}
    if not nodes:
        found.faults.append(f"event {id_} left no trace of its work")
    found.faults += [
        f"event {id_}: {node} ran {times} times in {len(runs)} executions"
        for node, times in nodes.items()
        if times > len(runs)
    ]
    found.reruns += len(runs) - 1
    for before, after in pairwise(runs):
        began, again = _unix(before["started_at"]), _unix(after["started_at"])
        struck = [could for when, could in kills if began <= when <= again]
        if struck:
            found.waited_s.append(max(0.0, again - max(struck)))


def _unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()

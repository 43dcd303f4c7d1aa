"""What must hold once everything has ended, whoever was killed meanwhile."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from .driver import PATIENCE_S, Sender

_AT_ONCE = 16
_LEFT_BEHIND = {"crashed", "superseded"}


class Kill(NamedTuple):
    """One death.

    Attributes:
        who: what was killed.
        when: Unix seconds.
        could: from when on a re-run could begin.
    """

    who: str
    when: float
    could: float


@dataclass(slots=True)
class Findings:
    """What was found.

    Attributes:
        events: how many were taken in.
        reruns: executions beyond the first of each event.
        waited_s: from a kill to the next execution of each event it struck, by who was killed.
        faults: promises that were broken, in words.
    """

    events: int = 0
    reruns: int = 0
    waited_s: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    faults: list[str] = field(default_factory=list)

    @property
    def longest_s(self) -> float | None:
        """The longest wait for a re-run; None when nothing had to run again."""
        return max(self.longest_by_victim.values(), default=None)

    @property
    def longest_by_victim(self) -> dict[str, float]:
        """The longest wait after the death of each."""
        return {who: max(waited) for who, waited in sorted(self.waited_s.items())}


async def check(
    sender: Sender,
    effects: Path,
    kills: list[Kill],
    *,
    within_s: float = 2 * PATIENCE_S,
) -> Findings:
    """Wait until every event has ended, and hold the records against the promises.

    Args:
        sender: knows what was taken in.
        effects: lines that the nodes have left.
        kills: who was killed, and when.
        within_s: how long to wait for the last one.
    """
    gate = asyncio.Semaphore(_AT_ONCE)

    async def ended(event_id: str) -> dict[str, Any]:
        async with gate:
            return await sender.ended(event_id, within_s)

    events = await asyncio.gather(*map(ended, sender.sent.values()))
    left = [line.split() for line in effects.read_text().splitlines()]
    lines = Counter((event_id, node) for event_id, _, node in left)
    found = Findings(events=len(events))
    known = len(set(sender.sent.values()))
    if known != len(sender.sent):
        found.faults.append(f"{len(sender.sent)} keys, but {known} events")
    stored = await _count(sender)
    if stored != known:
        found.faults.append(f"{known} events were taken in, {stored} are stored")
    for event in events:
        _judge(event, lines, kills, found)
    by_id = {event["id"]: event for event in events}
    for session, turns in sender.sessions.items():
        _in_order(session, [by_id[turn] for turn in turns], left, found)
    return found


def _in_order(
    session: str, turns: list[dict[str, Any]], left: list[list[str]], found: Findings
) -> None:
    """A turn begins when the one before it has ended, also when that had to run again."""
    numbers = {turn["id"]: number for number, turn in enumerate(turns)}
    seen = [numbers[line[0]] for line in left if line[0] in numbers]
    if seen != sorted(seen):
        found.faults.append(f"the nodes of {session} ran as {seen}")
    for before, after in pairwise(turns):
        last = max(run["started_at"] for run in before["executions"])
        if min(run["started_at"] for run in after["executions"]) < last:
            found.faults.append(f"{session}: {after['id']} began before the last of {before['id']}")


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
    kills: list[Kill],
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
        struck = [kill for kill in kills if began <= kill.when <= again]
        if struck:
            last = max(struck, key=lambda kill: kill.could)
            found.waited_s.setdefault(last.who, []).append(max(0.0, again - last.could))


def _unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()

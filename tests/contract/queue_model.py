"""How the queue should stand: a plain model of it, and what its tables say."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, bindparam, text

from holdfast.domain.events import Claimed
from holdfast.domain.status import EVENT_ENDS, EventStatus, ExecutionStatus, event_after
from holdfast.store.commands import Finish

E, X = EventStatus, ExecutionStatus

IN_TURN = (E.RUNNING, E.WAITING, E.PAUSED)
HALTED = (X.WAITING, X.PAUSED)


@dataclass(kw_only=True)
class Expected:
    """An event as it should stand.

    Attributes:
        at: from when it may run; what the table says is taken over after a `moved`.
        moved: `at` is another one now.
        later: it lies ahead.
        runs: status of each execution, in their order.
        goes_on: the next claim goes on with the last of them.
        waits: its answer by wait, None where there is none yet.
        deeds: what was done to the dead letter.
    """

    id: str
    data: str
    priority: int
    session: str | None
    later: bool
    origin: str | None = None
    replay: str | None = None
    at: int = 0
    moved: bool = True
    status: EventStatus = E.QUEUED
    fence: int = 0
    deliveries: int = 0
    crashes: int = 0
    errors: int = 0
    boot: str | None = None
    cancel: bool = False
    pause: bool = False
    postponed: bool = False
    runs: dict[str, ExecutionStatus] = field(default_factory=dict[str, ExecutionStatus])
    goes_on: bool = False
    halted: bool = False
    waits: dict[str, Any] = field(default_factory=dict[str, Any])
    deeds: list[str] = field(default_factory=list[str])

    @property
    def place(self) -> tuple[int, int, str]:
        """By which it is before others."""
        return -self.priority, self.at, self.id

    @property
    def run(self) -> str:
        """Its last execution."""
        return list(self.runs)[-1]

    def queued(self, *, later: bool = False) -> None:
        """It may run, now or later, and goes to its new place."""
        self.status, self.later, self.moved = E.QUEUED, later, True

    def ended(self, status: EventStatus) -> None:
        """It rests. A dead letter keeps what it needs to go on some day."""
        self.status = status
        if status is E.DEAD:
            return
        if self.runs and self.runs[self.run] in HALTED:
            self.runs[self.run] = X.CANCELLED
        self.halted, self.goes_on, self.waits = False, False, {}

    def given_back(self, *, crashes: int) -> None:
        """Its hub is gone; it keeps its place in line."""
        self.crashes += crashes
        self.fence += 1
        self.runs[self.run] = X.CRASHED
        self.goes_on = False
        after = event_after(X.CRASHED, crashes=self.crashes, cancel_requested=self.cancel)
        if after in EVENT_ENDS:
            self.ended(after)
        self.status = after


@dataclass
class Holding:
    """A right to run, perhaps lost meanwhile."""

    boot: str
    claimed: Claimed
    part: int
    stored: Finish | None = field(default=None)


def candidates(events: dict[str, Expected]) -> list[Expected]:
    """What may be claimed, the best first."""
    ready = [one for one in events.values() if one.status is E.QUEUED and not one.later]
    return sorted((one for one in ready if _its_turn(one, events)), key=lambda one: one.place)


def _its_turn(event: Expected, events: dict[str, Expected]) -> bool:
    if event.session is None:
        return True
    others = [o for o in events.values() if o.session == event.session and o is not event]
    if any(other.status in IN_TURN for other in others):
        return False
    line = [other for other in others if other.status is E.QUEUED]
    return event.deliveries > 0 or not any(
        other.deliveries > 0 or (not other.later and other.place < event.place) for other in line
    )


_EVENTS = text("SELECT * FROM events WHERE target = :target")
_RUNS = text("SELECT event_id, id, status FROM executions WHERE name = :target")
_OF_ANY = {
    table: text(f"SELECT * FROM {table} WHERE event_id IN :ids").bindparams(
        bindparam("ids", expanding=True)
    )
    for table in ("waits", "interventions")
}


@dataclass
class Seen:
    """What the tables say of one event."""

    row: Any
    runs: dict[str, ExecutionStatus] = field(default_factory=dict[str, ExecutionStatus])
    waits: dict[str, Any] = field(default_factory=dict[str, Any])
    deeds: list[str] = field(default_factory=list[str])


def look(engine: Engine, target: str) -> dict[str, Seen]:
    """All events of a pipeline as they stand."""
    with engine.connect() as db:
        seen = {row.id: Seen(row) for row in db.execute(_EVENTS, {"target": target})}
        if not seen:
            return seen
        for row in db.execute(_RUNS, {"target": target}):
            seen[row.event_id].runs[row.id] = X(row.status)
        for row in db.execute(_OF_ANY["waits"], {"ids": list(seen)}):
            seen[row.event_id].waits[row.id] = row.answer and json.loads(row.answer)
        for row in db.execute(_OF_ANY["interventions"], {"ids": list(seen)}):
            seen[row.event_id].deeds.append(row.action)
    return seen


def compare(expected: Expected, seen: Seen, soon: int) -> None:
    """Hold an event against the model.

    Args:
        expected: how it should be.
        seen: how it is.
        soon: what is available later than this was put off.
    """
    row, status = seen.row, expected.status
    assert E(row.status) is status
    assert (row.fence, row.data) == (expected.fence, expected.data)
    assert (row.deliveries, row.crashes, row.errors) == (
        expected.deliveries,
        expected.crashes,
        expected.errors,
    )
    assert (row.lease_owner is None) == (row.lease_until is None) == (status is not E.RUNNING)
    assert (row.finished_at is None) == (status not in EVENT_ENDS)
    assert (row.postponed_for is not None) == (status is E.QUEUED and expected.postponed)
    if status not in EVENT_ENDS:
        wishes = (row.cancel_requested_at is not None, row.pause_requested_at is not None)
        assert wishes == (expected.cancel, expected.pause), "a wish is kept until it is met"
    assert (row.discarded is not None) == ("discarded" in expected.deeds)
    if status is E.QUEUED:
        assert (row.available_at > soon) == expected.later, "put off when it should be, only then"
        assert expected.moved or row.available_at == expected.at, "it keeps its place in line"
    expected.at, expected.moved = row.available_at, False
    halt = row.halt and json.loads(row.halt)
    assert (halt is not None) == expected.halted, "what halted can go on, what rests cannot"
    assert seen.runs == expected.runs, "each execution ended as it did"
    assert seen.waits == expected.waits, "answers are kept until it rests"
    assert sorted(seen.deeds) == sorted(expected.deeds)
    running = [run for run, is_ in seen.runs.items() if is_ is X.RUNNING]
    assert running == ([row.execution_id] if status is E.RUNNING else []), "one run at a time"
    good = [is_ for is_ in seen.runs.values() if is_ in (X.SUCCEEDED, X.PARTIAL)]
    assert len(good) == (status is E.SUCCEEDED), "one success each"
    standing = [is_ for is_ in seen.runs.values() if is_ in HALTED]
    assert len(standing) == (status in (E.WAITING, E.PAUSED) or expected.goes_on)

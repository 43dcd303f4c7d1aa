"""The queue under random orders of everything that can happen to it, held against a plain model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import create_engine

from holdfast.domain.events import Claimed
from holdfast.domain.executions import Totals
from holdfast.domain.halts import Halt
from holdfast.domain.ids import new_id
from holdfast.domain.status import (
    EVENT_ENDS,
    MAX_CRASHES,
    EventStatus,
    ExecutionStatus,
    event_after,
)
from holdfast.errors import IllegalMove
from holdfast.store import Store
from holdfast.store.commands import (
    AskPause,
    Cancel,
    ExtendLeases,
    Finish,
    Reap,
    Submit,
    TakeBack,
    Unpause,
)
from holdfast.store.queries import EventById, ExecutionsOf
from holdfast.store.registry import address

from .conftest import HOUR, Make

E, X = EventStatus, ExecutionStatus
BOOTS = ("boot-a", "boot-b")
ENDS = (X.SUCCEEDED, X.PARTIAL, X.FAILED, X.TIMED_OUT, X.CANCELLED)
OUTCOMES = (*ENDS, *[X.CRASHED] * 3, *[X.PAUSED] * 4)


@dataclass
class Expected:
    """An event as it should stand."""

    priority: int
    status: EventStatus = E.QUEUED
    fence: int = 0
    deliveries: int = 0
    crashes: int = 0
    boot: str | None = None
    cancel: bool = False
    goes_on: bool = False  # the same execution will
    successes: int = 0


@dataclass
class Holding:
    """A right to run, perhaps lost meanwhile."""

    boot: str
    claimed: Claimed
    stored: Finish | None = field(default=None)


class Queue(RuleBasedStateMachine):
    """Two hubs, their claims, and people who cancel and pause."""

    def __init__(self, store: Store, url: str, call: Callable[[Coroutine[Any, Any, Any]], Any]):
        super().__init__()
        self.store, self.url, self.call = store, url, call
        self.make = Make(store)
        self.target = f"pipeline-{new_id()}"
        self.boots = {name: f"{name}-{new_id()}" for name in BOOTS}
        self.events: dict[str, Expected] = {}
        self.held: list[Holding] = []

    def some(self, data: st.DataObject) -> Holding:
        """One of the newest claims, lost and finished ones too."""
        return data.draw(st.sampled_from(self.held[-5:]))

    def write(self, command: Any) -> Any:
        return self.call(self.store.write(command))

    @precondition(lambda self: len(self.of(E.QUEUED)) < 3)
    @rule(priorities=st.lists(st.integers(-1, 1), min_size=1, max_size=3))
    def submit(self, priorities: list[int]) -> None:
        for priority in priorities:
            self.submit_one(priority)

    def submit_one(self, priority: int) -> None:
        event = self.make.event(target=self.target, priority=priority)
        assert self.write(Submit(event)).created
        self.events[event.id] = Expected(priority)

    @precondition(lambda self: self.of(E.QUEUED))
    @rule(boot=st.sampled_from(BOOTS), limit=st.integers(1, 3))
    def claim(self, boot: str, limit: int) -> None:
        ready = [e for e in self.events.values() if e.status is E.QUEUED]
        claimed = self.write(
            self.make.claim_of(
                versions={self.target: ("g1", "c1")}, limit=limit, lease_owner=self.boots[boot]
            )
        )
        assert len(claimed) == min(limit, len(ready)), "what can run is taken"
        best = sorted((e.priority for e in ready), reverse=True)[:limit]
        assert [self.events[c.event_id].priority for c in claimed] == best, "the best come first"
        for one in claimed:
            event = self.events[one.event_id]
            assert event.status is E.QUEUED, "nobody runs what another one runs"
            event.status, event.boot = E.RUNNING, boot
            event.fence += 1
            event.deliveries += not event.goes_on
            assert (one.fence, one.delivery) == (event.fence, event.deliveries)
            assert (one.halt is not None) == event.goes_on
            event.goes_on = False
            self.held.append(Holding(boot, one))

    @precondition(lambda self: self.of(E.RUNNING))
    @rule(outcome=st.sampled_from(OUTCOMES), data=st.data())
    def finish_what_runs(self, outcome: ExecutionStatus, data: st.DataObject) -> None:
        running = [
            one
            for one in self.held
            if self.events[one.claimed.event_id].fence == one.claimed.fence
            and self.events[one.claimed.event_id].status is E.RUNNING
        ]
        self.finish(data.draw(st.sampled_from(running)), outcome)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), outcome=st.sampled_from(OUTCOMES))
    def finish_whatever(self, data: st.DataObject, outcome: ExecutionStatus) -> None:
        self.finish(self.some(data), outcome)

    def finish(self, holding: Holding, outcome: ExecutionStatus) -> None:
        """Also late, and also twice: the journal is replayed after a crash of the hub."""
        event = self.events[holding.claimed.event_id]
        again = holding.stored is not None
        finish = holding.stored or Finish(self.record(holding, outcome))
        holds = event.status is E.RUNNING and event.fence == holding.claimed.fence
        done = self.write(finish)
        holding.stored = finish
        if again:
            return
        assert done.outcome == ("applied" if holds else "superseded")
        if not holds:
            return
        event.crashes += outcome is X.CRASHED
        event.status = event_after(outcome, crashes=event.crashes, cancel_requested=event.cancel)
        event.goes_on = event.status is E.PAUSED
        event.successes += event.status is E.SUCCEEDED

    def record(self, holding: Holding, outcome: ExecutionStatus) -> Any:
        claimed = holding.claimed
        part = claimed.halt.part if claimed.halt else 0
        halt = Halt(
            part=part + 1,
            steps=1,
            texts=2,
            seq=2,
            started_at=claimed.started_at,
            code_version="c1",
            counts={},
            totals=Totals(),
            flags={},
        )
        return self.make.record(
            claimed,
            outcome,
            lease_owner=self.boots[holding.boot],
            part=part,
            steps=(),
            attempts=(),
            halt=halt if outcome is X.PAUSED else None,
        )

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def extend(self, data: st.DataObject) -> None:
        holding = self.some(data)
        one = holding.claimed
        event = self.events[one.event_id]
        extended = self.write(
            ExtendLeases(
                lease_owner=self.boots[holding.boot],
                leases=[(one.event_id, one.fence)],
                lease_us=HOUR,
            )
        )
        holds = event.status is E.RUNNING and event.fence == one.fence
        assert extended.lost == (() if holds else (one.event_id,))
        assert extended.cancel_requested == ((one.event_id,) if holds and event.cancel else ())

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def expire(self, data: st.DataObject) -> None:
        """A hub stands still; the other one takes its work."""
        holding = self.some(data)
        one = holding.claimed
        event = self.events[one.event_id]
        if event.status is not E.RUNNING or event.fence != one.fence:
            return
        engine = create_engine(address(self.url).sqlalchemy_url)
        with engine.begin() as connection:
            connection.exec_driver_sql(
                f"UPDATE events SET lease_until = 1 WHERE id = '{one.event_id}'"
            )
        engine.dispose()
        other = next(self.boots[name] for name in BOOTS if name != holding.boot)
        given_back = self.write(Reap(lease_owner=other))
        assert [e.event_id for e in given_back if e.event_id in self.events] == [one.event_id]
        self.given_back(event, crashes=1)

    @precondition(lambda self: self.of(E.RUNNING))
    @rule(boot=st.sampled_from(BOOTS))
    def restart(self, boot: str) -> None:
        """A hub has died; the one that finds its journal gives its work back."""
        mine = {id_ for id_, e in self.events.items() if e.status is E.RUNNING and e.boot == boot}
        given_back = self.write(TakeBack(self.boots[boot]))
        assert {e.event_id for e in given_back} == mine
        for event_id in mine:
            self.given_back(self.events[event_id], crashes=0)

    def given_back(self, event: Expected, *, crashes: int) -> None:
        event.crashes += crashes
        event.fence += 1
        event.status = event_after(X.CRASHED, crashes=event.crashes, cancel_requested=event.cancel)
        event.goes_on = False

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        holding = self.some(data)
        event_id = holding.claimed.event_id
        event = self.events[event_id]
        if event.status in EVENT_ENDS:
            with pytest.raises(IllegalMove):
                self.write(Cancel(event_id, "local"))
        elif event.status is E.RUNNING:
            assert self.write(Cancel(event_id, "local")).status is E.RUNNING
            event.cancel = True
        else:
            assert self.write(Cancel(event_id, "local")).status is E.CANCELLED
            event.status = E.CANCELLED

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def pause(self, data: st.DataObject) -> None:
        holding = self.some(data)
        event_id = holding.claimed.event_id
        event = self.events[event_id]
        if event.status is E.RUNNING:
            self.write(AskPause(event_id, "local"))
        else:
            with pytest.raises(IllegalMove):
                self.write(AskPause(event_id, "local"))

    @precondition(lambda self: self.of(E.PAUSED))
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        event_id = data.draw(st.sampled_from(self.of(E.PAUSED)))
        self.write(Unpause(event_id, "local"))
        self.events[event_id].status = E.QUEUED

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def resume_what_is_not_paused(self, data: st.DataObject) -> None:
        holding = self.some(data)
        event_id = holding.claimed.event_id
        if self.events[event_id].status is not E.PAUSED:
            with pytest.raises(IllegalMove):
                self.write(Unpause(event_id, "local"))

    def of(self, status: EventStatus) -> list[str]:
        return [id_ for id_, event in self.events.items() if event.status is status]

    @invariant()
    def the_promises_hold(self) -> None:
        for event_id, expected in self.events.items():
            event = self.call(self.store.read(EventById(event_id, "local")))
            assert (event.status, event.fence) == (expected.status, expected.fence)
            assert (event.deliveries, event.crashes) == (expected.deliveries, expected.crashes)
            assert event.crashes <= MAX_CRASHES
            assert (event.lease_owner is None) == (event.status is not E.RUNNING)
            assert (event.finished_at is None) == (event.status not in EVENT_ENDS)
            runs = self.call(self.store.read(ExecutionsOf(event_id, "local")))
            running = [run for run in runs if run.status is X.RUNNING]
            assert len(running) == (event.status is E.RUNNING), "one run at a time, none left over"
            good = [run for run in runs if run.status in (X.SUCCEEDED, X.PARTIAL)]
            assert len(good) == expected.successes == (event.status is E.SUCCEEDED)


def test_no_order_of_things_breaks_a_promise(reopen: Callable[[], Store], store_url: str) -> None:
    store = reopen()
    with asyncio.Runner() as runner:
        try:
            run_state_machine_as_test(
                lambda: Queue(store, store_url, runner.run),
                settings=settings(
                    max_examples=60,
                    stateful_step_count=40,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(store.close())

"""The queue under random orders of everything that can happen to it, held against a plain model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool

from holdfast.domain.breakers import Postponed
from holdfast.domain.dead_letters import Action
from holdfast.domain.executions import Totals
from holdfast.domain.halts import Halt, Wait, WaitKind
from holdfast.domain.ids import new_id, now_us
from holdfast.domain.redelivery import Backoff, Redelivery
from holdfast.domain.status import (
    EVENT_ENDS,
    MAX_CRASHES,
    EventStatus,
    ExecutionStatus,
    event_after,
)
from holdfast.errors import AlreadyAnswered, IllegalMove
from holdfast.store import Store
from holdfast.store.commands import (
    Answer,
    AskPause,
    Cancel,
    ExtendLeases,
    Finish,
    Intervene,
    Reap,
    ReleasePostponed,
    Submit,
    TakeBack,
    Unpause,
    Wake,
)
from holdfast.store.registry import address

from .conftest import HOUR, Make
from .queue_model import IN_TURN, Expected, Holding, candidates, compare, look

E, X = EventStatus, ExecutionStatus
BOOTS = ("boot-a", "boot-b")
SESSIONS = (None, "s", "t")
VERSIONS = ("g1", "c1")

ENDS = (X.SUCCEEDED, X.PARTIAL, X.FAILED, X.TIMED_OUT, X.CANCELLED)
# A temporary error, one too many of them, an open breaker, a wait for a time.
AWAY, WORN, OPEN, TIME = "away", "worn", "open", "time"
OUTCOMES = (
    *ENDS,
    *[X.CRASHED] * 3,
    *[X.PAUSED] * 2,
    *[X.WAITING] * 2,
    TIME,
    *[AWAY] * 3,
    WORN,
    WORN,
    OPEN,
)
IS: dict[str, ExecutionStatus] = {AWAY: X.FAILED, WORN: X.FAILED, OPEN: X.FAILED, TIME: X.WAITING}

SAYS = Redelivery(retries=1, backoff=Backoff(first=3600, factor=2, jitter=0, most=10**6))

EXAMPLES, STEPS = 25, 50
"""Histories on each database in the ordinary run, of so many steps; `--seeds` says how many others.
"""


DATA = object()
"""Stands for what draws the rest of an act's parameters."""


@dataclass
class Act:
    """Something that can happen: when, how often beside others, with what."""

    do: Callable[..., None]
    when: Callable[[Any], object]
    weight: int
    given: dict[str, Any]


ACTS: list[Act] = []


def happens(
    when: Callable[[Any], object], *, weight: int, **given: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def add(do: Callable[..., None]) -> Callable[..., None]:
        ACTS.append(Act(do, when, weight, given))
        return do

    return add


class Queue:
    """Two hubs, their claims, and people who answer, cancel, pause, repeat and mend."""

    kind = "pipeline"

    def __init__(self, store: Store, engine: Any, call: Callable[[Coroutine[Any, Any, Any]], Any]):
        self.store, self.engine, self.call = store, engine, call
        self.make = Make(store)
        self.target = f"pipeline-{new_id()}"
        self.breaker = f"breaker-{new_id()}"
        self.boots = {name: f"{name}-{new_id()}" for name in BOOTS}
        self.events: dict[str, Expected] = {}
        self.held: list[Holding] = []

    def step(self, data: st.DataObject) -> None:
        """Let something happen that can, and see whether all is as it should be."""
        able = [act for act in ACTS if act.when(self) for _ in range(act.weight)]
        act = data.draw(st.sampled_from(able))
        values = {k: data if v is DATA else data.draw(v) for k, v in act.given.items()}
        note(f"{act.do.__name__} { ({k: v for k, v in values.items() if v is not data}) }")
        act.do(self, **values)
        self.the_promises_hold()

    def write(self, command: Any) -> Any:
        return self.call(self.store.write(command))

    def sql(self, statement: str) -> None:
        with self.engine.begin() as connection:
            connection.exec_driver_sql(statement)

    def of(self, *statuses: EventStatus) -> list[str]:
        return [id_ for id_, event in self.events.items() if event.status in statuses]

    def some(self, data: st.DataObject) -> Holding:
        """One of the newest claims, lost and finished ones too."""
        return data.draw(st.sampled_from(self.held[-5:]))

    def any_event(self, data: st.DataObject) -> Expected:
        return data.draw(st.sampled_from(list(self.events.values())[-8:]))

    def holds(self, holding: Holding) -> bool:
        event = self.events[holding.claimed.event_id]
        return event.status is E.RUNNING and event.fence == holding.claimed.fence

    # -- taking in ---------------------------------------------------------------------------------

    @happens(
        lambda self: len(self.of(E.QUEUED)) < 4,
        priorities=st.lists(st.integers(-1, 1), min_size=1, max_size=3),
        session=st.sampled_from(SESSIONS),
        later=st.sampled_from([False, False, False, True]),
        weight=3,
    )
    def submit(self, priorities: list[int], session: str | None, later: bool) -> None:
        for priority in priorities:
            self.submit_one(priority, session, later=later)

    def submit_one(
        self, priority: int, session: str | None, *, later: bool = False, **fields: Any
    ) -> None:
        event = self.make.event(
            target=self.target,
            priority=priority,
            session_id=session and f"{session} of {self.target}",
            delay_us=HOUR if later else 0,
            **fields,
        )
        assert self.write(Submit(event)).created
        self.events[event.id] = Expected(
            id=event.id,
            data=event.data.decode(),
            priority=priority,
            session=session,
            later=later,
            origin=event.origin,
            replay=event.replay,
        )

    @happens(lambda self: self.of(*EVENT_ENDS), data=DATA, weight=1)
    def repeat(self, data: st.DataObject) -> None:
        """An event that has ended is replayed as an event of its own; it stays as it is."""
        event = self.events[data.draw(st.sampled_from(self.of(*EVENT_ENDS)))]
        if event.runs:
            plan = '{"of": "' + event.run + '"}'
            of = {"parent_id": event.run, "origin": "replay", "replay": plan}
            self.submit_one(event.priority, None, data=event.data.encode(), **of)

    # -- running -----------------------------------------------------------------------------------

    @happens(
        lambda self: candidates(self.events), boot=st.sampled_from(BOOTS), data=DATA, weight=10
    )
    def deliver(self, boot: str, data: st.DataObject) -> None:
        """Claimed and finished in one step, so that histories grow long."""
        self.claim(boot, 1)
        self.finish(self.held[-1], data.draw(st.sampled_from(OUTCOMES)))

    @happens(
        lambda self: self.of(E.WAITING, E.PAUSED), boot=st.sampled_from(BOOTS), data=DATA, weight=8
    )
    def go_on(self, boot: str, data: st.DataObject) -> None:
        """What stands still goes on, and comes to something."""
        event = self.events[data.draw(st.sampled_from(self.of(E.WAITING, E.PAUSED)))]
        if event.status is E.PAUSED:
            self.write(Unpause(event.id, "local"))
            event.queued()
        else:
            self.end_wait(event)
        self.take_over()
        self.claim(boot, 3)
        holding = next((one for one in self.held[-3:] if one.claimed.event_id == event.id), None)
        if holding is not None:
            self.finish(holding, data.draw(st.sampled_from(OUTCOMES)))

    @happens(
        lambda self: self.of(E.QUEUED),
        boot=st.sampled_from(BOOTS),
        limit=st.integers(1, 3),
        weight=2,
    )
    def claim(self, boot: str, limit: int) -> None:
        best = candidates(self.events)[:limit]
        claimed = self.write(
            self.make.claim_of(
                kind=self.kind,
                versions={self.target: VERSIONS},
                limit=limit,
                lease_owner=self.boots[boot],
            )
        )
        assert [one.event_id for one in claimed] == [event.id for event in best], (
            "what can run is taken, the best first, of each session one"
        )
        for one, event in zip(claimed, best, strict=True):
            event.status, event.boot, event.moved, event.postponed = E.RUNNING, boot, True, False
            event.fence += 1
            event.deliveries += not event.goes_on
            assert (one.fence, one.delivery) == (event.fence, event.deliveries)
            assert one.crashes == event.crashes
            assert (one.data.decode(), one.origin) == (event.data, event.origin)
            assert one.replay == event.replay
            assert (one.halt is not None) == event.goes_on, "another execution after a crash"
            assert (one.execution_id in event.runs) == event.goes_on
            assert one.goes_on == event.halted, "its checkpoints hold, also after a crash"
            given = {wait: answer for wait, answer in event.waits.items() if answer is not None}
            assert one.answers == given, "its answers hold, also after a crash"
            event.runs[one.execution_id] = X.RUNNING
            event.goes_on = False
            self.held.append(Holding(boot, one, part=one.halt.part if one.halt else 0))

    @happens(
        lambda self: self.of(E.RUNNING), outcome=st.sampled_from(OUTCOMES), data=DATA, weight=6
    )
    def finish_what_runs(self, outcome: str, data: st.DataObject) -> None:
        running = [one for one in self.held if self.holds(one)]
        self.finish(data.draw(st.sampled_from(running)), outcome)

    @happens(lambda self: self.held, data=DATA, outcome=st.sampled_from(OUTCOMES), weight=1)
    def finish_whatever(self, data: st.DataObject, outcome: str) -> None:
        self.finish(self.some(data), outcome)

    def finish(self, holding: Holding, outcome: str) -> None:
        """Also late, and also twice: the journal is replayed after a crash of the hub."""
        claimed = holding.claimed
        event = self.events[claimed.event_id]
        again = holding.stored is not None
        finish = holding.stored or Finish(self.record(holding, outcome))
        holds, before = self.holds(holding), now_us()
        done = self.write(finish)
        holding.stored = finish
        if again:
            return
        assert done.outcome == ("applied" if holds else "superseded")
        if not holds:
            event.runs[claimed.execution_id] = X.SUPERSEDED
            return
        run = IS.get(outcome) or ExecutionStatus(outcome)
        event.crashes += run is X.CRASHED
        event.errors += outcome in (AWAY, WORN)
        after = event_after(
            run,
            crashes=event.crashes,
            cancel_requested=event.cancel,
            temporary=outcome in (AWAY, WORN),
            errors=event.errors,
            retries=finish.record.redelivery.retries,
            postponed=outcome == OPEN,
        )
        event.runs[claimed.execution_id] = run
        if after in EVENT_ENDS:
            event.ended(after)
        elif run in (X.WAITING, X.PAUSED):
            event.status, event.halted, event.goes_on, event.pause = after, True, True, False
            event.waits = {} if run is X.PAUSED else {"w": None}
        elif run is X.CRASHED:
            event.status = after  # in its place
        else:
            event.queued(later=True)
            if outcome == OPEN:
                event.deliveries -= holding.part == 0
                event.postponed = True
            else:
                least = HOUR * 2 ** (event.errors - 1)
                at = look(self.engine, self.target)[event.id].row.available_at
                assert before + least <= at < before + 2 * least, "a pause that grows"
                assert done.pause_us == least

    def record(self, holding: Holding, outcome: str) -> Any:
        claimed, run = holding.claimed, IS.get(outcome) or ExecutionStatus(outcome)
        halt = Halt(
            part=holding.part + 1,
            steps=1,
            texts=2,
            seq=2,
            started_at=claimed.started_at,
            code_version="c1",
            counts={},
            totals=Totals(),
            flags={},
        )
        waits: tuple[Wait, ...] = ()
        if run is X.WAITING:
            kind = WaitKind.TIME if outcome == TIME else WaitKind.ANSWER
            waits = (Wait(id="w", kind=kind, name="wait", wake_in=HOUR),)
        record = self.make.record(
            claimed,
            run,
            lease_owner=self.boots[holding.boot],
            part=holding.part,
            steps=(),
            attempts=(),
            halt=halt if run in (X.WAITING, X.PAUSED) else None,
            waits=waits,
            redelivery=replace(SAYS, retries=0) if outcome == WORN else SAYS,
            postponed=Postponed(breaker=self.breaker, in_us=HOUR) if outcome == OPEN else None,
        )
        if outcome not in (AWAY, WORN, OPEN):
            return record
        error = {"code": "step_failed", "message": "away", "error_class": "temporary"}
        if outcome == OPEN:
            error = {"code": "breaker_open", "message": "open"}
        return replace(record, execution=replace(record.execution, error=error))

    @happens(lambda self: self.held, data=DATA, weight=1)
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
        mine, nobody = (one.event_id,), ()
        holds = self.holds(holding)
        assert extended.lost == (nobody if holds else mine)
        assert extended.cancel_requested == (mine if holds and event.cancel else nobody)
        asked = holds and event.pause and not event.cancel
        assert extended.pause_requested == (mine if asked else nobody)

    # -- hubs that die -----------------------------------------------------------------------------

    @happens(lambda self: self.of(E.RUNNING), data=DATA, weight=2)
    def expire(self, data: st.DataObject) -> None:
        """A hub stands still; the other one takes its work."""
        self.lose(self.events[data.draw(st.sampled_from(self.of(E.RUNNING)))])

    @happens(
        lambda self: self.of(E.RUNNING), outcome=st.sampled_from(OUTCOMES), data=DATA, weight=3
    )
    def say_it_late(self, outcome: str, data: st.DataObject) -> None:
        """A hub stands still; the other one has begun its work again when it tells the outcome."""
        event = self.events[data.draw(st.sampled_from(self.of(E.RUNNING)))]
        late = next(
            one for one in self.held if self.holds(one) and one.claimed.event_id == event.id
        )
        self.lose(event)
        self.take_over()
        self.claim(next(boot for boot in BOOTS if boot != late.boot), 4)
        self.finish(late, outcome)

    def lose(self, event: Expected) -> None:
        self.sql(f"UPDATE events SET lease_until = 1 WHERE id = '{event.id}'")
        mine = self.boots[event.boot or ""]
        other = next(boot for boot in self.boots.values() if boot != mine)
        assert self.given_back_to(mine) == [], "its own it leaves alone"
        assert self.given_back_to(other) == [event.id]
        event.given_back(crashes=1)

    def given_back_to(self, boot: str) -> list[str]:
        given_back = self.write(Reap(lease_owner=boot))
        return [one.event_id for one in given_back if one.event_id in self.events]

    @happens(lambda self: self.of(E.RUNNING), boot=st.sampled_from(BOOTS), weight=1)
    def restart(self, boot: str) -> None:
        """A hub has died; the one that finds its journal gives its work back."""
        mine = {id_ for id_ in self.of(E.RUNNING) if self.events[id_].boot == boot}
        given_back = self.write(TakeBack(self.boots[boot]))
        assert {one.event_id for one in given_back} == mine
        for event_id in mine:
            self.events[event_id].given_back(crashes=False)

    # -- time passes -------------------------------------------------------------------------------

    @happens(lambda self: [e for e in self.events.values() if e.later], data=DATA, weight=3)
    def its_time_comes(self, data: st.DataObject) -> None:
        """Of a delayed event, one that paused before a delivery, or that a breaker put off."""
        later = [e for e in self.events.values() if e.later and e.status is E.QUEUED]
        if later:
            event = data.draw(st.sampled_from(later))
            self.sql(
                f"UPDATE events SET available_at = received_at + 1 WHERE id = '{event.id}'",
            )
            event.later, event.moved = False, True

    @happens(
        lambda self: [e for e in self.events.values() if e.postponed],
        limit=st.integers(1, 2),
        weight=2,
    )
    def the_breaker_closes(self, limit: int) -> None:
        waiting = [e for e in self.events.values() if e.postponed and e.status is E.QUEUED]
        waiting.sort(key=lambda event: (-event.priority, event.id))
        assert self.write(ReleasePostponed(self.breaker, limit)) == len(waiting[:limit])
        for event in waiting[:limit]:
            event.postponed = False
            event.queued()

    @happens(lambda self: self.of(E.WAITING), data=DATA, weight=1)
    def its_wait_is_over(self, data: st.DataObject) -> None:
        """What waits for a time is woken; what waits for an answer hears that none came."""
        self.end_wait(self.events[data.draw(st.sampled_from(self.of(E.WAITING)))])

    def end_wait(self, event: Expected) -> None:
        self.sql(f"UPDATE waits SET wake_at = 1 WHERE event_id = '{event.id}'")
        woken = self.write(Wake(versions={self.target: "g1"}))
        assert list(woken.events) == [event.id]
        seen = look(self.engine, self.target)[event.id].waits["w"]
        assert seen in ({"woken": True}, {"expired": True})
        event.waits = {"w": seen}
        event.queued()

    # -- people ------------------------------------------------------------------------------------

    @happens(lambda self: self.events, data=DATA, given=st.integers(), weight=1)
    def answer(self, data: st.DataObject, given: int) -> None:
        event = self.any_event(data)
        waits = self.of(E.WAITING)
        if waits and data.draw(st.booleans()):
            event = self.events[data.draw(st.sampled_from(waits))]
        command = Answer(event_id=event.id, owner_id="local", wait_id=None, given=given)
        try:
            resumed = self.write(command)
        except (IllegalMove, AlreadyAnswered):
            seen = look(self.engine, self.target)[event.id]
            waits_for_time = event.status is E.WAITING and seen.waits == {"w": None}
            assert event.status is not E.WAITING or waits_for_time
            return
        assert event.status is E.WAITING
        assert resumed.status is E.QUEUED
        event.waits = {"w": {"answer": given}}
        event.queued()

    @happens(lambda self: self.events, data=DATA, weight=1)
    def cancel(self, data: st.DataObject) -> None:
        event = self.any_event(data)
        if event.status in EVENT_ENDS:
            with pytest.raises(IllegalMove):
                self.write(Cancel(event.id, "local"))
        elif event.status is E.RUNNING:
            assert self.write(Cancel(event.id, "local")).status is E.RUNNING
            event.cancel = True
        else:
            assert self.write(Cancel(event.id, "local")).status is E.CANCELLED
            event.ended(E.CANCELLED)

    @happens(lambda self: self.events, data=DATA, weight=1)
    def pause(self, data: st.DataObject) -> None:
        event = self.any_event(data)
        if event.status is E.RUNNING:
            self.write(AskPause(event.id, "local"))
            event.pause = True
        else:
            with pytest.raises(IllegalMove):
                self.write(AskPause(event.id, "local"))

    @happens(lambda self: self.of(E.PAUSED), data=DATA, weight=1)
    def resume(self, data: st.DataObject) -> None:
        event = self.events[data.draw(st.sampled_from(self.of(E.PAUSED)))]
        self.write(Unpause(event.id, "local"))
        event.queued()

    @happens(lambda self: self.events, data=DATA, weight=1)
    def resume_what_is_not_paused(self, data: st.DataObject) -> None:
        event = self.any_event(data)
        if event.status is not E.PAUSED:
            with pytest.raises(IllegalMove):
                self.write(Unpause(event.id, "local"))

    @happens(
        lambda self: self.events,
        data=DATA,
        action=st.sampled_from(Action),
        n=st.integers(2, 9),
        weight=5,
    )
    def mend(self, data: st.DataObject, action: Action, n: int) -> None:
        """Dead letters are edited, replayed and discarded; nothing else is."""
        event = self.any_event(data)
        if dead := self.of(E.DEAD):
            event = self.events[data.draw(st.sampled_from(dead))]
        new = f'{{"n": {n}}}' if action is Action.EDITED else None
        command = Intervene(
            event_id=event.id,
            owner_id="local",
            by="me",
            action=action,
            reason="it is time",
            data=new and new.encode(),
        )
        if event.status is not E.DEAD:
            with pytest.raises(IllegalMove):
                self.write(command)
            return
        self.write(command)
        event.deeds.append(action.value)
        if new is not None:
            event.data, event.halted, event.waits = new, False, {}
        elif action is Action.DISCARDED:
            event.ended(E.CANCELLED)
        else:
            event.queued()
            event.deliveries = event.crashes = event.errors = 0
            event.cancel = event.pause = False

    def take_over(self) -> None:
        """Compare, and note when each event may run."""
        soon = now_us() + HOUR // 4
        seen = look(self.engine, self.target)
        assert seen.keys() == self.events.keys(), "nothing is lost, nothing is there twice"
        for event_id, expected in self.events.items():
            compare(expected, seen[event_id], soon)

    def the_promises_hold(self) -> None:
        self.take_over()
        assert all(event.crashes <= MAX_CRASHES for event in self.events.values())
        turns = [(e.session) for e in self.events.values() if e.session and e.status in IN_TURN]
        assert len(turns) == len(set(turns)), "one turn of a session at a time"


def histories(
    of: type[Queue], reopen: Callable[[], Store], store_url: str, longer: int | None
) -> None:
    """Let many things happen to many queues."""
    store = reopen()
    engine = create_engine(address(store_url).sqlalchemy_url, poolclass=StaticPool)
    with asyncio.Runner() as runner:

        @settings(
            max_examples=longer or EXAMPLES,
            deadline=None,
            # Making the history that failed shorter takes minutes: with `--seeds`.
            phases=[phase for phase in Phase if longer or phase is not Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(data=st.data())
        def history(data: st.DataObject) -> None:
            queue = of(store, engine, runner.run)
            for _ in range(STEPS):
                queue.step(data)

        try:
            history()
        finally:
            engine.dispose()
            runner.run(store.close())


def test_no_order_of_things_breaks_a_promise(
    reopen: Callable[[], Store], store_url: str, pytestconfig: pytest.Config
) -> None:
    histories(Queue, reopen, store_url, pytestconfig.getoption("seeds"))

"""Breakers: failures counted here, openings shared between hubs, postponed events let go again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from holdfast.bus import Notice
from holdfast.bus.base import BREAKER, QUEUED
from holdfast.domain.breakers import (
    Breaker,
    BreakerMove,
    BreakerRules,
    BreakerStatus,
    EndProbe,
    Outcome,
    Seen,
    TakeProbe,
    Tally,
    TooManyFailures,
)
from holdfast.domain.ids import MICROS, new_id, now_us
from holdfast.errors import PortError, StoreError, StoreRefused
from holdfast.operations.kit import Kit
from holdfast.runner.breakers import AskedBreakers, Standing
from holdfast.store.commands import MoveBreaker, ReleasePostponed
from holdfast.store.queries import AllBreakers
from holdfast.telemetry import logger

from .patience import patiently
from .rounds import Rounds

log = logger("hub")

SWEEP_S = 5.0
"""How late this hub may be to hear of what another one did, when a notice was lost."""

TRIAL_S = 60.0
"""How long an event that was let go to probe has for it, before the next one is."""

BATCH = 32
BATCH_PAUSE_S = 0.2
"""Events let go at once when a breaker has closed, and the pause between: what has just come back
does not need all of them in its first second."""

LAST_WRITES_S = 2.0
"""How long a closing hub waits for moves under way to be stored."""


@dataclass(slots=True)
class _Known:
    """One breaker as this hub sees it."""

    breaker: Breaker
    generation: int = 0
    tally: Tally = field(default_factory=Tally)
    stored: bool = False  # there is a row for it
    moving: int = 0  # moves on their way to the store, whose answers say more than a look
    trial: tuple[int, float] = (-1, 0.0)  # version and time of the last event let go to probe

    def standing(self, ahead_us: int) -> dict[str, Any]:
        """As runners are told; their clock is ours, the store's is `ahead_us` ahead of it."""
        one = self.breaker
        until = one.probe_until if one.status is BreakerStatus.HALF_OPEN else one.until
        until = None if until is None else until - ahead_us
        return asdict(
            Standing(
                name=one.name, generation=self.generation, status=one.status.value, until=until
            )
        )


OWN = ""
"""Stands for an execution where the hub itself makes a call; it always tells how that ended."""


class Learner(Protocol):
    """Somebody who makes calls, and is told how breakers stand."""

    def learn_breakers(self, standings: Sequence[Mapping[str, Any]]) -> None:
        """Hear it."""
        ...


class OwnCalls:
    """Breakers as the hub's own calls see them: asked and told as a runner's are."""

    def __init__(self, breakers: Breakers) -> None:
        async def ask(execution_id: str, _port: str, args: dict[str, Any]) -> Any:
            del execution_id
            try:
                return await breakers.probe(args["breaker"], OWN)
            except StoreError as error:
                raise PortError(str(error)) from error

        self.port = AskedBreakers(ask, breakers.take)

    def learn_breakers(self, standings: Sequence[Mapping[str, Any]]) -> None:
        """See `Learner`."""
        self.port.learn(standings)


class Breakers:
    """Counts, opens, probes and closes; belongs to the hub's loop.

    Args:
        kit: the hub's parts.
        rules: when to open.
        workers: who is told.
        clock: microseconds since the epoch.
    """

    def __init__(
        self,
        kit: Kit,
        rules: BreakerRules,
        workers: Callable[[], Iterable[Learner]],
        *,
        clock: Callable[[], int] = now_us,
    ) -> None:
        self._kit = kit
        self._rules = rules
        self._workers = workers
        self._clock = clock
        self._ahead_us = 0  # how far the store's clock is ahead of ours, as far as we know
        self._known: dict[str, _Known] = {}
        self._probes: dict[str, tuple[str, str]] = {}  # probe to breaker and execution
        self._releasing: set[str] = set()
        self._rounds = Rounds("breakers", self._look_on)
        self._closing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop_listening = kit.bus.listen(BREAKER, lambda _: self._rounds.ring())
        metrics = kit.metrics
        metrics.describe("holdfast_breaker_open", "gauge", "1 while calls are not made.")
        metrics.describe("holdfast_breaker_openings_total", "counter", "How often it opened.")
        metrics.describe(
            "holdfast_breaker_waiting", "gauge", "Events that wait for a breaker to close."
        )

    async def start(self) -> None:
        """Take in how the breakers stand, then keep up."""
        await self.look()
        self._rounds.start()

    async def close(self) -> None:
        """Stop; moves under way are stored if that does not take long."""
        self._closing = True
        self._stop_listening()
        await self._rounds.close()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=LAST_WRITES_S)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    def standings(self) -> list[dict[str, Any]]:
        """How those stand that a new worker cannot take for closed and never moved."""
        return [one.standing(self._ahead_us) for one in self._known.values() if one.generation]

    def take(self, told: Mapping[str, Any]) -> None:
        """Count how calls ended, or let a probe decide."""
        known = self._of(told["breaker"])
        if not known.stored:
            known.stored = True
            self._run(self._move(known, Seen()))
        outcome = Outcome(told.get("outcome", Outcome.NONE))
        if told.get("probe") is not None:
            self._end_probe(told["probe"], outcome, told["reason"])
            return
        failed = self._rules.counts(outcome)
        ok = told["ok"] + (not failed and outcome is not Outcome.NONE)
        closed = known.breaker.status is BreakerStatus.CLOSED
        if not closed or told["generation"] != known.generation:
            return  # begun before it was moved: that says nothing of how things are now
        if known.tally.add(self._now(), ok, int(failed), self._rules):
            self._open(known, told["reason"])

    async def probe(self, name: str, execution_id: str) -> dict[str, Any]:
        """Answer a call that finds a cool-down over: one of them becomes the probe.

        Raises:
            StoreError: the database is away; nobody probes.
        """
        known = self._of(name)
        probe = None
        if known.breaker.status is not BreakerStatus.CLOSED:
            asked = TakeProbe(probe=new_id())
            moved = await self._kit.store.write(MoveBreaker(name, asked))
            self._ahead_us = moved.at - self._clock()
            if moved.moved:
                probe = asked.probe
                self._probes[probe] = (name, execution_id)
            self._adopt(known, moved.breaker)
            if probe is not None and self._has_ended(execution_id):
                self._end_probe(probe, Outcome.NONE, "")
        return {"standing": known.standing(self._ahead_us), "probe": probe}

    def run_ended(self, execution_id: str) -> None:
        """Give back the probes of a run that will say no more of them."""
        for probe, (_, of) in list(self._probes.items()):
            if of == execution_id:
                self._end_probe(probe, Outcome.NONE, "")

    async def look(self) -> None:
        """Take in what other hubs and people did, and let go what waits for nothing any more."""
        found = await self._kit.store.read(AllBreakers())
        for name, breaker in found.breakers.items():
            known = self._of(name)
            known.stored = True
            if not known.moving:
                self._adopt(known, breaker)
        for name in {*found.waiting, *self._known}:
            waiting = found.waiting.get(name, 0)
            self._kit.metrics.put("holdfast_breaker_waiting", waiting, breaker=name)
            if waiting:
                await self._let_go(self._of(name))

    def has_opened(self, name: str) -> bool:
        """Whether it was ever moved; if not, nobody will close it and let go what waits for it."""
        known = self._known.get(name)
        return known is not None and known.breaker.version > 0

    def _now(self) -> int:
        return self._clock() + self._ahead_us

    def _of(self, name: str) -> _Known:
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = _Known(Breaker(name=name))
        return known

    def _has_ended(self, execution_id: str) -> bool:
        if execution_id == OWN:
            return False
        running = self._kit.journal.get(execution_id)
        return running is None or running.finished is not None

    def _open(self, known: _Known, reason: str) -> None:
        move = TooManyFailures(version=known.breaker.version, rules=self._rules, reason=reason)
        # At once here, whatever the database does: the next call must not be made.
        after = move.apply(known.breaker, self._now())
        if after is not None:
            self._set(known, after)
        self._run(self._move(known, move))

    def _end_probe(self, probe: str, outcome: Outcome, reason: str) -> None:
        name, _ = self._probes.pop(probe, (None, ""))
        if name is None:
            return  # its run has ended meanwhile
        move = EndProbe(probe=probe, outcome=outcome, rules=self._rules, reason=reason)
        self._run(self._move(self._of(name), move))

    async def _move(self, known: _Known, move: BreakerMove) -> None:
        """Store a move, again and again while the database is away, and take what came of it."""
        name = known.breaker.name
        known.moving += 1
        try:
            moved = await patiently(
                self._kit.store,
                lambda: self._kit.store.write(MoveBreaker(name, move)),
                breaker=name,
            )
        except StoreRefused as error:
            log.error("breaker.refused", breaker=name, error=str(error))
            return
        finally:
            known.moving -= 1
        self._ahead_us = moved.at - self._clock()
        self._adopt(known, moved.breaker)
        if moved.moved:
            self._kit.bus.publish(Notice(BREAKER))

    def _adopt(self, known: _Known, breaker: Breaker) -> None:
        known.stored = True
        if breaker.version < known.breaker.version:
            return  # read before the move that we know of already
        if breaker != known.breaker:
            self._set(known, breaker)

    def _set(self, known: _Known, breaker: Breaker) -> None:
        before, known.breaker = known.breaker, breaker
        if breaker.status is not before.status or breaker.version > before.version + 1:
            known.generation += 1
            known.tally = Tally()
            self._announce(before, breaker)
        standing = known.standing(self._ahead_us)
        for worker in self._workers():
            worker.learn_breakers([standing])
        self._rounds.ring()

    def _announce(self, before: Breaker, breaker: Breaker) -> None:
        name, metrics = breaker.name, self._kit.metrics
        metrics.put(
            "holdfast_breaker_open", breaker.status is not BreakerStatus.CLOSED, breaker=name
        )
        if breaker.status is BreakerStatus.OPEN:
            metrics.add("holdfast_breaker_openings_total", breaker=name)
            log.warning(
                "breaker.opened",
                breaker=name,
                reason=breaker.reason,
                openings=breaker.openings,
                until=breaker.until,
            )
        elif breaker.status is BreakerStatus.CLOSED and before.version:
            log.info("breaker.closed", breaker=name)

    async def _let_go(self, known: _Known) -> None:
        name, breaker = known.breaker.name, known.breaker
        if not breaker.version:
            return  # it never opened, as far as we know: the event's own time will come
        if breaker.status is BreakerStatus.CLOSED:
            if name not in self._releasing:
                self._releasing.add(name)
                self._run(self._release(known))
            return
        version, at = known.trial
        tried = version == breaker.version and time.monotonic() - at < TRIAL_S
        if breaker.may_probe(self._now()) and not tried:
            known.trial = (breaker.version, time.monotonic())
            if await self._kit.store.write(ReleasePostponed(name, 1)):
                self._kit.bus.publish(Notice(QUEUED))

    async def _release(self, known: _Known) -> None:
        """Let everything go that waits for a breaker that is closed, a few at a time."""
        name = known.breaker.name
        try:
            while known.breaker.status is BreakerStatus.CLOSED and not self._closing:
                count = await self._kit.store.write(ReleasePostponed(name, BATCH))
                if count:
                    self._kit.bus.publish(Notice(QUEUED))
                if count < BATCH:
                    return
                await asyncio.sleep(BATCH_PAUSE_S)
        except StoreError as error:  # the next look sees what is left
            log.error("breaker.release_failed", breaker=name, error=str(error))
        finally:
            self._releasing.discard(name)

    def _next_s(self) -> float:
        """Seconds until a cool-down is over, at most those between two sweeps."""
        now = self._now()
        untils = [
            one.breaker.until
            for one in self._known.values()
            if one.breaker.status is BreakerStatus.OPEN
            and one.breaker.until is not None
            and one.breaker.until > now
        ]
        return min([SWEEP_S, *((until - now) / MICROS for until in untils)])

    async def _look_on(self) -> float:
        await self.look()
        return self._next_s()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

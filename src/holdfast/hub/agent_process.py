"""One agent's process: started, replaced, stopped, given up; what its supervisor looks after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from holdfast.domain.agents import Process, ProcessStatus
from holdfast.domain.ids import now_us
from holdfast.domain.redelivery import Backoff
from holdfast.errors import HoldfastError
from holdfast.pipelines.base import Declaration
from holdfast.telemetry import logger

from .agents import Configured
from .worker import Worker, WorkerState

log = logger("hub")

BACKOFF = Backoff(first=0.5, factor=2.0, most=30.0, jitter=0.0)
"""Pauses before further restarts; the first follows at once."""

PROVEN_S = 30.0
"""A process that was ready for so long, or has ended a turn, started well."""

TERM_S = 2.0
"""Between SIGTERM and SIGKILL for a process that does not leave."""

MAX_ALONE = 2
"""Extra processes of an agent at once, for turns that must run alone."""

P = ProcessStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How agents' processes are supervised.

    Attributes:
        idle_s: seconds without a turn after which one is stopped; 0: never.
        check_s: seconds between two looks at them.
        max_restarts: restarts in a row that come to nothing before it is given up.
        grace_s: seconds its turns get to end when it is to stop.
    """

    idle_s: float = 1800.0
    check_s: float = 5.0
    max_restarts: int = 5
    grace_s: float = 10.0


class Means(Protocol):
    """What a process needs of its supervisor."""

    def hire(self, process: AgentProcess, agent: Configured) -> Worker:
        """A worker that runs this version of the agent and is being started."""
        ...

    def end(self, worker: Worker, *, kill: bool) -> None:
        """SIGTERM or SIGKILL."""
        ...

    def changed(self) -> None:
        """A row is to be written, or a process to be looked at."""
        ...

    def now(self) -> float:
        """Seconds, from wherever they start."""
        ...


class AgentProcess:
    """At most one process in service, its replacement on the way, and those that finish.

    Args:
        agent: its newest version.
        row: as it was taken.
        rules: see `Rules`.
        means: of the supervisor.

    Attributes:
        row: None once it was given back or lost.
        wanted: whether there is to be a process; False: what there is ends.
        served: the version of the process in service, or of the last one.
        asked: restarts that were asked for and are seen to.
        woken: a message came while it was stopping.
        written: False while the row does not say what is so.
    """

    def __init__(self, agent: Configured, row: Process, rules: Rules, means: Means) -> None:
        self.agent = agent
        self.rules = rules
        self._means = means
        self.serving: Worker | None = None
        self.served: Configured | None = None
        self._coming: Worker | None = None
        self._leaving: dict[Worker, float | None] = {}  # and when their grace is over
        self._terminated: set[Worker] = set()
        self._alone: list[Worker] = []
        self._of: dict[Worker, Configured] = {}
        self._ready: set[Worker] = set()
        self._start_at: float | None = None
        self._ready_at: float | None = None  # since when one is in service
        self._active_at = means.now()
        self._started_us: int | None = None
        self._ready_us: int | None = None
        self.take(row)

    def take(self, row: Process) -> None:
        """The row is this hub's now."""
        self.row: Process | None = row
        self.asked = row.asked
        self.restarts = row.restarts
        self.last_error = row.last_error
        self.wanted = True
        self.given_up = False
        self.woken = False
        self.written = True

    @property
    def id(self) -> str:
        """The agent's id."""
        return self.agent.id

    @property
    def workers(self) -> list[Worker]:
        """All there are."""
        return list(self._of)

    @property
    def takes(self) -> bool:
        """Whether its process takes turns."""
        return self.wanted and self.serving is not None and self.row is not None

    @property
    def declared(self) -> Declaration | None:
        """What the process in service runs, or what the last one ran."""
        return None if self.served is None else self.served.declaration

    @property
    def is_over(self) -> bool:
        """Whether nothing is to run and its row can be given back."""
        return not self.wanted and (self.given_up or not self._of)

    @property
    def heard_at(self) -> int | None:
        """When the loop of the process in service last answered, microseconds."""
        return None if self.serving is None else self.serving.heard_at

    @property
    def in_flight(self) -> int:
        """Turns under way."""
        return sum(len(worker.in_flight) for worker in self._of)

    @property
    def status(self) -> ProcessStatus:
        """Where it stands."""
        if self.given_up:
            return P.ERROR
        if not self.wanted:
            return P.STOPPING if self._of else P.STOPPED
        return P.STARTING if self.serving is None else P.RUNNING

    def as_told(self) -> dict[str, Any]:
        """What its row is to say."""
        shown = self.serving or self._coming or next(iter(self._of), None)
        return {
            "status": self.status,
            "pid": shown and shown.pid,
            "version": shown and self._of[shown].version.version,
            "restarts": self.restarts,
            "last_error": self.last_error,
            "started_at": shown and self._started_us,
            "ready_at": self.serving and self._ready_us,
        }

    def start(self) -> None:
        """Start a process of the newest version; once ready it replaces the one in service."""
        self._start_at = None
        self._started_us = now_us()
        try:
            worker = self._means.hire(self, self.agent)
        except (HoldfastError, OSError) as error:  # a secret that is not set, a full disk
            self._failed(*_told(error))
            return
        self._coming = worker
        self._of[worker] = self.agent
        self._changed()

    def restart(self) -> None:
        """Start it anew, because somebody asks or its configuration has changed."""
        self.restarts, self.last_error = 0, None
        if self._coming is not None:
            self._leave(self._coming, self.rules.grace_s)
            self._coming = None
        self.start()

    def configured(self, agent: Configured) -> None:
        """There is a new version."""
        self.agent = agent
        if self.wanted and not self.given_up:
            self.restart()

    def stop(self, grace_s: float) -> None:
        """Take nothing more, let turns end within the grace, then end the processes."""
        self.wanted = False
        self._start_at = None
        self.serving = self._coming = None
        for worker in self.workers:
            self._leave(worker, grace_s)
        self._changed()

    def became_ready(self, worker: Worker) -> None:
        """A process is ready; it is put into service between two claims."""
        if worker in self._of:  # it may have died with these words
            self._ready.add(worker)

    def between_claims(self) -> None:
        """Put a replacement into service; the old one finishes what it has."""
        if self.wanted and self.serving is not None:
            self._replace_leaver(self.serving)
        worker = self._coming
        if worker is None or worker not in self._ready or not self.wanted:
            return
        if self.serving is not None:
            self._leave(self.serving, None)
        self.serving, self._coming = worker, None
        self.served = self._of[worker]
        self._ready_at = self._active_at = self._means.now()
        self._ready_us = now_us()
        self._changed()

    def has_worked(self) -> None:
        """A turn has ended: earlier failures are forgotten."""
        self._active_at = self._means.now()
        self._prove()

    def is_given_work(self) -> None:
        """A turn begins."""
        self._active_at = self._means.now()

    def is_gone(self, worker: Worker, reason: str, *, code: str = "process_died") -> bool:
        """A worker has ended: restart it unless it was to leave.

        Returns:
            Whether turns that wait for a process of their own wait in vain.
        """
        self._leaving.pop(worker, None)
        self._terminated.discard(worker)
        was_ready = worker in self._ready
        self._ready.discard(worker)
        del self._of[worker]
        in_vain = False
        if worker in self._alone:
            self._alone.remove(worker)
            if not was_ready:
                in_vain = True
                self._failed(reason, code)
        elif worker is self._coming:
            self._coming = None
            self._failed(reason, code)
        elif worker is self.serving:
            self.serving = None
            if reason == "stopped":  # of its own accord: see `_replace_leaver`
                self._begin_again()
            else:
                self._failed(reason, code)
        self._changed()
        return in_vain or self.given_up

    def hire_alone(self, wanted: int) -> bool:
        """Keep as many extra processes coming as there are turns that must run alone.

        Returns:
            False when none can be started.
        """
        idle = sum(1 for worker in self._alone if not worker.in_flight)
        busy = len(self._alone) - idle
        for _ in range(min(wanted - idle, MAX_ALONE - idle - busy)):
            if self.served is None or not self.wanted:
                return False
            try:
                worker = self._means.hire(self, self.served)
            except (HoldfastError, OSError) as error:
                self._failed(*_told(error))
                return False
            worker.solo = True
            self._alone.append(worker)
            self._of[worker] = self.served
        return True

    def look(self) -> float | None:
        """Do what is due.

        Returns:
            When to look again, by the clock of `Means.now`; None: with the next round.
        """
        now = self._means.now()
        self._end_late_leavers(now)
        if self._start_at is not None and self._start_at <= now:
            self.start()
        if self._ready_at is not None and self.serving is not None:
            if now - self._ready_at >= PROVEN_S:
                self._prove()
            if self._is_idle(now):
                log.info("agent.idle", agent_id=self.id)
                self.stop(self.rules.grace_s)
        due = [at for at in self._leaving.values() if at is not None]
        due += [] if self._start_at is None else [self._start_at]
        return min(due, default=None)

    def _is_idle(self, now: float) -> bool:
        idle_s = self.agent.idle_s if self.agent.idle_s is not None else self.rules.idle_s
        quiet = self.in_flight == 0 and self._coming is None and not self._alone
        return self.wanted and idle_s > 0 and quiet and now - self._active_at >= idle_s

    def _replace_leaver(self, worker: Worker) -> None:
        """One that leaves of its own accord, for code it could not stop, takes nothing more."""
        if worker.state is WorkerState.RETIRING:
            self._leaving[worker] = None
            self.serving = None
            self._begin_again()

    def _begin_again(self) -> None:
        if self.wanted and self._coming is None and self._start_at is None:
            self.start()

    def _end_late_leavers(self, now: float) -> None:
        for worker, late_at in list(self._leaving.items()):
            if late_at is None or now < late_at:
                continue
            kill = worker in self._terminated
            log.warning("agent.grace_over", agent_id=self.id, pid=worker.pid, kill=kill)
            self._terminated.add(worker)
            self._leaving[worker] = None if kill else now + TERM_S
            self._means.end(worker, kill=kill)

    def _leave(self, worker: Worker, grace_s: float | None) -> None:
        late_at = None if grace_s is None else self._means.now() + grace_s
        known = self._leaving.get(worker)
        self._leaving[worker] = late_at if known is None else known
        worker.retire()

    def _prove(self) -> None:
        # An older version that goes on says nothing for the one that cannot replace it.
        if self.served is self.agent and (self.restarts or self.last_error):
            self.restarts, self.last_error = 0, None
            self._changed()

    def _failed(self, reason: str, code: str) -> None:
        """A process died, or never came up: try again after a pause, or give up."""
        self.last_error = {"code": code, "message": reason}
        if not self.wanted:
            return
        if self.restarts >= self.rules.max_restarts:
            self._give_up()
            return
        self.restarts += 1
        if self._coming is None and self._start_at is None:
            pause = 0.0 if self.restarts == 1 else BACKOFF.pause(self.restarts - 1, 0.0)
            self._start_at = self._means.now() + pause
        log.warning("agent.died", agent_id=self.id, reason=reason, restarts=self.restarts)
        self._changed()

    def _give_up(self) -> None:
        """Start it no more until somebody asks; what is in service stays so."""
        log.error("agent.given_up", agent_id=self.id, error=self.last_error)
        if self.serving is None:
            self.given_up = True
            self.stop(self.rules.grace_s)
        self._changed()

    def _changed(self) -> None:
        self.written = False
        self._means.changed()


def _told(error: HoldfastError | OSError) -> tuple[str, str]:
    """What went wrong before there was a process, and its code."""
    if isinstance(error, HoldfastError):
        return error.message, error.code
    return f"it could not be started: {error}", "process_died"

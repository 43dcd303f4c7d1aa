"""Who follows a conversation hears at once that something moved in it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from holdfast.bus import Notice
from holdfast.bus.base import AGENTS, CHANGED, ENDED, GAP, HALTED, PROCESS
from holdfast.errors import StoreError
from holdfast.store.queries.talking import SessionsMoved
from holdfast.telemetry import logger

from .kit import Kit

log = logger("talks")

MOST_ENDED = 1000
"""Ended turns a slow follower may be behind before the oldest are forgotten; their answers are not:
those stand in the session."""

SWEEP_S = 5.0
"""Between two looks at the store, where other hubs may move a conversation."""


@dataclass(frozen=True, slots=True)
class Rested:
    """A turn that came to rest."""

    event_id: str
    execution_id: str | None
    status: str


class Follower:
    """Somebody who follows one session.

    Attributes:
        changed: set when there may be something new.
        look: whether the store is to be asked what is under way: notices may have been lost.
        begun: event and execution of turns that began.
        ended: turns that came to rest.
    """

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.look = True
        self.begun: deque[tuple[str, str]] = deque(maxlen=MOST_ENDED)
        self.ended: deque[Rested] = deque(maxlen=MOST_ENDED)


class AgentWatch:
    """Somebody who wants to know when an agent's process has moved, or is to.

    Attributes:
        bell: set when it has.
        moved: whether it has since somebody last looked.
    """

    def __init__(self, bell: asyncio.Event) -> None:
        self.bell = bell
        self.moved = False


class Talks:
    """One listener on the bus for everybody who follows a session; a follower costs an event."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._followers: dict[str, set[Follower]] = {}
        self._watches: dict[str, set[AgentWatch]] = {}
        self._sweeping: asyncio.Task[None] | None = None
        self._stops = [
            kit.bus.listen(CHANGED, self._moved),
            kit.bus.listen(HALTED, self._halted),
            kit.bus.listen(ENDED, self._ended),
            kit.bus.listen(PROCESS, self._process_moved),
            kit.bus.listen(AGENTS, self._process_moved),
            kit.bus.listen(GAP, lambda _: self.look()),
        ]

    def start(self) -> None:
        """Let followers look at the store from time to time, too."""
        self._sweeping = asyncio.create_task(self._sweep(), name="talks")

    def close(self) -> None:
        """Hear nothing more."""
        for stop in self._stops:
            stop()
        if self._sweeping is not None:
            self._sweeping.cancel()

    @contextmanager
    def follow(self, session_id: str) -> Generator[Follower]:
        """Hear of a session; nothing that happens from here on is missed."""
        follower = Follower()
        followers = self._followers.setdefault(session_id, set())
        followers.add(follower)
        try:
            yield follower
        finally:
            followers.discard(follower)
            if not followers:
                self._followers.pop(session_id, None)

    @contextmanager
    def watch_agent(
        self, agent_id: str, bell: asyncio.Event | None = None
    ) -> Generator[AgentWatch]:
        """Hear of an agent's process; `bell` is rung for it, too."""
        watch = AgentWatch(bell or asyncio.Event())
        watches = self._watches.setdefault(agent_id, set())
        watches.add(watch)
        try:
            yield watch
        finally:
            watches.discard(watch)
            if not watches:
                self._watches.pop(agent_id, None)

    def look(self) -> None:
        """Let everybody look at the store."""
        for followers in self._followers.values():
            self._look(followers)
        for watches in self._watches.values():
            self._ring(watches)

    def _process_moved(self, notice: Notice) -> None:
        self._ring(self._watches.get(notice.target or "", set()))

    def _ring(self, watches: set[AgentWatch]) -> None:
        for watch in watches:
            watch.moved = True
            watch.bell.set()

    def _look(self, followers: set[Follower]) -> None:
        for one in followers:
            one.look = True
            one.changed.set()

    def _moved(self, notice: Notice) -> None:
        if notice.event_id is None or notice.execution_id is None:
            return
        for one in self._of(notice):
            one.begun.append((notice.event_id, notice.execution_id))
            one.changed.set()

    def _halted(self, notice: Notice) -> None:
        self._look(self._of(notice))

    def _ended(self, notice: Notice) -> None:
        for one in self._of(notice):
            if notice.event_id is not None:
                one.ended.append(Rested(notice.event_id, notice.execution_id, notice.status or ""))
            one.changed.set()

    def _of(self, notice: Notice) -> set[Follower]:
        if notice.session_id is None:
            return set()
        return self._followers.get(notice.session_id, set())

    async def _sweep(self) -> None:
        known: dict[str, int] = {}
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                found = await self._kit.store.read(SessionsMoved(list(self._followers)))
            except StoreError as error:
                log.warning("talks.not_looked", reason=str(error))
                continue
            for session_id, moved_at in found.items():
                if known.get(session_id, moved_at) != moved_at:
                    self._look(self._followers.get(session_id, set()))
            known = found

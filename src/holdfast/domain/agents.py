"""Agents: named configurations, each change a version, and the processes that run them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from holdfast.errors import IllegalMove

AGENT = "agent"
"""What an event's `target_kind`, an execution's and a process's `kind` call it."""

CHANNELS = "/redis"
"""CloudEvents source of turns that came over a channel of the bus's server."""

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}", re.ASCII)
"""What an agent may be called; one name an owner."""

Wanted = Literal["on", "off"]
"""What people want of an agent: `on` starts with a message and stops when idle; `off` stays down,
and its messages wait."""


class ProcessStatus(StrEnum):
    """Where a supervised process stands."""

    STOPPED = "stopped"  # there is none; a message starts it unless it is to be off
    STARTING = "starting"  # there is one, or there will be after a pause; it takes nothing yet
    RUNNING = "running"  # it has said that it is ready
    STOPPING = "stopping"  # it takes nothing more and ends
    ERROR = "error"  # given up; stays so until a person acts


P = ProcessStatus
PROCESS_MOVES: Mapping[ProcessStatus, frozenset[ProcessStatus]] = {
    P.STOPPED: frozenset({P.STARTING}),
    # To itself: it died before it was ready and is started again.
    P.STARTING: frozenset({P.STARTING, P.RUNNING, P.STOPPING, P.STOPPED, P.ERROR}),
    P.RUNNING: frozenset({P.STARTING, P.STOPPING, P.STOPPED, P.ERROR}),
    P.STOPPING: frozenset({P.STOPPED, P.STARTING, P.ERROR}),
    P.ERROR: frozenset({P.STARTING, P.STOPPED}),
}


def move_process(target: str, old: ProcessStatus, new: ProcessStatus) -> ProcessStatus:
    """Return `new` when the move is legal.

    Raises:
        IllegalMove: the table has no such move.
    """
    if new not in PROCESS_MOVES[old]:
        raise IllegalMove(f"process {target} is {old} and cannot become {new}")
    return new


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentVersion:
    """An agent as one of its versions says.

    Attributes:
        id: of the agent; its events' target and its executions' name.
        name: what people call it; unique for its owner.
        version: 1 for the first; grows with each change, rolling back included.
        config: validated: `{"simple": {"settings": {…}}}` or `{"graph": {"settings": {…}}}`;
            secrets in it are references.
        author: who made this version: a key's id, or the local user.
        undoes: the version whose content this one brings back; None for an ordinary change.
    """

    id: str
    owner_id: str
    name: str
    description: str
    version: int
    config: Mapping[str, Any]
    author: str | None
    created_at: int
    undoes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """An agent and its newest version."""

    current: AgentVersion
    created_at: int

    @property
    def id(self) -> str:
        """Its id."""
        return self.current.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """What is known of a supervised process; one row a target, made with its first start.

    Attributes:
        kind: `agent`, or what else is held by one hub at a time.
        target: the agent's id.
        wanted: what people want.
        hub: boot id of the hub that holds it; None: nobody does.
        fence: grows with every hub that takes it; a write with an older one changes nothing.
        version: of the agent that its process runs.
        heartbeat_at: when its loop last answered, microseconds.
        restarts: starts in a row that came to nothing, or deaths since it last proved itself.
        asked: how often a restart was asked for; the hub starts it anew when this has grown.
        last_error: `{"code", "message"}`; stays until it is proven again.
    """

    kind: str
    target: str
    owner_id: str
    status: ProcessStatus
    wanted: Wanted
    hub: str | None
    lease_until: int | None
    fence: int
    host: str | None
    pid: int | None
    version: int | None
    started_at: int | None
    ready_at: int | None
    heartbeat_at: int | None
    restarts: int
    asked: int
    last_error: dict[str, Any] | None

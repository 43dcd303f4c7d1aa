"""Hubs: what one does, and what the others know of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

ALIVE_US = 15_000_000
"""A hub that was not heard of for so long counts as dead."""

FORGET_US = 600_000_000
"""A hub that died without a word is shown for so long."""

CELERY = "celery"
"""Kind of a Celery worker's hub."""


class Role(StrEnum):
    """What a hub does for the others of its database."""

    API = "api"  # take requests
    WORKER = "worker"  # run pipelines
    AGENTS = "agents"  # run agents


@dataclass(frozen=True, slots=True, kw_only=True)
class NewHub:
    """A hub as it tells of itself with every beat."""

    id: str  # its boot id
    kind: str  # "hub", or CELERY
    roles: tuple[Role, ...]
    host: str
    pid: int
    version: str
    stopping: bool = False  # it takes nothing more and hands back what it has


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownHub(NewHub):
    """A hub as the others see it."""

    started_at: int
    seen_at: int
    alive: bool

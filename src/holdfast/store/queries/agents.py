"""Questions about agents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import bindparam, exists, func, literal_column, or_, select

from holdfast.domain.agents import AGENT, Agent, AgentVersion, ProcessStatus
from holdfast.domain.ids import now_us
from holdfast.errors import NotFound
from holdfast.store.base import Query, Reads
from holdfast.store.rows import Shape
from holdfast.store.statements import Statement
from holdfast.store.tables import agent_versions, agents, events, pauses, processes
from holdfast.store.tables.base import word

from .pages import check_limit
from .turns import FOR_AGENTS, ITS_TURN

_NAMES = {
    "id": agents.c.id,
    **{one.name: agent_versions.c[one.name] for one in fields(AgentVersion) if one.name != "id"},
}
VERSION = Shape(AgentVersion, _NAMES, json=("config",))
VERSION_COLUMNS = tuple(_NAMES.values())

_OF_AGENT = agent_versions.c.agent_id == agents.c.id
CURRENT = (
    select(*VERSION_COLUMNS, agents.c.created_at)
    .join_from(agents, agent_versions, _OF_AGENT)
    .where(agent_versions.c.version == agents.c.version)
)
"""An agent's newest version, and when its first one was made."""

_OWNED = CURRENT.where(agents.c.owner_id == bindparam("owner_id"))
_BY_ID = Statement(_OWNED.where(agents.c.id == bindparam("ref")))
_BY_NAME = Statement(_OWNED.where(agents.c.name == bindparam("ref")))
_PAGE = Statement(
    _OWNED.where(agents.c.name > bindparam("after"))
    .order_by(agents.c.name)
    .limit(bindparam("limit"))
)
_ALL = Statement(CURRENT.order_by(agents.c.id))
_VERSIONS = Statement(
    select(*VERSION_COLUMNS)
    .join_from(agents, agent_versions, _OF_AGENT)
    .where(agents.c.owner_id == bindparam("owner_id"), agents.c.id == bindparam("of"))
    .order_by(agent_versions.c.version.desc())
    .limit(bindparam("limit"))
)


def agent_item(row: Sequence[Any]) -> Agent:
    """An agent out of a row of `CURRENT`."""
    return Agent(current=VERSION.item(row[:-1]), created_at=row[-1])


@dataclass(frozen=True, slots=True)
class AgentBy(Query[Agent]):
    """One agent.

    Attributes:
        ref: its id, or its name; an id goes first.

    Raises:
        NotFound: no such agent of that owner.
    """

    owner_id: str
    ref: str

    def run(self, db: Reads) -> Agent:
        """Ask by id, then by name."""
        whose = {"owner_id": self.owner_id, "ref": self.ref}
        for statement in (_BY_ID, _BY_NAME):
            for row in db.rows(statement, whose):
                return agent_item(row)
        raise NotFound(f"there is no agent {self.ref}", hint="see: holdfast agents list")


@dataclass(frozen=True, slots=True, kw_only=True)
class Agents(Query[list[Agent]]):
    """A page of an owner's agents, by name.

    Attributes:
        after: the last name of the page before.
    """

    owner_id: str
    after: str | None = None
    limit: int = 50

    def run(self, db: Reads) -> list[Agent]:
        """Ask over the index of names."""
        check_limit(self.limit)
        values = {"owner_id": self.owner_id, "after": self.after or "", "limit": self.limit}
        return [agent_item(row) for row in db.rows(_PAGE, values)]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentVersions(Query[list[AgentVersion]]):
    """The versions of an agent, the newest first.

    Raises:
        NotFound: no such agent of that owner.
    """

    agent_id: str
    owner_id: str
    limit: int = 200

    def run(self, db: Reads) -> list[AgentVersion]:
        """Ask by id; every agent has one."""
        values = {"owner_id": self.owner_id, "of": self.agent_id, "limit": self.limit}
        found = [VERSION.item(row) for row in db.rows(_VERSIONS, values)]
        if not found:
            raise NotFound(f"there is no agent {self.agent_id}", hint="see: holdfast agents list")
        return found


@dataclass(frozen=True, slots=True)
class AllAgents(Query[list[Agent]]):
    """Every owner's agents, for the hub that runs them."""

    def run(self, db: Reads) -> list[Agent]:
        """Ask for all."""
        return [agent_item(row) for row in db.rows(_ALL, {})]


def _targets() -> Statement:
    """The targets of agents' queued events: from one to the next over the index, however many
    events each has.
    """
    first = select(func.min(events.c.target).label("target")).where(*FOR_AGENTS)
    found = first.cte("found", recursive=True)
    next_one = (
        select(func.min(events.c.target))
        .where(*FOR_AGENTS, events.c.target > found.c.target)
        .scalar_subquery()
    )
    found = found.union_all(select(next_one).where(found.c.target.is_not(None)))
    return Statement(select(found.c.target).where(found.c.target.is_not(None)))


TARGETS = _targets()

CAN_RUN = Statement(
    select(events.c.owner_id)
    .where(
        *FOR_AGENTS,
        events.c.target == bindparam("target"),
        events.c.available_at <= bindparam("now"),
        events.c.cancel_requested_at.is_(None),
        events.c.target.not_in(select(pauses.c.pipeline)),
        ITS_TURN,
        ~exists(
            select(processes.c.target).where(
                processes.c.kind == literal_column(f"'{AGENT}'"),
                processes.c.target == events.c.target,
                or_(
                    processes.c.wanted == literal_column("'off'"),
                    processes.c.status == word(ProcessStatus.ERROR),
                ),
            )
        ),
    )
    .limit(1)
)


@dataclass(frozen=True, slots=True)
class AgentsWithWork(Query[list[tuple[str, str]]]):
    """Ids and owners of the agents, of all owners, that have a message which may be answered now.

    What is to be off or was given up is left out.

    Attributes:
        now: the caller's time, microseconds; None: this machine's. It decides only when a process
            is started: what it may run, the claim asks by the store's time.
    """

    now: int | None = None

    def run(self, db: Reads) -> list[tuple[str, str]]:
        """From agent to agent over the index of their queue."""
        now = now_us() if self.now is None else self.now
        return [
            (target, owner)
            for (target,) in db.rows(TARGETS, {})
            for (owner,) in db.rows(CAN_RUN, {"target": target, "now": now})
        ]

"""Agents: made, changed, deleted; each change is a version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from sqlalchemy import bindparam, delete, select, update

from holdfast.domain.agents import AGENT, Agent, AgentVersion
from holdfast.errors import HoldfastError, NameTaken, NotFound, VersionMoved
from holdfast.store.base import Command, Lane, Writes
from holdfast.store.frames import plain, to_json
from holdfast.store.queries.agents import CURRENT, agent_item
from holdfast.store.statements import Conflict, Insert, Statement
from holdfast.store.tables import agent_versions, agents, processes, sessions

from .forgetting import Removed, forget_sessions
from .held import lock

_INSERT = Insert(agents, unless=Conflict(()))
_VERSION = Insert(agent_versions)
# Locked alone: a join would be read as it was before somebody else's change was waited for.
_HELD = lock(
    select(agents.c.id).where(
        agents.c.id == bindparam("of"), agents.c.owner_id == bindparam("owner_id")
    )
)
_BY_ID = Statement(
    CURRENT.where(agents.c.id == bindparam("of"), agents.c.owner_id == bindparam("owner_id"))
)
_BY_NAME = Statement(
    select(agents.c.id).where(
        agents.c.owner_id == bindparam("owner_id"), agents.c.name == bindparam("of_name")
    )
)
_SET = Statement(
    update(agents)
    .where(agents.c.id == bindparam("of"))
    .values(name=bindparam("to_name"), version=bindparam("to"), updated_at=bindparam("at"))
)
_SESSIONS = lock(
    select(sessions.c.id).where(sessions.c.agent_id == bindparam("of")).order_by(sessions.c.id)
)
_DELETE = (
    Statement(
        delete(processes).where(
            processes.c.kind == bindparam("kind"), processes.c.target == bindparam("of")
        )
    ),
    Statement(delete(agent_versions).where(agent_versions.c.agent_id == bindparam("of"))),
    Statement(delete(agents).where(agents.c.id == bindparam("of"))),
)


def _row(version: AgentVersion) -> tuple[Any, ...]:
    return (
        *(version.id, version.version, version.owner_id, version.name),
        *(plain(version.description), to_json(dict(version.config))),
        *(version.author and plain(version.author), version.created_at, version.undoes),
    )


def _taken(name: str) -> NameTaken:
    return NameTaken(
        f"there is an agent {name} already", hint="change that one, or take another name"
    )


@dataclass(frozen=True, slots=True)
class PutAgent(Command[Agent]):
    """Make an agent with its first version; `created_at` is the store's time.

    One of the same id is there already when a try before was stored: it is returned as it stands.

    Raises:
        NameTaken: the owner has another agent of that name.
    """

    lane: ClassVar[Lane] = "submit"
    order: ClassVar[int] = 0
    version: AgentVersion

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[Agent | HoldfastError]:
        """One after the other; the second with a name finds it taken."""
        return [_put(tx, command.version) for command in commands]


def _put(tx: Writes, version: AgentVersion) -> Agent | HoldfastError:
    now = tx.now()
    whose = {"of": version.id, "owner_id": version.owner_id}
    known = tx.rows(_BY_ID, whose)
    if known:
        return agent_item(known[0])
    tx.insert(_INSERT, [(version.id, version.owner_id, version.name, version.version, now, now)])
    by_name = tx.rows(_BY_NAME, {"owner_id": version.owner_id, "of_name": version.name})
    if by_name != [(version.id,)]:
        return _taken(version.name)
    tx.insert(_VERSION, [_row(replace(version, created_at=now))])
    return agent_item(tx.rows(_BY_ID, whose)[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeAgent(Command[AgentVersion]):
    """Give an agent a new version; what says the same as the newest one makes none.

    Attributes:
        expected: the version that the caller has seen; None: whatever it is.
        undoes: the version that is brought back: that makes a new one always.

    Raises:
        NotFound: no such agent of that owner.
        NameTaken: another one of theirs has the name.
        VersionMoved: the newest version is not the expected one.
    """

    lane: ClassVar[Lane] = "submit"
    order: ClassVar[int] = 1
    agent_id: str
    owner_id: str
    name: str
    description: str
    config: Mapping[str, Any]
    author: str | None
    expected: int | None = None
    undoes: int | None = None

    @classmethod
    def write_many(
        cls, tx: Writes, commands: Sequence[Self]
    ) -> Sequence[AgentVersion | HoldfastError]:
        """In the order of ids, of one agent as they came."""
        places = sorted(range(len(commands)), key=lambda n: commands[n].agent_id)
        found = {place: _change(tx, commands[place]) for place in places}
        return [found[place] for place in range(len(commands))]


def _change(tx: Writes, command: ChangeAgent) -> AgentVersion | HoldfastError:
    whose = {"of": command.agent_id, "owner_id": command.owner_id}
    if not tx.rows(_HELD, whose):
        return _no_agent(command.agent_id)
    stands = agent_item(tx.rows(_BY_ID, whose)[0]).current
    if command.expected not in (None, stands.version):
        return VersionMoved(
            f"agent {stands.name} is at version {stands.version}, not {command.expected}",
            hint="look at what was changed, then change that",
        )
    says = (command.name, command.description, dict(command.config))
    if command.undoes is None and says == (stands.name, stands.description, dict(stands.config)):
        return stands
    named = tx.rows(_BY_NAME, {"owner_id": command.owner_id, "of_name": command.name})
    if named not in ([], [(command.agent_id,)]):
        return _taken(command.name)
    now = tx.now()
    made = replace(
        stands,
        name=command.name,
        description=command.description,
        version=stands.version + 1,
        config=command.config,
        author=command.author,
        created_at=now,
        undoes=command.undoes,
    )
    # Of two hubs that give two agents one name the index refuses the second: it may try again.
    tx.change(_SET, [{"of": made.id, "to_name": made.name, "to": made.version, "at": now}])
    tx.insert(_VERSION, [_row(made)])
    return made


def _no_agent(agent_id: str) -> NotFound:
    return NotFound(f"there is no agent {agent_id}", hint="see: holdfast agents list")


@dataclass(frozen=True, slots=True)
class DeleteAgent(Command[Removed]):
    """Delete an agent with all that is its own: versions, process, sessions and what is in them.

    Nothing holds it up. What is queued or halted is cancelled, what runs is asked to stop, and
    goes when it has (see `DeleteSession`). The hub that holds its process loses it with the next
    beat. Nothing new comes in beside it: `Submit` and `TakeProcesses` wait for this command, and
    find no agent. Very many sessions take one long transaction: prune before.

    Raises:
        NotFound: no such agent of that owner.
    """

    lane: ClassVar[Lane] = "finish"
    order: ClassVar[int] = 8
    weight: ClassVar[int] = 256
    agent_id: str
    owner_id: str

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[Removed | HoldfastError]:
        """One after the other; the second finds none."""
        return [_delete(tx, command) for command in commands]


def _delete(tx: Writes, command: DeleteAgent) -> Removed | HoldfastError:
    of = {"of": command.agent_id}
    if not tx.rows(_HELD, {**of, "owner_id": command.owner_id}):
        return _no_agent(command.agent_id)
    ids = [session_id for (session_id,) in tx.rows(_SESSIONS, of)]
    removed = forget_sessions(tx, command.owner_id, ids, agent_id=command.agent_id)
    for statement in _DELETE:
        tx.change(statement, [{**of, "kind": AGENT}])
    return removed

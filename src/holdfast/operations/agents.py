"""Agents: configured, changed in versions, rolled back, deleted; wanted on or off."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import orjson

from holdfast.agents.config import read_config
from holdfast.bus import Notice
from holdfast.bus.base import AGENTS
from holdfast.domain.agents import AGENT, NAME, Agent, AgentVersion, Process
from holdfast.domain.ids import is_id, new_id, now_us
from holdfast.errors import IllegalMove, InvalidInput, NotFound, VersionMoved
from holdfast.store.commands import ChangeAgent, DeleteAgent, PutAgent, WantProcess
from holdfast.store.queries import AgentBy, Agents, AgentVersions, Processes, ProcessOf
from holdfast.telemetry import logger

from .announce import announce
from .check_agent import check_agent
from .kit import Kit
from .views import View, iso

log = logger("agents")

MAX_DESCRIPTION_CHARS = 2000

Change = Literal["created", "changed", "same"]

Verb = Literal["start", "stop", "restart"]

OFF = "off"
"""As `agent_status`: people want it to stay down."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What applying a configuration did."""

    version: AgentVersion
    change: Change


async def find(kit: Kit, owner_id: str, ref: str) -> Agent:
    """An agent by id or name.

    Raises:
        NotFound: the owner has none.
    """
    return await kit.store.read(AgentBy(owner_id, ref))


async def page(
    kit: Kit, owner_id: str, *, after: str | None, limit: int
) -> list[tuple[Agent, Process | None]]:
    """A page of an owner's agents by name, each with its process."""
    found = await kit.store.read(Agents(owner_id=owner_id, after=after, limit=limit))
    processes = {
        one.target: one for one in await kit.store.read(Processes(owner_id)) if one.kind == AGENT
    }
    return [(one, processes.get(one.id)) for one in found]


async def create(
    kit: Kit, *, owner_id: str, author: str | None, name: str, description: str, config: Any
) -> AgentVersion:
    """Make an agent.

    Raises:
        InvalidInput: something in it is wrong; `fields` says where.
        NameTaken: the owner has one of that name.
    """
    checked = await _checked(kit, owner_id, name, description, config)
    made = await kit.store.write(
        PutAgent(
            AgentVersion(
                id=new_id(),
                owner_id=owner_id,
                name=name,
                description=description,
                version=1,
                config=checked,
                author=author,
                created_at=now_us(),
            )
        )
    )
    log.info("agent.created", agent=made.id, name=name)
    kit.bus.publish(Notice(AGENTS, target=made.id))
    return made.current


async def change(
    kit: Kit,
    agent: Agent,
    *,
    author: str | None,
    name: str,
    description: str,
    config: Any,
    expected: int | None = None,
    undoes: int | None = None,
) -> Applied:
    """Make a new version of an agent, unless nothing is different.

    Args:
        kit: the hub's parts.
        agent: as it stands.
        author: who changes it.
        name: as it is to be.
        description: likewise.
        config: likewise.
        expected: the version the caller has seen.
        undoes: the version whose content comes back.

    Raises:
        InvalidInput: something in it is wrong; `fields` says where.
        NameTaken: another agent of the owner has that name.
        VersionMoved: it has changed since the version that was expected.
    """
    current = agent.current
    if expected not in (None, current.version):
        raise VersionMoved(
            f"agent {current.name} has version {current.version} by now, not {expected}",
            hint=f"see what changed: holdfast agents diff {current.name}",
        )
    checked = await _checked(kit, current.owner_id, name, description, config)
    said = (name, description, checked)
    if said == (current.name, current.description, dict(current.config)):
        return Applied(current, "same")
    changed = await kit.store.write(
        ChangeAgent(
            agent_id=agent.id,
            owner_id=current.owner_id,
            name=name,
            description=description,
            config=checked,
            author=author,
            expected=expected,
            undoes=undoes,
        )
    )
    log.info("agent.changed", agent=agent.id, name=name, version=changed.version)
    kit.bus.publish(Notice(AGENTS, target=agent.id))
    return Applied(changed, "changed")


async def apply(
    kit: Kit, *, owner_id: str, author: str | None, name: str, description: str, config: Any
) -> Applied:
    """Let the owner's agent of that name be so: made, changed, or left when it is.

    Raises:
        InvalidInput: something in it is wrong; `fields` says where.
    """
    try:
        agent = await find(kit, owner_id, name)
    except NotFound:
        agent = None
    return await put(
        kit,
        agent,
        owner_id=owner_id,
        author=author,
        name=name,
        description=description,
        config=config,
    )


async def put(
    kit: Kit,
    agent: Agent | None,
    *,
    owner_id: str,
    author: str | None,
    name: str,
    description: str,
    config: Any,
    expected: int | None = None,
    dry_run: bool = False,
) -> Applied:
    """Let an agent be so.

    Args:
        kit: the hub's parts.
        agent: as it stands; None: it is to be made.
        owner_id: whose agent.
        author: who says so.
        name: as it is to be.
        description: what it is for.
        config: see `agents.config`.
        expected: the version the caller has seen.
        dry_run: check all, store nothing.

    Raises:
        InvalidInput: something in it is wrong; `fields` says where.
        NameTaken: another agent of the owner has that name.
        VersionMoved: it has changed since the version that was expected.
    """
    if dry_run:
        return await _tried(kit, agent, owner_id, name, description, config)
    if agent is not None:
        return await change(
            kit,
            agent,
            author=author,
            name=name,
            description=description,
            config=config,
            expected=expected,
        )
    version = await create(
        kit, owner_id=owner_id, author=author, name=name, description=description, config=config
    )
    return Applied(version, "created")


async def _tried(
    kit: Kit, agent: Agent | None, owner_id: str, name: str, description: str, config: Any
) -> Applied:
    """What applying would do."""
    checked = await _checked(kit, owner_id, name, description, config)
    if agent is None:
        made = AgentVersion(
            id="",
            owner_id=owner_id,
            name=name,
            description=description,
            version=1,
            config=checked,
            author=None,
            created_at=now_us(),
        )
        return Applied(made, "created")
    current = agent.current
    if (name, description, checked) == (current.name, current.description, dict(current.config)):
        return Applied(current, "same")
    return Applied(
        replace(
            current,
            name=name,
            description=description,
            config=checked,
            version=current.version + 1,
        ),
        "changed",
    )


async def versions(kit: Kit, agent: Agent) -> list[AgentVersion]:
    """All versions of an agent, the newest first."""
    return await kit.store.read(AgentVersions(agent_id=agent.id, owner_id=agent.current.owner_id))


async def version(kit: Kit, agent: Agent, number: int) -> AgentVersion:
    """One version of an agent.

    Raises:
        NotFound: it has no such version.
    """
    for one in await versions(kit, agent):
        if one.version == number:
            return one
    raise NotFound(
        f"agent {agent.current.name} has no version {number}",
        hint=f"it has 1 to {agent.current.version}",
    )


async def roll_back(
    kit: Kit, agent: Agent, *, author: str | None, number: int | None = None
) -> Applied:
    """Bring back what an older version says, as a new version.

    Args:
        kit: the hub's parts.
        agent: as it stands.
        author: who asks.
        number: which version; None: the one before. Done again, the one before that.

    Raises:
        NotFound: it has no such version.
        IllegalMove: there is none before.
        InvalidInput: that one cannot be used any more; `fields` says why.
    """
    if number is None:
        number = _before(await versions(kit, agent))
    old = await version(kit, agent, number)
    return await change(
        kit,
        agent,
        author=author,
        name=agent.current.name,  # people know it by this one
        description=old.description,
        config=dict(old.config),
        undoes=number,
    )


def _before(known: list[AgentVersion]) -> int:
    """The version before the one whose content the newest has."""
    now = known[0]
    of = now.undoes or now.version
    if of <= 1:
        raise IllegalMove(f"agent {now.name} has no version before {of}")
    return of - 1


async def compare(kit: Kit, agent: Agent, a: int, b: int) -> View:
    """What differs between two versions, part by part.

    Raises:
        NotFound: it has no such version.
    """
    old, new = await version(kit, agent, a), await version(kit, agent, b)
    parts: list[View] = []
    for part in ("name", "description", "config"):
        lines = _diff(_text(getattr(old, part)), _text(getattr(new, part)))
        if lines:
            parts.append({"part": part, "lines": lines})
    return {"a": a, "b": b, "same": not parts, "parts": parts}


def _text(part: str | Mapping[str, Any]) -> str:
    if isinstance(part, str):
        return part
    return orjson.dumps(dict(part), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS).decode()


def _diff(old: str, new: str) -> list[str]:
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=3)
    return [line for line in lines if not line.startswith(("---", "+++"))]


async def delete(kit: Kit, agent: Agent) -> None:
    """Delete an agent with its versions, sessions, messages and memory; its process ends.

    Raises:
        NotFound: it is gone already.
    """
    removed = await kit.store.write(DeleteAgent(agent.id, agent.current.owner_id))
    log.info("agent.deleted", agent=agent.id, name=agent.current.name)
    announce(kit, removed.moved)
    kit.bus.publish(Notice(AGENTS, target=agent.id))


async def want(kit: Kit, agent: Agent, verb: Verb) -> Process:
    """Say that an agent's process is to run, to stay down, or to be started anew.

    Returns:
        Its process as it stands; the hub that holds it, or will, hears of the wish at once.
    """
    process = await kit.store.write(
        WantProcess(
            kind=AGENT,
            target=agent.id,
            owner_id=agent.current.owner_id,
            wanted="off" if verb == "stop" else "on",
            ask_restart=verb != "stop",
        )
    )
    log.info("agent.wanted", agent=agent.id, verb=verb)
    kit.bus.publish(Notice(AGENTS, target=agent.id))
    return process


async def process_of(kit: Kit, version: AgentVersion) -> Process | None:
    """An agent's process as it stands; asking changes nothing."""
    return await kit.store.read(ProcessOf(AGENT, version.id, version.owner_id))


def agent_status(process: Process | None) -> str:
    """In one word: `off`, or the status of its process."""
    if process is None:
        return "stopped"
    return OFF if process.wanted == "off" else process.status.value


def agent_view(
    version: AgentVersion, process: Process | None, *, created_at: int | None = None
) -> View:
    """An agent as its newest version says, and its process."""
    return {
        "id": version.id,
        "name": version.name,
        "description": version.description,
        "version": version.version,
        "kind": "simple" if "simple" in version.config else "graph",
        "config": version.config,
        "created_at": iso(version.created_at if created_at is None else created_at),
        "updated_at": iso(version.created_at),
        "process": process_view(process),
    }


def version_view(version: AgentVersion) -> View:
    """One version."""
    return {
        "version": version.version,
        "name": version.name,
        "description": version.description,
        "config": version.config,
        "author": version.author,
        "created_at": iso(version.created_at),
        "undoes": version.undoes,
    }


def process_view(process: Process | None) -> View:
    """A process, or that there never was one."""
    if process is None:
        return {
            "status": "stopped",
            "wanted": "on",
            "pid": None,
            "hub": None,
            "host": None,
            "version": None,
            "started_at": None,
            "ready_at": None,
            "heartbeat_at": None,
            "restarts": 0,
            "last_error": None,
        }
    return {
        "status": process.status.value,
        "wanted": process.wanted,
        "pid": process.pid,
        "hub": process.hub,
        "host": process.host,
        "version": process.version,
        "started_at": iso(process.started_at),
        "ready_at": iso(process.ready_at),
        "heartbeat_at": iso(process.heartbeat_at),
        "restarts": process.restarts,
        "last_error": process.last_error,
    }


async def _checked(
    kit: Kit, owner_id: str, name: str, description: str, config: Any
) -> dict[str, Any]:
    """The configuration as it is stored, once everything in it is found good."""
    if not NAME.fullmatch(name) or is_id(name):
        raise _wrong("name", f"fits {NAME.pattern} and is no id", name)
    if len(description) > MAX_DESCRIPTION_CHARS:
        raise _wrong("description", f"at most {MAX_DESCRIPTION_CHARS} characters", description)
    read = read_config(config)
    await check_agent(kit, owner_id, name, read)
    return read.plain()


def _wrong(field: str, expected: str, got: str) -> InvalidInput:
    shown = got if len(got) <= 100 else got[:99] + "…"
    return InvalidInput(
        f"{field}: expected {expected}, got {shown!a}",
        fields=[{"field": field, "expected": expected, "got": shown}],
    )

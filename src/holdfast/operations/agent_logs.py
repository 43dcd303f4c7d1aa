"""What an agent's process wrote: the log file on the machine where it ran, read from any hub."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from holdfast.domain.agents import AGENT, Agent
from holdfast.domain.ids import is_id
from holdfast.errors import HubSilent, InvalidInput
from holdfast.store.queries import AllHubs, ProcessOf
from holdfast.telemetry import logger

from .kit import Kit

log = logger("agents")

LOGS = "agent.logs"
"""The question by which another hub is asked for a part of a log."""

MAX_LINES = 10_000

MAX_BYTES = 1024 * 1024
"""Most of a log that is handed out at once."""


@dataclass(frozen=True, slots=True)
class Log:
    """A part of a log.

    Attributes:
        lines: whole ones, the oldest first.
        offset: bytes from the beginning of the file to behind the last of them; from there on
            it can be followed.
        hub: whose machine it is on; None: nobody has one.
    """

    lines: list[str]
    offset: int
    hub: str | None


def log_path(home: Path, agent_id: str) -> Path:
    """Where an agent's process writes."""
    return home / "logs" / "agents" / f"{agent_id}.log"


def read_log(path: Path, *, tail: int | None, offset: int | None) -> tuple[list[str], int] | None:
    """The last lines of a log, or what follows an offset; None when there is no log.

    A file that is shorter than the offset was begun anew and is read from its beginning.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            start = max(0, size - MAX_BYTES) if offset is None else offset
            if start > size:
                start = 0
            file.seek(start)
            data = file.read(MAX_BYTES)
    except FileNotFoundError:
        return None
    whole = data.rfind(b"\n") + 1  # a line that is being written is told once it is whole
    if not whole and len(data) == MAX_BYTES:
        whole = len(data)  # one longer than all that is handed out at once
    lines = data[:whole].decode("utf-8", "replace").splitlines()
    if offset is None:
        if start and len(lines) > 1:
            del lines[0]  # its beginning is not here
        lines = lines[-(tail or 1) :]
    return lines, start + whole


async def logs(kit: Kit, agent: Agent, *, tail: int | None, offset: int | None) -> Log:
    """A part of what an agent's process wrote, wherever it runs or last ran.

    Args:
        kit: the hub's parts.
        agent: whose.
        tail: how many of the last lines.
        offset: everything behind that place instead.

    Raises:
        InvalidInput: both were given.
        HubSilent: the hub that has it does not answer.
    """
    if tail is not None and offset is not None:
        raise InvalidInput(
            "the last lines, or what follows an offset: not both",
            fields=[{"field": "tail", "expected": "nothing beside offset", "got": tail}],
        )
    if tail is None and offset is None:
        tail = 200
    args = {"agent_id": agent.id, "tail": tail, "offset": offset}
    process = await kit.store.read(ProcessOf(AGENT, agent.id, agent.current.owner_id))
    holder = None if process is None else process.hub
    if holder is None or holder == kit.boot_id:
        found = await here(kit, args)
        if found is not None:
            return Log(**found)
        if holder is not None or process is None or not kit.bus.joins:
            return Log([], 0, None)
        known = await kit.store.read(AllHubs())
        hubs = [one.id for one in known if one.alive and one.host == process.host]
        return await _ask_all([one for one in hubs if one != kit.boot_id], kit, args)
    return await _ask_all([holder], kit, args, must=True)


async def _ask_all(
    hubs: list[str], kit: Kit, args: Mapping[str, Any], *, must: bool = False
) -> Log:
    for hub in hubs:
        try:
            found = await kit.bus.ask(hub, LOGS, args)
        except HubSilent as error:
            if must:
                raise
            log.info("agents.no_log", hub=hub, reason=str(error))
            continue
        if found is not None:
            return Log(**found)
    return Log([], 0, None)


async def here(kit: Kit, args: Mapping[str, Any]) -> dict[str, Any] | None:
    """The part of a log that this machine has, as JSON; None when it has none."""
    if not is_id(args["agent_id"]):
        return None
    path = log_path(kit.home, args["agent_id"])
    found = await asyncio.to_thread(read_log, path, tail=args["tail"], offset=args["offset"])
    return None if found is None else asdict(Log(found[0], found[1], kit.boot_id))

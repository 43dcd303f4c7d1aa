"""Agents that files declare: made when a hub starts, changed when their file has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from holdfast.agents.config import read_config
from holdfast.agents.files import AgentFile, read_file
from holdfast.errors import InvalidInput, NameTaken, NotFound, VersionMoved
from holdfast.pipelines.registry import AppFailure
from holdfast.telemetry import logger

from .agents import apply, find, versions
from .kit import Kit

log = logger("agents")

TRIES = 3
"""Hubs that start together apply the same files; who comes second looks again."""


async def apply_files(kit: Kit, owner_id: str, files: Sequence[Path]) -> list[str]:
    """Apply files of agents; what is wrong with one is told and keeps no other out.

    A file makes a version when it has changed since it was last applied. So what people changed
    meanwhile, or rolled back, outlives a restart.

    Returns:
        The names of the agents that stand in the files and could be used.
    """
    names: list[str] = []
    for file in files:
        try:
            agents = await asyncio.to_thread(read_file, file)
        except InvalidInput as error:
            _leave_out(kit, file, error)
            continue
        for one in agents:
            try:
                await _apply(kit, owner_id, one)
            except InvalidInput as error:
                _leave_out(kit, file, one.located(error))
            else:
                names.append(one.name)
    return names


async def _apply(kit: Kit, owner_id: str, one: AgentFile) -> None:
    author = f"file:{one.file}"
    for again in range(TRIES):
        if await _stands(kit, owner_id, one, author):
            return
        try:
            await apply(
                kit,
                owner_id=owner_id,
                author=author,
                name=one.name,
                description=one.description,
                config=one.config,
            )
        except (NameTaken, VersionMoved):
            if again == TRIES - 1:
                raise
        else:
            return


async def _stands(kit: Kit, owner_id: str, one: AgentFile, author: str) -> bool:
    """Whether the file says what it said when it was last applied."""
    try:
        known = await versions(kit, await find(kit, owner_id, one.name))
    except NotFound:
        return False
    last = next((version for version in known if version.author == author), None)
    if last is None:
        return False
    return (one.description, read_config(one.config).plain()) == (
        last.description,
        dict(last.config),
    )


def _leave_out(kit: Kit, file: Path, error: InvalidInput) -> None:
    log.warning("agents.file_left_out", file=str(file), reason=str(error))
    kit.registry.failures.append(AppFailure(app=str(file), error=error))

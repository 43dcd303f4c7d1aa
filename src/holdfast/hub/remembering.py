"""The memory port answered: windows of sessions, summaries, and items of agents and pipelines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from holdfast.errors import PortError
from holdfast.journal import Running
from holdfast.llm.embeddings import Purse, Vectors
from holdfast.memory.items import scope_of
from holdfast.operations import remember
from holdfast.operations.compact import rule_of
from holdfast.operations.items import batch
from holdfast.operations.kit import Kit

from .knowing import told
from .patience import patiently


async def answer(
    kit: Kit, running: Running, verb: str, args: Mapping[str, Any], purse: Purse | None = None
) -> Any:
    """Answer a question of an execution that runs here, for its owner.

    While the database is away the work waits.

    Returns:
        As `MemoryPort` says; for items the fields of `ports.KnowledgeAnswer`.

    Raises:
        PortError: there is no such verb, or the execution is no turn of a session.
        HoldfastError: what the store says of it.
    """
    if verb == "items":
        scope = scope_of(running.start.claimed.target_kind, running.start.claimed.target)

        async def carry_out(made: Vectors) -> Any:
            return await batch(kit, running.owner_id, scope, args["ops"], made=made)

        return await told(kit, running, carry_out, purse)
    return await patiently(
        kit.store, lambda: _do(kit, running, verb, args), event_id=running.event_id
    )


async def _do(kit: Kit, running: Running, verb: str, args: Mapping[str, Any]) -> Any:
    claimed = running.start.claimed
    match verb:
        case "window":
            if claimed.session_id is None:
                raise PortError(f"execution {running.id} is no turn of a session")
            return await remember.window(
                kit,
                owner_id=running.owner_id,
                session_id=claimed.session_id,
                event_id=running.event_id,
                summaries=rule_of(kit, claimed.target).summaries,
                **args,
            )
        case "unsummarised":
            return await remember.unsummarised(kit, owner_id=running.owner_id, **args)
        case "summarise":
            return await remember.summarise(
                kit, owner_id=running.owner_id, execution_id=running.id, **args
            )
        case _:
            raise PortError(f"no port memory.{verb}")

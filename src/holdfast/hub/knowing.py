"""The knowledge port answered: what running work indexes, deletes and searches."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any

from holdfast.domain.knowledge import Stored, read_search
from holdfast.errors import BreakerOpen, HoldfastError, ModelError, NotFound, PortError
from holdfast.journal import Running
from holdfast.llm.calls import cut_off_calls
from holdfast.llm.embeddings import Purse, Vectors
from holdfast.operations.kit import Kit
from holdfast.operations.knowledge import index, remove_document, search
from holdfast.runner.client_ports import STORE_TIMEOUT_S

from .patience import patiently

ANSWER_S = STORE_TIMEOUT_S - 5.0
"""How long a question may take: somebody who waits no more could not record what it cost."""


async def answer(
    kit: Kit, running: Running, verb: str, args: Mapping[str, Any], purse: Purse | None = None
) -> dict[str, Any]:
    """Answer a question of an execution that runs here, for its owner.

    While the database is away the work waits. Calls that make vectors count for the breakers of
    their providers, and for the budgets that the purse stands for.

    Returns:
        Fields of `ports.KnowledgeAnswer`: a failure comes with the calls that were made before it.

    Raises:
        PortError: there is no such verb.
    """
    return await told(
        kit, running, lambda made: _do(kit, running.owner_id, verb, args, made), purse
    )


async def told(
    kit: Kit,
    running: Running,
    do: Callable[[Vectors], Awaitable[Any]],
    purse: Purse | None = None,
) -> dict[str, Any]:
    """What came of work that may ask an embedding provider, with the calls made for it.

    Args:
        kit: the hub's parts.
        running: who asked.
        do: does it; leaves its calls where it is told.
        purse: budgets that the calls count for.

    Raises:
        PortError: as `do` does.
    """
    made = Vectors(purse=purse)
    value, error = None, None

    async def once() -> Any:
        made.packed.clear()  # of a try before, whose calls count all the same
        return await do(made)

    try:
        with cut_off_calls() as cut:
            try:
                async with asyncio.timeout(ANSWER_S):
                    value = await patiently(kit.store, once, event_id=running.event_id)
            except TimeoutError:
                cut.timed_out = True
                raise
    except PortError:
        raise
    except TimeoutError:
        error = {"code": PortError.code, "message": f"not done within {ANSWER_S:g} s", "hint": ""}
    except HoldfastError as failed:
        error = {"code": failed.code, "message": failed.message, "hint": failed.hint}
        if isinstance(failed, ModelError):
            error |= {"error_class": failed.error_class, "http_status": failed.http_status}
        if isinstance(failed, BreakerOpen):
            error |= {"breaker": failed.breaker, "until": failed.until, "by_hub": failed.by_hub}
    return {"value": value, "calls": [asdict(call) for call in made.calls], "error": error}


async def _do(kit: Kit, owner_id: str, verb: str, args: Mapping[str, Any], made: Vectors) -> Any:
    match verb:
        case "index":
            done = await index(kit, owner_id=owner_id, made=made, **args)
            stored = Stored(
                collection=args["collection"],
                key=args["key"],
                chunks=done.document.chunks,
                tokens=done.document.tokens,
                embedded=done.embedded,
            )
            return asdict(stored)
        case "delete":
            try:
                await remove_document(kit, args["collection"], args["key"], owner_id)
            except NotFound:
                return False
            return True
        case "search":
            hits = await search(kit, read_search(**args), owner_id=owner_id, made=made)
            return [asdict(hit) for hit in hits]
        case _:
            raise PortError(f"no port knowledge.{verb}")

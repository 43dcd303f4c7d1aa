"""What a session remembers: its window, the block that is next to be summarised, summaries."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.domain.conversations import NewMessage, Speaker, Window
from holdfast.domain.ids import new_id
from holdfast.domain.memory_items import NewItem
from holdfast.domain.splitting import tokens_of
from holdfast.memory import facts as key_facts
from holdfast.memory.compaction import block_of
from holdfast.memory.window import FIRST_ROWS, choose, rows_for
from holdfast.store.commands import PutItems, Summarise
from holdfast.store.queries import GetItems, OldestUnsummarised, WindowOf

from .kit import Kit


async def window(
    kit: Kit,
    *,
    owner_id: str,
    session_id: str,
    event_id: str | None,
    token_budget: int,
    depth: int | None = None,
    summaries: int,
) -> Window:
    """What a model gets to see of a session.

    Args:
        kit: the hub's parts.
        owner_id: whose.
        session_id: of the conversation.
        event_id: of the turn that is to be answered; None: of no turn, all is seen.
        token_budget: tokens that it may take, by estimate.
        depth: the most messages; None for as many as fit.
        summaries: how many of the newest summaries are in it.

    Raises:
        NotFound: no such session of that owner.
    """
    facts = await _facts(kit, owner_id, session_id)
    most = rows_for(token_budget)
    for limit in (FIRST_ROWS, most):
        found = await kit.store.read(
            WindowOf(
                session_id=session_id,
                owner_id=owner_id,
                event_id=event_id,
                limit=limit,
                summaries=summaries,
            )
        )
        chosen = choose(
            found.messages,
            summaries=found.summaries,
            facts=facts,
            token_budget=token_budget,
            depth=depth,
            unsummarised=found.unsummarised,
            whole=len(found.messages) >= found.unsummarised,
        )
        if limit == most or not chosen.more:
            break
    return chosen.window


async def unsummarised(
    kit: Kit, *, owner_id: str, session_id: str, keep: int, block: int
) -> Window:
    """The block of messages for which the next summary is to stand; see `MemoryPort`.

    Raises:
        NotFound: no such session of that owner.
    """
    oldest = await kit.store.read(
        OldestUnsummarised(session_id=session_id, owner_id=owner_id, keep=keep, block=block)
    )
    if not oldest:
        return Window(summaries=(), messages=())
    before = await kit.store.read(
        WindowOf(session_id=session_id, owner_id=owner_id, event_id=None, limit=0, summaries=1)
    )
    return Window(
        summaries=before.summaries,
        messages=block_of(oldest),
        facts=await _facts(kit, owner_id, session_id),
    )


async def summarise(
    kit: Kit,
    *,
    owner_id: str,
    session_id: str,
    execution_id: str,
    of: Sequence[str],
    summary: str,
    facts: Sequence[str],
) -> bool:
    """Let a summary stand for messages and note facts; see `MemoryPort`.

    Done again, it changes nothing, wherever it was broken off before.

    Raises:
        NotFound: no such session of that owner, or a message is not in it.
    """
    if facts:
        # First: where the summary stands, nobody comes back to note what was missed.
        await _note(kit, owner_id, session_id, facts)
    message = NewMessage(
        id=new_id(),
        role=Speaker.SUMMARY,
        content=summary,
        tokens=tokens_of(summary),
        metadata={"facts": list(facts)} if facts else {},
    )
    return await kit.store.write(
        Summarise(
            session_id=session_id,
            owner_id=owner_id,
            of=tuple(of),
            summary=message,
            execution_id=execution_id,
        )
    )


async def _note(kit: Kit, owner_id: str, session_id: str, facts: Sequence[str]) -> None:
    known = await _facts(kit, owner_id, session_id)
    now = key_facts.merged(known, facts)
    if now != known:
        item = NewItem(
            namespace=key_facts.namespace_of(session_id),
            key=key_facts.KEY,
            value=key_facts.as_item(now),
        )
        await kit.store.write(PutItems(owner_id=owner_id, items=(item,)))


async def _facts(kit: Kit, owner_id: str, session_id: str) -> list[str]:
    place = (key_facts.namespace_of(session_id), key_facts.KEY)
    (found,) = await kit.store.read(GetItems(owner_id=owner_id, keys=(place,)))
    return [] if found is None else key_facts.of_item(found.value)

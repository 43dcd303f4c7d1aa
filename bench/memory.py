"""What a window costs: of 50 messages, and of 100,000."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from itertools import islice
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import create_engine, insert, update

from holdfast.app import run_hub
from holdfast.domain.agents import AgentVersion
from holdfast.domain.conversations import Compaction
from holdfast.domain.events import LOCAL_OWNER
from holdfast.domain.ids import new_id, now_us
from holdfast.domain.splitting import tokens_of
from holdfast.operations.kit import Kit
from holdfast.operations.remember import window
from holdfast.settings import load
from holdfast.store import migrations
from holdfast.store.commands import MakeSession, NewSession, PutAgent
from holdfast.store.registry import address
from holdfast.store.tables import messages, sessions
from holdfast.testing.postgres import running_postgres

from .harness import Line

SHORT, LONG = 50, 100_000
KEEP = 20
ROUNDS = 400
BUDGET = 2000
BAR_MS = 5.0
BAR_RATIO = 1.5
AT_ONCE = 2_000

WAYS = {"compacted": KEEP, "never compacted": None}
"""How many of the newest messages stand without a summary; None: all."""


async def measure() -> AsyncIterator[Line]:
    """Windows of a short and a long session, by turns, on both databases."""
    with TemporaryDirectory(prefix="holdfast-bench-") as folder:
        async for line in _windows("SQLite", f"sqlite:///{folder}/holdfast.db", Path(folder)):
            yield line
    with running_postgres() as server, TemporaryDirectory(prefix="holdfast-bench-") as folder:
        async for line in _windows("PostgreSQL", server.migrated(), Path(folder)):
            yield line


async def _windows(name: str, url: str, home: Path) -> AsyncIterator[Line]:
    await asyncio.to_thread(migrations.upgrade, url)
    settings = load({"home": home, "database_url": url, "log_level": "error"}, environ={})
    async with run_hub(settings, in_process=True) as parts:
        agent_id = await _agent(parts.kit)
        made = {way: await _pair(parts.kit, agent_id) for way in WAYS}
    for way, (short, long) in made.items():
        await asyncio.to_thread(_fill, url, short, SHORT, WAYS[way])
        await asyncio.to_thread(_fill, url, long, LONG, WAYS[way])
    async with run_hub(settings, in_process=True) as parts:
        for way, (short, long) in made.items():
            for line in await _compare(f"{name}, {way}", parts.kit, short, long):
                yield line


async def _compare(name: str, kit: Kit, short: str, long: str) -> list[Line]:
    for session_id in (short, long) * 10:
        await _look(kit, session_id)
    few: list[float] = []
    many: list[float] = []
    for _ in range(ROUNDS):
        few.append(await _look(kit, short))
        many.append(await _look(kit, long))
    return [
        Line(
            name=f"{name}: a window of {LONG:,} messages, p50",
            value=1000 * median(many),
            unit="ms",
            bar=BAR_MS,
            note=f"p99 {1000 * quantiles(many, n=100)[-1]:.2f} ms",
        ),
        Line(
            name=f"{name}: beside one of {SHORT}",
            value=1000 * median(many),
            unit="ms",
            against=1000 * median(few),
            ratio=median(a / b for a, b in zip(many, few, strict=True)),
            bar=BAR_RATIO,
            note="by turns",
        ),
    ]


async def _look(kit: Kit, session_id: str) -> float:
    began = time.perf_counter()
    seen = await window(
        kit,
        owner_id=LOCAL_OWNER,
        session_id=session_id,
        event_id=None,
        token_budget=BUDGET,
        summaries=Compaction().summaries,
    )
    assert len(seen.messages) >= KEEP
    return time.perf_counter() - began


async def _agent(kit: Kit) -> str:
    agent_id = new_id()
    config: dict[str, Any] = {"simple": {"settings": {"model": "fast"}}}
    await kit.store.write(
        PutAgent(
            AgentVersion(
                id=agent_id,
                owner_id=LOCAL_OWNER,
                name="bench",
                description="",
                version=1,
                config=config,
                author=None,
                created_at=now_us(),
            )
        )
    )
    return agent_id


async def _pair(kit: Kit, agent_id: str) -> tuple[str, str]:
    ids = new_id(), new_id()
    for id_ in ids:
        await kit.store.write(
            MakeSession(NewSession(id=id_, owner_id=LOCAL_OWNER, agent_id=agent_id))
        )
    return ids


def _fill(url: str, session_id: str, many: int, whole: int | None) -> None:
    """Write messages as turns and compaction leave them, past the writer: it would take hours."""
    engine = create_engine(address(url).sqlalchemy_url)
    open_from = 0 if whole is None else many - whole
    rows = _rows(session_id, many, open_from)
    with engine.begin() as connection:
        while some := list(islice(rows, AT_ONCE)):
            connection.execute(insert(messages), some)
        connection.execute(
            update(sessions)
            .where(sessions.c.id == session_id)
            .values(turns=many // 2, messages=many, unsummarised=many - open_from)
        )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")
    engine.dispose()


def _rows(session_id: str, many: int, open_from: int) -> Any:
    for n in range(many):
        text = f"message {n} says about as much as people say to each other in a chat " * 2
        row = {
            "id": new_id(),
            "session_id": session_id,
            "owner_id": LOCAL_OWNER,
            "turn": n // 2 + 1,
            "part": n % 2,
            "role": "assistant" if n % 2 else "user",
            "content": text,
            "tokens": tokens_of(text),
            "event_id": new_id(),
            "execution_id": None,
            "summarised": int(n < open_from),
            "summary_of": "[]",
            "feedback": None,
            "comment": None,
            "metadata": "{}",
            "created_at": now_us(),
        }
        yield row
        if n < open_from and n % 10 == 9:
            of = {"id": new_id(), "role": "summary", "summarised": 0, "event_id": None}
            yield {**row, **of, "turn": (n - 9) // 2 + 1, "part": 0}

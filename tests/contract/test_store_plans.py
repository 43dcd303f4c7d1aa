"""Plans: what the queue asks again and again is found over its partial indexes."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from holdfast.domain.ids import new_id
from holdfast.store import Store
from holdfast.store.commands import breakers, going_on, halting, held, leases, reaping, schedules
from holdfast.store.commands import memory_items as memory_commands
from holdfast.store.commands import sessions as session_commands
from holdfast.store.commands.horizon import WHOLE
from holdfast.store.commands.intake import event_row
from holdfast.store.queries import (
    WindowOf,
    agents,
    bridging,
    conversations,
    dead_letters,
    hub,
    talking,
)
from holdfast.store.queries import events as events_queries
from holdfast.store.queries import memory_items as memory_queries
from holdfast.store.queries.pages import page
from holdfast.store.registry import address
from holdfast.store.rows import EXECUTION_NAMES, execution_row
from holdfast.store.statements import Statement, postgres_compiler, sqlite_compiler
from holdfast.store.tables import events, executions, memory_items, sessions, waits
from holdfast.store.tables import messages as said
from holdfast.store.tables import schedules as schedules_table

from .agents_make import Talk

NOW = 2**52
ROWS = 4000
SMALL = {"pauses", "rates", "hubs", "processes", "found"}
"""A row for each pipeline, hub or agent: read whole, and rightly."""


@dataclass(frozen=True)
class Asked:
    statement: Statement
    values: dict[str, Any]
    indexes: tuple[str, ...]


CLAIM = {"now": NOW, "limit": 10, "name_0": "triage", **WHOLE._asdict()}
BOOT = {"now": NOW, "limit": 10, "mine": "me", "lease_owner": "x"}
ASKED = {
    "claim": Asked(leases.next_runnable(1), CLAIM, ("ix_events_ready",)),
    "turns of a session": Asked(
        leases.next_runnable(1), CLAIM, ("uq_events_turn", "ix_events_line")
    ),
    "reap": Asked(reaping.expired, BOOT, ("ix_events_leased",)),
    "reap children": Asked(reaping._EXPIRED_CHILDREN, BOOT, ("ix_events_leased",)),
    "take back": Asked(reaping._LEASED_TO, BOOT, ("ix_events_leased",)),
    "leases of a boot": Asked(hub._LEASES, BOOT, ("ix_events_leased",)),
    "due waits": Asked(going_on._DUE, BOOT, ("ix_waits_wake",)),
    "next wait": Asked(going_on._NEXT, BOOT, ("ix_waits_wake",)),
    "next delayed": Asked(going_on._NEXT_DELAYED, {"now": 0}, ("ix_events_delayed",)),
    "waits for a child": Asked(held._waited_for(1), {"child_0": "c"}, ("ix_waits_child",)),
    "waits for an event": Asked(halting._awaiting(1), {"type_0": "t-7"}, ("ix_waits_awaits",)),
    "due schedules": Asked(schedules._due(1), CLAIM, ("ix_schedules_next",)),
    "postponed": Asked(
        breakers._POSTPONED, {"breaker": "crm", "limit": 1}, ("ix_events_postponed",)
    ),
    "dead letters": Asked(
        dead_letters._page(frozenset(), False),
        {"owner_id": "local", "limit": 50},
        ("ix_events_owner_id_status_id",),
    ),
}


def fill(url: str, make: Any) -> None:
    """Mostly what has ended, and a little of everything that has not."""
    engine = create_engine(address(url).sqlalchemy_url, poolclass=NullPool)
    names = events.c.keys()
    rows: list[dict[str, Any]] = []
    for n in range(ROWS):
        row = dict(zip(names, event_row(make.event(), n + 1), strict=True))
        what = n % 200
        if what >= 6:
            row |= {"status": "succeeded", "finished_at": n}
        if what == 1:
            row |= {"status": "running", "lease_owner": "x", "lease_until": n, "execution_id": "x"}
        if what == 2:
            row |= {"status": "dead", "finished_at": n}
        if what == 3:
            row |= {"status": "waiting", "session_id": f"s-{n}"}
        if what == 4:
            row |= {"session_id": f"s-{n - 1}", "available_at": n + 5}
        if what == 5:
            row |= {"postponed_for": f"b-{n}", "available_at": NOW * 2}
        rows.append(row)
    waiting = [
        {
            **dict.fromkeys(waits.c.keys()),
            "event_id": row["id"],
            "id": "w",
            "owner_id": "local",
            "kind": "time",
            "name": "w",
            "spec": "{}",
            "wake_at": n,
            "answer": None if n % 100 == 0 else "{}",
            "awaits": f"t-{n}" if n % 100 == 0 else None,
            "child_id": f"c-{n}" if n % 100 == 0 else None,
        }
        for n, row in enumerate(rows)
    ]
    with engine.begin() as connection:
        connection.execute(events.insert(), rows)
        connection.execute(waits.insert(), waiting)
        connection.execute(
            schedules_table.insert(),
            [
                {
                    "id": new_id(),
                    "owner_id": "local",
                    "name": f"n-{n}",
                    "cron": "* * * * *",
                    "timezone": "UTC",
                    "target": "triage",
                    "data": "{}",
                    "priority": None,
                    "missed": "skip",
                    "enabled": int(n % 100 == 0),
                    "created_at": 0,
                    "next_at": n if n % 100 == 0 else None,
                    "updated_at": 0,
                }
                for n in range(ROWS)
            ],
        )
        connection.execute(text("ANALYZE"))
    engine.dispose()


def explained(url: str, backend: str, asked: dict[str, Asked]) -> dict[str, str]:
    """Plans that miss an index, or read a large table whole."""
    engine = create_engine(address(url).sqlalchemy_url, poolclass=NullPool)
    compiler = sqlite_compiler() if backend == "sqlite" else postgres_compiler()
    explain = "EXPLAIN QUERY PLAN " if backend == "sqlite" else "EXPLAIN "
    wrong: dict[str, str] = {}
    with engine.connect() as connection:
        for name, one in asked.items():
            compiled = compiler.text(one.statement)
            plan = connection.exec_driver_sql(
                explain + compiled.sql, compiled.place(one.values)
            ).all()
            shown = "\n".join(str(row[-1]) for row in plan)
            read_whole = set(re.findall(r"Seq Scan on (\w+)", shown))
            read_whole |= set(re.findall(r"^SCAN (\w+)$", shown, re.MULTILINE))
            missing = [index for index in one.indexes if index not in shown]
            if missing or read_whole - SMALL:
                wrong[name] = f"without {missing}, whole {read_whole}:\n{shown}"
    engine.dispose()
    return wrong


def told(wrong: dict[str, str]) -> str:
    return "\n\n".join(f"{name} {how}" for name, how in wrong.items())


async def test_the_queue_is_read_over_its_indexes(
    store: Store, make: Any, store_url: str, backend: str
) -> None:
    fill(store_url, make)
    wrong = explained(store_url, backend, ASKED)
    assert not wrong, told(wrong)


AGENTS = 40
IN_AGENT = {"target": "a-7", "now": NOW}
OF_AGENTS = {
    "claim": Asked(
        leases.next_of_agent,
        {"now": NOW, "limit": 10, "name": "a-7", **WHOLE._asdict()},
        ("ix_events_agents", "uq_events_turn", "ix_events_line"),
    ),
    "pipelines' claim": Asked(leases.next_runnable(1), CLAIM, ("ix_events_ready",)),
    "who has something queued": Asked(agents.TARGETS, {}, ("ix_events_agents",)),
    "whether it can run": Asked(agents.CAN_RUN, IN_AGENT, ("ix_events_agents",)),
    "turn under way": Asked(
        talking._UNDER_WAY, {"owner_id": "local", "session_id": "s-7"}, ("uq_events_turn",)
    ),
    "untold": Asked(bridging._UNTOLD, {}, ("ix_events_untold",)),
    "queued of agents": Asked(events_queries._QUEUED_BY_TARGET[1], {}, ("ix_events_agents",)),
}


def fill_agents(url: str, make: Any, queued: int) -> None:
    """Pipelines' events and agents', of each a backlog among what has ended."""
    names = events.c.keys()
    rows: list[dict[str, Any]] = []
    for n in range(queued):
        for kind, target in (("pipeline", "triage"), ("agent", f"a-{n % AGENTS}")):
            event = make.event(target=target, target_kind=kind, session_id=f"s-{n}")
            row = dict(zip(names, event_row(event, n + 1), strict=True))
            ended = {**row, "status": "succeeded", "finished_at": n}
            rows += [row, *({**ended, "id": new_id()} for _ in range(5))]
    engine = create_engine(address(url).sqlalchemy_url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(events.insert(), rows)
    with engine.begin() as connection:
        connection.execute(text("ANALYZE"))
    engine.dispose()


async def test_the_agents_queue_is_read_over_an_index_of_its_own(
    store: Store, make: Any, store_url: str, backend: str
) -> None:
    fill_agents(store_url, make, 800)
    wrong = explained(store_url, backend, OF_AGENTS)
    assert not wrong, told(wrong)


def work_of(url: str, backend: str, statement: Statement, values: dict[str, Any]) -> int:
    """How much a statement reads: rows on PostgreSQL, steps of its machine on SQLite."""
    compiler = sqlite_compiler() if backend == "sqlite" else postgres_compiler()
    compiled = compiler.text(statement)
    if backend == "sqlite":
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            steps = 0

            def step() -> None:
                nonlocal steps
                steps += 1

            connection.set_progress_handler(step, 1)
            connection.execute(compiled.sql, compiled.place(values)).fetchall()
            return steps
    engine = create_engine(address(url).sqlalchemy_url, poolclass=NullPool)
    with engine.connect() as connection:
        explain = "EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) "
        ((plan,),) = connection.exec_driver_sql(
            explain + compiled.sql, compiled.place(values)
        ).all()
    engine.dispose()
    return rows_read(plan[0]["Plan"])


def rows_read(plan: dict[str, Any]) -> int:
    removed = sum(plan.get(f"Rows Removed by {why}", 0) for why in ("Filter", "Index Recheck"))
    here = (plan["Actual Rows"] + removed) * plan["Actual Loops"]
    return int(here) + sum(rows_read(one) for one in plan.get("Plans", ()))


async def test_who_has_work_is_found_however_much_there_is(
    store: Store, make: Any, store_url: str, backend: str
) -> None:
    fill_agents(store_url, make, 100)
    before = work_of(store_url, backend, agents.TARGETS, {})
    fill_agents(store_url, make, 1000)
    assert work_of(store_url, backend, agents.TARGETS, {}) <= before * 2


SHORT, LONG = 200, 20_000
"""Messages of a session."""


def fill_session(url: str, agent_id: str, *, messages: int, compacted: bool) -> str:
    """A session of so many messages; compacted: all but twenty of them stand behind summaries."""
    session_id = new_id()
    session = {
        **dict.fromkeys(sessions.c.keys()),
        "id": session_id,
        "owner_id": "local",
        "agent_id": agent_id,
        "title": "",
        "channel": "api",
        "user": "{}",
        "metadata": "{}",
        "status": "active",
        "turns": messages // 2,
        "messages": messages,
        "unsummarised": 20 if compacted else 0,
        "created_at": 0,
        "updated_at": 0,
    }
    common: dict[str, Any] = {
        **dict.fromkeys(said.c.keys()),
        "session_id": session_id,
        "owner_id": "local",
        "content": "x" * 100,
        "tokens": 25,
        "summary_of": "[]",
        "metadata": "{}",
        "created_at": 0,
    }
    rows: list[dict[str, Any]] = []
    for n in range(messages):
        behind = compacted and n < messages - 20
        place = {"turn": n // 2 + 1, "part": n % 2, "role": ("user", "assistant")[n % 2]}
        event = {"event_id": f"{session_id[:24]}{n // 2:012}", "summarised": int(behind)}
        rows.append({**common, **place, **event, "id": new_id()})
        if behind and n % 10 == 9:
            place["role"] = "summary"
            rows.append({**common, **place, "summarised": 0, "id": new_id()})
    engine = create_engine(address(url).sqlalchemy_url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(sessions.insert(), [session])
        connection.execute(said.insert(), rows)
    with engine.begin() as connection:
        connection.execute(text("ANALYZE"))
    engine.dispose()
    return session_id


def in_session(session_id: str, **values: Any) -> dict[str, Any]:
    return {"session": session_id, "session_id": session_id, "owner_id": "local", **values}


@pytest.mark.parametrize("compacted", [False, True])
async def test_a_window_costs_the_same_however_long_its_session_is(
    store: Store, make: Any, store_url: str, backend: str, compacted: bool
) -> None:
    fill_agents(store_url, make, 50)
    agent_id = (await Talk(store).agent()).id
    ids = [
        fill_session(store_url, agent_id, messages=size, compacted=compacted)
        for size in (SHORT, LONG)
    ]
    newest = {"limit": 30, "before": 2**31 - 1}
    for name, statement, values, index in (
        ("window", conversations.WINDOW, newest, "ix_messages_open"),
        ("window of an old turn", conversations.WINDOW, {"limit": 30, "before": 60}, None),
        ("summaries", conversations.SUMMARIES, {**newest, "limit": 3}, "uq_messages_summary"),
        ("oldest", conversations.OLDEST, {"limit": 10}, "ix_messages_open"),
        ("page", conversations._page(False), {"limit": 50}, "uq_messages_place"),
        (
            "page further back",
            conversations._page(True),
            {"limit": 50, "of_turn": 60, "of_part": 1},
            "uq_messages_place",
        ),
        (
            "answers since",
            talking._SINCE,
            {"limit": 10, "turn": 10, "part": 0},
            "uq_messages_place",
        ),
        ("newest answer", talking._NEWEST, {"limit": 1, **newest}, "uq_messages_place"),
    ):
        short, long = [
            work_of(store_url, backend, statement, in_session(one, **values)) for one in ids
        ]
        assert long <= short * 1.5 + 10, f"{name}: {short} in a short one, {long} in a long one"
        if backend == "postgresql":
            assert long <= 5 * values["limit"] + 10, f"{name}: {long} rows"
        if index is not None:
            asked = Asked(statement, in_session(ids[1], **values), (index,))
            assert not (wrong := explained(store_url, backend, {name: asked})), told(wrong)
    of_event = Asked(
        conversations._OF_EVENT, {"event": "e", "owner_id": "local"}, ("ix_messages_event",)
    )
    assert not (wrong := explained(store_url, backend, {"turn": of_event})), told(wrong)
    window = WindowOf(session_id=ids[1], owner_id="local", event_id=None, limit=30, summaries=3)
    found = await store.read(window)
    assert len(found.messages) == (20 if compacted else 30)
    assert [(one.turn, one.part) for one in found.messages[:2]] == [(LONG // 2, 1), (LONG // 2, 0)]
    assert len(found.summaries) == (3 if compacted else 0)


async def test_sessions_and_items_are_found_over_their_indexes(
    store: Store, store_url: str, backend: str
) -> None:
    agent_id = (await Talk(store).agent()).id
    engine = create_engine(address(store_url).sqlalchemy_url, poolclass=NullPool)
    many = [
        {
            **dict.fromkeys(sessions.c.keys()),
            "id": new_id(),
            "owner_id": f"o-{n % 50}",
            "agent_id": agent_id,
            "title": "",
            "channel": "api",
            "chat_id": f"c-{n}",
            "user": "{}",
            "metadata": "{}",
            "status": "active",
            "turns": 0,
            "messages": 0,
            "unsummarised": 0,
            "created_at": n,
            "updated_at": n,
        }
        for n in range(ROWS)
    ]
    items = [
        {
            **dict.fromkeys(memory_items.c.keys()),
            "owner_id": "local",
            "namespace": f"people\x1f{n % 500}",
            "key": f"k-{n}",
            "value": "{}",
            "created_at": n,
            "updated_at": n,
            "expires_at": n if n % 100 == 0 else None,
        }
        for n in range(ROWS)
    ]
    with engine.begin() as connection:
        connection.execute(sessions.insert(), many)
        connection.execute(memory_items.insert(), items)
    with engine.begin() as connection:
        connection.execute(text("ANALYZE"))
    engine.dispose()
    page = {"owner_id": "o-7", "limit": 20, "after_at": 99, "after_id": "x"}
    below = {"owner_id": "local", "now": 0, **memory_queries.span(("people", "7"))}
    chat = {"owner_id": "o-7", "agent": agent_id, "of_channel": "api", "of_chat": "c-7"}
    primary = "sqlite_autoindex_memory_items_1" if backend == "sqlite" else "pk_memory_items"
    wrong = explained(
        store_url,
        backend,
        {
            "sessions": Asked(
                conversations._sessions(frozenset({"after"})),
                page,
                ("ix_sessions_owner_id_updated_at_id",),
            ),
            "a chat's session": Asked(
                talking._OF_CHAT,
                {"owner_id": "o-7", "agent_id": agent_id, "channel": "api", "chat_id": "c-7"},
                ("uq_sessions_chat",),
            ),
            "a chat": Asked(session_commands._BY_CHAT, chat, ("uq_sessions_chat",)),
            "items": Asked(memory_queries._NEWEST, {**below, "limit": 10, "offset": 0}, (primary,)),
            "namespaces": Asked(memory_queries._NAMESPACES, below, (primary,)),
            "expired": Asked(
                memory_commands.EXPIRED, {"now": NOW, "limit": 10}, ("ix_memory_items_expires",)
            ),
        },
    )
    assert not wrong, told(wrong)


async def test_a_few_suspicious_ones_are_not_looked_for_among_all(
    store: Store, make: Any, store_url: str, backend: str
) -> None:
    of = await make.running()
    columns = dict(zip(executions.c.keys(), execution_row(make.execution(of)), strict=True))
    engine = create_engine(address(store_url).sqlalchemy_url, poolclass=NullPool)
    compiler = sqlite_compiler() if backend == "sqlite" else postgres_compiler()
    asked = compiler.text(
        page(executions, EXECUTION_NAMES, "started_at", frozenset({"suspicious?"}))
    )
    explain = "EXPLAIN QUERY PLAN " if backend == "sqlite" else "EXPLAIN "
    with engine.begin() as connection:
        connection.execute(
            executions.insert(),
            [
                columns | {"id": new_id(), "suspicious": 1 if n % 500 == 0 else None}
                for n in range(ROWS)
            ],
        )
        connection.execute(text("ANALYZE"))
        plan = connection.exec_driver_sql(
            explain + asked.sql, asked.place({"owner_id": "local", "limit": 50})
        ).all()
    engine.dispose()
    shown = "\n".join(str(row[-1]) for row in plan)
    assert "ix_executions_suspicious" in shown, shown

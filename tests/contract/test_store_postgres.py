"""What only PostgreSQL does: connections that break, several hubs at once."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from holdfast.domain.status import EventStatus
from holdfast.errors import StoreError
from holdfast.store import Store
from holdfast.store.queries import CountEvents, Ping
from holdfast.store.registry import address, open_store


@pytest.fixture
def backend() -> str:
    return "postgresql"


def cut_off(store_url: str) -> None:
    """End every other connection to the database, as its restart would."""
    engine = create_engine(
        address(store_url).sqlalchemy_url, poolclass=NullPool, isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )


async def test_a_lost_connection_is_told_and_opened_again(
    store: Store, make: Any, store_url: str
) -> None:
    await make.submitted()
    await asyncio.to_thread(cut_off, store_url)
    with pytest.raises(StoreError, match="transaction failed"):
        await make.submitted()
    assert (await make.submitted()).created
    assert (await store.read(CountEvents()))[EventStatus.QUEUED] == 2


async def test_a_read_over_a_lost_connection_asks_again(store: Store, store_url: str) -> None:
    await store.read(Ping())
    await asyncio.to_thread(cut_off, store_url)
    await store.read(Ping())


async def test_two_hubs_never_claim_the_same_event(
    store: Store, make: Any, reopen: Callable[[], Store]
) -> None:
    other = reopen()
    try:
        await asyncio.gather(*(make.submitted() for _ in range(200)))
        claims = await asyncio.gather(
            *(
                hub.write(make.claim_of(limit=5, lease_owner=boot))
                for _ in range(30)
                for hub, boot in ((store, "boot-1"), (other, "boot-2"))
            )
        )
        ids = [one.event_id for claim in claims for one in claim]
        while rest := await make.claimed():  # rows another hub had locked were passed over
            ids += [one.event_id for one in rest]
    finally:
        await other.close()
    assert len(ids) == len(set(ids)) == 200


async def test_what_another_hub_holds_is_passed_over(make: Any, store_url: str) -> None:
    first, second = await make.submitted(), await make.submitted()
    engine = create_engine(address(store_url).sqlalchemy_url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(
            text("SELECT id FROM events WHERE id = :id FOR UPDATE"), {"id": first.id}
        )
        async with asyncio.timeout(5):
            assert [one.event_id for one in await make.claimed()] == [second.id]


async def test_two_hubs_agree_on_a_key(
    store: Store, make: Any, reopen: Callable[[], Store]
) -> None:
    other = reopen()
    make_there = type(make)(other)
    try:
        outcomes = await asyncio.gather(
            *(
                hub.submitted(idempotency_key=f"k{n}")
                for n in range(50)
                for hub in (make, make_there)
            )
        )
    finally:
        await other.close()
    assert sum(one.created for one in outcomes) == 50
    assert len({one.id for one in outcomes}) == 50
    assert (await store.read(CountEvents()))[EventStatus.QUEUED] == 50


def test_an_address_where_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        open_store(f"postgresql://nobody@/none?host={tmp_path}", home=tmp_path)


def test_without_the_driver_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreError, match=r"holdfast\[postgres\]"):
        open_store("postgresql://localhost/x", home=tmp_path)

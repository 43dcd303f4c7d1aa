"""The way from SQLite to PostgreSQL: everything or nothing."""

from __future__ import annotations

import shutil
import sqlite3
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, select
from sqlalchemy.pool import NullPool

from holdfast.domain.memory_items import NewItem
from holdfast.errors import IllegalMove, SettingsError, StoreError, StoreLocked
from holdfast.store import Store
from holdfast.store.commands import Finish, PutItems, TakeProcesses
from holdfast.store.copying import copy
from holdfast.store.queries import (
    ComparesVectors,
    EventById,
    NearestChunks,
    RecordOf,
    SearchItems,
)
from holdfast.store.registry import address, open_store
from holdfast.store.tables import metadata
from holdfast.store.vectors import literal
from holdfast.testing.postgres import PostgresForTests

from .agents_make import Talk
from .conftest import Make
from .test_store_knowledge import Shelf, vectors_of


@pytest.fixture
def target(postgres: PostgresForTests) -> Iterator[str]:
    url = postgres.migrated()
    yield url
    postgres.drop(url)


@pytest.fixture
def source(migrated_file: Path, tmp_path: Path) -> str:
    shutil.copy(migrated_file, tmp_path / "holdfast.db")
    return f"sqlite:///{tmp_path}/holdfast.db"


@pytest.fixture
async def old(source: str, tmp_path: Path) -> AsyncIterator[Store]:
    store = open_store(source, home=tmp_path)
    yield store
    await store.close()


def rows(url: str) -> dict[str, list[Any]]:
    engine = create_engine(address(url).sqlalchemy_url, poolclass=NullPool)
    with engine.connect() as connection:
        return {
            table.name: sorted((tuple(row) for row in connection.execute(select(table))), key=repr)
            for table in metadata.sorted_tables
        }


async def filled(store: Store) -> Any:
    """Two events, one with its record; texts that are hard to carry."""
    make = Make(store)
    odd = 'tab\t "quote" back\\slash \\. 🙂\nnew line'
    await make.submitted(subject=odd, data=b'{"n": null}', idempotency_key="k")
    claimed = (await make.claimed(limit=1))[0]
    record = make.record(
        claimed, entries=(["e"], ["v", odd], ["b", "h1"]), blobs=(("h1", odd * 100),)
    )
    await store.write(Finish(record))
    await make.submitted()
    return claimed


async def test_every_row_arrives_as_it_was(
    old: Store, source: str, target: str, tmp_path: Path
) -> None:
    claimed = await filled(old)
    await old.close()
    copied = copy(source, target, home=tmp_path)
    before = rows(source)
    assert rows(target) == before
    assert copied == {name: len(found) for name, found in before.items()}
    assert copied["events"] == 2
    assert copied["steps"] == copied["attempts"] == copied["blobs"] == 1
    new = open_store(target, home=tmp_path)
    try:
        record = await new.read(RecordOf(claimed.execution_id, "local"))
        assert record.payload().get(1).startswith("tab")
        (left,) = await Make(new).claimed()
        assert (await new.read(EventById(left.event_id, "local"))).deliveries == 1
    finally:
        await new.close()


async def test_documents_are_found_in_the_copy(
    old: Store, source: str, target: str, tmp_path: Path
) -> None:
    shelf = Shelf(old)
    await shelf.put("manual", "Turn the red knob.", "Then wait.", year=2024)
    await old.close()
    copied = copy(source, target, home=tmp_path)
    assert copied["chunks"] == 2
    assert rows(target) == rows(source)
    new = open_store(target, home=tmp_path)
    try:
        there = Shelf(new)
        assert await there.words("knob", year={"gt": 2000}) == ["Turn the red knob."]
        found = await there.collection()
        (query,) = await vectors_of("Then wait.")
        if await new.read(ComparesVectors()):
            near = NearestChunks(
                collection_id=found.id,
                owner_id="a",
                vector=literal(query),
                conditions=(),
                limit=1,
            )
            ((id_, score),) = await new.read(near)
            assert (await there.texts([id_]), score) == (
                ["Then wait."],
                pytest.approx(1.0, abs=1e-5),
            )
    finally:
        await new.close()


async def test_agents_and_what_was_said_to_them_go_on_in_the_copy(
    old: Store, source: str, target: str, tmp_path: Path
) -> None:
    talk = Talk(old)
    agent = (await talk.agent()).id
    said = await talk.exchange(agent, "one", "two", chat_id="c")
    await talk.say(agent, "three", chat_id="c")
    await old.write(
        TakeProcesses(kind="agent", targets=[(agent, "local")], hub="h", host="x", lease_us=1)
    )
    vector = struct.pack("<2f", 1, 0)
    item = NewItem(namespace=("a", "b"), key="k", value={}, vector=vector, embedded_by="e (2)")
    await old.write(PutItems("local", [item, replace(item, key="l", vector=vector[::-1])]))
    await old.close()
    copied = copy(source, target, home=tmp_path)
    assert rows(target) == rows(source)
    tables = ("agents", "agent_versions", "processes", "sessions", "messages", "memory_items")
    assert [copied[table] for table in tables] == [1, 1, 1, 1, 3, 2]
    new = open_store(target, home=tmp_path)
    try:
        there = Talk(new)
        again = await there.exchange(agent, "four", "five", chat_id="c")
        assert again.session_id == said.session_id
        (claimed,) = await there.claim(agent)
        await there.finish(claimed, "six")
        assert again.session_id is not None
        window = await there.window(again.session_id)
        assert sorted(one.content for one in window) == sorted(
            ["one", "two", "three", "five", "four", "six"]
        )
        near = SearchItems(owner_id="local", near=vector, embedded_by="e (2)")
        assert next(one.key for one in await new.read(near)) == "k"
    finally:
        await new.close()


async def test_a_target_with_rows_is_left_alone(
    old: Store, source: str, target: str, tmp_path: Path
) -> None:
    await filled(old)
    await old.close()
    copy(source, target, home=tmp_path)
    before = rows(target)
    with pytest.raises(IllegalMove, match="not empty"):
        copy(source, target, home=tmp_path)
    assert rows(target) == before


async def test_after_an_error_nothing_is_there(
    old: Store, source: str, target: str, tmp_path: Path
) -> None:
    await filled(old)
    await old.close()
    with closing(sqlite3.connect(tmp_path / "holdfast.db")) as tampering:
        # Not by us, who refuse it at the door: PostgreSQL cannot keep a NUL.
        tampering.execute("UPDATE attempts SET request_id = 'a' || char(0)")
        tampering.commit()
    with pytest.raises(StoreError, match="nothing was copied"):
        copy(source, target, home=tmp_path)
    assert not any(rows(target).values())


async def test_a_source_that_a_hub_works_on_is_refused(
    old: Store, source: str, target: str, tmp_path: Path
) -> None:
    with pytest.raises(StoreLocked):
        copy(source, target, home=tmp_path)


def test_only_from_sqlite_to_postgresql(source: str, target: str, tmp_path: Path) -> None:
    for wrong in ((target, source), (source, source), (target, target)):
        with pytest.raises(SettingsError, match="from SQLite to PostgreSQL"):
            copy(*wrong, home=tmp_path)
    with pytest.raises(StoreError, match="no SQLite file"):
        copy(f"sqlite:///{tmp_path}/none.db", target, home=tmp_path)

"""The schema goes up and down on every database, and is what the tables say."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.pool import NullPool

from holdfast.errors import StoreError, StoreOutdated
from holdfast.store import migrations
from holdfast.store.migrations import running
from holdfast.store.registry import address, open_store

from .agents_make import Talk
from .conftest import Make


def tables(url: str) -> set[str]:
    return set(
        inspect(create_engine(address(url).sqlalchemy_url, poolclass=NullPool)).get_table_names()
    )


def test_up_down_and_up_again(empty_url: str) -> None:
    assert migrations.current(empty_url) is None
    migrations.upgrade(empty_url)
    assert migrations.current(empty_url) == migrations.head()
    assert {"events", "executions", "steps", "attempts", "payloads", "blobs"} <= tables(empty_url)
    migrations.downgrade(empty_url, "base")
    assert tables(empty_url) == {"alembic_version"}
    migrations.upgrade(empty_url)
    migrations.upgrade(empty_url)
    migrations.check(empty_url)


def test_each_revision_follows_the_one_its_file_stands_behind() -> None:
    folder = str(Path(migrations.__file__).parent)
    chain = [one.revision for one in ScriptDirectory(folder).walk_revisions()]
    assert list(reversed(chain)) == list(running.revisions())


def test_the_migrations_make_what_the_tables_say(store_url: str) -> None:
    assert migrations.compare(store_url) == []


def test_a_store_without_tables_says_what_to_run(empty_url: str, tmp_path: Path) -> None:
    with pytest.raises(StoreOutdated, match="holdfast db upgrade"):
        open_store(empty_url, home=tmp_path)


def test_a_store_from_the_future_is_left_alone(store_url: str, tmp_path: Path) -> None:
    engine = create_engine(address(store_url).sqlalchemy_url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreOutdated, match="9999"):
        open_store(store_url, home=tmp_path)
    with pytest.raises((StoreError, StoreOutdated)):
        migrations.check(store_url)


def test_a_failed_upgrade_leaves_nothing_behind(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = create_engine(address(empty_url).sqlalchemy_url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE steps (odd INTEGER)"))  # in the migration's way
    with pytest.raises(StoreError, match="steps"):
        migrations.upgrade(empty_url)
    assert tables(empty_url) == {"steps"}


async def test_what_is_queued_for_pipelines_outlives_the_agents(
    store_url: str, tmp_path: Path
) -> None:
    """Going back takes what is queued for agents out of a queue that knows none."""
    store = open_store(store_url, home=tmp_path)
    talk = Talk(store)
    agent = (await talk.agent()).id
    said = await talk.say(agent)
    mail = await talk.make.submitted()
    await store.close()
    migrations.downgrade(store_url, "0012")
    engine = create_engine(address(store_url).sqlalchemy_url, poolclass=NullPool)
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT id, status FROM events")).all()
        found = {row.id: row.status for row in rows}
    engine.dispose()
    assert found == {said.id: "cancelled", mail.id: "queued"}
    migrations.upgrade(store_url)
    assert migrations.compare(store_url) == []
    store = open_store(store_url, home=tmp_path)
    try:
        (claimed,) = await Make(store).claimed()
        assert claimed.event_id == mail.id
    finally:
        await store.close()

"""`db copy`: an installation moves from its SQLite file to PostgreSQL, unfinished work too."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from holdfast import settings
from holdfast.domain.events import LOCAL_OWNER
from holdfast.domain.status import EventStatus
from holdfast.errors import StoreError, StoreLocked
from holdfast.operations import read
from holdfast.operations.export import export_execution
from holdfast.operations.resume import resume
from holdfast.store import copying
from holdfast.store.backup import back_up
from holdfast.store.queries import ListEvents, ListExecutions
from holdfast.store.tables import metadata
from holdfast.testing.postgres import PostgresForTests

from .conftest import HubForTests, OpenHub, until, until_true


@pytest.fixture
def hub_environ(hub_environ: dict[str, str]) -> dict[str, str]:
    return hub_environ | {
        "HOLDFAST_APPS": "waiting_app,spine_app",
        "HOLDFAST_MODELS": '{"fast": "scripted:rules"}',
    }


async def everything(hub: HubForTests) -> list[object]:
    """All events and executions of the hub, records whole."""
    events = await read.events(hub.kit, ListEvents(owner_id=LOCAL_OWNER, limit=100))
    runs = await read.executions(hub.kit, ListExecutions(owner_id=LOCAL_OWNER, limit=100))
    return [*events, *[await export_execution(hub.kit, run.id, LOCAL_OWNER) for run in runs]]


async def test_all_of_it_moves_and_what_was_unfinished_goes_on(
    open_hub: OpenHub, hub_environ: dict[str, str], postgres: PostgresForTests, tmp_path: Path
) -> None:
    async with open_hub(runners=1) as hub:
        await hub.run("test.talking", text="Ada")
        await hub.run("test.failing", text="sums")
        waiting = await hub.submit("wait.buying", item="tea", folder=str(tmp_path))

        async def waits() -> bool:
            return (await read.event(hub.kit, waiting, LOCAL_OWNER)).status is EventStatus.WAITING

        await until_true(waits)
        before = await everything(hub)
        source, target = hub.parts.settings.store_url, postgres.migrated()
        with pytest.raises(StoreLocked):
            copying.copy(source, target, home=hub.parts.settings.home)

    home = settings.load(environ=hub_environ).home
    copied = await asyncio.to_thread(copying.copy, source, target, home=home)
    assert (copied["events"], copied["executions"], copied["waits"]) == (3, 3, 1)
    assert copied.keys() == metadata.tables.keys(), "no table is left behind"

    hub_environ["HOLDFAST_DATABASE_URL"] = target
    async with open_hub(runners=1) as hub:
        assert await everything(hub) == before
        (run,) = await hub.executions(waiting)
        await resume(hub.kit, run.id, LOCAL_OWNER, answer={"yes": True})
        assert (await hub.ended(waiting)).status is EventStatus.SUCCEEDED
        assert (await hub.run("test.talking", text="Bo"))[0].status is EventStatus.SUCCEEDED


async def test_a_backup_taken_while_the_hub_works_is_a_whole_installation(
    open_hub: OpenHub, hub_environ: dict[str, str], tmp_path: Path
) -> None:
    copy = tmp_path / "monday.db"
    async with open_hub(runners=1) as hub:
        await hub.run("test.talking", text="Ada")
        before = await everything(hub)
        running = await hub.submit("test.gated", folder=str(tmp_path))
        await until(tmp_path / "pid-1")
        url = hub.parts.settings.store_url
        await asyncio.to_thread(back_up, url, copy)
        with pytest.raises(StoreError, match="exists"):
            back_up(url, copy)
        (tmp_path / "open").touch()
        await hub.run("test.talking", text="too late for the backup")

    home = tmp_path / "restored"
    home.mkdir()
    (home / "holdfast.db").write_bytes(copy.read_bytes())
    hub_environ["HOLDFAST_HOME"] = str(home)
    async with open_hub(runners=1) as hub:
        assert [one for one in await everything(hub) if one in before] == before
        event = await hub.ended(running)
        assert (event.status, event.deliveries) == (EventStatus.SUCCEEDED, 2)


def test_postgresql_is_left_to_its_own_tools(postgres: PostgresForTests, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="its own tools"):
        back_up(postgres.migrated(), tmp_path / "x")

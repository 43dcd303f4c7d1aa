"""Dead letters over HTTP with a real hub: mended, run again, discarded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.api import schemas
from holdfast.api.in_process import InProcessTransport
from holdfast.app import make_api
from holdfast.client import Client
from holdfast.domain.checkpoints import CheckpointsWanted
from holdfast.domain.events import LOCAL_OWNER
from holdfast.domain.ids import new_id
from holdfast.errors import IllegalMove, InvalidInput, NotFound, UnknownPipeline
from holdfast.operations import read
from holdfast.store.queries import Checkpoints

from .conftest import HubForTests, OpenHub
from .test_hub_crashes import database

__all__ = ["database"]


@pytest.fixture
def hub_environ(hub_environ: dict[str, str]) -> dict[str, str]:
    return hub_environ | {"HOLDFAST_APPS": "redelivery_app"}


@pytest.fixture
async def hub(open_hub: OpenHub, database: str) -> AsyncIterator[HubForTests]:
    async with open_hub(in_process=True) as opened:
        yield opened


@pytest.fixture
async def client(hub: HubForTests) -> AsyncIterator[Client]:
    transport = InProcessTransport(make_api(hub.parts))
    async with Client("http://127.0.0.1:8400", transport=transport) as made:
        yield made


async def dead(client: Client, pipeline: str, folder: Path, **data: Any) -> str:
    sent = await client.submit(pipeline, {"folder": str(folder), **data}, wait=20)
    assert sent["status"] == "dead", sent["last_error"]
    return sent["id"]


async def checkpoints_of(hub: HubForTests, event_id: str) -> int:
    wanted = CheckpointsWanted(thread_id=event_id, limit=100)
    return len(await hub.kit.store.read(Checkpoints(owner_id=LOCAL_OWNER, wanted=wanted)))


async def test_a_dead_letter_is_shown_whole_mended_and_run_again(
    client: Client, tmp_path: Path
) -> None:
    event_id = await dead(client, "again.some", tmp_path, good_at=9)
    letter = await client.dead_letter(event_id)
    assert [(one["what"], one["delivery"]) for one in letter["history"]] == [
        ("delivered", 1),
        ("delivered", 2),
        ("delivered", 3),
    ]
    assert {one["error"]["message"] for one in letter["history"]} == {"the server is away"}
    assert (letter["errors"], letter["deliveries"], letter["crashes"]) == (3, 3, 0)

    with pytest.raises(InvalidInput) as refused:
        await client.edit_dead_letter(event_id, {"good_at": "soon"})
    assert refused.value.fields[0]["field"] == "data.good_at"
    edited = await client.edit_dead_letter(event_id, {"text": "mended", "good_at": 2})
    schemas.Moved.model_validate(edited)
    assert edited["status"] == "dead"
    assert (await client.replay_dead_letter(event_id))["status"] == "queued"
    ended = await client.wait(event_id, 20)
    assert (ended["status"], ended["result"]["output"]) == ("succeeded", "done at 2")
    assert (ended["errors"], ended["deliveries"]) == (1, 2)

    letter = await client.dead_letter(event_id)
    schemas.DeadLetter.model_validate(letter)
    assert [one["what"] for one in letter["history"]] == [
        *["delivered"] * 3,
        "edited",
        "replayed",
        *["delivered"] * 2,
    ]
    assert letter["history"][3]["data"] == {"folder": str(tmp_path), "good_at": 9}
    assert letter["history"][4]["before"]["deliveries"] == 3
    assert letter["history"][4]["by"] == LOCAL_OWNER
    assert letter["data"] == {"text": "mended", "good_at": 2}
    with pytest.raises(IllegalMove, match="no dead letter"):
        await client.replay_dead_letter(event_id)


async def test_a_discarded_one_is_shown_as_that(client: Client, tmp_path: Path) -> None:
    event_id = await dead(client, "again.none", tmp_path, good_at=9)
    assert [one["id"] async for one in client.dead_letters()] == [event_id]
    with pytest.raises(InvalidInput):
        await client.discard_dead_letter(event_id, "")
    assert (await client.discard_dead_letter(event_id, "sent by hand"))["status"] == "cancelled"
    event = await client.event(event_id)
    assert event["status"] == "cancelled"
    assert event["discarded"]["reason"] == "sent by hand"
    assert event["discarded"]["by"] == LOCAL_OWNER
    assert event["discarded"]["at"] == event["finished_at"]
    assert [one async for one in client.dead_letters()] == []
    (listed,) = [one async for one in client.dead_letters(state="discarded")]
    schemas.Event.model_validate(listed)
    assert listed["discarded"] == event["discarded"]
    assert (await client.dead_letter(event_id))["history"][-1]["what"] == "discarded"


async def test_many_at_once_by_filter_or_ids(client: Client, tmp_path: Path) -> None:
    some = [await dead(client, "again.none", tmp_path, good_at=9) for _ in range(3)]
    other = await dead(client, "again.waited", tmp_path, text="x")
    counted = await client.replay_dead_letters(pipeline="again.none", dry_run=True)
    assert (counted["matched"], counted["done"]) == (3, 0)
    (tmp_path / "open").touch()
    done = await client.replay_dead_letters(ids=[some[0], some[0], other, new_id()])
    assert (done["matched"], done["done"]) == (3, 2)
    assert [one["code"] for one in done["refused"]] == ["not_found"]
    ended = await client.wait(other, 20)
    assert ended["result"]["output"] == "done with x"
    assert (await client.wait(some[0], 20))["status"] == "dead"
    done = await client.discard_dead_letters("enough", pipeline="again.none")
    assert (done["matched"], done["done"], done["refused"]) == (3, 3, [])
    for neither_or_both in ({}, {"ids": [other], "filter": {}}):
        with pytest.raises(InvalidInput, match="ids or by a filter"):
            await client._post("/api/v1/dead-letters/replay", neither_or_both)


async def test_a_replayed_one_goes_on_and_an_edited_one_begins_anew(
    client: Client, hub: HubForTests, tmp_path: Path
) -> None:
    event_id = await dead(client, "again.mended", tmp_path, text="a")
    assert await checkpoints_of(hub, event_id) > 0
    await client.replay_dead_letter(event_id)
    assert (await client.wait(event_id, 20))["status"] == "dead"
    assert (tmp_path / "first").read_text() == "ran\n", "it went on from its checkpoint"
    await client.edit_dead_letter(event_id, {"folder": str(tmp_path), "text": "b"})
    assert await checkpoints_of(hub, event_id) == 0
    assert (await read.event(hub.kit, event_id, LOCAL_OWNER)).pinned is None
    (tmp_path / "open").touch()
    await client.replay_dead_letter(event_id)
    ended = await client.wait(event_id, 20)
    assert ended["result"]["output"] == "done with b"
    assert (tmp_path / "first").read_text() == "ran\nran\n"
    assert (tmp_path / "tried").read_text() == "a\na\nb\n"
    assert await checkpoints_of(hub, event_id) == 0


async def test_one_that_waited_before_it_died_does_not_wait_again(
    client: Client, hub: HubForTests, tmp_path: Path
) -> None:
    event_id = await dead(client, "again.waited", tmp_path, text="x")
    assert await checkpoints_of(hub, event_id) > 0
    (tmp_path / "open").touch()
    await client.replay_dead_letter(event_id)
    ended = await client.wait(event_id, 20)
    assert ended["result"]["output"] == "done with x"
    assert len(ended["executions"]) == 2
    assert await checkpoints_of(hub, event_id) == 0


async def test_a_discard_forgets_the_checkpoints(
    client: Client, hub: HubForTests, tmp_path: Path
) -> None:
    event_id = await dead(client, "again.mended", tmp_path)
    assert await checkpoints_of(hub, event_id) > 0
    await client.discard_dead_letter(event_id, "no longer wanted")
    assert await checkpoints_of(hub, event_id) == 0


async def test_what_never_was_one_is_not_found(client: Client) -> None:
    fine = await client.submit("again.none", {}, wait=20)
    assert fine["status"] == "succeeded"
    with pytest.raises(NotFound, match="never was a dead letter"):
        await client.dead_letter(fine["id"])
    for unknown in (new_id(), "x"):
        with pytest.raises(NotFound):
            await client.dead_letter(unknown)
        with pytest.raises(NotFound):
            await client.replay_dead_letter(unknown)


async def test_one_whose_pipeline_is_gone_is_not_queued_for_nobody(
    open_hub: OpenHub, tmp_path: Path
) -> None:
    async with open_hub(in_process=True) as hub:
        transport = InProcessTransport(make_api(hub.parts))
        async with Client("http://127.0.0.1:8400", transport=transport) as client:
            event_id = await dead(client, "again.none", tmp_path, good_at=9)
    async with open_hub(in_process=True, apps=["spine_app"]) as hub:
        transport = InProcessTransport(make_api(hub.parts))
        async with Client("http://127.0.0.1:8400", transport=transport) as client:
            with pytest.raises(UnknownPipeline):
                await client.replay_dead_letter(event_id)
            with pytest.raises(UnknownPipeline):
                await client.edit_dead_letter(event_id, {})
            assert (await client.discard_dead_letter(event_id, "gone"))["status"] == "cancelled"

"""Schedules over HTTP: set, fired by the real clock, paused, deleted."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from holdfast.api import schemas
from holdfast.api.in_process import InProcessTransport
from holdfast.app import make_api
from holdfast.client import Client
from holdfast.errors import InvalidInput, NotFound, UnknownPipeline

from .conftest import HubForTests, OpenHub, until_true
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


async def test_a_schedule_from_its_making_to_its_end(client: Client) -> None:
    made = await client.put_schedule(
        "every-second", cron="* * * * * *", pipeline="again.none", data={"text": "tick"}
    )
    schemas.Schedule.model_validate(made)

    async def fired_twice() -> bool:
        page = await client.events_page(target="again.none")
        return len(page["items"]) >= 2

    await until_true(fired_twice)
    paused = await client.pause_schedule("every-second")
    assert (paused["enabled"], paused["next_at"]) == (False, None)
    sent = [one async for one in client.events(target="again.none")]
    assert len({one["time"] for one in sent}) == len(sent), "each time once"
    last = await client.wait(paused["last_event_id"], 20)
    assert (last["status"], last["data"]["text"]) == ("succeeded", "tick")
    assert last["time"] == paused["last_at"]
    resumed = await client.resume_schedule("every-second")
    assert resumed["next_at"] is not None
    again = await client.put_schedule(
        "every-second",
        cron="0 4 * * *",
        pipeline="again.none",
        data={},
        timezone="Europe/Berlin",
        missed="once",
        priority=3,
    )
    assert (again["id"], again["missed"], again["priority"]) == (made["id"], "once", 3)
    listed = await client.schedules()
    schemas.ScheduleList.model_validate(listed)
    assert [one["name"] for one in listed["items"]] == ["every-second"]
    assert await client.delete_schedule("every-second") == {"deleted": "every-second"}
    for ask in (client.schedule, client.pause_schedule, client.delete_schedule):
        with pytest.raises(NotFound):
            await ask("every-second")


async def test_what_cannot_be_meant_is_refused(client: Client) -> None:
    good = {"cron": "* * * * *", "pipeline": "again.none", "data": {}}
    wrong: list[tuple[dict[str, object], str]] = [
        ({"cron": "never"}, "cron"),
        ({"timezone": "Nowhere/There"}, "timezone"),
        ({"missed": "twice"}, "missed"),
        ({"data": {"texd": 1}}, "data.texd"),
        ({"priority": 2000}, "priority"),
        ({"every": "day"}, "every"),
    ]
    for fields, field in wrong:
        with pytest.raises(InvalidInput) as refused:
            await client.put_schedule("x", **(good | fields))  # type: ignore[arg-type]
        assert refused.value.fields[0]["field"] == field
    with pytest.raises(UnknownPipeline):
        await client.put_schedule("x", **(good | {"pipeline": "again.nobody"}))  # type: ignore[arg-type]
    with pytest.raises(InvalidInput):
        await client.put_schedule("a b", **good)  # type: ignore[arg-type]

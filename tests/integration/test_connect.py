"""`connect`: a hub inside the process, or only a look at what is stored."""

from __future__ import annotations

import pytest

import holdfast
from holdfast import settings
from holdfast.errors import StoreError, StoreLocked

from .conftest import HubForTests, OpenHub


async def test_it_runs_events_in_process(hub_environ: dict[str, str]) -> None:
    async with holdfast.connect(settings.load(environ=hub_environ)) as client:
        event = await client.submit("test.talking", {"text": "Ada"}, wait=10)
        assert event["status"] == "succeeded"
        seen = [entry.type async for entry in client.follow(event["execution_id"])]
        assert seen[0] == "execution.started"
        assert seen[-1] == "execution.finished"


async def test_looking_beside_a_hub_takes_no_lock_and_changes_nothing(
    open_hub: OpenHub, hub_environ: dict[str, str]
) -> None:
    made = settings.load(environ=hub_environ)
    async with open_hub(in_process=True) as hub:
        event, whole = await hub.run("test.noop")
        async with holdfast.connect(made, read_only=True) as client:
            assert (await client.event(event.id))["status"] == "succeeded"
            assert len((await client.execution(whole.execution.id))["steps"]) == 5
            with pytest.raises(StoreError, match="reading only"):
                await client.submit("test.noop", {})
        with pytest.raises(StoreLocked):
            async with holdfast.connect(made):
                pass
        await after(hub)


async def after(hub: HubForTests) -> None:
    event, _ = await hub.run("test.noop")
    assert event.status == "succeeded"


async def test_looking_without_a_hub(open_hub: OpenHub, hub_environ: dict[str, str]) -> None:
    async with open_hub(in_process=True) as hub:
        event, _ = await hub.run("test.noop")
    async with holdfast.connect(settings.load(environ=hub_environ), read_only=True) as client:
        assert (await client.event(event.id))["status"] == "succeeded"


async def test_settings_and_overrides_do_not_mix(hub_environ: dict[str, str]) -> None:
    with pytest.raises(TypeError, match="apps would not be heard"):
        async with holdfast.connect(settings.load(environ=hub_environ), apps=["x"]):
            pass

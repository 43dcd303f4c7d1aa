"""Pruning over the API and the client; priorities of pipelines."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from holdfast.api.in_process import InProcessTransport
from holdfast.app import make_api
from holdfast.client import Client
from holdfast.domain.ids import now_us
from holdfast.errors import InvalidInput, NotFound
from holdfast.operations import prune

from .conftest import HubForTests, OpenHub


@pytest.fixture
async def hub(open_hub: OpenHub) -> AsyncIterator[HubForTests]:
    async with open_hub(in_process=True, apps=["policies_app"]) as opened:
        yield opened


@pytest.fixture
async def client(hub: HubForTests) -> AsyncIterator[Client]:
    transport = InProcessTransport(make_api(hub.parts))
    async with Client("http://127.0.0.1:8400", transport=transport) as made:
        yield made


async def test_old_executions_are_pruned(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    done = await client.submit("policies.kept", {"items": ["a"]}, wait=10)
    assert done["status"] == "succeeded"
    assert await client.prune() == {"events": {"policies.kept": 0}, "dry_run": False}
    monkeypatch.setattr(prune, "now_us", lambda: now_us() + 31 * 86_400_000_000)
    assert await client.prune(dry_run=True) == {"events": {"policies.kept": 1}, "dry_run": True}
    assert await client.prune("policies.tried") == {"events": {}, "dry_run": False}
    assert (await client.event(done["id"]))["status"] == "succeeded"
    assert (await client.prune("policies.kept"))["events"] == {"policies.kept": 1}
    with pytest.raises(NotFound):
        await client.event(done["id"])


async def test_a_pruning_of_nobody_is_refused(client: Client) -> None:
    with pytest.raises(InvalidInput, match=r"there is no pipeline 'policies\.kapt'"):
        await client.prune("policies.kapt")


@pytest.mark.parametrize(("named", "priority"), [(None, 7), (0, 0), (-3, -3)])
async def test_a_pipelines_priority_is_that_of_events_that_name_none(
    client: Client, tmp_path, named: int | None, priority: int
) -> None:
    data = {"folder": str(tmp_path)}
    sent = await client.submit("policies.cached", data, priority=named, wait=10)
    assert (await client.event(sent["id"]))["priority"] == priority


async def test_a_pipelines_options_are_shown(client: Client) -> None:
    shown = await client.pipeline("policies.kept")
    assert {name: shown[name] for name in ("priority", "retries", "max_running", "retention")} == {
        "priority": 0,
        "retries": 0,
        "max_running": None,
        "retention": 30 * 86_400.0,
    }

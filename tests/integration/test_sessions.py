"""Turns of a session with real runners; events that are sent for later."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from holdfast.api.in_process import InProcessTransport
from holdfast.app import make_api
from holdfast.client import Client
from holdfast.errors import IdempotencyConflict, InvalidInput
from holdfast.hub import dispatch, timers

from .conftest import HubForTests, OpenHub, until, until_true
from .test_hub_crashes import database

__all__ = ["database"]


@pytest.fixture
def hub_environ(hub_environ: dict[str, str]) -> dict[str, str]:
    return hub_environ | {"HOLDFAST_APPS": "redelivery_app"}


@pytest.fixture(autouse=True)
def no_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs next runs because somebody rings, not because somebody looks."""
    monkeypatch.setattr(dispatch, "SWEEP_S", 3600.0)
    monkeypatch.setattr(timers, "SWEEP_S", 3600.0)


@pytest.fixture
async def hub(open_hub: OpenHub, database: str) -> AsyncIterator[HubForTests]:
    async with open_hub(runners=2) as opened:
        yield opened


@pytest.fixture
async def client(hub: HubForTests) -> AsyncIterator[Client]:
    transport = InProcessTransport(make_api(hub.parts))
    async with Client("http://127.0.0.1:8400", transport=transport) as made:
        yield made


async def say(client: Client, folder: Path, text: str, **more: Any) -> str:
    data = {"text": text, "folder": str(folder), "good_at": more.pop("good_at", 1)}
    return (await client.submit("again.turns", data, **more))["id"]


async def test_turns_run_in_order_also_when_one_has_to_be_said_again(
    client: Client, tmp_path: Path
) -> None:
    (tmp_path / "hold-a").touch()
    sent = [
        await say(client, tmp_path, text, session_id="chat", good_at=3 if text == "b" else 1)
        for text in ("a", "b", "c", "d")
    ]
    other = await say(client, tmp_path, "other", session_id="another chat")
    assert (await client.wait(other, 20))["status"] == "succeeded"
    cancelled = await client.cancel_event(sent[2])
    assert cancelled["status"] == "cancelled"
    (tmp_path / "hold-a").unlink()
    last = await client.wait(sent[-1], 20)
    assert last["status"] == "succeeded"
    assert last["session_id"] == "chat"
    assert last["executions"][0]["session_id"] == "chat"
    assert (tmp_path / "said").read_text().split() == ["other", "a", "b", "b", "b", "d"]


async def test_a_cancelled_turn_that_ran_lets_the_next_one_run(
    client: Client, tmp_path: Path
) -> None:
    (tmp_path / "hold-a").touch()
    first = await say(client, tmp_path, "a", session_id="chat")
    second = await say(client, tmp_path, "b", session_id="chat")

    async def runs() -> bool:
        return (await client.event(first))["status"] == "running"

    await until_true(runs)
    await client.cancel_event(first)
    assert (await client.wait(second, 20))["status"] == "succeeded"
    assert (tmp_path / "said").read_text().split() == ["b"]


async def test_an_event_runs_when_its_time_has_come(client: Client, tmp_path: Path) -> None:
    past = await say(client, tmp_path, "past", deliver_at="2020-01-01T00:00:00Z")
    await client.wait(past, 20)
    at = datetime.now(UTC) + timedelta(seconds=0.4)
    by_time = await say(client, tmp_path, "time", deliver_at=at)
    by_delay = await say(client, tmp_path, "delay", delay=0.3)
    for event_id in (by_time, by_delay):
        ended = await client.wait(event_id, 20)
        assert ended["status"] == "succeeded"
        assert ended["executions"][0]["started_at"] >= ended["available_at"]
        assert ended["available_at"] > ended["received_at"]
    assert datetime.fromisoformat((await client.event(by_time))["available_at"]) == at


async def test_one_sent_for_later_outlives_its_hub(
    open_hub: OpenHub, tmp_path: Path, database: str
) -> None:
    async with open_hub(runners=1) as hub:
        transport = InProcessTransport(make_api(hub.parts))
        async with Client("http://127.0.0.1:8400", transport=transport) as client:
            later = await say(client, tmp_path, "later", delay=0.5)
            assert (await client.event(later))["status"] == "queued"
    async with open_hub(runners=1) as hub:
        await until(tmp_path / "said")
        await hub.ended(later)


async def test_cloudevents_name_them_as_extensions(client: Client, tmp_path: Path) -> None:
    event = {
        "specversion": "1.0",
        "id": "1",
        "source": "/mail",
        "type": "again.turns",
        "data": {"text": "a", "folder": str(tmp_path)},
        "sessionid": "chat",
        "deliverat": "2020-01-01T00:00:00Z",
    }
    headers = {"content-type": "application/cloudevents+json"}
    answer = await client._http.post("/api/v1/events", json=event, headers=headers)
    assert answer.status_code == 202, answer.text
    kept = await client.wait(answer.json()["id"], 20)
    assert (kept["session_id"], kept["status"]) == ("chat", "succeeded")
    other = event | {"sessionid": "another"}
    answer = await client._http.post("/api/v1/events", json=other, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_conflict")


async def test_what_cannot_be_meant_is_refused(client: Client, tmp_path: Path) -> None:
    await say(client, tmp_path, "a", idempotency_key="k", delay=3000)
    with pytest.raises(IdempotencyConflict):
        await say(client, tmp_path, "a", idempotency_key="k")
    wrong: list[tuple[str, Any]] = [
        ("delay", -1),
        ("delay", 10**9),
        ("delay", "soon"),
        ("deliver_at", "2200-01-01T00:00:00Z"),
        ("deliver_at", "tomorrow"),
        ("session_id", ""),
        ("session_id", "a\nb"),
    ]
    for name, value in wrong:
        with pytest.raises(InvalidInput) as refused:
            await say(client, tmp_path, "a", **{name: value})
        assert refused.value.fields[0]["field"] == name

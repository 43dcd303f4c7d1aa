"""Several hubs on one PostgreSQL: any of them answers for what runs on any other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.domain.events import LOCAL_OWNER
from holdfast.domain.keys import Scope
from holdfast.domain.status import EventStatus, ExecutionStatus
from holdfast.errors import HoldfastError, SettingsError
from holdfast.hub import dispatch, leases
from holdfast.hub import prompts as hub_prompts
from holdfast.hub import timers as hub_timers
from holdfast.operations import elsewhere, keyring, read, wait
from holdfast.settings import load
from holdfast.testing.ports import start_of
from holdfast.testing.postgres import PostgresForTests
from holdfast.testing.valkey import Valkey

from .conftest import until, until_true
from .several_hubs import HubHere, Shared
from .test_api_stream import stream, whole

NEVER_S = 3600.0


@pytest.fixture
def database(postgres: PostgresForTests) -> Iterator[str]:
    url = postgres.migrated()
    yield url
    postgres.drop(url)


@pytest.fixture
def shared(database: str, redis_url: str, tmp_path: Path) -> Shared:
    return Shared(tmp_path, database, redis_url)


@pytest.fixture
def by_notice_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is looked for: what is not told over the bus is never known."""
    monkeypatch.setattr(dispatch, "SWEEP_S", NEVER_S)
    monkeypatch.setattr(leases, "BEAT_S", NEVER_S)
    monkeypatch.setattr(leases, "REAP_S", NEVER_S)
    monkeypatch.setattr(hub_timers, "SWEEP_S", NEVER_S)
    monkeypatch.setattr(wait, "SWEEP_S", NEVER_S)
    monkeypatch.setattr(keyring, "SWEEP_S", NEVER_S)
    monkeypatch.setattr(hub_prompts, "SWEEP_S", NEVER_S)
    monkeypatch.setattr("holdfast.operations.progress.HEARTBEAT_S", NEVER_S)
    monkeypatch.setattr(elsewhere, "LIST_S", 20.0)


@pytest.fixture
async def api(shared: Shared, by_notice_only: None) -> AsyncIterator[HubHere]:
    async with shared.hub("one", "api") as hub:
        yield hub


@pytest.fixture
async def worker(shared: Shared, by_notice_only: None) -> AsyncIterator[HubHere]:
    async with shared.hub("two", "worker") as hub:
        yield hub


async def execution_of(hub: HubHere, event_id: str) -> str:
    execution_id = (await hub.http.get(f"/api/v1/events/{event_id}")).json()["execution_id"]
    assert execution_id is not None
    return execution_id


async def test_who_waits_at_one_hub_is_told_what_another_did(api: HubHere, worker: HubHere) -> None:
    body = {"type": "test.talking", "data": {"text": "Ada"}}
    answer = await api.http.post("/api/v1/events?wait=30", json=body)
    assert answer.status_code == 200
    assert answer.json()["status"] == "succeeded"
    assert worker.kit.metrics.get("holdfast_claims_total") == 1
    assert api.kit.metrics.get("holdfast_claims_total") == 0


async def test_a_worker_takes_no_requests_but_tells_of_itself(
    api: HubHere, worker: HubHere
) -> None:
    assert (await worker.http.get("/readyz")).status_code == 200
    assert "holdfast_bus_up 1" in (await worker.http.get("/metrics")).text
    assert (await worker.http.get("/api/v1/events")).status_code == 404
    assert (await api.http.get("/readyz")).status_code == 200
    listed = (await api.http.get("/api/v1/hubs")).json()["items"]
    assert [(one["roles"], one["alive"], one["stopping"]) for one in listed] == [
        (["api"], True, False),
        (["worker"], True, False),
    ]
    assert [one["id"] for one in listed] == [api.kit.boot_id, worker.kit.boot_id]


async def test_a_run_is_followed_live_from_another_hub(
    api: HubHere, worker: HubHere, tmp_path: Path
) -> None:
    event_id = await api.post("test.gated", folder=str(tmp_path))
    await until(tmp_path / "pid-1")
    execution_id = await execution_of(api, event_id)
    shown = (await api.http.get(f"/api/v1/executions/{execution_id}")).json()
    assert [(step["operation"], step["status"]) for step in shown["steps"]] == [
        ("before", "succeeded"),
        ("gate", "running"),
    ]
    assert shown["steps"][0]["output"] == "done before"
    assert shown["input"]["folder"] == str(tmp_path)
    (listed,) = (await api.http.get("/api/v1/executions")).json()["items"]
    assert (listed["status"], listed["step_counts"]["total"]) == ("running", 2)
    live: list[Any] = []
    async for message in stream(api.http, execution_id):
        live.append(message)
        if len(live) == 4:
            (tmp_path / "open").touch()
    assert [message.id for message in live] == [f"{execution_id}:{n}" for n in range(6)]
    assert live[2].data["output"] == "done before"
    assert live[-1].data["status"] == "succeeded"
    assert await whole(api.http, execution_id) == live


async def test_a_follower_at_another_hub_sees_each_step_as_it_happens(
    api: HubHere, worker: HubHere, tmp_path: Path
) -> None:
    """The run goes on only when its follower has seen what it did."""
    event_id = await api.post("test.stairs", folder=str(tmp_path))

    async def runs() -> bool:
        return (await read.event(api.kit, event_id, LOCAL_OWNER)).execution_id is not None

    await until_true(runs)
    async for message in stream(api.http, await execution_of(api, event_id)):
        if message.event == "step.started":
            (tmp_path / f"open-{message.data['operation'][-1]}").touch()
    assert message.event == "execution.finished"
    assert message.data["status"] == "succeeded"


async def test_who_follows_into_a_halt_is_led_out_of_it(
    shared: Shared, api: HubHere, worker: HubHere, tmp_path: Path
) -> None:
    """The run ends only when its follower has seen that it goes on, at a third hub."""
    event_id = await api.post("wait.gated", folder=str(tmp_path))

    async def halted() -> bool:
        return (await read.event(api.kit, event_id, LOCAL_OWNER)).status is EventStatus.WAITING

    await until_true(halted)
    execution_id = await execution_of(api, event_id)
    await worker.parts.hub._dispatcher.close()
    seen: list[str] = []
    async with shared.hub("three", "worker") as third, asyncio.timeout(30):
        async for message in stream(api.http, execution_id):
            seen.append(message.event)
            if message.event == "execution.waiting":
                path = f"/api/v1/executions/{execution_id}/resume"
                assert (await api.http.post(path, json={"answer": "yes"})).status_code == 202
            elif message.event == "execution.resumed":
                (tmp_path / "open").touch()
        assert third.kit.metrics.get("holdfast_claims_total") == 1
    assert [one for one in seen if one.startswith("execution.")] == [
        "execution.started",
        "execution.waiting",
        "execution.resumed",
        "execution.finished",
    ]


async def test_a_cancel_reaches_the_hub_that_runs_it(
    api: HubHere, worker: HubHere, tmp_path: Path
) -> None:
    event_id = await api.post("test.gated", folder=str(tmp_path))
    await until(tmp_path / "pid-1")
    assert (await api.http.post(f"/api/v1/events/{event_id}/cancel")).status_code == 202
    assert (await api.ended(event_id)).status is EventStatus.CANCELLED
    (execution,) = await api.executions(event_id)
    assert execution.status is ExecutionStatus.CANCELLED


async def test_a_pause_reaches_the_hub_that_runs_it(
    api: HubHere, worker: HubHere, tmp_path: Path
) -> None:
    event_id = await api.post("wait.slow", folder=str(tmp_path))
    await until(tmp_path / "begun")
    execution_id = await execution_of(api, event_id)
    assert (await api.http.post(f"/api/v1/executions/{execution_id}/pause")).status_code == 202
    asked = worker.kit.bus  # the pause came over the bus before the step may end
    assert asked.joins
    await until_true(lambda: _paused_at(worker, execution_id))
    (tmp_path / "open").touch()

    async def paused() -> bool:
        return (await read.event(api.kit, event_id, LOCAL_OWNER)).status is EventStatus.PAUSED

    await until_true(paused)
    assert (await api.http.post(f"/api/v1/executions/{execution_id}/resume")).status_code == 202
    assert (await api.ended(event_id)).status is EventStatus.SUCCEEDED


async def _paused_at(hub: HubHere, execution_id: str) -> bool:
    position = hub.kit.bus._position  # type: ignore[attr-defined]
    entries = await hub.kit.bus._redis.xrange(  # type: ignore[attr-defined]
        f"{hub.kit.bus._space}:commands",
        max=position,  # type: ignore[attr-defined]
    )
    return any(execution_id.encode() in fields[b"n"] for _, fields in entries)


async def test_a_key_is_known_everywhere_at_once(shared: Shared, by_notice_only: None) -> None:
    async with shared.hub("one") as one, shared.hub("two") as two:
        from holdfast.operations.keys import create_key

        _, admin = await create_key(one.kit.store, name="admin", owner="local", scopes=list(Scope))
        for hub in (one, two):
            await hub.parts.keyring.refresh()
        asking = {"authorization": f"Bearer {admin}"}
        body = {"name": "new", "owner": "local", "scopes": ["read"]}
        made = (await one.http.post("/api/v1/keys", json=body, headers=asking)).json()
        new = {"authorization": f"Bearer {made['key']}"}

        async def admitted() -> bool:
            return (await two.http.get("/api/v1/events", headers=new)).status_code == 200

        await until_true(admitted)
        await two.http.delete(f"/api/v1/keys/{made['id']}", headers=asking)

        async def refused() -> bool:
            return (await one.http.get("/api/v1/events", headers=new)).status_code == 401

        await until_true(refused)


async def test_without_a_bus_everything_is_found_by_looking(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "SWEEP_S", 0.1)
    monkeypatch.setattr(leases, "BEAT_S", 0.1)
    monkeypatch.setattr(wait, "LOOK_S", 0.1)
    monkeypatch.setattr("holdfast.operations.progress.HEARTBEAT_S", 0.1)
    shared = Shared(tmp_path, database, None)
    async with shared.hub("one", "api") as api, shared.hub("two", "worker"):
        body = {"type": "test.talking", "data": {"text": "Ada"}}
        answer = await api.http.post("/api/v1/events?wait=30", json=body)
        assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")
        event_id = await api.post("test.gated", folder=str(tmp_path))
        await until(tmp_path / "pid-1")
        execution_id = await execution_of(api, event_id)
        shown = (await api.http.get(f"/api/v1/executions/{execution_id}")).json()
        assert (shown["status"], shown["steps"]) == ("running", [])
        assert (await api.http.post(f"/api/v1/events/{event_id}/cancel")).status_code == 202
        assert (await api.ended(event_id)).status is EventStatus.CANCELLED
        told = [message.event for message in await whole(api.http, execution_id)]
        assert told[-1] == "execution.finished"


async def test_while_the_bus_is_away_work_goes_on_and_a_cancel_arrives(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "SWEEP_S", 0.1)
    monkeypatch.setattr(leases, "BEAT_S", 0.1)
    monkeypatch.setattr(wait, "SWEEP_S", 0.1)
    (tmp_path / "valkey").mkdir()
    valkey = Valkey(tmp_path / "valkey")
    try:
        shared = Shared(tmp_path, database, valkey.url)
        async with shared.hub("one", "api") as api, shared.hub("two", "worker"):
            valkey.kill()
            event_id = await api.post("test.gated", folder=str(tmp_path))
            await until(tmp_path / "pid-1")
            await api.http.post(f"/api/v1/events/{event_id}/cancel")
            assert (await api.ended(event_id)).status is EventStatus.CANCELLED
            assert (await api.http.get("/readyz")).status_code == 200
            valkey.start()
            ran, _ = await api.run("test.noop", text="x")
            assert ran.status is EventStatus.SUCCEEDED
    finally:
        valkey.kill()


async def test_another_owner_sees_nothing_of_it_from_anywhere(
    api: HubHere, worker: HubHere, tmp_path: Path
) -> None:
    event_id = await api.post("test.gated", folder=str(tmp_path))
    await until(tmp_path / "pid-1")
    execution_id = await execution_of(api, event_id)
    with pytest.raises(HoldfastError, match="no execution"):
        await elsewhere.live(api.kit, execution_id, "somebody else")
    args = {"execution_id": execution_id, "owner_id": "somebody else", "follow": False}
    assert await api.kit.bus.ask(worker.kit.boot_id, elsewhere.RECORD, args) is None
    args = {"ids": [execution_id], "owner_id": "somebody else"}
    assert await api.kit.bus.ask(worker.kit.boot_id, elsewhere.SUMMARIES, args) == []
    (tmp_path / "open").touch()
    assert (await api.ended(event_id)).status is EventStatus.SUCCEEDED


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"HOLDFAST_ROLES": "worker"}, "HOLDFAST_ROLES: SQLite allows exactly one hub"),
        ({"HOLDFAST_BUS_URL": "redis://x"}, "HOLDFAST_BUS_URL: SQLite allows exactly one hub"),
        ({"HOLDFAST_ROLES": "api,cook"}, "HOLDFAST_ROLES"),
        ({"HOLDFAST_ROLES": "api,agents"}, "HOLDFAST_ROLES: SQLite allows exactly one hub"),
        ({"HOLDFAST_ROLES": ","}, "a hub needs a role"),
    ],
)
def test_what_cannot_be_is_refused(environ: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        load(environ=environ)


def test_roles_are_kept_in_one_order() -> None:
    environ = {"DATABASE_URL": "postgresql://a/b", "HOLDFAST_ROLES": "worker, api,worker"}
    assert load(environ=environ).roles == ("api", "worker")


async def test_a_label_moved_at_one_hub_counts_at_the_other(
    shared: Shared, by_notice_only: None, tmp_path: Path
) -> None:
    shared.environ["HOLDFAST_APPS"] = "prompting.app"
    shared.environ["HOLDFAST_MODELS"] = '{"fast": "scripted:rules"}'
    source = "Judge.\n--- dynamic ---\n{{ event.body }}, better"
    async with shared.hub("one", "api") as api, shared.hub("two", "worker") as worker:

        async def versions(event_id: str) -> list[str]:
            await api.ended(event_id)
            path = f"/api/v1/executions/{await execution_of(api, event_id)}"
            steps = (await api.http.get(path)).json()["steps"]
            return [
                one["prompt"]["version"]
                for step in steps
                for one in step["attempts"]
                if one["prompt"]
            ]

        async def knows(version: str) -> bool:
            claimed = _claim("prompting.judging")
            declared = worker.kit.registry.get(claimed.target)
            return (
                worker.parts.hub._prompts.pins(claimed, declared)["mail/judge@production"]
                == version
            )

        running = await api.post("prompting.judging", body="dear", folder=str(tmp_path))
        await until(tmp_path / "waits")
        body = {"name": "mail/judge", "source": source}
        made = (await api.http.post("/api/v1/prompts", json=body)).json()["version"]
        moved = await api.http.put(
            "/api/v1/prompts/mail/judge/labels/production", json={"version": made}
        )
        assert moved.status_code == 200, moved.text
        await until_true(lambda: knows(made))  # told, for nothing is looked for
        (tmp_path / "open").touch()
        before = await versions(running)
        assert made not in before
        assert await versions(await api.post("prompting.judging", body="dear")) == [
            made,
            made,
            before[2],
        ]
        back = "/api/v1/prompts/mail/judge/labels/production"
        await api.http.put(back, json={"version": "file"})
        await until_true(lambda: knows(before[0]))
        assert await versions(await api.post("prompting.judging", body="dear")) == before


def _claim(target: str) -> Any:
    return start_of("execution", target=target, owner_id=LOCAL_OWNER).claimed

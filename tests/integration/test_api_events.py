"""Events over HTTP: taken in once, waited for, paged through, called off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from holdfast.api import create_api
from holdfast.domain.events import LOCAL_OWNER
from holdfast.operations.submit import submit

from .api_server import api_parts, serving
from .conftest import HubForTests, OpenHub, until

EVENTS = "/api/v1/events"
ADA = {"type": "test.talking", "data": {"text": "Ada"}}
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
async def hub(open_hub: OpenHub) -> AsyncIterator[HubForTests]:
    async with open_hub(in_process=True) as opened:
        yield opened


@pytest.fixture
async def http(hub: HubForTests) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        serving(create_api(api_parts(hub.parts))) as url,
        httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as client,
    ):
        yield client


async def send(http: httpx.AsyncClient, body: Any, **rest: Any) -> httpx.Response:
    return await http.post(EVENTS, json=body, **rest)


async def test_an_accepted_event_is_kept_and_can_be_looked_up(http: httpx.AsyncClient) -> None:
    sent = {
        "type": "anything at all",
        "target": "test.noop",
        "data": {"text": "x"},
        "source": "/mail/7",
        "subject": "Привет",
        "time": "2026-11-20T12:00:00.123457+02:00",
        "priority": 5,
    }
    answer = await send(http, sent, headers={"traceparent": PARENT})
    assert answer.status_code == 202
    accepted = answer.json()
    assert accepted["created"] is True
    assert answer.headers["location"] == accepted["links"]["event"] == f"{EVENTS}/{accepted['id']}"
    event = (await http.get(answer.headers["location"], params={"wait": 20})).json()
    assert event["status"] == "succeeded"
    for name in ("type", "target", "data", "source", "subject", "priority"):
        assert event[name] == sent[name]
    assert event["time"] == "2026-11-20T10:00:00.123457Z"
    assert [one["id"] for one in event["executions"]] == [event["execution_id"]]
    assert event["executions"][0]["trace_id"] == PARENT.split("-")[1]
    assert event["result"]["links"]["execution"] == event["links"]["execution"]


async def test_waiting_answers_with_the_result(http: httpx.AsyncClient) -> None:
    answer = await send(http, ADA, params={"wait": 20})
    event = answer.json()
    assert (answer.status_code, event["status"]) == (200, "succeeded")
    assert event["created"] is True
    assert event["result"]["output"] == {"score": 0.5}
    execution = (await http.get(event["result"]["links"]["execution"])).json()
    attempts = [attempt for step in execution["steps"] for attempt in step["attempts"]]
    assert execution["tokens"]["input"] == sum(a["tokens"]["input"] for a in attempts)
    assert attempts[0]["prompt_system"] == "You are Ada."


async def test_waiting_for_a_failing_event_tells_why(http: httpx.AsyncClient) -> None:
    answer = await send(http, {"type": "test.failing", "data": {"text": "it"}}, params={"wait": 20})
    event = answer.json()
    assert (answer.status_code, event["status"]) == (200, "failed")
    assert event["last_error"]["message"] == event["result"]["error"]["message"] == "cannot do it"


async def test_waiting_too_short_answers_202_and_the_event_goes_on(
    http: httpx.AsyncClient, tmp_path: Path
) -> None:
    answer = await send(
        http, {"type": "test.gated", "data": {"folder": str(tmp_path)}}, params={"wait": 0.2}
    )
    assert answer.status_code == 202
    waiting = asyncio.create_task(http.get(answer.headers["location"], params={"wait": 20}))
    await until(tmp_path / "pid-1")
    assert not waiting.done()
    (tmp_path / "open").touch()
    assert (await waiting).json()["result"]["output"] == "opened"


async def test_one_key_is_one_event(http: httpx.AsyncClient) -> None:
    body, key = {"type": "test.noop", "data": {"text": "once"}}, {"idempotency-key": "k-1"}
    answers = await asyncio.gather(*(send(http, body, headers=key) for _ in range(10)))
    assert {answer.status_code for answer in answers} <= {200, 202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sorted(answer.json()["created"] for answer in answers) == [False] * 9 + [True]
    again = await send(http, body, headers=key, params={"wait": 20})
    assert (again.status_code, again.json()["created"]) == (200, False)
    assert again.json()["deliveries"] == 1
    assert (await send(http, body, headers=key)).json()["result"] is not None

    other = await send(http, {**body, "data": {"text": "twice"}}, headers=key)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
    assert again.json()["id"] in other.json()["hint"]
    assert len((await http.get(EVENTS)).json()["items"]) == 1


async def test_a_cloud_event_is_its_own_key(http: httpx.AsyncClient) -> None:
    cloud = {
        "specversion": "1.0",
        "id": "17",
        "source": "https://example.com/mail",
        "type": "test.noop",
        "datacontenttype": "application/json",
        "data": {"text": "x"},
        "traceparent": PARENT,
    }
    headers = {"content-type": "application/cloudevents+json; charset=UTF-8"}
    first = (await send(http, cloud, headers=headers)).json()
    second = (await send(http, cloud, headers=headers)).json()
    assert (first["id"], first["created"]) == (second["id"], not second["created"])
    third = (await send(http, {**cloud, "id": "18"}, headers=headers)).json()
    assert third["id"] != first["id"]
    clash = await send(http, {**cloud, "data": {"text": "y"}}, headers=headers)
    assert clash.status_code == 409
    event = (await http.get(f"{EVENTS}/{first['id']}", params={"wait": 20})).json()
    assert event["executions"][0]["trace_id"] == PARENT.split("-")[1]


@pytest.mark.parametrize(
    "header", ["nonsense", PARENT.upper(), f"{PARENT}-more", PARENT.replace("b", "g")]
)
async def test_a_malformed_trace_context_is_ignored(http: httpx.AsyncClient, header: str) -> None:
    body = {"type": "test.noop", "data": {}}
    answer = await send(http, body, headers={"traceparent": header}, params={"wait": 20})
    assert answer.json()["executions"][0]["trace_id"] is None


async def test_pages_are_complete_while_events_come_in(
    http: httpx.AsyncClient, hub: HubForTests
) -> None:
    async def more(n: int) -> list[str]:
        submitted = [
            submit(hub.kit, owner_id=LOCAL_OWNER, type="test.noop", data={}) for _ in range(n)
        ]
        return [one.id for one in await asyncio.gather(*submitted)]

    before = set(await more(40))
    seen: list[str] = []
    following: str | None = f"{EVENTS}?limit=7"
    while following is not None:
        page = (await http.get(following)).json()
        seen += [item["id"] for item in page["items"]]
        following = page["next"]
        await more(3)
    assert len(seen) == len(set(seen))
    assert seen == sorted(seen, reverse=True)
    assert before <= set(seen)


async def test_lists_are_filtered(http: httpx.AsyncClient) -> None:
    ids: dict[str, str] = {}
    for name in ("test.noop", "test.failing"):
        answer = await send(http, {"type": name, "data": {}}, params={"wait": 20})
        ids[name] = answer.json()["id"]

    async def found(path: str, **query: str) -> list[str]:
        answer = await http.get(f"/api/v1/{path}", params=query)
        assert answer.status_code == 200, answer.text
        key = "id" if path == "events" else "event_id"
        return [item[key] for item in answer.json()["items"]]

    first, second = ids.values()
    received = (await http.get(f"{EVENTS}/{second}")).json()["received_at"]
    assert await found("events") == [second, first]
    assert await found("events", status="failed") == [second]
    assert await found("events", target="test.noop") == [first]
    assert await found("events", since=received) == [second]
    assert await found("events", until=received) == [first]
    assert await found("events", before=second) == [first]
    assert await found("executions", status="succeeded") == [first]
    assert await found("executions", pipeline="test.failing") == [second]
    assert await found("executions", event_id=first) == [first]
    assert await found("executions", pipeline="test.unknown") == []


@pytest.mark.parametrize("pipeline", ["test.gated", "test.blocking"])
async def test_cancel_reaches_the_running_step(
    http: httpx.AsyncClient, tmp_path: Path, pipeline: str
) -> None:
    sent = (await send(http, {"type": pipeline, "data": {"folder": str(tmp_path)}})).json()
    await until(tmp_path / ("pid-1" if pipeline == "test.gated" else "blocked"))
    running = (await http.get(sent["links"]["event"])).json()
    assert running["status"] == "running"
    told = await http.post(f"{running['links']['execution']}/cancel")
    assert (told.status_code, told.json()["status"]) == (202, "running")
    event = (await http.get(sent["links"]["event"], params={"wait": 20})).json()
    assert event["status"] == event["result"]["status"] == "cancelled"
    step = (await http.get(event["links"]["execution"])).json()["steps"][-1]
    assert step["status"] == ("cancelled" if pipeline == "test.gated" else "abandoned")
    (tmp_path / "open").touch()

    again = await http.post(f"{sent['links']['event']}/cancel")
    assert (again.status_code, again.json()["code"]) == (409, "illegal_move")
    again = await http.post(f"{running['links']['execution']}/cancel")
    assert again.status_code == 409


async def test_a_queued_event_is_cancelled_at_once_and_waiters_hear_of_it(
    open_hub: OpenHub, tmp_path: Path
) -> None:
    async with (
        open_hub(in_process=True, runner_slots=1) as hub,
        serving(create_api(api_parts(hub.parts))) as url,
        httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as http,
    ):
        body = {"type": "test.gated", "data": {"folder": str(tmp_path)}}
        first = (await send(http, body)).json()
        await until(tmp_path / "pid-1")
        second = (await send(http, body)).json()
        waiting = asyncio.create_task(http.get(second["links"]["event"], params={"wait": 20}))
        told = await http.post(f"{second['links']['event']}/cancel")
        assert (told.status_code, told.json()["status"]) == (200, "cancelled")
        event = (await waiting).json()
        assert (event["status"], event["result"], event["executions"]) == ("cancelled", None, [])
        (tmp_path / "open").touch()
        assert (await hub.ended(first["id"])).status == "succeeded"


async def test_an_export_holds_everything(http: httpx.AsyncClient) -> None:
    answer = await send(http, ADA, params={"wait": 20})
    event = answer.json()
    links = event["result"]["links"]
    document = await http.get(links["export"])
    name = f"execution-{event['execution_id']}.json"
    assert document.headers["content-disposition"] == f'attachment; filename="{name}"'
    exported = document.json()
    shown = (await http.get(links["execution"])).json()
    assert exported["event"]["data"] == {"text": "Ada"}
    assert exported["execution"] == {key: shown[key] for key in shown if key != "links"}


async def test_nobody_sees_what_is_not_theirs(http: httpx.AsyncClient, hub: HubForTests) -> None:
    theirs = await submit(hub.kit, owner_id="somebody else", type="test.noop", data={})
    assert (await http.get(f"{EVENTS}/{theirs.id}")).status_code == 404
    assert (await http.post(f"{EVENTS}/{theirs.id}/cancel")).status_code == 404
    assert (await http.get(EVENTS)).json() == {"items": [], "next": None}
    assert (await http.get("/api/v1/executions")).json() == {"items": [], "next": None}

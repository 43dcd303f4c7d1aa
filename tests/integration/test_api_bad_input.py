"""Bad input over HTTP: refused with the place named, and nothing is stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest
import pytest_asyncio

from holdfast.api import create_api
from holdfast.domain.events import MAX_EVENT_BYTES
from holdfast.domain.ids import new_id
from holdfast.store.queries import CountEvents

from .api_server import api_parts, hub_at, serving
from .conftest import HubForTests

EVENTS = "/api/v1/events"
JSON = {"content-type": "application/json"}
CLOUD = {"content-type": "application/cloudevents+json"}
NOBODY = "019aa000-0000-7000-8000-00000000abcd"  # an id that nothing has
OTHER = "019aa000-0000-7000-8000-00000000dcba"


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[HubForTests]:
    async with hub_at(tmp_path_factory.mktemp("home")) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(hub: HubForTests) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        serving(create_api(api_parts(hub.parts))) as url,
        httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as client,
    ):
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def http(hub: HubForTests, served: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    """Whatever a test of this file sends must leave nothing behind."""
    yield served
    assert sum((await hub.kit.store.read(CountEvents())).values()) == 0


def plain(**changes: Any) -> bytes:
    return orjson.dumps({"type": "test.noop", "data": {"text": "x"}} | changes)


def cloud(**changes: Any) -> bytes:
    body = {"specversion": "1.0", "id": "1", "source": "/s", "type": "test.noop", "data": {}}
    return orjson.dumps(body | changes)


def nested(levels: int) -> bytes:
    return b'{"type":"test.noop","data":' + b'{"text":' * levels + b"1" + b"}" * levels + b"}"


BODIES: dict[str, tuple[bytes, int, str]] = {
    "empty": (b"", 400, "body"),
    "cut off": (b'{"type": "test.noop", ', 400, "body"),
    "trailing text": (b'{"type": "test.noop", "data": {}} x', 400, "body"),
    "not a number": (b'{"type": "test.noop", "data": {"seconds": NaN}}', 400, "body"),
    "infinity": (b'{"type": "test.noop", "data": {"seconds": -Infinity}}', 400, "body"),
    "bad UTF-8": (b'{"type": "test.noop", "data": {"text": "\xff"}}', 400, "body"),
    "lone surrogate": (rb'{"type": "test.noop", "data": {"text": "\ud800"}}', 400, "body"),
    "bottomless": (b"[" * 100_000, 400, "body"),
    "a list": (b"[]", 422, "body"),
    "a string": (b'"test.noop"', 422, "body"),
    "no type": (b'{"data": {}}', 422, "type"),
    "no data": (b'{"type": "test.noop"}', 422, "data"),
    "an id": (plain(id="1"), 422, "id"),
    "an unknown field": (plain(taget="test.noop"), 422, "taget"),
    "a number for a type": (plain(type=7), 422, "type"),
    "an empty type": (plain(type=""), 422, "type"),
    "a line break in the type": (plain(type="test\n.noop"), 422, "type"),
    "an endless type": (plain(type="x" * 10_000), 422, "type"),
    "an unknown pipeline": (plain(type="test.nop"), 422, "type"),
    "an unknown target": (plain(target="test.nop"), 422, "target"),
    "NUL in a subject": (plain(subject="a\0b"), 422, "subject"),
    "an empty subject": (plain(subject=""), 422, "subject"),
    "a source with spaces": (plain(source="a b"), 422, "source"),
    "the 30th of February": (plain(time="2026-02-30T00:00:00Z"), 422, "time"),
    "25 o'clock": (plain(time="2026-02-03T25:00:00Z"), 422, "time"),
    "a time without a zone": (plain(time="2026-02-03T10:00:00"), 422, "time"),
    "a date": (plain(time="2026-02-03"), 422, "time"),
    "seconds since 1970": (plain(time=5), 422, "time"),
    "a time before the year 1": (plain(time="0001-01-01T00:00:00+10:00"), 422, "time"),
    "a time after the year 9999": (plain(time="9999-12-31T23:59:59-10:00"), 422, "time"),
    "a priority in words": (plain(priority="high"), 422, "priority"),
    "a true priority": (plain(priority=True), 422, "priority"),
    "a priority beyond bounds": (plain(priority=10**9), 422, "priority"),
    "an unknown field of the data": (plain(data={"txet": "x"}), 422, "data.txet"),
    "a wrong field of the data": (plain(data={"text": ["x"]}), 422, "data.text"),
    "data that is no object": (plain(data=[1]), 422, "data"),
    "data too deep to keep": (nested(101), 422, "data"),
    "data very deep": (nested(900), 422, "data"),
    "a deep type": (b'{"type":' + b"[" * 900 + b"]" * 900 + b',"data":{}}', 422, "type"),
}


@pytest.mark.parametrize("case", BODIES)
async def test_a_bad_body_is_refused(http: httpx.AsyncClient, case: str) -> None:
    body, status, field = BODIES[case]
    answer = await http.post(EVENTS, content=body, headers=JSON)
    assert (answer.status_code, field) == (status, answer.json()["errors"][0]["field"]), answer.text
    check_problem(answer)


CLOUD_BODIES: dict[str, tuple[bytes, str]] = {
    "no id": (orjson.dumps({"specversion": "1.0", "source": "/", "type": "t", "data": 1}), "id"),
    "another version": (cloud(specversion="0.3"), "specversion"),
    "an empty source": (cloud(source=""), "source"),
    "an extension we do not know": (cloud(partitionkey="1"), "partitionkey"),
    "binary data": (cloud(data_base64="AA=="), "data_base64"),
    "other data": (cloud(datacontenttype="text/xml"), "datacontenttype"),
    "a bad trace context": (cloud(traceparent="00-1"), "traceparent"),
    "a field of the plain form": (cloud(target="test.noop"), "target"),
}


@pytest.mark.parametrize("case", CLOUD_BODIES)
async def test_a_bad_cloud_event_is_refused(http: httpx.AsyncClient, case: str) -> None:
    body, field = CLOUD_BODIES[case]
    answer = await http.post(EVENTS, content=body, headers=CLOUD)
    assert (answer.status_code, field) == (422, answer.json()["errors"][0]["field"]), answer.text


@pytest.mark.parametrize(
    ("headers", "status", "field"),
    [
        ({"content-type": "text/plain"}, 415, "Content-Type"),
        ({"content-type": "application/json; charset=latin-1"}, 415, "Content-Type"),
        ({"content-type": "application/cloudevents-batch+json"}, 415, "Content-Type"),
        ({}, 415, "Content-Type"),
        (JSON | {"ce-specversion": "1.0"}, 415, "ce-specversion"),
        (JSON | {"idempotency-key": ""}, 422, "Idempotency-Key"),
        (JSON | {"idempotency-key": "two words"}, 422, "Idempotency-Key"),
        (JSON | {"idempotency-key": "x" * 256}, 422, "Idempotency-Key"),
        (JSON | {"idempotency-key": "ключ".encode()}, 422, "Idempotency-Key"),
    ],
)
async def test_bad_headers_are_refused(
    http: httpx.AsyncClient, headers: dict[str, Any], status: int, field: str
) -> None:
    answer = await http.post(EVENTS, content=plain(), headers=headers)
    assert answer.status_code == status
    assert answer.json()["errors"][0]["field"] == field


async def test_two_idempotency_keys_are_refused(http: httpx.AsyncClient) -> None:
    headers = [*JSON.items(), ("idempotency-key", "a"), ("idempotency-key", "b")]
    assert (await http.post(EVENTS, content=plain(), headers=headers)).status_code == 422


@pytest.mark.parametrize(
    ("method", "path", "field"),
    [
        ("POST", f"{EVENTS}?wait=61", "wait"),
        ("POST", f"{EVENTS}?wait=-1", "wait"),
        ("POST", f"{EVENTS}?wait=nan", "wait"),
        ("POST", f"{EVENTS}?wait=soon", "wait"),
        ("POST", f"{EVENTS}?wiat=1", "wiat"),
        ("GET", f"{EVENTS}?limit=0", "limit"),
        ("GET", f"{EVENTS}?limit=201", "limit"),
        ("GET", f"{EVENTS}?limit=1&limit=2", "limit"),
        ("GET", f"{EVENTS}?before=1", "before"),
        ("GET", f"{EVENTS}?status=done", "status"),
        ("GET", f"{EVENTS}?target=a%00b", "target"),
        ("GET", f"{EVENTS}?since=yesterday", "since"),
        ("GET", f"{EVENTS}?until=2026-13-01T00:00:00Z", "until"),
        ("GET", "/api/v1/executions?pipelne=x", "pipelne"),
        ("GET", "/api/v1/executions?event_id=7", "event_id"),
        ("GET", "/api/v1/pipelines?x=1", "x"),
        ("GET", "/healthz?x=1", "x"),
        ("GET", f"/api/v1/executions/{NOBODY}/stream?after=x", "after"),
        ("GET", f"/api/v1/executions/{NOBODY}/stream?after={OTHER}:1", "after"),
    ],
)
async def test_bad_queries_are_refused(
    http: httpx.AsyncClient, method: str, path: str, field: str
) -> None:
    answer = await http.request(
        method, path, content=plain() if method == "POST" else None, headers=JSON
    )
    assert (answer.status_code, field) == (422, answer.json()["errors"][0]["field"]), answer.text


@pytest.mark.parametrize("wrong", ["x", "..", "%00", "0" * 36, NOBODY.upper(), NOBODY])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "events/{}"),
        ("POST", "events/{}/cancel"),
        ("GET", "executions/{}"),
        ("GET", "executions/{}/stream"),
        ("GET", "executions/{}/export"),
        ("POST", "executions/{}/cancel"),
        ("GET", "pipelines/{}"),
    ],
)
async def test_what_is_not_there_is_not_found(
    http: httpx.AsyncClient, method: str, path: str, wrong: str
) -> None:
    answer = await http.request(method, f"/api/v1/{path.format(wrong)}")
    assert answer.status_code == 404
    check_problem(answer)


async def test_a_body_over_the_limit_is_refused_whatever_its_length_says(
    http: httpx.AsyncClient,
) -> None:
    big = plain(data={"text": "x" * MAX_EVENT_BYTES})

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(big), 65536):
            yield big[at : at + 65536]

    for content in (big, pieces()):  # with Content-Length, and chunked without one
        answer = await http.post(EVENTS, content=content, headers=JSON)
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


async def test_a_body_at_the_limit_is_read(http: httpx.AsyncClient) -> None:
    body = plain(type="test.nowhere", data={"text": "x"})
    body += b" " * (MAX_EVENT_BYTES - len(body))
    answer = await http.post(EVENTS, content=body, headers=JSON)
    assert answer.json()["code"] == "unknown_pipeline"


async def test_a_body_that_never_comes_stores_nothing(
    http: httpx.AsyncClient, hub: HubForTests
) -> None:
    reader, writer = await asyncio.open_connection(http.base_url.host, http.base_url.port)
    head = f"POST {EVENTS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: 500\r\n\r\n".encode() + plain())
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert await reader.read() == b""
    assert (await http.get("/healthz")).status_code == 200


async def test_cancel_takes_no_body_and_no_query(http: httpx.AsyncClient) -> None:
    path = f"{EVENTS}/{new_id()}/cancel"
    assert (await http.post(path, json={"reason": "x"})).status_code == 422
    assert (await http.post(path, params={"force": 1})).status_code == 422


async def test_a_wrong_method_names_the_right_ones(http: httpx.AsyncClient) -> None:
    answer = await http.delete(EVENTS)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")
    check_problem(answer)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8001", "", "localhost."])
async def test_requests_for_another_host_are_refused(http: httpx.AsyncClient, host: str) -> None:
    answer = await http.post(EVENTS, content=plain(), headers=JSON | {"host": host})
    assert (answer.status_code, answer.json()["code"]) == (421, "wrong_host")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8001", "[::1]:8001"])
async def test_loopback_by_any_name_is_this_host(http: httpx.AsyncClient, host: str) -> None:
    assert (await http.get("/healthz", headers={"host": host})).status_code == 200


def check_problem(answer: httpx.Response) -> None:
    body = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert body["status"] == answer.status_code
    assert body["type"] == f"urn:holdfast:problem:{body['code']}"
    assert body["title"]
    assert body["detail"]
    for place in body.get("errors", []):
        assert place.keys() == {"field", "expected", "got"}

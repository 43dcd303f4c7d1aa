"""The small parts of the API: what each decides by itself."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson
import pytest
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from holdfast import errors
from holdfast.api import problems
from holdfast.api.fields import read_time
from holdfast.api.hosts import host_name
from holdfast.api.in_process import InProcessTransport
from holdfast.api.intake import _traceparent
from holdfast.api.problems import Faults, problem
from holdfast.api.requests import decode, media_type
from holdfast.api.responses import json, page_body
from holdfast.api.streaming import frame, position
from holdfast.client.answers import ERRORS, entries_of
from holdfast.domain.ids import new_id
from holdfast.errors import (
    HoldfastError,
    HubFault,
    InvalidInput,
    MalformedBody,
    ModelError,
    StoreError,
    StoreOutdated,
    StoreRefused,
    UnsupportedMedia,
)
from holdfast.operations.progress import Entry
from holdfast.telemetry import configure_logging

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-11-20T10:00:00Z", datetime(2026, 11, 20, 10, tzinfo=UTC)),
        ("2026-11-20t10:00:00.5z", datetime(2026, 11, 20, 10, 0, 0, 500_000, UTC)),
        ("2026-11-20T00:30:00.123456789+01:00", datetime(2026, 11, 19, 23, 30, 0, 123456, UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
    ],
)
def test_times_are_read_exactly(text: str, time: datetime) -> None:
    assert read_time(text) == time


@pytest.mark.parametrize(
    "value", ["", "now", "2026-11-20", "20261120T100000Z", "2026-W01-1T10:00:00Z", 1, None, "٢"]
)
def test_what_is_no_time_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="RFC 3339"):
        read_time(value)


@pytest.mark.parametrize(
    ("header", "kept"),
    [
        (PARENT, True),
        (PARENT.replace("00-", "cc-", 1) + "-later", True),
        (PARENT + "-later", False),
        (PARENT.replace("00-", "ff-", 1), False),
        (PARENT.upper(), False),
        ("00-" + "0" * 32 + "-b7ad6b7169203331-01", False),
        ("00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01", False),
        (PARENT + "\n", False),
        ("", False),
        (None, False),
    ],
)
def test_only_a_w3c_trace_context_is_kept(header: str | None, kept: bool) -> None:
    assert _traceparent(header) == (header if kept else None)


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("localhost:8001", "localhost"),
        ("127.0.0.1", "127.0.0.1"),
        ("[::1]:8001", "::1"),
        ("EVIL.example", "evil.example"),
        ("localhost@evil.example", "localhost@evil.example"),
        ("[::1", "::1"),
        ("", ""),
    ],
)
def test_the_host_of_a_header(header: str, host: str) -> None:
    assert host_name(header) == host


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "the body is empty"),
        (b" \n", "the body is empty"),
        (b'{"a": 1,\n "b": }', "line 2, column 7"),
        (b'{"a": "\xc3("}', "byte 0xc3 at offset 7"),
        (b'\xef\xbb\xbf{"a": 1}', "not JSON"),
    ],
)
def test_a_malformed_body_is_told_where(body: bytes, told: str) -> None:
    with pytest.raises(MalformedBody) as refused:
        decode(body)
    assert told in refused.value.message


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("application/json", "application/json"),
        ('Application/JSON ; Charset="UTF-8"', "application/json"),
        ("application/json; charset=utf-8; x=y", "application/json"),
        ("application/json; charset=utf-16", None),
        ("application/jsonp", None),
        ("", None),
    ],
)
def test_media_types(given: str, found: str | None) -> None:
    request = Request({"type": "http", "headers": [(b"content-type", given.encode())]})
    if found is None:
        with pytest.raises(UnsupportedMedia):
            media_type(request, "application/json")
    else:
        assert media_type(request, "application/json") == found


def test_positions_in_a_stream() -> None:
    mine = new_id()
    assert position("after", f"{mine}:12", mine) == position("after", "12", mine) == 12
    for wrong in (f"{new_id()}:12", f"{mine}:", ":1", "-1", "1.0", "1\n", "٣"):
        with pytest.raises(InvalidInput) as refused:
            position("after", wrong, mine)
        assert refused.value.fields[0]["field"] == "after"


async def test_entries_survive_the_wire_whatever_their_text() -> None:
    text = "one\ntwo\r\n\n\x85\u2028\u2029 data: x\n\nid: 5 \\ \0 ü"
    sent = [
        Entry(0, "execution.started", {"text": text}),
        Entry(None, "heartbeat", {}),
        Entry(None, "tokens", {"text": text}),
        Entry(7, "execution.finished", {}),
    ]
    wire = b"".join(frame("x", entry) for entry in sent)
    for size in (1, 3, len(wire)):

        async def pieces(size: int = size):
            for at in range(0, len(wire), size):
                yield wire[at : at + size]

        found = [entry async for entry in entries_of(httpx.Response(200, content=pieces()))]
        assert [(entry.id, entry.type, entry.data) for entry in found] == [
            ("x:0", "execution.started", {"text": text}),
            (None, "tokens", {"text": text}),
            ("x:7", "execution.finished", {}),
        ]


def test_a_problem_has_what_the_standard_asks_for() -> None:
    error = InvalidInput(
        "data.x: wrong", hint="see", fields=[{"field": "data.x", "expected": "1", "got": 2}]
    )
    answer = problem(error)
    assert (answer.status_code, answer.media_type) == (422, "application/problem+json")
    assert orjson.loads(answer.body) == {
        "type": "urn:holdfast:problem:invalid_input",
        "title": "Unprocessable Entity",
        "status": 422,
        "detail": "data.x: wrong",
        "code": "invalid_input",
        "hint": "see",
        "errors": [{"field": "data.x", "expected": "1", "got": 2}],
    }


def test_a_database_that_is_away_asks_to_come_again() -> None:
    answer = problem(StoreOutdated("older"))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert orjson.loads(answer.body)["code"] == "store_outdated"


def test_an_error_without_a_status_of_its_own_tells_nothing() -> None:
    configure_logging("critical")
    answer = problem(ModelError("key sk-123 was refused"))
    assert answer.status_code == 500
    assert b"sk-123" not in answer.body


def test_every_error_with_a_status_comes_back_as_itself() -> None:
    shown = {kind for kind, status in problems.STATUS.items() if status != 500}
    assert shown | {HubFault} <= set(ERRORS.values())
    assert {ERRORS[code].code for code in ERRORS} == set(ERRORS)
    everything = {kind for kind in vars(errors).values() if isinstance(kind, type)}
    refused = {kind for kind in everything if issubclass(kind, InvalidInput | StoreError)}
    assert refused - {StoreRefused} <= set(ERRORS.values()), (
        "the client must know what the hub may answer"
    )


def test_a_page_ends_when_it_is_not_full() -> None:
    items = [{"id": "b"}, {"id": "a"}]
    query = {"status": "dead", "before": "c"}
    assert page_body(items, "/x", query, 2)["next"] == "/x?status=dead&before=a"
    assert page_body(items, "/x", query, 3)["next"] is None
    assert page_body([], "/x", query, 1)["next"] is None


def test_whatever_a_model_answered_can_be_shown() -> None:
    assert orjson.loads(json({"text": "\ud800", "big": 1 << 70}).body)


async def broken(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("sk-123")


async def test_a_fault_becomes_a_500_without_internals() -> None:
    configure_logging("critical")
    async with httpx.AsyncClient(transport=InProcessTransport(Faults(broken))) as http:
        answer = await http.get("http://localhost/")
    assert (answer.status_code, answer.json()["code"]) == (500, "hub_fault")
    assert "sk-123" not in answer.text


async def test_in_process_an_answer_comes_piece_by_piece() -> None:
    go_on, left = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert (scope["path"], scope["query_string"]) == ("/a b", b"q=1")
        first: Message = await receive()
        await send({"type": "http.response.start", "status": 201, "headers": [(b"x", b"y")]})
        await send({"type": "http.response.body", "body": first["body"], "more_body": True})
        await go_on.wait()
        await send({"type": "http.response.body", "body": b"two", "more_body": True})
        assert (await receive())["type"] == "http.disconnect"
        left.set()

    async with httpx.AsyncClient(transport=InProcessTransport(app)) as http:
        async with http.stream("POST", "http://localhost/a b?q=1", content=b"one") as answer:
            assert (answer.status_code, answer.headers["x"]) == (201, "y")
            pieces = answer.aiter_bytes()
            assert await anext(pieces) == b"one"
            go_on.set()
            assert await anext(pieces) == b"two"
        await asyncio.wait_for(left.wait(), 5)


async def test_in_process_a_failing_application_fails_the_request() -> None:
    async with httpx.AsyncClient(transport=InProcessTransport(broken)) as http:
        with pytest.raises(RuntimeError, match="sk-123"):
            await http.get("http://localhost/")


def test_errors_know_no_http() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    assert all(not hasattr(kind, "status") for kind in kinds if issubclass(kind, HoldfastError))

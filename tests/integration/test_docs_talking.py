"""docs/talking.md and docs/sessions.md: what they show is what comes."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from holdfast.agents import schemas
from holdfast.api import agent_schemas
from holdfast.domain.conversations import MAX_TEXT_CHARS
from holdfast.domain.events import MAX_EVENT_BYTES

from .agent_stand import MODELS, Stand, line, stand
from .conftest import TIMEOUT_S, OpenHub

DOCS = Path(__file__).parents[2] / "docs"
TALKING = (DOCS / "talking.md").read_text()
SESSIONS = (DOCS / "sessions.md").read_text()

JSON = re.findall(r"```json\n(.*?)```", TALKING, re.DOTALL)
SAID, FRAMES, CHANNEL = JSON


@pytest.fixture
async def at(open_hub: OpenHub, hub_environ: dict[str, str]) -> AsyncIterator[Stand]:
    hub_environ["HOLDFAST_MODELS"] = MODELS
    async with open_hub(in_process=True) as hub, stand(hub) as opened:
        await opened.make()
        yield opened


def http(page: str) -> list[tuple[str, str, Any]]:
    """Method, path and body of each request that a page shows."""
    found = re.findall(
        r"^(GET|POST|PUT|PATCH|DELETE) +(/api\S+)(?:\s+(\{[^`]*?\}))?$", page, re.MULTILINE
    )
    return [(method, path, orjson.loads(body) if body else None) for method, path, body in found]


async def test_the_message_of_the_page_is_answered_as_it_says(at: Stand) -> None:
    ((method, path, body),) = http(TALKING)[:1]
    answer = await at.http.request(method, path, json=body)
    assert answer.status_code == 200, answer.text
    shown = orjson.loads(SAID)
    agent_schemas.Said.model_validate(shown)
    told = answer.json()
    assert shape(told) == shape(shown) | {"links.execution"}
    assert (told["answer"]["chat_id"], told["answer"]["channel"]) == ("42", "desk")
    fields = {
        field
        for row in re.findall(r"^\| (`[a-z_`, ]+) \|", TALKING, re.MULTILINE)
        for field in re.findall(r"`([a-z_]+)`", row)
    }
    assert fields >= set(schemas.Incoming.model_fields)


def shape(value: Any, at: str = "") -> set[str]:
    """The names of all fields."""
    if not isinstance(value, dict):
        return {at}
    return {one for name, part in value.items() for one in shape(part, f"{at}.{name}".strip("."))}


async def test_the_frames_of_the_page_are_taken(at: Stand) -> None:
    message, resume, ping = [orjson.loads(one) for one in FRAMES.strip().splitlines()]
    async with line(at.url, "helper") as talk:
        await talk.send(**message)
        told = await talk.next("accepted", ref=message["ref"])
        answer = await talk.next("message")
        await talk.send(**resume | {"session_id": told["session_id"], "after": told["message_id"]})
        assert (await talk.next("message"))["message_id"] == answer["message_id"]
        await talk.send(**ping)
        await talk.next("pong")
    assert {one["type"] for one in talk.heard} - {"accepted", "pong"} <= frames_told()


def frames_told() -> set[str]:
    """The types that the page explains."""
    table = TALKING.split("| type | tells |")[1].split("\n\n")[0]
    return set(re.findall(r"^\| `([a-z]+)` \|", table, re.MULTILINE))


def test_every_frame_is_told_and_every_number_is_so() -> None:
    out = {one.model_fields["type"].default for one in schemas.FrameOut.__args__}
    assert frames_told() == out - {"accepted", "pong"}
    assert "`accepted`" in TALKING
    assert f"{MAX_TEXT_CHARS:,} characters" in TALKING
    assert MAX_EVENT_BYTES == 1024 * 1024
    schemas.Incoming.model_validate_json(CHANNEL)


async def test_the_requests_of_the_page_on_sessions_work(at: Stand) -> None:
    made, *others = http(SESSIONS)
    session = (await at.http.request(made[0], made[1], json=made[2])).json()
    said = await at.say("helper", "hello", session_id=session["id"], wait=TIMEOUT_S)
    message_id = said.json()["answer"]["message_id"]
    last: list[tuple[str, str, Any]] = []
    for method, path, body in others:
        if method == "DELETE":
            last.append((method, path, body))
            continue
        where = path.replace("{id}", session["id"]).replace("{message_id}", message_id)
        answer = await at.http.request(method, where, json=body)
        assert answer.status_code == 200, (where, answer.text)
    for method, path, _ in last:
        answer = await at.http.request(method, path.replace("{id}", session["id"]))
        assert answer.status_code == 200, answer.text

"""Sessions over HTTP: made, listed, renamed, archived, deleted; what was said in them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from holdfast.api import agent_schemas as schemas
from holdfast.domain.ids import new_id
from holdfast.testing.postgres import PostgresForTests

from .agent_stand import MODELS, Stand, stand
from .conftest import OpenHub

NOBODYS = "01a1faa7-c2d6-732f-9bdb-f91e4c51c512"


@pytest.fixture(params=["sqlite", "postgresql"])
def database(
    request: pytest.FixtureRequest, hub_environ: dict[str, str], postgres: PostgresForTests
) -> str:
    hub_environ["HOLDFAST_MODELS"] = MODELS
    if request.param == "postgresql":
        hub_environ["HOLDFAST_DATABASE_URL"] = postgres.migrated()
    return request.param


@pytest.fixture
async def at(open_hub: OpenHub, database: str) -> AsyncIterator[Stand]:
    """A hub with an agent whose messages wait."""
    async with open_hub(in_process=True) as hub, stand(hub) as opened:
        await opened.make()
        await opened.off()
        yield opened


async def make(at: Stand, status: int = 201, **fields: Any) -> dict[str, Any]:
    answer = await at.http.post("/api/v1/sessions", json={"agent": "helper", **fields})
    assert answer.status_code == status, answer.text
    schemas.Session.model_validate(answer.json())
    return answer.json()


async def test_a_session_is_made_before_anything_is_said(at: Stand) -> None:
    made = await make(at, title="A question", user={"name": "Ada"}, metadata={"tags": ["a"]})
    assert made["agent"]["name"] == "helper"
    assert (made["status"], made["turns"], made["messages"]) == ("active", 0, 0)
    assert await at.get(f"/sessions/{made['id']}") == made
    told = (await at.say("helper", "hello", session_id=made["id"])).json()
    assert told["session_id"] == made["id"]
    now = await at.get(f"/sessions/{made['id']}")
    assert (now["turns"], now["messages"], now["title"]) == (1, 1, "A question")


async def test_a_chat_has_one_session(at: Stand) -> None:
    made = await make(at, channel="telegram", chat_id="42")
    assert (await make(at, 200, channel="telegram", chat_id="42"))["id"] == made["id"]
    assert (await make(at, channel="slack", chat_id="42"))["id"] != made["id"]
    told = (await at.say("helper", "hi", channel="telegram", chat_id="42")).json()
    assert told["session_id"] == made["id"]
    fresh = (await at.say("helper", "hi", chat_id="42", platform_user_id="7")).json()
    assert fresh["session_id"] != made["id"]
    session = await at.get(f"/sessions/{fresh['session_id']}")
    assert (session["channel"], session["user"], session["title"]) == ("api", {"id": "7"}, "hi")
    again = (await at.say("helper", "more", chat_id="42")).json()
    assert again["session_id"] == fresh["session_id"]


async def test_without_a_chat_each_message_begins_a_session(at: Stand) -> None:
    first = (await at.say("helper", "one\ntwo")).json()["session_id"]
    second = (await at.say("helper", "x" * 200)).json()["session_id"]
    assert first != second
    assert (await at.get(f"/sessions/{first}"))["title"] == "one"
    assert (await at.get(f"/sessions/{second}"))["title"] == "x" * 79 + "…"


async def test_sessions_come_with_the_newest_activity_first_in_pages(at: Stand) -> None:
    ids = [(await make(at, title=str(n)))["id"] for n in range(5)]
    await at.make("other")
    await make(at, title="elsewhere", agent="other")
    await at.say("helper", "hi", session_id=ids[1])
    expected = [ids[1], ids[4], ids[3], ids[2], ids[0]]
    first = await at.get("/sessions", agent="helper", limit=2)
    schemas.SessionPage.model_validate(first)
    found, page = first["items"], first
    while page["next"]:
        page = (await at.http.get(page["next"])).json()
        found += page["items"]
    assert [one["id"] for one in found] == expected
    assert len((await at.get("/sessions"))["items"]) == 6
    assert (await at.http.get("/api/v1/sessions?agent=nobody")).status_code == 404
    wrong = await at.http.get("/api/v1/sessions?after=yesterday")
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "after")


async def test_a_session_is_renamed_archived_and_taken_back(at: Stand) -> None:
    made = await make(at)
    path = f"/api/v1/sessions/{made['id']}"
    changed = await at.http.patch(path, json={"title": "Renamed", "metadata": {"x": 1}})
    assert (changed.json()["title"], changed.json()["metadata"]) == ("Renamed", {"x": 1})
    await at.http.patch(path, json={"status": "archived"})
    assert [one["id"] for one in (await at.get("/sessions", status="archived"))["items"]] == [
        made["id"]
    ]
    assert (await at.get("/sessions", status="active"))["items"] == []
    refused = await at.say("helper", "hi", session_id=made["id"])
    assert (refused.status_code, refused.json()["code"]) == (409, "illegal_move")
    assert await at.messages(made["id"]) == []
    await at.http.patch(path, json={"status": "active"})
    assert (await at.say("helper", "hi", session_id=made["id"])).status_code == 202
    assert (await at.get(f"/sessions/{made['id']}"))["title"] == "Renamed"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"status": "gone"}, "status"),
        ({"title": "x" * 201}, "title"),
        ({"name": "x"}, "name"),
        ({"metadata": {"n": 2**70}}, "metadata"),
    ],
)
async def test_a_wrong_change_is_refused(at: Stand, body: Any, field: str) -> None:
    made = await make(at)
    answer = await at.http.patch(f"/api/v1/sessions/{made['id']}", json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field
    assert await at.get(f"/sessions/{made['id']}") == made


async def test_a_session_goes_with_everything_in_it(at: Stand) -> None:
    kept = (await at.say("helper", "stays")).json()
    told = (await at.say("helper", "secret words")).json()
    gone = await at.http.delete(f"/api/v1/sessions/{told['session_id']}")
    assert (gone.status_code, gone.json()) == (200, {"deleted": told["session_id"]})
    for path in (
        f"/sessions/{told['session_id']}",
        f"/sessions/{told['session_id']}/messages",
        f"/events/{told['id']}",
    ):
        assert (await at.http.get(f"/api/v1{path}")).status_code == 404, path
    assert (await at.http.delete(f"/api/v1/sessions/{told['session_id']}")).status_code == 404
    assert await at.messages(kept["session_id"]) == [("user", "stays")]


async def test_messages_come_in_pages_newest_first(at: Stand) -> None:
    session_id = (await make(at))["id"]
    for n in range(5):
        await at.say("helper", f"m{n}", session_id=session_id)
    page = await at.get(f"/sessions/{session_id}/messages", limit=2)
    schemas.MessagePage.model_validate(page)
    said = [one["content"] for one in page["items"]]
    while page["next"]:
        page = (await at.http.get(page["next"])).json()
        said += [one["content"] for one in page["items"]]
    assert said == ["m4", "m3", "m2", "m1", "m0"]
    foreign = await at.http.get(f"/api/v1/sessions/{session_id}/messages?before={new_id()}")
    assert foreign.status_code == 404


async def test_only_answers_are_worth_something(at: Stand) -> None:
    told = (await at.say("helper", "hello")).json()
    path = f"/api/v1/sessions/{told['session_id']}/messages/{told['message_id']}/feedback"
    refused = await at.http.put(path, json={"feedback": "like"})
    assert (refused.status_code, refused.json()["code"]) == (409, "illegal_move")
    other = (await make(at))["id"]
    elsewhere = f"/api/v1/sessions/{other}/messages/{told['message_id']}/feedback"
    assert (await at.http.put(elsewhere, json={"feedback": "like"})).status_code == 404
    for body in ({}, {"feedback": "love"}, {"feedback": "like", "stars": 5}):
        assert (await at.http.put(path, json=body)).status_code == 422


@pytest.mark.parametrize("session_id", ["x", NOBODYS])
async def test_there_is_no_such_session(at: Stand, session_id: str) -> None:
    path = f"/api/v1/sessions/{session_id}"
    for method, rest in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/messages")):
        json = {} if method == "PATCH" else None
        answer = await at.http.request(method, path + rest, json=json)
        assert answer.status_code == 404, (method, rest)

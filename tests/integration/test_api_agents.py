"""Agents over HTTP: configured in versions, wanted on and off, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from holdfast.api import agent_schemas as schemas
from holdfast.domain.agents import AGENT, ProcessStatus
from holdfast.domain.events import LOCAL_OWNER
from holdfast.domain.ids import new_id
from holdfast.operations.agent_logs import MAX_BYTES, log_path
from holdfast.store.commands import MoveProcess, TakeProcesses
from holdfast.store.queries import CountEvents
from holdfast.testing.postgres import PostgresForTests

from .agent_stand import MODELS, Stand, config, stand
from .conftest import TIMEOUT_S, OpenHub

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
    async with open_hub(in_process=True) as hub, stand(hub) as opened:
        yield opened


async def test_an_agent_is_made_shown_and_deleted(at: Stand) -> None:
    made = await at.make()
    schemas.AppliedAgent.model_validate(made)
    assert (made["name"], made["version"], made["change"]) == ("helper", 1, "created")
    assert made["config"] == config()
    for ref in (made["id"], "helper"):
        shown = await at.get(f"/agents/{ref}")
        schemas.Agent.model_validate(shown)
        assert shown["id"] == made["id"]
        assert shown["process"]["status"] == "stopped"
    assert [one["name"] for one in (await at.get("/agents"))["items"]] == ["helper"]
    gone = await at.http.delete("/api/v1/agents/helper")
    assert (gone.status_code, gone.json()) == (200, {"deleted": "helper"})
    assert (await at.http.get(f"/api/v1/agents/{made['id']}")).status_code == 404


async def test_agents_come_in_pages_by_name(at: Stand) -> None:
    for name in ("c", "a", "b"):
        await at.make(name)
    first = await at.get("/agents", limit=2)
    assert [one["name"] for one in first["items"]] == ["a", "b"]
    rest = (await at.http.get(first["next"])).json()
    assert ([one["name"] for one in rest["items"]], rest["next"]) == (["c"], None)


async def test_each_change_is_a_version_that_can_be_compared_and_brought_back(at: Stand) -> None:
    await at.make(system_prompt="Be kind.")

    async def put(**settings: Any) -> dict[str, Any]:
        body = {"config": config(**settings)}
        answer = await at.http.put("/api/v1/agents/helper", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    changed = await put(system_prompt="Be brief.")
    assert (changed["version"], changed["change"]) == (2, "changed")
    assert (await put(system_prompt="Be brief."))["change"] == "same"
    assert (await put(system_prompt="Be brief.", markdown=False))["version"] == 3

    listed = await at.get("/agents/helper/versions")
    schemas.AgentVersionList.model_validate(listed)
    assert [one["version"] for one in listed["items"]] == [3, 2, 1]
    one = await at.get("/agents/helper/versions/1")
    assert one["config"] == config(system_prompt="Be kind.")

    compared = await at.get("/agents/helper/diff", a=1, b=2)
    schemas.AgentDiff.model_validate(compared)
    (part,) = compared["parts"]
    assert part["part"] == "config"
    assert [line.strip() for line in part["lines"] if line[0] in "+-"] == [
        '-      "system_prompt": "Be kind."',
        '+      "system_prompt": "Be brief."',
    ]
    assert (await at.get("/agents/helper/diff", a=2, b=2))["same"]

    back = await at.http.post("/api/v1/agents/helper/rollback")
    assert back.status_code == 200, back.text
    assert back.json()["config"] == config(system_prompt="Be brief.")
    again = await at.http.post("/api/v1/agents/helper/rollback")
    assert again.json()["config"] == config(system_prompt="Be kind.")
    assert (await at.get("/agents/helper/versions/5"))["undoes"] == 1
    assert (await at.http.post("/api/v1/agents/helper/rollback")).status_code == 409
    third = await at.http.post("/api/v1/agents/helper/rollback", json={"version": 3})
    assert (third.json()["version"], third.json()["config"]) == (
        6,
        config(system_prompt="Be brief.", markdown=False),
    )
    assert (
        await at.http.post("/api/v1/agents/helper/rollback", json={"version": 99})
    ).status_code == 404


async def test_applying_makes_changes_or_leaves(at: Stand) -> None:
    body: dict[str, Any] = {"config": config(), "description": "helps"}
    tried = await at.http.put("/api/v1/agents/new", json=body, params={"dry_run": True})
    assert (tried.status_code, tried.json()["change"]) == (201, "created")
    assert (await at.http.get("/api/v1/agents/new")).status_code == 404
    made = await at.http.put("/api/v1/agents/new", json=body)
    assert (made.status_code, made.json()["change"]) == (201, "created")
    same = await at.http.put("/api/v1/agents/new", json=body)
    assert (same.status_code, same.json()["change"]) == (200, "same")
    moved = await at.http.put("/api/v1/agents/new", json=body | {"expected": 7})
    assert (moved.status_code, moved.json()["code"]) == (409, "version_moved")
    renamed = await at.http.put("/api/v1/agents/new", json=body | {"name": "newer"})
    assert (renamed.json()["name"], renamed.json()["description"]) == ("newer", "helps")
    await at.make("other")
    taken = await at.http.put("/api/v1/agents/other", json=body | {"name": "newer"})
    assert (taken.status_code, taken.json()["code"]) == (409, "name_taken")
    again = await at.http.post("/api/v1/agents", json=body | {"name": "newer"})
    assert (again.status_code, again.json()["code"]) == (409, "name_taken")
    by_id = await at.http.put(f"/api/v1/agents/{new_id()}", json=body)
    assert by_id.status_code == 404


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"temprature": 1}, "simple.settings.temprature"),
        ({"temperature": 3}, "simple.settings.temperature"),
        ({"limits": {"steps": 0}}, "simple.settings.limits.steps"),
        ({"model": "none"}, "simple.settings.model"),
        ({"temperature": 0.5}, "simple.settings.temperature"),  # which rules do not take
        ({"parameters": {"top_p": 1}}, "simple.settings.parameters.top_p"),
        (
            {"model": None, "provider": "nobody", "model_id": "x"},
            "simple.settings.provider",
        ),
        ({"critique": {"model": "none"}}, "simple.settings.critique.model"),
        ({"prompt": "nobody/wrote"}, "simple.settings.prompt"),
        ({"tools": [{"type": "function", "path": "talking_app"}]}, "simple.settings.tools.0.path"),
        ({"secrets": {"TOKEN": "abc"}}, "simple.settings.secrets.TOKEN"),
        (
            {"integrations": [{"type": "telegram", "settings": {"token": "123:abc"}}]},
            "simple.settings.integrations.0.settings.token",
        ),
    ],
)
async def test_a_wrong_configuration_is_refused_with_the_place(
    at: Stand, settings: dict[str, Any], field: str
) -> None:
    for method, path in (("POST", "/api/v1/agents"), ("PUT", "/api/v1/agents/bad")):
        body = {"config": config(**settings)} | ({"name": "bad"} if method == "POST" else {})
        answer = await at.http.request(method, path, json=body)
        assert answer.status_code == 422, answer.text
        assert field in [one["field"] for one in answer.json()["errors"]]
    assert "abc" not in answer.text
    assert (await at.get("/agents"))["items"] == []


@pytest.mark.parametrize(
    "settings",
    [
        {"tools": [{"type": "function", "path": "talking_app:no_such"}]},
        {"tools": [{"type": "function", "path": "no_such_module:f"}]},
        {"rules": "talking_app:no_such"},
    ],
)
async def test_what_cannot_be_imported_is_refused(at: Stand, settings: dict[str, Any]) -> None:
    body = {"name": "bad", "config": config(**settings)}
    answer = await at.http.post("/api/v1/agents", json=body)
    assert answer.status_code == 422, answer.text
    assert "no_such" in answer.json()["detail"]
    assert answer.json()["errors"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "Bad Name", "config": config()}, "name"),
        ({"name": NOBODYS, "config": config()}, "name"),
        ({"name": "a", "config": config(), "colour": "red"}, "colour"),
        ({"name": "a"}, "config"),
        ({"name": "a", "config": config(), "description": "x" * 2001}, "description"),
    ],
)
async def test_a_wrong_body_makes_no_agent(at: Stand, body: Any, field: str) -> None:
    answer = await at.http.post("/api/v1/agents", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"] == field


async def test_secrets_are_shown_as_they_were_referred_to(at: Stand) -> None:
    made = await at.make(secrets={"DESK_TOKEN": "env:DESK_TOKEN"})
    assert made["config"]["simple"]["settings"]["secrets"] == {"DESK_TOKEN": "env:DESK_TOKEN"}


async def test_starting_and_stopping_is_a_wish_that_is_kept(at: Stand) -> None:
    made = await at.make()
    stopped = await at.http.post("/api/v1/agents/helper/stop")
    assert stopped.status_code == 202
    schemas.Process.model_validate(stopped.json())
    assert (stopped.json()["wanted"], stopped.json()["status"]) == ("off", "stopped")
    async with asyncio.timeout(TIMEOUT_S):
        told = await at.say("helper", "anybody there?", wait=60)
    assert told.status_code == 202
    schemas.Said.model_validate(told.json())
    assert (told.json()["agent_status"], told.json()["answer"]) == ("off", None)
    assert await at.messages(told.json()["session_id"]) == [("user", "anybody there?")]
    assert (await at.get(f"/agents/{made['id']}/status"))["wanted"] == "off"


async def test_asking_for_a_status_changes_nothing(at: Stand) -> None:
    made = await at.make()
    await at.http.post("/api/v1/agents/helper/stop")
    status = await at.get("/agents/helper/status")
    schemas.AgentStatus.model_validate(status)
    process = {name: value for name, value in status.items() if name != "compaction"}
    for _ in range(3):
        assert await at.get("/agents/helper/status") == status
        assert (await at.get("/agents"))["items"][0]["process"] == process
    assert made["process"] == process | {"wanted": "on"}


async def test_a_status_tells_who_writes_the_summaries(at: Stand) -> None:
    made = await at.make()
    told = (await at.get("/agents/helper/status"))["compaction"]
    alias = made["config"]["simple"]["settings"]["model"]
    assert told == {"enabled": True, "model": alias, "reason": ""}
    config = made["config"]
    config["simple"]["settings"]["memory"] = {"enabled": False}
    await at.http.put("/api/v1/agents/helper", json={"config": config})
    told = (await at.get("/agents/helper/status"))["compaction"]
    assert told == {"enabled": False, "model": None, "reason": "its memory is off"}


async def test_nobody_waits_for_an_agent_that_was_given_up(at: Stand) -> None:
    made = await at.make()
    await give_up(at, made["id"])
    async with asyncio.timeout(TIMEOUT_S):
        told = await at.say("helper", "hello", wait=60)
    assert (told.status_code, told.json()["agent_status"]) == (202, "error")
    assert told.json()["status"] == "queued"
    shown = await at.get("/agents/helper/status")
    assert shown["last_error"] == {"code": "agent_failed", "message": "it dies at once"}


async def give_up(at: Stand, agent_id: str) -> None:
    """As a hub does that has tried often enough."""
    store = at.hub.kit.store
    targets = [(agent_id, LOCAL_OWNER)]
    take = TakeProcesses(kind=AGENT, targets=targets, hub="h", host="x", lease_us=10_000_000)
    (taken,) = await store.write(take)
    assert await store.write(
        MoveProcess(
            kind=AGENT,
            target=agent_id,
            hub="h",
            fence=taken.fence,
            status=ProcessStatus.ERROR,
            last_error={"code": "agent_failed", "message": "it dies at once"},
        )
    )


# -- the log ---------------------------------------------------------------------------------


async def test_the_log_is_read_from_its_end_and_followed(at: Stand) -> None:
    made = await at.make()
    empty = await at.get("/agents/helper/logs")
    assert empty == {"lines": [], "offset": 0, "hub": None}
    path = log_path(at.hub.kit.home, made["id"])
    path.parent.mkdir(parents=True)
    path.write_text("".join(f"line {n}\n" for n in range(1000)) + "half a li")
    last = await at.get("/agents/helper/logs", tail=2)
    assert last["lines"] == ["line 998", "line 999"]
    assert (await at.get("/agents/helper/logs"))["lines"][0] == "line 800"
    with path.open("a") as file:
        file.write("ne\nmore\n")
    rest = await at.get("/agents/helper/logs", offset=last["offset"])
    assert rest["lines"] == ["half a line", "more"]
    assert (await at.get("/agents/helper/logs", offset=rest["offset"]))["lines"] == []
    path.write_text("begun anew\n")
    assert (await at.get("/agents/helper/logs", offset=rest["offset"]))["lines"] == ["begun anew"]
    both = await at.http.get("/api/v1/agents/helper/logs", params={"tail": 1, "offset": 1})
    assert both.status_code == 422


async def test_a_large_log_is_handed_out_in_parts(at: Stand) -> None:
    made = await at.make()
    path = log_path(at.hub.kit.home, made["id"])
    path.parent.mkdir(parents=True)
    lines = [f"{n:07d} {'x' * 90}" for n in range(30_000)]
    path.write_text("\n".join(lines) + "\n")
    assert path.stat().st_size > 2 * MAX_BYTES
    last = (await at.get("/agents/helper/logs", tail=10_000))["lines"]
    assert last == lines[-10_000:]
    read: list[str] = []
    offset = 0
    while True:
        part = await at.get("/agents/helper/logs", offset=offset)
        if not part["lines"]:
            break
        read += part["lines"]
        offset = part["offset"]
    assert read == lines


# -- what is refused -------------------------------------------------------------------------


async def test_a_message_of_two_megabytes_is_refused_and_nothing_is_stored(at: Stand) -> None:
    await at.make()
    answer = await at.say("helper", "x" * 2_000_000)
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert (await at.get("/sessions"))["items"] == []
    assert not any((await at.hub.kit.store.read(CountEvents())).values())
    assert (await at.say("helper", "shorter")).json()["created"], "answered yet or not"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"message": "hello"}, "text"),
        ({"text": "hello", "thread_id": "1"}, "thread_id"),
        ({"text": ""}, "text"),
        ({"text": " \n"}, "text"),
        ({"text": "x" * 200_001}, "text"),
        ({"text": "hi", "chat_id": 7}, "chat_id"),
        ({"text": "hi", "user_data": []}, "user_data"),
        ({"text": "hi", "user_data": {"n": 2**70}}, "user_data"),
        ({"text": "hi", "image_urls": ["file:///etc/passwd"]}, "image_urls.0"),
    ],
)
async def test_a_wrong_message_is_refused_with_the_field(at: Stand, body: Any, field: str) -> None:
    await at.make()
    answer = await at.http.post("/api/v1/agents/helper/messages", json=body)
    assert answer.status_code == 422, answer.text
    assert field in [one["field"] for one in answer.json()["errors"]]
    assert (await at.get("/sessions"))["items"] == []


async def test_there_is_no_agent_and_no_session_of_another_agent(at: Stand) -> None:
    await at.make("one")
    await at.make("two")
    await at.off("one")
    session = (await at.say("one", "hello")).json()["session_id"]
    assert (await at.say("nobody", "hello")).status_code == 404
    for foreign in (new_id(), session):
        answer = await at.say("two", "hello", session_id=foreign)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert await at.messages(session) == [("user", "hello")]


async def test_the_same_key_gives_the_same_turn(at: Stand) -> None:
    await at.make()
    await at.off()
    first = (await at.say("helper", "hello", key="k")).json()
    again = (await at.say("helper", "hello", key="k")).json()
    assert again == first | {"created": False}
    other = await at.say("helper", "goodbye", key="k")
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
    assert await at.messages(first["session_id"]) == [("user", "hello")]
    assert len((await at.get("/sessions"))["items"]) == 1


# -- answers ---------------------------------------------------------------------------------


async def test_who_waits_gets_the_answer(at: Stand) -> None:
    made = await at.make()
    told = await at.say("helper", "hello", chat_id="7", channel="desk", wait=TIMEOUT_S)
    assert told.status_code == 200, told.text
    body = told.json()
    schemas.Said.model_validate(body)
    assert (body["status"], body["agent_status"]) == ("succeeded", "running")
    answer = body["answer"]
    assert (answer["response"], answer["chat_id"], answer["channel"]) == (
        "you said: hello",
        "7",
        "desk",
    )
    assert await at.messages(body["session_id"]) == [
        ("user", "hello"),
        ("assistant", "you said: hello"),
    ]
    execution = await at.get(f"/executions/{answer['execution_id']}")
    assert (execution["kind"], execution["name"]) == ("agent", made["id"])
    assert (execution["session_id"], execution["status"]) == (body["session_id"], "succeeded")
    event = await at.get(f"/events/{body['id']}")
    listed = (await at.get("/executions"))["items"][0]
    for view in (execution, event, event["executions"][0], listed):
        assert view["agent"] == {"id": made["id"], "name": "helper"}
    again = await at.say("helper", "hello", chat_id="7", channel="desk", wait=0)
    assert again.status_code == 202


async def test_a_known_key_waits_for_the_same_answer(at: Stand) -> None:
    await at.make()
    first = await at.say("helper", "slow one", key="k")
    assert first.status_code == 202
    again = await at.say("helper", "slow one", key="k", wait=TIMEOUT_S)
    assert (again.status_code, again.json()["created"]) == (200, False)
    assert again.json()["answer"]["response"] == "slowly: one"
    assert again.json()["id"] == first.json()["id"]


async def test_messages_that_came_while_it_was_off_are_answered_in_order(at: Stand) -> None:
    await at.make()
    await at.http.post("/api/v1/agents/helper/stop")
    session_id = (await at.say("helper", "m0")).json()["session_id"]
    for n in range(1, 5):
        last = (await at.say("helper", f"m{n}", session_id=session_id)).json()
    started = await at.http.post("/api/v1/agents/helper/start")
    assert (started.status_code, started.json()["wanted"]) == (202, "on")
    await at.hub.ended(last["id"])
    said = await at.messages(session_id)
    assert said == [
        (role, f"{words}m{n}")
        for n in range(5)
        for role, words in (("user", ""), ("assistant", "you said: "))
    ]


async def test_an_answer_is_liked_or_not_and_that_is_taken_back(at: Stand) -> None:
    await at.make()
    told = (await at.say("helper", "hello", wait=TIMEOUT_S)).json()
    path = f"/api/v1/sessions/{told['session_id']}/messages/{told['answer']['message_id']}/feedback"
    for feedback, comment in (("like", "good"), ("dislike", None), (None, None)):
        answer = await at.http.put(path, json={"feedback": feedback, "comment": comment})
        assert answer.status_code == 200, answer.text
        schemas.Message.model_validate(answer.json())
        page = await at.get(f"/sessions/{told['session_id']}/messages")
        assert (page["items"][0]["feedback"], page["items"][0]["comment"]) == (feedback, comment)


async def test_an_agent_is_deleted_with_what_was_said_to_it(at: Stand) -> None:
    await at.make()
    told = (await at.say("helper", "private words", wait=TIMEOUT_S)).json()
    assert (await at.http.delete("/api/v1/agents/helper")).status_code == 200
    for path in (
        f"/sessions/{told['session_id']}",
        f"/events/{told['id']}",
        f"/executions/{told['answer']['execution_id']}",
    ):
        assert (await at.http.get(f"/api/v1{path}")).status_code == 404, path
    assert (await at.get("/sessions"))["items"] == []


async def test_a_new_version_answers_from_the_next_turn_on(at: Stand) -> None:
    await at.make()
    first = (await at.say("helper", "hello", wait=TIMEOUT_S)).json()
    await at.http.put("/api/v1/agents/helper", json={"config": config(system_prompt="Be new.")})
    second = (await at.say("helper", "hello", wait=TIMEOUT_S)).json()
    versions = [
        (await at.get(f"/executions/{one['answer']['execution_id']}"))["version"]
        for one in (first, second)
    ]
    assert versions == ["1", "2"]

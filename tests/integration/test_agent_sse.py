"""A conversation as server-sent events: as it is said, taken up again anywhere, nothing twice."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.agents import schemas
from holdfast.domain.ids import new_id
from holdfast.domain.keys import Scope
from holdfast.operations.keys import create_key, revoke_key
from holdfast.testing.postgres import PostgresForTests

from .agent_stand import MODELS, TOOLS, Sent, Stand, following, stand
from .conftest import TIMEOUT_S, OpenHub, until_true


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
        await opened.make(tools=TOOLS)
        yield opened


async def session(at: Stand) -> str:
    return (await at.http.post("/api/v1/sessions", json={"agent": "helper"})).json()["id"]


async def said(at: Stand, session_id: str, text: str) -> dict[str, Any]:
    """A message that was answered."""
    told = await at.say("helper", text, session_id=session_id, wait=TIMEOUT_S)
    assert told.status_code == 200, told.text
    return told.json()


async def test_an_answer_is_heard_as_it_is_said(at: Stand, tmp_path: Path) -> None:
    session_id = await session(at)
    async with following(at, "helper", session_id) as stream:
        first = await stream.next("connected")
        schemas.ConnectedFrame.model_validate(first.data)
        assert first.data["session_id"] == session_id
        told = (await at.say("helper", f"gate {tmp_path / 'open'}", session_id=session_id)).json()
        running = await stream.next("tool", status="running")
        assert running.data["name"] == "wait_for"
        for words in ("What is said ", "word by word"):
            at.speaks(words)
            assert (await stream.next("token")).data["text"].endswith(words)
        (tmp_path / "open").write_text("with a key")
        answer = await stream.next("message")
    named = [one.event for one in stream.heard if one.event not in ("token", "status")]
    assert named == ["connected", "typing", "tool", "tool", "message"]
    of_turn = [one.data for one in stream.heard[1:] if one.event != "status"]
    assert {one["event_id"] for one in of_turn} == {told["id"]}
    assert {one["session_id"] for one in of_turn} == {session_id}
    assert len({one["execution_id"] for one in of_turn}) == 1
    assert answer.data["response"] == "opened: with a key"
    assert answer.id == answer.data["message_id"]
    schemas.MessageFrame.model_validate(answer.data)
    assert "What is said word by word" in texts(stream.heard).values()
    assert await at.messages(session_id) == [
        ("user", f"gate {tmp_path / 'open'}"),
        ("assistant", "opened: with a key"),
    ]


def texts(heard: list[Sent]) -> dict[int, str]:
    """What each step said, put together as a client does."""
    found: dict[int, str] = {}
    for one in heard:
        if one.event == "token":
            schemas.TokenFrame.model_validate(one.data)
            step, so_far = one.data["step"], one.data["so_far"]
            assert so_far in (0, len(found.get(step, "")))  # nothing is missing
            found[step] = found.get(step, "")[:so_far] + one.data["text"]
    return found


async def test_who_comes_late_hears_the_text_so_far(at: Stand, tmp_path: Path) -> None:
    session_id = await session(at)
    await at.say("helper", f"gate {tmp_path / 'open'}", session_id=session_id)
    async with following(at, "helper", session_id) as first:
        await first.next("tool", status="running")
        async with following(at, "helper", session_id) as second:
            await second.next("tool", status="running")
            at.speaks("what was said so far")
            await second.next("token")
            async with following(at, "helper", session_id) as third:
                assert (await third.next("token")).data["text"].endswith("so far")
            (tmp_path / "open").write_text("late")
            answers = [await one.next("message") for one in (first, second)]
    assert answers[0] == answers[1]


async def test_after_a_break_exactly_what_was_missed_comes_again(at: Stand) -> None:
    session_id = await session(at)
    async with following(at, "helper", session_id) as stream:
        await stream.next("connected")
        await said(at, session_id, "one")
        seen = await stream.next("message")
    missed = [await said(at, session_id, text) for text in ("two", "three", "four")]
    expected = [one["answer"]["message_id"] for one in missed]
    for position in ({"last": seen.id}, {"after": seen.id}):
        async with following(at, "helper", session_id, **position) as stream:
            heard = [await stream.next("message") for _ in expected]
            assert [one.id for one in heard] == expected
            await said(at, session_id, "five")
            assert (await stream.next("message")).data["response"] == "you said: five"
            assert [one.event for one in stream.heard[:4]] == ["connected", *["message"] * 3]
    # Also from a question on, which whoever asked it knows.
    async with following(at, "helper", session_id, after=missed[1]["message_id"]) as stream:
        heard = [await stream.next("message") for _ in range(2)]
        assert [one.id for one in heard] == expected[1:]


async def test_without_a_position_only_what_is_new_is_told(at: Stand) -> None:
    session_id = await session(at)
    await said(at, session_id, "old")
    async with following(at, "helper", session_id) as stream:
        await stream.next("connected")
        await said(at, session_id, "new")
        assert (await stream.next("message")).data["response"] == "you said: new"


async def test_a_stream_hears_its_own_session_alone(at: Stand) -> None:
    mine, other = await session(at), await session(at)
    async with following(at, "helper", mine) as stream:
        await stream.next("connected")
        await said(at, other, "elsewhere")
        await said(at, mine, "here")
        assert (await stream.next("message")).data["response"] == "you said: here"
    assert {one.data["session_id"] for one in stream.heard} == {mine}


async def test_a_question_to_a_person_is_told_and_the_next_message_answers_it(at: Stand) -> None:
    session_id = await session(at)
    async with following(at, "helper", session_id) as stream:
        await stream.next("connected")
        told = await at.say("helper", "ask May I?", session_id=session_id, wait=TIMEOUT_S)
        assert (told.status_code, told.json()["status"]) == (202, "waiting")
        (asked,) = told.json()["waits"]
        assert asked["question"]["question"] == "May I?"
        waiting = await stream.next("waiting")
        schemas.WaitingFrame.model_validate(waiting.data)
        assert waiting.data["waits"] == [asked]
        assert waiting.data["event_id"] == told.json()["id"]
        # Who comes only now is told, too.
        async with following(at, "helper", session_id) as late:
            assert (await late.next("waiting")).data == waiting.data
        reply = await at.say("helper", "You may.", session_id=session_id, wait=TIMEOUT_S)
        assert reply.status_code == 200, reply.text
        assert reply.json()["id"] == told.json()["id"]  # the same turn goes on
        assert reply.json()["answer"]["response"] == "they said: You may."
        answer = await stream.next("message")
    assert answer.data["response"] == "they said: You may."
    assert await at.messages(session_id) == [
        ("user", "ask May I?"),
        ("user", "You may."),
        ("assistant", "they said: You may."),
    ]
    shown = await at.get(f"/sessions/{session_id}")
    assert (shown["turns"], shown["messages"]) == (1, 3)


async def test_a_question_may_be_answered_by_resuming_its_execution(at: Stand) -> None:
    session_id = await session(at)
    told = (await at.say("helper", "ask Really?", session_id=session_id, wait=TIMEOUT_S)).json()
    execution = told["links"]["execution"]
    async with following(at, "helper", session_id) as stream:
        await stream.next("waiting")
        resumed = await at.http.post(f"{execution}/resume", json={"answer": "Yes."})
        assert resumed.status_code == 202, resumed.text
        assert (await stream.next("message")).data["response"] == "they said: Yes."


async def test_an_answer_with_a_key_is_given_once(at: Stand) -> None:
    session_id = await session(at)
    await at.say("helper", "ask Well?", session_id=session_id, wait=TIMEOUT_S)
    first = await at.say("helper", "Yes.", session_id=session_id, key="k", wait=TIMEOUT_S)
    again = await at.say("helper", "Yes.", session_id=session_id, key="k", wait=TIMEOUT_S)
    assert first.json()["answer"]["response"] == "they said: Yes."
    assert again.json() == first.json() | {"created": False}
    other = await at.say("helper", "No.", session_id=session_id, key="k")
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
    assert len(await at.messages(session_id)) == 3


async def test_a_failed_turn_is_told_politely(at: Stand) -> None:
    session_id = await session(at)
    async with following(at, "helper", session_id) as stream:
        await stream.next("connected")
        told = await said(at, session_id, "fail with secrets")
        answer = await stream.next("message")
    assert answer.data["error"]["code"]
    assert "secrets" not in answer.data["response"]
    assert told["answer"]["error"] == answer.data["error"]
    assert told["status"] == "failed"
    record = await at.get(f"/executions/{answer.data['execution_id']}")
    assert "secrets" in record["error"]["message"]  # the record has it in full


async def test_a_turn_that_is_called_off_is_told(at: Stand, tmp_path: Path) -> None:
    session_id = await session(at)
    async with following(at, "helper", session_id) as stream:
        await stream.next("connected")
        first = await at.say("helper", f"gate {tmp_path / 'never'}", session_id=session_id)
        await stream.next("tool", status="running")
        second = await at.say("helper", "hello", session_id=session_id)  # waits for its turn
        for told in (second, first):
            cancelled = await at.http.post(f"/api/v1/events/{told.json()['id']}/cancel")
            assert cancelled.status_code in (200, 202)
        errors = [await stream.next("error") for _ in range(2)]
        assert {one.data["event_id"] for one in errors} == {
            first.json()["id"],
            second.json()["id"],
        }
        assert {one.data["code"] for one in errors} == {"cancelled"}
        assert (await said(at, session_id, "again"))["answer"]["response"] == "you said: again"
        await stream.next("message")


async def test_that_an_agent_was_switched_off_is_told(at: Stand) -> None:
    session_id = await session(at)
    async with following(at, "helper", session_id) as stream:
        await stream.next("connected")
        await at.http.post("/api/v1/agents/helper/stop")
        assert (await stream.next("status")).data["agent_status"] == "off"
        told = await at.say("helper", "anybody?", session_id=session_id)
        assert told.json()["agent_status"] == "off"
        await at.http.post("/api/v1/agents/helper/start")
        assert (await stream.next("message")).data["response"] == "you said: anybody?"


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ({}, {}, 422),
        ({"session_id": "x"}, {}, 422),
        ({"session_id": "FOREIGN"}, {}, 404),
        ({"session_id": "MINE", "after": "x"}, {}, 422),
        ({"session_id": "MINE", "after": "01a1faa7-c2d6-732f-9bdb-f91e4c51c512"}, {}, 404),
        ({"session_id": "MINE"}, {"last-event-id": "7"}, 422),
        ({"session_id": "MINE", "since": "1"}, {}, 422),
    ],
)
async def test_there_is_no_such_stream(
    at: Stand, query: dict[str, str], headers: dict[str, str], status: int
) -> None:
    await at.make("other")
    foreign = (await at.say("other", "hi")).json()["session_id"]
    known = {"FOREIGN": foreign, "MINE": await session(at)}
    params = {name: known.get(value, value) for name, value in query.items()}
    path = "/api/v1/agents/helper/sse"
    answer = await at.http.get(path, params=params, headers=headers)
    assert answer.status_code == status, answer.text


async def test_a_stream_ends_with_its_key_and_with_the_hub(at: Stand) -> None:
    session_id = await session(at)
    key, secret = await create_key(
        at.hub.kit.store, name="t", owner="local", scopes=[Scope.READ, Scope.WRITE]
    )
    await create_key(at.hub.kit.store, name="other", owner="local", scopes=[Scope.READ])
    await at.hub.parts.keyring.refresh()
    at.http.headers["authorization"] = f"Bearer {secret}"
    async with following(at, "helper", session_id) as stream:
        await stream.next("connected")
        await revoke_key(at.hub.kit.store, key.id)
        await at.hub.parts.keyring.refresh()
        await stream.rest()


async def test_nobody_is_remembered_who_has_left(at: Stand) -> None:
    session_id = await session(at)
    talks = at.hub.parts.talks
    async with following(at, "helper", session_id) as stream:
        await stream.next("connected")
        await said(at, session_id, "hello")
        await stream.next("message")
        assert talks._followers

    async def gone() -> bool:
        return not talks._followers and not talks._watches

    await until_true(gone)


async def test_many_streams_of_one_session_hear_the_same(at: Stand) -> None:
    session_id = await session(at)

    async def hear() -> str:
        async with following(at, "helper", session_id) as stream:
            await stream.next("connected")
            ready.release()
            return str((await stream.next("message")).id)

    ready = asyncio.Semaphore(0)
    tasks = [asyncio.create_task(hear()) for _ in range(20)]
    for _ in tasks:
        await ready.acquire()
    told = await said(at, session_id, "hello")
    assert set(await asyncio.gather(*tasks)) == {told["answer"]["message_id"]}


async def test_a_message_that_does_not_exist_is_no_position(at: Stand) -> None:
    session_id = await session(at)
    answer = await at.http.get(
        "/api/v1/agents/helper/sse",
        params={"session_id": session_id},
        headers={"last-event-id": new_id()},
    )
    assert answer.status_code == 404


async def test_an_agent_that_dies_in_its_turn_begins_it_anew_and_is_heard(
    open_hub: OpenHub, hub_environ: dict[str, str], tmp_path: Path
) -> None:
    hub_environ["HOLDFAST_MODELS"] = MODELS
    async with open_hub(runners=1) as hub, stand(hub) as at:
        await at.make(tools=TOOLS)
        session_id = await session(at)
        async with following(at, "helper", session_id) as stream:
            await stream.next("connected")
            text = f"gate {tmp_path / 'open'}"
            told = (await at.say("helper", text, session_id=session_id)).json()
            first = await stream.next("tool", status="running")
            status = await at.get("/agents/helper/status")
            assert status["status"] == "running"
            os.kill(status["pid"], signal.SIGKILL)
            second = await stream.next("typing")
            assert second.data["execution_id"] != first.data["execution_id"]
            await stream.next("tool", status="running")
            (tmp_path / "open").write_text("at last")
            answer = await stream.next("message")
        assert answer.data["response"] == "opened: at last"
        assert answer.data["event_id"] == told["id"]
        assert len(await at.messages(session_id)) == 2

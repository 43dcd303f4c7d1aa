"""A WebSocket to an agent: what is wrong is told and it lives on; nobody is let in by mistake."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import orjson
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from holdfast.agents import schemas
from holdfast.domain.ids import new_id
from holdfast.domain.keys import Scope, new_secret
from holdfast.operations.keys import create_key, revoke_key

from .agent_stand import MODELS, TOOLS, Stand, line, stand
from .conftest import TIMEOUT_S, OpenHub, until_true


@pytest.fixture
async def at(open_hub: OpenHub, hub_environ: dict[str, str]) -> AsyncIterator[Stand]:
    hub_environ["HOLDFAST_MODELS"] = MODELS
    async with open_hub(in_process=True) as hub, stand(hub) as opened:
        yield opened


async def refused(at: Stand, agent: str = "helper", **headers: str) -> tuple[int, str]:
    """Status and code of a socket that is not opened."""
    with pytest.raises(InvalidStatus) as caught:
        async with line(at.url, agent, **headers):
            pass
    answer = caught.value.response
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, orjson.loads(answer.body or b"{}")["code"]


async def test_it_begins_with_who_answers(at: Stand) -> None:
    made = await at.make()
    for ref in ("helper", made["id"]):
        async with line(at.url, ref) as talk:
            first = await talk.frame()
            schemas.ConnectedFrame.model_validate(first)
            assert first["agent"] == {"id": made["id"], "name": "helper"}
            assert first["agent_status"] == "stopped"


async def test_a_message_is_kept_and_confirmed(at: Stand) -> None:
    await at.make()
    await at.off()
    async with line(at.url, "helper") as talk:
        await talk.send("message", text="hello", chat_id="7", ref="mine", user_data={"a": 1})
        told = await talk.next("accepted")
        schemas.AcceptedFrame.model_validate(told)
        assert (told["ref"], told["created"]) == ("mine", True)
        session = await at.get(f"/sessions/{told['session_id']}")
        assert (session["channel"], session["chat_id"]) == ("websocket", "7")
        assert await at.messages(session["id"]) == [("user", "hello")]
        event = await at.get(f"/events/{told['event_id']}")
        assert event["data"]["message_id"] == told["message_id"]
        await talk.send("message", text="hello", ref="2", session_id=session["id"])
        await talk.next("accepted", ref="2", session_id=session["id"])


WRONG: list[tuple[str | bytes, str, str | None]] = [
    ("", "malformed_body", "body"),
    ("{", "malformed_body", "body"),
    ("[]", "malformed_body", "frame"),
    ('"message"', "malformed_body", "frame"),
    (b"\x00\x01", "malformed_body", "frame"),
    ("{}", "invalid_input", "type"),
    ('{"type": "shout"}', "invalid_input", "type"),
    ('{"type": "message"}', "invalid_input", "text"),
    ('{"type": "message", "message": "hi"}', "invalid_input", "message"),
    ('{"type": "message", "text": "hi", "thread_id": "1"}', "invalid_input", "thread_id"),
    ('{"type": "message", "text": ""}', "invalid_input", "text"),
    ('{"type": "message", "text": 7}', "invalid_input", "text"),
    ('{"type": "resume"}', "invalid_input", "session_id"),
    ('{"type": "resume", "session_id": "x"}', "invalid_input", "session_id"),
    ('{"type": "ping", "x": 1}', "invalid_input", "x"),
    ('{"type": "message", "text": "' + "x" * 2_000_000 + '"}', "body_too_large", "frame"),
    ('{"type": "message", "text": "' + "x" * 200_001 + '"}', "invalid_input", "text"),
    ("[" * 2000 + "]" * 2000, "malformed_body", "body"),
]


async def test_a_wrong_frame_gets_an_error_and_the_socket_lives(at: Stand) -> None:
    await at.make()
    async with line(at.url, "helper") as talk:
        await talk.next("connected")
        for sent, code, field in WRONG:
            await talk.socket.send(sent)
            told = await talk.frame()
            schemas.ErrorFrame.model_validate(told)
            assert (told["type"], told["code"]) == ("error", code), (sent[:80], told)
            assert field in [one["field"] for one in told["fields"]], (sent[:80], told)
        await talk.send("ping")
        assert await talk.frame() == {"type": "pong"}
        await talk.send("message", text="still here?")
        await talk.next("accepted")
    assert len((await at.get("/sessions"))["items"]) == 1


async def test_an_error_names_the_message_it_is_about(at: Stand) -> None:
    await at.make()
    await at.make("other")
    await at.off("other")
    await at.off()
    theirs = (await at.say("other", "hi")).json()["session_id"]
    archived = (await at.say("helper", "hi")).json()["session_id"]
    await at.http.patch(f"/api/v1/sessions/{archived}", json={"status": "archived"})
    async with line(at.url, "helper") as talk:
        for ref, session_id, code in (
            ("1", new_id(), "not_found"),
            ("2", theirs, "not_found"),
            ("3", archived, "illegal_move"),
        ):
            await talk.send("message", text="hi", ref=ref, session_id=session_id)
            told = await talk.next("error")
            assert (told["ref"], told["session_id"], told["code"]) == (ref, session_id, code)
        await talk.send("message", text="hi", ref="4", nonsense=1)
        assert (await talk.next("error"))["ref"] == "4"
        for session_id in (new_id(), theirs):
            await talk.send("resume", session_id=session_id)
            told = await talk.next("error")
            assert (told["code"], told["session_id"]) == ("not_found", session_id)
        await talk.send("resume", session_id=archived, after=new_id())
        assert (await talk.next("error"))["code"] == "not_found"


async def test_the_same_key_is_the_same_message(at: Stand) -> None:
    await at.make()
    async with line(at.url, "helper") as talk:
        for created in (True, False):
            await talk.send("message", text="hi", idempotency_key="once")
            assert (await talk.next("accepted"))["created"] is created
        await talk.send("message", text="ho", idempotency_key="once", ref="r")
        assert (await talk.next("error", ref="r"))["code"] == "idempotency_conflict"
    assert len((await at.get("/sessions"))["items"]) == 1


async def test_messages_of_one_chat_stay_in_order_and_others_go_beside_them(at: Stand) -> None:
    await at.make()
    await at.off()
    async with line(at.url, "helper") as talk:
        for n in range(50):
            for chat in "abcd":
                await talk.send("message", text=f"{chat}{n}", chat_id=chat, ref=f"{chat}{n}")
        told = [await talk.next("accepted") for _ in range(200)]
    by_chat = {one["ref"][0]: one["session_id"] for one in told}
    assert len(set(by_chat.values())) == 4
    for chat, session_id in by_chat.items():
        said = await at.messages(session_id)
        assert said == [("user", f"{chat}{n}") for n in range(50)]


async def test_who_is_told_that_an_agent_was_switched_off(at: Stand) -> None:
    await at.make()
    async with line(at.url, "helper") as talk:
        await talk.next("connected")
        await at.http.post("/api/v1/agents/helper/stop")
        told = await talk.next("status")
        schemas.StatusFrame.model_validate(told)
        assert told["agent_status"] == "off"
        await talk.send("message", text="hello?")
        assert (await talk.next("accepted"))["agent_status"] == "off"
        await at.http.post("/api/v1/agents/helper/start")
        assert (await talk.next("status"))["agent_status"] != "off"


# -- who comes in ----------------------------------------------------------------------------


async def test_there_is_no_such_agent(at: Stand) -> None:
    assert await refused(at, "nobody") == (404, "not_found")


async def test_a_page_from_elsewhere_cannot_open_one(at: Stand) -> None:
    await at.make()
    for origin in ("http://evil.example", "https://evil.example:8001", "null", "file://"):
        assert await refused(at, Origin=origin) == (421, "wrong_host"), origin
    for origin in ("http://localhost:3000", "http://127.0.0.1"):
        async with line(at.url, "helper", Origin=origin) as talk:
            await talk.next("connected")


async def test_a_name_that_leads_here_is_refused(at: Stand) -> None:
    await at.make()
    assert await refused(at, Host="evil.example:8001") == (421, "wrong_host")


async def test_with_keys_one_is_needed_that_may_write(at: Stand) -> None:
    await at.make()

    async def key(owner: str, *scopes: Scope) -> str:
        store = at.hub.kit.store
        _, secret = await create_key(store, name="t", owner=owner, scopes=scopes)
        await at.hub.parts.keyring.refresh()
        return secret

    good = await key("local", Scope.WRITE)
    assert await refused(at) == (401, "not_authenticated")
    assert await refused(at, Authorization=f"Bearer {new_secret()}") == (401, "not_authenticated")
    reader = await key("local", Scope.READ)
    assert await refused(at, Authorization=f"Bearer {reader}") == (403, "forbidden")
    stranger = await key("team-b", Scope.READ, Scope.WRITE)
    assert await refused(at, Authorization=f"Bearer {stranger}") == (404, "not_found")
    async with line(at.url, "helper", Authorization=f"Bearer {good}") as talk:
        await talk.next("connected")
        await talk.send("message", text="hi")
        session_id = (await talk.next("accepted"))["session_id"]
        await talk.send("resume", session_id=session_id)  # what was said before is to be read
        assert (await talk.next("error"))["code"] == "forbidden"
        await revoke_key(at.hub.kit.store, good[3:11])
        await at.hub.parts.keyring.refresh()
        assert await talk.closed() == 1008


async def test_a_hub_that_stops_says_so(at: Stand) -> None:
    await at.make()
    async with line(at.url, "helper") as talk:
        await talk.next("connected")
        at.stop()
        assert await talk.closed() == 1001


async def test_a_frame_beyond_all_bounds_closes_only_its_own_socket(at: Stand) -> None:
    await at.make()
    async with line(at.url, "helper") as other:
        await other.next("connected")
        async with line(at.url, "helper") as talk:
            await talk.next("connected")
            with suppress(ConnectionClosed):  # while it is sent
                await talk.socket.send("x" * 20_000_000)
            assert await talk.closed() == 1009
        await other.send("ping")
        await other.next("pong")


# -- what is said ----------------------------------------------------------------------------


async def test_an_answer_is_heard_as_it_is_said(at: Stand, tmp_path: Path) -> None:
    await at.make(tools=TOOLS)
    async with line(at.url, "helper") as talk:
        await talk.send("message", text=f"gate {tmp_path / 'open'}", chat_id="1", ref="r")
        told = await talk.next("accepted")
        await talk.next("tool", name="wait_for", status="running")
        at.speaks("it says word by word")
        assert (await talk.next("token"))["text"].endswith("word by word")
        (tmp_path / "open").write_text("now")
        answer = await talk.next("message")
    assert answer["response"] == "opened: now"
    assert (answer["chat_id"], answer["event_id"]) == ("1", told["event_id"])
    schemas.MessageFrame.model_validate(answer)
    named = [one["type"] for one in talk.heard if one["type"] not in ("token", "status")]
    assert named == ["connected", "accepted", "typing", "tool", "tool", "message"]


async def test_many_conversations_go_on_over_one_socket(at: Stand, tmp_path: Path) -> None:
    await at.make(tools=TOOLS)
    async with line(at.url, "helper") as talk:
        await talk.send("message", text=f"gate {tmp_path / 'open'}", chat_id="held", ref="held")
        await talk.next("tool", status="running")
        for n in range(20):
            for turn in range(3):
                await talk.send("message", text=f"{n}/{turn}", chat_id=str(n))
        answers = [await talk.next("message") for _ in range(60)]  # though one is held up
        (tmp_path / "open").write_text("last")
        assert (await talk.next("message"))["chat_id"] == "held"
    for n in range(20):
        mine = [one["response"] for one in answers if one["chat_id"] == str(n)]
        assert mine == [f"you said: {n}/{turn}" for turn in range(3)]


async def test_after_a_reconnect_what_was_missed_comes_again(at: Stand) -> None:
    await at.make()
    async with line(at.url, "helper") as talk:
        await talk.send("message", text="one", chat_id="1")
        seen = await talk.next("message")
    session_id, after = seen["session_id"], seen["message_id"]
    for text in ("two", "three"):
        await at.say("helper", text, session_id=session_id, wait=TIMEOUT_S)
    async with line(at.url, "helper") as talk:
        await talk.send("resume", session_id=session_id, after=after)
        assert [(await talk.next("message"))["response"] for _ in range(2)] == [
            "you said: two",
            "you said: three",
        ]
        await talk.send("message", text="four", session_id=session_id)
        assert (await talk.next("message"))["response"] == "you said: four"
        await talk.send("resume", session_id=session_id)  # from now on
        await talk.send("message", text="five", session_id=session_id)
        assert (await talk.next("message"))["response"] == "you said: five"


async def test_a_turn_that_runs_is_found_again_after_a_reconnect(at: Stand, tmp_path: Path) -> None:
    await at.make(tools=TOOLS)
    async with line(at.url, "helper") as talk:
        await talk.send("message", text=f"gate {tmp_path / 'open'}")
        told = await talk.next("accepted")
        await talk.next("tool", status="running")
    async with line(at.url, "helper") as talk:
        await talk.send("resume", session_id=told["session_id"], after=told["message_id"])
        await talk.next("tool", status="running", event_id=told["event_id"])
        (tmp_path / "open").write_text("again")
        assert (await talk.next("message"))["response"] == "opened: again"


async def test_what_was_asked_elsewhere_before_is_heard_too(at: Stand, tmp_path: Path) -> None:
    await at.make(tools=TOOLS)
    gate = f"gate {tmp_path / 'open'}"
    session_id = (await at.say("helper", gate)).json()["session_id"]
    async with line(at.url, "helper") as talk:
        await talk.send("message", text="and then?", session_id=session_id)
        await talk.next("accepted")
        (tmp_path / "open").write_text("first")
        assert [(await talk.next("message"))["response"] for _ in range(2)] == [
            "opened: first",
            "you said: and then?",
        ]


async def test_a_question_comes_over_the_socket_and_so_does_its_answer(at: Stand) -> None:
    await at.make(tools=TOOLS)
    async with line(at.url, "helper") as talk:
        await talk.send("message", text="ask May I?", chat_id="1")
        told = await talk.next("accepted")
        asked = await talk.next("waiting")
        schemas.WaitingFrame.model_validate(asked)
        assert asked["waits"][0]["question"]["question"] == "May I?"
        await talk.send("message", text="Go on.", chat_id="1", idempotency_key="answer")
        reply = await talk.next("accepted")
        assert reply["event_id"] == told["event_id"]
        assert (await talk.next("message"))["response"] == "they said: Go on."
        await talk.send("message", text="Go on.", chat_id="1", idempotency_key="answer", ref="2")
        assert (await talk.next("accepted", ref="2"))["created"] is False


async def test_a_failed_turn_is_an_answer_that_says_so(at: Stand) -> None:
    await at.make()
    async with line(at.url, "helper") as talk:
        await talk.send("message", text="fail with a secret", chat_id="1")
        answer = await talk.next("message")
        assert answer["error"]["code"]
        assert "secret" not in answer["response"]
        await talk.send("message", text="still there?", chat_id="1")
        assert (await talk.next("message"))["response"] == "you said: still there?"


async def test_who_says_the_same_again_hears_its_answer(at: Stand) -> None:
    """As after a connection that broke before the answer came."""
    await at.make()
    once = {"text": "hello", "chat_id": "1", "idempotency_key": "once"}
    async with line(at.url, "helper") as talk:
        await talk.send("message", **once)
        await talk.next("message")
        await talk.send("message", text="more", chat_id="1")
        await talk.next("message")
    async with line(at.url, "helper") as talk:
        await talk.send("message", **once)
        assert (await talk.next("accepted"))["created"] is False
        assert [(await talk.next("message"))["response"] for _ in range(2)] == [
            "you said: hello",
            "you said: more",
        ]


async def test_who_hangs_up_leaves_nothing_behind(at: Stand) -> None:
    await at.make()
    talks = at.hub.parts.talks
    for _ in range(3):
        async with line(at.url, "helper") as talk:
            await talk.send("message", text="hello", chat_id="1")
            await talk.next("message")
            assert talks._followers

    async def gone() -> bool:
        return not talks._followers and not talks._watches

    await until_true(gone)

"""Agents over Redis: what is said on a channel is a message like any other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from holdfast.agents import schemas
from holdfast.domain.ids import new_id
from holdfast.errors import StoreRefused
from holdfast.hub import agent_channels, agent_states
from holdfast.operations.agent_logs import log_path
from holdfast.store import Store
from holdfast.store.commands import TurnTold
from holdfast.store.queries import CountEvents
from holdfast.store.queries.bridging import UntoldTurns
from holdfast.testing.postgres import PostgresForTests

from .agent_stand import MODELS, TOOLS, Stand, following, stand
from .conftest import TIMEOUT_S, OpenHub, until_true


class Server:
    """The Redis server as another program uses it."""

    def __init__(self, redis: Any) -> None:
        self.redis = redis

    @asynccontextmanager
    async def outputs(self, agent_id: str) -> AsyncIterator[Outputs]:
        async with self.redis.pubsub() as pubsub:
            await pubsub.subscribe(f"agent:{agent_id}:output")
            assert (await pubsub.get_message(timeout=TIMEOUT_S))["type"] == "subscribe"
            yield Outputs(pubsub)

    async def say(self, agent_id: str, message: Any) -> int:
        """Publish; how many programs heard it."""
        body = message if isinstance(message, bytes) else orjson.dumps(message)
        return await self.redis.publish(f"agent:{agent_id}:input", body)

    async def state(self, key: str) -> dict[str, str]:
        found = await self.redis.hgetall(key)
        return {name.decode(): value.decode() for name, value in found.items()}


class Outputs:
    """What agents say on their channel."""

    def __init__(self, pubsub: Any) -> None:
        self._pubsub = pubsub

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(TIMEOUT_S):
            while (message := await self._pubsub.get_message(timeout=TIMEOUT_S)) is None:
                pass
        told = orjson.loads(message["data"])
        schemas.Outgoing.model_validate(told)
        return told


@pytest.fixture
async def server(redis_url: str) -> AsyncIterator[Server]:
    redis = Redis.from_url(redis_url, protocol=2)
    yield Server(redis)
    await redis.aclose()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another hub takes over sooner than people would wait for."""
    monkeypatch.setattr(agent_channels, "BEAT_S", 0.1)
    monkeypatch.setattr(agent_channels, "LEASE_S", 3.0)


@pytest.fixture
def joined(hub_environ: dict[str, str], postgres: PostgresForTests, redis_url: str) -> None:
    hub_environ |= {
        "HOLDFAST_MODELS": MODELS,
        "HOLDFAST_DATABASE_URL": postgres.migrated(),
        "HOLDFAST_BUS_URL": redis_url,
    }


@pytest.fixture
async def at(open_hub: OpenHub, joined: None) -> AsyncIterator[Stand]:
    async with open_hub(in_process=True) as hub, stand(hub) as opened:
        yield opened


async def heard(server: Server, agent_id: str, message: Any) -> None:
    """Say something as soon as a hub listens."""

    async def taken() -> bool:
        return await server.say(agent_id, message) > 0

    await until_true(taken)


async def test_a_message_on_the_channel_is_answered_there(at: Stand, server: Server) -> None:
    agent = (await at.make())["id"]
    async with server.outputs(agent) as outputs:
        message = {
            "text": "hello",
            "chat_id": "42",
            "platform_user_id": "7",
            "user_data": {"name": "Ada"},
            "channel": "telegram",
        }
        await heard(server, agent, message)
        told = await outputs.next()
        assert (told["chat_id"], told["response"], told["channel"], told["error"]) == (
            "42",
            "you said: hello",
            "telegram",
            None,
        )
        await server.say(agent, message | {"text": "again"})
        assert (await outputs.next())["session_id"] == told["session_id"]
    session = await at.get(f"/sessions/{told['session_id']}")
    assert (session["channel"], session["chat_id"]) == ("telegram", "42")
    assert session["user"] == {"id": "7", "name": "Ada"}
    assert [text for _, text in await at.messages(session["id"])] == [
        "hello",
        "you said: hello",
        "again",
        "you said: again",
    ]
    execution = await at.get(f"/executions/{told['execution_id']}")
    assert execution["status"] == "succeeded"


async def test_messages_of_a_chat_keep_their_order(at: Stand, server: Server) -> None:
    agent = (await at.make())["id"]
    async with server.outputs(agent) as outputs:
        await heard(server, agent, {"text": "0", "chat_id": "1"})
        for n in range(1, 30):
            await server.say(agent, {"text": str(n), "chat_id": "1"})
        said = [(await outputs.next())["response"] for _ in range(30)]
    assert said == [f"you said: {n}" for n in range(30)]


async def test_what_the_database_will_never_take_is_told_of_once(
    at: Stand, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer went out; that it did is not stored, and nobody tries for ever."""
    agent = (await at.make())["id"]
    write = Store.write

    async def refusing(self: Store, command: Any) -> Any:
        if isinstance(command, TurnTold):
            raise StoreRefused("planted")
        return await write(self, command)

    monkeypatch.setattr(Store, "write", refusing)

    async def refused() -> bool:
        return [one["reason"] for one in logs if one["event"] == "channels.turn_refused"] == [
            "planted"
        ]

    async with server.outputs(agent) as outputs:
        with capture_logs() as logs:
            await heard(server, agent, {"text": "hello", "chat_id": "1"})
            assert (await outputs.next())["response"] == "you said: hello"
            await until_true(refused)
    monkeypatch.undo()
    (untold,) = await at.hub.kit.store.read(UntoldTurns())
    await at.hub.kit.store.write(TurnTold(untold.event_id, untold.owner_id))


@pytest.mark.parametrize(
    ("message", "code", "word"),
    [
        (b"{", "invalid_input", "body"),
        (b"[]", "invalid_input", "body"),
        (b"\xff", "invalid_input", "body"),
        ({"message": "hello", "chat_id": "42", "channel": "desk"}, "invalid_input", "text"),
        ({"text": "hello", "thread_id": "42"}, "invalid_input", "thread_id"),
        ({"text": "", "chat_id": "42"}, "invalid_input", "text"),
        ({"text": "x" * 2_000_000}, "body_too_large", "bytes"),
        ({"text": "hi", "session_id": "01a1faa7-c2d6-732f-9bdb-f91e4c51c512"}, "not_found", "s"),
    ],
)
async def test_a_wrong_message_is_told_on_the_channel_and_nothing_is_stored(
    at: Stand, server: Server, message: Any, code: str, word: str
) -> None:
    agent = (await at.make())["id"]
    async with server.outputs(agent) as outputs:
        await heard(server, agent, message)
        told = await outputs.next()
        assert told["error"]["code"] == code
        assert word in told["error"]["message"]
        if isinstance(message, dict):
            assert told["chat_id"] == (message.get("chat_id") if code != "body_too_large" else None)
        assert not any((await at.hub.kit.store.read(CountEvents())).values())
        await server.say(agent, {"text": "a good one"})
        assert (await outputs.next())["response"] == "you said: a good one"


async def test_an_agent_that_is_not_ours_is_left_alone(at: Stand, server: Server) -> None:
    agent, other = (await at.make())["id"], new_id()
    async with server.outputs(other) as outputs, server.outputs(agent) as ours:
        await heard(server, other, {"text": "hello"})
        await server.redis.publish("agent:helper:input", b'{"text": "hello"}')
        await server.say(agent, {"text": "hello"})
        await ours.next()
        assert await outputs._pubsub.get_message(timeout=0.01) is None


async def test_a_question_and_its_answer_go_over_the_channel(at: Stand, server: Server) -> None:
    agent = (await at.make(tools=TOOLS))["id"]
    async with server.outputs(agent) as outputs:
        await heard(server, agent, {"text": "ask May I?", "chat_id": "1"})
        assert (await outputs.next())["response"] == "May I?"
        await server.say(agent, {"text": "Yes.", "chat_id": "1"})
        assert (await outputs.next())["response"] == "they said: Yes."


async def test_a_failed_turn_is_told_politely(at: Stand, server: Server) -> None:
    agent = (await at.make())["id"]
    async with server.outputs(agent) as outputs:
        await heard(server, agent, {"text": "fail with a secret"})
        told = await outputs.next()
        assert told["error"]["code"]
        assert "secret" not in told["response"]
        assert told["response"]


async def test_states_are_shown_as_they_move(at: Stand, server: Server) -> None:
    made = await at.make(integrations=[{"type": "telegram", "enabled": False}])
    key = f"agent_status:{made['id']}"

    async def shows(**fields: str) -> None:
        async def shown() -> bool:
            return fields.items() <= (await server.state(key)).items()

        await until_true(shown)

    await shows(name="helper", status="stopped", wanted="on", version="1")
    assert await server.state(f"integration_status:{made['id']}:telegram") == {
        "status": "stopped",
        "enabled": "false",
    }
    await at.say("helper", "wake up", wait=TIMEOUT_S)
    await shows(status="running", agent_status="running")
    await at.http.post("/api/v1/agents/helper/stop")
    await shows(status="stopped", agent_status="off", wanted="off")
    assert 0 < await server.redis.ttl(key) <= agent_states.SHOWN_S
    await at.http.delete("/api/v1/agents/helper")

    async def gone() -> bool:
        return not await server.redis.exists(key, f"integration_status:{made['id']}:telegram")

    await until_true(gone)


async def test_one_hub_of_all_takes_messages_in(
    open_hub: OpenHub, joined: None, server: Server, tmp_path: Path
) -> None:
    async with open_hub(in_process=True, home=tmp_path / "b") as first, stand(first) as at:
        agent = (await at.make(tools=TOOLS))["id"]
        await heard(server, agent, {"text": "hello", "chat_id": "0"})
        took = first.kit.store.statements["TakeProcesses"]
        async with (
            open_hub(in_process=True, home=tmp_path / "a") as second,
            server.outputs(agent) as outputs,
        ):

            async def both_tried() -> bool:
                again = first.kit.store.statements["TakeProcesses"] > took
                return again and "TakeProcesses" in second.kit.store.statements

            await until_true(both_tried)
            assert await server.say(agent, {"text": "once", "chat_id": "1"}) == 1
            while (await outputs.next())["chat_id"] != "1":
                pass
            assert await outputs._pubsub.get_message(timeout=0.01) is None


async def test_what_a_hub_took_in_is_answered_by_the_one_after_it(
    open_hub: OpenHub, joined: None, server: Server, tmp_path: Path
) -> None:
    agent = await taken_in_and_left(open_hub, server, tmp_path)
    async with (
        server.outputs(agent) as outputs,
        open_hub(in_process=True, home=tmp_path / "b") as second,
        stand(second) as at,
    ):
        await at.http.post("/api/v1/agents/helper/start")
        told = await outputs.next()
    assert (told["chat_id"], told["response"]) == ("9", "you said: are you there?")


async def test_an_answer_that_came_while_no_hub_listened_is_told_once(
    open_hub: OpenHub, joined: None, server: Server, tmp_path: Path
) -> None:
    agent = await taken_in_and_left(open_hub, server, tmp_path)
    async with server.outputs(agent) as outputs:
        async with (
            open_hub(in_process=True, home=tmp_path / "b", bus_url=None) as deaf,
            stand(deaf) as at,
        ):
            await at.http.post("/api/v1/agents/helper/start")
            (session,) = (await at.get("/sessions"))["items"]

            async def answered() -> bool:
                return len(await at.messages(session["id"])) == 2

            await until_true(answered)
        for n in range(2):
            async with open_hub(in_process=True, home=tmp_path / f"c{n}") as after:
                if n == 0:
                    assert (await outputs.next())["response"] == "you said: are you there?"

                    async def stored() -> bool:
                        return not await after.kit.store.read(UntoldTurns())

                    await until_true(stored)
                await heard(server, agent, b"{")
                assert (await outputs.next())["error"]["code"] == "invalid_input"


async def taken_in_and_left(open_hub: OpenHub, server: Server, tmp_path: Path) -> str:
    """An agent that is off, to which something was said before the hub ended; its id."""
    async with open_hub(in_process=True, home=tmp_path / "a") as first, stand(first) as at:
        agent = (await at.make())["id"]
        await at.off()
        await heard(server, agent, {"text": "are you there?", "chat_id": "9"})

        async def kept() -> bool:
            return bool((await at.get("/sessions"))["items"])

        await until_true(kept)
    return agent


async def test_a_turn_that_runs_on_another_hub_is_heard_word_by_word(
    open_hub: OpenHub, joined: None, tmp_path: Path
) -> None:
    async with open_hub(in_process=True, home=tmp_path / "b") as worker, stand(worker) as there:
        await there.make(tools=TOOLS)
        woken = (await there.say("helper", "wake up", wait=TIMEOUT_S)).json()
        async with open_hub(in_process=True, home=tmp_path / "a") as door, stand(door) as here:
            async with following(here, "helper", woken["session_id"]) as stream:
                await stream.next("connected")
                text = f"gate {tmp_path / 'open'}"
                told = await here.say("helper", text, session_id=woken["session_id"])
                await stream.next("tool", status="running")
                assert door.kit.journal.all() == []  # it runs on the other one
                there.speaks("it says word by word")
                piece = await stream.next("token")
                assert piece.data["text"].endswith("word by word")
                (tmp_path / "open").write_text("far away")
                answer = await stream.next("message", event_id=told.json()["id"])
            assert answer.data["response"] == "opened: far away"
            waited = await here.say(
                "helper", "and here?", session_id=woken["session_id"], wait=TIMEOUT_S
            )
            assert waited.json()["answer"]["response"] == "you said: and here?"
            asked = await here.say(
                "helper", "ask Well?", session_id=woken["session_id"], wait=TIMEOUT_S
            )
            assert asked.json()["waits"]


async def test_a_log_is_read_from_any_hub(open_hub: OpenHub, joined: None, tmp_path: Path) -> None:
    async with open_hub(in_process=True, home=tmp_path / "b") as worker, stand(worker) as there:
        agent = (await there.make())["id"]
        await there.say("helper", "wake up", wait=TIMEOUT_S)
        path = log_path(worker.kit.home, agent)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("it runs here\n")
        async with open_hub(in_process=True, home=tmp_path / "a") as door, stand(door) as here:
            found = await here.get("/agents/helper/logs")
            assert (found["lines"], found["hub"]) == (["it runs here"], worker.kit.boot_id)
            rest = await here.get("/agents/helper/logs", offset=found["offset"])
            assert rest["lines"] == []

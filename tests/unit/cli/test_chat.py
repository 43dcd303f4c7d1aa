"""The talk behind the terminal: which session, what is remembered, what is said at the end."""

from __future__ import annotations

import asyncio

import pytest

from holdfast.cli.chat import Memory, Talk
from holdfast.client import Entry
from holdfast.errors import InvalidInput, NotFound

AGENT = {"id": "a1", "name": "desk", "version": 1}


class Hub:
    """Stands for the background loop: runs each call in a loop of its own."""

    def __init__(self, client):
        self.client = client

    def call(self, work):
        return asyncio.run(work(self.client))


class Client:
    def __init__(self, *entries, sessions=()):
        self.entries = entries
        self.sessions = {one["id"]: one for one in sessions}
        self.made = []
        self.said = []
        self.cancelled = []

    async def session(self, session_id):
        if session_id not in self.sessions:
            raise NotFound("no such session")
        return self.sessions[session_id]

    async def make_session(self, agent, **options):
        self.made.append((agent, options))
        return {"id": "new", "agent": AGENT, "status": "active"}

    async def talk(self, agent, text, *, session_id, channel):
        self.said.append((session_id, text))
        for entry in self.entries:
            yield entry

    async def cancel_event(self, event_id):
        self.cancelled.append(event_id)


def entry(kind, **data):
    return Entry(None, kind, data)


def session(agent="a1", status="active"):
    return {
        "id": "s1",
        "agent": {"id": agent, "name": "x"},
        "status": status,
        "title": "t",
        "turns": 2,
    }


ACCEPTED = entry("accepted", id="e1", agent_status="running")
ANSWER = entry("message", event_id="e1", response="Hi", execution_id="x1", error=None)


@pytest.fixture
def memory(tmp_path):
    return Memory(tmp_path / "home" / "chats.json")


def test_a_session_is_made_with_the_first_message_and_remembered(memory):
    client = Client(ACCEPTED, ANSWER)
    talk = Talk(Hub(client), AGENT, memory)
    talk.find(memory.get("a1"), named=False)
    shown = []

    last = talk.say("Where  is\tit? " + "x" * 100, lambda kind, data: shown.append(kind))

    assert client.made == [("a1", {"title": "Where is it? " + "x" * 47, "channel": "cli"})]
    assert shown == ["accepted", "message"]
    assert (last["kind"], last["response"], last["session_id"]) == ("message", "Hi", "new")
    assert memory.get("a1") == "new"
    talk.say("And?", lambda kind, data: None)
    assert client.said[1] == ("new", "And?")
    assert len(client.made) == 1


def test_what_is_remembered_of_one_agent_leaves_the_others(memory):
    memory.put("a1", "s1")
    memory.put("a2", "s2")
    memory.put("a1", "s3")
    assert (memory.get("a1"), memory.get("a2"), memory.get("a3")) == ("s3", "s2", None)


def test_a_damaged_memory_is_named(memory):
    memory.put("a1", "s1")
    memory._file.write_text("{")
    with pytest.raises(InvalidInput, match="chats.json"):
        memory.get("a1")


@pytest.mark.parametrize(("status", "goes_on"), [("active", True), ("archived", False)])
def test_it_goes_on_with_the_last_session_unless_that_is_archived(memory, status, goes_on):
    talk = Talk(Hub(Client(sessions=[session(status=status)])), AGENT, memory)
    talk.find("s1", named=False)
    assert (talk.session is not None) is goes_on


def test_a_deleted_session_is_only_missed_by_who_named_it(memory):
    talk = Talk(Hub(Client()), AGENT, memory)
    talk.find("s1", named=False)
    assert talk.session is None
    with pytest.raises(NotFound):
        talk.find("s1", named=True)


def test_a_session_of_another_agent_is_refused(memory):
    talk = Talk(Hub(Client(sessions=[session(agent="a2")])), AGENT, memory)
    with pytest.raises(InvalidInput, match="session s1 is one with x"):
        talk.find("s1", named=True)


@pytest.mark.parametrize(
    "entries",
    [
        [entry("accepted", id="e1", agent_status="error"), ANSWER],
        [ACCEPTED, entry("status", agent_status="off"), ANSWER],
    ],
)
def test_nobody_waits_for_an_agent_that_is_down(memory, entries):
    talk = Talk(Hub(Client(*entries)), AGENT, memory)
    last = talk.say("hi", lambda kind, data: None)
    assert last["kind"] in ("accepted", "status")
    assert "response" not in last


def test_ctrl_c_stops_the_turn(memory):
    client = Client(ACCEPTED, ANSWER)

    class Interrupted(Hub):
        def call(self, work):
            result = super().call(work)
            if client.said and not client.cancelled:
                raise KeyboardInterrupt
            return result

    talk = Talk(Interrupted(client), AGENT, memory)
    with pytest.raises(KeyboardInterrupt):
        talk.say("hi", lambda kind, data: None)
    assert client.cancelled == ["e1"]

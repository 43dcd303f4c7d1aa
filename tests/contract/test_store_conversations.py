"""Conversations: sessions, turns and their messages, windows, summaries, and how they go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.pool import NullPool

from holdfast.domain.conversations import Message, SessionStatus, Speaker
from holdfast.domain.dead_letters import Action
from holdfast.domain.events import Claimed
from holdfast.domain.halts import Halt, Totals, Wait, WaitKind
from holdfast.domain.ids import new_id
from holdfast.domain.memory_items import NewItem
from holdfast.domain.status import EventStatus, ExecutionStatus
from holdfast.errors import (
    IdempotencyConflict,
    IllegalMove,
    InvalidInput,
    NotFound,
    StoreRefused,
)
from holdfast.store import Store
from holdfast.store.commands import (
    Apologise,
    Cancel,
    ChangeSession,
    DeleteSession,
    Finish,
    GiveFeedback,
    Intervene,
    MakeSession,
    NewSession,
    Prune,
    PutItems,
    Reap,
    Summarise,
    TakeBack,
)
from holdfast.store.queries import (
    EventById,
    ExecutionById,
    ListNamespaces,
    MessageBy,
    Messages,
    MessagesOf,
    OldestUnsummarised,
    SessionBy,
    Sessions,
    WindowOf,
)
from holdfast.store.registry import address

from .agents_make import Talk, answer, count, message
from .conftest import HOUR
from .test_store_session_threads import checkpoint

E, X = EventStatus, ExecutionStatus


@pytest.fixture
def talk(store: Store) -> Talk:
    return Talk(store)


@pytest.fixture
async def agent(talk: Talk) -> str:
    return (await talk.agent()).id


def texts(found: Sequence[Message]) -> list[str]:
    return [one.content for one in found]


async def history(talk: Talk, agent: str, turns: int, **fields: Any) -> str:
    """A session of so many whole turns: `q1`, `a1`, `q2`, …"""
    session_id = None
    for n in range(1, turns + 1):
        said = await talk.exchange(agent, f"q{n}", f"a{n}", session_id=session_id, **fields)
        session_id = said.session_id
    assert session_id is not None
    return session_id


# Turns


async def test_a_message_its_session_and_its_event_are_stored_together(
    store: Store, talk: Talk, agent: str
) -> None:
    said = await talk.say(agent, "hello there", turn={"user": {"name": "Ann"}, "channel": "cli"})
    assert said.created
    assert said.session_id is not None
    session = await store.read(SessionBy(said.session_id, "local"))
    assert (session.agent_id, session.title, session.channel) == (agent, "hello there", "cli")
    assert (session.user, session.status, session.chat_id) == (
        {"name": "Ann"},
        SessionStatus.ACTIVE,
        None,
    )
    assert (session.turns, session.messages, session.unsummarised) == (1, 1, 1)
    (stored,) = await store.read(MessagesOf(said.id, "local"))
    assert (stored.id, stored.session_id) == (said.message_id, said.session_id)
    assert (stored.turn, stored.part, stored.role) == (1, 0, Speaker.USER)
    assert (stored.event_id, stored.execution_id, stored.summarised) == (said.id, None, False)
    event = await store.read(EventById(said.id, "local"))
    assert (event.session_id, event.status) == (said.session_id, E.QUEUED)


async def test_an_answer_lands_with_its_record(store: Store, talk: Talk, agent: str) -> None:
    said = await talk.say(agent, "why?")
    (claimed,) = await talk.claim(agent)
    told = answer("because", metadata={"model": "fast"})
    run = talk.make.execution(claimed, session_id=claimed.session_id)
    record = talk.make.record(claimed, execution=run, answers=(told, answer("and so on")))
    await store.write(Finish(record))
    question, first, second = await store.read(MessagesOf(said.id, "local"))
    assert texts([question, first, second]) == ["why?", "because", "and so on"]
    assert [(one.turn, one.part) for one in (question, first, second)] == [(1, 0), (1, 1), (1, 2)]
    assert (first.id, first.execution_id, first.metadata) == (
        told.id,
        claimed.execution_id,
        {"model": "fast"},
    )
    assert said.session_id is not None
    session = await store.read(SessionBy(said.session_id, "local"))
    assert (session.turns, session.messages, session.unsummarised) == (1, 3, 3)
    # A journal may be replayed.
    await store.write(Finish(record))
    assert len(await store.read(MessagesOf(said.id, "local"))) == 3
    assert (await store.read(SessionBy(said.session_id, "local"))).messages == 3


async def test_a_chat_is_one_session_for_agent_and_channel(
    store: Store, talk: Talk, agent: str
) -> None:
    other = (await talk.agent(name="other")).id
    first = await talk.say(agent, chat_id="c1")
    same = await talk.say(agent, chat_id="c1", turn={"channel": "api"})
    assert same.session_id == first.session_id
    others = [
        await talk.say(agent, chat_id="c2"),
        await talk.say(agent, chat_id="c1", turn={"channel": "redis"}),
        await talk.say(other, chat_id="c1"),
        await talk.say(agent),
        await talk.say(agent),
    ]
    ids = {one.session_id for one in (first, *others)}
    assert len(ids) == 6
    assert first.session_id is not None
    assert (await store.read(SessionBy(first.session_id, "local"))).turns == 2


async def test_what_is_said_at_once_is_numbered_and_run_in_one_order(
    store: Store, talk: Talk, agent: str, backend: str, reopen: Callable[[], Store]
) -> None:
    """On PostgreSQL through two stores, as of two hubs."""
    stores = [store] if backend == "sqlite" else [store, reopen()]
    try:
        ids = sorted((new_id() for _ in range(30)), reverse=True)  # another order than that of time
        said = await asyncio.gather(
            *(
                stores[n % len(stores)].write(talk.submit(agent, f"m{n}", chat_id="one", id=id_))
                for n, id_ in enumerate(ids)
            )
        )
    finally:
        for over in stores[1:]:
            await over.close()
    (session_id,) = {one.session_id for one in said}
    assert session_id is not None
    window = await talk.window(session_id)
    assert [one.turn for one in window] == list(range(1, 31))
    session = await store.read(SessionBy(session_id, "local"))
    assert (session.turns, session.messages, session.unsummarised) == (30, 30, 30)
    ran: list[str] = []
    for _ in range(30):
        (claimed,) = await talk.claim(agent)
        ran.append(claimed.event_id)
        await talk.finish(claimed)
    assert ran == [one.event_id for one in window], "run in the order of their numbers"


async def test_a_message_comes_after_one_that_another_hub_stored_later(
    store: Store, talk: Talk, agent: str, store_url: str
) -> None:
    """Its transaction began before, and waited for the other's."""
    first = await talk.say(agent, chat_id="c")
    tamper(store_url, f"UPDATE sessions SET updated_at = updated_at + {HOUR}")
    second = await talk.say(agent, chat_id="c")
    third = await talk.say(agent, chat_id="c", id="0" * 36)
    events = [await store.read(EventById(one.id, "local")) for one in (first, second, third)]
    assert [one.available_at - events[0].available_at for one in events] == [0, HOUR + 1, HOUR + 2]


async def test_a_key_that_is_known_stores_nothing_again(
    store: Store, talk: Talk, agent: str, store_url: str
) -> None:
    first = await talk.say(agent, idempotency_key="k")
    again = await talk.say(agent, idempotency_key="k")
    assert (again.id, again.created) == (first.id, False)
    assert (again.session_id, again.message_id) == (first.session_id, first.message_id)
    with pytest.raises(IdempotencyConflict):
        await talk.say(agent, "other", idempotency_key="k", body_hash="h2")
    assert first.session_id is not None
    archived = SessionStatus.ARCHIVED
    await store.write(ChangeSession(id=first.session_id, owner_id="local", status=archived))
    later = await talk.say(agent, idempotency_key="k", session_id=first.session_id)
    assert later.id == first.id, "it was taken in before"
    assert count(store_url, "sessions") == count(store_url, "messages") == 1


async def test_of_many_with_one_key_one_is_stored(
    store: Store, talk: Talk, agent: str, backend: str, reopen: Callable[[], Store], store_url: str
) -> None:
    stores = [store] if backend == "sqlite" else [store, reopen()]
    try:
        results = await asyncio.gather(
            *(
                stores[n % len(stores)].write(
                    talk.submit(agent, idempotency_key=f"k{n % 3}", chat_id=f"c{n % 4}")
                )
                for n in range(24)
            )
        )
    finally:
        for over in stores[1:]:
            await over.close()
    assert sum(one.created for one in results) == 3
    assert len({(one.id, one.session_id, one.message_id) for one in results}) == 3
    assert count(store_url, "messages") == count(store_url, "events") == 3
    assert count(store_url, "sessions", "turns = 0") == 0
    assert count(store_url, "sessions") == len({one.session_id for one in results})


@pytest.mark.parametrize("wrong", ["unknown", "another agent's", "another owner's", "archived"])
async def test_a_session_that_takes_no_message_leaves_nothing(
    store: Store, talk: Talk, agent: str, wrong: str, store_url: str
) -> None:
    expected: type[Exception] = NotFound
    owner = "local"
    match wrong:
        case "unknown":
            session_id = new_id()
        case "another agent's":
            session_id = await history(talk, (await talk.agent(name="other")).id, 1)
        case "another owner's":
            session_id = await history(talk, agent, 1)
            agent = (await talk.agent(owner_id="eve")).id
            owner = "eve"
        case _:
            session_id = await history(talk, agent, 1)
            archived = SessionStatus.ARCHIVED
            await store.write(ChangeSession(id=session_id, owner_id="local", status=archived))
            expected = IllegalMove
    before = {table: count(store_url, table) for table in ("sessions", "messages", "events")}
    good = talk.submit(agent, "beside it", owner_id=owner)
    bad = talk.submit(agent, session_id=session_id, owner_id=owner)
    stored, refused = await asyncio.gather(
        store.write(good), store.write(bad), return_exceptions=True
    )
    assert isinstance(refused, expected)
    assert not isinstance(stored, BaseException)
    after = {table: count(store_url, table) for table in before}
    assert after == {table: n + 1 for table, n in before.items()}


@pytest.mark.parametrize(
    ("status", "error", "event", "said"),
    [
        (X.SUCCEEDED, None, E.SUCCEEDED, ["q", "answer"]),
        (X.PARTIAL, None, E.SUCCEEDED, ["q", "answer"]),
        (X.FAILED, {"code": "bad", "message": "no"}, E.FAILED, ["q", "sorry"]),
        (X.TIMED_OUT, {"code": "late", "message": "no"}, E.FAILED, ["q", "sorry"]),
        (X.CANCELLED, None, E.CANCELLED, ["q"]),
        (X.CRASHED, {"code": "runner_lost", "message": "no"}, E.QUEUED, ["q"]),
    ],
)
async def test_what_is_said_of_each_outcome(
    store: Store,
    talk: Talk,
    agent: str,
    status: ExecutionStatus,
    error: Any,
    event: EventStatus,
    said: list[str],
) -> None:
    turn = await talk.say(agent, "q")
    (claimed,) = await talk.claim(agent)
    run = talk.make.execution(claimed, status=status, session_id=claimed.session_id, error=error)
    finished = await talk.finish(claimed, "answer", status=status, apology="sorry", execution=run)
    assert finished.event_status is event
    assert texts(await store.read(MessagesOf(turn.id, "local"))) == said
    assert turn.session_id is not None
    session = await store.read(SessionBy(turn.session_id, "local"))
    assert session.messages == session.unsummarised == len(said)


async def test_a_dead_turn_apologises_once_and_is_answered_when_it_is_replayed(
    store: Store, talk: Talk, agent: str
) -> None:
    turn = await talk.say(agent, "q")
    for n in range(3):
        (claimed,) = await talk.claim(agent)
        run = talk.make.execution(
            claimed,
            status=X.CRASHED,
            session_id=claimed.session_id,
            error={"code": "runner_lost", "message": "gone"},
        )
        finished = await talk.finish(claimed, status=X.CRASHED, apology="sorry", execution=run)
        assert finished.event_status is (E.DEAD if n == 2 else E.QUEUED)
    assert texts(await store.read(MessagesOf(turn.id, "local"))) == ["q", "sorry"]
    await store.write(
        Intervene(event_id=turn.id, owner_id="local", by="me", action=Action.REPLAYED)
    )
    (claimed,) = await talk.claim(agent)
    await talk.finish(claimed, "here it is")
    found = await store.read(MessagesOf(turn.id, "local"))
    assert texts(found) == ["q", "sorry", "here it is"]
    assert [one.part for one in found] == [0, 1, 2]


async def test_a_turn_that_is_given_up_with_its_hub_is_apologised_for_once(
    store: Store, talk: Talk, agent: str
) -> None:
    turn = await talk.say(agent, "q")
    sorry = Apologise(event_id=turn.id, owner_id="local", message=answer("sorry"))
    for _ in range(3):
        assert not await store.write(sorry), "it is not given up"
        (claimed,) = await talk.claim(agent, lease_us=-1)
        await store.write(Reap(lease_owner="boot-2"))
    assert (await store.read(EventById(turn.id, "local"))).status is E.DEAD
    assert not await store.write(replace(sorry, owner_id="eve"))
    assert [await store.write(sorry), await store.write(sorry)] == [True, False]
    question, word = await store.read(MessagesOf(turn.id, "local"))
    assert (word.content, word.turn, word.part) == ("sorry", 1, 1)
    assert word.execution_id == claimed.execution_id
    assert turn.session_id is not None
    session = await store.read(SessionBy(turn.session_id, "local"))
    assert (session.messages, session.unsummarised) == (2, 2)
    assert question.role is Speaker.USER
    await store.write(DeleteSession(turn.session_id, "local"))
    assert not await store.write(sorry)


async def test_what_has_its_apology_gets_no_second_one(
    store: Store, talk: Talk, agent: str
) -> None:
    turn = await talk.say(agent, "q")
    (claimed,) = await talk.claim(agent)
    await talk.finish(claimed, status=X.TIMED_OUT, apology="late")
    sorry = Apologise(event_id=turn.id, owner_id="local", message=answer("sorry"))
    assert not await store.write(sorry)
    mail = await talk.make.running()
    await store.write(Finish(talk.make.record(mail, X.TIMED_OUT)))
    assert not await store.write(replace(sorry, event_id=mail.event_id)), "no agent's"
    assert texts(await store.read(MessagesOf(turn.id, "local"))) == ["q", "late"]


async def test_who_lost_the_lease_says_nothing(store: Store, talk: Talk, agent: str) -> None:
    turn = await talk.say(agent, "q")
    (first,) = await talk.claim(agent)
    await store.write(TakeBack("boot-1"))
    (second,) = await talk.claim(agent, lease_owner="boot-2")
    late = await talk.finish(first, "from the dead", apology="sorry")
    assert late.outcome == "superseded"
    assert texts(await store.read(MessagesOf(turn.id, "local"))) == ["q"]
    await talk.finish(second, "the answer", lease_owner="boot-2")
    assert texts(await store.read(MessagesOf(turn.id, "local"))) == ["q", "the answer"]
    assert (await store.read(ExecutionById(first.execution_id, "local"))).status is X.SUPERSEDED


async def test_a_turn_that_stands_still_answers_when_it_has_gone_on(
    store: Store, talk: Talk, agent: str
) -> None:
    turn = await talk.say(agent, "q", chat_id="x")
    (claimed,) = await talk.claim(agent)
    await halted(talk, claimed)
    next_one = await talk.say(agent, "q2", chat_id="x")
    assert texts(await store.read(MessagesOf(turn.id, "local"))) == ["q"]
    assert await talk.claim(agent) == [], "its turn is not over"
    await store.write(Cancel(turn.id, "local"))
    assert texts(await store.read(MessagesOf(turn.id, "local"))) == ["q"]
    assert [one.event_id for one in await talk.claim(agent)] == [next_one.id]


async def halted(talk: Talk, claimed: Claimed) -> None:
    wait = Wait(id="w", kind=WaitKind.ANSWER, name="ask")
    halt = Halt(
        part=1,
        steps=1,
        texts=2,
        seq=4,
        started_at=claimed.started_at,
        code_version="c1",
        counts={"succeeded": 1},
        totals=Totals(),
        flags={},
        open=(),
        stops=(),
    )
    run = talk.make.execution(
        claimed, status=X.WAITING, session_id=claimed.session_id, finished_at=None
    )
    record = talk.make.record(claimed, X.WAITING, execution=run, halt=halt, waits=(wait,))
    await talk.store.write(Finish(record))


async def test_records_of_pipelines_say_nothing(store: Store, talk: Talk, store_url: str) -> None:
    await talk.make.submitted(session_id="s")
    (claimed,) = await talk.make.claimed()
    run = talk.make.execution(claimed, session_id="s")
    await store.write(Finish(talk.make.record(claimed, execution=run, answers=(answer(),))))
    assert count(store_url, "messages") == 0
    assert (await store.read(EventById(claimed.event_id, "local"))).status is E.SUCCEEDED


# Sessions


async def test_a_session_is_made_once_a_chat(store: Store, agent: str) -> None:
    new = NewSession(
        id=new_id(),
        owner_id="local",
        agent_id=agent,
        title="t",
        chat_id="c",
        user={"a": 1},
        metadata={"b": [2]},
    )
    made = await store.write(MakeSession(new))
    assert (made.id, made.title, made.user, made.metadata) == (new.id, "t", {"a": 1}, {"b": [2]})
    assert await store.read(SessionBy(new.id, "local")) == made
    again = NewSession(id=new_id(), owner_id="local", agent_id=agent, chat_id="c", title="u")
    assert await store.write(MakeSession(again)) == made
    with pytest.raises(NotFound):
        await store.write(MakeSession(NewSession(id=new.id, owner_id="local", agent_id=new_id())))


async def test_a_session_is_renamed_and_archived(store: Store, talk: Talk, agent: str) -> None:
    session_id = await history(talk, agent, 1)
    change = ChangeSession(id=session_id, owner_id="local", title="new", metadata={"x": 1})
    changed = await store.write(change)
    assert (changed.title, changed.metadata, changed.messages) == ("new", {"x": 1}, 2)
    archived = SessionStatus.ARCHIVED
    changed = await store.write(ChangeSession(id=session_id, owner_id="local", status=archived))
    assert (changed.title, changed.status) == ("new", archived)
    assert await store.read(SessionBy(session_id, "local")) == changed
    active = SessionStatus.ACTIVE
    await store.write(ChangeSession(id=session_id, owner_id="local", status=active))
    assert (await talk.say(agent, session_id=session_id)).session_id == session_id


async def test_sessions_are_listed_by_their_newest_activity(
    store: Store, talk: Talk, agent: str
) -> None:
    other = (await talk.agent(name="other")).id
    a, b, c = [(await talk.say(agent, chat_id=name)).session_id for name in "abc"]
    d = (await talk.say(other)).session_id
    await talk.say(agent, chat_id="a")
    page = await store.read(Sessions(owner_id="local", limit=3))
    assert [one.id for one in page] == [a, d, c]
    rest = Sessions(owner_id="local", after=(page[-1].updated_at, page[-1].id))
    assert [one.id for one in await store.read(rest)] == [b]
    found = await store.read(Sessions(owner_id="local", agent_id=agent))
    assert [one.id for one in found] == [a, c, b]
    assert c is not None
    archived = SessionStatus.ARCHIVED
    await store.write(ChangeSession(id=c, owner_id="local", status=archived))
    found = await store.read(Sessions(owner_id="local", agent_id=agent, status=archived))
    assert [one.id for one in found] == [c]
    found = await store.read(Sessions(owner_id="local", status=SessionStatus.ACTIVE))
    assert [one.id for one in found] == [a, d, b]


async def test_messages_come_in_pages_newest_first(store: Store, talk: Talk, agent: str) -> None:
    session_id = await history(talk, agent, 3)
    page = await store.read(Messages(session_id=session_id, owner_id="local", limit=4))
    assert texts(page) == ["a3", "q3", "a2", "q2"]
    rest = Messages(session_id=session_id, owner_id="local", before=page[-1].id)
    assert texts(await store.read(rest)) == ["a1", "q1"]
    with pytest.raises(NotFound):
        await store.read(Messages(session_id=session_id, owner_id="local", before=new_id()))
    assert await store.read(MessageBy(page[0].id, "local")) == page[0]


async def test_feedback_is_given_to_answers(store: Store, talk: Talk, agent: str) -> None:
    session_id = await history(talk, agent, 1)
    question, reply = await talk.window(session_id)
    like = GiveFeedback(message_id=reply.id, owner_id="local", feedback="like", comment="good \0")
    stored = await store.write(like)
    assert (stored.feedback, stored.comment) == ("like", "good \\x00")
    assert await store.read(MessageBy(reply.id, "local")) == stored
    back = await store.write(GiveFeedback(message_id=reply.id, owner_id="local", feedback=None))
    assert (back.feedback, back.comment) == (None, None)
    with pytest.raises(IllegalMove):
        await store.write(GiveFeedback(message_id=question.id, owner_id="local", feedback="like"))


async def test_nobody_reaches_anothers_conversation(store: Store, talk: Talk, agent: str) -> None:
    session_id = await history(talk, agent, 2)
    window = await talk.window(session_id)
    ids = [one.id for one in window]
    event_id = window[0].event_id
    assert event_id is not None
    summary = message("s", Speaker.SUMMARY)
    place: dict[str, Any] = {"session_id": session_id, "owner_id": "eve"}
    for asked in (
        store.read(SessionBy(session_id, "eve")),
        store.read(Messages(session_id=session_id, owner_id="eve")),
        store.read(MessageBy(ids[0], "eve")),
        store.read(WindowOf(**place, event_id=event_id, limit=9, summaries=9)),
        store.read(OldestUnsummarised(**place, keep=0, block=1)),
        store.write(Summarise(**place, of=ids[:1], summary=summary)),
        store.write(ChangeSession(id=session_id, owner_id="eve", title="mine")),
        store.write(DeleteSession(session_id, "eve")),
        store.write(GiveFeedback(message_id=ids[1], owner_id="eve", feedback="like")),
    ):
        with pytest.raises(NotFound):
            await asked
    assert await store.read(Sessions(owner_id="eve")) == []
    assert await store.read(MessagesOf(event_id, "eve")) == []
    assert await talk.window(session_id) == window
    # Nor does a message of one session get into another one's summary.
    other = await history(talk, agent, 1)
    with pytest.raises(NotFound):
        await store.write(
            Summarise(session_id=other, owner_id="local", of=ids[:1], summary=summary)
        )


# Windows and summaries


async def test_a_window_ends_with_its_own_turn(store: Store, talk: Talk, agent: str) -> None:
    session_id = await history(talk, agent, 3)
    mine = await talk.say(agent, "q4", session_id=session_id)
    for n in (5, 6):
        await talk.say(agent, f"q{n}", session_id=session_id)
    assert texts(await talk.window(session_id))[-3:] == ["q4", "q5", "q6"]
    asked = WindowOf(
        session_id=session_id, owner_id="local", event_id=mine.id, limit=3, summaries=3
    )
    window = await store.read(asked)
    assert texts(window.messages) == ["q4", "a3", "q3", "a2"]
    assert window.unsummarised == 7
    assert window.summaries == []


async def summarised(
    store: Store, session_id: str, keep: int, block: int, content: str
) -> tuple[list[str], bool]:
    asked = OldestUnsummarised(session_id=session_id, owner_id="local", keep=keep, block=block)
    of = [one.id for one in await store.read(asked)]
    summary = message(content, Speaker.SUMMARY)
    command = Summarise(
        session_id=session_id, owner_id="local", of=of, summary=summary, execution_id="x"
    )
    return of, await store.write(command)


async def test_a_summary_stands_for_the_oldest(store: Store, talk: Talk, agent: str) -> None:
    session_id = await history(talk, agent, 6)
    before = await talk.window(session_id)
    of, done = await summarised(store, session_id, keep=4, block=4, content="s1")
    assert done
    assert of == [one.id for one in before[:4]]
    of, done = await summarised(store, session_id, keep=4, block=4, content="s2")
    assert (of, done) == ([one.id for one in before[4:8]], True)
    asked = OldestUnsummarised(session_id=session_id, owner_id="local", keep=4, block=4)
    assert await store.read(asked) == [], "the newest four stay whole"
    window = await store.read(
        WindowOf(session_id=session_id, owner_id="local", event_id=None, limit=50, summaries=50)
    )
    assert texts(window.messages) == ["a6", "q6", "a5", "q5"]
    assert texts(window.summaries) == ["s2", "s1"]
    assert window.unsummarised == 4
    second, first = window.summaries
    assert (list(first.summary_of), first.execution_id) == ([one.id for one in before[:4]], "x")
    assert (first.role, first.turn, first.part) == (Speaker.SUMMARY, 2, 1)
    assert list(second.summary_of) == of
    # What was said is kept as it was.
    said = await store.read(Messages(session_id=session_id, owner_id="local"))
    assert texts(list(reversed(said))) == texts(before)
    assert [one.summarised for one in reversed(said)] == [True] * 8 + [False] * 4
    session = await store.read(SessionBy(session_id, "local"))
    assert (session.messages, session.unsummarised) == (12, 4)


async def test_a_message_is_summarised_once(
    store: Store, talk: Talk, agent: str, backend: str, reopen: Callable[[], Store], store_url: str
) -> None:
    """However often it is tried, with blocks that lie across each other too."""
    session_id = await history(talk, agent, 5)
    ids = [one.id for one in await talk.window(session_id)]
    stores = [store] if backend == "sqlite" else [store, reopen()]
    blocks = [ids[0:4], ids[0:4], ids[2:6], ids[3:5], ids[0:1]] * 2
    try:
        results = await asyncio.gather(
            *(
                stores[n % len(stores)].write(
                    Summarise(
                        session_id=session_id,
                        owner_id="local",
                        of=of,
                        summary=message(f"s{n}", Speaker.SUMMARY),
                    )
                )
                for n, of in enumerate(blocks)
            )
        )
    finally:
        for over in stores[1:]:
            await over.close()
    window = await store.read(
        WindowOf(session_id=session_id, owner_id="local", event_id=None, limit=50, summaries=50)
    )
    stood_for = [one for summary in window.summaries for one in summary.summary_of]
    assert len(stood_for) == len(set(stood_for))
    assert sum(results) == len(window.summaries) >= 1
    marked = count(store_url, "messages", "summarised = 1")
    assert marked == len(stood_for)
    assert window.unsummarised == 10 - marked == len(window.messages)


async def test_a_summary_stands_for_messages_only(store: Store, talk: Talk, agent: str) -> None:
    session_id = await history(talk, agent, 2)
    of, _ = await summarised(store, session_id, keep=1, block=2, content="s1")
    assert len(of) == 2
    (summary,) = (
        await store.read(
            WindowOf(session_id=session_id, owner_id="local", event_id=None, limit=1, summaries=9)
        )
    ).summaries
    for wrong in ([], [summary.id]):
        with pytest.raises(InvalidInput):
            await store.write(
                Summarise(
                    session_id=session_id,
                    owner_id="local",
                    of=wrong,
                    summary=message("s2", Speaker.SUMMARY),
                )
            )


async def test_the_database_itself_refuses_a_second_summary_and_a_second_place(
    store: Store, talk: Talk, agent: str, store_url: str
) -> None:
    session_id = await history(talk, agent, 2)
    await summarised(store, session_id, keep=1, block=2, content="s1")
    engine = create_engine(address(store_url).sqlalchemy_url, poolclass=NullPool)
    columns = "session_id, owner_id, turn, part, role, content, tokens, summarised, summary_of"
    names = f"{columns}, metadata, created_at"
    for role in ("summary", "user"):
        with engine.begin() as connection, pytest.raises(IntegrityError):
            connection.execute(
                text(
                    f"INSERT INTO messages (id, {names}) SELECT :id, {names} FROM messages "
                    "WHERE role = :role ORDER BY turn LIMIT 1"
                ),
                {"id": new_id(), "role": role},
            )


async def test_nothing_is_summarised_over_a_turn_that_has_not_ended(
    store: Store, talk: Talk, agent: str
) -> None:
    session_id = await history(talk, agent, 1)
    waiting = await talk.say(agent, "q2", session_id=session_id)
    for n in range(3, 9):
        await talk.say(agent, f"q{n}", session_id=session_id)
    asked = OldestUnsummarised(session_id=session_id, owner_id="local", keep=2, block=4)
    assert await store.read(asked) == []
    short = OldestUnsummarised(session_id=session_id, owner_id="local", keep=2, block=2)
    assert texts(await store.read(short)) == ["q1", "a1"]
    (claimed,) = await talk.claim(agent)
    assert claimed.event_id == waiting.id
    assert await store.read(asked) == []
    await talk.finish(claimed, "a2")
    assert texts(await store.read(asked)) == ["q1", "a1", "q2", "a2"]


# The end of a session


async def test_a_session_goes_with_everything_in_it(
    store: Store, talk: Talk, agent: str, store_url: str
) -> None:
    session_id = await history(talk, agent, 3)
    kept = await history(talk, agent, 2)
    await summarised(store, session_id, keep=1, block=2, content="s1")
    queued = await talk.say(agent, "late", session_id=session_id)
    await store.write(
        PutItems("local", [NewItem(namespace=("sessions", session_id, "x"), key="k", value={})])
    )
    before = await talk.window(kept)
    removed = await store.write(DeleteSession(session_id, "local"))
    assert [(one.event_id, one.status) for one in removed.moved] == [(queued.id, E.CANCELLED)]
    for asked in (SessionBy(session_id, "local"), EventById(queued.id, "local")):
        with pytest.raises(NotFound):
            await store.read(asked)
    with pytest.raises(NotFound):
        await store.write(DeleteSession(session_id, "local"))
    with pytest.raises(NotFound):
        await talk.say(agent, session_id=session_id)
    assert await store.read(ListNamespaces(owner_id="local")) == []
    left = {"sessions": 1, "messages": 4, "events": 2, "executions": 2, "steps": 2, "payloads": 2}
    assert {table: count(store_url, table) for table in left} == left
    assert await talk.window(kept) == before


@pytest.mark.parametrize("ends", ["cancelled", "succeeded", "crashed", "reaped", "taken back"])
async def test_a_turn_that_runs_goes_when_it_has_ended(
    store: Store, talk: Talk, agent: str, store_url: str, ends: str
) -> None:
    said = await talk.say(agent, "q", chat_id="c")
    (claimed,) = await talk.claim(agent, lease_us=-1 if ends == "reaped" else HOUR)
    assert said.session_id is not None
    removed = await store.write(DeleteSession(said.session_id, "local"))
    assert [(one.execution_id, one.status) for one in removed.moved] == [
        (claimed.execution_id, E.RUNNING)
    ]
    assert count(store_url, "messages") == 0
    assert (await store.read(EventById(said.id, "local"))).cancel_requested_at is not None
    # A new conversation in that chat begins at once, and does not wait for the old one.
    fresh = await talk.say(agent, "q", chat_id="c")
    assert fresh.session_id != said.session_id
    (beside,) = await talk.claim(agent, lease_owner="boot-9")
    assert beside.event_id == fresh.id
    await store.write(  # what it still wrote meanwhile
        PutItems("local", [NewItem(namespace=("sessions", said.session_id), key="late", value={})])
    )
    match ends:
        case "reaped":
            (given,) = await store.write(Reap(lease_owner="boot-2"))
            assert (given.event_id, given.status) == (said.id, E.CANCELLED)
        case "taken back":
            (given,) = await store.write(TakeBack("boot-1"))
            assert (given.event_id, given.status) == (said.id, E.CANCELLED)
        case _:
            status = X(ends)
            error = {"code": "runner_lost", "message": "x"} if status is X.CRASHED else None
            run = talk.make.execution(
                claimed, status=status, session_id=claimed.session_id, error=error
            )
            saved = (checkpoint("1", thread=said.session_id),)  # of a graph that keeps its own
            finished = await talk.finish(claimed, "late", status=status, execution=run, saved=saved)
            assert finished.outcome == "applied"
    for asked in (EventById(said.id, "local"), ExecutionById(claimed.execution_id, "local")):
        with pytest.raises(NotFound):
            await store.read(asked)
    assert await store.read(ListNamespaces(owner_id="local")) == []
    await talk.finish(beside, "hello", lease_owner="boot-9")
    left = {"sessions": 1, "messages": 2, "events": 1, "executions": 1, "payloads": 1}
    left |= {"checkpoints": 0, "checkpoint_blobs": 0}
    assert {table: count(store_url, table) for table in left} == left


async def test_a_turn_that_stands_still_goes_with_its_session(
    store: Store, talk: Talk, agent: str, store_url: str
) -> None:
    said = await talk.say(agent, "q")
    (claimed,) = await talk.claim(agent)
    await halted(talk, claimed)
    assert said.session_id is not None
    removed = await store.write(DeleteSession(said.session_id, "local"))
    assert [(one.event_id, one.status) for one in removed.moved] == [(said.id, E.CANCELLED)]
    for table in ("sessions", "messages", "events", "executions", "waits", "steps"):
        assert count(store_url, table) == 0, table


async def test_turns_and_their_session_deleted_at_once_leave_nothing(
    store: Store, talk: Talk, agent: str, backend: str, reopen: Callable[[], Store], store_url: str
) -> None:
    """On PostgreSQL through two stores, as of two hubs."""
    other = store if backend == "sqlite" else reopen()
    try:
        for _ in range(8):
            session_id = await history(talk, agent, 2)
            await talk.say(agent, session_id=session_id)
            (claimed,) = await talk.claim(agent)
            results = await asyncio.gather(
                talk.finish(claimed, "a"),
                other.write(DeleteSession(session_id, "local")),
                store.write(talk.submit(agent, session_id=session_id)),
                other.write(talk.submit(agent, session_id=session_id)),
                talk.claim(agent, lease_owner="boot-2"),
                return_exceptions=True,
            )
            wrong = [
                one
                for one in results
                if isinstance(one, BaseException) and not isinstance(one, NotFound)
            ]
            assert not wrong
            for one in results[4] if isinstance(results[4], list) else []:
                await talk.finish(one, "a", lease_owner="boot-2")
            for table in ("sessions", "messages", "events", "executions", "steps"):
                assert count(store_url, table) == 0, table
    finally:
        if other is not store:
            await other.close()


async def test_a_message_outlives_the_record_of_its_turn(
    store: Store, talk: Talk, agent: str
) -> None:
    session_id = await history(talk, agent, 1)
    before = await talk.window(session_id)
    event_id = before[0].event_id
    assert event_id is not None
    assert await store.write(Prune(owner_id="local", event_ids=[event_id])) == 1
    assert await talk.window(session_id) == before
    asked = OldestUnsummarised(session_id=session_id, owner_id="local", keep=0, block=2)
    assert await store.read(asked) == before


async def test_a_message_that_is_there_already_is_refused_with_its_event(
    talk: Talk, agent: str, store_url: str
) -> None:
    said = message()
    await talk.say(agent, turn={"message": said})
    with pytest.raises(StoreRefused):
        await talk.say(agent, turn={"message": said})
    assert count(store_url, "sessions") == count(store_url, "events") == 1


def tamper(store_url: str, sql: str) -> None:
    engine = create_engine(address(store_url).sqlalchemy_url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text(sql))

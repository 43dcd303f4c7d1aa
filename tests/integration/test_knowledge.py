"""Documents indexed and searched: by running work, on both databases, beside another hub."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from holdfast.domain.events import LOCAL_OWNER
from holdfast.domain.knowledge import Hit, read_search
from holdfast.domain.replays import Plan
from holdfast.errors import IllegalMove, InvalidInput, ModelError, NotFound, SettingsError
from holdfast.llm.embeddings import Vectors
from holdfast.operations import knowledge
from holdfast.operations.kit import Kit
from holdfast.operations.replay import replay
from holdfast.store.queries import ComparesVectors
from holdfast.testing.postgres import PostgresForTests
from holdfast.testing.providers import FakeAnswer, FakeOpenAI

from .conftest import HubForTests, OpenHub

TEXTS = {
    "pump": "The pump is primed with water. Turn the red knob to the left.",
    "mower": "The mower starts with a pull at the cord. Its blade is sharp.",
    "radio": "The radio is tuned with the big dial.",
}


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/holdfast.db"
        return
    server: PostgresForTests = request.getfixturevalue("postgres")
    url = server.migrated()
    yield url
    server.drop(url)


@pytest.fixture
async def hub(
    open_hub: OpenHub, hub_environ: dict[str, str], database_url: str
) -> AsyncIterator[HubForTests]:
    hub_environ["HOLDFAST_APPS"] = "knowledge_app"
    async with open_hub(in_process=True, database_url=database_url) as opened:
        yield opened


async def keep(kit: Kit, key: str, text: str, owner: str = LOCAL_OWNER, **more: Any) -> Any:
    more = {"collection": "manuals", **more}
    return await knowledge.index(kit, owner_id=owner, key=key, text=text, **more)


async def find(kit: Kit, query: str, owner: str = LOCAL_OWNER, **more: Any) -> list[Hit]:
    asked = read_search(**{"collection": "manuals", "query": query, **more})
    return await knowledge.search(kit, asked, owner_id=owner)


async def test_running_work_indexes_and_finds_and_its_record_tells(hub: HubForTests) -> None:
    for key, text in TEXTS.items():
        event, whole = await hub.run("knowledge.learn", key=key, text=text)
        assert event.status == "succeeded"
        (step,) = whole.steps
        assert (step.kind, step.operation) == ("index", "keep")
    event, whole = await hub.run("knowledge.answer", text="Which knob do I turn on the pump?")
    assert event.status == "succeeded"
    payload = whole.payload
    step = whole.steps[0]
    assert (step.kind, step.operation, step.status) == ("retrieval", "find", "succeeded")
    found = payload.get(step.output)
    assert found["query"] == "Which knob do I turn on the pump?"
    assert found["hits"][0]["key"] == "pump"
    assert found["hits"][0]["text"] == TEXTS["pump"]
    assert 0 < found["hits"][0]["similarity"] < 1
    (attempt,) = whole.attempts
    assert (attempt.provider, attempt.model) == ("hashing", "ngrams-1")
    assert (attempt.usage, attempt.cost_pico, attempt.tokens_input) == ("none", 0, None)
    assert attempt.parameters["label"] == "hashing, not a language model"
    assert payload.get(whole.execution.output).startswith("pump: [pump]\nThe pump")
    # The same text again: nothing is embedded, and the record says so.
    _, whole = await hub.run("knowledge.learn", key="pump", text=TEXTS["pump"])
    assert whole.attempts == ()
    assert whole.payload.get(whole.execution.output)["embedded"] is False


async def test_what_fails_is_told_by_the_run(hub: HubForTests) -> None:
    event, whole = await hub.run("knowledge.answer", text="anything")
    assert event.status == "failed"
    assert "there is no collection manuals" in whole.execution.error["message"]
    await hub.run("knowledge.learn", key="a", text="anything")
    event, whole = await hub.run("knowledge.learn", key="a", text="  ")
    assert "text must be more than white space" in whole.execution.error["message"]


async def test_modes_limits_and_filters(hub: HubForTests) -> None:
    kit = hub.kit
    for n, (key, text) in enumerate(TEXTS.items()):
        await keep(kit, key, text, metadata={"n": n, "tags": [key[0], "all"]})
    for mode in ("semantic", "keyword", "hybrid"):
        best = await find(kit, "red knob pump", mode=mode)
        assert best[0].key == "pump"
        assert [hit.score for hit in best] == sorted((hit.score for hit in best), reverse=True)
        assert (best[0].similarity is None) == (mode == "keyword")
        assert best[0].metadata == {"n": 0, "tags": ["p", "all"]}
        assert len(await find(kit, "the pump mower radio", mode=mode, limit=1)) == 1
        others = await find(kit, "red knob pump is with", mode=mode, filters={"n": {"gt": 0}})
        assert {hit.key for hit in others} == {"mower", "radio"}
        assert await find(kit, "red knob pump", mode=mode, filters={"tags": "z"}) == []
    assert len(await find(kit, "knob", mode="keyword")) == 1
    everything = await find(kit, "red knob pump", mode="semantic")
    least = everything[0].similarity
    assert least is not None
    assert [
        h.key for h in await find(kit, "red knob pump", mode="semantic", min_score=least - 0.01)
    ] == ["pump"]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"filters": {"n": {"regex": "x"}}}, "filters.n.regex"),
        ({"filters": {"n": {"gt": 1, "gte": 2}}}, "filters.n"),
        ({"filters": {"n": {"gt": 1, "lt": "b"}}}, "filters.n"),
        ({"filters": {"n": {"in": []}}}, "filters.n.in"),
        ({"filters": {"n": {}}}, "filters.n"),
        ({"filters": {"n": None}}, "filters.n"),
        ({"filters": {"n": {"eq": [1]}}}, "filters.n.eq"),
        ({"filters": {"n": {"gt": True}}}, "filters.n.gt"),
        ({"mode": "magic"}, "mode"),
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"min_score": 2}, "min_score"),
        ({"min_score": 0.5, "mode": "keyword"}, "min_score"),
        ({"query": " \n"}, "query"),
        ({"collection": "../x"}, "collection"),
    ],
)
def test_what_cannot_be_meant_is_refused(wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_search(**{"collection": "c", "query": "q", **wrong})
    assert [one["field"] for one in refused.value.fields] == [field]


async def test_every_change_is_seen_by_the_next_search(hub: HubForTests) -> None:
    kit = hub.kit
    await keep(kit, "a", "alpha words")
    assert (await find(kit, "alpha words", mode="semantic"))[0].similarity == pytest.approx(
        1, abs=1e-5
    )
    await keep(kit, "b", "beta sayings")
    assert (await find(kit, "beta sayings", mode="semantic"))[0].key == "b"
    await keep(kit, "a", "gamma rays")
    near = await find(kit, "alpha words", mode="semantic")
    assert sorted(h.text for h in near) == ["beta sayings", "gamma rays"]
    # What is gone takes nobody's place.
    assert len(await find(kit, "alpha words", mode="semantic", limit=1)) == 1
    await knowledge.remove_document(kit, "manuals", "b", LOCAL_OWNER)
    assert [h.key for h in await find(kit, "beta", mode="semantic")] == ["a"]
    await knowledge.remove_collection(kit, "manuals", LOCAL_OWNER)
    with pytest.raises(NotFound):
        await find(kit, "beta")
    await keep(kit, "a", "all new")
    assert [h.text for h in await find(kit, "beta", mode="semantic")] == ["all new"]


async def test_searches_beside_changes_see_whole_documents(hub: HubForTests) -> None:
    kit = hub.kit
    await keep(kit, "a", "version 0")

    async def change() -> None:
        for n in range(1, 15):
            await keep(kit, "a", f"version {n}")

    async def look() -> None:
        for _ in range(25):
            assert len(await find(kit, "version", mode="semantic")) <= 1

    await asyncio.gather(change(), look(), look())
    assert [h.text for h in await find(kit, "version", mode="semantic")] == ["version 14"]


async def test_without_numpy_it_says_what_to_install(
    hub: HubForTests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    await keep(hub.kit, "a", "some words")
    assert [h.key for h in await find(hub.kit, "words", mode="keyword")] == ["a"]
    if await hub.kit.store.read(ComparesVectors()):
        assert [h.key for h in await find(hub.kit, "words", mode="hybrid")] == ["a"]
        return
    for mode in ("semantic", "hybrid"):
        with pytest.raises(SettingsError, match=r"holdfast\[knowledge\]"):
            await find(hub.kit, "words", mode=mode)


async def test_owners_have_collections_of_their_own(hub: HubForTests) -> None:
    kit = hub.kit
    await keep(kit, "a", "my secret pump")
    await keep(kit, "a", "their own radio", owner="b")
    for mode in ("semantic", "keyword", "hybrid"):
        assert {h.text for h in await find(kit, "secret pump radio", mode=mode)} == {
            "my secret pump"
        }
        theirs = await find(kit, "secret pump radio", owner="b", mode=mode)
        assert {h.text for h in theirs} == {"their own radio"}


async def test_embeddings_of_a_provider(
    open_hub: OpenHub, hub_environ: dict[str, str], database_url: str
) -> None:
    hub_environ["HOLDFAST_APPS"] = "knowledge_app"
    with FakeOpenAI() as server:
        alias = {"model": "openai:text-embedding-3-small", "base_url": server.url}
        hub_environ["HOLDFAST_EMBEDDINGS"] = orjson.dumps({"default": alias}).decode()
        async with open_hub(in_process=True, database_url=database_url) as hub:
            _, whole = await hub.run("knowledge.learn", key="a", text="five words are in here")
            (attempt,) = whole.attempts
            assert attempt.request_id == "req_fake_1"
            assert (attempt.usage, attempt.tokens_input, attempt.tokens_output) == (
                "reported",
                5,
                0,
            )
            assert attempt.cost_pico == 5 * 20_000  # $0.02 for a million
            assert whole.execution.totals.tokens_input == 5
            # A refused call is an attempt, too, and the node's policy tries again.
            server.answer([FakeAnswer(status=429, headers={"retry-after": "0"}), FakeAnswer()])
            _, whole = await hub.run("knowledge.answer", text="which words")
            assert [(a.status, a.http_status, a.error_class) for a in whole.attempts] == [
                ("failed", 429, "rate_limit"),
                ("succeeded", None, None),
            ]
            assert [len(r.body["input"]) for r in server.requests] == [1, 1, 1]
            # Nothing but the hub's own aliases makes vectors for it.
            with pytest.raises(InvalidInput, match="embedding must be default, not 'other'"):
                await keep(hub.kit, "b", "x", alias="other")
            made = Vectors()
            server.answer([FakeAnswer(status=500)])
            with pytest.raises(ModelError):
                await keep(hub.kit, "b", "x", made=made)
            assert [call.http_status for call in made.calls] == [500]
    # Another model by now: nothing is mixed, nobody is asked.
    hub_environ["HOLDFAST_EMBEDDINGS"] = "{}"
    async with open_hub(in_process=True, database_url=database_url) as hub:
        with pytest.raises(SettingsError, match="openai:text-embedding-3-small"):
            await find(hub.kit, "words")
        with pytest.raises(IllegalMove, match="another collection"):
            await keep(hub.kit, "c", "y", alias="default")
        assert [h.key for h in await find(hub.kit, "words", mode="keyword")] == ["a"]


async def test_runners_reach_it_over_their_socket(
    open_hub: OpenHub, hub_environ: dict[str, str], database_url: str
) -> None:
    hub_environ["HOLDFAST_APPS"] = "knowledge_app"
    long = " ".join(f"Sentence {n} tells of nothing." for n in range(4000))  # several frames
    async with open_hub(database_url=database_url, runners=1) as hub:
        _, whole = await hub.run("knowledge.learn", key="long", text=long)
        chunks = whole.payload.get(whole.execution.output)["chunks"]
        assert chunks > 50
        assert len(whole.attempts) == -(-chunks // 96)
        _, whole = await hub.run("knowledge.answer", text="and 3999?")
        found = whole.payload.get(whole.steps[0].output)
        assert "Sentence 3999 tells" in found["hits"][0]["text"]


async def test_a_replay_finds_what_was_found_then_and_indexes_nothing(hub: HubForTests) -> None:
    _, learned = await hub.run("knowledge.learn", key="pump", text=TEXTS["pump"])
    _, asked = await hub.run("knowledge.answer", text="red knob")
    await knowledge.remove_collection(hub.kit, "manuals", LOCAL_OWNER)
    for whole in (asked, learned):
        sent = await replay(hub.kit, whole.execution.id, LOCAL_OWNER, Plan())
        event = await hub.ended(sent.id)
        assert event.status == "succeeded", event.last_error
        assert event.execution_id is not None
        again = await hub.whole(event.execution_id)
        first = again.payload.get(again.execution.output)
        assert first == whole.payload.get(whole.execution.output)
    assert await knowledge.collections(hub.kit, LOCAL_OWNER) == []

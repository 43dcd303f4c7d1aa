"""Prompts: every content a version, labels that move and go back, each owner's apart."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from holdfast.domain.prompts import APPS, FILE, Draft
from holdfast.errors import IllegalMove, NotFound
from holdfast.store import Store
from holdfast.store.commands import MoveLabel, PutPrompt, PutPromptFiles, RollBackLabel
from holdfast.store.queries import AllLabels, ListPrompts, PromptByName, PromptContent

DRAFT = Draft(
    name="support/judge",
    static="Judge the letter, {{ tone }}.",
    dynamic="{{ event.body }} \u2028 \U0001f600",
    definitions={"tone": "kindly", "most": [1, 2.5, None, {"deep": True}]},
    variables={"event.body": "the letter"},
    description="judges",
)


def other(text: str) -> Draft:
    return replace(DRAFT, dynamic=text)


async def put(store: Store, draft: Draft = DRAFT, owner: str = "a") -> str:
    version, _ = await store.write(PutPrompt(owner_id=owner, draft=draft, author="me"))
    return version.hash


async def move(store: Store, to: str, owner: str = "a", **fields: Any) -> Any:
    values = {"name": DRAFT.name, "label": "production", "by": "key", **fields}
    return await store.write(MoveLabel(owner_id=owner, hash=to, **values))


async def back(store: Store, owner: str = "a") -> Any:
    return await store.write(
        RollBackLabel(owner_id=owner, name=DRAFT.name, label="production", by="key")
    )


async def test_a_version_comes_back_as_it_was_sent(store: Store) -> None:
    made, new = await store.write(PutPrompt(owner_id="a", draft=DRAFT, author="me"))
    assert (new, made.author) == (True, "me")
    assert await store.read(PromptContent(DRAFT.name, "a", DRAFT.hash)) == made
    again, new = await store.write(PutPrompt(owner_id="a", draft=DRAFT, author="you"))
    assert (again, new) == (made, False)
    history = await store.read(PromptByName(DRAFT.name, "a"))
    assert [one.hash for one in history.versions] == [DRAFT.hash]


async def test_a_label_moves_and_goes_back_step_by_step(store: Store) -> None:
    first, second, third = [await put(store, other(f"{n} {{{{ event }}}}")) for n in range(3)]
    with pytest.raises(NotFound, match="no label"):
        await back(store)
    assert (await move(store, first)).move.before is None
    await move(store, second)
    moved = await move(store, third, reason="it is better")
    assert (moved.move.before, moved.label.hash) == (second, third)
    assert (await move(store, third)).move is None
    gone_back = await back(store)
    assert (gone_back.label.hash, gone_back.move.undoes) == (second, moved.move.id)
    assert (await back(store)).label.hash == first
    with pytest.raises(IllegalMove, match="nothing to go back to"):
        await back(store)
    await move(store, third)
    assert (await back(store)).label.hash == first
    history = await store.read(PromptByName(DRAFT.name, "a"))
    told = [(one.before, one.after, one.reason, one.by) for one in history.moves]
    assert told[-3] == (second, third, "it is better", "key")
    assert [one.label for one in history.labels] == ["production"]
    assert len(told) == 7


async def test_a_label_stands_at_versions_of_its_own_prompt_alone(store: Store) -> None:
    await put(store)
    with pytest.raises(NotFound, match="no version"):
        await move(store, "0" * 64)
    elsewhere = await put(store, replace(other("{{ event }}"), name="another"))
    with pytest.raises(NotFound, match="no version"):
        await move(store, elsewhere)
    assert await store.read(AllLabels()) == []


async def test_what_the_apps_bring_is_everybodys_and_stored_once(store: Store) -> None:
    assert await store.write(PutPromptFiles((DRAFT,))) == 1
    assert await store.write(PutPromptFiles((DRAFT,))) == 0
    edited = other("{{ event.excerpt }}")
    assert await store.write(PutPromptFiles((edited,))) == 1
    (label,) = await store.read(AllLabels())
    assert (label.owner_id, label.label, label.hash) == (APPS, FILE, edited.hash)
    for owner in ("a", "b"):
        (item,) = await store.read(ListPrompts(owner))
        assert (item.name, item.versions) == (DRAFT.name, 2)
        assert (await move(store, DRAFT.hash, owner)).label.hash == DRAFT.hash
    # Sent in by an owner it is the same version.
    assert (await store.write(PutPrompt(owner_id="a", draft=DRAFT, author="me")))[1] is False


async def test_nobody_sees_or_moves_what_is_anothers(store: Store) -> None:
    await store.write(PutPromptFiles((DRAFT,)))
    mine = await put(store, other("mine {{ event }}"), "a")
    await move(store, mine, "a")
    history = await store.read(PromptByName(DRAFT.name, "b"))
    assert [one.hash for one in history.versions] == [DRAFT.hash]
    assert [one.label for one in history.labels] == [FILE]
    assert all(one.owner_id == APPS for one in history.moves)
    with pytest.raises(NotFound):
        await store.read(PromptContent(DRAFT.name, "b", mine))
    with pytest.raises(NotFound):
        await move(store, mine, "b")
    with pytest.raises(NotFound):
        await back(store, "b")
    own = await put(store, replace(DRAFT, name="of/a"), "a")
    assert [one.name for one in await store.read(ListPrompts("b"))] == [DRAFT.name]
    with pytest.raises(NotFound):
        await store.read(PromptByName("of/a", "b"))
    assert own in {one.hash for one in (await store.read(PromptByName("of/a", "a"))).versions}


async def test_moves_at_the_same_time_follow_each_other(store: Store) -> None:
    versions = [await put(store, other(f"{n} {{{{ event }}}}")) for n in range(6)]
    await asyncio.gather(*(move(store, one) for one in versions))
    history = await store.read(PromptByName(DRAFT.name, "a"))
    steps = [(one.before, one.after) for one in reversed(history.moves)]
    assert sorted(after for _, after in steps) == sorted(versions)
    assert [before for before, _ in steps] == [None, *(after for _, after in steps[:-1])]

"""Prompts of the registry with real runners: which version runs use, and what the record says."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest

from holdfast.domain.events import LOCAL_OWNER
from holdfast.domain.prompts import FILE
from holdfast.errors import IllegalMove, InvalidInput, NotFound
from holdfast.hub.lookout import Lookout
from holdfast.operations import prompts, read
from holdfast.operations.resume import resume
from holdfast.operations.submit import submit
from holdfast.testing.postgres import PostgresForTests

from .conftest import HubForTests, OpenHub, until, until_true

NAME = "mail/judge"
BETTER = "Judge.\n--- dynamic ---\n{{ event.body }}, better\n"


@pytest.fixture
def hub_environ(hub_environ: dict[str, str]) -> dict[str, str]:
    models = '{"fast": "scripted:rules"}'
    return hub_environ | {"HOLDFAST_APPS": "prompting.app", "HOLDFAST_MODELS": models}


@pytest.fixture(params=["sqlite", "postgresql"])
def database(
    request: pytest.FixtureRequest, hub_environ: dict[str, str], postgres: PostgresForTests
) -> str:
    if request.param == "postgresql":
        hub_environ["HOLDFAST_DATABASE_URL"] = postgres.migrated()
    return request.param


async def put(hub: HubForTests, source: str = BETTER, owner: str = LOCAL_OWNER) -> str:
    view, _ = await prompts.put_prompt(
        hub.kit, owner_id=owner, name=NAME, source=source, author="test"
    )
    return view["version"]


async def label(hub: HubForTests, ref: str, owner: str = LOCAL_OWNER) -> None:
    await prompts.move_label(hub.kit, NAME, "production", ref, owner_id=owner, by="test")


def used(whole: read.Whole) -> list[tuple[Any, ...]]:
    return [
        (one.prompt_name, one.prompt_label, one.prompt_version)
        for one in whole.attempts
        if one.provider is not None
    ]


async def test_a_run_uses_the_labelled_version_and_keeps_it(
    open_hub: OpenHub, database: str, tmp_path: Path
) -> None:
    async with open_hub(runners=1) as hub:
        of_file = (await prompts.find_version(hub.kit, NAME, FILE, LOCAL_OWNER)).version.hash
        _, whole = await hub.run("prompting.judging", body="dear")
        assert used(whole) == [
            (NAME, "production", of_file),
            (NAME, "production", of_file),
            (NAME, "file", of_file),
        ]
        better = await put(hub)
        await label(hub, better)
        waiting = await hub.submit("prompting.judging", body="dear", folder=str(tmp_path))
        await until(tmp_path / "waits")
        # The label moves on while it runs: this execution keeps what it began with.
        best = await put(hub, "Judge.\n--- dynamic ---\n{{ event.body }}, best\n")
        await label(hub, best)
        (tmp_path / "open").touch()
        ended = await hub.ended(waiting)
        whole = await hub.whole(ended.execution_id or "")
        assert [one[2] for one in used(whole)] == [better, better, of_file]
        texts = [whole.payload.get(one.output) for one in whole.steps]
        assert texts[0] == texts[2] == "Judge.|dear, better"
        assert texts[3] == "Judge kindly.|dear, the file says"
        # The next one has the new version at once, and the old record what it had.
        _, after = await hub.run("prompting.judging", body="dear")
        assert used(after)[0] == (NAME, "production", best)
        await prompts.roll_back(
            hub.kit, NAME, "production", owner_id=LOCAL_OWNER, by="test", reason="too long"
        )
        _, rolled = await hub.run("prompting.judging", body="dear")
        assert used(rolled)[0] == (NAME, "production", better)
        assert used(await hub.whole(ended.execution_id or ""))[0][2] == better


async def test_what_goes_on_after_a_halt_keeps_its_versions(
    open_hub: OpenHub, database: str
) -> None:
    async with open_hub(in_process=True) as hub:
        better = await put(hub)
        await label(hub, better)
        event_id = await hub.submit("prompting.asking", body="dear")
        await hub.parts.hub.ready()
        execution_id = await _waiting(hub, event_id)
        await label(hub, FILE)
        await resume(hub.kit, execution_id, LOCAL_OWNER, answer="yes")
        whole = await hub.whole((await hub.ended(event_id)).execution_id or "")
        assert whole.execution.id == execution_id
        assert [one[2] for one in used(whole)] == [better, better]


async def test_a_moved_label_counts_for_the_very_next_claim(
    open_hub: OpenHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the look in the background, which is nearly always in time."""

    monkeypatch.setattr(Lookout, "_look_on", AsyncMock(return_value=3600.0))
    async with open_hub(in_process=True) as hub:
        better = await put(hub)
        await label(hub, better)
        _, whole = await hub.run("prompting.judging", body="dear")
        assert used(whole)[0] == (NAME, "production", better)


async def _waiting(hub: HubForTests, event_id: str) -> str:
    async def waits() -> bool:
        event = await read.event(hub.kit, event_id, LOCAL_OWNER)
        return event.status.value == "waiting"

    await until_true(waits)
    return (await read.event(hub.kit, event_id, LOCAL_OWNER)).execution_id or ""


async def test_an_owners_labels_are_their_own(open_hub: OpenHub, database: str) -> None:
    async with open_hub(in_process=True) as hub:
        mine = await put(hub, owner="ada")
        await label(hub, mine, "ada")
        sent = await submit(
            hub.kit, owner_id="ada", type="prompting.judging", data={"body": "dear"}
        )
        of_file = (await prompts.find_version(hub.kit, NAME, FILE, LOCAL_OWNER)).version.hash
        _, others = await hub.run("prompting.judging", body="dear")
        assert [one[2] for one in used(others)] == [of_file] * 3
        with hub.parts.ended.expect(sent.id) as future:
            event = await read.event(hub.kit, sent.id, "ada")
            if event.finished_at is None:
                await future
        event = await read.event(hub.kit, sent.id, "ada")
        hers = await read.execution(hub.kit, event.execution_id or "", "ada")
        assert used(hers)[0] == (NAME, "production", mine)
        with pytest.raises(NotFound):
            await prompts.find_version(hub.kit, NAME, mine, LOCAL_OWNER)
        with pytest.raises(NotFound):
            await label(hub, mine)


async def test_a_version_that_a_pipeline_cannot_render_gets_no_label_it_asks_for(
    open_hub: OpenHub,
) -> None:
    async with open_hub(in_process=True) as hub:
        odd = await put(hub, "{{ events.body }}")
        with pytest.raises(InvalidInput, match=r'"events", which is no node') as refused:
            await label(hub, odd)
        assert refused.value.hint == "did you mean event?"
        await prompts.move_label(hub.kit, NAME, "trial", odd, owner_id=LOCAL_OWNER, by="test")
        for taken in ("file", "latest", "edited"):
            with pytest.raises(IllegalMove, match=taken):
                await prompts.move_label(hub.kit, NAME, taken, odd, owner_id=LOCAL_OWNER, by="test")
        with pytest.raises(NotFound, match="production"):
            await prompts.roll_back(hub.kit, NAME, "production", owner_id=LOCAL_OWNER, by="test")


async def test_a_restart_stores_the_files_once(open_hub: OpenHub) -> None:
    for _ in range(2):
        async with open_hub(in_process=True) as hub:
            view = await prompts.prompt(hub.kit, NAME, LOCAL_OWNER)
            assert [one["labels"] for one in view["versions"]] == [["file"]]
            assert len(view["moves"]) == 1
            assert {(one["pipeline"], one["node"], one["label"]) for one in view["used_by"]} == {
                ("prompting.judging", "judge", "production"),
                ("prompting.judging", "again", "production"),
                ("prompting.judging", "plain", None),
                ("prompting.asking", "first", "production"),
                ("prompting.asking", "then", "production"),
            }

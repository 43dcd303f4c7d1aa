"""Files of agents at a hub's start: each speaks when it has changed, and for itself."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from holdfast.domain.agents import AgentVersion
from holdfast.domain.events import LOCAL_OWNER
from holdfast.errors import NotFound
from holdfast.operations.agent_files import apply_files
from holdfast.operations.agents import apply, find, roll_back, versions
from holdfast.operations.kit import Kit

from .conftest import Desk


@pytest.fixture
def kit(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kit:
    monkeypatch.chdir(tmp_path)
    return replace(desk.kit, aliases=frozenset({"standard"}))


def written(name: str, prompt: str) -> Path:
    file = Path(f"{name}.yaml")
    settings = f"{{model: standard, system_prompt: {prompt}}}"
    file.write_text(f"name: {name}\nsimple: {{settings: {settings}}}\n")
    return file


async def known(kit: Kit, name: str) -> list[AgentVersion]:
    return await versions(kit, await find(kit, LOCAL_OWNER, name))


async def test_a_file_makes_an_agent_and_says_who_did(kit: Kit) -> None:
    assert await apply_files(kit, LOCAL_OWNER, [written("desk", "One.")]) == ["desk"]
    (made,) = await known(kit, "desk")
    assert (made.version, made.author) == (1, "file:desk.yaml")
    assert made.config["simple"]["settings"]["system_prompt"] == "One."


async def test_the_same_file_makes_no_version(kit: Kit) -> None:
    for _ in range(2):
        assert await apply_files(kit, LOCAL_OWNER, [written("desk", "One.")]) == ["desk"]
    assert len(await known(kit, "desk")) == 1


async def test_what_people_did_since_stays_until_the_file_changes(kit: Kit) -> None:
    for prompt in ("One.", "Two."):
        await apply_files(kit, LOCAL_OWNER, [written("desk", prompt)])
    await roll_back(kit, await find(kit, LOCAL_OWNER, "desk"), author="ann")

    await apply_files(kit, LOCAL_OWNER, [written("desk", "Two.")])

    assert (await known(kit, "desk"))[0].author == "ann"
    await apply_files(kit, LOCAL_OWNER, [written("desk", "Three.")])
    newest = (await known(kit, "desk"))[0]
    assert (newest.version, newest.author) == (4, "file:desk.yaml")


async def test_a_file_takes_an_agent_over_that_people_made(kit: Kit) -> None:
    config = {"simple": {"settings": {"model": "standard"}}}
    await apply(kit, owner_id=LOCAL_OWNER, author="ann", name="desk", description="", config=config)
    await apply_files(kit, LOCAL_OWNER, [written("desk", "One.")])
    assert [one.author for one in await known(kit, "desk")] == ["file:desk.yaml", "ann"]


async def test_a_wrong_file_is_left_out_and_keeps_no_other_out(kit: Kit) -> None:
    files = [written("bad", "[1]"), Path("nowhere.yaml"), written("desk", "One.")]

    assert await apply_files(kit, LOCAL_OWNER, files) == ["desk"]

    told = {failure.app: failure.error.message for failure in kit.registry.failures}
    assert told["bad.yaml"].startswith("bad.yaml:2:")
    assert "simple.settings.system_prompt" in told["bad.yaml"]
    assert "nowhere.yaml cannot be read" in told["nowhere.yaml"]
    with pytest.raises(NotFound):
        await find(kit, LOCAL_OWNER, "bad")


async def test_hubs_that_start_together_make_one(kit: Kit) -> None:
    file = written("desk", "One.")
    done = await asyncio.gather(*(apply_files(kit, LOCAL_OWNER, [file]) for _ in range(4)))
    assert done == [["desk"]] * 4
    assert len(await known(kit, "desk")) == 1

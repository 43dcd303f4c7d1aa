"""Prompts over HTTP and with the client: sent in, compared, labelled, rolled back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from holdfast.api.in_process import InProcessTransport
from holdfast.app import make_api
from holdfast.client import Client
from holdfast.errors import IllegalMove, InvalidInput, NotFound

from .conftest import HubForTests, OpenHub

NAME = "mail/judge"
BETTER = """\
---
description: better
variables: {event.body: the letter}
---
Judge.
--- dynamic ---
{{ event.body }}, better
"""


@pytest.fixture
def hub_environ(hub_environ: dict[str, str]) -> dict[str, str]:
    models = '{"fast": "scripted:rules"}'
    return hub_environ | {"HOLDFAST_APPS": "prompting.app", "HOLDFAST_MODELS": models}


@pytest.fixture
async def hub(open_hub: OpenHub) -> AsyncIterator[HubForTests]:
    async with open_hub(in_process=True) as opened:
        yield opened


@pytest.fixture
async def client(hub: HubForTests) -> AsyncIterator[Client]:
    transport = InProcessTransport(make_api(hub.parts))
    async with Client("http://127.0.0.1", transport=transport) as one:
        yield one


async def test_a_prompt_goes_from_text_to_label_and_back(client: Client) -> None:
    made = await client.put_prompt(NAME, BETTER)
    assert (made["author"], made["from_app"], made["labels"]) == ("local", False, [])
    assert made["source"].endswith("Judge.\n--- dynamic ---\n{{ event.body }}, better\n")
    assert made["variables"] == {"event.body": "the letter"}
    assert (await client.put_prompt(NAME, BETTER)) == made
    assert (await client.put_prompt(NAME, made["source"])) == made
    moved = await client.move_label(NAME, "production", made["version"][:8], reason="try")
    assert moved["move"]["before"] is None
    assert (await client.move_label(NAME, "production", made["version"]))["move"] is None
    assert (await client.move_label(NAME, "production", "file"))["move"]["before"] == made[
        "version"
    ]
    back = await client.roll_back_label(NAME, "production")
    assert back["version"] == made["version"]
    with pytest.raises(IllegalMove, match="nothing to go back to"):
        await client.roll_back_label(NAME, "production")
    seen = await client.prompt(NAME)
    assert seen["versions"][0]["version"] == made["version"]
    assert [one["label"] for one in seen["moves"]] == ["production"] * 3 + ["file"]
    (item,) = (await client.prompts())["items"]
    assert (item["versions"], item["labels"]["production"]) == (2, made["version"])
    ran = await client.submit("prompting.judging", {"body": "dear"}, wait=20)
    record = await client.execution(ran["execution_id"])
    assert record["steps"][0]["attempts"][0]["prompt"] == {
        "name": NAME,
        "label": "production",
        "version": made["version"],
    }


async def test_two_versions_are_compared_part_by_part(client: Client) -> None:
    await client.put_prompt(NAME, BETTER)
    made = await client.put_prompt(NAME, BETTER.replace("Judge.", "Judge well."))
    seen = await client.diff_prompts(NAME, "file", made["version"])
    assert not seen["same"]
    told = {one["part"]: one["lines"] for one in seen["parts"]}
    assert told["static"][-2:] == ["-Judge {{ tone }}.", "+Judge well."]
    assert set(told) == {"static", "dynamic", "definitions", "description"}
    assert (await client.diff_prompts(NAME, "file", "file")) == {
        **seen,
        "b": seen["a"],
        "same": True,
        "parts": [],
    }


async def test_what_is_wrong_is_refused_with_its_place(client: Client, hub: HubForTests) -> None:
    with pytest.raises(InvalidInput, match=r"^mail/judge:2: ") as refused:
        await client.put_prompt(NAME, "a\n{{ }\n")
    assert refused.value.fields[0]["field"] == "source"
    with pytest.raises(InvalidInput, match="the word versions is taken"):
        await client.put_prompt("mail/versions", "a")
    with pytest.raises(NotFound, match=r"no label and no version 'nope'") as missing:
        await client.move_label(NAME, "production", "nope")
    assert "file" in missing.value.hint
    with pytest.raises(NotFound, match="there is no prompt nobody/has"):
        await client.prompt("nobody/has")
    with pytest.raises(IllegalMove, match="by hand"):
        await client.move_label(NAME, "file", "file")
    with pytest.raises(InvalidInput):
        await client.move_label(NAME, "pro duction", "file")
    for n in range(17):  # of seventeen hashes two begin with the same digit
        await client.put_prompt(NAME, f"{{{{ event.body }}}} {n}")
    digits = [one["version"][0] for one in (await client.prompt(NAME))["versions"]]
    double = next(digit for digit in digits if digits.count(digit) > 1)
    with pytest.raises(InvalidInput, match="versions of prompt"):
        await client.prompt_version(NAME, double)


async def test_a_replay_says_that_its_prompt_was_edited(client: Client) -> None:
    ran = await client.submit("prompting.judging", {"body": "dear"}, wait=20)
    sent = await client.replay(
        ran["execution_id"], prompts={"judge": {"user": "{{ event.body }}, {{ tone }}"}}
    )
    done = await client.wait(sent["id"], 20)
    record = await client.execution(done["execution_id"])
    by_node: dict[str, Any] = {one["operation"]: one["attempts"] for one in record["steps"]}
    edited = by_node["judge"][0]
    assert (edited["prompt"]["name"], edited["prompt"]["label"]) == (NAME, "edited")
    assert edited["prompt_user"] == "dear, kindly"
    assert by_node["again"][0]["prompt"]["label"] == "production"
    before = await client.execution(ran["execution_id"])
    assert edited["prompt"]["version"] != before["steps"][0]["attempts"][0]["prompt"]["version"]


async def test_a_replay_takes_another_version_by_label_or_hash(client: Client) -> None:
    ran = await client.submit("prompting.judging", {"body": "dear"}, wait=20)
    better = (await client.put_prompt(NAME, BETTER))["version"]
    await client.move_label(NAME, "staging", better)

    async def replayed(**prompts: Any) -> Any:
        sent = await client.replay(ran["execution_id"], answers="live", prompts=prompts)
        return (await client.wait(sent["id"], 20))["execution_id"]

    by_label = await replayed(judge={"version": "staging"})
    steps = (await client.execution(by_label))["steps"]
    assert steps[0]["output"] == "Judge.|dear, better"
    assert steps[0]["attempts"][0]["prompt"] == {
        "name": NAME,
        "label": "staging",
        "version": better,
    }
    by_hash = await client.execution(await replayed(judge={"version": better[:10]}))
    assert by_hash["steps"][0]["attempts"][0]["prompt"]["label"] == "edited"
    seen = await client.diff(ran["execution_id"], by_label)
    (first,) = [one for one in seen["steps"] if one["step"] == "judge"]
    told = first["changes"][0]
    assert (told["what"], told["b"]) == ("prompt.version", f"{NAME}@staging {better}")
    with pytest.raises(NotFound, match="nope"):
        await replayed(judge={"version": "nope"})
    with pytest.raises(InvalidInput, match="not both"):
        await replayed(judge={"version": "staging", "user": "x"})
    odd = (await client.put_prompt(NAME, "{{ letter.body }}"))["version"]
    with pytest.raises(InvalidInput, match='"letter", which is no node'):
        await replayed(judge={"version": odd})

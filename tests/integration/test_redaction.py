"""What `HOLDFAST_REDACT` names is seen by the run, its model and its caller, by nobody later."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.domain.events import LOCAL_OWNER
from holdfast.domain.replays import Plan
from holdfast.domain.status import EventStatus, ExecutionStatus
from holdfast.operations.diff import compare
from holdfast.operations.export import export_execution, export_fixture
from holdfast.operations.replay import replay
from holdfast.recorder import Recorder
from holdfast.testing import replayed
from holdfast.testing.postgres import PostgresForTests
from holdfast.testing.providers import FakeAnswer, FakeOpenAI

from .conftest import HubForTests, OpenHub

MAIL = "eva@example.org"
OTHER = "tom@example.org"
RULES = [{"check": "personal"}, {"pattern": "K-[0-9]{6}", "kind": "customer"}]


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as fake:
        fake.answer([json.dumps({"to": OTHER, "text": f"K-123456, not {MAIL}"})] * 2)
        yield fake


@pytest.fixture
def hub_environ(hub_environ: dict[str, str], server: FakeOpenAI) -> dict[str, str]:
    models = {"fast": {"model": "openai:gpt-6-luna", "base_url": server.url}}
    return hub_environ | {
        "HOLDFAST_APPS": "redaction_app",
        "HOLDFAST_MODELS": json.dumps(models),
        "HOLDFAST_REDACT": json.dumps(RULES),
    }


@pytest.fixture(params=["sqlite", "postgresql"])
async def hub(
    request: pytest.FixtureRequest,
    open_hub: OpenHub,
    hub_environ: dict[str, str],
    postgres: PostgresForTests,
) -> AsyncIterator[HubForTests]:
    if request.param == "postgresql":
        hub_environ["HOLDFAST_DATABASE_URL"] = postgres.migrated()
    async with open_hub(runners=1) as opened:
        yield opened


def without_ends(exported: dict[str, Any]) -> str:
    """All that an export holds but its event's data and its output."""
    exported["event"].pop("data")
    for end in ("input", "output"):
        exported["execution"].pop(end)
    return json.dumps(exported, default=str, ensure_ascii=False)


async def test_the_record_holds_placeholders_and_the_run_had_the_texts(
    hub: HubForTests, server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[bytes] = []
    journal = hub.kit.journal
    take, show = journal.change, journal.tokens
    monkeypatch.setattr(journal, "change", lambda id_, raw: (told.append(raw), take(id_, raw))[1])
    monkeypatch.setattr(
        journal,
        "tokens",
        lambda id_, step, text: (told.append(text.encode()), show(id_, step, text)),
    )
    event, whole = await hub.run("redaction.letters", body=f"I am {MAIL}, K-123456")
    assert event.status is EventStatus.SUCCEEDED
    assert whole.execution.status is ExecutionStatus.PARTIAL

    # The wire and the caller: all of it.
    (request,) = server.requests
    assert request.body["messages"][-1]["content"] == f"Letter: I am {MAIL}, K-123456"
    assert whole.payload.get(whole.execution.output) == f"told {OTHER}"
    assert event.data == {"body": f"I am {MAIL}, K-123456"}

    # What left the runner, but the last change: nothing of it. The result comes with the last.
    assert len(told) > 8
    *before, last = told
    assert OTHER in last.decode()
    for raw in before:
        for text in (MAIL, OTHER, "123456"):
            assert text.encode() not in raw, raw

    # What is shown and exported.
    kept = without_ends(await export_execution(hub.kit, whole.execution.id, LOCAL_OWNER))
    assert not [text for text in (MAIL, OTHER, "123456") if text in kept]
    (attempt,) = whole.attempts
    assert whole.payload.get(attempt.prompt_user) == "Letter: I am ⟦e-mail 1⟧, ⟦customer 1⟧"
    outputs = {one.operation: whole.payload.get(one.output) for one in whole.steps}
    assert outputs["reply"] == {"to": "⟦e-mail 2⟧", "text": "⟦customer 1⟧, not ⟦e-mail 1⟧"}
    assert outputs["post"] == {"sent to": "⟦e-mail 2⟧", "⟦e-mail 2⟧": 1}
    (failed,) = [one for one in whole.steps if one.operation == "argue"]
    assert failed.error is not None
    assert failed.error["message"] == "⟦e-mail 2⟧ is not known"
    assert "⟦e-mail 2⟧ is not known" in failed.error["traceback"]
    assert whole.execution.flags["redacted"] == {"customer": 1, "e-mail": 2}


async def test_an_input_that_says_the_same_as_the_event_is_redacted_all_the_same(
    hub: HubForTests,
) -> None:
    _, whole = await hub.run("redaction.letters", body=MAIL)
    for step in whole.steps:
        assert MAIL not in json.dumps(whole.payload.get(step.input), default=str)


async def test_a_replay_says_which_answers_it_got_in_part(
    hub: HubForTests, server: FakeOpenAI
) -> None:
    _, whole = await hub.run("redaction.letters", body=f"I am {MAIL}, K-123456")
    sent = await replay(hub.kit, whole.execution.id, LOCAL_OWNER, Plan())
    event = await hub.ended(sent.id)
    assert event.execution_id is not None
    again = await hub.whole(event.execution_id)
    assert len(server.requests) == 1
    assert again.execution.flags["replay"] == {
        "differs": [],
        "unrecorded": [],
        "not_reached": [],
        "redacted": ["reply"],
    }
    assert again.payload.get(again.execution.output) == "told ⟦e-mail 2⟧"
    found = await compare(hub.kit, whole.execution.id, again.execution.id, LOCAL_OWNER)
    assert [pair.name for pair in found.differing] == []


async def test_an_exported_test_of_a_redacted_record_passes(
    hub: HubForTests, tmp_path: Path
) -> None:
    _, whole = await hub.run("redaction.letters", body=f"I am {MAIL}, K-123456")
    fixture = await export_fixture(hub.kit, whole.execution.id, LOCAL_OWNER)
    file = tmp_path / "fixture.json"
    file.write_text(json.dumps(fixture), "utf-8")
    ran = await asyncio.to_thread(replayed, "redaction_app:letters", file)
    assert ran.found.differing == []


async def test_an_errors_text_of_the_provider_is_redacted(
    hub: HubForTests, server: FakeOpenAI
) -> None:
    server.answer([FakeAnswer(status=400, text=f"no such user: {OTHER}")])
    event, whole = await hub.run("redaction.letters", body="hi")
    assert event.status is EventStatus.FAILED
    assert OTHER not in json.dumps([whole.execution.error, event.last_error], default=str)
    assert OTHER not in json.dumps([one.error for one in whole.attempts])


def test_a_recorder_goes_by_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_REDACT", json.dumps(RULES))
    recorder = Recorder("script", home=tmp_path / "home", url="http://127.0.0.1:9")
    with recorder.execution("work") as run:
        with (
            run.step("first", input={"who": MAIL}) as step,
            step.provider_call(model="m", user=f"to {MAIL}") as call,
        ):
            call.answer(f"for {OTHER}", tokens_input=1, tokens_output=1)
        with pytest.raises(ValueError, match=OTHER), run.step("second"):
            raise ValueError(OTHER)
    written = b"".join(
        one.read_bytes() for one in (tmp_path / "home").rglob("*") if one.is_file()
    ).decode("utf-8", "replace")
    assert "second" in written
    assert "⟦e-mail 1⟧" in written
    assert not [text for text in (MAIL, OTHER) if text in written]

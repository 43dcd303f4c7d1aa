"""The example: a dozen letters, each with the end it should have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from holdfast.domain.changes import AttemptFinished, AttemptValidated, StepStarted, read_change
from holdfast.llm.factory import Models
from holdfast.pipelines.context import RunContext, running
from holdfast.pipelines.registry import Registry
from holdfast.ports import ModelConfig, Ports
from holdfast.recording import Collector, RecordingHandler

ROOT = Path(__file__).parents[2]
EMAILS = ROOT / "examples" / "support_triage" / "emails.jsonl"


class Sink(list[Any]):
    def change(self, execution_id: str, raw: bytes) -> None:
        self.append(read_change(raw))

    def tokens(self, execution_id: str, step: int, text: str) -> None: ...


@pytest.fixture
def triage(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    loaded = Registry.load(["examples.support_triage.app"])
    assert loaded.failures == []
    return loaded.get("support.triage")


def letters() -> list[dict[str, Any]]:
    return [json.loads(line) for line in EMAILS.read_text("utf-8").splitlines()]


async def handle(triage, data) -> tuple[dict[str, Any], Sink]:
    configs = {
        alias: ModelConfig(alias=alias, provider="scripted", model="rules")
        for alias in ("fast", "standard")
    }
    context = RunContext(
        execution_id="x",
        event_id="e",
        owner_id="local",
        delivery=1,
        models=Models(configs),
        ports=Ports(events=None),  # pyright: ignore - the example sends none
    )
    sink = Sink()
    with running(context):
        final = await triage.graph().ainvoke(
            triage.initial(triage.validate(data)),
            {"callbacks": [RecordingHandler(Collector("x", sink))]},
        )
    return triage.result(final), sink


@pytest.mark.parametrize(
    ("n", "action", "outcomes"),
    [
        (0, "answered", ["valid"]),
        (1, "invoice filed", []),
        (2, "closed as spam", []),
        (3, "answered", ["invalid", "valid"]),  # the injection: its first draft leaks
        (4, "escalated", []),
        (5, "answered", ["valid"]),  # empty
        (6, "answered", ["repaired"]),  # 200 KB
        (7, "answered", ["valid"]),  # Russian
        (8, "answered", ["invalid", "valid"]),  # its first draft promises money
        (9, "answered", ["valid"]),
        (10, "answered", ["valid"]),
        (11, "invoice filed", []),
    ],
)
async def test_each_letter_ends_as_it_should(triage, n, action, outcomes):
    output, sink = await handle(triage, letters()[n]["data"])

    assert output["action"] == action
    steps = {change.step: change.operation for change in sink if isinstance(change, StepStarted)}
    assert [
        change.outcome
        for change in sink
        if isinstance(change, AttemptValidated) and steps[change.step] == "draft"
    ] == outcomes
    attempts = [change for change in sink if isinstance(change, AttemptFinished)]
    assert len(attempts) == 3 + len(outcomes)
    assert {attempt.usage for attempt in attempts} == {"estimated"}


async def test_what_is_sent_is_fit_to_be_sent(triage):
    sent = [(await handle(triage, letters()[n]["data"]))[0]["text"] for n in (3, 6, 7, 8)]
    injection, long, russian, double_charge = sent
    assert "instructions" not in injection
    assert long.endswith("Northwind Sync Support")
    assert russian.startswith("Здравствуйте")
    assert "refund" not in double_charge


async def test_invoices_keep_their_number(triage):
    numbers = [(await handle(triage, letters()[n]["data"]))[0]["number"] for n in (1, 11)]
    assert numbers == ["HW-2026-004417", "DV-2026-1183"]


def test_the_letters_are_events_of_this_pipeline(triage):
    events = letters()
    assert len(events) == 12
    assert {event["type"] for event in events} == {"support.triage"}
    sizes = [len(json.dumps(event["data"], ensure_ascii=False).encode()) for event in events]
    assert 190_000 < max(sizes) < 215_000
    for event in events:
        triage.validate(event["data"])


def test_a_model_is_shown_no_more_than_an_excerpt(triage):
    email = triage.validate(letters()[6]["data"])
    assert len(email.excerpt) < 12_100
    assert "characters left out" in email.excerpt
    assert email.excerpt.endswith("Tom Ashby")

"""The example's card is the twin of its pipeline in Python: same graph, same records."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from holdfast.domain.changes import (
    AttemptFinished,
    AttemptStarted,
    AttemptValidated,
    Change,
    StepFinished,
    StepStarted,
    read_change,
)
from holdfast.domain.payload import Payload
from holdfast.llm.factory import Models
from holdfast.pipelines.context import RunContext, running
from holdfast.pipelines.registry import Registry
from holdfast.ports import ModelConfig, Ports
from holdfast.recording import Collector, RecordingHandler

ROOT = Path(__file__).parents[2]
EMAILS = ROOT / "examples" / "support_triage" / "emails.jsonl"

RULES = {
    "is_spam": "${spam.score} > 0.8",
    "is_for_a_person": "${intent.escalate} or ${intent.confidence} < 0.3",
    's.intent.intent == "invoice"': '${intent.intent} == "invoice"',
}
"""A rule is recorded as its author wrote it; by Python's spelling the card's."""


@pytest.fixture
def twins(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    loaded = Registry.load(["examples.support_triage.app", "examples.support_triage.card_app"])
    assert loaded.failures == []
    return loaded.get("support.triage"), loaded.get("support.triage_card")


def letters() -> list[dict[str, Any]]:
    return [json.loads(line)["data"] for line in EMAILS.read_text("utf-8").splitlines()]


def test_the_card_compiles_to_the_same_graph(twins):
    python, card = twins
    told = python.describe()
    for edge in told["edges"]:
        if "label" in edge:
            edge["label"] = RULES.get(edge["label"], edge["label"])
    assert card.describe() == told
    python_drawn, card_drawn = (one.graph().get_graph() for one in twins)
    assert card_drawn.nodes.keys() == python_drawn.nodes.keys()
    assert set(card_drawn.edges) == set(python_drawn.edges)
    nodes = [one._wiring.nodes for one in twins]
    assert nodes[0].keys() == nodes[1].keys()
    for name, node in nodes[0].items():
        twin = nodes[1][name]
        assert (type(twin), twin.policy, twin.metadata) == (type(node), node.policy, node.metadata)
    asking = [
        [(n.alias, n.tries, n.credits, n.answer) for n in ns.values() if n.kind == "model"]
        for ns in nodes
    ]
    assert asking[0] == asking[1]
    prompts = [
        [p.source for n in ns.values() if n.kind == "model" for p in n.wording.prompts]
        for ns in nodes
    ]
    assert prompts[0] == prompts[1]
    assert (card.deadline, card.version, card.schema()) == (
        python.deadline,
        python.version,
        python.schema(),
    )


class Sink(list[Change]):
    def change(self, execution_id: str, raw: bytes) -> None:
        self.append(read_change(raw))

    def tokens(self, execution_id: str, step: int, text: str) -> None: ...


async def record(pipeline: Any, data: Any) -> tuple[Any, list[Any]]:
    """The output of a run and its record, without times and numbers, in an order of its own."""
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
        final = await pipeline.graph().ainvoke(
            pipeline.initial(pipeline.validate(data)),
            {"callbacks": [RecordingHandler(Collector("x", sink))]},
        )
    payload = Payload([entry for change in sink for entry in change.texts])
    names = {c.step: c.operation for c in sink if isinstance(c, StepStarted)}
    told = [told_of(change, names, payload.get) for change in sink]
    return pipeline.result(final), sorted(told, key=repr)


def told_of(change: Change, names: dict[int, str], text: Callable[[Any], Any]) -> Any:
    match change:
        case StepStarted():
            parent = names.get(change.parent or 0)
            shown = json.dumps(_ordered(text(change.input)), sort_keys=True)
            return "start", change.operation, change.kind, change.version, parent, shown
        case StepFinished():
            shown = json.dumps(_ordered(text(change.output)), sort_keys=True)
            return "end", names[change.step], change.status, shown, change.error
        case AttemptStarted():
            shown = [_ordered(text(i)) for i in (change.system, change.user, change.messages)]
            return "ask", names[change.step], change.n, change.provider, change.model, shown
        case AttemptValidated():
            return "check", names[change.step], change.n, change.outcome, change.credits
        case AttemptFinished():
            sums = (change.tokens_input, change.tokens_output, change.usage)
            return "answer", names[change.step], change.n, _ordered(text(change.answer)), sums
        case other:
            return type(other).__name__


def _ordered(value: Any) -> Any:
    """Branches finish in any order, a call of a model has an id, a rule its author's spelling."""
    if isinstance(value, list):
        return [_ordered(one) for one in value]
    if isinstance(value, dict):
        return {
            k: RULES.get(v, v) if k == "rule" else _ordered(v)
            for k, v in sorted(value.items())
            if not (k == "id" and str(v).startswith("lc_run-"))
        }
    return value


@pytest.mark.parametrize("n", range(12))
async def test_the_card_leaves_the_same_record(twins, n):
    data = letters()[n]
    (python_output, python_record), (card_output, card_record) = [
        await record(pipeline, data) for pipeline in twins
    ]
    assert card_output == python_output
    assert card_record == python_record
    assert len([one for one in card_record if one[0] == "ask"]) >= 3

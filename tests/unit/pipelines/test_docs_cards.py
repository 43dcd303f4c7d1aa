"""Every example of docs/cards.md loads, runs and does what the page says."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema_rs
import orjson
import pytest

from holdfast.errors import BudgetExceeded
from holdfast.pipelines.cards.apps import check_cards
from holdfast.pipelines.cards.expressions import FUNCTIONS
from holdfast.pipelines.cards.faults import Faults
from holdfast.pipelines.cards.model import KINDS, FieldShape, card_schema
from holdfast.pipelines.cards.reader import Reader
from holdfast.pipelines.registry import Registry

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "cards.md").read_text()


def examples(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def docs(tmp_path: Path):
    """The page's app beside its cards."""
    for text in examples("yaml"):
        if (place := re.match(r"# (cards/\w+\.yaml)\n", text)) is not None:
            file = tmp_path / place[1]
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
    (source,) = examples("python")
    file = tmp_path / "docs_cards_page.py"
    file.write_text(source)
    module = ModuleType(file.stem)
    module.__file__ = str(file)
    sys.modules[file.stem] = module
    exec(compile(source, file, "exec"), vars(module))
    yield module
    del sys.modules[file.stem]


def test_the_page_is_an_app_that_loads(docs):
    registry = Registry.load([docs.__name__])
    assert registry.failures == []
    assert {one.name for one in registry} == {
        "docs.letters_card",
        "docs.orders_card",
        "docs.essay_card",
    }


@pytest.mark.parametrize(
    ("body", "output", "rule"),
    [
        (
            "No!",
            {"ticket": "!complaint of ada"},
            '${judge.intent} == "complaint" and ${input.channel} in ["mail", "form"]',
        ),
        ("Why?", {"to": "ada", "text": "Thank you for your letter."}, None),
    ],
)
async def test_the_first_card(docs, run, body, output, rule):
    ran = await run(docs.cards["docs.letters_card"], {"sender": "ada", "body": body})
    assert ran.output == output
    assert ran.recorded_output("judge.route")["rule"] == rule


async def test_steps(docs, run):
    event = {"parts": ["a b", "c"], "due": "2026-12-24T18:00:00Z"}
    ran: Any = await run(docs.cards["docs.orders_card"], event)
    assert ran.output == {
        "words": [2, 1],
        "stock": 2,
        "letter": {"to": "shop", "text": "Thank you for your letter."},
    }
    assert ran.steps["stock"].parent == ran.steps["look"].step
    kinds = {one["kind"] for one in docs.cards["docs.orders_card"].describe()["nodes"]}
    assert kinds >= {"map", "parallel", "pipeline", "human", "wait", "router", "node"}


async def test_going_round_and_an_end_to_spending(docs, run):
    made = docs.cards["docs.essay_card"]
    assert (await run(made, {"topic": "sea", "words": 2})).output == ["one", "two"]
    ran = await run(made, {"topic": "sea", "words": 9})
    assert isinstance(ran.error, BudgetExceeded)
    assert "of 3 credits, 3 credits are spent" in str(ran.error)
    assert (made.priority, made.max_running, made.retention.days) == (-10, 2, 30)


def test_checking(docs, tmp_path: Path):
    file = tmp_path / "cards" / "letters.yaml"
    file.write_text(file.read_text().replace("then: ticket", "then: tiket"))
    told = [
        str(fault).replace(f"{tmp_path}/", "")
        for fault in check_cards([tmp_path / "cards"], [docs.__name__]).faults
        if "letters" in fault.file
    ]
    shown = examples("console")[0].splitlines()[1:]
    assert told == shown


def test_every_word_is_explained():
    kinds = re.findall(r"^\| `(\w+)` \| .* \| .* \|$", PAGE, re.MULTILINE)
    assert sorted(kinds) == sorted([*KINDS, "condition"])
    fields = PAGE.partition("## Fields of events and answers")[2]
    for name in FieldShape.model_fields:
        assert f"`{name}`" in fields
    for name in FUNCTIONS:
        assert f"`{name}(" in PAGE


def read(text: str) -> Any:
    return Reader(Faults("a card")).read(text)


def test_editors_take_what_is_right_and_mark_what_is_wrong():
    editor = jsonschema_rs.validator_for(card_schema())
    shipped = [read(text) for text in examples("yaml") if "\nname: " in text]
    triage = DOCS.parent / "examples" / "support_triage" / "cards" / "triage.yaml"
    for one in [*shipped, read(triage.read_text())]:
        assert editor.is_valid(one), list(editor.iter_errors(one))
    good = shipped[0]
    for wrong in (
        {"nmae": "x"},
        {"version": 1},
        {"deadline": None},
        {"steps": {"a": {"execut": {}}}},
        {"event": {"a": {"type": "text"}}},
    ):
        assert not editor.is_valid(good | wrong), wrong


def test_the_schema_beside_the_page_is_the_one_in_use():
    written = orjson.loads((DOCS / "card.schema.json").read_bytes())
    assert written == card_schema(), "run: holdfast cards schema > docs/card.schema.json"

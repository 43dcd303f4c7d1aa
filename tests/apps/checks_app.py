"""Pipelines whose model nodes read and say what content checks look for."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from holdfast import Pipeline


class Letter(BaseModel):
    """What came in."""

    body: str


class Reply(BaseModel):
    """What goes out."""

    to: str
    text: str


def answering(name: str, **options: Any) -> Pipeline:
    """One model node that sees the letter."""
    made = Pipeline(name, version="1", event=Letter)
    made.start(made.model("reply", prompt="Letter: {{ event.body }}", alias="fast", **options))
    return made


plain = answering("letters.plain")
private = answering("letters.private", checks=[{"check": "personal", "action": "redact"}])
strict = answering(
    "letters.strict", checks=[{"check": "secrets", "on": "input", "action": "refuse"}]
)
mute = answering("letters.mute", checks=[{"check": "markup", "on": "output", "action": "refuse"}])
structured = answering(
    "letters.structured",
    answer=Reply,
    checks=[{"check": "personal", "on": "output", "action": "redact"}],
)

twice = Pipeline(
    "letters.twice", version="1", event=Letter, checks=[{"check": "personal", "action": "redact"}]
)
first = twice.model("first", prompt="Letter: {{ event.body }}", alias="fast")
second = twice.model("second", prompt="Again: {{ event.body }} / {{ first }}", alias="fast")
twice.start(first)
twice.edge(first, second)


def words(text: str) -> list[Any]:
    """A check of somebody's own."""
    from holdfast.llm.content.findings import Finding

    at = text.find("Rumpelstilzchen")
    return [Finding(kind="name", start=at, end=at + 15)] if at >= 0 else []


def broken(text: str) -> list[Any]:
    """A check that fails."""
    raise KeyError(len(text))

"""Nodes of knowledge, as they are declared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from holdfast import Pipeline
from holdfast.domain.knowledge import Found, Hit, Stored
from holdfast.errors import DeclarationError


class Note(BaseModel):
    text: str


def declare(add: Callable[[Pipeline], Any]) -> Pipeline:
    made = Pipeline("unit.knowledge", version="1", event=Note)
    made.start(add(made))
    made.check()
    return made


def finding(**more: Any) -> Callable[[Pipeline], Any]:
    asked: dict[str, Any] = {"collection": "c", "query": "{{ event.text }}", **more}
    return lambda made: made.search("find", **asked)


def keeping(**more: Any) -> Callable[[Pipeline], Any]:
    asked: dict[str, Any] = {"collection": "c", "key": "k", "text": "{{ event.text }}", **more}
    return lambda made: made.index("keep", **asked)


@pytest.mark.parametrize(
    ("add", "told"),
    [
        (finding(collection="no/name"), "collection must be"),
        (finding(query="{{ draft }}"), '"draft", which is no node'),
        (finding(query="{{ event"), "line 1 of the prompt"),
        (finding(mode="magic"), "mode must be hybrid or semantic or keyword"),
        (finding(limit=1000), "limit must be 1 to 100"),
        (finding(min_score=0.5, mode="keyword"), "min_score must be nothing"),
        (finding(filters={"n": {"about": 1}}), "filters.n.about must be eq, in"),
        (finding(other=1), "other"),
        (keeping(collection=""), "collection must be"),
        (keeping(key="{{ nobody.key }}"), '"nobody", which is no node'),
        (keeping(cache=60), "cannot be cached"),
    ],
)
def test_what_cannot_be_meant_is_refused(add: Callable[[Pipeline], Any], told: str) -> None:
    with pytest.raises((DeclarationError, TypeError), match=told):
        declare(add)


def test_a_drawing_shows_where_and_how() -> None:
    (found,) = [n for n in declare(finding()).describe()["nodes"] if n["name"] == "find"]
    assert (found["kind"], found["collection"], found["mode"]) == ("retrieval", "c", "hybrid")
    (kept,) = [n for n in declare(keeping()).describe()["nodes"] if n["name"] == "keep"]
    assert (kept["kind"], kept["collection"]) == ("index", "c")


def test_checkpoints_may_hold_what_they_give() -> None:
    assert {Found, Hit} <= set(declare(finding()).kept())
    assert Stored in set(declare(keeping()).kept())


def test_hits_read_well_in_a_prompt() -> None:
    hits = [
        Hit(key=key, n=0, text=f"text of {key}", score=1.0, similarity=None, metadata={})
        for key in ("a", "b")
    ]
    found = Found(collection="c", query="q", mode="keyword", hits=hits)
    assert found.text == "[a]\ntext of a\n\n[b]\ntext of b"

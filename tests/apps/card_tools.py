"""Cards written in tests."""

from __future__ import annotations

from textwrap import dedent
from typing import Any

from holdfast.pipelines.cards.actions import Catalogue, action
from holdfast.pipelines.cards.load import Cards, Source

HEAD = """\
name: test.card
version: "1"
event:
  text: {type: string}
  count: {type: integer, default: 2}
  tags: {type: array, items: {type: string}, default: []}
"""


@action("text.upper")
def upper(text: str) -> str:
    return text.upper()


@action("number.add")
async def add(a: int, b: int = 1) -> int:
    return a + b


@action("fail")
async def fail(message: str) -> str:
    raise ValueError(message)


ACTIONS = (upper, add, fail)


def cards(*texts: str, uses: Any = ACTIONS, script: Any = None) -> Cards:
    """Cards called 1.yaml, 2.yaml, …"""
    sources = [Source(f"{n}.yaml", dedent(text)) for n, text in enumerate(texts, 1)]
    return Cards(sources, Catalogue.of(uses), script=script)


def card(steps: str, *, head: str = HEAD, more: str = "", **options: Any) -> Any:
    """The pipeline of one card, made of its steps."""
    made = cards(f"{head}{more}steps:\n{_indented(steps)}", **options)
    (pipeline,) = made.proven()
    return pipeline


def faults(steps: str, *, head: str = HEAD, **options: Any) -> list[tuple[int, int, str]]:
    """Line (from the first of the steps), column, message and hint of each fault."""
    above = len(head.splitlines()) + 1
    found = cards(f"{head}steps:\n{_indented(steps)}", **options).faults
    return [
        (one.line - above, one.column, f"{one.message} ({one.hint})" if one.hint else one.message)
        for one in found
    ]


def _indented(steps: str) -> str:
    return "".join(f"  {line}\n" if line else "\n" for line in dedent(steps).splitlines())

"""Cards that wait, fail in part, map and include each other."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from holdfast import action, load_cards


@action("gate.pass")
async def gate(folder: str) -> str:
    (Path(folder) / "here").touch()
    while not (Path(folder) / "go").exists():
        await asyncio.sleep(0.01)
    return "open"


@action("stock.look")
def look(part: str) -> int:
    return 10 * len(part)


@action("credit.look")
async def credit() -> str:
    raise ConnectionError("the bank does not answer")


@action("numbers.sum")
def total(numbers: list[int]) -> int:
    return sum(numbers)


def rules(request: Any) -> str:
    return f"about {request.user}"


cards = load_cards(
    Path(__file__).parent / "cards", uses=[gate, look, credit, total], scripted=rules
)

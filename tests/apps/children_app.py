"""Pipelines that run others as child executions. Every call leaves a line in a file."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from holdfast.llm.scripted import ScriptedRequest
from holdfast.pipelines.context import current_run
from holdfast.pipelines.pipeline import Pipeline
from holdfast.pipelines.policy import Backoff
from holdfast.pipelines.state import State


class Order(BaseModel):
    item: str = ""
    folder: str = ""
    items: list[str] = []
    kills: dict[str, str] = {}  # by pipeline and delivery: the call at which the process ends
    broken: bool = False


class Line(BaseModel):
    item: str
    folder: str = ""
    kills: dict[str, str] = {}
    fails: int = 0  # tries that fail


def say(request: ScriptedRequest) -> str:
    return f"said {request.user}"


def note(folder: str, line: str) -> int:
    """Write a line down; how often it stands there now."""
    path = Path(folder) / "calls"
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{line}\n".encode())
    os.close(fd)
    return path.read_text().split().count(line)


DIE: list[Any] = [lambda: os._exit(1)]
"""How a process ends; a test that runs everything in its own process ends a worker instead."""


async def call(event: Order | Line, name: str) -> int:
    times = note(event.folder, name)
    await asyncio.sleep(0)
    if event.kills.get(f"{name.partition(':')[0]}:{current_run().delivery}"):
        DIE[0]()
        await asyncio.Event().wait()
    return times


version = os.environ.get("CHILDREN_APP_VERSION", "1")

price = Pipeline(
    "child.price",
    version=version,
    event=Line,
    scripted=say,
    dedup=timedelta(hours=1),  # which is for senders: each try of a child runs
)


@price.node
async def look_up(state: State[Line]) -> int:
    event = state.event
    times = await call(event, f"look_up:{event.item}")
    while event.item == "slow" and not (Path(event.folder) / "open").exists():
        await asyncio.sleep(0.005)
    if times <= event.fails:
        raise ValueError(f"no price for {event.item}")
    return len(event.item)


told = price.model("told", prompt="price of {{ event.item }}", alias="fast", credits=1)


@price.node
async def priced(state: State[Line]) -> dict[str, Any]:
    await call(state.event, f"priced:{state.event.item}")
    return {"item": state.event.item, "price": state.look_up, "version": version}


price.start(look_up)
price.chain(look_up, told, priced)


def line(state: State[Order]) -> Any:
    if state.event.broken:
        return {"item": 7, "nothing": 1}
    return Line(item=state.event.item, folder=state.event.folder, kills=state.event.kills)


def order(name: str, *, durable: bool) -> Pipeline:
    """A step, a model, a child, a step."""
    made = Pipeline(name, version="1", event=Order, scripted=say, durable=durable)

    @made.node
    async def before(state: State[Order]) -> str:
        await call(state.event, "before")
        return "before"

    draft = made.model("draft", prompt="order {{ event.item }}", alias="fast", credits=1)
    child = made.child("price_of", price, input=line)

    @made.node
    async def after(state: State[Order]) -> dict[str, Any]:
        await call(state.event, "after")
        return {"child": state[child], "draft": state.draft}

    made.start(before)
    made.chain(before, draft, child, after)
    return made


one = order("parent.one", durable=False)
durable = order("parent.durable", durable=True)


all_ = Pipeline("parent.all", version="1", event=Order)


def line_of(state: State[Order]) -> Line:
    fails = 99 if state.item.startswith("bad") else 0
    return Line(item=state.item, folder=state.event.folder, fails=fails)


each = all_.child("each", "child.price", input=line_of)
prices = all_.map("prices", each, over=lambda s: s.event.items)


@all_.node
async def total(state: State[Order]) -> int:
    await call(state.event, "total")
    return sum(item["price"] for item in state.prices)


all_.start(prices)
all_.chain(prices, total)

some = Pipeline("parent.some", version="1", event=Order)
some_each = some.child("each", price, input=line_of)
some_prices = some.map("prices", some_each, over=lambda s: s.event.items, on_failure="continue")


@some.node
async def counted(state: State[Order]) -> list[str]:
    return [type(one).__name__ for one in state.prices]


some.start(some_prices)
some.chain(some_prices, counted)

beside = Pipeline("parent.beside", version="1", event=Order)
beside_child = beside.child("of_child", price, input=line)
beside_ask = beside.ask("of_person", question="how much?", answer=int)
both = beside.parallel("both", [beside_child, beside_ask])


@beside.node
async def summed(state: State[Order]) -> int:
    await call(state.event, "summed")
    return state.of_child["price"] + state.of_person


beside.start(both)
beside.chain(both, summed)


def failing(state: State[Order]) -> Line:
    return Line(item=state.event.item, folder=state.event.folder, fails=2)


again = Pipeline("parent.again", version="1", event=Order)
again_child = again.child(
    "price_of", price, input=failing, retries=2, backoff=Backoff(first=0.01, jitter=0)
)
again.start(again_child)

again_all = Pipeline("parent.again_all", version="1", event=Order)
again_each = again_all.child(
    "each",
    price,
    input=lambda s: Line(item=s.item, folder=s.event.folder, fails=1),
    retries=1,
    backoff=Backoff(first=0.01),
)
again_map = again_all.map("prices", again_each, over=lambda s: s.event.items)
again_all.start(again_map)

instead = Pipeline("parent.instead", version="1", event=Order)


@instead.node
async def guess(state: State[Order]) -> str:
    return f"guessed: {state.failures[0].code}"


instead_child = instead.child("price_of", price, input=failing, on_failure=guess)
instead.start(instead_child)

hasty = Pipeline("parent.hasty", version="1", event=Order)
hasty_child = hasty.child("price_of", price, input=line, timeout=1)
hasty.start(hasty_child)

outer = Pipeline("parent.outer", version="1", event=Order)
outer_child = outer.child("inner", one, input=lambda s: s.event)
outer.start(outer_child)

endless = Pipeline("parent.endless", version="1", event=Order)
endless_child = endless.child("again", "parent.endless", input=lambda s: s.event)
endless.start(endless_child)

inner = Pipeline("parent.inner", version="1", event=Order)
inner_child = inner.child("price_of", price, input=line)
inner.start(inner_child)

rounds = Pipeline("parent.rounds", version="1", event=Order)
included = rounds.include("included", inner, input=lambda s: s.event)


@rounds.node
async def seen(state: State[Order]) -> int:
    return note(state.event.folder, "seen")


rounds.start(included)
rounds.edge(included, seen)
rounds.loop(seen, back_to=included, while_=lambda s: s.seen < 3, at_most=5)

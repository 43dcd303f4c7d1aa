"""Pipelines for tests of policies and control with a real hub."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel

from holdfast.pipelines.pipeline import Pipeline
from holdfast.pipelines.policy import Backoff
from holdfast.pipelines.state import State


class Work(BaseModel):
    text: str = ""
    folder: str = ""
    items: list[str] = []


tried = Pipeline("policies.tried", version="1", event=Work)


@tried.node
async def spare(state: State) -> str:
    return f"instead: {state.event.text}"


@tried.node(retries=1, backoff=Backoff(first=0.001), on_failure=spare)
async def fetch(state: State) -> str:
    raise ConnectionError("the server is away")


@tried.node(on_failure="continue")
async def notify(state: State) -> str:
    raise ValueError("nobody to notify")


tried.start(fetch)
tried.chain(fetch, notify)

blocked = Pipeline("policies.blocked", version="1", event=Work)


@blocked.node(timeout=0.05, on_failure="continue")
def block(state: State) -> str:
    folder = Path(state.event.folder)
    (folder / "blocked").touch()
    while not (folder / "open").exists():
        time.sleep(0.005)
    return "too late"


@blocked.node
async def after(state: State) -> str:
    return "went on"


blocked.start(block)
blocked.chain(block, after)

cached = Pipeline("policies.cached", version="1", event=Work, priority=7)


@cached.node(cache=600)
async def look(state: State) -> str:
    with (Path(state.event.folder) / "looked").open("a") as file:
        file.write(state.event.text)
    return state.event.text.upper()


cached.start(look)

few = Pipeline("policies.few", version="1", event=Work, max_running=1)


@few.node
async def hold(state: State) -> int:
    folder = Path(state.event.folder)
    mine = folder / f"holding-{state.event.text}"
    mine.touch()
    most = len(list(folder.glob("holding-*")))
    while not (folder / "open").exists():
        await asyncio.sleep(0.005)
    mine.unlink()
    return most


few.start(hold)

kept = Pipeline("policies.kept", version="1", event=Work, retention=timedelta(days=30))


@kept.node
async def word(state: State) -> str:
    return state.item.upper()


each = kept.map("each", word, over=lambda s: s.event.items)


@kept.node
async def again(state: State) -> int:
    return state.results.get("again", 0) + 1


kept.start(each)
kept.edge(each, again)
kept.loop(again, back_to=again, while_=lambda s: s.again < 3, at_most=5)

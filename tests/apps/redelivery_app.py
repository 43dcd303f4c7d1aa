"""Pipelines for tests of redelivery with a real hub."""

from __future__ import annotations

import asyncio
import os
import signal
from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel

from holdfast.pipelines.context import current_run
from holdfast.pipelines.pipeline import Pipeline
from holdfast.pipelines.policy import Backoff
from holdfast.pipelines.state import State

QUICK = Backoff(first=0.01, most=0.02, jitter=1.0)


class Work(BaseModel):
    text: str = ""
    folder: str = ""
    good_at: int = 1  # the delivery that succeeds


class Busy(Exception):
    """A temporary error of the author's own."""


async def work(state: State) -> str:
    delivery = current_run().delivery
    if state.event.folder:
        with (Path(state.event.folder) / "tried").open("a") as file:
            file.write(f"{delivery}\n")
    if delivery >= state.event.good_at:
        return f"done at {delivery}"
    if state.event.text == "own":
        raise Busy("come back later")
    if state.event.text == "wrong":
        raise ValueError("this will never work")
    raise ConnectionError("the server is away")


async def by_folder(state: State) -> str:
    """Works once there is a file `open`."""
    folder = Path(state.event.folder)
    with (folder / "tried").open("a") as file:
        file.write(f"{state.event.text}\n")
    if not (folder / "open").exists():
        raise ConnectionError("the server is away")
    return f"done with {state.event.text}"


again = Pipeline("again.some", version="1", event=Work, retries=2, backoff=QUICK, retry_on=Busy)
again.start(again.node("work", work))

never = Pipeline("again.none", version="1", event=Work)
never.start(never.node("work", work))

asks = Pipeline("again.asks", version="1", event=Work, retries=2, backoff=QUICK)
asks.start(asks.model("ask", prompt="{{ event.text }}", alias="fast"))

lasting = Pipeline("again.lasting", version="1", event=Work, retries=2, backoff=QUICK, durable=True)


@lasting.node
async def first(state: State) -> str:
    with (Path(state.event.folder) / "first").open("a") as file:
        file.write("ran\n")
    return "first"


lasting.start(first)
lasting.chain(first, lasting.node("work", work))

mended = Pipeline("again.mended", version="1", event=Work, durable=True)
mended.start(mended.node("first", first.fn))
mended.edge("first", mended.node("work", by_folder))

once = Pipeline("again.once", version="1", event=Work, redeliver=False)


@once.node
async def pay(state: State) -> str:
    folder = Path(state.event.folder)
    with (folder / "paid").open("a") as file:
        file.write("once\n")
    if state.event.text == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if state.event.text == "away":
        raise ConnectionError("the bank is away")
    (folder / "pid-1").write_text(str(os.getpid()))
    while not (folder / "open").exists():
        await asyncio.sleep(0.005)
    return "paid"


once.start(pay)

waited = Pipeline("again.waited", version="1", event=Work)
nap = waited.wait("nap", seconds=0.01)
waited.start(nap)
waited.chain(nap, waited.node("work", by_folder))

turns = Pipeline("again.turns", version="1", event=Work, retries=3, backoff=QUICK)


@turns.node
async def speak(state: State) -> str:
    folder = Path(state.event.folder)
    while (folder / f"hold-{state.event.text}").exists():
        await asyncio.sleep(0.005)
    with (folder / "said").open("a") as file:
        file.write(f"{state.event.text}\n")
    if current_run().delivery < state.event.good_at:
        raise ConnectionError("say again?")
    return state.event.text


turns.start(speak)

deduped = Pipeline("again.deduped", version="1", event=Work, dedup=timedelta(hours=1))
deduped.start(deduped.node("work", work))

single = Pipeline("again.single", version="1", event=Work, singleton=lambda event: event.text)
single.start(single.node("speak", speak.fn))

slow = Pipeline("again.slow", version="1", event=Work, rate="2/1s")
slow.start(slow.node("work", work))

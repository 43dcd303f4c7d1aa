"""Pipelines that ask the hub for something while the database is away."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from pydantic import BaseModel

from holdfast.pipelines.context import current_run
from holdfast.pipelines.pipeline import Pipeline
from holdfast.pipelines.state import State


class Job(BaseModel):
    folder: str = ""


async def opened(folder: str) -> None:
    (Path(folder) / "ready").touch()
    while not (Path(folder) / "open").exists():
        await asyncio.sleep(0.005)


sent = Pipeline("test.sent", version="1", event=Job)
sent.start(sent.node("only", lambda state: "sent"))

sends = Pipeline("test.sends", version="1", event=Job)


@sends.node
async def send(state: State[Job]) -> str:
    await opened(state.event.folder)
    (Path(state.event.folder) / "sending").touch()
    return await current_run().submit("test.sent", {})


sends.start(send)

lasting = Pipeline("test.lasting", version="1", event=Job, durable=True)


@lasting.node
async def first(state: State[Job]) -> str:
    await opened(state.event.folder)
    return "first"


@lasting.node
async def second(state: State[Job]) -> str:
    with (Path(state.event.folder) / "second").open("a") as file:
        file.write("once")
    return "second"


lasting.start(first)
lasting.chain(first, second)

large = Pipeline("test.large", version="1", event=Job)


@large.node
async def talk(state: State[Job]) -> str:
    await opened(state.event.folder)
    return os.urandom(50_000).hex()  # whatever packs it, it needs room


large.start(talk)

"""Pipelines that misbehave, for the tests of runners. What they wait for are files."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from langchain_core.runnables import RunnableConfig, RunnableLambda
from pydantic import BaseModel

from holdfast.llm.scripted import ScriptedAnswer, ScriptedRequest
from holdfast.pipelines.context import current_run
from holdfast.pipelines.pipeline import Pipeline
from holdfast.pipelines.state import State


class Job(BaseModel):
    folder: str = ""
    text: str = ""
    size: int = 0


leaving = Pipeline("unruly.leaving", version="1", event=Job)


@leaving.node
async def leave(state: State) -> None:
    sys.exit(3)


leaving.start(leave)

leaving_thread = Pipeline("unruly.leaving_thread", version="1", event=Job)


@leaving_thread.node
def leave_from_thread(state: State) -> None:
    sys.exit(3)


leaving_thread.start(leave_from_thread)

hogging = Pipeline("unruly.hogging", version="1", event=Job)


@hogging.node
async def hog(state: State) -> str:
    """Blocks the loop, as code does that does not know what async means."""
    folder = Path(state.event.folder)
    (folder / "hogging").touch()
    while not (folder / "open").exists():
        time.sleep(0.005)
    return "done at last"


hogging.start(hog)

large = Pipeline("unruly.large", version="1", event=Job)


@large.node
async def grow(state: State) -> str:
    return "x" * state.event.size


large.start(grow)

threading_pipeline = Pipeline("unruly.threads", version="1", event=Job)


@threading_pipeline.node
def shout_in_thread(state: State) -> list[str]:
    shout = RunnableLambda(lambda text: str(text).upper() * 20).with_config(run_name="shout")
    config: RunnableConfig = {}
    return [shout.invoke(f"{state.event.text} {n}", config)[:40] for n in range(20)]


threading_pipeline.start(shout_in_thread)

asking = Pipeline("unruly.asking", version="1", event=Job)


@asking.node
async def ask(state: State) -> str:
    return await current_run().submit("unruly.large", {"text": "child"}, idempotency_key="k")


asking.start(ask)


def words(request: ScriptedRequest) -> ScriptedAnswer:
    count = int(request.user)
    return ScriptedAnswer(text="word " * count, chunks=["word "] * count)


streaming = Pipeline("unruly.streaming", version="1", event=Job, scripted=words)
streaming.start(streaming.model("talk", prompt="{{ event.text }}", alias="fast"))

leftover = Pipeline("unruly.leftover", version="1", event=Job)


@leftover.node
async def leave_a_thread(state: State) -> str:
    """Ends well, but leaves a thread behind that never ends."""
    threading.Thread(target=threading.Event().wait, daemon=False).start()
    return "done"


leftover.start(leave_a_thread)

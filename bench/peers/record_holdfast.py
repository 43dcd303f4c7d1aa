"""Holdfast's side: a `Recorder` in a script, with the SQLite store of its home."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from side import ANSWER, PROMPT, STEPS, Recording, obey

import holdfast
from holdfast import Recorder, settings
from holdfast.errors import NotFound
from holdfast.settings import Settings
from holdfast.store import migrations


class Holdfast(Recording):
    """Recording as documented: executions, steps and calls as context managers."""

    def __init__(self, home: str) -> None:
        self._recorder = Recorder("bench", home=Path(home))
        self._settings: Settings = settings.load(
            environ={"HOLDFAST_HOME": home, "HOLDFAST_LOG_LEVEL": "error"}
        )
        migrations.upgrade(self._settings.store_url)
        self._loop = asyncio.Runner()

    def trace(self, number: int, *, calls: bool) -> str:
        with self._recorder.execution("bench", input={"number": number}) as run:
            for step_number in range(STEPS):
                prompt, answer = f"{step_number} {PROMPT}", f"{step_number} {ANSWER}"
                if not calls:
                    with run.step("work", input=prompt) as step:
                        step.output = answer
                    continue
                with run.step("judge", kind="model") as step:
                    with step.provider_call(
                        provider="openai", model="gpt-4o-mini", system=PROMPT, user=prompt
                    ) as call:
                        call.answer(answer, tokens_input=500, tokens_output=500)
                    step.output = answer
        return run.id

    def readable(self, trace_id: str) -> bool:
        return self._loop.run(self._look(trace_id))

    def flush(self) -> None:
        self._recorder.flush()

    def count(self) -> int:
        return self._loop.run(self._count())

    async def _look(self, trace_id: str) -> bool:
        async with holdfast.connect(self._settings, read_only=True) as client:
            try:
                found = await client.execution(trace_id)
            except NotFound:
                return False
        return len(found["steps"]) == STEPS

    async def _count(self) -> int:
        async with holdfast.connect(self._settings) as client:  # the next start on this home
            found = [one async for one in client.executions(status="succeeded")]
            wholes = [await client.execution(one["id"]) for one in found]
        return sum(len(one["steps"]) == STEPS for one in wholes)


obey(Holdfast(sys.argv[1]).verbs())

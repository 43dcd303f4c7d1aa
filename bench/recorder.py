"""What `holdfast.Recorder` costs the code it records, on the caller's own path."""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median

from holdfast import Recorder

from .harness import Line, percentile

RUNS = 100
STEPS = 10

PROMPT = "Sort this mail by what its sender wants, and say how sure you are. " * 30  # 2 KB
ANSWER = "It is an invoice for the third quarter, sent by the usual supplier. " * 30


async def measure() -> AsyncIterator[Line]:
    """Executions of ten steps, each a plain one or a model call of 2 KB in and 2 KB out."""
    for what, calls, bar in (("plain step", False, 0.1), ("step with a model call", True, 0.1)):
        with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as home:
            recorder = Recorder("bench", home=Path(home))
            record(recorder, 5, calls=calls)
            times = record(recorder, RUNS, calls=calls)
            recorder.close()
        yield Line(
            name=f"a recorder adds to the caller, per {what} of 2 KB in and out",
            value=median(times),
            unit="ms",
            bar=bar,
            note=f"written to disk; p99 {percentile(times, 0.99):.3f} ms; a tenth of an execution",
        )


def record(recorder: Recorder, runs: int, *, calls: bool) -> list[float]:
    """Milliseconds a step, for each execution; its beginning and its end are counted in."""
    times: list[float] = []
    for run_number in range(runs):
        began = time.perf_counter()
        with recorder.execution("bench", input={"number": run_number}) as run:
            for number in range(STEPS):
                prompt, answer = f"{number} {PROMPT}", f"{number} {ANSWER}"
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
        times.append(1000 * (time.perf_counter() - began) / STEPS)
    return times

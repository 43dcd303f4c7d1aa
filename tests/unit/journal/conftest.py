"""Journals in a temporary folder, and executions to write into them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from holdfast.domain.status import ExecutionStatus, StepStatus
from holdfast.journal import Journal
from holdfast.recording import Collector
from holdfast.telemetry import Metrics
from holdfast.testing.ports import ASSESSOR, MemorySink

MakeJournal = Callable[..., Journal]


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    with capture_logs() as collected:
        yield collected


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def make_journal(tmp_path: Path, metrics: Metrics) -> Iterator[MakeJournal]:
    made: list[Journal] = []

    def make(boot_id: str = "boot") -> Journal:
        journal = Journal(tmp_path / "journal", boot_id, ASSESSOR, metrics)
        made.append(journal)
        return journal

    yield make
    for journal in made:
        if journal._folder._lock is not None:
            journal.close()


def changes_of(execution_id: str, *, text: str = "a question", steps: int = 2) -> list[bytes]:
    """What a run with model calls, an error and a late try tells."""
    sink = MemorySink()
    own = Collector(execution_id, sink)
    for number in range(steps):
        given = {"text": f"{text} {number}, long enough to be a text of its own", "more": [number]}
        step = own.start_step(kind="model", operation=f"step {number}", input=given)
        system = own.texts.add_shared(f"You are number {number % 2}. Be brief.")
        user = own.texts.add(given["text"])
        for n in range(2):
            own.start_attempt(
                step,
                provider="scripted",
                model="rules",
                parameters={"temperature": 0.5, "stop": ["x" * 60]},
                system=system,
                user=user,
                messages=own.texts.add_growing_list([system, user]),
            )
            if n == 0:
                own.finish_attempt(step, status=StepStatus.FAILED, error=TimeoutError("slow"))
            else:
                own.finish_attempt(
                    step,
                    status=StepStatus.SUCCEEDED,
                    answer={"content": f"answer {number}"},
                    tokens_input=10,
                    tokens_output=5,
                    usage="reported",
                )
        own.validated(step, outcome="valid", duration_us=7, credits=2)
        own.finish_step(step, output={"answer": f"answer {number} to {text}"})
    own.finish(ExecutionStatus.SUCCEEDED, output={"answer": text})
    return sink.raw[execution_id]


def take_over(journal: Journal, boot_id: str) -> dict[str, Any]:
    """What a later boot finds of a dead one, by execution id."""
    found: dict[str, Any] = {}
    for orphan, left in journal.orphans():
        if orphan.boot_id == boot_id:
            found |= {running.id: running for running in left}
        orphan.release()
    return found


def die(journal: Journal) -> None:
    """What the kernel does for a killed process: its descriptors close, nothing is tidied up."""
    import os

    folder = journal._folder
    os.close(folder._fd)
    assert folder._lock is not None
    os.close(folder._lock)
    folder._lock = None

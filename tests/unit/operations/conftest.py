"""The parts of a hub without a hub: a store, a journal, and executions told by hand."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from holdfast.bus import MemoryBus
from holdfast.domain.events import LOCAL_OWNER, Claimed
from holdfast.domain.ids import new_id
from holdfast.domain.status import ExecutionStatus, StepStatus
from holdfast.journal import Journal, Running
from holdfast.journal.running import Start
from holdfast.operations.kit import Kit
from holdfast.operations.submit import submit
from holdfast.pipelines.pipeline import Pipeline
from holdfast.pipelines.registry import Registry
from holdfast.recording import Collector
from holdfast.store import migrations
from holdfast.store.commands import Claim, Finish
from holdfast.store.registry import open_store
from holdfast.telemetry import Metrics
from holdfast.testing.ports import ASSESSOR, MemorySink


class Job(BaseModel):
    text: str = ""
    number: int = 0
    more: Any = None


async def nothing(state: Any) -> None:
    return None


def pipeline(name: str) -> Pipeline:
    made = Pipeline(name, version="1", event=Job)
    made.start(made.node("only", nothing))
    return made


def tries(execution_id: str, *, steps: int = 2) -> list[bytes]:
    """What a run of model steps tells: two tries each, the second one valid."""
    sink = MemorySink()
    own = Collector(execution_id, sink)
    for number in range(steps):
        given = {"text": f"a question {number}, long enough to be a text of its own"}
        step = own.start_step(kind="model", operation=f"step {number}", input=given)
        user = own.texts.add(given["text"])
        for n in range(2):
            own.start_attempt(
                step,
                provider="scripted",
                model="asked-for",
                parameters={"temperature": 0.5},
                system=own.texts.add_shared("Be brief."),
                user=user,
                messages=own.texts.add_growing_list([user]),
            )
            if n == 0:
                own.finish_attempt(step, status=StepStatus.FAILED, error=TimeoutError("slow"))
            else:
                own.finish_attempt(
                    step,
                    status=StepStatus.SUCCEEDED,
                    model="as-the-provider-names-it",
                    answer={"content": f"answer {number}"},
                    tokens_input=10,
                    tokens_output=5,
                    usage="reported",
                )
        own.validated(step, outcome="valid", duration_us=7)
        own.finish_step(step, output={"answer": f"answer {number}"})
    own.finish(ExecutionStatus.SUCCEEDED, output={"answer": "all of it"})
    return sink.raw[execution_id]


class Desk:
    """Short words for what tests do with the parts."""

    def __init__(self, kit: Kit) -> None:
        self.kit = kit

    async def submit(self, name: str = "p", **options: Any) -> str:
        options.setdefault("owner_id", LOCAL_OWNER)
        options.setdefault("data", {"text": "x"})
        return (await submit(self.kit, type=name, **options)).id

    async def claim(self) -> Claimed:
        versions = self.kit.registry.versions()
        (claimed,) = await self.kit.store.write(
            Claim(limit=1, lease_owner=self.kit.boot_id, lease_us=10**9, versions=versions)
        )
        return claimed

    def begin(self, claimed: Claimed) -> Running:
        return self.kit.journal.begin(
            Start(
                claimed=claimed, lease_owner=self.kit.boot_id, graph_version="1", code_version="c"
            )
        )

    async def begun(self, **options: Any) -> Running:
        await self.submit(**options)
        return self.begin(await self.claim())

    def tell(self, running: Running, changes: list[bytes]) -> None:
        for raw in changes:
            assert self.kit.journal.change(running.id, raw) is running

    async def store(self, running: Running) -> None:
        await self.kit.store.write(Finish(running.record()))
        self.kit.journal.settle(running.id)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("operations") / "holdfast.db"
    migrations.upgrade(f"sqlite:///{file}")
    return file


@pytest.fixture
async def desk(tmp_path: Path, migrated: Path) -> AsyncIterator[Desk]:
    file = tmp_path / "holdfast.db"
    shutil.copy(migrated, file)
    store = open_store(f"sqlite:///{file}", home=tmp_path)
    boot_id = new_id()
    metrics = Metrics()
    journal = Journal(tmp_path / "journal", boot_id, ASSESSOR, metrics)
    yield Desk(
        Kit(
            store=store,
            registry=Registry([pipeline("p"), pipeline("q")]),
            journal=journal,
            bus=MemoryBus(),
            metrics=metrics,
            boot_id=boot_id,
        )
    )
    journal.close()
    await store.close()

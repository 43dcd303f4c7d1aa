"""What the journal and the store cost by themselves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from holdfast.domain.events import LOCAL_OWNER, Claimed, NewEvent
from holdfast.domain.executions import Record
from holdfast.domain.ids import MICROS, new_id
from holdfast.domain.payload import Texts
from holdfast.domain.status import ExecutionStatus
from holdfast.journal import Journal
from holdfast.journal.running import Assessor, Start
from holdfast.llm.checks import suspicious
from holdfast.llm.prices import Prices
from holdfast.recording import Collector
from holdfast.store import migrations
from holdfast.store.commands import Claim, Finish, Submit
from holdfast.store.registry import open_store
from holdfast.store.store import Store
from holdfast.telemetry import Metrics

from .graphs import PARAGRAPHS, STEPS, distinct
from .harness import Line

PIPELINE = "bench.values"
VERSIONS = {PIPELINE: ("1", "c")}
LEASE_US = 600 * MICROS
EXECUTIONS = 640
GROUPS = (1, 16, 64)


async def measure() -> AsyncIterator[Line]:
    """A journalled step of 4 KB, and records of ten such steps in groups, on SQLite."""
    with TemporaryDirectory(prefix="holdfast-bench-") as folder:
        home = Path(folder)
        url = f"sqlite:///{home / 'holdfast.db'}"
        migrations.upgrade(url)
        store = await asyncio.to_thread(open_store, url, home=home)
        journal = Journal(
            home / "journal",
            "bench",
            Assessor(price=Prices().price, suspicious=suspicious),
            Metrics(),
        )
        try:
            claims = await _claimed(store, EXECUTIONS)
            steps: list[float] = []
            records = [_journalled(journal, claimed, steps) for claimed in claims]
            yield Line(
                name="journal: a step of 4 KB, start and end",
                value=1e6 * median(steps),
                unit="µs",
                note="numbered, written, kept for live views; no fsync",
            )
            for size, share in zip(GROUPS, (64, 192, 384), strict=True):
                mine, records = records[:share], records[share:]
                yield Line(
                    name=f"store: a record of {STEPS} steps of 4 KB, groups of {size}",
                    value=1000 * await _stored(store, mine, size),
                    unit="ms",
                    note="SQLite, synchronous=FULL",
                )
            for claimed in claims:
                journal.settle(claimed.execution_id)
        finally:
            journal.close()
            await store.close()


async def _claimed(store: Store, count: int) -> list[Claimed]:
    await asyncio.gather(*(store.write(Submit(_event())) for _ in range(count)))
    return await store.write(
        Claim(versions=VERSIONS, limit=count, lease_owner="bench", lease_us=LEASE_US)
    )


def _event() -> NewEvent:
    return NewEvent(
        id=new_id(),
        owner_id=LOCAL_OWNER,
        type=PIPELINE,
        source="/",
        subject=None,
        target=PIPELINE,
        target_kind="pipeline",
        data=b'{"text":"x"}',
        idempotency_key=None,
        body_hash="",
        priority=0,
        traceparent=None,
        occurred_at=None,
    )


class _Journalled:
    """A sink that journals at once and keeps how long that took."""

    def __init__(self, journal: Journal) -> None:
        self.seconds: list[float] = []
        self._journal = journal

    def change(self, execution_id: str, raw: bytes) -> None:
        began = time.perf_counter()
        self._journal.change(execution_id, raw)
        self.seconds.append(time.perf_counter() - began)

    def tokens(self, execution_id: str, step: int, text: str) -> None:
        raise NotImplementedError


def _journalled(journal: Journal, claimed: Claimed, steps: list[float]) -> Record:
    """Journal ten steps as a runner would tell them; what is then to be stored."""
    running = journal.begin(
        Start(claimed=claimed, lease_owner="bench", graph_version="1", code_version="c")
    )
    sink = _Journalled(journal)
    collector = Collector(running.id, sink, texts=Texts(claimed.data))
    for number in range(STEPS):
        step = collector.start_step(
            kind="node", operation=f"n{number}", input=distinct(PARAGRAPHS[number])
        )
        collector.finish_step(step, output=distinct(PARAGRAPHS[STEPS + number]))
    steps += [start + end for start, end in pairs(sink.seconds)]
    collector.finish(ExecutionStatus.SUCCEEDED)
    return running.record()


def pairs(values: list[float]) -> list[tuple[float, float]]:
    """Two by two: the start of a step and its end."""
    return list(zip(values[::2], values[1::2], strict=True))


async def _stored(store: Store, records: list[Record], size: int) -> float:
    """Seconds a record takes to be stored, in groups of `size`; the median over the groups."""
    took: list[float] = []
    for start in range(0, len(records), size):
        group = records[start : start + size]
        began = time.perf_counter()
        done = await asyncio.gather(*(store.write(Finish(record)) for record in group))
        took.append((time.perf_counter() - began) / len(group))
        assert all(one.outcome == "applied" for one in done)
    return median(took)

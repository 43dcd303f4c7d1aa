"""The writer: nobody waits for ever, nothing queued is lost, and the queue's indexes are used."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from holdfast.domain.status import EventStatus
from holdfast.errors import StoreError
from holdfast.store import Store
from holdfast.store.base import Command, Lane, Writes
from holdfast.store.commands import Submit
from holdfast.store.commands.horizon import WHOLE
from holdfast.store.commands.leases import next_runnable
from holdfast.store.commands.reaping import expired
from holdfast.store.queries import CountEvents, Ping
from holdfast.store.registry import address
from holdfast.store.statements import Statement, postgres_compiler, sqlite_compiler
from holdfast.store.unit_of_work import UnitOfWork
from holdfast.store.writer import CAPACITY

PATIENCE_S = 20
"""Only a caller that is never answered waits so long."""


class Gate(Command[int]):
    """Holds a unit of work open until it is told to go on."""

    lane: ClassVar[Lane] = "submit"
    order: ClassVar[int] = 0

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[int]:
        for command in commands:
            command.reached.set()
            assert command.open.wait(30)
        return [len(commands)] * len(commands)


async def at_gate(store: Store) -> tuple[Gate, asyncio.Task[int]]:
    gate = Gate()
    task = asyncio.create_task(store.write(gate))
    await asyncio.to_thread(gate.reached.wait, 30)
    return gate, task


async def test_what_queues_during_a_commit_is_committed_together(
    store: Store, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    run = UnitOfWork.run

    def counted(self: UnitOfWork, commands: Sequence[Command[Any]]) -> Any:
        sizes.append(len(commands))
        return run(self, commands)

    monkeypatch.setattr(UnitOfWork, "run", counted)
    gate, held = await at_gate(store)
    waiting = [asyncio.create_task(make.submitted()) for _ in range(50)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    gate.open.set()
    await held
    await asyncio.gather(*waiting)
    assert sizes == [1, 50]


async def test_close_stores_what_is_queued(
    store: Store, make: Any, reopen: Callable[[], Store]
) -> None:
    gate, held = await at_gate(store)
    waiting = [asyncio.create_task(make.submitted()) for _ in range(20)]
    await asyncio.sleep(0)
    closing = asyncio.create_task(store.close())
    gate.open.set()
    await closing
    await asyncio.gather(held, *waiting)
    with pytest.raises(StoreError, match="closed"):
        await make.submitted()
    with pytest.raises(StoreError, match="closed"):
        await store.read(Ping())
    again = reopen()
    try:
        assert (await again.read(CountEvents()))[EventStatus.QUEUED] == 20
    finally:
        await again.close()


async def test_a_dead_writer_tells_everybody(
    store: Store, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, held = await at_gate(store)
    waiting = [asyncio.create_task(make.submitted()) for _ in range(CAPACITY + 20)]
    await asyncio.sleep(0)

    def broken(self: UnitOfWork, commands: Sequence[Command[Any]]) -> Any:
        raise SystemExit("planted")

    monkeypatch.setattr(UnitOfWork, "run", broken)
    gate.open.set()
    assert await held == 1
    async with asyncio.timeout(PATIENCE_S):
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(one, StoreError) for one in outcomes)
    with pytest.raises(StoreError, match="planted"):
        await make.submitted()


async def test_a_failed_commit_is_told_and_the_next_one_works(
    store: Store, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:

        def broken(self: UnitOfWork, commands: Sequence[Command[Any]]) -> Any:
            raise OSError("disk full")

        patch.setattr(UnitOfWork, "run", broken)
        with pytest.raises(StoreError, match="disk full") as told:
            await make.submitted()
        assert "not known" in told.value.hint
    assert (await make.submitted()).created


async def test_a_cancelled_caller_takes_nobody_along(store: Store, make: Any) -> None:
    gate, held = await at_gate(store)
    gone = asyncio.create_task(make.submitted())
    stays = asyncio.create_task(make.submitted())
    await asyncio.sleep(0)
    gone.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await gone
    gate.open.set()
    await held
    async with asyncio.timeout(PATIENCE_S):
        assert (await stays).created


async def test_callers_may_live_on_different_loops(store: Store, make: Any) -> None:
    def elsewhere() -> bool:
        return asyncio.run(make.submitted()).created

    mine, *theirs = await asyncio.gather(
        make.submitted(), *(asyncio.to_thread(elsewhere) for _ in range(4))
    )
    assert mine.created
    assert all(theirs)
    assert (await store.read(CountEvents()))[EventStatus.QUEUED] == 5


async def test_a_caller_whose_loop_is_gone_does_not_stop_the_writer(
    store: Store, make: Any
) -> None:
    gate, held = await at_gate(store)

    async def impatient() -> None:
        asyncio.create_task(make.submitted())  # noqa: RUF006 - left behind on purpose
        await asyncio.sleep(0)

    await asyncio.to_thread(asyncio.run, impatient())
    gate.open.set()
    await held
    assert (await make.submitted()).created


CLAIM = {"now": 2**60, "limit": 10, "name_0": "triage", **WHOLE._asdict()}
REAP = {"now": 2**60, "limit": 10, "mine": "boot-1"}


@pytest.mark.parametrize(
    ("statement", "values", "index"),
    [(next_runnable(1), CLAIM, "ix_events_ready"), (expired, REAP, "ix_events_leased")],
)
async def test_the_queue_is_read_over_its_partial_indexes(
    store: Store,
    make: Any,
    store_url: str,
    backend: str,
    statement: Statement,
    values: dict[str, Any],
    index: str,
) -> None:
    await asyncio.gather(*(store.write(Submit(make.event())) for _ in range(2000)))
    engine = create_engine(address(store_url).sqlalchemy_url, poolclass=NullPool)
    compiler = sqlite_compiler() if backend == "sqlite" else postgres_compiler()
    compiled = compiler.text(statement)
    explain = "EXPLAIN QUERY PLAN " if backend == "sqlite" else "EXPLAIN "
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE events SET status = 'succeeded' WHERE substr(id, 36) <> '0'")
        )
        connection.execute(
            text(
                "UPDATE events SET status = 'running', lease_owner = 'x', lease_until = 1"
                " WHERE substr(id, 35) = '10'"
            )
        )
    with engine.connect() as connection:
        if backend != "sqlite":
            connection.execute(text("ANALYZE events"))
        plan = connection.exec_driver_sql(explain + compiled.sql, compiled.place(values)).all()
    assert "status = '" in compiled.sql  # a parameter would hide it from a prepared plan
    shown = "\n".join(str(row) for row in plan)
    assert index in shown
    # One row a paused pipeline: the only table small enough to be read whole.
    assert set(re.findall(r"Seq Scan on (\w+)", shown)) <= {"pauses"}
    assert not [row for row in plan if re.fullmatch(r"SCAN \w+", str(row[-1]))]
    if index == "ix_events_ready":
        assert "Sort" not in shown
        assert "TEMP B-TREE" not in shown

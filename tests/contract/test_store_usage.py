"""The ledger: every part once, sums by day, and nobody else's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from holdfast.domain.halts import Halt, Totals
from holdfast.domain.status import ExecutionStatus
from holdfast.domain.usage import DAY_US, Sums, UsageLine
from holdfast.journal.ledger import lines_of
from holdfast.store import Store
from holdfast.store.commands import Finish, FoldUsage, Prune
from holdfast.store.queries import OldEvents, UsageOf

DAY = 19_675  # 2023-11-14, of the attempts that `make` makes


def line(day: int = DAY, **fields: Any) -> UsageLine:
    values = {"alias": "fast", "provider": "openai", "model": "gpt"}
    return UsageLine(day=day, **values, sums=Sums(**({"calls": 1} | fields)))


async def total(store: Store, owner_id: str | None = "local", **bounds: int) -> Sums:
    found = await store.read(UsageOf(owner_id=owner_id, by="day", **bounds))
    return sum((sums for _, sums in found), start=Sums())


async def test_a_record_and_its_lines_land_together(store: Store, make: Any) -> None:
    claimed = await make.running()
    record = make.record(claimed)
    record = replace(record, usage=lines_of(record.attempts))
    await store.write(Finish(record))
    found = await store.read(UsageOf(owner_id="local", by="model"))
    expected = Sums(
        calls=1,
        tokens_input=100,
        tokens_cached=20,
        tokens_output=7,
        cost_pico=2_600_000,
        credits=1,
    )
    assert found == [(("openai", "gpt"), expected)]
    for by, key in (("day", DAY), ("pipeline", "triage"), ("alias", ""), ("owner", "local")):
        assert await store.read(UsageOf(owner_id="local", by=by)) == [((key,), expected)]
    assert await store.read(UsageOf(owner_id="local", by="agent")) == []


async def test_a_record_that_comes_twice_counts_once(store: Store, make: Any) -> None:
    claimed = await make.running()
    record = make.record(claimed, usage=(line(cost_pico=5),))
    await store.write(Finish(record))
    await store.write(Finish(record))
    assert await total(store) == Sums(calls=1, cost_pico=5)


async def test_what_came_too_late_counts_too(store: Store, make: Any) -> None:
    claimed = await make.running()
    late = make.record(claimed, usage=(line(cost_pico=5),), lease_owner="another")
    finished = await store.write(Finish(late))
    assert finished.outcome == "superseded"
    assert await total(store) == Sums(calls=1, cost_pico=5)


async def test_each_part_of_a_halted_execution_counts(store: Store, make: Any) -> None:
    claimed = await make.running()
    halt = Halt(
        part=1,
        steps=1,
        texts=2,
        seq=4,
        started_at=claimed.started_at,
        code_version="c1",
        counts={},
        totals=Totals(),
        flags={},
        open=[],
        stops=[],
    )
    paused = make.record(
        claimed, ExecutionStatus.PAUSED, usage=(line(credits=1),), halt=halt, steps=(), attempts=()
    )
    await store.write(Finish(paused))
    assert await total(store) == Sums(calls=1, credits=1)


async def test_lines_are_folded_and_no_sum_changes(store: Store, make: Any) -> None:
    for number in range(5):
        claimed = await make.running()
        lines = (line(cost_pico=number), line(DAY + 1 + number % 2, tokens_input=10))
        await store.write(Finish(make.record(claimed, usage=lines)))
    before = await store.read(UsageOf(owner_id="local", by="day"))
    assert [key for key, _ in before] == [(DAY,), (DAY + 1,), (DAY + 2,)]
    assert await store.write(FoldUsage(7)) == 7
    assert await store.read(UsageOf(owner_id="local", by="day")) == before
    assert await store.write(FoldUsage(100)) == 3
    assert await store.write(FoldUsage(100)) == 0
    assert await store.read(UsageOf(owner_id="local", by="day")) == before
    assert (await total(store, since=DAY + 1)).tokens_input == 50
    assert (await total(store, until=DAY)).cost_pico == 10


async def test_pruning_keeps_the_sums(store: Store, make: Any) -> None:
    for _ in range(2):
        claimed = await make.running()
        await store.write(Finish(make.record(claimed, usage=(line(cost_pico=7),))))
        await store.write(FoldUsage(1))
    before = await total(store)
    far = claimed.started_at + 10 * DAY_US
    old = await store.read(OldEvents(owner_id="local", target="triage", before=far))
    assert await store.write(Prune(owner_id="local", event_ids=old)) == 2
    assert await total(store) == before == Sums(calls=2, cost_pico=14)


async def test_owners_see_their_own(store: Store, make: Any) -> None:
    for owner, cost in (("a", 1), ("b", 2)):
        await make.submitted(owner_id=owner)
        (claimed,) = await make.claimed()
        await store.write(Finish(make.record(claimed, usage=(line(cost_pico=cost),))))
        if owner == "a":
            await store.write(FoldUsage())
    assert (await total(store, "a")).cost_pico == 1
    assert (await total(store, "b")).cost_pico == 2
    assert await total(store, "c") == Sums()
    everybody = await store.read(UsageOf(owner_id=None, by="owner"))
    assert [(key, sums.cost_pico) for key, sums in everybody] == [(("a",), 1), (("b",), 2)]

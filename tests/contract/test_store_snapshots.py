"""An old snapshot held open: what has died stays in the indexes, and may cost no more for it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import psycopg
import pytest

from holdfast.store import Store
from holdfast.store.commands import horizon
from holdfast.store.commands.horizon import LATE_US, LEAST, WHOLE, Bound, Horizon
from holdfast.store.commands.leases import next_runnable
from holdfast.store.queries import prune
from holdfast.store.statements import Statement, postgres_compiler

SECOND = 1_000_000
DEAD = 5000
TOP = 2**60

postgresql = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)


async def filled(make: Any, connection: psycopg.Connection[Any]) -> int:
    """One event in the queue and many that were in it while somebody looked on; when it came."""
    await make.submitted()
    names = [
        name
        for (name,) in connection.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_name = 'events'"
        )
    ]
    new: Mapping[str, str] = {"id": "gen_random_uuid()::text", "available_at": f"{SECOND} + n"}
    values = ", ".join(new.get(name, name) for name in names)
    connection.execute(
        f"INSERT INTO events ({', '.join(names)}) SELECT {values}"
        f" FROM events, generate_series(1, {DEAD}) n"
    )
    connection.execute(
        "UPDATE events SET status = 'succeeded', finished_at = 5 WHERE available_at < %s",
        [3 * SECOND],
    )
    connection.execute("ANALYZE events")
    ((came,),) = connection.execute("SELECT available_at FROM events WHERE status = 'queued'")
    return came


def pages(connection: psycopg.Connection[Any], statement: Statement, **values: Any) -> int:
    """How many pages a statement reads, its planning left out."""
    text = postgres_compiler().text(statement)
    plan = [
        line
        for (line,) in connection.execute(
            f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF) {text.sql}", text.place(values)
        )
    ]
    counts = re.search(r"Buffers: shared (?:hit=(\d+))?(?: ?read=(\d+))?", "\n".join(plan))
    assert counts is not None
    return sum(int(count or 0) for count in counts.groups())


@postgresql
async def test_a_claim_need_not_read_what_has_died(make: Any, store_url: str, store: Store) -> None:
    with (
        psycopg.connect(store_url, autocommit=True) as connection,
        psycopg.connect(store_url) as onlooker,
    ):
        onlooker.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        onlooker.execute("SELECT 1")
        came = await filled(make, connection)
        claim = {"now": TOP, "limit": 10, "name_0": "triage"}
        whole = pages(connection, next_runnable(1), **claim, **WHOLE._asdict())
        connection.execute("SET enable_sort = off")  # as `in_order` does
        short = pages(connection, next_runnable(1), **claim, **Bound(0, came)._asdict())
        assert whole > DEAD / 50, "the dead are not where this test wants them"
        assert short < whole / 4


@postgresql
async def test_a_batch_of_old_events_is_looked_for_behind_the_last_one(
    make: Any, store_url: str, store: Store
) -> None:
    with (
        psycopg.connect(store_url, autocommit=True) as connection,
        psycopg.connect(store_url) as onlooker,
    ):
        await filled(make, connection)
        onlooker.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        onlooker.execute("SELECT 1")
        ids = [id_ for (id_,) in connection.execute("SELECT id FROM events ORDER BY id")]
        last = ids[-100]
        connection.execute("DELETE FROM events WHERE id < %s", [last])
        connection.execute("ANALYZE events")
        asked = {"owner_id": "local", "target": "triage", "before": TOP, "limit": 10}
        whole = pages(connection, prune._OLDEST, **asked, after="")
        short = pages(connection, prune._OLDEST, **asked, after=last)
        assert short < whole / 4


# -- what a claim remembers ------------------------------------------------------------------------


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Horizon:
    """Every look over the whole took too long, and is not repeated in this test."""
    monkeypatch.setattr(horizon, "SLOW_US", -1)
    monkeypatch.setattr(horizon, "SELDOM", 10**9)
    return Horizon()


async def test_claims_behind_a_horizon_keep_the_order(make: Any, slow: Horizon) -> None:
    low = [(await make.submitted(priority=-1)).id for _ in range(3)]
    first = [(await make.submitted()).id for _ in range(5)]
    order = [one.event_id for one in await make.claimed(limit=2, horizon=slow)]
    high = (await make.submitted(priority=5)).id
    while (claimed := await make.claimed(limit=2, horizon=slow)) or slow.again:
        order += [one.event_id for one in claimed]
    assert order == [*first[:2], high, *first[2:], *low]


async def test_what_comes_behind_the_horizon_is_claimed_at_once(make: Any, slow: Horizon) -> None:
    assert await make.claimed(horizon=slow) == []
    assert slow.bound(0) != WHOLE
    ids = {(await make.submitted(priority=priority)).id for priority in (3, -3)}
    assert {one.event_id for one in await make.claimed(horizon=slow)} == ids


async def test_what_a_claim_passed_over_is_found_by_the_next(make: Any, slow: Horizon) -> None:
    ids = [(await make.submitted()).id for _ in range(2)]
    (one,) = await make.claimed(room={"triage": 1}, horizon=slow)
    assert one.event_id == ids[0]
    assert [other.event_id for other in await make.claimed(horizon=slow)] == [ids[1]]


def test_a_quick_claim_looks_at_everything() -> None:
    fresh = Horizon()
    fresh.looked(WHOLE, [], more=False, now=100 * SECOND, took_us=100)
    assert fresh.bound(100 * SECOND) == WHOLE
    assert fresh.whole_in_us == 0


def test_a_slow_look_is_repeated_after_twenty_times_its_length() -> None:
    now, took = 100 * SECOND, SECOND // 10
    slow = Horizon()
    slow.looked(WHOLE, [], more=False, now=now, took_us=took)
    assert slow.whole_in_us == 20 * took
    assert slow.bound(now + 19 * took) == Bound(LEAST, now - LATE_US)
    assert slow.bound(now + 20 * took) == WHOLE

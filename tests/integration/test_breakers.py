"""Breakers with real runners and a provider that fails: what it does to calls, events, records."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from holdfast.domain.breakers import Breaker, BreakerStatus
from holdfast.domain.events import LOCAL_OWNER, Event
from holdfast.domain.status import EventStatus, ExecutionStatus, StepStatus
from holdfast.hub.breakers import Breakers
from holdfast.operations import read
from holdfast.store.queries import AllBreakers
from holdfast.testing.postgres import PostgresForTests
from holdfast.testing.providers import FakeAnswer, FakeOpenAI

from .conftest import HubForTests, OpenHub, until_true

B, E, X = BreakerStatus, EventStatus, ExecutionStatus
DOWN = FakeAnswer(status=500)


@pytest.fixture
async def provider() -> AsyncIterator[FakeOpenAI]:
    async with FakeOpenAI(["fine"]) as server:
        yield server


@pytest.fixture
def hub_environ(hub_environ: dict[str, str], provider: FakeOpenAI) -> dict[str, str]:
    fast = {"model": "openai:fake-model", "base_url": provider.url}
    return hub_environ | {
        "HOLDFAST_APPS": "breakers_app",
        "HOLDFAST_MODELS": orjson.dumps({"fast": fast}).decode(),
        "HOLDFAST_BREAKER_FAILURES": "3",
        "HOLDFAST_BREAKER_COOLDOWN": "3600",
        "HOLDFAST_BREAKER_COOLDOWN_MOST": "7200",
    }


@pytest.fixture(params=["sqlite", "postgresql"])
def database(
    request: pytest.FixtureRequest, hub_environ: dict[str, str], postgres: PostgresForTests
) -> str:
    if request.param == "postgresql":
        hub_environ["HOLDFAST_DATABASE_URL"] = postgres.migrated()
    return request.param


def name_of(provider: FakeOpenAI) -> str:
    return f"openai@{provider.origin.removeprefix('http://')}/fake-model"


async def breaker(hub: HubForTests, name: str) -> Breaker:
    return (await hub.kit.store.read(AllBreakers())).breakers[name]


async def stands(
    hub: HubForTests, name: str, status: BreakerStatus, *, openings: int | None = None
) -> Breaker:
    """The breaker once its row says so; a move is stored beside the record, not with it."""

    async def so() -> bool:
        found = (await hub.kit.store.read(AllBreakers())).breakers.get(name)
        return found is not None and found.status is status and openings in (None, found.openings)

    await until_true(so)
    return await breaker(hub, name)


async def postponed(hub: HubForTests, event_id: str) -> Event:
    async def so() -> bool:
        event = await read.event(hub.kit, event_id, LOCAL_OWNER)
        assert event.finished_at is None, event.last_error
        return event.postponed_for is not None

    await until_true(so)
    return await read.event(hub.kit, event_id, LOCAL_OWNER)


async def at_rest(hub: HubForTests, event_id: str) -> Event:
    """The end of an event that another hub may run."""

    async def so() -> bool:
        return (await read.event(hub.kit, event_id, LOCAL_OWNER)).finished_at is not None

    await until_true(so)
    return await read.event(hub.kit, event_id, LOCAL_OWNER)


async def opened(hub: HubForTests, provider: FakeOpenAI) -> str:
    """Fail until the breaker opens; its name."""
    provider.answer([DOWN])
    for n in range(3):
        event = await hub.ended(await hub.submit("test.asking", text=str(n)))
        assert event.status is E.DEAD
    name = name_of(provider)
    await stands(hub, name, B.OPEN)
    return name


async def cooled_down(hub: HubForTests, name: str) -> None:
    """As if the cool-down were over now."""
    from holdfast.operations.breakers import open_breaker

    await open_breaker(hub.kit, name, seconds=0)


async def test_an_open_breaker_spares_the_provider_and_postpones_the_event(
    open_hub: OpenHub, provider: FakeOpenAI, database: str
) -> None:
    async with open_hub(runners=2) as hub:
        name = await opened(hub, provider)
        opening = await breaker(hub, name)
        assert (opening.openings, opening.by_hand) == (1, False)
        assert opening.reason is not None
        assert "500" in opening.reason
        asked = len(provider.requests)
        event = await postponed(hub, await hub.submit("test.asking", text="later"))
        assert len(provider.requests) == asked == 3, "the provider was not asked again"
        assert (event.status, event.deliveries, event.crashes) == (E.QUEUED, 0, 0)
        assert event.postponed_for == name
        assert opening.until is not None
        assert event.available_at >= opening.until
        (run,) = await hub.executions(event.id)
        whole = await hub.whole(run.id)
        assert (run.status, run.flags["postponed"]) == (X.FAILED, name)
        assert run.error is not None
        assert run.error["code"] == "breaker_open"
        assert name in run.error["message"]
        (attempt,) = whole.attempts
        assert (attempt.status, attempt.usage, attempt.cost_pico) == (StepStatus.FAILED, "none", 0)
        assert attempt.http_status is None, "no call was made"
        assert run.totals.usage_unknown == run.totals.cost_unknown == 0
        metrics = hub.kit.metrics
        assert metrics.get("holdfast_breaker_open", breaker=name) == 1
        assert metrics.get("holdfast_events_postponed_total", breaker=name) == 1


async def test_a_successful_probe_closes_it_and_all_that_waited_runs(
    open_hub: OpenHub, provider: FakeOpenAI, database: str
) -> None:
    async with open_hub(runners=2) as hub:
        name = await opened(hub, provider)
        ids = [await hub.submit("test.asking", text=str(n)) for n in range(40)]
        for event_id in ids:
            await postponed(hub, event_id)
        provider.answer(["fine"])
        await cooled_down(hub, name)
        for event_id in ids:
            event = await hub.ended(event_id)
            assert (event.status, event.deliveries) == (E.SUCCEEDED, 1)
        assert (await stands(hub, name, B.CLOSED)).openings == 0
        assert len(provider.requests) == 3 + len(ids), "each was asked once"


async def test_a_burst_over_two_runners_lets_exactly_one_probe_through(
    open_hub: OpenHub, provider: FakeOpenAI
) -> None:
    async with open_hub(runners=2) as hub:
        name = await opened(hub, provider)
        provider.answer([FakeAnswer(text="slow", hold_after=0)])
        await cooled_down(hub, name)
        ids = [await hub.submit("test.asking", text=str(n)) for n in range(60)]
        await provider.arrived(4)

        async def all_but_one() -> bool:
            return (await hub.kit.store.read(AllBreakers())).waiting.get(name) == len(ids) - 1

        await until_true(all_but_one)
        assert len(provider.requests) == 4, "three that opened it, and one probe"
        assert (await breaker(hub, name)).status is B.HALF_OPEN
        provider.release()
        provider.answer(["fine"])
        for event_id in ids:
            assert (await hub.ended(event_id)).status is E.SUCCEEDED


async def test_a_failed_probe_opens_it_for_longer_and_burns_no_delivery(
    open_hub: OpenHub, provider: FakeOpenAI
) -> None:
    async with open_hub(runners=1) as hub:
        name = await opened(hub, provider)
        await cooled_down(hub, name)
        event = await postponed(hub, await hub.submit("test.asking", text="probe"))
        again = await stands(hub, name, B.OPEN, openings=2)
        assert again.until is not None
        assert again.until - again.changed_at == 7200 * 1_000_000
        assert event.deliveries == 0
        (run,) = await hub.executions(event.id)
        (attempt,) = (await hub.whole(run.id)).attempts
        assert (attempt.http_status, attempt.error_class) == (500, "temporary")
        assert attempt.request_id is not None, "what the provider said is on record"


async def test_a_probe_whose_runner_dies_leaves_its_turn_to_another(
    open_hub: OpenHub, provider: FakeOpenAI
) -> None:
    import os
    import signal

    async with open_hub(runners=1) as hub:
        name = await opened(hub, provider)
        provider.answer([FakeAnswer(text="slow", hold_after=0)])
        await cooled_down(hub, name)
        event_id = await hub.submit("test.asking", text="x")
        await provider.arrived(4)
        await stands(hub, name, B.HALF_OPEN)
        provider.answer(["fine"])
        os.kill(hub.crew.workers[0].pid, signal.SIGKILL)  # type: ignore[attr-defined]
        event = await hub.ended(event_id)
        assert (event.status, event.crashes) == (E.SUCCEEDED, 1)
        await stands(hub, name, B.CLOSED)


async def test_a_cancelled_probe_leaves_its_turn_to_another(
    open_hub: OpenHub, provider: FakeOpenAI
) -> None:
    from holdfast.operations.cancel import cancel_event

    async with open_hub(runners=1) as hub:
        name = await opened(hub, provider)
        provider.answer([FakeAnswer(text="slow", hold_after=0)])
        await cooled_down(hub, name)
        event_id = await hub.submit("test.asking", text="x")
        await provider.arrived(4)
        await stands(hub, name, B.HALF_OPEN)
        await cancel_event(hub.kit, event_id, LOCAL_OWNER)
        assert (await hub.ended(event_id)).status is E.CANCELLED
        assert (await stands(hub, name, B.OPEN)).openings == 1
        provider.answer(["fine"])
        assert (await hub.ended(await hub.submit("test.asking"))).status is E.SUCCEEDED


async def test_retries_that_meet_the_open_breaker_are_postponed_instead(
    open_hub: OpenHub, provider: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_hub(runners=1) as hub:
        provider.answer([DOWN])
        event = await postponed(hub, await hub.submit("test.retrying", text="x"))
        assert len(provider.requests) == 3, "of ten tries"
        (run,) = await hub.executions(event.id)
        attempts = (await hub.whole(run.id)).attempts
        assert [one.http_status for one in attempts][:3] == [500, 500, 500]
        assert event.deliveries == 0


async def test_a_durable_run_goes_on_where_the_breaker_stopped_it(
    open_hub: OpenHub, provider: FakeOpenAI, database: str, tmp_path: Path
) -> None:
    async with open_hub(runners=1) as hub:
        name = await opened(hub, provider)
        event = await postponed(
            hub, await hub.submit("test.lasting", text="x", folder=str(tmp_path))
        )
        assert event.pinned == "1"
        provider.answer(["fine"])
        await cooled_down(hub, name)
        event = await hub.ended(event.id)
        assert (event.status, event.deliveries) == (E.SUCCEEDED, 1)
        assert (tmp_path / "calls").read_text() == "first ", "what was done was not done again"


async def test_a_step_that_may_fail_goes_on_without(
    open_hub: OpenHub, provider: FakeOpenAI
) -> None:
    async with open_hub(runners=1) as hub:
        await opened(hub, provider)
        event, whole = await hub.run("test.careful", text="x")
        assert (event.status, whole.execution.status) == (E.SUCCEEDED, X.PARTIAL)


async def test_branches_are_postponed_only_when_nothing_else_failed(
    open_hub: OpenHub, provider: FakeOpenAI
) -> None:
    async with open_hub(runners=1) as hub:
        name = await opened(hub, provider)
        event = await postponed(hub, await hub.submit("test.forked"))
        assert event.postponed_for == name
        mixed = await hub.ended(await hub.submit("test.split"))
        assert mixed.status is E.FAILED


async def test_a_temporary_error_beside_an_open_breaker_is_redelivered_and_counts(
    open_hub: OpenHub, provider: FakeOpenAI, tmp_path: Path
) -> None:
    async with open_hub(runners=1) as hub:
        name = await opened(hub, provider)
        event_id = await hub.submit("test.uneven", folder=str(tmp_path))
        event = await postponed(hub, event_id)
        assert (event.postponed_for, event.errors, event.deliveries) == (name, 1, 1)
        first, second = await hub.executions(event_id)
        assert (first.error or {})["error_class"] == "temporary"
        assert (first.flags, second.flags["postponed"]) == ({}, name)
        provider.answer(["fine"])
        await cooled_down(hub, name)
        assert (await hub.ended(event_id)).status is E.SUCCEEDED


async def test_what_its_runner_was_told_holds_for_a_hub_that_never_heard_of_it(
    open_hub: OpenHub, provider: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a hub dies before it has stored an opening, and another takes in its journal."""
    monkeypatch.setattr(Breakers, "has_opened", lambda _self, _name: False)
    async with open_hub(runners=1) as hub:
        name = await opened(hub, provider)
        event = await postponed(hub, await hub.submit("test.asking", text="refused"))
        assert (event.postponed_for, event.deliveries, event.errors) == (name, 0, 0)
        await cooled_down(hub, name)
        failed = await postponed(hub, await hub.submit("test.asking", text="the probe"))
        assert (failed.postponed_for, failed.errors) == (name, 0)
        assert len(provider.requests) == 4, "one of them was the probe, which failed"


async def test_sync_code_in_a_thread_is_held_back_and_may_probe(
    open_hub: OpenHub, provider: FakeOpenAI
) -> None:
    async with open_hub(runners=1) as hub:
        name = await opened(hub, provider)
        event = await postponed(hub, await hub.submit("test.threaded", text="x"))
        assert len(provider.requests) == 3
        provider.answer(["fine"])
        await cooled_down(hub, name)
        assert (await hub.ended(event.id)).status is E.SUCCEEDED
        assert (await stands(hub, name, B.CLOSED)).openings == 0


@pytest.mark.parametrize(("status", "code"), [(400, None), (401, None), (404, None), (402, None)])
async def test_refusals_of_what_was_asked_open_nothing(
    open_hub: OpenHub, provider: FakeOpenAI, status: int, code: str | None
) -> None:
    async with open_hub(in_process=True) as hub:
        provider.answer([FakeAnswer(status=status, error_code=code)])
        for _ in range(6):
            assert (await hub.ended(await hub.submit("test.asking"))).status is E.FAILED
        assert len(provider.requests) == 6
        assert (await stands(hub, name_of(provider), B.CLOSED)).version == 0


@pytest.mark.parametrize("counts", [False, True])
async def test_rate_limits_count_when_the_settings_say_so(
    open_hub: OpenHub, provider: FakeOpenAI, counts: bool
) -> None:
    async with open_hub(in_process=True, breaker_rate_limits=counts) as hub:
        provider.answer([FakeAnswer(status=429)])
        for _ in range(3):
            assert (await hub.ended(await hub.submit("test.asking"))).status is E.DEAD
        await stands(hub, name_of(provider), B.OPEN if counts else B.CLOSED)


async def test_calls_that_take_longer_than_their_node_may_count(
    open_hub: OpenHub, provider: FakeOpenAI
) -> None:
    """All that the call itself sees is that it was cancelled."""
    async with open_hub(runners=1) as hub:
        provider.answer([FakeAnswer(text="never", hold_after=0)])
        assert (await hub.ended(await hub.submit("test.hurried"))).status is E.DEAD  # imports
        ids = [await hub.submit("test.hurried") for _ in range(3)]
        for event_id in ids:
            assert (await hub.ended(event_id)).status is E.DEAD
        found = await stands(hub, name_of(provider), B.OPEN)
        assert found.reason == "timed out"


async def test_a_breaker_of_a_service(open_hub: OpenHub, database: str) -> None:
    async with open_hub(runners=2) as hub:
        assert (await hub.ended(await hub.submit("test.serving"))).status is E.SUCCEEDED
        assert (await stands(hub, "crm", B.CLOSED)).version == 0
        for outcome in ("bug", "bug", "bug", "down", "odd"):
            event = await hub.ended(await hub.submit("test.serving", outcome=outcome))
            assert event.status is (E.DEAD if outcome == "down" else E.FAILED)
            assert (await breaker(hub, "crm")).status is B.CLOSED
        await hub.ended(await hub.submit("test.serving", outcome="down"))
        await stands(hub, "crm", B.OPEN)
        event = await postponed(hub, await hub.submit("test.serving"))
        assert event.postponed_for == "crm"
        await cooled_down(hub, "crm")
        assert (await hub.ended(event.id)).status is E.SUCCEEDED
        await stands(hub, "crm", B.CLOSED)


async def test_a_breaker_stays_open_over_a_restart(
    open_hub: OpenHub, provider: FakeOpenAI, database: str
) -> None:
    async with open_hub(runners=1) as hub:
        name = await opened(hub, provider)
        waiting = await postponed(hub, await hub.submit("test.asking"))
    async with open_hub(runners=1) as hub:
        assert (await breaker(hub, name)).status is B.OPEN
        await postponed(hub, await hub.submit("test.asking"))
        assert len(provider.requests) == 3
        provider.answer(["fine"])
        await cooled_down(hub, name)
        assert (await hub.ended(waiting.id)).status is E.SUCCEEDED


async def test_in_process_the_same_happens(open_hub: OpenHub, provider: FakeOpenAI) -> None:
    async with open_hub(in_process=True) as hub:
        name = await opened(hub, provider)
        event = await postponed(hub, await hub.submit("test.asking"))
        provider.answer(["fine"])
        await cooled_down(hub, name)
        assert (await hub.ended(event.id)).status is E.SUCCEEDED


async def test_a_call_under_a_closed_breaker_asks_the_hub_nothing(
    open_hub: OpenHub, provider: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All it costs is a share of one small frame a second."""
    from holdfast.hub.office import Office

    told: list[Any] = []
    asked: list[str] = []
    take, ask = Office.on_outcome, Office.ask

    def on_outcome(self: Office, outcome: Any) -> None:
        told.append(outcome)
        take(self, outcome)

    async def noted(self: Office, execution_id: str, port: str, args: Any) -> Any:
        asked.append(port)
        return await ask(self, execution_id, port, args)

    monkeypatch.setattr(Office, "on_outcome", on_outcome)
    monkeypatch.setattr(Office, "ask", noted)
    async with open_hub(runners=1) as hub:
        ids = [await hub.submit("test.asking") for _ in range(50)]
        for event_id in ids:
            assert (await hub.ended(event_id)).status is E.SUCCEEDED

        async def all_told() -> bool:
            return sum(one["ok"] for one in told) == 50

        await until_true(all_told)
        assert asked == []
        assert len(told) <= 15
        assert all(len(orjson.dumps(one)) < 200 for one in told)
        statements = hub.kit.store.statements
        assert statements.get("MoveBreaker", 0) <= 5, "the row is made once"


async def test_two_hubs_share_their_breakers_and_let_one_probe_through(
    open_hub: OpenHub,
    provider: FakeOpenAI,
    hub_environ: dict[str, str],
    postgres: PostgresForTests,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They hear of each other by nothing but the database."""
    from holdfast import settings
    from holdfast.app import run_hub
    from holdfast.hub import breakers

    monkeypatch.setattr(breakers, "SWEEP_S", 0.1)
    hub_environ["HOLDFAST_DATABASE_URL"] = postgres.migrated()
    there = hub_environ | {"HOLDFAST_HOME": str(tmp_path / "other")}
    async with open_hub(runners=1) as one:
        name = await opened(one, provider)
        async with run_hub(settings.load({"runners": 1}, environ=there)) as parts:
            other = HubForTests(parts)
            await parts.hub.ready()
            metrics = [one.kit.metrics, other.kit.metrics]
            assert [one.get("holdfast_breaker_open", breaker=name) for one in metrics] == [1, 1]
            provider.answer([FakeAnswer(text="slow", hold_after=0)])
            both = (one, other)
            ids = [await both[n % 2].submit("test.asking", text=str(n)) for n in range(60)]
            for event_id in ids:
                await postponed(one, event_id)
            ran = [hub.kit.metrics.get("holdfast_claims_total") for hub in both]
            assert all(ran), f"both hubs met it: {ran}"
            await cooled_down(other, name)
            await provider.arrived(4)
            more = [await both[n % 2].submit("test.asking", text=f"more {n}") for n in range(40)]
            for event_id in more:
                await postponed(one, event_id)
            assert len(provider.requests) == 4, "three that opened it, and one probe"
            provider.release()
            provider.answer(["fine"])
            for event_id in (*ids, *more):
                event = await at_rest(one, event_id)
                assert (event.status, event.deliveries) == (E.SUCCEEDED, 1)
            await stands(other, name, B.CLOSED)
            assert len(provider.requests) == 3 + len(ids) + len(more)

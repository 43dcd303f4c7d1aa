"""Temporary errors come again after a pause; what must not begin twice never does."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from holdfast.domain.ids import MICROS
from holdfast.domain.status import EventStatus, ExecutionStatus
from holdfast.hub import dispatch
from holdfast.testing.providers import FakeAnswer, FakeOpenAI

from .conftest import OpenHub, until
from .test_hub_crashes import database, hub_in_process_of_its_own

__all__ = ["database"]

E, X = EventStatus, ExecutionStatus


@pytest.fixture
def hub_environ(hub_environ: dict[str, str]) -> dict[str, str]:
    return hub_environ | {"HOLDFAST_APPS": "redelivery_app"}


@pytest.fixture(autouse=True)
def no_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes again comes because its time is known, not because somebody looks."""
    monkeypatch.setattr(dispatch, "SWEEP_S", 3600.0)


@pytest.mark.parametrize("in_process", [False, True])
@pytest.mark.parametrize("text", ["away", "own"])
async def test_a_temporary_error_is_run_again_until_it_succeeds(
    open_hub: OpenHub, database: str, in_process: bool, text: str
) -> None:
    async with open_hub(runners=1, in_process=in_process) as hub:
        event = await hub.ended(await hub.submit("again.some", text=text, good_at=3))
        assert event.status is E.SUCCEEDED
        assert (event.deliveries, event.errors, event.crashes) == (3, 2, 0)
        runs = await hub.executions(event.id)
        assert [run.status for run in runs] == [X.FAILED, X.FAILED, X.SUCCEEDED]
        assert [run.delivery for run in runs] == [1, 2, 3]
        for run in runs[:2]:
            assert run.error is not None
            assert run.error["error_class"] == "temporary"
        redelivered = hub.kit.metrics.get("holdfast_redeliveries_total", pipeline="again.some")
        assert redelivered == 2


async def test_used_up_retries_make_a_dead_letter_and_wrong_work_fails_at_once(
    open_hub: OpenHub,
) -> None:
    async with open_hub(runners=1) as hub:
        dead = await hub.ended(await hub.submit("again.some", good_at=9))
        assert (dead.status, dead.deliveries, dead.errors) == (E.DEAD, 3, 3)
        assert dead.last_error is not None
        assert dead.last_error["message"] == "the server is away"
        wrong = await hub.ended(await hub.submit("again.some", text="wrong", good_at=9))
        assert (wrong.status, wrong.deliveries, wrong.errors) == (E.FAILED, 1, 0)
        at_once = await hub.ended(await hub.submit("again.none", good_at=9))
        assert (at_once.status, at_once.deliveries) == (E.DEAD, 1)


async def test_a_provider_is_given_the_time_it_asked_for(
    open_hub: OpenHub, hub_environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeOpenAI() as server:
        server.answer([FakeAnswer(status=429, headers={"retry-after": "1"}), "at last"])
        hub_environ["HOLDFAST_MODELS"] = (
            f'{{"fast": {{"model": "openai:gpt-6-luna", "base_url": "{server.url}"}}}}'
        )
        async with open_hub(runners=1) as hub:
            event, whole = await hub.run("again.asks", text="now?")
            assert event.status is E.SUCCEEDED, event.last_error
            assert whole.payload.get(whole.execution.output) == "at last"
            refused, answered = await hub.executions(event.id)
            assert refused.error is not None
            assert refused.error["error_class"] == "rate_limit"
            assert refused.error["retry_after_s"] == 1
            assert refused.finished_at is not None
            assert answered.started_at - refused.finished_at >= MICROS


async def test_a_durable_pipeline_goes_on_from_its_last_step(
    open_hub: OpenHub, database: str, tmp_path: Path
) -> None:
    async with open_hub(runners=1) as hub:
        event, whole = await hub.run("again.lasting", folder=str(tmp_path), good_at=3)
        assert (event.status, event.deliveries) == (E.SUCCEEDED, 3)
        assert (tmp_path / "first").read_text() == "ran\n"
        assert (tmp_path / "tried").read_text() == "1\n2\n3\n"
        assert [step.operation for step in whole.steps] == ["work"]


async def test_what_must_not_begin_twice_fails_with_its_runner(
    open_hub: OpenHub, tmp_path: Path
) -> None:
    async with open_hub(runners=1) as hub:
        event = await hub.ended(await hub.submit("again.once", text="die", folder=str(tmp_path)))
        assert (event.status, event.deliveries) == (E.FAILED, 1)
        assert event.last_error is not None
        assert event.last_error["code"] == "not_redelivered"
        (run,) = await hub.executions(event.id)
        assert run.status is X.CRASHED
        event = await hub.ended(await hub.submit("again.once", text="away", folder=str(tmp_path)))
        assert (event.status, event.deliveries) == (E.FAILED, 1)
        assert (tmp_path / "paid").read_text() == "once\n" * 2


async def test_what_must_not_begin_twice_fails_with_its_hub(
    open_hub: OpenHub, hub_environ: dict[str, str], database: str, tmp_path: Path
) -> None:
    with hub_in_process_of_its_own(
        hub_environ, "in mid-run", type="again.once", folder=str(tmp_path)
    ) as killed:
        await until(tmp_path / "pid-1")
        assert killed.stdout is not None
        event_id = (await asyncio.to_thread(killed.stdout.readline)).strip()
        os.kill(killed.pid, signal.SIGKILL)
    (tmp_path / "open").touch()
    async with open_hub() as hub:
        event = await hub.ended(event_id)
        assert (event.status, event.deliveries, event.crashes) == (E.FAILED, 1, 0)
        assert event.last_error is not None
        assert event.last_error["cause"] == "hub_died"
        assert (await hub.ended(await hub.submit("again.some"))).status is E.SUCCEEDED
        assert (tmp_path / "paid").read_text() == "once\n", "nobody ran it again"

"""LangGraph's own suite for checkpoint savers, through a real runner's socket to the real store."""

from __future__ import annotations

import os

import pytest

from holdfast.domain.status import EventStatus
from holdfast.store.commands import SaveCheckpoints
from holdfast.testing.postgres import PostgresForTests

from .conftest import OpenHub


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_the_suite_passes_where_the_saver_lives(
    open_hub: OpenHub, database: str, hub_environ: dict[str, str], postgres: PostgresForTests
) -> None:
    if database == "postgresql":
        hub_environ["HOLDFAST_DATABASE_URL"] = postgres.migrated()
    async with open_hub(runners=1, apps="conformance_app") as hub:
        event_id = await hub.submit("conformance")
        event = await hub.ended(event_id, within_s=120)
        assert event.status is EventStatus.SUCCEEDED, event.last_error
        whole = await hub.whole(event.execution_id or "")
        report = whole.payload.get(whole.execution.output)
        assert report["saver"] == "PortSaver"
        assert report["pid"] not in (None, os.getpid())
        results = report["results"]
        assert {name: one["failures"] for name, one in results.items() if one["failures"]} == {}
        assert {name for name, one in results.items() if not one["passed"]} == set()
        assert sum(one["tests"] for one in results.values()) >= 60
        assert hub.kit.store.statements.get(SaveCheckpoints.__name__, 0) > 60

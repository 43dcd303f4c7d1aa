"""LangGraph's own suite for checkpoint savers, and what it does not ask."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.conformance import checkpointer_test, validate

from holdfast.engine.saver import PortSaver
from holdfast.engine.serializer import StrictSerializer
from holdfast.errors import LeaseLost
from holdfast.store import Store
from holdfast.store.commands import Fence
from holdfast.testing.checkpoints import StoredCheckpoints


async def saver_over(store: Store, make: Any, **fence: Any) -> PortSaver:
    claimed = await make.running()
    values: dict[str, Any] = {
        "event_id": claimed.event_id,
        "owner_id": "local",
        "lease_owner": "boot-1",
        "number": claimed.fence,
        "version": "g1",
    }
    port = StoredCheckpoints(store, Fence(**(values | fence)))
    return PortSaver(port, claimed.execution_id, StrictSerializer((), "tests"))


async def test_langgraphs_conformance_suite(store: Store, make: Any) -> None:
    @checkpointer_test(name="PortSaver")
    async def ours() -> AsyncGenerator[BaseCheckpointSaver[Any]]:
        yield await saver_over(store, make)

    report = await validate(ours)  # type: ignore[arg-type]
    failures = {name: one.failures for name, one in report.results.items() if one.failures}
    assert failures == {}
    assert {name for name, one in report.results.items() if not one.passed} == set()
    assert sum(one.tests_passed for one in report.results.values()) >= 60


@pytest.mark.parametrize("lost", [{"number": 99}, {"lease_owner": "another"}, {"owner_id": "eve"}])
async def test_without_the_lease_nothing_is_written(
    store: Store, make: Any, lost: dict[str, Any]
) -> None:
    saver = await saver_over(store, make, **lost)
    config: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
    with pytest.raises(LeaseLost, match="not leased"):
        await saver.aput(
            config,
            {  # type: ignore[typeddict-item]
                "v": 1,
                "id": "1",
                "ts": "",
                "channel_values": {},
                "channel_versions": {},
                "versions_seen": {},
            },
            {"source": "input", "step": -1},
            {},
        )
    assert await saver.aget_tuple(config) is None


async def test_langgraph_has_nothing_to_warn_of(
    store: Store, make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It offers its own list of types at each compile; the pipeline's is the one that counts."""
    saver = await saver_over(store, make)
    assert saver.with_allowlist([("json", "JSONEncoder")]) is saver
    assert caplog.records == []


async def test_a_checkpoint_stored_again_takes_the_place_of_the_first(
    store: Store, make: Any
) -> None:
    saver = await saver_over(store, make)
    at: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
    for step, writes in ((1, "a"), (2, "b")):
        checkpoint: Any = {
            "v": 1,
            "id": "1",
            "ts": str(step),
            "channel_values": {},
            "channel_versions": {},
            "versions_seen": {},
        }
        kept = await saver.aput(at, checkpoint, {"source": "loop", "step": step}, {})
        await saver.aput_writes(kept, [("channel", writes)], f"task {writes}")
    (found,) = [one async for one in saver.alist(at)]
    assert (found.checkpoint["ts"], found.metadata["step"]) == ("2", 2)
    assert found.pending_writes == [("task a", "channel", "a"), ("task b", "channel", "b")]

"""The end of a turn rings for the next one, however late its record is stored."""

from __future__ import annotations

import pytest

from holdfast.domain.events import LOCAL_OWNER
from holdfast.domain.status import EventStatus
from holdfast.hub import dispatch
from holdfast.operations.submit import submit

from .conftest import OpenHub


async def test_the_next_turn_runs_when_the_record_of_the_one_before_is_stored(
    open_hub: OpenHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "SWEEP_S", 3600.0)
    hub = await open_hub()
    first, second = [
        (await submit(hub.kit, owner_id=LOCAL_OWNER, type="p", data={"text": t}, session_id="s")).id
        for t in "ab"
    ]
    worker, execution_id = await hub.running(first)
    hub.store.fail("Finish", 20)
    worker.end(execution_id)  # a slot is free, and nothing may run in it yet
    worker, execution_id = await hub.running(second)
    worker.end(execution_id)
    assert (await hub.ended(second)).status is EventStatus.SUCCEEDED

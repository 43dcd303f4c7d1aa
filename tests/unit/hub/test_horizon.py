"""A hub whose claims are slow: what it does not look at for a while is not forgotten."""

from __future__ import annotations

import pytest

from holdfast.domain.events import LOCAL_OWNER
from holdfast.domain.status import EventStatus
from holdfast.hub import dispatch
from holdfast.operations.pause import pause_pipeline, resume_pipeline
from holdfast.store.commands import horizon

from .conftest import Clock, HubForTests, OpenHub

HOUR = 3600 * 1_000_000


def claims(hub: HubForTests) -> int:
    return hub.store.statements["Claim"]


async def test_what_gets_its_turn_in_an_old_place_is_found_by_the_next_look_over_the_whole(
    open_hub: OpenHub, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "SWEEP_S", 3600.0)
    monkeypatch.setattr(horizon, "SLOW_US", -1)
    monkeypatch.setattr(horizon, "LATE_US", 0)  # whatever is older counts as an old place
    monkeypatch.setattr(horizon, "SELDOM", 500)
    hub = await open_hub()
    hub.store.lanes_apart = True
    await hub.until(lambda: hub.hub._dispatcher._horizon.whole_in_us)
    await pause_pipeline(hub.kit, "p", LOCAL_OWNER)
    looks = claims(hub)
    clock.us += HOUR  # the claim that the event rings for looks at everything, and passes it over
    event_id = await hub.submit()
    await hub.until(lambda: claims(hub) > looks)
    looks = claims(hub)
    await resume_pipeline(hub.kit, "p")
    await hub.until(lambda: claims(hub) > looks)
    clock.us += HOUR
    worker, execution_id = await hub.running(event_id)
    worker.end(execution_id)
    assert (await hub.ended(event_id)).status is EventStatus.SUCCEEDED

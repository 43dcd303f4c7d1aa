"""A rate with a real hub: events wait, and run when they may without anybody looking."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from holdfast.domain.ids import MICROS
from holdfast.domain.status import EventStatus
from holdfast.errors import DeclarationError
from holdfast.hub import dispatch, timers
from holdfast.pipelines.pipeline import Pipeline

from .conftest import OpenHub
from .test_hub_crashes import database

__all__ = ["database"]


async def test_no_more_begin_in_a_second_than_the_pipeline_says(
    open_hub: OpenHub, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "SWEEP_S", 3600.0)
    monkeypatch.setattr(timers, "SWEEP_S", 3600.0)
    async with open_hub(runners=1, apps=["redelivery_app"]) as hub:
        ids = [await hub.submit("again.slow", text=str(n)) for n in range(5)]
        other = await hub.ended(await hub.submit("again.none"))
        assert other.status is EventStatus.SUCCEEDED
        began: list[int] = []
        for event_id in ids:
            event = await hub.ended(event_id)
            assert (event.status, event.deliveries) == (EventStatus.SUCCEEDED, 1)
            (run,) = await hub.executions(event_id)
            began.append(run.started_at)
        assert began == sorted(began)
        for first, third in zip(began, began[2:], strict=False):
            assert third - first >= MICROS


class Job(BaseModel):
    n: int = 0


@pytest.mark.parametrize("rate", ["often", "0/m", 10])
def test_what_is_no_rate_is_refused(rate: object) -> None:
    with pytest.raises(DeclarationError, match="pipeline p"):
        Pipeline("p", version="1", event=Job, rate=rate)  # type: ignore[typeddict-item]

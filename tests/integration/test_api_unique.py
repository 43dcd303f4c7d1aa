"""Duplicates and singletons over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import BaseModel

from holdfast.api import schemas
from holdfast.api.in_process import InProcessTransport
from holdfast.app import make_api
from holdfast.client import Client
from holdfast.errors import DeclarationError, InvalidInput, SingletonBusy
from holdfast.pipelines.pipeline import Pipeline

from .conftest import OpenHub


@pytest.fixture
def hub_environ(hub_environ: dict[str, str]) -> dict[str, str]:
    return hub_environ | {"HOLDFAST_APPS": "redelivery_app"}


@pytest.fixture
async def client(open_hub: OpenHub) -> AsyncIterator[Client]:
    async with open_hub(in_process=True) as hub:
        transport = InProcessTransport(make_api(hub.parts))
        async with Client("http://127.0.0.1:8400", transport=transport) as made:
            yield made


async def test_the_same_event_again_is_the_first_one(client: Client) -> None:
    first = await client.submit("again.deduped", {"text": "a"}, wait=20)
    schemas.SubmittedEvent.model_validate(first)
    assert (first["created"], first["duplicate"]) == (True, False)
    again = await client.submit("again.deduped", {"text": "a"})
    assert (again["id"], again["created"], again["duplicate"]) == (first["id"], False, True)
    assert again["result"]["output"] == "done at 1"
    others = [
        await client.submit("again.deduped", {"text": "b"}),
        await client.submit("again.deduped", {"text": "a"}, subject="another"),
        await client.submit("again.deduped", {"text": "a"}, session_id="another"),
    ]
    assert len({one["id"] for one in (first, *others)}) == 4
    schemas.Accepted.model_validate(others[0])


async def test_one_at_a_time_by_what_the_author_says(client: Client, tmp_path: Path) -> None:
    (tmp_path / "hold-a").touch()
    work = {"text": "a", "folder": str(tmp_path)}
    first = await client.submit("again.single", work)
    with pytest.raises(SingletonBusy, match=first["id"]) as refused:
        await client.submit("again.single", work)
    assert "when that one has ended" in refused.value.hint
    other = await client.submit("again.single", work | {"text": "b"}, wait=20)
    assert other["status"] == "succeeded"
    (tmp_path / "hold-a").unlink()
    assert (await client.wait(first["id"], 20))["status"] == "succeeded"
    assert (await client.submit("again.single", work, wait=20))["status"] == "succeeded"


class Job(BaseModel):
    n: int = 0


def test_options_that_cannot_be_meant_are_refused() -> None:
    for options in ({"dedup": timedelta(0)}, {"singleton": "customer"}):
        with pytest.raises(DeclarationError):
            Pipeline("p", version="1", event=Job, **options)  # type: ignore[arg-type]
    numbers = Pipeline("p", version="1", event=Job, singleton=lambda event: event.n)
    with pytest.raises(InvalidInput, match="no text"):
        numbers.singleton_key(Job())
    assert Pipeline("p", version="1", event=Job, singleton=True).singleton_key(Job()) == ""
    assert Pipeline("p", version="1", event=Job).singleton_key(Job()) is None

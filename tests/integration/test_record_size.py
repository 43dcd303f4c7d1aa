"""What a record takes in the database: text is stored once, however often it was handled."""

from __future__ import annotations

import sqlite3

import psycopg
import pytest
import turns_app

from holdfast.domain.status import EventStatus
from holdfast.testing.postgres import PostgresForTests

from .conftest import OpenHub

STORED = """
SELECT (SELECT sum(length(frame)) FROM payloads)
           + (SELECT coalesce(sum(length(text)), 0) FROM blobs),
       (SELECT sum(raw_size) FROM payloads)
"""


def stored_bytes(url: str) -> tuple[int, int]:
    """Bytes of all texts of all records, and what they were before they were compressed."""
    if url.startswith("sqlite"):
        with sqlite3.connect(url.removeprefix("sqlite:///")) as db:
            stored, raw = db.execute(STORED).fetchone()
            return stored, raw
    with psycopg.connect(url.replace("postgresql+psycopg:", "postgresql:")) as db:
        stored, raw = db.execute(STORED).fetchone() or (0, 0)
        return int(stored), int(raw)


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_fifty_turns_take_what_was_said_and_not_its_square(
    open_hub: OpenHub, database: str, hub_environ: dict[str, str], postgres: PostgresForTests
) -> None:
    if database == "postgresql":
        hub_environ["HOLDFAST_DATABASE_URL"] = postgres.migrated()
    async with open_hub(runners=1, apps="turns_app") as hub:
        event, whole = await hub.run("turns", messages=[], turns=0)
        assert event.status is EventStatus.SUCCEEDED, event.last_error
        said = 2 * turns_app.TURNS * turns_app.CHARS
        assert said == 82_000
        stored, raw = stored_bytes(hub.parts.settings.store_url)
        assert stored < 1.5 * said
        assert raw < 4 * said, "and it is not compression that makes it so"
        # and yet each step has its whole state, and each call its whole conversation
        steps = [one for one in whole.steps if one.operation == "turn"]
        assert len(steps) == len(whole.attempts) == turns_app.TURNS
        for n, step in enumerate(steps):
            assert len(whole.payload.get(step.input)["messages"]) == 2 * n
        (first, *_, last) = (whole.payload.get(one.messages) for one in whole.attempts)
        assert (len(first), len(last)) == (1, 2 * turns_app.TURNS - 1)
        assert last[-1]["content"] == turns_app.QUESTIONS[-1]

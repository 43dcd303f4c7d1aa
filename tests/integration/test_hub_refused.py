"""A record the database will never take is kept as a file, and its event ends visibly."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from holdfast.domain.status import EventStatus
from holdfast.errors import StoreRefused
from holdfast.store.commands import Finish

from .conftest import OpenHub


async def test_a_refused_record_is_set_aside_and_its_event_fails(
    open_hub: OpenHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_many = Finish.write_many.__func__  # type: ignore[attr-defined]

    def refuse_steps(cls: type[Finish], tx: object, commands: list[Finish]) -> object:
        if any(command.record.steps for command in commands):
            raise StoreRefused("this record cannot be stored")
        return write_many(cls, tx, commands)

    monkeypatch.setattr(Finish, "write_many", classmethod(refuse_steps))
    async with open_hub(in_process=True) as hub:
        event = await hub.ended(await hub.submit("test.talking", text="Ada"))
        assert event.status is EventStatus.FAILED
        assert event.last_error is not None
        assert event.last_error["code"] == "record_refused"
        kept = orjson.loads(Path(event.last_error["kept"]).read_bytes())
        assert [step["operation"] for step in kept["steps"]] == ["say", "judge"]
        assert hub.kit.metrics.get("holdfast_records_refused_total") == 1
        assert not hub.kit.journal.all()

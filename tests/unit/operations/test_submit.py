"""Taking events in: once per key, checked at the door."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from holdfast.bus import Notice
from holdfast.bus.base import QUEUED
from holdfast.domain.events import LOCAL_OWNER, MAX_DEPTH
from holdfast.errors import IdempotencyConflict, InvalidInput, UnknownPipeline
from holdfast.operations.submit import check_depth, submit

from .conftest import Desk

FIRST: dict[str, Any] = {
    "type": "p",
    "data": {"text": "x", "number": 1},
    "source": "/here",
    "subject": "s",
    "time": datetime(2026, 1, 1, tzinfo=UTC),
    "priority": 1,
    "idempotency_key": "k",
}


async def test_the_same_key_and_body_is_the_same_event_whatever_the_order_of_keys(
    desk: Desk,
) -> None:
    first = await submit(desk.kit, owner_id=LOCAL_OWNER, **FIRST)
    turned = {**FIRST, "data": {"number": 1, "text": "x"}}
    again = await submit(desk.kit, owner_id=LOCAL_OWNER, **turned)
    assert (first.created, again.created) == (True, False)
    assert again.id == first.id


@pytest.mark.parametrize(
    "other",
    [
        {"data": {"text": "y", "number": 1}},
        {"data": {"text": "x", "number": 2}},
        {"data": {"text": "x"}},
        {"source": "/there"},
        {"subject": None},
        {"time": None},
        {"time": datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC)},
        {"priority": 2},
        {"type": "q"},
        {"type": "else", "target": "p"},
    ],
    ids=str,
)
async def test_the_same_key_with_another_body_is_a_conflict(
    desk: Desk, other: dict[str, Any]
) -> None:
    await submit(desk.kit, owner_id=LOCAL_OWNER, **FIRST)
    with pytest.raises(IdempotencyConflict):
        await submit(desk.kit, owner_id=LOCAL_OWNER, **{**FIRST, **other})


async def test_keys_of_two_owners_have_nothing_to_do_with_each_other(desk: Desk) -> None:
    mine = await submit(desk.kit, owner_id=LOCAL_OWNER, **FIRST)
    other = {**FIRST, "data": {"text": "something else"}}
    theirs = await submit(desk.kit, owner_id="somebody else", **other)
    assert theirs.created
    assert theirs.id != mine.id


async def test_without_a_key_every_event_is_a_new_one(desk: Desk) -> None:
    bare = {**FIRST, "idempotency_key": None}
    first = await submit(desk.kit, owner_id=LOCAL_OWNER, **bare)
    second = await submit(desk.kit, owner_id=LOCAL_OWNER, **bare)
    assert first.id != second.id


async def test_the_bell_rings_after_the_commit_and_only_for_new_ones(desk: Desk) -> None:
    rung: list[Notice] = []
    desk.kit.bus.listen(QUEUED, rung.append)
    first = await submit(desk.kit, owner_id=LOCAL_OWNER, **FIRST)
    await submit(desk.kit, owner_id=LOCAL_OWNER, **FIRST)
    assert rung == [Notice(QUEUED, event_id=first.id, target=FIRST["type"])]


@pytest.mark.parametrize("kind", ["list", "object"])
async def test_data_may_be_nested_so_deep_and_no_deeper(desk: Desk, kind: str) -> None:
    def nested(levels: int) -> Any:
        value: Any = 1
        for _ in range(levels):
            value = [value] if kind == "list" else {"a": value}
        return value

    check_depth(nested(MAX_DEPTH))
    with pytest.raises(InvalidInput, match="nested more than 100 levels"):
        check_depth(nested(MAX_DEPTH + 1))
    # The data itself is one level, and all that the hub makes of it can be shown again.
    await desk.submit(data={"more": nested(MAX_DEPTH - 1)})
    with pytest.raises(InvalidInput):
        await desk.submit(data={"more": nested(MAX_DEPTH)})


async def test_the_widest_branch_does_not_hide_the_deepest(desk: Desk) -> None:
    deep: Any = 1
    for _ in range(MAX_DEPTH):
        deep = [deep]
    with pytest.raises(InvalidInput):
        check_depth({"wide": list(range(10_000)), "deep": [0, deep]})


@pytest.mark.parametrize("data", [{"text": "a\udc80"}, {"more": 10**30}])
async def test_data_that_cannot_be_kept_is_refused(desk: Desk, data: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        await desk.submit(data=data)


async def test_who_named_a_wrong_target_is_told_which_field(desk: Desk) -> None:
    with pytest.raises(UnknownPipeline) as refused:
        await desk.submit("p", target="pp")
    assert refused.value.fields[0]["field"] == "target"
    with pytest.raises(UnknownPipeline) as refused:
        await desk.submit("pp")
    assert refused.value.fields[0]["field"] == "type"

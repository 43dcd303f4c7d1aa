"""Questions and answers of the checkpoints port, there and back through JSON."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from holdfast.domain.checkpoints import (
    Checkpoint,
    CheckpointsWanted,
    CheckpointWrites,
    PendingWrite,
    Value,
)
from holdfast.runner import crossing

WRITE = PendingWrite(task_id="t", path="p", index=-1, channel="c", value=Value("msgpack", b"\0\1"))
WRITES = CheckpointWrites(thread_id="t", ns="n", checkpoint_id="1", writes=(WRITE,))
CHECKPOINT = Checkpoint(
    thread_id="t",
    ns="n",
    id="2",
    parent_id="1",
    value=Value("msgpack", b"\xff"),
    metadata={"step": 1},
    versions={"c": "1"},
    values={"c": Value("null", b"")},
    writes=(WRITE,),
)


def crossed(written: Any) -> Any:
    return orjson.loads(orjson.dumps(written))


@pytest.mark.parametrize(
    ("port", "args"),
    [
        ("checkpoints.save", {"saved": [WRITES, CHECKPOINT]}),
        ("checkpoints.list", {"wanted": CheckpointsWanted(thread_id="t", metadata={"a": 1})}),
        ("checkpoints.prune", {"thread_ids": ["t"], "keep": "latest"}),
        ("events.submit", {"type": "t", "data": {"saved": [], "wanted": {}}}),
        ("cache.put", {"saved": ["not ours"]}),
    ],
)
def test_questions(port: str, args: dict[str, Any]) -> None:
    written = crossing.question_to_json(args) if port.startswith(crossing.PORT) else args
    assert crossing.question_from_json(port, crossed(written)) == args


@pytest.mark.parametrize("answer", [None, [], [CHECKPOINT]])
def test_answers(answer: Any) -> None:
    written = crossed(crossing.answer_to_json("checkpoints.list", answer))
    assert crossing.answer_from_json(written) == answer


def test_answers_of_other_ports_are_left_alone() -> None:
    assert crossing.answer_to_json("cache.get", ["x", "1"]) == ["x", "1"]

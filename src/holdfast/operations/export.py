"""Hand out an execution whole, as one self-contained JSON document."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from holdfast.domain.recordings import RECORDED
from holdfast.domain.replays import Recorded, RecordedAttempt
from holdfast.domain.status import EXECUTION_ENDS, ExecutionStatus
from holdfast.errors import IllegalMove, NotReplayable

from . import read
from .kit import Kit
from .replay import recorded
from .views import agent_name, event_view, record_view

EXPORT_FORMAT = "holdfast.execution/1"

FIXTURE_FORMAT = "holdfast.fixture/1"

_ANSWER_FIELDS = ("role", "content", "tool_calls", "invalid_tool_calls", "additional_kwargs")


async def export_execution(kit: Kit, execution_id: str, owner_id: str) -> dict[str, Any]:
    """The execution and its event, nothing left out.

    Raises:
        NotFound: no such execution of that owner.
    """
    whole = await read.execution(kit, execution_id, owner_id)
    event = await read.event(kit, whole.execution.event_id, owner_id)
    family = await read.family(kit, execution_id, owner_id)
    return {
        "format": EXPORT_FORMAT,
        "event": {
            **event_view(event),
            "agent": agent_name(kit.registry, event.target_kind, event.target),
        },
        "execution": {
            **record_view(whole.execution, whole.steps, whole.attempts, whole.payload, family),
            "agent": agent_name(kit.registry, whole.execution.kind, whole.execution.name),
        },
    }


async def export_fixture(kit: Kit, execution_id: str, owner_id: str) -> dict[str, Any]:
    """What a test needs to run the execution again, offline: its data, answers and outcome.

    Raises:
        NotFound: no such execution of that owner.
        IllegalMove: it has not ended.
        NotReplayable: it ran elsewhere and was only recorded.
        UnknownPipeline: its pipeline is not loaded.
    """
    execution = await read.summary(kit, execution_id, owner_id)
    if execution.kind == RECORDED:
        raise NotReplayable(
            f"execution {execution_id} was recorded where it ran; nothing can test it"
        )
    if execution.status not in EXECUTION_ENDS - {ExecutionStatus.CRASHED}:
        raise IllegalMove(f"execution {execution_id} is {execution.status}; it has no outcome")
    kit.registry.get(execution.name)
    return {
        "format": FIXTURE_FORMAT,
        "app": kit.registry.places.get(execution.name),
        "recorded": _lean(await recorded(kit, execution_id, owner_id)).to_json(),
    }


def _lean(whole: Recorded) -> Recorded:
    """Without figures that no test compares, and what providers send along with an answer."""
    return replace(
        whole,
        steps=tuple(
            replace(
                step,
                duration_ms=None,
                error=_told(step.error),
                attempts=tuple(map(_lean_attempt, step.attempts)),
            )
            for step in whole.steps
        ),
        error=_told(whole.error),
    )


def _lean_attempt(attempt: RecordedAttempt) -> RecordedAttempt:
    answer: Any = attempt.answer
    if isinstance(answer, dict):
        given = cast("dict[str, Any]", answer)
        answer = {name: given[name] for name in _ANSWER_FIELDS if given.get(name)}
    return replace(attempt, answer=answer, tokens={}, cost_usd=None)


def _told(error: dict[str, Any] | None) -> dict[str, Any] | None:
    """An error without its traceback, which names files of the machine it ran on."""
    return None if error is None else {k: v for k, v in error.items() if k != "traceback"}

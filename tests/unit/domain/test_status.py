"""The tables of legal moves are whole, and every outcome says what becomes of its event."""

from __future__ import annotations

import itertools

import pytest

from holdfast.domain.status import (
    EVENT_ENDS,
    EVENT_MOVES,
    EXECUTION_ENDS,
    EXECUTION_MOVES,
    HALTED,
    MAX_CRASHES,
    EventStatus,
    ExecutionStatus,
    event_after,
    move_event,
)
from holdfast.errors import IllegalMove


def test_every_status_has_its_moves() -> None:
    assert set(EVENT_MOVES) == set(EventStatus)
    assert set(EXECUTION_MOVES) == set(ExecutionStatus)


def test_ends_have_no_moves_and_a_dead_letter_only_its_replay_or_discard() -> None:
    for status in EVENT_ENDS - {EventStatus.DEAD}:
        assert EVENT_MOVES[status] == frozenset()
    assert EVENT_MOVES[EventStatus.DEAD] == {EventStatus.QUEUED, EventStatus.CANCELLED}
    assert {s for s, moves in EVENT_MOVES.items() if not moves} <= EVENT_ENDS
    assert {
        ExecutionStatus.RUNNING,
        ExecutionStatus.WAITING,
        ExecutionStatus.PAUSED,
    } == set(ExecutionStatus) - EXECUTION_ENDS


def test_every_unfinished_event_can_be_cancelled_and_reaches_an_end() -> None:
    for status in set(EventStatus) - EVENT_ENDS:
        assert EventStatus.CANCELLED in EVENT_MOVES[status]
        seen, ahead = {status}, {status}
        while ahead := {new for old in ahead for new in EVENT_MOVES[old]} - seen:
            seen |= ahead
        assert seen >= EVENT_ENDS


@pytest.mark.parametrize(("old", "new"), list(itertools.product(EventStatus, EventStatus)))
def test_a_move_is_made_exactly_when_the_table_has_it(old: EventStatus, new: EventStatus) -> None:
    if new in EVENT_MOVES[old]:
        assert move_event("e-1", old, new) is new
    else:
        with pytest.raises(IllegalMove, match=f"event e-1 is {old} and cannot become {new}"):
            move_event("e-1", old, new)


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize(
    ("outcome", "becomes"),
    [
        (ExecutionStatus.SUCCEEDED, EventStatus.SUCCEEDED),
        (ExecutionStatus.PARTIAL, EventStatus.SUCCEEDED),
        (ExecutionStatus.FAILED, EventStatus.FAILED),
        (ExecutionStatus.TIMED_OUT, EventStatus.FAILED),
        (ExecutionStatus.CANCELLED, EventStatus.CANCELLED),
    ],
)
def test_an_outcome_of_its_own_ends_the_event(
    outcome: ExecutionStatus, becomes: EventStatus, asked: bool
) -> None:
    for crashes in range(MAX_CRASHES):
        assert event_after(outcome, crashes=crashes, cancel_requested=asked) is becomes


def test_a_crash_runs_again_until_the_last_chance() -> None:
    def after(crashes: int, *, asked: bool = False) -> EventStatus:
        return event_after(ExecutionStatus.CRASHED, crashes=crashes, cancel_requested=asked)

    assert [after(n) for n in range(5)] == [
        EventStatus.QUEUED,
        EventStatus.QUEUED,
        EventStatus.QUEUED,
        EventStatus.DEAD,
        EventStatus.DEAD,
    ]
    assert after(1, asked=True) is EventStatus.CANCELLED
    assert after(3, asked=True) is EventStatus.CANCELLED


def test_every_end_is_decided_and_nothing_else() -> None:
    decided = EXECUTION_ENDS - {ExecutionStatus.SUPERSEDED}
    for outcome in decided:
        after = event_after(outcome, crashes=1, cancel_requested=False)
        assert after in EVENT_MOVES[EventStatus.RUNNING]
    for outcome in HALTED:
        assert event_after(outcome, crashes=0, cancel_requested=False) == outcome.value
        assert event_after(outcome, crashes=0, cancel_requested=True) is EventStatus.CANCELLED
    for outcome in set(ExecutionStatus) - decided - HALTED:
        with pytest.raises(IllegalMove, match="does not end its event"):
            event_after(outcome, crashes=0, cancel_requested=False)

"""The breaker's state machine: what may follow what, and never two probes at once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from holdfast.domain.breakers import (
    NAME,
    PROBE_US,
    Breaker,
    BreakerRules,
    BreakerStatus,
    CloseByHand,
    EndProbe,
    OpenByHand,
    Outcome,
    Seen,
    TakeProbe,
    Tally,
    TooManyFailures,
)
from holdfast.domain.ids import MICROS

B = BreakerStatus
RULES = BreakerRules(failures=3, share=0.5, window_s=60, cooldown_s=10, cooldown_most_s=35)


def opened(now: int = 0, rules: BreakerRules = RULES) -> Breaker:
    after = TooManyFailures(version=0, rules=rules, reason="500").apply(Breaker(name="x"), now)
    assert after is not None
    return after


def probing(breaker: Breaker, probe: str = "p") -> Breaker:
    assert breaker.until is not None
    after = TakeProbe(probe=probe).apply(breaker, breaker.until)
    assert after is not None
    return after


def ended(
    breaker: Breaker, outcome: Outcome, *, probe: str = "p", at: int | None = None
) -> Breaker:
    now = breaker.changed_at if at is None else at
    after = EndProbe(probe=probe, outcome=outcome, rules=RULES, reason="still").apply(breaker, now)
    assert after is not None
    return after


# -- when it opens ---------------------------------------------------------------------------------


def calls(*groups: tuple[int, int, int], rules: BreakerRules = RULES) -> list[bool]:
    """Groups of (second, ok, failed): whether each opens."""
    tally = Tally()
    return [tally.add(at * MICROS, ok, failed, rules) for at, ok, failed in groups]


def test_it_opens_with_the_last_failure_that_is_needed() -> None:
    assert calls((0, 0, 1), (1, 0, 1), (2, 0, 1)) == [False, False, True]


def test_few_failures_among_many_calls_do_not_open_it() -> None:
    assert calls((0, 100, 0), (1, 0, 50)) == [False, False]
    assert calls((0, 100, 0), (1, 0, 99), (1, 0, 1)) == [False, False, True]


def test_a_success_never_opens_it() -> None:
    rules = BreakerRules(failures=3, share=0.0)
    assert calls((0, 0, 2), (1, 1, 0), rules=rules) == [False, False]


def test_calls_before_the_window_do_not_count() -> None:
    assert calls((0, 0, 2), (61, 0, 1), (62, 0, 1), (63, 0, 1)) == [False, False, False, True]
    assert calls((0, 0, 2), (59, 0, 1)) == [False, True]


def test_no_failures_wanted_means_never() -> None:
    assert calls((0, 0, 1000), rules=BreakerRules(failures=0)) == [False]


@given(
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 5), st.integers(0, 5)), max_size=60),
    st.integers(1, 8),
    st.floats(0, 1),
)
def test_the_tally_is_what_counting_anew_gives(
    groups: list[tuple[int, int, int]], failures: int, share: float
) -> None:
    rules = BreakerRules(failures=failures, share=share, window_s=30)
    tally, seen = Tally(), []
    for at, ok, failed in sorted(groups):
        seen.append((at, ok, failed))
        said = tally.add(at * MICROS, ok, failed, rules)
        inside = [one for one in seen if one[0] + 1 > at - 30]
        good, bad = sum(one[1] for one in inside), sum(one[2] for one in inside)
        assert (tally.ok, tally.failed) == (good, bad)
        assert said == bool(failed and bad >= failures and bad >= share * (good + bad))


@pytest.mark.parametrize(
    ("outcome", "limits", "counts"),
    [
        (Outcome.OK, True, False),
        (Outcome.NONE, True, False),
        (Outcome.TEMPORARY, False, True),
        (Outcome.RATE_LIMIT, False, False),
        (Outcome.RATE_LIMIT, True, True),
    ],
)
def test_what_counts(outcome: Outcome, limits: bool, counts: bool) -> None:
    assert BreakerRules(rate_limits=limits).counts(outcome) is counts


# -- its moves -------------------------------------------------------------------------------------


def test_failures_counted_under_an_older_state_do_not_open_it() -> None:
    closed = ended(probing(opened()), Outcome.OK)
    assert closed.status is B.CLOSED
    assert TooManyFailures(version=0, rules=RULES, reason="x").apply(closed, 0) is None
    assert TooManyFailures(version=closed.version, rules=RULES, reason="x").apply(closed, 0)


def test_nobody_probes_before_the_cool_down_is_over() -> None:
    breaker = opened(now=5)
    assert breaker.until == 5 + 10 * MICROS
    assert TakeProbe(probe="p").apply(breaker, breaker.until - 1) is None
    assert probing(breaker).status is B.HALF_OPEN


def test_exactly_one_probes() -> None:
    breaker = probing(opened())
    for at in (breaker.changed_at, breaker.changed_at + PROBE_US - 1):
        assert TakeProbe(probe="q").apply(breaker, at) is None
    lapsed = TakeProbe(probe="q").apply(breaker, breaker.changed_at + PROBE_US)
    assert lapsed is not None
    assert lapsed.probe == "q"
    late = EndProbe(probe="p", outcome=Outcome.OK, rules=RULES).apply(lapsed, lapsed.changed_at)
    assert late is None, "the lost probe has no say any more"


def test_each_failed_probe_doubles_the_cool_down_up_to_the_most() -> None:
    breaker, waits = opened(), []
    for _ in range(4):
        assert breaker.until is not None
        waits.append((breaker.until - breaker.changed_at) // MICROS)
        breaker = ended(probing(breaker), Outcome.TEMPORARY)
        assert (breaker.status, breaker.reason) == (B.OPEN, "still")
    assert waits == [10, 20, 35, 35]
    closed = ended(probing(breaker), Outcome.OK)
    again = TooManyFailures(version=closed.version, rules=RULES, reason="x").apply(closed, 0)
    assert again is not None
    assert again.until == 10 * MICROS, "a success is forgiveness"


def test_a_probe_without_a_verdict_leaves_the_turn_to_the_next() -> None:
    breaker = ended(probing(opened()), Outcome.NONE, at=12 * MICROS)
    assert (breaker.status, breaker.openings, breaker.reason) == (B.OPEN, 1, "500")
    assert breaker.may_probe(12 * MICROS)


def test_opened_by_hand_without_an_end_it_is_never_probed() -> None:
    breaker = OpenByHand(reason="maintenance").apply(Breaker(name="x"), 7)
    assert breaker is not None
    assert (breaker.by_hand, breaker.reason, breaker.until) == (True, "maintenance", None)
    assert not breaker.may_probe(10**18)
    closed = CloseByHand().apply(breaker, 8)
    assert closed is not None
    assert (closed.status, closed.by_hand, closed.reason) == (B.CLOSED, False, None)
    assert CloseByHand().apply(closed, 9) is None


def test_opened_by_hand_for_a_while_it_is_probed_then() -> None:
    breaker = OpenByHand(for_us=5).apply(opened(), 7)
    assert breaker is not None
    assert breaker.until == 12
    assert breaker.may_probe(12)


def test_to_be_seen_moves_nothing() -> None:
    assert Seen().apply(Breaker(name="x"), 0) is None


def test_a_move_that_the_table_has_not_is_refused() -> None:
    with pytest.raises(ValueError, match="closed and cannot become half_open"):
        Breaker(name="x").moved(B.HALF_OPEN, 0)


@pytest.mark.parametrize("name", ["crm", "openai@api.openai.com/gpt-4.1", "a:b@c:1/d/e+f"])
def test_names(name: str) -> None:
    assert NAME.fullmatch(name)


@pytest.mark.parametrize("name", ["", " crm", "c r m", "/crm", "c\nm", "ü", "x" * 201])
def test_no_names(name: str) -> None:
    assert not NAME.fullmatch(name)


# -- any order of things ---------------------------------------------------------------------------


class AnyOrder(RuleBasedStateMachine):
    """Calls begin and end, people meddle, hubs die, time passes; the promises hold throughout."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.row = Breaker(name="x")
        self.tally = Tally()
        self.probes: dict[str, int] = {}  # under way, with the time at which they began
        self.numbers = 0
        self.cooldowns: list[int] = []

    def move(self, move: Any) -> bool:
        before = self.row
        after = move.apply(before, self.now)
        if after is None:
            return False
        assert after.version == before.version + 1
        if after.status is not before.status:
            self.tally = Tally()
        self.row = after
        return True

    @rule(us=st.sampled_from([1, MICROS, 11 * MICROS, 40 * MICROS, PROBE_US]))
    def time_passes(self, us: int) -> None:
        self.now += us

    @rule(ok=st.integers(0, 2), failed=st.integers(0, 3))
    def ordinary_calls_end(self, ok: int, failed: int) -> None:
        if self.row.status is B.CLOSED and self.tally.add(self.now, ok, failed, RULES):
            assert failed
            assert self.move(TooManyFailures(version=self.row.version, rules=RULES, reason="5xx"))

    @rule()
    def a_burst_asks_to_probe(self) -> None:
        due, let = self.row.may_probe(self.now), []
        for _ in range(5):
            self.numbers += 1
            if self.move(TakeProbe(probe=str(self.numbers))):
                let.append(str(self.numbers))
                self.probes[str(self.numbers)] = self.now
        assert len(let) == due

    @precondition(lambda self: self.probes)
    @rule(outcome=st.sampled_from(list(Outcome)), last=st.booleans())
    def a_probe_ends(self, outcome: Outcome, last: bool) -> None:
        probe = (max if last else min)(self.probes, key=int)
        del self.probes[probe]
        current, before = self.row.probe == probe, self.row
        done = self.move(EndProbe(probe=probe, outcome=outcome, rules=RULES, reason="5xx"))
        assert done == (current and before.status is B.HALF_OPEN)
        if done:
            closes = outcome in (Outcome.OK, Outcome.RATE_LIMIT)
            assert self.row.status is (B.CLOSED if closes else B.OPEN)
            if outcome is Outcome.TEMPORARY:
                assert self.row.openings == before.openings + 1

    @rule(for_us=st.sampled_from([None, MICROS]))
    def somebody_opens(self, for_us: int | None) -> None:
        self.move(OpenByHand(for_us=for_us))
        assert not self.row.may_probe(self.now)

    @rule()
    def somebody_closes(self) -> None:
        self.move(CloseByHand())
        assert self.row.status is B.CLOSED

    @invariant()
    def its_fields_fit_its_status(self) -> None:
        row = self.row
        assert (row.probe is not None) == (row.status is B.HALF_OPEN)
        assert (row.reason is not None) == (row.status is not B.CLOSED)
        assert (row.openings > 0) == (row.status is not B.CLOSED)
        if row.until is not None:
            assert row.status is B.OPEN
            assert row.until - row.changed_at <= 35 * MICROS

    @invariant()
    def only_one_probe_has_a_say(self) -> None:
        fresh = [p for p, at in self.probes.items() if self.now - at < PROBE_US]
        if self.row.status is B.HALF_OPEN and len(fresh) > 1:
            assert self.row.probe == max(fresh, key=int)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

"""Policies of nodes: tries, timeouts, pauses, what follows a failure, limits, caches."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from pydantic import BaseModel

from holdfast.domain.changes import AttemptStarted, StepFinished
from holdfast.errors import DeclarationError, ModelError, NoResult, PromptError, StepTimeout
from holdfast.llm.scripted import ScriptedAnswer
from holdfast.pipelines.nodes import Skip
from holdfast.pipelines.pipeline import Pipeline
from holdfast.pipelines.policy import Backoff, Cache
from holdfast.pipelines.state import State
from holdfast.testing.ports import MemoryCache


class Note(BaseModel):
    text: str = ""


class Busy(Exception):
    """An error of the user's own."""


class Limited(Exception):
    """As a provider's client raises it."""

    def __init__(self, after: str) -> None:
        super().__init__("slow down")
        self.status_code = 429
        self.response = type("Response", (), {"headers": {"retry-after": after}})()


class Pauses:
    """Stands in for the clock: notes each pause and takes no time."""

    def __init__(self) -> None:
        self.taken: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


def pipeline(**options: Any) -> Pipeline:
    return Pipeline("test.policies", version="1", event=Note, **options)


def failing(*errors: Exception):
    """A node that raises these in turn and then succeeds; counts its calls."""
    left = list(errors)

    async def work(state: State) -> str:
        work.calls += 1
        if left:
            raise left.pop(0)
        return "done"

    work.calls = 0
    return work


def only(node: Any, **policy: Any) -> Pipeline:
    p = pipeline()
    p.start(p.node("work", node, **policy))
    return p


# -- tries -------------------------------------------------------------------------------------


async def test_each_try_is_an_attempt_of_the_step(run, pauses):
    p = only(failing(ConnectionError("gone"), TimeoutError("late")), retries=2)
    ran = await run(p, {}, sleep=pauses, chance=lambda: 0.0)
    assert ran.output == "done"
    assert [(a.n, a.status, a.error_class, a.usage) for a in ran.attempts("work")] == [
        (1, "failed", "temporary", "none"),
        (2, "failed", "temporary", "none"),
        (3, "succeeded", None, "none"),
    ]
    assert ran.attempts("work")[0].error["message"] == "gone"
    assert [(a.provider, a.model) for a in ran.of(AttemptStarted)] == [(None, None)] * 3
    assert ran.ended("work").status == "succeeded"
    assert pauses.taken == [0.5, 1.0]


async def test_a_node_without_retries_or_timeouts_has_no_attempts(run):
    ran = await run(only(failing(), concurrency=1), {})
    assert ran.attempts("work") == []


@pytest.mark.parametrize(
    ("error", "calls"),
    [
        (ConnectionError("temporary"), 3),
        (Limited("0"), 3),
        (ValueError("unknown"), 1),
        (ModelError("no", error_class="permanent"), 1),
        (ModelError("no money", error_class="budget"), 1),
    ],
)
async def test_only_temporary_errors_and_rate_limits_are_tried_again(run, pauses, error, calls):
    work = failing(error, error, error)
    ran = await run(only(work, retries=2), {}, sleep=pauses)
    assert ran.error is error
    assert work.calls == calls


async def test_errors_of_ones_own_may_be_tried_again(run, pauses):
    work = failing(Busy())
    assert (await run(only(work, retries=1, retry_on=Busy), {}, sleep=pauses)).output == "done"
    work = failing(Busy())
    assert isinstance((await run(only(work, retries=1), {}, sleep=pauses)).error, Busy)


async def test_what_the_provider_asks_to_wait_is_waited(run, pauses):
    backoff = Backoff(first=1, factor=2, jitter=0)
    p = only(failing(Limited("7"), Limited("0.1")), retries=2, backoff=backoff)
    assert (await run(p, {}, sleep=pauses)).output == "done"
    assert pauses.taken == [7.0, 2.0]


async def test_a_provider_that_asks_for_hours_is_not_waited_for(run, pauses):
    work = failing(Limited("7200"))
    assert isinstance((await run(only(work, retries=3), {}, sleep=pauses)).error, Limited)
    assert pauses.taken == []


def test_pauses_grow_up_to_a_limit_and_are_spread():
    backoff = Backoff(first=1, factor=3, most=10, jitter=0.5)
    assert [backoff.pause(n, 0) for n in (1, 2, 3, 4)] == [1, 3, 9, 10]
    assert backoff.pause(3, 1) == 4.5
    assert backoff.pause(100_000, 0) == 10


async def test_no_pause_goes_beyond_the_time_for_all_tries(run, pauses):
    work = failing(Limited("60"))
    ran = await run(only(work, retries=3, total_timeout=5), {}, sleep=pauses)
    assert isinstance(ran.error, Limited)
    assert pauses.taken == []


async def test_skipping_is_no_failure(run, pauses):
    async def nothing(state: State) -> None:
        raise Skip("nothing to do")

    ran = await run(only(nothing, retries=2), {}, sleep=pauses)
    assert ran.ended("work").status == "skipped"
    assert [a.status for a in ran.attempts("work")] == ["skipped"]


# -- timeouts ----------------------------------------------------------------------------------


async def forever(state: State) -> str:
    await asyncio.Event().wait()
    return "never"


async def test_a_try_that_takes_too_long_is_stopped_and_tried_again(run, pauses):
    tries = 0

    async def slow_once(state: State) -> str:
        nonlocal tries
        tries += 1
        return await forever(state) if tries == 1 else "done"

    ran = await run(only(slow_once, timeout=0.01, retries=1), {}, sleep=pauses)
    assert ran.output == "done"
    first, second = ran.attempts("work")
    assert (first.status, first.error["code"], first.error_class) == (
        "failed",
        "step_timeout",
        "temporary",
    )
    assert second.status == "succeeded"


async def test_the_error_names_node_and_limit(run):
    ran = await run(only(forever, timeout=0.01), {})
    assert isinstance(ran.error, StepTimeout)
    assert 'pipeline test.policies: node "work" did not finish within 0.01 s' in str(ran.error)
    assert ran.ended("work").status == "failed"
    assert [a.status for a in ran.attempts("work")] == ["failed"]


async def test_the_time_for_all_tries_ends_the_one_under_way(run, pauses):
    ran = await run(only(forever, total_timeout=0.01, retries=5), {}, sleep=pauses)
    assert isinstance(ran.error, StepTimeout)
    assert "within 0.01 s, its time for all its tries" in str(ran.error)
    assert [(a.status, a.error["code"]) for a in ran.attempts("work")] == [
        ("failed", "step_timeout")
    ]


async def test_a_timeout_of_the_nodes_own_is_not_taken_for_ours(run):
    async def own(state: State) -> None:
        raise TimeoutError("mine")

    ran = await run(only(own, timeout=5, total_timeout=5), {})
    assert (type(ran.error), str(ran.error)) == (TimeoutError, "mine")


async def test_sync_code_is_abandoned_and_never_runs_twice_at_once(run, pauses):
    release, calls = threading.Event(), []

    def blocked(state: State) -> str:
        calls.append(1)
        release.wait(10)
        return "too late"

    try:
        ran = await run(only(blocked, timeout=0.02, retries=3), {}, sleep=pauses)
    finally:
        release.set()
    assert isinstance(ran.error, StepTimeout)
    assert "its code still runs in a thread, its result is discarded" in str(ran.error)
    assert [a.status for a in ran.attempts("work")] == ["abandoned"]
    assert len(calls) == 1


async def test_a_cancel_from_outside_is_no_timeout_and_not_tried_again(run, pauses):
    work = failing()
    started = asyncio.Event()

    async def waits(state: State) -> str:
        work.calls += 1
        started.set()
        return await forever(state)

    task = asyncio.create_task(
        run(only(waits, timeout=60, retries=3, on_failure="continue"), {}, sleep=pauses)
    )
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.calls == 1


# -- models ------------------------------------------------------------------------------------


def asked(script: Any, **policy: Any) -> Pipeline:
    p = pipeline(scripted=script)
    p.start(p.model("work", prompt="{{ event.text }}", **policy))
    return p


async def test_a_models_calls_go_on_counting_over_retries(run, pauses):
    calls = 0

    def script(request: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise ModelError("away", error_class="temporary")
        return "hello"

    ran = await run(asked(script, retries=2), {}, sleep=pauses)
    assert ran.output == "hello"
    assert [(a.n, a.status, a.error_class) for a in ran.attempts("work")] == [
        (1, "failed", "temporary"),
        (2, "failed", "temporary"),
        (3, "succeeded", None),
    ]
    assert {a.provider for a in ran.of(AttemptStarted)} == {"scripted"}
    assert all(a.usage != "none" for a in ran.attempts("work"))


async def test_a_model_that_takes_too_long_leaves_a_failed_attempt(run):
    def script(request: Any) -> Any:
        return ScriptedAnswer(text="late", latency_s=30)

    ran = await run(asked(script, timeout=0.02), {})
    assert isinstance(ran.error, StepTimeout)
    (attempt,) = ran.attempts("work")
    assert (attempt.status, attempt.error["code"], attempt.error_class) == (
        "failed",
        "step_timeout",
        "temporary",
    )


# -- what follows a failure --------------------------------------------------------------------


async def test_a_node_that_may_fail_leaves_a_failure_and_the_run_goes_on(run):
    p = pipeline()
    notify = p.node("notify", failing(ValueError("no network")), on_failure="continue")

    @p.node
    async def after(state: State) -> str:
        return f"{type(state.results['notify']).__name__} seen"

    p.start(notify)
    p.edge(notify, after)
    ran = await run(p, {})
    assert ran.output == "Failure seen"
    assert [(f.node, f.message) for f in ran.failures] == [("notify", "no network")]
    assert ran.ended("notify").status == "failed"
    assert ran.ended("notify").error["message"] == "no network"


async def test_who_needs_the_result_is_told_why_there_is_none(run):
    p = pipeline()
    first = p.node("first", failing(ValueError("no network")), on_failure="continue")

    @p.node
    async def after(state: State) -> str:
        return state.first

    p.start(first)
    p.edge(first, after)
    ran = await run(p, {})
    assert isinstance(ran.error, NoResult)
    assert 'node "first" has no result: it failed with no network' in str(ran.error)


async def test_a_prompt_that_needs_the_result_says_who_failed(run):
    p = pipeline(scripted=lambda request: "hello")
    first = p.node("first", failing(ValueError("no network")), on_failure="continue")
    p.start(first)
    p.edge(first, p.model("ask", prompt="{{ first }}"))
    ran = await run(p, {})
    assert isinstance(ran.error, PromptError)
    assert 'node "first" failed' in str(ran.error)


async def test_the_output_is_the_last_result_there_is(run):
    p = pipeline()
    p.start(p.node("work", failing()))
    p.edge("work", p.node("notify", failing(ValueError()), on_failure="continue"))
    ran = await run(p, {})
    assert ran.output == "done"
    assert len(ran.failures) == 1


async def test_another_node_stands_in(run, pauses):
    p = pipeline()

    @p.node
    async def cheap(state: State) -> str:
        return f"instead of {state.results['work'].message}"

    p.start(
        p.node(
            "work", failing(ConnectionError("a"), ConnectionError("b")), retries=1, on_failure=cheap
        )
    )

    @p.node
    async def after(state: State) -> list[str]:
        return [state.work, state.cheap]

    p.edge("work", after)
    ran = await run(p, {}, sleep=pauses)
    assert ran.output == ["instead of b", "instead of b"]
    assert ran.failures == []
    failed, stood_in = ran.ended("work"), ran.ended("cheap")
    assert (failed.status, failed.error["message"], failed.error["fallback"]) == (
        "failed",
        "b",
        "cheap",
    )
    assert stood_in.status == "succeeded"
    assert ran.steps["cheap"].parent == ran.steps["work"].step
    assert [s.kind for s in ran.steps.values()] == ["node"] * 3
    assert ran.recorded_output("work") == "instead of b"


async def test_each_step_keeps_its_own_error_when_the_stand_in_fails_too(run):
    p = pipeline()
    p.node("second", failing(ValueError("second")))
    p.start(p.node("first", failing(ValueError("first")), on_failure="second"))
    ran = await run(p, {})
    assert str(ran.error) == "second"
    assert ran.ended("first").error["message"] == "first"
    assert ran.ended("second").error["message"] == "second"


async def test_a_stand_in_that_may_fail_leaves_two_failures(run):
    p = pipeline()
    p.node("second", failing(ValueError("2")), on_failure="continue")
    p.start(p.node("first", failing(ValueError("1")), on_failure="second"))
    ran = await run(p, {})
    assert ran.output is None
    assert sorted((f.node, f.message) for f in ran.failures) == [("first", "1"), ("second", "2")]


async def test_stand_ins_form_chains_and_may_be_shared(run):
    p = pipeline()
    p.node("last", failing())
    p.node("second", failing(ValueError("2")), on_failure="last")
    p.start(p.node("first", failing(ValueError("1")), on_failure="second"))
    p.edge("first", p.node("other", failing(ValueError("3")), on_failure="last"))
    ran = await run(p, {})
    assert {name: ran.results[name] for name in ("first", "second", "other", "last")} == {
        "first": "done",
        "second": "done",
        "other": "done",
        "last": "done",
    }
    assert ran.failures == []


async def test_a_branch_has_policies_of_its_own(run, pauses):
    p = pipeline()
    p.node("spare", failing())
    p.node("left", failing(ConnectionError()), retries=1)
    p.node("right", failing(ValueError("right")), on_failure="spare")
    p.node("third", failing(ValueError("third")), on_failure="continue")
    p.start(p.parallel("both", ["left", "right", "third"]))
    ran = await run(p, {}, sleep=pauses)
    assert dict(ran.results["both"]) | {"third": None} == {
        "left": "done",
        "right": "done",
        "third": None,
    }
    assert ran.results["spare"] == "done"
    assert [f.node for f in ran.failures] == ["third"]
    assert ran.steps["spare"].parent == ran.steps["right"].step
    assert ran.ended("both").status == "succeeded"


async def test_a_group_is_tried_again_only_if_all_that_failed_in_it_is_worth_it(run, pauses):
    for error, calls in ((ConnectionError(), 2), (ValueError(), 1)):
        p = pipeline()
        left, right = failing(ConnectionError()), failing(error)
        p.start(p.parallel("both", [p.node("left", left), p.node("right", right)], retries=1))
        ran = await run(p, {}, sleep=pauses)
        assert (left.calls, right.calls) == (calls, calls)
        assert [a.status for a in ran.attempts("both")] == ["failed", "succeeded"][:calls]


async def test_a_group_that_takes_too_long_may_be_done_without(run):
    p = pipeline()
    p.start(p.parallel("both", [p.node("slow", forever)], timeout=0.01, on_failure="continue"))
    p.edge("both", p.node("after", failing()))
    ran = await run(p, {})
    assert ran.output == "done"
    assert [f.code for f in ran.failures] == ["step_timeout"]
    assert ran.ended("slow").status == "cancelled"


# -- limits ------------------------------------------------------------------------------------


async def test_executions_share_a_nodes_limit(run):
    busy = most = 0

    async def work(state: State) -> int:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        busy -= 1
        return most

    p = only(work, concurrency=2)
    await asyncio.gather(*(run(p, {}) for _ in range(10)))
    assert most == 2


async def test_a_slot_is_free_while_its_holder_pauses(run):
    order: list[str] = []
    other_ran = asyncio.Event()

    async def work(state: State) -> None:
        order.append(state.event.text)
        if order == ["first"]:
            raise ConnectionError
        other_ran.set()

    async def until_other(seconds: float) -> None:
        await other_ran.wait()

    p = only(work, concurrency=1, retries=1)
    first = asyncio.create_task(run(p, {"text": "first"}, sleep=until_other))
    while not order:
        await asyncio.sleep(0)
    await run(p, {"text": "second"})
    await first
    assert order == ["first", "second", "first"]


def test_a_limit_holds_in_every_loop(run):
    p = only(failing(), concurrency=1)

    async def two() -> None:
        await asyncio.gather(*(run(p, {}) for _ in range(3)))

    asyncio.run(two())
    asyncio.run(two())


# -- caches ------------------------------------------------------------------------------------


class Found(BaseModel):
    words: list[str]


def looking(**policy: Any) -> tuple[Pipeline, list[str]]:
    calls: list[str] = []

    async def look(state: State) -> Found:
        calls.append(state.event.text)
        return Found(words=state.event.text.split())

    return only(look, **policy), calls


async def test_a_result_is_used_again_for_the_same_input(run):
    cache = MemoryCache()
    p, calls = looking(cache=60)
    first = await run(p, {"text": "a b"}, cache=cache)
    again = await run(p, {"text": "a b"}, cache=cache, execution_id="x2")
    other = await run(p, {"text": "c"}, cache=cache)
    assert calls == ["a b", "c"]
    assert again.output == first.output == Found(words=["a", "b"])
    assert other.output == Found(words=["c"])
    assert first.ended("work").status == "succeeded"
    assert again.ended("work").status == "skipped"
    assert again.ended("work").skip_reason == "cached from execution x1"
    assert again.recorded_output("work") == {"words": ["a", "b"]}
    assert again.of(AttemptStarted) == []
    assert next(iter(cache.kept.values()))[1] == 60


async def test_a_key_says_what_counts_as_input(run):
    cache = MemoryCache()
    p, calls = looking(cache=Cache(ttl=60, key=lambda s: s.event.text.lower()))
    await run(p, {"text": "A"}, cache=cache)
    await run(p, {"text": "a"}, cache=cache)
    assert calls == ["A"]


async def test_other_code_finds_no_old_results(run):
    cache = MemoryCache()
    p, calls = looking(cache=60)
    await run(p, {"text": "a"}, cache=cache)
    q, more = looking(cache=60, timeout=5)
    await run(q, {"text": "a"}, cache=cache)
    assert (calls, more) == (["a"], ["a"])


async def test_failures_are_not_kept(run):
    cache = MemoryCache()

    async def fails(state: State) -> str:
        raise ValueError

    for _ in range(2):
        ran = await run(only(fails, cache=60, on_failure="continue"), {}, cache=cache)
        assert ran.ended("work").status == "failed"
    assert cache.kept == {}


async def test_a_models_answer_is_kept_by_what_is_asked(run):
    cache, calls = MemoryCache(), []

    def script(request: Any) -> Any:
        calls.append(request.user)
        return {"words": [request.user]}

    p = pipeline(scripted=script)
    p.start(p.model("work", prompt="{{ event.text }}", answer=Found, cache=60))
    for text in ("a", "a", "b"):
        ran = await run(p, {"text": text}, cache=cache)
        assert ran.output == Found(words=[text])
    assert calls == ["a", "b"]


async def test_a_cache_that_is_away_costs_nothing_but_the_saving(run):
    cache = MemoryCache()
    cache.refuse = "no hub"
    p, calls = looking(cache=60)
    for _ in range(2):
        assert (await run(p, {"text": "a"}, cache=cache)).error is None
    assert calls == ["a", "a"]


# -- declarations ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"timeout": 0}, "timeout=0 leaves no time"),
        ({"total_timeout": -1}, "total_timeout=-1 leaves no time"),
        ({"retries": -1}, "retries=-1 is negative"),
        ({"concurrency": 0}, "concurrency=0 lets nothing run"),
        ({"cache": 0}, "a cache of 0 s keeps nothing"),
        ({"retry_on": "Busy"}, "no exception class"),
        ({"retry": 2}, "there is no option 'retry'"),
    ],
)
def test_options_without_sense_are_refused(policy, message):
    async def work(state: State) -> str:
        return ""

    with pytest.raises(DeclarationError, match=f'node "work": .*{message}'):
        only(work, **policy)


def test_a_cache_needs_to_know_the_type():
    with pytest.raises(DeclarationError, match="needs to know the type of its result"):
        only(lambda state: 1, cache=60)
    p = pipeline()
    node = p.node("one", failing())
    with pytest.raises(DeclarationError, match="a parallel cannot be cached"):
        p.parallel("both", [node], cache=60)


def refused(p: Pipeline, message: str) -> None:
    with pytest.raises(DeclarationError, match=message):
        p.check()


def test_stand_ins_are_nodes_and_only_stand_in():
    p = only(failing(), on_failure="spair")
    p.node("spare", failing())
    refused(p, 'on_failure of "work" names "spair", which is no node .did you mean spare')
    p = only(failing(), on_failure="spare")
    p.edge("work", p.node("spare", failing()))
    refused(p, 'names "spare", which only stands in when "work" fails')
    p = only(failing(), on_failure="spare")
    p.node("spare", failing(), on_failure="work")
    refused(p, "stand in for each other: work → spare → work|which only stands in")
    p = only(failing(), on_failure="spare")
    p.parallel("both", [p.node("spare", failing())])
    p.edge("work", "both")
    refused(p, '"spare" cannot stand in for "work": it is a branch of "both"')


def test_the_drawing_tells_policies():
    p = only(failing(), retries=2, timeout=5, on_failure="spare")
    p.node("spare", failing())
    work, spare = p.describe()["nodes"][1:3]
    assert work["policy"] == {"timeout": 5, "retries": 2, "on_failure": "spare"}
    assert spare["stands_in_for"] == "work"
    assert "policy" not in spare


async def test_nothing_of_a_policy_is_in_the_record_of_a_plain_node(run):
    ran = await run(only(failing()), {})
    assert [type(c).__name__ for c in ran.sink.changes] == ["StepStarted", "StepFinished"]
    assert ran.of(StepFinished)[0].status == "succeeded"

"""Recorded executions run once more: from the record nothing leaves the process."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.bus import Notice
from holdfast.bus.base import PAUSE
from holdfast.domain.events import LOCAL_OWNER, Event
from holdfast.domain.replays import FROM_RECORD, Plan
from holdfast.domain.status import EventStatus, ExecutionStatus, StepStatus
from holdfast.errors import (
    IdempotencyConflict,
    IllegalMove,
    InvalidInput,
    NotFound,
    NotReplayable,
    UnknownPipeline,
)
from holdfast.operations import read
from holdfast.operations.diff import compare, diff_view
from holdfast.operations.pause import pause
from holdfast.operations.replay import UNCHANGED, replay
from holdfast.operations.resume import resume
from holdfast.store.queries import ListEvents, ListExecutions
from holdfast.testing.postgres import PostgresForTests
from holdfast.testing.providers import FakeAnswer, FakeOpenAI, FakeRequest

from .conftest import HubForTests, OpenHub, until, until_true

ROOT = Path(__file__).parents[2]
EMAILS = ROOT / "examples" / "support_triage" / "emails.jsonl"


@pytest.fixture
def wire() -> Any:
    with FakeOpenAI() as server:
        yield server


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


@pytest.fixture
def hub_environ(
    hub_environ: dict[str, str], wire: FakeOpenAI, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    monkeypatch.chdir(ROOT)  # where the example is found
    alias = {"model": "openai:fake-model", "base_url": wire.url}
    better = {"model": "openai:better-model", "base_url": wire.url}
    return hub_environ | {
        "HOLDFAST_APPS": "replay_app,waiting_app,examples.support_triage.app",
        "HOLDFAST_MODELS": json.dumps({"fast": alias, "standard": alias, "expert": better}),
        "OPENAI_BASE_URL": wire.url,
        "REPLAY_APP_NOTES": str(notes),
    }


@pytest.fixture(params=["sqlite", "postgresql"])
async def hub(
    request: pytest.FixtureRequest,
    open_hub: OpenHub,
    hub_environ: dict[str, str],
    postgres: PostgresForTests,
) -> AsyncIterator[HubForTests]:
    if request.param == "postgresql":
        hub_environ["HOLDFAST_DATABASE_URL"] = postgres.migrated()
    async with open_hub(runners=1) as opened:
        yield opened


class Repeated:
    """A replay that has ended, beside what it repeats."""

    def __init__(self, event: Event, whole: read.Whole) -> None:
        self.event = event
        self.whole = whole
        self.execution = whole.execution
        self.told = whole.execution.flags.get("replay")

    @property
    def output(self) -> Any:
        return self.whole.payload.get(self.execution.output)

    def outputs(self) -> dict[str, Any]:
        return {one.operation: self.whole.payload.get(one.output) for one in self.whole.steps}


async def repeat(
    hub: HubForTests, whole: read.Whole, plan: Plan | None = None, *, data: Any = UNCHANGED
) -> Repeated:
    sent = await replay(hub.kit, whole.execution.id, LOCAL_OWNER, plan or Plan(), data=data)
    event = await hub.ended(sent.id)
    assert event.execution_id is not None
    return Repeated(event, await hub.whole(event.execution_id))


AS_RECORDED = {"differs": [], "unrecorded": [], "not_reached": []}


def triage_answer(request: FakeRequest) -> str:
    """The example's rules behind the fake provider's wire."""
    from examples.support_triage.rules import answer
    from langchain_core.messages import convert_to_messages

    from holdfast.llm.scripted import ScriptedRequest

    steps = {"Intent": "intent", "Spam": "spam", "Actionable": "actionable", "Reply": "draft"}
    wanted = request.body["response_format"]["json_schema"]["name"]
    messages = convert_to_messages(request.body["messages"])
    said = answer(
        ScriptedRequest(
            operation=steps[wanted],
            system="",
            user=str(messages[-1].content),
            messages=messages,
        )
    )
    text = said if isinstance(said, str) else json.dumps(said)
    if "as a friend" in str(request.body["messages"]):
        text = re.sub(r'("text": ?")', r"\1Dear friend. ", text)
    return text


async def test_all_triage_runs_are_repeated_without_a_call(
    hub: HubForTests, wire: FakeOpenAI
) -> None:
    wire.answer(triage_answer)
    emails = [json.loads(line) for line in EMAILS.read_text("utf-8").splitlines()]
    recorded = [(await hub.run("support.triage", **one["data"]))[1] for one in emails]
    calls = len(wire.requests)
    assert calls > 36, "four steps of some, one of them asked again"
    for whole in recorded:
        again = await repeat(hub, whole)
        assert again.event.status is EventStatus.SUCCEEDED, again.event.last_error
        assert again.output == whole.payload.get(whole.execution.output)
        assert again.told == AS_RECORDED
        assert (again.execution.parent_id, again.execution.origin) == (whole.execution.id, "replay")
        assert again.execution.totals.tokens_input == again.execution.totals.cost_pico == 0
        assert again.execution.totals.credits == 0
        assert whole.execution.totals.tokens_input > 0
        for old, new in zip(whole.attempts, again.whole.attempts, strict=True):
            assert (new.usage, new.cost_pico, new.credits) == ("replayed", 0, 0)
            assert (new.tokens_input, new.validation) == (old.tokens_input, old.validation)
        found = diff_view(
            await compare(hub.kit, whole.execution.id, again.execution.id, LOCAL_OWNER)
        )
        assert (found["same"], found["first"], found["followed"]) == (True, None, [])
    assert len(wire.requests) == calls, "no call on the wire"


async def test_after_a_prompt_edit_the_diff_points_at_the_step_and_what_followed(
    hub: HubForTests, wire: FakeOpenAI
) -> None:
    wire.answer(triage_answer)
    emails = [json.loads(line) for line in EMAILS.read_text("utf-8").splitlines()]
    runs = [(await hub.run("support.triage", **one["data"]))[1] for one in emails]
    whole = next(
        run
        for run in runs
        if any(one.operation == "draft" for one in run.steps)
        and len(run.attempts) == 4  # nothing was asked again
    )
    prompt = "Answer as a friend.\n\n<letter>\n<body>\n{{ event.body }}\n</body>\n</letter>"
    edited = {"draft": {"user": prompt}}
    calls = len(wire.requests)

    kept = await repeat(hub, whole, Plan(prompts=edited))
    assert kept.told == AS_RECORDED | {"differs": [{"step": "draft", "what": ["prompt.user"]}]}
    assert kept.output == whole.payload.get(whole.execution.output)
    assert len(wire.requests) == calls

    live = await repeat(hub, whole, Plan(answers="live", prompts=edited))
    assert len(wire.requests) == calls + 4
    found = diff_view(await compare(hub.kit, whole.execution.id, live.execution.id, LOCAL_OWNER))
    assert (found["first"], found["followed"]) == ("draft", ["send"])
    verdicts = {one["step"]: one["verdict"] for one in found["steps"]}
    assert {name for name, verdict in verdicts.items() if verdict != "same"} == {"draft", "send"}
    (draft,) = [one for one in found["steps"] if one["step"] == "draft"]
    changes = {one["what"]: one["diff"] for one in draft["changes"]}
    assert set(changes) == {"prompt.user", "answer", "output"}
    assert "+Answer as a friend." in changes["prompt.user"]
    assert live.execution.totals.tokens_input > 0

    onward = await repeat(hub, whole, Plan(start="draft", prompts=edited))
    assert len(wire.requests) == calls + 5, "only the draft is asked again"
    steps = {one.operation: one for one in onward.whole.steps}
    assert steps["judge"].status is StepStatus.SKIPPED
    assert steps["judge"].skip_reason == f"{FROM_RECORD}{whole.execution.id}"
    assert onward.outputs()["judge"] == Repeated(live.event, whole).outputs()["judge"]
    assert onward.output == live.output
    found = diff_view(await compare(hub.kit, whole.execution.id, onward.execution.id, LOCAL_OWNER))
    assert (found["first"], found["followed"]) == ("draft", ["send"])


def scores(request: FakeRequest) -> FakeAnswer:
    """Says which item it was asked about; the first items take longest."""
    asked = str(request.body["messages"][-1]["content"])
    if asked.startswith("Item"):
        late = 0.05 * (3 - int(asked[-1]))
        return FakeAnswer(text=f"about {asked}", latency_s=late)
    return FakeAnswer(text='{"score": 5}')


ITEMS = ["i0", "i1", "i2", "i3"]


def lines(notes: Path) -> list[str]:
    return notes.read_text().split("\n")[:-1] if notes.exists() else []


async def test_failures_invalid_answers_items_and_events_are_repeated(
    hub: HubForTests, wire: FakeOpenAI, notes: Path
) -> None:
    order = iter(
        [FakeAnswer(status=500), FakeAnswer(text="no JSON"), FakeAnswer(text='{"score": 99}')]
    )

    def say(request: FakeRequest) -> FakeAnswer:
        if str(request.body["messages"][0]["content"]).startswith("Score"):
            return next(order, FakeAnswer(text='{"score": 5}'))
        return scores(request)

    wire.answer(say)
    event, whole = await hub.run("replay.scoring", text=" Ada ", items=ITEMS)
    assert event.status is EventStatus.SUCCEEDED, event.last_error
    output = whole.payload.get(whole.execution.output)
    assert output["items"] == [f"about Item {item}" for item in ITEMS]
    await hub.ended(output["sent"])
    calls, before = len(wire.requests), lines(notes)
    assert before == ["begin", "tell", "heard"]

    again = await repeat(hub, whole)
    assert again.event.status is EventStatus.SUCCEEDED, again.event.last_error
    assert again.output == output, "items in their places, and the id of the event sent then"
    assert again.told == AS_RECORDED
    assert len(wire.requests) == calls
    tried = [(one.status, one.validation, one.error_class) for one in whole.attempts]
    assert [(one.status, one.validation, one.error_class) for one in again.whole.attempts] == tried
    assert [str(one[0]) for one in tried[:2]] == ["failed", "succeeded"]
    assert lines(notes) == [*before, "begin", "tell"], "code runs, nothing is sent"
    sent = await hub.kit.store.read(ListEvents(owner_id=LOCAL_OWNER, target="replay.told"))
    assert len(sent) == 1

    # A replay is a recording like any other.
    third = await repeat(hub, again.whole)
    assert (third.output, third.told, third.execution.parent_id) == (
        output,
        AS_RECORDED,
        again.execution.id,
    )
    onward = await repeat(hub, whole, Plan(start="tell"))
    assert [one.status for one in onward.whole.steps if one.operation != "first.route"] == [
        StepStatus.SKIPPED,
        StepStatus.SKIPPED,
        StepStatus.SKIPPED,
        StepStatus.SUCCEEDED,
    ]
    assert onward.output["items"] == output["items"]
    assert onward.output["sent"] != output["sent"], "from there on it is live"
    again = await repeat(hub, onward.whole)
    assert again.output == onward.output
    assert len(wire.requests) == calls


async def test_what_is_not_on_record_is_not_asked(hub: HubForTests, wire: FakeOpenAI) -> None:
    wire.answer(lambda _: '{"score": 0}')
    _, whole = await hub.run("replay.scoring", text="Ada", items=["i1"])
    calls = len(wire.requests)
    wire.answer(scores)
    same = await repeat(hub, whole, data={"text": "Ada", "items": ["i2"]})
    assert (same.told, len(wire.requests)) == (AS_RECORDED, calls), "no item was ever asked about"

    wire.answer(scores)
    _, longer = await hub.run("replay.scoring", text="Ada", items=["i1"])
    calls = len(wire.requests)
    more = {"text": "Ada", "items": ["i1", "i2"]}
    refused = await repeat(hub, longer, data=more)
    assert refused.event.status is EventStatus.FAILED
    assert refused.execution.error is not None
    assert refused.execution.error["code"] == "replay_mismatch"
    assert 'node "one"' in refused.execution.error["message"]
    assert len(wire.requests) == calls
    assert refused.told is not None
    assert refused.told["unrecorded"] == ["each/one[1]"]
    assert refused.told["not_reached"] == ["tell"]

    asked = await repeat(hub, longer, Plan(unrecorded="live"), data=more)
    assert asked.event.status is EventStatus.SUCCEEDED, asked.event.last_error
    assert asked.output["items"] == ["about Item i1", "about Item i2"]
    assert len(wire.requests) == calls + 1, "only what was not on record"
    used = {one.usage for one in asked.whole.attempts}
    assert used == {"replayed", "reported"}
    fresh = sum(one.tokens_input or 0 for one in asked.whole.attempts if one.usage == "reported")
    assert asked.execution.totals.tokens_input == fresh > 0, "sums count what was asked"


async def test_a_failure_that_was_allowed_is_repeated(hub: HubForTests, wire: FakeOpenAI) -> None:
    wire.answer([FakeAnswer(status=400)])
    _, whole = await hub.run("replay.tolerant", text="x")
    assert whole.execution.status is ExecutionStatus.PARTIAL
    again = await repeat(hub, whole)
    assert (again.execution.status, again.told) == (ExecutionStatus.PARTIAL, AS_RECORDED)
    assert again.whole.attempts[0].http_status == 400
    assert again.execution.totals.cost_unknown == whole.execution.totals.cost_unknown == 0
    onward = await repeat(hub, whole, Plan(start="onward"))
    assert (onward.execution.status, onward.output) == (ExecutionStatus.PARTIAL, "went on")
    assert len(wire.requests) == 1


async def test_models_and_aliases_that_differ_are_told(hub: HubForTests, wire: FakeOpenAI) -> None:
    wire.answer(scores)
    _, whole = await hub.run("replay.scoring", text="Ada", items=["i1"])
    calls = len(wire.requests)
    kept = await repeat(hub, whole, Plan(aliases={"fast": "expert"}))
    assert kept.told is not None
    assert [one["step"] for one in kept.told["differs"]] == ["first", "each/one[0]"]
    assert [one["what"] for one in kept.told["differs"]] == [["model"], ["model"]]
    assert len(wire.requests) == calls
    live = await repeat(hub, whole, Plan(answers="live", aliases={"fast": "expert"}))
    assert {one.body["model"] for one in wire.requests[calls:]} == {"better-model"}
    assert live.event.status is EventStatus.SUCCEEDED


def talk(request: FakeRequest) -> FakeAnswer:
    said = request.body["messages"]
    if said[-1]["role"] == "tool":
        return FakeAnswer(text=f"So {said[-1]['content']}.")
    return FakeAnswer(tool_calls=({"name": "weigh", "args": {"thing": "iron"}},))


async def test_tools_retrievers_streams_and_interrupts_of_a_foreign_graph(
    hub: HubForTests, wire: FakeOpenAI, notes: Path
) -> None:
    wire.answer(talk)
    messages = [{"role": "user", "content": "How heavy is iron?"}]
    event_id = await hub.submit("replay.agent", messages=messages)
    execution_id = await waiting(hub, event_id)
    await resume(hub.kit, execution_id, LOCAL_OWNER, answer="yes")
    event = await hub.ended(event_id)
    assert event.status is EventStatus.SUCCEEDED, event.last_error
    whole = await hub.whole(execution_id)
    calls, ran = len(wire.requests), lines(notes)
    assert (calls, ran) == (2, ["search weights", "weigh feather", "weigh iron"])

    again = await repeat(hub, whole)
    assert again.event.status is EventStatus.SUCCEEDED, again.event.last_error
    assert again.execution.stops is None, "it did not halt"
    assert len(wire.requests) == calls
    assert lines(notes) == ran, "no tool and no search ran"
    contents = [one["content"] for one in again.output["messages"]]
    assert contents == [
        one["content"] for one in whole.payload.get(whole.execution.output)["messages"]
    ]
    assert contents[-1] == "confirmed: yes"
    kinds = [(one.kind, one.operation) for one in again.whole.steps]
    assert kinds == [(one.kind, one.operation) for one in whole.steps]
    assert again.told is not None
    assert (again.told["unrecorded"], again.told["not_reached"]) == ([], [])

    sent = await replay(hub.kit, execution_id, LOCAL_OWNER, Plan(start="tools"))
    asked = await waiting(hub, sent.id)
    await resume(hub.kit, asked, LOCAL_OWNER, answer="no")
    assert (await hub.ended(sent.id)).status is EventStatus.SUCCEEDED
    assert lines(notes) == [*ran, "weigh iron"], "before it from the record, from it on live"
    assert len(wire.requests) == calls + 1


async def waiting(hub: HubForTests, event_id: str) -> str:
    async def stands() -> bool:
        event = await read.event(hub.kit, event_id, LOCAL_OWNER)
        assert event.finished_at is None, event.last_error
        return event.status is EventStatus.WAITING

    await until_true(stands)
    event = await read.event(hub.kit, event_id, LOCAL_OWNER)
    assert event.execution_id is not None
    return event.execution_id


async def test_answers_of_people_come_from_the_record(
    hub: HubForTests, wire: FakeOpenAI, tmp_path: Path
) -> None:
    wire.answer(["Buy tea."])
    event_id = await hub.submit("wait.buying", item="tea", folder=str(tmp_path))
    execution_id = await waiting(hub, event_id)
    with pytest.raises(IllegalMove, match="waiting"):
        await replay(hub.kit, execution_id, LOCAL_OWNER, Plan())
    await resume(hub.kit, execution_id, LOCAL_OWNER, answer={"yes": True, "why": "thirsty"})
    await hub.ended(event_id)
    whole = await hub.whole(execution_id)
    again = await repeat(hub, whole)
    assert again.event.status is EventStatus.SUCCEEDED, again.event.last_error
    assert again.output == whole.payload.get(whole.execution.output)
    assert (again.told, again.execution.stops) == (AS_RECORDED, None)
    assert [one.operation for one in again.whole.steps] == ["price", "draft", "approve", "buy"]
    assert len(wire.requests) == 1

    # Live from a node after it; live from the question on it is asked again.
    onward = await repeat(hub, whole, Plan(start="buy"))
    assert onward.output == again.output
    sent = await replay(hub.kit, execution_id, LOCAL_OWNER, Plan(start="approve"))
    asked = await waiting(hub, sent.id)
    await resume(hub.kit, asked, LOCAL_OWNER, answer={"yes": False})
    event = await hub.ended(sent.id)
    assert (event.status, event.execution_id) == (EventStatus.SUCCEEDED, asked)
    other = await hub.whole(asked)
    assert other.payload.get(other.execution.output)["bought"] is False
    told = other.execution.flags["replay"]
    assert [one["step"] for one in told["differs"]] == ["approve", "buy"]
    assert len(wire.requests) == 1


async def test_a_replay_answers_nobody_who_waits_for_such_an_event(hub: HubForTests) -> None:
    _, told = await hub.run("replay.told", text="then")
    event_id = await hub.submit("replay.listening")
    await waiting(hub, event_id)
    again = await repeat(hub, told)
    assert again.output == "then"
    event = await read.event(hub.kit, event_id, LOCAL_OWNER)
    assert event.status is EventStatus.WAITING
    await hub.run("replay.told", text="now")
    event = await hub.ended(event_id)
    whole = await hub.whole(str(event.execution_id))
    assert whole.payload.get(whole.execution.output) == {"text": "now"}


async def test_events_waited_for_come_from_the_record(hub: HubForTests) -> None:
    event_id = await hub.submit("wait.paid", item="tea")
    await waiting(hub, event_id)
    from holdfast.operations.submit import submit

    await submit(hub.kit, owner_id=LOCAL_OWNER, type="payment", subject="tea", data={"amount": 3})
    event = await hub.ended(event_id)
    whole = await hub.whole(str(event.execution_id))
    again = await repeat(hub, whole)
    assert (again.output, again.told) == ({"paid": 3}, AS_RECORDED)


async def test_a_cached_result_is_repeated_and_the_cache_not_asked(
    hub: HubForTests, notes: Path
) -> None:
    _, fresh = await hub.run("replay.cached", text="x")
    _, hit = await hub.run("replay.cached", text="x")
    assert hit.steps[0].status is StepStatus.SKIPPED
    assert lines(notes) == ["look"]
    again = await repeat(hub, hit)
    assert (again.output, again.told) == ("saw x", AS_RECORDED)
    assert again.whole.steps[0].skip_reason == hit.steps[0].skip_reason
    assert lines(notes) == ["look"]
    again = await repeat(hub, fresh)
    assert (again.output, again.told) == ("saw x", AS_RECORDED)
    assert lines(notes) == ["look", "look"], "what ran then runs now, whatever a cache has"


async def test_what_cannot_be_repeated_is_refused_at_the_door(
    hub: HubForTests, wire: FakeOpenAI
) -> None:
    wire.answer(scores)
    _, whole = await hub.run("replay.scoring", text="Ada")
    id_ = whole.execution.id

    async def refused(plan: Plan, field: str, known: str, **more: Any) -> None:
        with pytest.raises(InvalidInput) as told:
            await replay(hub.kit, id_, LOCAL_OWNER, plan, **more)
        assert told.value.fields[0]["field"] == field
        assert known in str(told.value.fields[0]["expected"])

    await refused(Plan(start="nope"), "from", "begin, first, each, tell")
    await refused(Plan(start="one"), "from", "first")
    await refused(Plan(prompts={"begin": {"user": "x"}}), "prompts.begin", "first")
    await refused(Plan(prompts={"first": {"user": "{{ nope }}"}}), "prompts.first", "template")
    await refused(Plan(aliases={"slow": "fast"}), "aliases.slow", "fast")
    await refused(Plan(aliases={"fast": "nope"}), "aliases.fast", "expert")
    await refused(Plan(), "data.texts", "", data={"texts": 1})
    with pytest.raises(NotFound):
        await replay(hub.kit, id_, "somebody else", Plan())
    events = await hub.kit.store.read(ListEvents(owner_id=LOCAL_OWNER))
    assert all(one.origin is None for one in events), "nothing was stored"


async def test_a_key_sends_one_replay(hub: HubForTests, wire: FakeOpenAI) -> None:
    wire.answer(scores)
    _, whole = await hub.run("replay.scoring", text="Ada")
    id_ = whole.execution.id
    one = await replay(hub.kit, id_, LOCAL_OWNER, Plan(), idempotency_key="k")
    two = await replay(hub.kit, id_, LOCAL_OWNER, Plan(), idempotency_key="k")
    assert (one.id, two.created) == (two.id, False)
    with pytest.raises(IdempotencyConflict):
        await replay(hub.kit, id_, LOCAL_OWNER, Plan(answers="live"), idempotency_key="k")
    await hub.ended(one.id)
    listed = ListExecutions(owner_id=LOCAL_OWNER, origin="replay")
    assert [run.event_id for run in await hub.kit.store.read(listed)] == [one.id]


async def test_a_crashed_replay_begins_anew_without_a_call(
    open_hub: OpenHub, wire: FakeOpenAI
) -> None:
    wire.answer(["hello"])
    async with open_hub(runners=1) as hub:
        _, whole = await hub.run("replay.crashing", text="hello")
        again = await repeat(hub, whole)
        assert again.event.status is EventStatus.SUCCEEDED, again.event.last_error
        runs = await hub.executions(again.event.id)
        assert [run.status for run in runs] == [ExecutionStatus.CRASHED, ExecutionStatus.SUCCEEDED]
        assert {run.parent_id for run in runs} == {whole.execution.id}
        assert (again.output, again.told) == ("hello", AS_RECORDED)
    assert len(wire.requests) == 1


async def test_what_went_on_after_a_crash_is_repeated_from_the_beginning(
    open_hub: OpenHub, wire: FakeOpenAI
) -> None:
    wire.answer(lambda request: f"said {request.body['messages'][-1]['content']}")
    async with open_hub(runners=1) as hub:
        event, whole = await hub.run("replay.surviving", text="bird")
        runs = await hub.executions(event.id)
        assert [run.status for run in runs] == [ExecutionStatus.CRASHED, ExecutionStatus.SUCCEEDED]
        assert [one.operation for one in whole.steps] == ["fall", "late"]
        assert len(wire.requests) == 2
        again = await repeat(hub, whole)
        assert again.event.status is EventStatus.SUCCEEDED, again.event.last_error
        assert again.output == "said Late said Early bird"
        assert [one.operation for one in again.whole.steps] == ["early", "fall", "late"]
        assert again.told == AS_RECORDED
        onward = await repeat(hub, whole, Plan(start="late"))
        assert onward.output == again.output
    assert len(wire.requests) == 3


async def test_a_record_too_long_to_hand_over_is_told(
    open_hub: OpenHub, wire: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire.answer(scores)
    async with open_hub(runners=1) as hub:
        _, whole = await hub.run("replay.scoring", text="Ada")
        calls = len(wire.requests)
        monkeypatch.setattr("holdfast.hub.process_worker.MAX_MESSAGE", 500)
        again = await repeat(hub, whole)
        assert again.event.status is EventStatus.FAILED
        assert again.execution.error is not None
        assert again.execution.error["code"] == "port_failed"
        assert "records.replayed" in again.execution.error["message"]
    assert len(wire.requests) == calls


async def test_a_replay_from_the_record_is_not_paused(
    open_hub: OpenHub, wire: FakeOpenAI, notes: Path
) -> None:
    async with open_hub(runners=1) as hub:
        _, whole = await hub.run("replay.holding")
        sent = await replay(hub.kit, whole.execution.id, LOCAL_OWNER, Plan())
        await until(Path(f"{notes}.held"))
        id_ = (await read.event(hub.kit, sent.id, LOCAL_OWNER)).execution_id
        assert id_ is not None
        with pytest.raises(IllegalMove, match="from a record"):
            await pause(hub.kit, id_, LOCAL_OWNER)
        # Even a wish that got through must not let it go on live.
        hub.kit.bus.publish(Notice(PAUSE, event_id=sent.id, execution_id=id_))
        await asyncio.sleep(0)
        Path(f"{notes}.open").touch()
        event = await hub.ended(sent.id)
        assert (event.status, event.execution_id) == (EventStatus.SUCCEEDED, id_)
    assert len(wire.requests) == 1


async def test_edited_code_and_code_that_is_gone(
    open_hub: OpenHub,
    hub_environ: dict[str, str],
    wire: FakeOpenAI,
) -> None:
    wire.answer(scores)
    async with open_hub(runners=1) as hub:
        _, whole = await hub.run("replay.scoring", text="Ada", items=["i1"])
        calls = len(wire.requests)
    hub_environ["REPLAY_APP_EDITED"] = "1"
    async with open_hub(runners=1) as hub:
        again = await repeat(hub, whole)
        assert again.told == AS_RECORDED | {"differs": [{"step": "first", "what": ["prompt.user"]}]}
    assert len(wire.requests) == calls
    hub_environ["HOLDFAST_APPS"] = "spine_app"
    async with open_hub(runners=1) as hub:
        with pytest.raises(UnknownPipeline):
            await replay(hub.kit, whole.execution.id, LOCAL_OWNER, Plan())


async def test_what_a_recorder_told_cannot_be_repeated(
    open_hub: OpenHub, hub_environ: dict[str, str]
) -> None:
    from holdfast import Recorder

    async with open_hub(runners=1) as hub:
        recorder = Recorder("script", home=Path(hub_environ["HOLDFAST_HOME"]))
        with recorder.execution("script.run"):
            pass
        await asyncio.to_thread(recorder.close)

        async def stored() -> bool:
            return bool(
                await hub.kit.store.read(ListExecutions(owner_id=LOCAL_OWNER, name="script.run"))
            )

        await until_true(stored)
        (run,) = await hub.kit.store.read(ListExecutions(owner_id=LOCAL_OWNER, name="script.run"))
        with pytest.raises(NotReplayable, match="recorded where it ran"):
            await replay(hub.kit, run.id, LOCAL_OWNER, Plan())

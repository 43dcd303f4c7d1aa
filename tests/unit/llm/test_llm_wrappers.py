"""What stands around a model call: tries, stand-ins, limits, time, kept answers; all on record."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from pydantic import BaseModel

from holdfast.domain.breakers import Outcome
from holdfast.domain.redelivery import Backoff
from holdfast.domain.status import ExecutionStatus
from holdfast.errors import BreakerOpen, ModelError
from holdfast.llm.calls import asks_anew
from holdfast.llm.factory import Models
from holdfast.llm.wrappers.base import Failed
from holdfast.llm.wrappers.retry import RetryChatModel
from holdfast.ports import Allowance, ModelConfig, Permit, running_execution
from holdfast.recording import Collector, RecordingHandler
from holdfast.testing.ports import MemoryCache, MemorySink, Recorded
from holdfast.testing.providers import FakeAnswer, FakeAnthropic, FakeOpenAI

ASK = [HumanMessage("how are you")]
DOWN = FakeAnswer(status=503)
BUSY = FakeAnswer(status=429)
AT_ONCE = {"first": 0.001, "most": 0.001}
WAYS = ("ainvoke", "invoke", "astream", "stream")


class Verdict(BaseModel):
    spam: float


@tool
def weather(city: str) -> str:
    """Tell the weather."""
    return f"rain in {city}"


class Guard:
    """Breakers that refuse whom they are told to."""

    def __init__(self) -> None:
        self.closed_ways: set[str] = set()
        self.ended: list[tuple[str, Outcome]] = []

    async def allow(self, breaker: str) -> Permit:
        return self.allow_in_thread(breaker)

    def allow_in_thread(self, breaker: str) -> Permit:
        vendor = breaker.partition("@")[0]
        if vendor in self.closed_ways:
            raise BreakerOpen(f"{breaker} is open", breaker=vendor, until=len(vendor))
        return Permit(breaker)

    def report(self, permit: Permit, outcome: Outcome, reason: str = "") -> bool:
        self.ended.append((permit.breaker.partition("@")[0], outcome))
        return False


class Counted:
    """A `LimitsPort` that notes what it is asked and told."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Mapping[str, int], int]] = []
        self.settled: list[tuple[bool, int | None]] = []
        self.wait_s = 0.0
        self.refuse = False

    async def take(
        self, *, execution_id: str, name: str, limits: Mapping[str, int], tokens: int
    ) -> Allowance:
        if self.refuse:
            raise ModelError("too many", error_class="rate_limit")
        self.asked.append((name.partition("@")[0], limits, tokens))
        return Allowance(name, str(len(self.asked)), self.wait_s)

    def settle(self, allowance: Allowance, *, made: bool, tokens: int | None) -> None:
        self.settled.append((made, tokens))


class World:
    """Two vendors, all ports, and a record of what is called."""

    def __init__(self, openai: FakeOpenAI, anthropic: FakeAnthropic) -> None:
        self.openai, self.anthropic = openai, anthropic
        self.guard, self.counted, self.cache = Guard(), Counted(), MemoryCache()
        self.sink = MemorySink()
        self.collector = Collector("x1", self.sink)
        self.followers: list[BaseCallbackHandler] = []
        self.made: list[Models] = []

    def model(self, *, parameters: Any = None, others: Any = None, **fields: Any) -> Any:
        """The alias `fast` on OpenAI; `other` is Anthropic's, `third` again OpenAI's."""
        configs = {
            "fast": ModelConfig(
                alias="fast",
                provider="openai",
                model="gpt-6-luna",
                base_url=self.openai.url,
                parameters=parameters or {},
                **fields,
            ),
            "other": ModelConfig(
                alias="other",
                provider="anthropic",
                model="claude-sonnet-5-5",
                base_url=self.anthropic.url,
                api_key="k",
                **(others or {}),
            ),
            "third": ModelConfig(
                alias="third", provider="openai", model="gpt-6-astra", base_url=self.openai.url
            ),
        }
        models = Models(configs, self.guard, limits=self.counted, cache=self.cache)
        self.made.append(models)
        return models.chat("fast")

    async def ask(self, model: Any, how: str = "ainvoke", given: Any = ASK) -> str:
        """Call it in one of four ways; its text, or that of its pieces."""
        config = {"callbacks": [RecordingHandler(self.collector), *self.followers]}
        match how:
            case "ainvoke":
                return str((await model.ainvoke(given, config)).text)
            case "invoke":
                return str((await asyncio.to_thread(model.invoke, given, config)).text)
            case "astream":
                return "".join([str(p.text) async for p in model.astream(given, config)])
            case _:
                pieces = await asyncio.to_thread(lambda: list(model.stream(given, config)))
                return "".join(str(p.text) for p in pieces)

    @property
    def record(self) -> Recorded:
        self.collector.finish(ExecutionStatus.SUCCEEDED)
        return self.sink.record("x1")

    def tries(self) -> list[tuple[Any, ...]]:
        return [(a.provider, a.status, a.error_class, a.usage) for a in self.record.attempts]


@pytest.fixture(scope="module")
def servers() -> Any:
    with FakeOpenAI() as openai, FakeAnthropic() as anthropic:
        yield openai, anthropic


@pytest.fixture
async def world(servers: Any) -> AsyncIterator[World]:
    for server in servers:
        server.requests.clear()
        server.answer(["fine as ever"])
    made = World(*servers)
    token = running_execution.set("x1")
    yield made
    running_execution.reset(token)
    for models in made.made:
        await models.aclose()


@pytest.mark.parametrize("how", WAYS)
async def test_each_try_is_an_attempt_of_its_own(world: World, how: str) -> None:
    world.openai.answer([DOWN, BUSY, "fine"])
    chat = world.model(retries=2, backoff=AT_ONCE)
    assert await world.ask(chat.model, how) == "fine"
    assert world.tries() == [
        ("openai", "failed", "temporary", "unbilled"),
        ("openai", "failed", "rate_limit", "unbilled"),
        ("openai", "succeeded", None, "reported"),
    ]
    (step,) = world.record.steps
    assert (step.kind, step.status) == ("model", "succeeded")
    attempts = world.record.attempts
    assert [a.http_status for a in attempts] == [503, 429, None]
    assert [a.call for a in attempts] == [1, 1, 1]
    assert all(a.messages is not None for a in attempts)
    assert world.record.text(attempts[2].raw_response)["content"] == "fine"
    assert [(a.tokens_input, a.tokens_output) for a in attempts[2:]] == [
        (r.tokens_input, r.tokens_output) for r in world.openai.requests[2:]
    ]
    assert {outcome for _, outcome in world.guard.ended} == {
        Outcome.TEMPORARY,
        Outcome.RATE_LIMIT,
        Outcome.OK,
    }, "each try was told to the breaker"


@pytest.mark.parametrize(
    ("answer", "asked"),
    [
        (FakeAnswer(status=400), 1),
        (FakeAnswer(status=401), 1),
        (FakeAnswer(status=429, error_code="insufficient_quota"), 1),
        (FakeAnswer(status=429, headers={"retry-after": "61"}), 1),
        (FakeAnswer(status=503, headers={"retry-after": "0"}), 3),
    ],
)
async def test_only_what_may_be_gone_the_next_time_is_tried_again(
    world: World, answer: FakeAnswer, asked: int
) -> None:
    world.openai.answer([answer])
    with pytest.raises(Exception, match=str(answer.status)):
        await world.ask(world.model(retries=2, backoff=AT_ONCE).model)
    assert len(world.openai.requests) == len(world.tries()) == asked
    (step,) = world.record.steps
    assert (step.status, step.error_phase) == ("failed", "provider")


def test_what_the_provider_asks_to_wait_is_waited_for(world: World) -> None:
    model = RetryChatModel(inner=world.model().model, retries=1, backoff=Backoff(first=3, jitter=0))
    for asked, paused in ((7.0, 7.0), (0.5, 3.0), (61.0, None)):
        error = ModelError("busy", error_class="rate_limit")
        error.retry_after_s = asked
        then = model._after(Failed({}, [error]))
        assert (None if then is None else then.pause_s) == paused


@pytest.mark.parametrize("how", ["ainvoke", "invoke"])
async def test_an_answer_that_breaks_off_is_asked_for_again(world: World, how: str) -> None:
    world.openai.answer([FakeAnswer(text="one two three", cut_after=2), "whole"])
    assert await world.ask(world.model(retries=1, backoff=AT_ONCE).model, how) == "whole"
    assert world.tries() == [
        ("openai", "failed", "temporary", "unknown"),
        ("openai", "succeeded", None, "reported"),
    ]
    assert world.record.attempts[0].cost_pico is None, "cut: nobody knows what it cost"


@pytest.mark.parametrize("how", ["astream", "stream"])
async def test_a_stream_that_has_said_something_is_not_begun_anew(world: World, how: str) -> None:
    world.openai.answer([FakeAnswer(text="one two three", cut_after=2), "whole"])
    with pytest.raises(Exception):  # noqa: B017, PT011 - the client's own
        await world.ask(world.model(retries=1, fallbacks=["other"]).model, how)
    assert len(world.openai.requests) == 1
    assert not world.anthropic.requests
    assert world.tries() == [("openai", "failed", "temporary", "unknown")]


@pytest.mark.parametrize("how", ["astream", "stream"])
async def test_a_stream_that_has_said_nothing_is(world: World, how: str) -> None:
    world.openai.answer([FakeAnswer(chunks=("", "one"), cut_after=1), "whole"])
    config = {"callbacks": [RecordingHandler(world.collector)]}
    model = world.model(retries=1, backoff=AT_ONCE).model
    if how == "astream":
        pieces = [piece async for piece in model.astream(ASK, config)]
    else:
        pieces = await asyncio.to_thread(lambda: list(model.stream(ASK, config)))
    whole = pieces[0]
    for piece in pieces[1:]:
        whole += piece
    assert whole.text == "whole"
    assert whole.response_metadata["model_name"] == "gpt-6-luna", "nothing of the first is left"
    assert [one[1] for one in world.tries()] == ["failed", "succeeded"]


@pytest.mark.parametrize("how", WAYS)
async def test_another_vendor_answers_in_the_place_of_one_that_is_away(
    world: World, how: str
) -> None:
    world.openai.answer([DOWN])
    chat = world.model(retries=1, backoff=AT_ONCE, fallbacks=["other"])
    assert await world.ask(chat.model, how) == "fine as ever"
    assert world.tries() == [
        ("openai", "failed", "temporary", "unbilled"),
        ("openai", "failed", "temporary", "unbilled"),
        ("anthropic", "succeeded", None, "reported"),
    ]
    billed = world.record.attempts[2]
    (request,) = world.anthropic.requests
    assert (billed.model, billed.tokens_input) == ("claude-sonnet-5-5", request.tokens_input)
    assert billed.cost_pico > 0


async def test_a_refused_call_is_on_record_and_falls_back(world: World) -> None:
    world.guard.closed_ways = {"openai"}
    assert await world.ask(world.model(retries=3, fallbacks=["other"]).model) == "fine as ever"
    assert world.tries() == [
        ("openai", "failed", "temporary", "none"),
        ("anthropic", "succeeded", None, "reported"),
    ]
    assert world.record.attempts[0].error["code"] == "breaker_open"
    assert world.record.attempts[0].cost_pico == 0
    assert not world.openai.requests


async def test_where_all_are_refused_the_first_to_be_back_is_waited_for(world: World) -> None:
    world.guard.closed_ways = {"openai", "anthropic"}
    with pytest.raises(BreakerOpen) as raised:
        await world.ask(world.model(fallbacks=["other"]).model)
    assert raised.value.breaker == "openai", "until 6, the other until 9"


@pytest.mark.parametrize(
    ("answer", "falls"),
    [
        (FakeAnswer(status=400), False),
        (FakeAnswer(status=404), False),
        (BUSY, True),
        (FakeAnswer(status=429, error_code="insufficient_quota"), True),
        (FakeAnswer(status=500), True),
    ],
)
async def test_what_is_wrong_with_the_request_is_wrong_for_others(
    world: World, answer: FakeAnswer, falls: bool
) -> None:
    world.openai.answer([answer])
    model = world.model(fallbacks=["other"]).model
    if falls:
        assert await world.ask(model) == "fine as ever"
    else:
        with pytest.raises(Exception, match=str(answer.status)):
            await world.ask(model)
    assert bool(world.anthropic.requests) is falls


async def test_fallbacks_of_fallbacks_are_asked_each_once_in_order(world: World) -> None:
    world.openai.answer([DOWN])
    world.anthropic.answer([FakeAnswer(status=529)])
    model = world.model(fallbacks=["other"], others={"fallbacks": ["third", "fast"]}).model
    with pytest.raises(Exception, match="503"):
        await world.ask(model)
    assert [a.parameters.get("model") or a.model for a in world.record.attempts] == [
        "gpt-6-luna",
        "claude-sonnet-5-5",
        "gpt-6-astra",
    ]


async def test_each_vendor_is_given_the_schema_in_its_own_words(world: World) -> None:
    world.openai.answer([DOWN])
    world.anthropic.answer(['{"spam": 1}'])
    chat = world.model(fallbacks=["other"])
    model = chat.model.bind(**chat.options(operation="judge", schema=Verdict))
    assert await world.ask(model) == '{"spam": 1}'
    (first,), (second,) = world.openai.requests, world.anthropic.requests
    assert first.body["response_format"]["json_schema"]["name"] == "Verdict"
    assert "response_format" not in second.body
    assert "spam" in str(second.body["output_config"])
    # Its client would take the other one's words too: that is luck.
    assert "response_format" not in world.record.attempts[1].parameters
    assert not any(
        name.startswith("holdfast")
        for body in (first.body, second.body, *(a.parameters for a in world.record.attempts))
        for name in body
    )


@pytest.mark.parametrize("down", [False, True])
async def test_tools_and_all_their_calls_come_through_the_wrappers(
    world: World, down: bool
) -> None:
    calls = (
        {"name": "weather", "args": {"city": "Bonn"}},
        {"name": "weather", "args": {"city": "Ulm"}},
    )
    world.openai.answer([DOWN if down else FakeAnswer(tool_calls=calls)])
    world.anthropic.answer([FakeAnswer(tool_calls=calls)])
    model = world.model(
        retries=1, backoff=AT_ONCE, fallbacks=["other"], time_limit_s=60
    ).model.bind_tools([weather])
    answer = await model.ainvoke(ASK)
    assert [call["args"] for call in answer.tool_calls] == [{"city": "Bonn"}, {"city": "Ulm"}]
    request = (world.anthropic if down else world.openai).requests[0]
    assert "weather" in str(request.body["tools"])


@pytest.mark.parametrize("down", [False, True])
async def test_structured_output_comes_through_the_wrappers(world: World, down: bool) -> None:
    call = {"name": "Verdict", "args": {"spam": 0.5}}
    world.openai.answer([DOWN if down else FakeAnswer(tool_calls=(call,))])
    world.anthropic.answer([FakeAnswer(tool_calls=(call,))])
    model = world.model(fallbacks=["other"]).model.with_structured_output(Verdict)
    assert await model.ainvoke(ASK) == Verdict(spam=0.5)


async def test_a_graph_made_elsewhere_uses_its_tools_over_a_stand_in(world: World) -> None:
    from langgraph.graph import START, MessagesState, StateGraph
    from langgraph.prebuilt import ToolNode, tools_condition

    call = {"name": "weather", "args": {"city": "Bonn"}}
    world.openai.answer([DOWN])
    world.anthropic.answer([FakeAnswer(tool_calls=(call,)), "Take a coat."])
    model = world.model(fallbacks=["other"]).model.bind_tools([weather])

    async def think(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("think", think)
    graph.add_node("tools", ToolNode([weather]))
    graph.add_edge(START, "think")
    graph.add_conditional_edges("think", tools_condition)
    graph.add_edge("tools", "think")
    agent = graph.compile()
    config = {"callbacks": [RecordingHandler(world.collector)]}
    said = await agent.ainvoke({"messages": ASK}, config)
    assert [m.text for m in said["messages"][2:]] == ["rain in Bonn", "Take a coat."]
    assert [one[:2] for one in world.tries()] == [
        ("openai", "failed"),
        ("anthropic", "succeeded"),
    ] * 2


class Follower(BaseCallbackHandler):
    """Follows the pieces of a call."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def on_llm_new_token(self, token: Any, **kwargs: Any) -> None:
        self.heard.append(token if isinstance(token, str) else str(kwargs["chunk"].text))


@pytest.mark.parametrize("how", ["ainvoke", "astream"])
async def test_pieces_are_followed_live(world: World, how: str) -> None:
    world.followers.append(Follower())
    await world.ask(world.model(retries=1, time_limit_s=60).model, how)
    assert "".join(world.followers[0].heard) == "fine as ever"
    assert len(world.followers[0].heard) > 2
    assert "".join(text for _, text in world.sink.tokens_of["x1"]) == "fine as ever"
    assert world.record.attempts[0].first_token_us is not None


@pytest.mark.parametrize("how", ["ainvoke", "astream"])
@pytest.mark.parametrize("hold", [0, 1])
async def test_a_call_that_takes_too_long_is_given_up(world: World, how: str, hold: int) -> None:
    world.openai.answer([FakeAnswer(text="one two", hold_after=hold)])
    with pytest.raises(ModelError, match=r"within 0\.3 s") as raised:
        await world.ask(world.model(time_limit_s=0.3, retries=1, backoff=AT_ONCE).model, how)
    world.openai.release()
    assert raised.value.error_class == "temporary"
    tries = 1 if hold and how == "astream" else 2
    assert world.tries() == [("openai", "failed", "temporary", "unknown")] * tries
    assert world.guard.ended == [("openai", Outcome.TEMPORARY)] * tries, "the breaker hears of it"


async def test_the_time_that_a_reader_takes_is_not_the_models(world: World) -> None:
    stream = world.model(time_limit_s=5).model.astream(ASK)
    await anext(stream)
    assert [piece.text async for piece in stream]


async def test_a_blocking_stream_ends_between_two_pieces(world: World) -> None:
    def read() -> None:
        for _ in world.model(time_limit_s=0.2).model.stream(ASK):
            time.sleep(0.3)

    with pytest.raises(ModelError, match="time_limit_s"):
        await asyncio.to_thread(read)


async def test_silence_is_bounded_where_nothing_can_be_stopped(world: World) -> None:
    world.openai.answer([FakeAnswer(text="never", hold_after=0)])
    with pytest.raises(Exception, match="(?i)timed out|timeout"):
        await world.ask(world.model(time_limit_s=0.3).model, "invoke")
    world.openai.release()


@pytest.mark.parametrize("how", WAYS)
async def test_limits_are_asked_before_and_told_after(world: World, how: str) -> None:
    limits = {"tokens_per_minute": 5000}
    model = world.model(limits=limits, parameters={"max_tokens": 100}).model
    await world.ask(model, how)
    ((name, asked, tokens),) = world.counted.asked
    assert (name, asked) == ("openai", limits)
    assert 100 < tokens < 150, "what is sent, and all that the answer may take"
    (request,) = world.openai.requests
    assert world.counted.settled == [(True, request.tokens_input + request.tokens_output)]


async def test_what_a_cut_call_took_stays_the_estimate(world: World) -> None:
    world.openai.answer([FakeAnswer(text="one two", cut_after=1)])
    with pytest.raises(Exception):  # noqa: B017, PT011
        await world.ask(world.model(limits={"tokens_per_minute": 5000}).model)
    assert world.counted.settled == [(True, None)]


async def test_a_call_that_is_given_up_while_it_waits_is_given_back(world: World) -> None:
    world.counted.wait_s = 60
    asking = asyncio.create_task(world.ask(world.model(limits={"in_flight": 1}).model))
    while not world.counted.asked:
        await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert world.counted.settled == [(False, None)]
    assert world.tries() == []


async def test_a_call_that_never_fits_says_so(world: World) -> None:
    with pytest.raises(ModelError, match="never fits") as raised:
        await world.ask(world.model(limits={"tokens_per_minute": 5}, fallbacks=["other"]).model)
    assert raised.value.error_class == "permanent"
    assert world.tries() == [("openai", "failed", "permanent", "none")]


async def test_limits_that_are_reached_let_others_answer(world: World) -> None:
    world.counted.refuse = True
    model = world.model(limits={"in_flight": 1}, fallbacks=["other"]).model
    assert await world.ask(model) == "fine as ever"
    assert [one[:3] for one in world.tries()] == [
        ("openai", "failed", "rate_limit"),
        ("anthropic", "succeeded", None),
    ]


@pytest.mark.parametrize("how", WAYS)
async def test_the_same_call_is_answered_from_the_cache(world: World, how: str) -> None:
    world.openai.answer(["one two", "three"])
    model = world.model(response_cache_s=60, fallbacks=["other"]).model
    assert await world.ask(model, how) == "one two"
    assert await world.ask(model, how) == "one two"
    assert await world.ask(model, how, [HumanMessage("another")]) == "three"
    assert len(world.openai.requests) == 2
    first, kept, other = world.record.attempts
    assert (kept.usage, kept.cost_pico, kept.tokens_input) == ("cached", 0, None)
    assert (kept.provider, kept.model, kept.status) == ("openai", "gpt-6-luna", "succeeded")
    assert world.record.text(kept.raw_response)["content"] == "one two"
    totals = world.record.running.execution().totals
    assert totals.cost_pico == first.cost_pico + other.cost_pico
    assert totals.usage_unknown == totals.cost_unknown == 0
    ((_, ttl),) = {(result.execution_id, ttl) for result, ttl in world.cache.kept.values()}
    assert ttl == 60


async def test_tools_and_schemas_are_part_of_the_call(world: World) -> None:
    chat = world.model(response_cache_s=60)
    for model in (
        chat.model,
        chat.model.bind_tools([weather]),
        chat.model.bind(**chat.options(operation="x", schema=Verdict)),
        chat.model.bind(stop=["x"]),
        world.model(response_cache_s=60, parameters={"temperature": 0.5}).model,
    ):
        await world.ask(model)
    assert len(world.openai.requests) == 5


@pytest.mark.parametrize("how", ["ainvoke", "astream"])
async def test_tool_calls_are_kept(world: World, how: str) -> None:
    call = {"name": "weather", "args": {"city": "Bonn"}}
    world.openai.answer([FakeAnswer(tool_calls=(call,))])
    model = world.model(response_cache_s=60).model.bind_tools([weather])
    said = []
    for _ in range(2):
        if how == "ainvoke":
            said.append(await model.ainvoke(ASK))
        else:
            pieces = [piece async for piece in model.astream(ASK)]
            whole = pieces[0]
            for piece in pieces[1:]:
                whole += piece
            said.append(whole)
    assert len(world.openai.requests) == 1
    assert [one.tool_calls[0]["args"] for one in said] == [{"city": "Bonn"}] * 2
    assert said[1].response_metadata["cached_from"] == "x1"
    assert said[1].usage_metadata is None


async def test_failures_and_replays_leave_the_cache_alone(world: World) -> None:
    world.openai.answer([DOWN, "fine"])
    model = world.model(response_cache_s=60).model
    with pytest.raises(Exception, match="503"):
        await world.ask(model)
    assert not world.cache.kept
    token = asks_anew.set(True)
    await world.ask(model)
    asks_anew.reset(token)
    assert not world.cache.kept
    world.cache.refuse = "away"
    assert await world.ask(model) == "fine"


async def test_a_stream_that_nobody_reads_on_is_a_cancelled_attempt(world: World) -> None:
    model = world.model(retries=2, fallbacks=["other"], time_limit_s=60, response_cache_s=60).model
    stream = model.astream(ASK, {"callbacks": [RecordingHandler(world.collector)]})
    await anext(stream)
    await stream.aclose()
    assert [one[1] for one in world.tries()] == ["cancelled"]
    assert not world.cache.kept, "half an answer is none"


async def test_calls_side_by_side_keep_their_tries_apart(world: World) -> None:
    def answer(request: Any) -> FakeAnswer:
        text = str(request.body["messages"][-1]["content"])
        seen = [r for r in world.openai.requests if r.body == request.body]
        return FakeAnswer(text=text) if len(seen) > int(text) else DOWN

    world.openai.answer(answer)
    model = world.model(retries=3, backoff=AT_ONCE).model
    config = {"callbacks": [RecordingHandler(world.collector)]}
    asked = [[HumanMessage(str(n))] for n in (0, 1, 2, 3)]
    said = await model.abatch(asked, config)
    assert [one.text for one in said] == ["0", "1", "2", "3"]
    record = world.record
    for step in record.steps:
        mine = [a for a in record.attempts if a.step == step.step]
        text = record.text(mine[-1].raw_response)["content"]
        assert len(mine) == int(text) + 1
        assert {record.text(a.prompt_user) for a in mine} == {text}

"""Functions as tools: what the model is shown, where they run, what comes back."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, Literal

import pytest
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from pydantic import BaseModel

from holdfast.agents.tools.base import MAX_RESULT_CHARS
from holdfast.domain.status import StepStatus
from holdfast.errors import DeclarationError
from holdfast.pipelines.context import current_run
from holdfast.ports import EmbeddingCall, KnowledgeAnswer, NoKnowledge

from .conftest import Agents, Rules, agent, function, results, simple


class Order(BaseModel):
    id: int


def shown(parts: Any, fn: Any, **more: Any) -> Any:
    """A function as the agent's tool."""
    setattr(parts, fn.__name__, fn)
    declared: Any = agent(simple(tools=[function(fn.__name__, **more)]))
    return declared.tools[fn.__name__]


def test_the_signature_is_the_schema_and_the_docstring_the_description(parts: Any) -> None:
    def book(seats: int, row: Literal["front", "back"] = "back") -> str:
        """Book seats.

        Args:
            seats: how many.
            row: where.
        """
        return ""

    made = shown(parts, book)
    assert made.tool.description.startswith("Book seats.")
    args = made.tool.args
    assert args["seats"]["type"] == "integer"
    assert args["seats"]["description"] == "how many."
    assert args["row"]["enum"] == ["front", "back"]
    assert args["row"]["default"] == "back"


async def test_blocking_code_runs_in_a_thread_of_its_execution(parts: Any) -> None:
    seen: dict[str, Any] = {}

    def where() -> str:
        """Say where."""
        run = current_run()
        seen.update(thread=threading.current_thread(), session=run.session_id, event=run.event_id)
        return "there"

    parts.where = where
    parts.rules = Rules([("where", {})], "done")
    await Agents(agent(simple(tools=[function("where")]))).say()
    assert seen["thread"] is not threading.main_thread()
    assert seen["session"] == "s1"
    assert seen["event"].startswith("event of")


@pytest.mark.parametrize(
    ("result", "told"),
    [
        ("text", "text"),
        ({"a": [1, 2]}, '{"a":[1,2]}'),
        (None, "null"),
        (3.5, "3.5"),
        ("", ""),
    ],
)
async def test_results_reach_the_model_as_text_or_json(parts: Any, result: Any, told: str) -> None:
    def give() -> Any:
        """Give something."""
        return result

    parts.give = give
    parts.rules = Rules([("give", {})], "done")
    await Agents(agent(simple(tools=[function("give")]))).say()
    assert results(parts.rules.asked[-1])[0].text == told


async def test_models_come_back_as_json_and_long_results_are_cut(parts: Any) -> None:
    def order() -> Order:
        """An order."""
        return Order(id=1)

    async def long() -> str:
        """Much."""
        return "x" * (MAX_RESULT_CHARS + 500)

    parts.order, parts.long = order, long
    parts.rules = Rules([("order", {}), ("long", {})], "done")
    await Agents(agent(simple(tools=[function("order"), function("long")]))).say()
    first, second = results(parts.rules.asked[-1])
    assert first.text == '{"id":1}'
    assert second.text.startswith("x" * MAX_RESULT_CHARS)
    assert second.text.endswith(f"500 of {MAX_RESULT_CHARS + 500} characters are left out")


async def test_a_tool_of_langchains_is_taken_as_it_is(parts: Any) -> None:
    @tool("renamed")
    def double(n: int) -> int:
        """Double it."""
        return n * 2

    parts.double = double
    parts.rules = Rules([("renamed", {"n": 4})], "done")
    await Agents(agent(simple(tools=[function("double")]))).say()
    assert results(parts.rules.asked[-1])[0].text == "8"


async def test_a_tool_may_ask_for_langchains_configuration(parts: Any) -> None:
    def thread(config: RunnableConfig) -> str:
        """The thread."""
        return str(config["configurable"]["thread_id"])

    parts.thread = thread
    parts.rules = Rules([("thread", {})], "done")
    agents = Agents(agent(simple(tools=[function("thread")])))
    await agents.say(spec={"event_id": "e-7"})
    assert results(parts.rules.asked[-1])[0].text == "e-7"
    assert parts.rules.asked[0].tools == ("thread",)


async def test_a_turns_time_stops_a_tool_that_hangs(parts: Any) -> None:
    begun = asyncio.Event()

    async def hang() -> str:
        """Never come back."""
        begun.set()
        await asyncio.Event().wait()
        return ""

    parts.hang = hang
    parts.rules = Rules([("hang", {})])
    agents = Agents(agent(simple(tools=[function("hang")])))
    execution_id = agents.start()
    await begun.wait()
    assert agents.engine.cancel(execution_id)
    await agents.engine.drain()
    record = agents.sink.record(execution_id)
    assert str(record.finished.status) == "cancelled"
    assert record.step("hang").status is StepStatus.CANCELLED


def test_a_turns_time_is_its_deadline(parts: Any) -> None:
    assert agent(simple(limits={"turn_s": 7})).deadline == 7


# -- what is no tool -------------------------------------------------------------------------------


def no_docstring(a: int) -> int:
    return a


def varied(*args: int) -> int:
    """Take any."""
    return sum(args)


def of_nothing(a: NoSuchType) -> int:  # noqa: F821
    """Take what is not there."""
    return 0


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (5, "is int and no function"),
        (BaseModel, "and no function"),
        (no_docstring, "has no docstring"),
        (varied, "no name of their own"),
        (of_nothing, "cannot be described"),
    ],
)
def test_what_is_no_tool_is_refused_with_its_place(parts: Any, value: Any, told: str) -> None:
    parts.thing = value
    with pytest.raises(DeclarationError, match=told) as caught:
        agent(simple(tools=[function("thing")])).check()
    assert "agent desk: simple.settings.tools.0" in caught.value.message


def test_two_tools_of_one_name_are_refused(parts: Any) -> None:
    @tool("same")
    def first() -> str:
        """One."""
        return ""

    @tool("same")
    def second() -> str:
        """Two."""
        return ""

    parts.first, parts.second = first, second
    with pytest.raises(DeclarationError, match=r"tools\.1: a tool is called 'same' already"):
        agent(simple(tools=[function("first"), function("second")])).check()


def test_a_hub_can_look_at_an_agent_without_importing_its_tools() -> None:
    declared = agent(simple(tools=[{"type": "function", "path": "no.such:tool"}], critique={}))
    told = declared.describe()
    assert {one["name"] for one in told["nodes"]} >= {"recall", "agent", "tools", "critique"}
    assert declared.code_version
    assert declared.validate({"text": "x", "message_id": "m", "channel": "api"}).text == "x"
    with pytest.raises(DeclarationError, match=r"no\.such cannot be imported"):
        declared.check()


def test_the_code_version_changes_with_the_configuration() -> None:
    one, two = agent(simple(markdown=True)), agent(simple(markdown=False))
    assert one.code_version == agent(simple(markdown=True)).code_version
    assert one.code_version != two.code_version


# -- knowledge -------------------------------------------------------------------------------------


class Library(NoKnowledge):
    """A `KnowledgePort` with one passage."""

    def __init__(self, **answer: Any) -> None:
        self.asked: list[Any] = []
        hit = {
            "key": "manual",
            "n": 0,
            "text": "Press the button.",
            "score": 1.0,
            "similarity": 0.9,
            "metadata": {},
        }
        call = EmbeddingCall(provider="hashing", model="h", at=1, duration_us=5, texts=1, tokens=3)
        self.answer = KnowledgeAnswer(**({"value": [hit], "calls": [call]} | answer))

    async def search(self, *, execution_id: str, asked: Any) -> KnowledgeAnswer:
        self.asked.append(asked)
        return self.answer


KNOWS = {"knowledge": [{"collection": "user.manuals", "limit": 2, "description": "how to"}]}


async def test_knowledge_is_searched_by_a_tool_of_its_own(parts: Any) -> None:
    parts.rules = Rules([("search_user_manuals", {"query": "start"})], "done")
    library = Library()
    record = await Agents(agent(simple(**KNOWS)), knowledge=library).say()
    assert library.asked == [
        {"collection": "user.manuals", "mode": "hybrid", "limit": 2, "query": "start"}
    ]
    assert results(parts.rules.asked[-1])[0].text == "[manual]\nPress the button."
    step = record.step("search_user_manuals")
    (embedding,) = [one for one in record.attempts if one.step == step.step]
    assert embedding.provider == "hashing", "what the search cost is on its step"


async def test_a_search_that_fails_is_told_to_the_model(parts: Any) -> None:
    parts.rules = Rules([("search_user_manuals", {"query": "start"})], "sorry")
    error = {"code": "not_found", "message": "no such collection", "hint": ""}
    record = await Agents(agent(simple(**KNOWS)), knowledge=Library(value=None, error=error)).say()
    assert record.output["response"] == "sorry"
    assert "no such collection" in results(parts.rules.asked[-1])[0].text

"""Foreign graphs as agents: their memory is the session's thread, turn by turn."""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import interrupt

from holdfast.domain.status import ExecutionStatus
from holdfast.errors import DeclarationError
from holdfast.testing.ports import Recorded

from .conftest import PARTS, Agents, agent
from .test_waiting import Stored, going_on

X = ExecutionStatus


def chatting(parts: Any, **compile_: Any) -> Any:
    """A graph that answers with all it remembers."""
    parts.fails = False

    async def answer(state: MessagesState) -> dict[str, Any]:
        if parts.fails:
            raise RuntimeError("broken")
        told = [str(one.text) for one in state["messages"] if isinstance(one, HumanMessage)]
        return {"messages": [AIMessage(" | ".join(told))]}

    builder = StateGraph(MessagesState)
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")
    builder.add_edge("answer", END)
    parts.graph = builder.compile(**compile_)
    return graph_config()


def graph_config(**settings: Any) -> dict[str, Any]:
    return {"graph": {"settings": {"graph": f"{PARTS}:graph", **settings}}}


class Talk:
    """Turns of sessions over one store, each by an engine of its own: a restart every time."""

    def __init__(self, config: Any) -> None:
        self.config = config
        self.stored = Stored()

    async def say(
        self, text: str, session: str = "s1", *, keep: bool = True, **spec: Any
    ) -> Recorded:
        agents = Agents(agent(self.config), checkpoints=self.stored)
        record = await agents.say(text, spec={"session_id": session, **spec})
        if keep and record.finished.status in (X.SUCCEEDED, X.WAITING):
            await self.stored.take(record)
        return record


async def test_a_graph_remembers_its_session_over_restarts_and_no_other(parts: Any) -> None:
    talk = Talk(chatting(parts))
    assert (await talk.say("one")).output["response"] == "one"
    assert (await talk.say("two")).output["response"] == "one | two"
    assert (await talk.say("other", session="s2")).output["response"] == "other"
    assert (await talk.say("three")).output["response"] == "one | two | three"


async def test_a_turn_that_is_delivered_again_begins_where_it_began(parts: Any) -> None:
    talk = Talk(chatting(parts))
    await talk.say("one")
    # Its process died before the outcome was stored; a part of it may have run to the end.
    await talk.say("two", keep=False, event_id="e2")
    again = await talk.say("two", event_id="e2", delivery=2)
    assert again.output["response"] == "one | two"


async def test_a_turn_that_fails_leaves_the_thread_as_it_was(parts: Any) -> None:
    talk = Talk(chatting(parts))
    await talk.say("one")
    parts.fails = True
    failed = await talk.say("two")
    assert failed.finished.status == X.FAILED
    assert failed.finished.saved == []
    parts.fails = False
    assert (await talk.say("three")).output["response"] == "one | three"


async def test_a_checkpointer_of_its_own_is_replaced(parts: Any) -> None:
    talk = Talk(chatting(parts, checkpointer=InMemorySaver()))
    await talk.say("one")
    assert (await talk.say("two")).output["response"] == "one | two"


async def test_one_checkpoint_a_turn_is_kept(parts: Any) -> None:
    talk = Talk(chatting(parts))
    record = await talk.say("one")
    checkpoints = [one for one in record.finished.saved if "versions" in one]
    assert len(checkpoints) == 1
    assert {one["thread_id"] for one in record.finished.saved} == {"s1"}


async def test_without_a_session_nothing_is_carried_on(parts: Any) -> None:
    chatting(parts)
    record = await Agents(agent(graph_config()), checkpoints=Stored()).say(
        "one", spec={"session_id": None}
    )
    assert record.output["response"] == "one"
    assert record.finished.saved == []


async def test_a_graph_without_messages_gets_the_turn(parts: Any) -> None:
    class State(TypedDict):
        text: str
        user_data: dict[str, Any]
        answer: str
        turns: Annotated[int, operator.add]

    async def answer(state: State) -> dict[str, Any]:
        told = f"{state['user_data']['name']} said {state['text']}, turn {state['turns'] + 1}"
        return {"answer": told, "turns": 1}

    builder = StateGraph(State)
    builder.add_node("respond", answer)
    builder.add_edge(START, "respond")
    parts.graph = builder
    talk = Talk(graph_config())
    agents = Agents(agent(talk.config), checkpoints=talk.stored)
    first = await agents.say("hi", user_data={"name": "Ann"})
    assert first.output["response"] == "Ann said hi, turn 1"
    await talk.stored.take(first)
    second = await agents.say("so", user_data={"name": "Bo"})
    assert second.output["response"] == "Bo said so, turn 2"


async def test_a_graph_may_wait_and_go_on(parts: Any) -> None:
    async def ask(state: MessagesState) -> dict[str, Any]:
        said = interrupt("which one?")
        return {"messages": [AIMessage(f"then {said}")]}

    builder = StateGraph(MessagesState)
    builder.add_node("ask", ask)
    builder.add_edge(START, "ask")
    parts.graph = builder.compile()
    talk = Talk(graph_config())
    first = await talk.say("help")
    assert first.finished.status == X.WAITING
    second = await talk.say("help", **going_on(first, {"answer": "the red one"}))
    assert second.finished.status == X.SUCCEEDED, second.finished.error
    assert second.output["response"] == "then the red one"


async def test_a_graph_that_says_nothing_fails_and_says_so(parts: Any) -> None:
    async def nothing(state: MessagesState) -> dict[str, Any]:
        return {"messages": []}

    builder = StateGraph(MessagesState)
    builder.add_node("nothing", nothing)
    builder.add_edge(START, "nothing")
    parts.graph = builder.compile()
    record = await Agents(agent(graph_config()), checkpoints=Stored()).say()
    assert record.finished.status == X.FAILED
    assert record.finished.error is not None
    assert "without an answer" in record.finished.error["message"]


async def test_its_steps_are_bounded_where_the_configuration_says_so(parts: Any) -> None:
    class State(TypedDict):
        messages: list[AnyMessage]
        n: Annotated[int, operator.add]

    async def again(state: State) -> dict[str, Any]:
        return {"n": 1}

    builder = StateGraph(State)
    builder.add_node("again", again)
    builder.add_edge(START, "again")
    builder.add_conditional_edges("again", lambda state: "again", ["again"])
    parts.graph = builder.compile()
    config = graph_config(limits={"steps": 4})
    record = await Agents(agent(config), checkpoints=Stored()).say()
    assert record.finished.status == X.FAILED
    assert record.finished.error is not None
    assert "ecursion" in str(record.finished.error)


@pytest.mark.parametrize(
    ("path", "told"),
    [
        (f"{PARTS}:missing", "has no 'missing'"),
        ("no.such.module:graph", "cannot be imported"),
        (f"{PARTS}:number", "is int and no LangGraph graph"),
    ],
)
def test_a_path_that_leads_nowhere_is_told(parts: Any, path: str, told: str) -> None:
    parts.number = 5
    declared = agent({"graph": {"settings": {"graph": path}}})
    with pytest.raises(DeclarationError, match=told):
        declared.check()


def test_a_hub_can_look_at_it_without_importing_it() -> None:
    declared = agent({"graph": {"settings": {"graph": "no.such.module:graph"}}})
    assert declared.describe()["nodes"][1]["path"] == "no.such.module:graph"
    assert declared.code_version
    assert declared.schema()["properties"]["text"]
    assert declared.checkpointed
    assert declared.thread_id("e", "s") == "s"

"""A ready LangGraph graph is registered as it is."""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.func import entrypoint
from langgraph.graph import END, START, MessagesState, StateGraph
from pydantic import BaseModel

from holdfast.errors import DeclarationError, InvalidInput
from holdfast.pipelines.graph import MESSAGES_SCHEMA, Graph


class Opaque:
    pass


class Jokes(TypedDict):
    topic: str
    count: int
    lines: Annotated[list[str], operator.add]
    secret: Opaque


async def tell(state: Jokes) -> dict[str, Any]:
    return {"lines": [f"{state['topic']}!"] * state.get("count", 1)}


def joking() -> StateGraph[Any]:
    graph = StateGraph(Jokes)
    graph.add_node("tell", tell)
    graph.add_edge(START, "tell")
    graph.add_edge("tell", END)
    return graph


async def test_a_graph_runs_unchanged_and_is_recorded(run):
    compiled = joking().compile()
    docs = Graph("docs.jokes", compiled, version="1")
    assert docs.graph() is compiled
    ran = await run(docs, {"topic": "cats", "count": 2})
    assert ran.output == {"topic": "cats", "count": 2, "lines": ["cats!", "cats!"]}
    assert ran.steps["tell"].kind == "node"
    assert ran.failures == []


async def test_an_uncompiled_graph_is_compiled(run):
    ran = await run(Graph("docs.jokes", joking(), version="1"), {"topic": "dogs"})
    assert ran.output["lines"] == ["dogs!"]


async def test_messages_come_in_as_langgraph_takes_them(run):
    graph = StateGraph(MessagesState)
    graph.add_node("echo", lambda state: {"messages": [("ai", state["messages"][-1].text)]})
    graph.add_edge(START, "echo")
    chat = Graph("docs.chat", graph, version="1")
    ran = await run(chat, {"messages": [{"role": "user", "content": "hello"}]})
    assert [message.text for message in ran.output["messages"]] == ["hello", "hello"]
    assert chat.schema()["properties"]["messages"] == MESSAGES_SCHEMA


async def test_an_event_schema_of_its_own(run):
    class Topic(BaseModel):
        topic: str

    docs = Graph("docs.jokes", joking(), version="1", event=Topic)
    with pytest.raises(InvalidInput, match=r"data\.count: no such field"):
        docs.validate({"topic": "cats", "count": 2})
    assert (await run(docs, {"topic": "cats"})).output["lines"] == ["cats!"]


async def test_a_pydantic_state_is_the_schema(run):
    class Counter(BaseModel):
        count: int = 0

    graph = StateGraph(Counter)
    graph.add_node("add", lambda state: {"count": state.count + 1})
    graph.add_edge(START, "add")
    docs = Graph("docs.counter", graph, version="1")
    assert (await run(docs, {"count": 4})).output == {"count": 5}
    with pytest.raises(InvalidInput, match=r"data\.number: no such field"):
        docs.validate({"number": 4})


async def test_a_function_of_the_functional_api(run):
    @entrypoint()
    async def greet(data: dict[str, str]) -> str:
        return f"hello {data['name']}"

    assert (
        await run(Graph("docs.greet", greet, version="1"), {"name": "Ada"})
    ).output == "hello Ada"


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ([1], "data"),
        ({}, "data"),
        ({"topik": "cats"}, "data.topik"),
        ({"topic": 5}, "data.topic"),
        ({"topic": "cats", "count": "many"}, "data.count"),
        ({"lines": ["a", 1]}, "data.lines.1"),
    ],
)
def test_data_that_does_not_fit_is_refused(data, field):
    with pytest.raises(InvalidInput) as caught:
        Graph("docs.jokes", joking(), version="1").validate(data)
    assert caught.value.fields[0]["field"] == field


def test_a_type_nobody_knows_is_left_open():
    docs = Graph("docs.jokes", joking(), version="1")
    assert docs.validate({"secret": "anything"}) == {"secret": "anything"}
    assert docs.schema()["properties"]["secret"] == {}
    assert docs.schema()["properties"]["lines"] == {"items": {"type": "string"}, "type": "array"}


def test_the_drawing():
    drawn = Graph("docs.jokes", joking(), version="1").describe()
    assert drawn == {
        "nodes": [
            {"name": "__start__", "kind": "start"},
            {"name": "tell", "kind": "node"},
            {"name": "__end__", "kind": "end"},
        ],
        "edges": [{"from": "__start__", "to": "tell"}, {"from": "tell", "to": "__end__"}],
    }


def test_what_is_no_graph():
    with pytest.raises(DeclarationError, match=r"graph docs\.x: dict is no LangGraph graph"):
        Graph("docs.x", {}, version="1")


def test_a_graph_that_does_not_compile():
    graph = StateGraph(Jokes)
    graph.add_node("tell", tell)
    with pytest.raises(DeclarationError, match=r"graph docs\.x does not compile"):
        Graph("docs.x", graph, version="1")


def test_the_code_version_is_stable():
    one, two = (Graph("docs.jokes", joking(), version="1") for _ in range(2))
    assert one.code_version == two.code_version

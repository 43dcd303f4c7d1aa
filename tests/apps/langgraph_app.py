"""Graphs as LangGraph's users write them; nothing in here knows of Holdfast."""

from __future__ import annotations

import operator
from typing import Annotated, Any, Literal, TypedDict

from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AnyMessage, SystemMessage, ToolMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send


@tool
def multiply(a: int, b: int) -> int:
    """Multiply a and b."""
    return a * b


class Calculator(GenericFakeChatModel):
    """Asks for one product, then answers with what the tool said."""

    messages: Any = None

    def _generate(self, messages: list[Any], *args: Any, **kwargs: Any) -> Any:
        from langchain_core.outputs import ChatGeneration, ChatResult

        last = messages[-1]
        if isinstance(last, ToolMessage):
            answer = AIMessage(f"It is {last.content}.")
        else:
            call = {"name": "multiply", "args": {"a": 6, "b": 7}, "id": "call-1"}
            answer = AIMessage("", tool_calls=[call])
        answer.usage_metadata = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
        return ChatResult(generations=[ChatGeneration(message=answer)])

    def _stream(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self


model = Calculator()
tools_by_name = {"multiply": multiply}


class CalculatorState(TypedDict):
    messages: Annotated[list[AnyMessage], operator.add]
    llm_calls: int


def llm_call(state: CalculatorState) -> dict[str, Any]:
    """The model decides whether to call a tool."""
    asked = [SystemMessage("You do arithmetic."), *state["messages"]]
    return {
        "messages": [model.bind_tools([multiply]).invoke(asked)],
        "llm_calls": state.get("llm_calls", 0) + 1,
    }


def tool_node(state: CalculatorState) -> dict[str, Any]:
    """Runs the tools the model asked for."""
    results: list[AnyMessage] = []
    for call in state["messages"][-1].tool_calls:
        observation = tools_by_name[call["name"]].invoke(call["args"])
        results.append(ToolMessage(content=str(observation), tool_call_id=call["id"]))
    return {"messages": results}


def should_continue(state: CalculatorState) -> Literal["tool_node", "__end__"]:
    return "tool_node" if state["messages"][-1].tool_calls else END


_agent = StateGraph(CalculatorState)
_agent.add_node("llm_call", llm_call)
_agent.add_node("tool_node", tool_node)
_agent.add_edge(START, "llm_call")
_agent.add_conditional_edges("llm_call", should_continue, ["tool_node", END])
_agent.add_edge("tool_node", "llm_call")
agent = _agent.compile()


class Report(TypedDict, total=False):
    topic: str
    sections: list[str]
    done: Annotated[list[str], operator.add]
    final: str


class Section(TypedDict):
    section: str


def plan(state: Report) -> Report:
    return {"sections": [f"{state['topic']} {i}" for i in range(3)]}


def write(state: Section) -> dict[str, Any]:
    return {"done": [f"about {state['section']}"]}


def assign(state: Report) -> list[Send]:
    return [Send("write", {"section": section}) for section in state["sections"]]


def join(state: Report) -> Report:
    return {"final": "; ".join(sorted(state["done"]))}


_report = StateGraph(Report)
_report.add_node("plan", plan)
_report.add_node("write", write)
_report.add_node("join", join)
_report.add_edge(START, "plan")
_report.add_conditional_edges("plan", assign, ["write"])
_report.add_edge("write", "join")
_report.add_edge("join", END)
report = _report.compile()


class Joke(TypedDict, total=False):
    joke: str
    rounds: int
    way: str


async def tell(state: Joke) -> Joke:
    prompt = ChatPromptTemplate.from_template("Tell me about {joke}")
    written = await (prompt | (lambda value: value.to_string())).ainvoke({"joke": state["joke"]})
    return {"joke": written, "rounds": state.get("rounds", 0) + 1}


def grade(state: Joke) -> Command[Literal["tell", "inner"]]:
    return Command(goto="tell" if state["rounds"] < 2 else "inner", update={"way": "graded"})


def polish(state: Joke) -> Joke:
    return {"joke": state["joke"] + "!"}


_inner = StateGraph(Joke)
_inner.add_node("polish", polish)
_inner.add_edge(START, "polish")

_loop = StateGraph(Joke)
_loop.add_node("tell", tell)
_loop.add_node("grade", grade)
_loop.add_node("inner", _inner.compile())
_loop.add_edge(START, "tell")
_loop.add_edge("tell", "grade")
loop = _loop.compile(checkpointer=InMemorySaver())


@task
def square(number: int) -> int:
    return number * number


@entrypoint()
def functional(numbers: dict[str, Any]) -> dict[str, Any]:
    futures = [square(number) for number in numbers["numbers"]]
    return {"squares": [future.result() for future in futures]}

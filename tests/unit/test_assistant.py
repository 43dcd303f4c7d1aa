"""The example: what the help desk answers by its rules, and with which tools."""

from __future__ import annotations

from pathlib import Path

import pytest
from examples.assistant.rules import answer
from examples.assistant.tools import look_up_order, open_ticket
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from holdfast.agents.build import declare
from holdfast.agents.files import read_file
from holdfast.agents.tools.base import as_text
from holdfast.llm.scripted import ScriptedRequest

ROOT = Path(__file__).parents[2]
FILE = ROOT / "examples" / "assistant" / "helpdesk.yaml"


def asked(*messages: BaseMessage | str):
    told = [HumanMessage(one) if isinstance(one, str) else one for one in messages]
    user = next(one.text for one in reversed(told) if one.type == "human")
    said = answer(ScriptedRequest(operation="agent", system="", user=user, messages=told))
    return said if isinstance(said, str) else [(c["name"], c["args"]) for c in said.tool_calls]


def returned(tool, **args) -> ToolMessage:
    return ToolMessage(as_text(tool(**args)), tool_call_id="c", name=tool.__name__)


def test_the_file_is_an_agent_that_can_be_built():
    (one,) = read_file(FILE)
    desk = declare(id="a1", name=one.name, version=1, config=one.config)
    desk.check()
    assert desk.title == "helpdesk"
    assert sorted(desk.tools) == ["look_up_order", "open_ticket"]


def test_an_order_is_looked_up_and_told():
    assert asked("Where is order 1042?") == [("look_up_order", {"number": 1042})]
    told = asked("Where is order 1042?", AIMessage(""), returned(look_up_order, number=1042))
    assert told == "Order 1042 (Copper kettle, 1.7 l) is shipped; arrives Thursday."


@pytest.mark.parametrize("number", [1043, 1044, 1999])
def test_every_order_can_be_told(number):
    assert str(number) in asked("Where?", returned(look_up_order, number=number))


def test_the_order_of_the_talk_is_meant_where_none_is_named():
    before = ("Where is order 1042?", AIMessage("Order 1042 is shipped."))
    assert asked(*before, "When does it arrive?") == [("look_up_order", {"number": 1042})]
    ((name, args),) = asked(*before, "It leaks! I want a person.")
    assert name == "open_ticket"
    assert args == {
        "subject": "Leak, order 1042",
        "details": "It leaks! I want a person.",
        "urgent": True,
    }


def test_both_tools_are_called_at_once_where_both_are_wanted():
    calls = asked("Where is order 1043, and please open a ticket: the lid is damaged")
    assert [name for name, _ in calls] == ["look_up_order", "open_ticket"]
    told = asked(
        "…", returned(look_up_order, number=1043), returned(open_ticket, subject="a", details="b")
    )
    assert "Order 1043" in told
    assert "I opened ticket T-" in told


def test_the_same_ticket_again_is_the_same():
    first = open_ticket("Leak", "It leaks", urgent=True)
    assert open_ticket("Leak", "It leaks", urgent=True) == first
    assert open_ticket("Leak", "It leaks a lot")["ticket"] != first["ticket"]


def test_a_name_is_remembered_over_turns():
    assert asked("My name is Ann") == "Nice to meet you, Ann. What can I do for you?"
    assert asked("My name is Ann", AIMessage("Hello"), "What is my name?") == "You are Ann."
    assert asked("What is my name?") == "You have not told me your name."
    assert asked("I am Ann", AIMessage("Hello"), "hello").startswith("Hello, Ann!")


def test_what_is_not_understood_is_said():
    assert "did not understand" in asked("Quux?")


def test_a_tool_that_failed_is_told():
    failed = ToolMessage("error: no line to the shop", tool_call_id="c", name="look_up_order")
    assert asked("Where is order 1042?", failed) == "That did not work: error: no line to the shop"

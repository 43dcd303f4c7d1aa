"""Answers without a language model: rules by key words, so that the example runs without a key.

They call the tools as a model would, and know no more of a conversation than a model does: what
stands in the messages they are given. Wherever their answers are shown they are called what they
are: rules, not a language model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from holdfast.llm.scripted import ScriptedAnswer

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

    from holdfast.llm.scripted import ScriptedRequest

ORDER = re.compile(r"\b1\d{3}\b")
NAME = re.compile(r"\b(?i:my name is|i am|i'm|ich bin|ich heiße)\s+([A-ZÄÖÜ]\w+)")
ASKS_NAME = re.compile(r"what(?:'s| is) my name|who am i|remember me", re.IGNORECASE)
ASKS_ORDER = re.compile(r"\border|arrive|deliver|ship|where is|when\b", re.IGNORECASE)
WANTS_PERSON = re.compile(
    r"ticket|broken|damaged|leak|refund|complain|a person|colleague|does not work", re.IGNORECASE
)
ANGRY = re.compile(r"broken|damaged|leak|angry|at once|lawyer", re.IGNORECASE)
GREETS = re.compile(r"^\W*(?:hi|hello|hey|good (?:morning|evening|day))\b", re.IGNORECASE)

HELLO = "Hello{name}! This is the help desk. I can look up an order and open a ticket."
UNSURE = (
    "I did not understand that. Give me the number of an order (1042, for example), or say what "
    "is wrong, and I open a ticket."
)


def answer(request: ScriptedRequest) -> ScriptedAnswer | str:
    """Answer as the newest messages want it: with a tool call, or with words."""
    results = _results(request.messages)
    if results:
        return _told(results)
    text, said = request.user, _said(request.messages)
    calls = _calls(text, said)
    if calls:
        return ScriptedAnswer(text="", tool_calls=calls)
    name = _last(NAME, said)
    if ASKS_NAME.search(text):
        return f"You are {name}." if name else "You have not told me your name."
    if NAME.search(text):
        return f"Nice to meet you, {name}. What can I do for you?"
    if GREETS.search(text):
        return HELLO.format(name=f", {name}" if name else "")
    return UNSURE


def _calls(text: str, said: Sequence[str]) -> list[dict[str, Any]]:
    """The tools to call, both at once where both are wanted."""
    calls: list[dict[str, Any]] = []
    about = ASKS_ORDER.search(text)
    # Without a number it is the order they talked about last.
    numbers = ORDER.findall(text) or ([_last(ORDER, said)] if about else [])
    wants_person = WANTS_PERSON.search(text)
    if about or not wants_person:
        calls += [
            {"name": "look_up_order", "args": {"number": int(number)}}
            for number in dict.fromkeys(numbers)
            if number
        ]
    if wants_person:
        order = next(iter(ORDER.findall(text)), None) or _last(ORDER, said)
        subject = f"{wants_person.group().capitalize()}{f', order {order}' if order else ''}"
        args = {"subject": subject, "details": text, "urgent": bool(ANGRY.search(text))}
        calls.append({"name": "open_ticket", "args": args})
    return calls


def _told(results: Sequence[tuple[str, str]]) -> str:
    """What the tools said, in words."""
    words = {"look_up_order": _order, "open_ticket": _ticket}
    told: list[str] = []
    for name, text in results:
        try:
            told.append(words[name](orjson.loads(text)))
        except orjson.JSONDecodeError:  # a tool that failed says so in words
            told.append(f"That did not work: {text}")
    return " ".join(told)


def _order(order: Mapping[str, Any]) -> str:
    if not order.get("found"):
        return f"I find no order {order.get('number')}. Is the number right?"
    when = f"it arrived {order['arrived']}" if "arrived" in order else f"arrives {order['arrives']}"
    return f"Order {order['number']} ({order['item']}) is {order['state']}; {when}."


def _ticket(ticket: Mapping[str, Any]) -> str:
    return (
        f"I opened ticket {ticket.get('ticket')}; a colleague writes to you within "
        f"{ticket.get('answer_within')}."
    )


def _results(messages: Sequence[BaseMessage]) -> list[tuple[str, str]]:
    """What tools returned since the model spoke last; empty when it is the customer's turn."""
    found: list[tuple[str, str]] = []
    for message in reversed(messages):
        if message.type != "tool":
            break
        found.append((message.name or "", str(message.text)))
    return found[::-1]


def _said(messages: Sequence[BaseMessage]) -> list[str]:
    """What the customer and the help desk said, oldest first; summaries of it too."""
    return [message.text for message in messages]


def _last(pattern: re.Pattern[str], texts: Sequence[str]) -> str | None:
    for text in reversed(texts):
        if found := pattern.findall(text):
            return str(found[-1])
    return None

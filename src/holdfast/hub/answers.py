"""What a conversation gets of a turn: its answer, or a word why there is none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from holdfast.domain.agents import AGENT
from holdfast.domain.conversations import NewMessage, Speaker
from holdfast.domain.executions import Record
from holdfast.domain.ids import new_id
from holdfast.domain.redelivery import RETRIED
from holdfast.domain.splitting import tokens_of
from holdfast.domain.status import ExecutionStatus
from holdfast.journal import Running

X = ExecutionStatus

APOLOGIES = {
    "busy": "I cannot answer right now because something I need is not available. Please try "
    "again in a moment.",
    "budget": "I cannot answer: what may be spent on answers has been used up.",
    "timeout": "I did not find an answer in the time I have. Please try again, perhaps with a "
    "smaller question.",
    "too_long": "This conversation or question is too long for me. Please begin a new one, or "
    "make it shorter.",
    "steps": "I did not find an answer in the number of steps I may take. Please ask for less at "
    "once.",
    "other": "I could not answer because something went wrong on my side.",
}
"""What is said for each reason; the error itself is for those who run the agent."""

_TIMEOUTS = frozenset({"deadline_exceeded", "step_timeout", "wait_expired"})
_STEPS = "Recursion limit"  # as LangGraph begins to say it

_TOO_LONG = re.compile(
    r"context.{0,3}(length|window)|prompt is too long|too many (input )?tokens|"
    r"maximum.{0,20}tokens",
    re.IGNORECASE,
)
"""How providers say that they were sent more than the model takes."""


def with_answers(running: Running, record: Record) -> Record:
    """A record with the messages that its conversation gets when it is stored.

    The store takes the answers when the event succeeds, the apology when it comes to rest without.
    """
    run = record.execution
    if run.kind != AGENT or run.session_id is None:
        return record
    if run.status in (X.SUCCEEDED, X.PARTIAL):
        return replace(record, answers=_answers(running.payload().get(run.output)), apology=None)
    if run.status in (X.FAILED, X.TIMED_OUT, X.CRASHED):
        return replace(record, answers=(), apology=apology(run.status, run.error))
    return record  # called off: whoever did that knows; halted: it goes on


def apology(status: ExecutionStatus, error: Mapping[str, Any] | None) -> NewMessage:
    """A polite word, with the error's code beside it."""
    reason = reason_of(status, error or {})
    told = {"code": (error or {}).get("code") or str(status), "reason": reason}
    text = APOLOGIES[reason]
    return NewMessage(
        id=new_id(),
        role=Speaker.ASSISTANT,
        content=text,
        tokens=tokens_of(text),
        metadata={"error": told},
    )


def reason_of(status: ExecutionStatus, error: Mapping[str, Any]) -> str:
    """Why there is no answer: a key of `APOLOGIES`."""
    code = str(error.get("code") or "")
    if status is X.TIMED_OUT or code in _TIMEOUTS:
        return "timeout"
    if code == "budget_exceeded" or error.get("error_class") == "budget":
        return "budget"
    if code == "loop_exceeded" or _STEPS in str(error.get("message") or ""):
        return "steps"
    if _TOO_LONG.search(str(error.get("message") or "")):
        return "too_long"
    if code == "breaker_open" or error.get("error_class") in RETRIED:
        return "busy"
    return "other"


def _answers(output: Any) -> tuple[NewMessage, ...]:
    """The turn's output as messages; one that said nothing has none."""
    if not isinstance(output, Mapping):
        return ()
    said = cast("Mapping[str, Any]", output)
    text = str(said.get("response") or "")
    if not text:
        return ()
    tokens = said.get("tokens")
    counted = tokens if isinstance(tokens, int) else tokens_of(text)
    return (NewMessage(id=new_id(), role=Speaker.ASSISTANT, content=text, tokens=counted),)

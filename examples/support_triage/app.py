"""Triage of support e-mails: three judgements at once, one decision, one answer."""

from __future__ import annotations

import re

from holdfast import Pipeline, State

from .answers import Actionable, Email, Intent, Reply, Spam
from .prompts import ACTIONABLE, DRAFT, INTENT, LETTER, SPAM
from .rules import answer

triage = Pipeline(
    "support.triage",
    version="1",
    event=Email,
    description="Sorts support e-mails and drafts the answers.",
    scripted=answer,
    deadline=120,
)

intent = triage.model("intent", system=INTENT, prompt=LETTER, alias="fast", answer=Intent)
spam = triage.model("spam", system=SPAM, prompt=LETTER, alias="fast", answer=Spam)
actionable = triage.model(
    "actionable", system=ACTIONABLE, prompt=LETTER, alias="fast", answer=Actionable
)
judge = triage.parallel("judge", [intent, spam, actionable])

# The reply is validated where it is declared: see `Reply`.
draft = triage.model(
    "draft", system=DRAFT, prompt=LETTER, alias="standard", answer=Reply, credits=1
)


@triage.node
async def close(state: State[Email]) -> dict[str, str]:
    """Spam gets no answer."""
    return {"action": "closed as spam", "because": state[spam].reason}


@triage.node
async def escalate(state: State[Email]) -> dict[str, str]:
    """A person has to look at it."""
    return {"action": "escalated", "to": "support-lead", "because": state[intent].reason}


@triage.node
async def file_invoice(state: State[Email]) -> dict[str, str | None]:
    """Invoices go to accounting, with their number where one can be read."""
    number = re.search(r"\b[A-Z]{2,4}-\d{4}-\d+\b", f"{state.event.subject}\n{state.event.body}")
    return {"action": "invoice filed", "number": number and number.group()}


@triage.node
async def send(state: State[Email]) -> dict[str, str]:
    """Where a real pipeline would hand the reply to its mailer."""
    return {"action": "answered", "to": state.event.sender, "text": state[draft].text}


def is_spam(state: State[Email]) -> bool:
    """Only when quite sure: a letter closed by mistake is a customer lost."""
    return state[spam].score > 0.8


def is_for_a_person(state: State[Email]) -> bool:
    """Threats and anger, or a judgement too unsure to act upon."""
    return state[intent].escalate or state[intent].confidence < 0.3


triage.start(judge)
triage.route(
    judge,
    {
        close: is_spam,
        escalate: is_for_a_person,
        file_invoice: lambda s: s.intent.intent == "invoice",
    },
    otherwise=draft,
)
triage.edge(draft, send)

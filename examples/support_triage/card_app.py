"""The same triage as a card: `cards/triage.yaml` is the twin of the pipeline in `app.py`."""

from __future__ import annotations

import re
from pathlib import Path

from holdfast import action, load_cards

from .answers import Actionable, Email, Intent, Reply, Spam
from .rules import answer


@action("invoices.file")
async def file_invoice(subject: str, body: str) -> dict[str, str | None]:
    """Invoices go to accounting, with their number where one can be read."""
    number = re.search(r"\b[A-Z]{2,4}-\d{4}-\d+\b", f"{subject}\n{body}")
    return {"action": "invoice filed", "number": number and number.group()}


@action("mail.send")
async def send(to: str, text: str) -> dict[str, str]:
    """Where a real app would hand the reply to its mailer."""
    return {"action": "answered", "to": to, "text": text}


cards = load_cards(
    Path(__file__).parent / "cards",
    uses=[file_invoice, send, Email, Intent, Spam, Actionable, Reply],
    scripted=answer,
)

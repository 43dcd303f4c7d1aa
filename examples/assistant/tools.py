"""What the help desk can do: look up an order, open a ticket.

A tool is a function. Its docstring and the types of its arguments are what the model knows of it;
what it returns is what the model reads.
"""

from __future__ import annotations

from typing import Any
from zlib import crc32

ORDERS: dict[int, dict[str, Any]] = {
    1042: {"item": "Copper kettle, 1.7 l", "state": "shipped", "arrives": "Thursday"},
    1043: {"item": "Teapot with strainer", "state": "delivered", "arrived": "last Monday"},
    1044: {"item": "Milk frother", "state": "waiting for the maker", "arrives": "in two weeks"},
}


def look_up_order(number: int) -> dict[str, Any]:
    """Look up an order: what was ordered, how it stands and when it arrives.

    Args:
        number: of the order, four digits.
    """
    order = ORDERS.get(number)
    if order is None:
        return {"number": number, "found": False}
    return {"number": number, "found": True, **order}


def open_ticket(subject: str, details: str, urgent: bool = False) -> dict[str, Any]:
    """Open a ticket, so that a colleague writes to the customer.

    Args:
        subject: in a few words.
        details: what the colleague has to know, the order's number too.
        urgent: something is broken, or somebody is angry.
    """
    # Where a real tool would call your ticket system. A turn that runs again after a crash calls
    # its tools again: the same ticket has the same number, so that there are no two of it.
    number = crc32(f"{subject}\n{details}".encode()) % 10_000
    return {"ticket": f"T-{number:04}", "answer_within": "1 hour" if urgent else "1 day"}

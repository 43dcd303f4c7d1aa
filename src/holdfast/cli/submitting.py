"""Submits many events side by side and gathers what became of each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

from holdfast.errors import HoldfastError, HubUnreachable, InvalidInput

from .lines import Feed, Line

if TYPE_CHECKING:
    from holdfast.client import Client

View = dict[str, Any]

OUTCOME_FIELDS = ("outcome", "action", "status")
"""Fields of a pipeline's output that say in a word or two what came of an event."""

MAX_OUTCOME_CHARS = 60


@dataclass(slots=True, kw_only=True)
class Fate:
    """What became of one line.

    Attributes:
        line: its number; 0 for an event given by options.
        status: the event's; `refused` when it never became one.
        outcome: what its output says of itself, see `OUTCOME_FIELDS`.
        executions: views of all its runs, redeliveries included, newest first.
        error: why it was refused, or what ended it.
    """

    line: int
    status: str
    event_id: str | None = None
    outcome: str | None = None
    output: Any = None
    executions: list[View] = field(default_factory=list[View])
    error: View | None = None

    @property
    def execution_id(self) -> str | None:
        """Its newest run."""
        return self.executions[0]["id"] if self.executions else None

    @property
    def duration_ms(self) -> float | None:
        """How long its newest run took."""
        return self.executions[0]["duration_ms"] if self.executions else None

    def view(self) -> View:
        """As JSON."""
        return {
            "line": self.line or None,
            "event_id": self.event_id,
            "status": self.status,
            "outcome": self.outcome,
            "output": self.output,
            "execution_id": self.execution_id,
            "duration_ms": self.duration_ms,
            **Sum.of([self]).view(),
            "error": self.error,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """Tokens and cost over events; unknown parts are counted, never taken for zero."""

    tokens: int = 0
    cost_usd: Decimal = Decimal(0)
    credits: int = 0
    usage_unknown: int = 0
    cost_unknown: int = 0
    estimated: bool = False  # some of the tokens are

    @classmethod
    def of(cls, fates: list[Fate]) -> Sum:
        """Add up all runs of `fates`."""
        views = [view for fate in fates for view in fate.executions]
        return cls(
            tokens=sum(v["tokens"]["input"] + v["tokens"]["output"] for v in views),
            cost_usd=sum((Decimal(v["cost_usd"] or 0) for v in views), Decimal(0)),
            credits=sum(v["credits"] for v in views),
            usage_unknown=sum(v["unknown"]["usage"] for v in views),
            cost_unknown=sum(v["unknown"]["cost"] for v in views),
            estimated=any(v["flags"].get("tokens_estimated") for v in views),
        )

    def view(self) -> View:
        """As JSON, dollars as exact text."""
        return {
            "tokens": self.tokens,
            "cost_usd": f"{self.cost_usd:f}",
            "credits": self.credits,
            "unknown": {"usage": self.usage_unknown, "cost": self.cost_unknown},
            "estimated": self.estimated,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """How events are to be submitted.

    Attributes:
        wait: seconds to wait for each event's end; None: only until it is accepted.
        concurrency: events under way at once.
    """

    wait: float | None
    concurrency: int


async def submit_all(
    client: Client, lines: Iterator[Line], wish: Wish, done: Callable[[Fate], None]
) -> None:
    """Submit every line; a refused one does not stop the others.

    Args:
        client: where to.
        lines: read no faster than they can be submitted.
        wish: how.
        done: called for each line when its fate is known, in no particular order.

    Raises:
        HubUnreachable: the hub went away; what it had accepted has had its `done`.
    """
    feed = Feed(lines)
    gone: list[HubUnreachable] = []

    async def work() -> None:
        while not gone and (line := await feed.next()) is not None:
            accepting = asyncio.create_task(_submit(client, line))
            try:
                fate = await asyncio.shield(accepting)
            except asyncio.CancelledError:
                # Ctrl-C: the hub may have it already, so hear what it says before leaving.
                with suppress(HubUnreachable):
                    done(await accepting)
                raise
            except HubUnreachable as error:
                gone.append(error)
                return
            try:
                if wish.wait is not None and fate.event_id is not None:
                    await _follow(client, fate, fate.event_id, wish.wait)
            except HubUnreachable as error:
                gone.append(error)
            finally:
                done(fate)  # interrupted or not: it was accepted

    # With `return_exceptions` an interrupt, too, waits until every task has told of its event.
    ended = await asyncio.gather(*(work() for _ in range(wish.concurrency)), return_exceptions=True)
    for error in (*gone, *ended):
        if error is not None:
            raise error


async def _submit(client: Client, line: Line) -> Fate:
    try:
        event = line.event()
        event["time"] = _time(event.get("time"))
        accepted = await client.submit(**event)
    except HubUnreachable:
        raise
    except HoldfastError as error:
        return Fate(line=line.number, status="refused", error=error_view(error))
    return Fate(line=line.number, status=accepted["status"], event_id=accepted["id"])


async def _follow(client: Client, fate: Fate, event_id: str, seconds: float) -> None:
    """Wait for the event's end and fill in what came of it."""
    try:
        ended = await client.wait(event_id, timeout=seconds)
    except TimeoutError:
        ended = await client.event(event_id)
    fate.status, fate.error = ended["status"], ended["last_error"]
    fate.executions = ended["executions"]
    fate.output = ended["result"]["output"] if ended["result"] else None
    fate.outcome = outcome_of(fate.output)


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        wrong = {"field": "time", "expected": "an RFC 3339 time", "got": text}
        raise InvalidInput("not an event: time", fields=[wrong]) from error


def outcome_of(output: Any) -> str | None:
    """What an output says of itself, if it does in a few words."""
    if isinstance(output, dict):
        fields = cast("View", output)
        for name in OUTCOME_FIELDS:
            value = fields.get(name)
            if isinstance(value, str) and 0 < len(value) <= MAX_OUTCOME_CHARS:
                return value
    return None


def error_view(error: HoldfastError) -> View:
    """An error as JSON."""
    view: View = {"code": error.code, "message": error.message}
    return view | {k: v for k, v in (("hint", error.hint), ("fields", error.fields)) if v}

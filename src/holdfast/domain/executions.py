"""Executions and what they leave behind: steps, attempts, texts."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from .breakers import Postponed
from .checkpoints import Saved
from .conversations import NewMessage
from .events import NewEvent, Origin
from .halts import Halt, Totals, Wait
from .redelivery import Redelivery
from .savings import Saving
from .status import ExecutionStatus, StepStatus
from .usage import UsageLine

PICO = 10**12
"""Picodollars in a dollar: money is summed as integers and shown as Decimal."""


def usd(pico: int | None) -> Decimal | None:
    """Dollars out of picodollars; None (unknown) stays None."""
    return None if pico is None else Decimal(pico).scaleb(-12)


__all__ = ["PICO", "Attempt", "Execution", "Record", "Step", "Totals", "usd"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One run of a graph on one event."""

    id: str
    owner_id: str
    event_id: str
    kind: str  # pipeline
    name: str
    graph_version: str
    code_version: str
    delivery: int
    parent_id: str | None  # execution that it comes from
    session_id: str | None
    trace_id: str | None
    status: ExecutionStatus
    input: int | None  # payload index
    output: int | None  # payload index
    error: dict[str, Any] | None
    started_at: int
    finished_at: int | None
    duration_us: int | None
    steps_total: int
    steps_succeeded: int
    steps_skipped: int
    steps_failed: int
    totals: Totals
    flags: dict[str, Any]  # suspicious, usage_unknown, …: what a reader should know at a glance
    seq: int  # number of the last journalled change
    stops: list[dict[str, Any]] | None = None  # when it waited or was paused, see `domain.halts`
    origin: Origin | None = None  # why it has a parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One node, model call, tool call or routing decision; steps form a tree by `parent`."""

    step: int  # number within the execution, from 1
    parent: int | None
    seq: int  # change number of its start
    end_seq: int | None  # change number of its end
    kind: str
    operation: str
    operation_version: str | None
    status: StepStatus
    skip_reason: str | None
    input: int | None
    output: int | None
    error: dict[str, Any] | None
    error_phase: str | None
    started_at: int
    duration_us: int | None
    suspicious: list[str] | None  # reasons; None when nothing was found


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of a step's model call."""

    step: int
    n: int
    call: int | None  # n of the try with which its model call began; None: it asked no model
    seq: int
    end_seq: int | None
    status: StepStatus
    provider: str | None
    model: str | None
    parameters: dict[str, Any]  # a large value as {"$": payload index}
    prompt_system: int | None
    prompt_user: int | None
    messages: int | None
    raw_response: int | None
    started_at: int
    duration_us: int | None
    first_token_us: int | None
    request_id: str | None
    finish_reason: str | None
    http_status: int | None
    validation: str | None  # valid, repaired, invalid; None when nothing was to validate
    validation_us: int | None
    validation_errors: list[str] | None
    tokens_input: int | None
    tokens_cached: int | None
    tokens_cache_write: int | None
    tokens_output: int | None
    tokens_reasoning: int | None
    usage: str  # reported, estimated, unbilled, unknown, replayed, cached, none
    cost_pico: int | None  # None: unknown
    price_source: str | None
    credits: int
    error: dict[str, Any] | None
    error_class: str | None
    prompt_name: str | None = None  # of the registry; None for one that stands in the code
    prompt_label: str | None = None  # by which it was asked for, or that a replay edited it
    prompt_version: str | None = None  # hash of its content
    alias: str | None = None  # by which the model was asked; None: the caller made its own
    tokens_input_audio: int | None = None  # of the input
    tokens_output_audio: int | None = None  # of the output
    tokens_input_image: int | None = None  # of the input
    tokens_output_image: int | None = None  # of the output
    price_date: str | None = None  # from which day on the price holds; None: always
    saved_pico: int | None = None  # what it would have cost more without the provider's cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Everything an execution leaves behind, ready to be stored in one transaction."""

    execution: Execution
    steps: tuple[Step, ...]
    attempts: tuple[Attempt, ...]
    entries: tuple[Any, ...]  # decoded payload entries, shared texts already as ["b", hash]
    blobs: tuple[tuple[str, str], ...]  # (hash, text) of the shared texts used
    lease_owner: str  # boot id that held the lease
    fence: int
    counts_as_crash: bool = True  # False when the hub died and not the work's own process
    part: int = 0  # grows with every resume; each part holds only what is new with it
    reopened: tuple[int, ...] = ()  # steps that an earlier part has, not ended then
    halt: Halt | None = None  # where a waiting or paused one goes on
    waits: tuple[Wait, ...] = ()  # what it waits for
    saved: tuple[Saved, ...] = ()  # checkpoints to be stored with it
    keeps_checkpoints: bool = False  # also when its event has come to rest
    event: NewEvent | None = None  # of a recording: stored with it, and never run
    redelivery: Redelivery = field(
        default_factory=Redelivery
    )  # what its pipeline says of running it again
    began: bool = True  # False when it was claimed, and certainly never run
    postponed: Postponed | None = None  # a breaker was open: the event runs later, uncounted
    savings: tuple[Saving, ...] = ()  # by what its providers kept of its prompts
    usage: tuple[UsageLine, ...] = ()  # for the ledger
    released: tuple[tuple[str, int], ...] = ()  # what its hub had set aside, by account
    answers: tuple[NewMessage, ...] = ()  # of an agent's turn, stored when its event succeeds
    apology: NewMessage | None = None  # … and in their place when it failed or is dead

"""What running work tells its hub, in the order it happens.

The same JSON travels over the socket, stands in the journal and feeds live views. Values
(inputs, prompts, answers) are indexes into the execution's `Texts`; `texts` carries the entries
that are new with this change and `first` says where they begin, so that a change that is lost
does not shift later ones. Times are microseconds since the epoch, durations microseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import orjson

from .payload import Entry, encode

NO_USAGE = "none"
"""What is said of an attempt's tokens when it asked no provider: it is one try of another node."""

CACHED = "cached"
"""What is said of an attempt's tokens when its answer was kept from another execution."""


@dataclass(slots=True, kw_only=True)
class StepStarted:
    """A step began. `step` is its number within the execution, from 1, in order of starting."""

    k: ClassVar[str] = "step.started"
    step: int
    parent: int | None
    kind: str  # node, model, tool, retriever, router, parallel, graph, chain
    operation: str
    version: str | None
    at: int
    input: int | None = None
    first: int = 0
    texts: list[Entry] | list[orjson.Fragment] = field(default_factory=list[Any])


@dataclass(slots=True, kw_only=True)
class StepFinished:
    """A step ended."""

    k: ClassVar[str] = "step.finished"
    step: int
    status: str  # StepStatus
    at: int
    duration_us: int
    output: int | None = None
    error: dict[str, Any] | None = None  # {"type", "message", "code"?}
    error_phase: str | None = None  # validation, provider, parsing, node
    skip_reason: str | None = None
    first: int = 0
    texts: list[Entry] | list[orjson.Fragment] = field(default_factory=list[Any])


@dataclass(slots=True, kw_only=True)
class AttemptStarted:
    """A model call is about to be made for a step, or a step of another kind to be tried."""

    k: ClassVar[str] = "attempt.started"
    step: int
    n: int  # from 1
    at: int
    provider: str | None
    model: str | None
    parameters: dict[str, Any]  # a large value as {"$": index}
    system: int | None  # prompt_system
    user: int | None  # prompt_user: the newest user text
    messages: int | None  # the whole list as it was sent
    prompt: dict[str, Any] | None = None  # `domain.prompts.Pin`; None for one that has no name
    call: int | None = None  # n of the try with which its model call began; later ones follow it
    alias: str | None = None  # by which the model was asked
    first: int = 0
    texts: list[Entry] | list[orjson.Fragment] = field(default_factory=list[Any])


@dataclass(slots=True, kw_only=True)
class AttemptFinished:
    """The provider answered, failed, or the call was given up."""

    k: ClassVar[str] = "attempt.finished"
    step: int
    n: int
    status: str  # StepStatus
    at: int
    duration_us: int
    first_token_us: int | None = None
    request_id: str | None = None
    finish_reason: str | None = None
    http_status: int | None = None
    model: str | None = None  # as the provider named it in its answer
    answer: int | None = None  # raw_response
    tokens_input: int | None = None  # all input, cached included
    tokens_cached: int | None = None  # of the input: read from a cache
    tokens_cache_write: int | None = None  # of the input: written to a cache
    tokens_cache_write_1h: int | None = None  # of those: to be kept for an hour
    tokens_output: int | None = None  # all output, reasoning included
    tokens_reasoning: int | None = None  # of the output
    tokens_input_audio: int | None = None  # of the input
    tokens_output_audio: int | None = None  # of the output
    tokens_input_image: int | None = None  # of the input
    tokens_output_image: int | None = None  # of the output
    usage: str = "unknown"  # reported by the provider, estimated, unknown, NO_USAGE or CACHED
    error: dict[str, Any] | None = None
    error_class: str | None = None  # temporary, rate_limit, permanent, budget, unknown
    first: int = 0
    texts: list[Entry] | list[orjson.Fragment] = field(default_factory=list[Any])


@dataclass(slots=True, kw_only=True)
class AttemptValidated:
    """An attempt's answer was held against its schema."""

    k: ClassVar[str] = "attempt.validated"
    step: int
    n: int
    outcome: str | None  # valid, repaired, invalid; None when there is no schema
    duration_us: int
    errors: list[str] = field(default_factory=list[str])
    credits: int = 0  # charged for an accepted answer
    first: int = 0
    texts: list[Entry] | list[orjson.Fragment] = field(default_factory=list[Any])


@dataclass(slots=True, kw_only=True)
class StepMarked:
    """Content checks took something out of what a step's model reads, or says."""

    k: ClassVar[str] = "step.marked"
    step: int
    reasons: list[str]  # kinds and counts, nothing of the content
    first: int = 0
    texts: list[Entry] | list[orjson.Fragment] = field(default_factory=list[Any])


@dataclass(slots=True, kw_only=True)
class ContentChecked:
    """A content check took something out of a model call, or refused it."""

    k: ClassVar[str] = "content.checked"
    check: str
    action: str  # redact, refuse
    on: str  # input, output
    first: int = 0
    texts: list[Entry] | list[orjson.Fragment] = field(default_factory=list[Any])


@dataclass(slots=True, kw_only=True)
class Finished:
    """The execution ended or stands still; nothing follows."""

    k: ClassVar[str] = "finished"
    status: str  # ExecutionStatus
    at: int
    output: int | None = None
    error: dict[str, Any] | None = None  # {"code", "message", "type"?, "step"?}
    faults: list[str] = field(default_factory=list[str])  # where recording itself went wrong
    waits: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])  # `domain.halts.Wait`
    saved: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])  # its checkpoints
    postponed: dict[str, Any] | None = None  # `domain.breakers.Postponed`: its event runs later
    redacted: dict[str, int] = field(default_factory=dict[str, int])  # kinds of what is not kept
    first: int = 0
    texts: list[Entry] | list[orjson.Fragment] = field(default_factory=list[Any])


Change = (
    StepStarted
    | StepFinished
    | StepMarked
    | AttemptStarted
    | AttemptFinished
    | AttemptValidated
    | ContentChecked
    | Finished
)

CHANGES: dict[str, type[Any]] = {
    cls.k: cls
    for cls in (
        StepStarted,
        StepFinished,
        StepMarked,
        AttemptStarted,
        AttemptFinished,
        AttemptValidated,
        ContentChecked,
        Finished,
    )
}


def write_change(change: Change) -> bytes:
    """One JSON object: the fields and `k`, the kind."""
    try:
        body = orjson.dumps(change)
    except TypeError:  # a lone surrogate in an error's message, a parameter of no JSON type
        body = encode(change)
    return b'{"k":"' + change.k.encode() + b'",' + body[1:]


def read_change(raw: bytes) -> Change:
    """The inverse of `write_change`.

    Raises:
        ValueError: not a known kind of change or not its fields.
    """
    body: dict[str, Any] = orjson.loads(raw)
    return change_from(body)


def change_from(body: dict[str, Any]) -> Change:
    """A change out of its decoded JSON object.

    Raises:
        ValueError: not a known kind of change or not its fields.
    """
    try:
        change: Change = CHANGES[body.pop("k")](**body)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"not a change: {error}") from error
    texts: Any = change.texts
    if type(texts) is not list or not all(type(e) is list and e for e in cast("Any", texts)):
        raise ValueError("not a change: texts that are no entries")
    return change

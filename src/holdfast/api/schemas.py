"""What goes out, as models: they document the answers; the answers themselves are not checked."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from holdfast.domain.hubs import Role
from holdfast.domain.keys import Scope
from holdfast.domain.status import EventStatus, ExecutionStatus, StepStatus

Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Dollars = Annotated[str, Field(description="Dollars, as exact decimal text.")]
Milliseconds = float


class Answer(BaseModel):
    """An object with exactly these fields."""

    model_config = ConfigDict(extra="forbid")


class FieldProblem(Answer):
    """One place in the input that was refused."""

    field: str
    expected: str | int
    got: Any


class Problem(Answer):
    """Problem details, RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    code: str = Field(description="Stable; safe to match on.")
    hint: str = Field("", description="What to do next.")
    errors: list[FieldProblem] = Field([], description="The offending fields.")


class EventLinks(Answer):
    """Where to go from an event."""

    event: str
    execution: str = Field("", description="The newest, once one began.")


class ExecutionLinks(Answer):
    """Where to go from an execution."""

    execution: str
    event: str
    stream: str
    export: str


class Accepted(Answer):
    """An event that is kept and will run."""

    id: str
    status: EventStatus
    created: bool = Field(description="False when the idempotency key was known.")
    links: EventLinks


class Cancelled(Answer):
    """What a wish to cancel did."""

    id: str
    status: EventStatus = Field(description="Of the event.")
    links: EventLinks | ExecutionLinks


class Resumed(Answer):
    """What a wish to go on, or to stand still, did."""

    id: str
    status: EventStatus = Field(description="Of the event.")
    links: ExecutionLinks


class Refused(Answer):
    """One of many that did not take a verb."""

    id: str
    code: str
    message: str


class Done(Answer):
    """What a verb did to many."""

    matched: int
    done: int
    refused: list[Refused]


class Event(Answer):
    """An event as lists show it."""

    id: str
    type: str
    source: str
    subject: str | None
    time: Time | None
    target: str
    target_kind: str
    priority: int
    idempotency_key: str | None
    status: EventStatus
    deliveries: int
    crashes: int
    cancel_requested: bool
    execution_id: str | None
    received_at: Time
    finished_at: Time | None
    last_error: dict[str, Any] | None
    links: EventLinks


class StepCounts(Answer):
    """How many steps ended how."""

    total: int
    succeeded: int
    skipped: int
    failed: int


class Tokens(Answer):
    """Sums of tokens by class."""

    input: int
    cached: int
    output: int
    reasoning: int


class Unknown(Answer):
    """Attempts that the sums cannot include."""

    usage: int
    cost: int


class Execution(Answer):
    """An execution as lists show it."""

    id: str
    event_id: str
    kind: str
    name: str
    version: str
    code_version: str
    delivery: int
    parent_id: str | None
    trace_id: str | None
    status: ExecutionStatus
    error: dict[str, Any] | None
    started_at: Time
    finished_at: Time | None
    duration_ms: Milliseconds | None
    step_counts: StepCounts
    tokens: Tokens
    cost_usd: Dollars
    credits: int
    unknown: Unknown
    flags: dict[str, Any]
    seq: int = Field(description="Number of its last change.")
    waits: list[dict[str, Any]] = Field(description="What it waits for now.")
    stops: list[dict[str, Any]] = Field(description="When it waited or was paused, and went on.")
    links: ExecutionLinks


class Result(Answer):
    """What came of an event."""

    execution_id: str
    status: ExecutionStatus
    output: Any
    error: dict[str, Any] | None
    links: ExecutionLinks


class EventDetail(Event):
    """An event with all that belongs to it."""

    data: Any
    executions: list[Execution] = Field(description="Oldest first.")
    result: Result | None = Field(description="Of the newest execution, once the event has ended.")


class SubmittedEvent(EventDetail):
    """An event that has ended, as the answer to sending it."""

    created: bool = Field(description="False when the idempotency key was known.")


class Validation(Answer):
    """How an answer was held against its schema."""

    outcome: str
    duration_ms: Milliseconds | None
    errors: list[str]


class AttemptTokens(Answer):
    """Tokens of one attempt; null is unknown."""

    input: int | None
    cached: int | None
    cache_write: int | None
    output: int | None
    reasoning: int | None
    usage: str = Field(
        description="reported, estimated, unbilled, unknown, or none where no provider was asked"
    )


class Attempt(Answer):
    """One try of a model call."""

    n: int
    seq: int
    end_seq: int | None
    status: StepStatus
    provider: str | None
    model: str | None
    parameters: dict[str, Any]
    prompt_system: Any
    prompt_user: Any
    messages: Any
    raw_response: Any
    started_at: Time
    duration_ms: Milliseconds | None
    first_token_ms: Milliseconds | None
    request_id: str | None
    finish_reason: str | None
    http_status: int | None
    validation: Validation | None
    tokens: AttemptTokens
    cost_usd: Dollars | None
    price_source: str | None
    credits: int
    error: dict[str, Any] | None
    error_class: str | None


class Step(Answer):
    """A node, model call, tool call or decision."""

    step: int
    parent: int | None
    seq: int
    end_seq: int | None
    kind: str
    operation: str
    operation_version: str | None
    status: StepStatus
    skip_reason: str | None
    input: Any
    output: Any
    error: dict[str, Any] | None
    error_phase: str | None
    started_at: Time
    duration_ms: Milliseconds | None
    suspicious: list[str] | None
    attempts: list[Attempt]


class ExecutionDetail(Execution):
    """An execution whole."""

    input: Any
    output: Any
    steps: list[Step]


class Export(Answer):
    """One self-contained document."""

    format: str
    event: dict[str, Any]
    execution: dict[str, Any]


class EventPage(Answer):
    """A page of events."""

    items: list[Event]
    next: str | None = Field(description="The next page; null on the last one.")


class ExecutionPage(Answer):
    """A page of executions."""

    items: list[Execution]
    next: str | None = Field(description="The next page; null on the last one.")


class Pruned(Answer):
    """What was deleted because it was kept long enough."""

    events: dict[str, int] = Field(description="Events by pipeline that declares a retention.")
    dry_run: bool = Field(description="They were only counted.")


class PipelineLinks(Answer):
    """Where a pipeline is."""

    pipeline: str


class Pipeline(Answer):
    """A loaded pipeline."""

    name: str
    kind: str
    version: str
    code_version: str
    description: str
    deadline: float | None = Field(description="Seconds an execution may take.")
    priority: int = Field(description="Of its events when their sender names none.")
    retries: int = Field(description="Deliveries wished for after a temporary error.")
    max_running: int | None = Field(description="Executions that one hub runs at once.")
    retention: float | None = Field(description="Seconds that records are kept.")
    links: PipelineLinks


class PipelineDetail(Pipeline):
    """A pipeline with its schema and wiring."""

    event_schema: dict[str, Any] = Field(description="JSON schema of the events' data.")
    graph: dict[str, Any] = Field(description="`nodes` and `edges`, for drawing.")


class AppFailure(Answer):
    """An app that is left out."""

    app: str
    code: str
    message: str
    hint: str


class PipelineList(Answer):
    """All pipelines, and the apps that could not be loaded."""

    items: list[Pipeline]
    failures: list[AppFailure]


class Welcome(Answer):
    """Who answers, and where to go."""

    name: str
    version: str
    links: dict[str, str]


class Health(Answer):
    """A living process."""

    status: str
    version: str


class Readiness(Answer):
    """A hub that can work."""

    ready: bool


class RecordingRefused(Answer):
    """A recording that will never be stored."""

    id: str
    code: str
    message: str


class RecordingsKept(Answer):
    """What became of sent recordings."""

    stored: list[str]
    refused: list[RecordingRefused]
    faults: int = Field(description="Entries that could not be understood and were passed over.")


class Key(Answer):
    """An API key, without its secret."""

    id: str
    name: str
    owner: str = Field(description="Whose things it opens.")
    prefix: str = Field(description="How the key begins, after `hf_`.")
    scopes: list[Scope]
    created_at: Time
    last_used_at: Time | None = Field(description="A few seconds late.")
    expires_at: Time | None
    revoked_at: Time | None


class CreatedKey(Key):
    """A new API key."""

    key: str = Field(description="The whole key; it cannot be seen again.")


class KeyList(Answer):
    """All API keys."""

    items: list[Key]


class Hub(Answer):
    """A hub that shares the database."""

    id: str
    kind: str = Field(description="`hub`, or `celery` for a Celery worker's process.")
    roles: list[Role]
    host: str
    pid: int
    version: str = Field(description="Of Holdfast.")
    alive: bool = Field(description="It was heard of lately.")
    stopping: bool = Field(description="It takes nothing more and hands back what it has.")
    started_at: Time
    seen_at: Time


class HubList(Answer):
    """The hubs of one database."""

    items: list[Hub]

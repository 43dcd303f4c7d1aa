"""What goes out, as models: they document the answers; the answers themselves are not checked."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from holdfast.domain.breakers import BreakerStatus
from holdfast.domain.diff import Verdict
from holdfast.domain.events import Origin
from holdfast.domain.hubs import Role
from holdfast.domain.keys import Scope
from holdfast.domain.schedules import Missed
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
    duplicate: bool = Field(description="An event like it was there already: this one.")
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


class Moved(Answer):
    """What became of an event."""

    id: str
    status: EventStatus
    links: EventLinks


class Discarded(Answer):
    """Who discarded a dead letter, and why."""

    at: Time
    by: str = Field(description="Id of the API key, or the local user.")
    reason: str


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
    session_id: str | None = Field(description="The conversation it is a turn of.")
    idempotency_key: str | None
    status: EventStatus
    deliveries: int
    crashes: int = Field(description="How often the process that ran it died.")
    errors: int = Field(description="How often it ended with a temporary error.")
    available_at: Time = Field(description="Not run before.")
    cancel_requested: bool
    execution_id: str | None
    parent_id: str | None = Field(description="Execution that its executions come from.")
    origin: Origin | None = Field(description="Why it has a parent.")
    received_at: Time
    finished_at: Time | None
    last_error: dict[str, Any] | None
    discarded: Discarded | None = Field(description="Of a dead letter nobody runs again.")
    postponed_for: str | None = Field(description="The open breaker whose closing it waits for.")
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
    parent_id: str | None = Field(description="Execution that it comes from.")
    origin: Origin | None = Field(description="Why it has a parent.")
    session_id: str | None
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


class Happened(Answer):
    """One entry of a dead letter's history: a delivery, or what somebody did."""

    what: str = Field(description="`delivered`, `edited`, `replayed` or `discarded`.")
    at: Time
    delivery: int | None = Field(None, description="Counted anew by a replay.")
    execution_id: str | None = None
    status: ExecutionStatus | None = None
    error: dict[str, Any] | None = None
    by: str | None = None
    reason: str | None = None
    before: dict[str, Any] | None = Field(None, description="What it counted until then.")
    data: Any = Field(None, description="The event's data before an edit.")


class DeadLetter(EventDetail):
    """A dead letter with its whole history."""

    history: list[Happened] = Field(description="In the order it happened.")


class SubmittedEvent(EventDetail):
    """An event that has ended, as the answer to sending it."""

    created: bool = Field(description="False when the idempotency key was known.")
    duplicate: bool = Field(description="An event like it was there already: this one.")


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
        description="reported, estimated, unbilled, unknown, replayed, or none where no provider "
        "was asked"
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


class ChildExecution(Answer):
    """An execution that another one started and waits for; its record is its own."""

    id: str
    event_id: str
    name: str
    version: str
    status: ExecutionStatus
    step: int | None = Field(description="Of its parent's steps, the one that started it.")
    error: dict[str, Any] | None
    flags: dict[str, Any]
    started_at: Time
    finished_at: Time | None
    duration_ms: Milliseconds | None
    tokens: Tokens
    cost_usd: Dollars
    credits: int
    unknown: Unknown


class FamilySums(Answer):
    """Sums over an execution and all that it started, directly or not; each counts once."""

    executions: int
    estimated: bool = Field(description="Whether tokens of any were estimated.")
    tokens: Tokens
    cost_usd: Dollars
    credits: int
    unknown: Unknown


class ExecutionDetail(Execution):
    """An execution whole; its own sums leave its children out."""

    input: Any
    output: Any
    children: list[ChildExecution] = Field(description="Oldest first, at most 1000.")
    with_children: FamilySums
    steps: list[Step]


class NodeProgress(Answer):
    """A node of a pipeline, as far as an execution has come."""

    name: str = Field(description="`quote.price` is node `price` of what `quote` includes.")
    kind: str
    group: str | None = Field(description="The group or map that runs it.")
    status: Literal["pending", "not_run", "waiting", "paused"] | StepStatus = Field(
        description="Of its last run; `not_run`: the execution ended without it."
    )
    runs: int = Field(description="How often: loops and maps run a node more than once.")
    outcomes: dict[str, int] = Field(description="Runs by status.")
    step: int | None = Field(description="Number of its last step in the record.")
    skip_reason: str | None
    error: dict[str, Any] | None
    started_at: Time | None
    duration_ms: Milliseconds | None


class ExecutionProgress(Answer):
    """Every node of an execution's pipeline and where it stands."""

    id: str
    event_id: str
    name: str
    version: str
    status: ExecutionStatus
    declared: bool = Field(
        description="False when that version is not loaded: only nodes that ran are listed."
    )
    nodes: list[NodeProgress]
    links: ExecutionLinks


class Export(Answer):
    """One self-contained document."""

    format: str
    event: dict[str, Any]
    execution: dict[str, Any]


class Fixture(Answer):
    """An execution as `holdfast.testing.replayed` runs it again."""

    format: str
    app: str | None = Field(description="Where its pipeline is declared: `module:attribute`.")
    recorded: dict[str, Any]


class Side(Answer):
    """One of two executions that are compared."""

    id: str
    name: str
    version: str
    code_version: str
    status: ExecutionStatus


class StepTokens(Answer):
    """Tokens of one step's attempts."""

    input: int
    output: int


class StepFigures(Answer):
    """What is told of a compared step for information: it makes no difference."""

    step: int
    status: StepStatus
    attempts: int
    tokens: StepTokens
    cost_usd: Dollars | None
    duration_ms: Milliseconds | None


class Change(Answer):
    """One thing that is not as it was."""

    what: str = Field(
        description="prompt.system, prompt.user, messages, model, schema, parameters, answer, "
        "validation, attempts, output, error or status; of the whole also name, version, "
        "code_version and data"
    )
    a: Any
    b: Any
    diff: list[str] = Field(description="Lines of a unified diff.")


class ComparedStep(Answer):
    """A step in both executions, or in one of them."""

    step: str = Field(description="Where it stands: `judge/intent`, `each/score[2]`, `draft#2`.")
    kind: str
    verdict: Verdict
    a: StepFigures | None
    b: StepFigures | None
    changes: list[Change]


class Comparison(Answer):
    """Two executions of a pipeline, step by step."""

    a: Side
    b: Side
    same: bool
    first: str | None = Field(description="The first step that differs, in order of ending.")
    followed: list[str] = Field(description="The others that do.")
    changes: list[Change] = Field(description="Of the executions as wholes.")
    steps: list[ComparedStep]


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
    retries: int = Field(description="Further deliveries after temporary errors.")
    redeliver: bool = Field(description="False: an event that began never begins again.")
    max_running: int | None = Field(description="Executions that one hub runs at once.")
    rate: str | None = Field(description="Executions of an owner that may begin in a time.")
    dedup: float | None = Field(description="Seconds that an event like it is taken for it.")
    singleton: bool = Field(description="One unfinished event at a time, of all or of a kind.")
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


class ScheduleLinks(Answer):
    """Where to go from a schedule."""

    schedule: str
    last_event: str | None


class Schedule(Answer):
    """A schedule."""

    id: str
    name: str
    cron: str
    timezone: str
    pipeline: str
    data: Any
    priority: int | None
    missed: Missed
    enabled: bool = Field(description="False while it is paused.")
    next_at: Time | None
    last_at: Time | None = Field(description="The time its last event was due.")
    last_event_id: str | None
    last_missed_at: Time | None = Field(description="The last time that was passed over.")
    last_error: dict[str, Any] | None = Field(description="Why its last time made no event.")
    created_at: Time
    updated_at: Time
    links: ScheduleLinks


class ScheduleList(Answer):
    """All schedules, by name."""

    items: list[Schedule]


class Deleted(Answer):
    """What is gone."""

    deleted: str


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


class Breaker(Answer):
    """A circuit breaker."""

    name: str
    status: BreakerStatus
    openings: int = Field(description="In a row, with no success between them.")
    until: Time | None = Field(description="When one call may try; null while open: never.")
    reason: str | None = Field(description="What opened it.")
    by_hand: bool
    changed_at: Time
    waiting: int = Field(description="Events of all owners that wait for it to close.")


class BreakerList(Answer):
    """All breakers."""

    items: list[Breaker]


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

"""What goes out, as models: they document the answers; the answers themselves are not checked."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from holdfast.domain.breakers import BreakerStatus
from holdfast.domain.budgets import Period, Unit
from holdfast.domain.budgets import Scope as BudgetScope
from holdfast.domain.context_cache import CacheStatus
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


class AgentName(Answer):
    """An agent as people know it."""

    id: str
    name: str | None = Field(description="null where it was deleted.")


class Event(Answer):
    """An event as lists show it."""

    id: str
    type: str
    source: str
    subject: str | None
    time: Time | None
    target: str
    target_kind: str
    agent: AgentName | None = Field(description="That it is for; null: it runs a pipeline.")
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
    agent: AgentName | None = Field(description="Whose turn it is; null: it runs a pipeline.")
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
    input_audio: int | None
    output_audio: int | None
    input_image: int | None
    output_image: int | None
    usage: str = Field(
        description="reported, estimated, unbilled, unknown, replayed, cached, or none where no "
        "provider was asked"
    )


class UsedPrompt(Answer):
    """The prompt of the registry that an attempt used."""

    name: str | None = Field(description="None for one in the code that a replay edited.")
    label: str | None = Field(description="By which it was asked for; `file`, `edited`.")
    version: str = Field(description="SHA-256 of its content.")


class Attempt(Answer):
    """One try of a model call."""

    n: int
    call: int | None = Field(description="n of the first try of the same model call")
    seq: int
    end_seq: int | None
    status: StepStatus
    alias: str | None = Field(description="By which the model was asked.")
    provider: str | None
    model: str | None
    parameters: dict[str, Any]
    prompt: UsedPrompt | None
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
    price_date: str | None = Field(description="From which day on the price holds; null: always.")
    saved_usd: Dollars | None = Field(description="What it would have cost more without a cache.")
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
        description="prompt.version, prompt.system, prompt.user, messages, model, schema, "
        "parameters, answer, validation, attempts, output, error or status; of the whole also "
        "name, version, code_version and data"
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
    built_in: bool = Field(description="It is Holdfast's own; no app declares it.")
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
    loaded: bool = Field(description="Whether this hub has its pipeline: only then it fires here.")
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


class EmbeddingModel(Answer):
    """What made a collection's vectors."""

    provider: str
    model: str
    dimensions: int


class Collection(Answer):
    """A collection of documents."""

    id: str
    name: str
    embedding: EmbeddingModel
    documents: int
    chunks: int
    created_at: Time
    updated_at: Time


class CollectionList(Answer):
    """All collections, by name."""

    items: list[Collection]


class Document(Answer):
    """A document, without its text."""

    id: str
    key: str
    metadata: dict[str, Any]
    chunks: int
    tokens: int = Field(description="Of all chunks, about.")
    created_at: Time
    updated_at: Time


class DocumentPage(Answer):
    """A page of documents, newest first."""

    items: list[Document]
    next: str | None


class Indexed(Document):
    """A document that is found from now on."""

    embedded: bool = Field(description="False: the same text was there already.")
    tokens_used: int = Field(description="By embedding.")


class FoundChunk(Answer):
    """A chunk of a document."""

    key: str = Field(description="Of its document.")
    n: int = Field(description="Its place in the document, from 0.")
    text: str
    score: float = Field(description="By which hits are ordered, comparable within one answer.")
    similarity: float | None = Field(description="A cosine; null where words alone found it.")
    metadata: dict[str, Any]


class FoundChunks(Answer):
    """What a search found, the best first."""

    items: list[FoundChunk]
    tokens_used: int = Field(description="By embedding the query.")


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


class UsageTokens(Answer):
    """Sums of tokens by class."""

    input: int
    cached: int = Field(description="Of the input.")
    cache_write: int = Field(description="Of the input.")
    output: int
    reasoning: int = Field(description="Of the output.")
    audio: int = Field(description="Of input and output.")
    image: int = Field(description="Of input and output.")


class UsageSums(Answer):
    """What calls used together."""

    calls: int
    tokens: UsageTokens
    cost_usd: Dollars
    saved_usd: Dollars = Field(description="What they would have cost more without caches.")
    credits: int
    unknown: Unknown
    estimated: int = Field(description="Calls whose tokens are an estimate.")


class UsageItem(UsageSums):
    """What calls used together, of one day, say."""

    key: str = Field(description="Of what, as `by` says; empty: it has no such name.")


class Usage(Answer):
    """Sums of what was used."""

    by: str
    since: str | None
    until: str | None
    items: list[UsageItem]
    total: UsageSums


class PlannedPrompt(Answer):
    """A prompt that a run will send."""

    node: str
    alias: str
    tokens: int | None = Field(description="About; null: it needs what earlier nodes make.")


class Spread(Answer):
    """What past executions took."""

    median: int
    p90: int
    of: int = Field(description="Executions of which it is known.")


class DollarSpread(Answer):
    """What past executions cost."""

    median: Dollars
    p90: Dollars
    of: int = Field(description="Executions of which it is known.")


class Estimate(Answer):
    """What one execution may take; null: nobody knows."""

    estimate: bool
    pipeline: str
    version: str
    prompts: list[PlannedPrompt]
    executions: int = Field(description="Past ones of this version that were looked at.")
    tokens_input: Spread | None
    tokens_output: Spread | None
    cost_usd: DollarSpread | None
    credits: Spread | None


class Budget(Answer):
    """How much may be spent."""

    id: str
    title: str
    scope: BudgetScope
    subject: str
    period: Period
    unit: Unit
    amount: str
    spent: str | None = Field(description="In its period; null where each has its own.")
    set_aside: str | None = Field(description="For calls under way and what is not stored yet.")
    created_at: Time
    updated_at: Time


class BudgetList(Answer):
    """All budgets."""

    items: list[Budget]


class Hub(Answer):
    """A hub that shares the database."""

    id: str
    kind: str = Field(description="`hub`, or `celery` for a Celery worker.")
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


class ContextCache(Answer):
    """The static beginning of a prompt, and whether its provider keeps it."""

    id: str
    prompt: str = Field(description="Whose static part it is: `pipeline:node`.")
    provider: str
    model: str
    status: CacheStatus
    tokens: int | None
    minimum: int | None = Field(description="Tokens below which the model keeps nothing.")
    reason: str | None = Field(description="Why it is not kept.")
    resource: str | None = Field(description="The provider's name for it, where it has one.")
    until: Time | None = Field(description="End of what the status says; null: not known.")
    changed_at: Time


class CacheList(Answer):
    """Context caches."""

    items: list[ContextCache]
    more: bool = Field(description="There are more than are listed.")


class CacheSums(Answer):
    """Sums of what caches saved and cost."""

    hits: int = Field(description="Calls that read from a cache.")
    writes: int = Field(description="Calls that wrote to one.")
    tokens_read: int
    tokens_written: int
    saved_usd: str = Field(description="What the tokens read would have cost more.")
    write_usd: str = Field(description="What the tokens written cost more.")
    storage_usd: str = Field(description="What keeping them cost, where that is paid by time.")
    storage_token_hours: int
    net_usd: str = Field(description="Saved, less what writing and storing cost.")
    unpriced: int = Field(description="Calls and storages of unknown price, in no sum of money.")


class Saving(CacheSums):
    """What one prompt saved on one day with one model."""

    day: str = Field(description="UTC, as 2026-11-20.")
    prompt: str
    pipeline: str
    provider: str
    model: str


class SavingList(Answer):
    """Savings by day, prompt and model."""

    items: list[Saving]
    total: CacheSums
    more: bool = Field(description="There are more than are listed; the total is of those listed.")

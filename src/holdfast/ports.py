"""What running work may ask of its hub, and what it tells it: one small Protocol per service.

Inside a runner these are answered over the socket, in tests and notebooks by direct calls. Every
call has a deadline on the asking side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from holdfast.domain.breakers import Outcome
from holdfast.domain.checkpoints import Checkpoint, CheckpointsWanted, Saved
from holdfast.domain.conversations import Window
from holdfast.errors import PortError

running_execution: ContextVar[str | None] = ContextVar("running_execution", default=None)
"""The execution the present task or thread works for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """One execution to run: everything a runner needs to know, and nothing it does not."""

    execution_id: str
    event_id: str
    owner_id: str
    kind: str  # pipeline, agent
    name: str
    version: str
    data: bytes  # the event's data as JSON
    delivery: int
    deadline_s: float | None = None  # seconds from the start
    traceparent: str | None = None
    goes_on: bool = False  # there are checkpoints to go on from
    answers: Mapping[str, Any] = field(default_factory=dict[str, Any])  # by id of the wait
    steps: int = 0  # of the same execution before it halted
    texts: int = 0  # … its payload entries
    open: Sequence[Mapping[str, Any]] = ()  # … its steps that had not ended
    budgeted: bool = False  # some budget may count what it spends
    replay: Mapping[str, Any] | None = None  # fields of `domain.replays.Plan`; None: no replay
    prompts: Mapping[str, str] = field(default_factory=dict[str, str])  # versions, as asked for
    session_id: str | None = None  # the conversation it is a turn of


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """What a model alias stands for.

    Secrets are resolved by the hub and only for the aliases in use; they never enter a record.
    """

    alias: str
    provider: str
    model: str
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])
    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    context_cache: bool | None = None  # False: never; None: where it needs no setting
    cache_ttl_s: int | None = None  # how long the provider is to keep a beginning
    fallbacks: Sequence[str] = ()  # aliases asked in its place, in order
    limits: Mapping[str, int] = field(default_factory=dict[str, int])  # see `LIMITS`
    retries: int = 0
    backoff: Mapping[str, float] = field(default_factory=dict[str, float])  # of a `Backoff`
    time_limit_s: float | None = None  # for a whole call, its stream included
    response_cache_s: float | None = None  # how long an answer is used for the same call
    price: str | None = None  # `provider:model` as which its calls are priced
    checks: Sequence[Mapping[str, Any]] = ()  # fields of `llm.content.rules.Rule`


LIMITS = ("requests_per_minute", "tokens_per_minute", "in_flight")
"""What an alias may limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingCall:
    """One call that made vectors, as a record tells it.

    Attributes:
        at: when it began, microseconds since the epoch.
        texts: how many were sent.
        tokens: of all texts; None when the call failed, or used none.
        usage: `reported`, `estimated`, `unknown`, or `none` where no model was asked.
        error: what went wrong; None when nothing did.
    """

    provider: str
    model: str
    at: int
    duration_us: int
    texts: int
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])
    tokens: int | None = None
    usage: str = "unknown"
    request_id: str | None = None
    error: str | None = None
    error_class: str | None = None
    http_status: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KnowledgeAnswer:
    """What the hub answers about knowledge, or items, whether it could or not.

    Attributes:
        value: what was asked for; None when it failed.
        calls: embedding calls made on the way, the failed ones too: they were paid for.
        error: `{"code", "message", "hint"}`, with `error_class` and `http_status` of a provider's
            failure.
    """

    value: Any = None
    calls: Sequence[EmbeddingCall] = ()
    error: Mapping[str, Any] | None = None


class KnowledgePort(Protocol):
    """Keeps and searches documents for the execution's owner.

    A refusal or a provider's failure is part of the answer; `PortError` is raised when the hub did
    not answer in time.
    """

    async def index(
        self,
        *,
        execution_id: str,
        collection: str,
        key: str,
        text: str,
        metadata: Mapping[str, Any],
        alias: str | None,
    ) -> KnowledgeAnswer:
        """Add a document, or put it in the place of the one of that key.

        The value has the fields of `domain.knowledge.Stored`. The alias of the embeddings may be
        None: that of the collection, or the default.
        """
        ...

    async def delete(self, *, execution_id: str, collection: str, key: str) -> KnowledgeAnswer:
        """Delete a document; the value says whether there was one."""
        ...

    async def search(self, *, execution_id: str, asked: Mapping[str, Any]) -> KnowledgeAnswer:
        """Find chunks; the value is a list with the fields of `domain.knowledge.Hit`.

        Args:
            execution_id: whose owner's.
            asked: see `domain.knowledge.read_search`.
        """
        ...


class NoKnowledge:
    """Where nothing is known."""

    async def index(self, **asked: Any) -> KnowledgeAnswer:  # noqa: ARG002
        """See `KnowledgePort.index`."""
        raise PortError("no documents are kept here")

    async def delete(self, **asked: Any) -> KnowledgeAnswer:  # noqa: ARG002
        """See `KnowledgePort.delete`."""
        raise PortError("no documents are kept here")

    async def search(self, **asked: Any) -> KnowledgeAnswer:  # noqa: ARG002
        """See `KnowledgePort.search`."""
        raise PortError("no documents are kept here")


class MemoryPort(Protocol):
    """What is remembered for the execution's owner: of its sessions, and in items beyond them."""

    async def window(
        self, *, execution_id: str, token_budget: int, depth: int | None = None
    ) -> Window:
        """What the model gets to see of the session whose turn this execution is.

        Args:
            execution_id: a turn; its own question is the newest message of the window.
            token_budget: how many tokens that may take, by estimate.
            depth: the most messages of it; None for as many as fit.

        Raises:
            PortError: the hub did not answer in time, or this is no turn of a session.
        """
        ...

    async def unsummarised(
        self, *, execution_id: str, session_id: str, keep: int, block: int
    ) -> Window:
        """The oldest messages for which the next summary is to stand.

        Args:
            execution_id: whose owner's session it is.
            session_id: the session.
            keep: so many of the newest stay as they are.
            block: how many messages a summary stands for.

        Returns:
            In `messages` the block, none when it is not due; in `summaries` the newest one; in
            `facts` what is known.

        Raises:
            PortError: the hub did not answer in time, or there is no such session.
        """
        ...

    async def summarise(
        self,
        *,
        execution_id: str,
        session_id: str,
        of: Sequence[str],
        summary: str,
        facts: Sequence[str],
    ) -> bool:
        """Let a summary stand for messages, which are kept and marked, and note facts.

        Args:
            execution_id: who has made it.
            session_id: the session.
            of: ids of the messages, oldest first.
            summary: the text.
            facts: to be remembered of this session, besides those that are.

        Returns:
            False when a summary stands for one of them already: then nothing is stored.

        Raises:
            PortError: the hub did not answer in time or refused.
        """
        ...

    async def items(
        self, *, execution_id: str, ops: Sequence[Mapping[str, Any]]
    ) -> KnowledgeAnswer:
        """Read and write items of the execution's agent or pipeline, in one batch.

        Reads see what was there before the batch.

        Args:
            execution_id: whose owner's, and which agent's or pipeline's.
            ops: `{"op": "get", "namespace", "key", "refresh"}`,
                `{"op": "search", "prefix", "filter", "query", "limit", "offset", "refresh"}`,
                `{"op": "put", "namespace", "key", "value", "text", "ttl_s"}` (without a value the
                item is deleted; the text is what it is found by) or
                `{"op": "namespaces", "match", "max_depth", "limit", "offset"}`.

        Returns:
            The value is a list with one result for each; the calls are those that made vectors.

        Raises:
            PortError: the hub did not answer in time.
        """
        ...


class NoMemory:
    """Where nothing is remembered."""

    async def window(
        self,
        *,
        execution_id: str,  # noqa: ARG002
        token_budget: int,  # noqa: ARG002
        depth: int | None = None,  # noqa: ARG002
    ) -> Window:
        """See `MemoryPort.window`."""
        raise PortError("no sessions are kept here")

    async def unsummarised(
        self,
        *,
        execution_id: str,  # noqa: ARG002
        session_id: str,  # noqa: ARG002
        keep: int,  # noqa: ARG002
        block: int,  # noqa: ARG002
    ) -> Window:
        """See `MemoryPort.unsummarised`."""
        raise PortError("no sessions are kept here")

    async def summarise(
        self,
        *,
        execution_id: str,  # noqa: ARG002
        session_id: str,  # noqa: ARG002
        of: Sequence[str],  # noqa: ARG002
        summary: str,  # noqa: ARG002
        facts: Sequence[str],  # noqa: ARG002
    ) -> bool:
        """See `MemoryPort.summarise`."""
        raise PortError("no sessions are kept here")

    async def items(
        self,
        *,
        execution_id: str,  # noqa: ARG002
        ops: Sequence[Mapping[str, Any]],  # noqa: ARG002
    ) -> KnowledgeAnswer:
        """See `MemoryPort.items`."""
        raise PortError("no items are kept here")


class RecordSink(Protocol):
    """Takes an execution's changes in order; never blocks, never raises into the run."""

    def change(self, execution_id: str, raw: bytes) -> None:
        """Take one change as `domain.changes.write_change` wrote it."""
        ...

    def tokens(self, execution_id: str, step: int, text: str) -> None:
        """Take a piece of streamed text; may be dropped under load, is never journalled."""
        ...


class EventsPort(Protocol):
    """Lets a step send a further event."""

    async def submit(
        self,
        *,
        execution_id: str,
        type: str,  # noqa: A002 - CloudEvents' name
        data: Mapping[str, Any],
        idempotency_key: str | None = None,
    ) -> str:
        """Store an event for the execution's owner and return its id.

        Raises:
            PortError: the hub did not answer in time or refused.
        """
        ...


@dataclass(frozen=True, slots=True)
class CachedResult:
    """A result kept for the same input."""

    execution_id: str  # whose it was
    value: str  # JSON


class CachePort(Protocol):
    """Keeps results of steps for a while, apart for each owner; may forget any of them."""

    async def get(self, *, execution_id: str, key: str) -> CachedResult | None:
        """What was kept under the key by an execution of the same owner; None when nothing.

        Raises:
            PortError: the hub did not answer in time or refused.
        """
        ...

    async def put(self, *, execution_id: str, key: str, value: str, ttl_s: float) -> None:
        """Keep a result, as JSON, for so many seconds at most.

        Raises:
            PortError: the hub did not answer in time or refused.
        """
        ...


class NoCache:
    """A cache that keeps nothing, where there is no hub to keep it."""

    async def get(self, *, execution_id: str, key: str) -> CachedResult | None:  # noqa: ARG002
        """See `CachePort.get`."""
        return None

    async def put(self, *, execution_id: str, key: str, value: str, ttl_s: float) -> None:
        """See `CachePort.put`."""


class CheckpointsPort(Protocol):
    """Keeps the state of graphs, for the execution's owner and under its lease.

    Calls take effect in the order in which they were made, not in that of their answers. Each
    raises `PortError` when the hub did not answer in time or refused, above all when the lease
    is lost.
    """

    async def save(self, *, execution_id: str, saved: Sequence[Saved]) -> None:
        """Store checkpoints and writes that follow one, all or none; stored when this returns."""
        ...

    async def list(self, *, execution_id: str, wanted: CheckpointsWanted) -> Sequence[Checkpoint]:
        """Checkpoints with their values and writes, newest first."""
        ...

    async def drop_runs(self, *, execution_id: str, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints whose metadata name one of these runs."""
        ...

    async def copy(self, *, execution_id: str, source: str, target: str) -> None:
        """Copy a thread; what the other thread had is gone."""
        ...

    async def prune(self, *, execution_id: str, thread_ids: Sequence[str], keep: str) -> None:
        """Delete threads; with `keep="latest"` the newest checkpoint of each namespace stays."""
        ...


class NoCheckpoints:
    """Where nothing keeps checkpoints: graphs that need none run, others say why they do not."""

    async def save(self, *, execution_id: str, saved: Sequence[Saved]) -> None:  # noqa: ARG002
        """See `CheckpointsPort.save`."""
        raise PortError("nothing keeps checkpoints here")

    async def list(
        self,
        *,
        execution_id: str,  # noqa: ARG002
        wanted: CheckpointsWanted,  # noqa: ARG002
    ) -> Sequence[Checkpoint]:
        """See `CheckpointsPort.list`."""
        return []

    async def drop_runs(self, *, execution_id: str, run_ids: Sequence[str]) -> None:  # noqa: ARG002
        """See `CheckpointsPort.drop_runs`."""
        raise PortError("nothing keeps checkpoints here")

    async def copy(self, *, execution_id: str, source: str, target: str) -> None:  # noqa: ARG002
        """See `CheckpointsPort.copy`."""
        raise PortError("nothing keeps checkpoints here")

    async def prune(self, *, execution_id: str, thread_ids: Sequence[str], keep: str) -> None:  # noqa: ARG002
        """See `CheckpointsPort.prune`."""
        raise PortError("nothing keeps checkpoints here")


class RecordsPort(Protocol):
    """Hands out the record that a replay repeats."""

    async def replayed(self, *, execution_id: str) -> Mapping[str, Any]:
        """The record that this execution repeats, as `domain.replays.Recorded` writes it.

        Raises:
            PortError: the hub did not answer in time, or the record is gone.
        """
        ...


class NoRecords:
    """Where no records are kept."""

    async def replayed(self, *, execution_id: str) -> Mapping[str, Any]:  # noqa: ARG002
        """See `RecordsPort.replayed`."""
        raise PortError("no records are kept here")


class PromptsPort(Protocol):
    """Hands out the contents of prompts."""

    async def version(self, *, execution_id: str, name: str, version: str) -> Mapping[str, Any]:
        """The content of a version, as `domain.prompts.Draft` writes it.

        Args:
            execution_id: whose owner must have it, or the apps.
            name: of the prompt.
            version: hash of the content.

        Raises:
            PortError: the hub did not answer in time, or there is no such version.
        """
        ...


class NoPrompts:
    """Where nobody keeps versions: runs use what the files say."""

    async def version(self, *, execution_id: str, name: str, version: str) -> Mapping[str, Any]:  # noqa: ARG002
        """See `PromptsPort.version`."""
        raise PortError(f"nothing keeps versions of prompts here: {name} {version}")


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to make one call.

    Attributes:
        breaker: whose.
        generation: of its state as the caller knew it; what is told of older ones does not count.
        probe: id of the probe that this call is; None for an ordinary one.
    """

    breaker: str
    generation: int = 0
    probe: str | None = None


class BreakersPort(Protocol):
    """Says whether calls to something outside are made, and hears how they ended."""

    async def allow(self, breaker: str) -> Permit:
        """Ask before a call; asks the hub only when a probe may be due.

        Raises:
            BreakerOpen: no call is to be made now.
        """
        ...

    def allow_in_thread(self, breaker: str) -> Permit:
        """The same for blocking code in a thread of its own.

        Raises:
            BreakerOpen: no call is to be made now.
        """
        ...

    def report(self, permit: Permit, outcome: Outcome, reason: str = "") -> bool:
        """Tell how the call ended, from any thread; never waits.

        Returns:
            Whether the breaker is known to be open, so that the event had better run later.
        """
        ...


class NoBreakers:
    """Where there is no hub to count failures: every call is made."""

    async def allow(self, breaker: str) -> Permit:
        """See `BreakersPort.allow`."""
        return Permit(breaker)

    def allow_in_thread(self, breaker: str) -> Permit:
        """See `BreakersPort.allow_in_thread`."""
        return Permit(breaker)

    def report(self, permit: Permit, outcome: Outcome, reason: str = "") -> bool:  # noqa: ARG002
        """See `BreakersPort.report`."""
        return False


@dataclass(frozen=True, slots=True)
class Allowance:
    """Leave to make one call after a while.

    Attributes:
        name: whose limits it counts against.
        id: by which it is settled.
        wait_s: seconds until the call may be made.
    """

    name: str
    id: str
    wait_s: float = 0.0


class LimitsPort(Protocol):
    """Counts calls and tokens of a model over all that ask it."""

    async def take(
        self, *, execution_id: str, name: str, limits: Mapping[str, int], tokens: int
    ) -> Allowance:
        """Leave for one call, in the order of asking; waits for another to end where it must.

        Args:
            execution_id: who asks.
            name: of what is limited.
            limits: any of `LIMITS`.
            tokens: that the call may take.

        Raises:
            ModelError: it would have to wait too long.
            PortError: the hub did not answer in time or refused.
        """
        ...

    def settle(self, allowance: Allowance, *, made: bool, tokens: int | None) -> None:
        """Tell what became of it, from any thread; never waits.

        Args:
            allowance: as it was given.
            made: whether the call was made.
            tokens: that it took; None: nobody said, what was asked for counts.
        """
        ...


class NoLimits:
    """Where there is no hub to count: every call is made at once."""

    async def take(
        self,
        *,
        execution_id: str,  # noqa: ARG002
        name: str,
        limits: Mapping[str, int],  # noqa: ARG002
        tokens: int,  # noqa: ARG002
    ) -> Allowance:
        """See `LimitsPort.take`."""
        return Allowance(name, "")

    def settle(self, allowance: Allowance, *, made: bool, tokens: int | None) -> None:
        """See `LimitsPort.settle`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheWanted:
    """The beginning of a prompt that a provider is to keep.

    Attributes:
        key: hash of the content, the model and the account.
        provider: name of the provider.
        model: of that provider.
        prompt: whose static part it is.
        lost: the resource that the provider says it does not have.
    """

    key: str
    provider: str
    model: str
    prompt: str
    lost: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheGrant:
    """What a call is to do about a cache.

    Attributes:
        act: `use` the resource; `make` one under the lease; use the resource and `renew` it under
            the lease; `send` the prompt whole.
        resource: the provider's name for it.
        lasts_s: seconds for which that holds; a while after `send`, until the end of `resource`.
        lease: under which to make or renew.
    """

    act: Literal["use", "make", "renew", "send"]
    resource: str | None = None
    lasts_s: float = 0.0
    lease: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheNews:
    """What came of making or renewing a cache, or what a provider said it keeps by itself.

    Attributes:
        lease: under which it was made or renewed; None: the provider did it by itself.
        resource: the provider's name for it; None: it has none, or there is no cache.
        tokens: how many it holds, or would hold.
        minimum: tokens below which the model keeps nothing; None: not known.
        refused: why it is not kept.
        lasts_s: seconds for which that is so; None: until told otherwise; 0: nothing came of it.
    """

    lease: str | None
    resource: str | None = None
    tokens: int | None = None
    minimum: int | None = None
    refused: str | None = None
    lasts_s: float | None = None


class ContextCachePort(Protocol):
    """Sees to it that of all runners one makes a cache, and the others use it."""

    async def ask(self, wanted: CacheWanted) -> CacheGrant:
        """What to do; waits while another run makes it.

        Raises:
            PortError: the hub did not answer in time or refused.
        """
        ...

    async def tell(self, wanted: CacheWanted, news: CacheNews) -> bool:
        """Tell what came of it; False when another one has taken over meanwhile.

        Raises:
            PortError: the hub did not answer in time or refused.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCall:
    """What a call may use at most.

    Attributes:
        alias: by which the model is asked.
        credits: that an accepted answer costs; only of a node, whose calls reserve the rest.
        operation: the node; the tariff names its credits where it does not.
    """

    alias: str
    provider: str = ""
    model: str = ""
    tokens_input: int = 0
    tokens_output: int = 0
    credits: int = 0
    operation: str | None = None


@dataclass(frozen=True, slots=True)
class Spending:
    """What a call did use.

    Attributes:
        usage: fields of `llm.usage.Usage`; None: nothing that is known.
        credits: whether they were charged.
        unknown: it used something, but nobody told how much: as much as was reserved.
    """

    reservation: str
    usage: Mapping[str, Any] | None = None
    credits: bool = False
    unknown: bool = False


class BudgetsPort(Protocol):
    """Keeps calls within the budgets of the execution that makes them."""

    def wanted(self) -> bool:
        """Whether any budget counts the current run; never waits."""
        ...

    async def reserve(self, call: PlannedCall | None) -> str | None:
        """Set aside what a call may use.

        Returns:
            The reservation, to be settled; None where no budget counts the call.

        Raises:
            BudgetExceeded: a budget has no room for it.
            PortError: the hub did not answer in time.
        """
        ...

    def reserve_in_thread(self, call: PlannedCall | None) -> str | None:
        """The same for blocking code in a thread of its own; see `reserve`."""
        ...

    def settle(self, spending: Spending) -> None:
        """Tell what a call did use, from any thread; never waits."""
        ...


class NoBudgets:
    """Where nothing limits what is spent."""

    def wanted(self) -> bool:
        """See `BudgetsPort.wanted`."""
        return False

    async def reserve(self, call: PlannedCall | None) -> str | None:  # noqa: ARG002
        """See `BudgetsPort.reserve`."""
        return None

    def reserve_in_thread(self, call: PlannedCall | None) -> str | None:  # noqa: ARG002
        """See `BudgetsPort.reserve_in_thread`."""
        return None

    def settle(self, spending: Spending) -> None:
        """See `BudgetsPort.settle`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The services one execution may use."""

    events: EventsPort
    cache: CachePort = field(default_factory=NoCache)
    checkpoints: CheckpointsPort = field(default_factory=NoCheckpoints)
    records: RecordsPort = field(default_factory=NoRecords)
    breakers: BreakersPort = field(default_factory=NoBreakers)
    knowledge: KnowledgePort = field(default_factory=NoKnowledge)
    memory: MemoryPort = field(default_factory=NoMemory)
    prompts: PromptsPort = field(default_factory=NoPrompts)
    budgets: BudgetsPort = field(default_factory=NoBudgets)

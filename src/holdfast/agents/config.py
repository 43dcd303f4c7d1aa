"""An agent's configuration: what it may say, and what is refused, each by its place."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from holdfast.domain.conversations import Compaction
from holdfast.domain.knowledge import check_collection
from holdfast.errors import DeclarationError, InvalidInput
from holdfast.llm.aliases import OWN_ALIAS
from holdfast.pipelines.budget import Budget, check_budget
from holdfast.pipelines.wording import Stored, stored

from .faults import fault, of_pydantic, place
from .secrets import EXPECTED, environment_fault, plain_secrets, shown

MAX_BYTES = 256 * 1024
"""Of a whole configuration as JSON."""

MAX_PROMPT_CHARS = 100_000

USER_LANGUAGE = "user"
"""As `answer_language`: that of the question."""

DottedPath = Annotated[
    str,
    StringConstraints(
        max_length=300,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*$",
    ),
]
"""`package.module:attribute`."""

Alias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$")]

Host = Annotated[
    str, StringConstraints(pattern=r"^(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$")
]
"""A host's name, or `*.` and the end of some."""

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


class Strict(BaseModel):
    """Refuses what it does not know, and makes nothing into something else."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, defer_build=True)


class FunctionTool(Strict):
    """A Python function of an app.

    Attributes:
        path: where it stands.
        parallel: False where it must not run beside other calls of the same turn.
    """

    type: Literal["function"]
    path: DottedPath
    parallel: bool = True


class WebSettings(Strict):
    """Where the agent may go, and how far.

    Attributes:
        hosts: names it may ask; None for every public one. A private address is none of them.
        timeout_s: for a whole request, redirects included.
        max_bytes: of an answer; what is longer is cut, and says so.
    """

    hosts: list[Host] | None = Field(default=None, min_length=1, max_length=200)
    timeout_s: float = Field(default=10, gt=0, le=120)
    max_bytes: int = Field(default=200_000, ge=1, le=5_000_000)
    methods: list[Method] = Field(default=["GET"], min_length=1)


class WebTool(Strict):
    """Requests to the web."""

    type: Literal["web_request"]
    settings: WebSettings = Field(default_factory=WebSettings)


class AskSettings(Strict):
    """How a person is asked.

    Attributes:
        timeout_s: how long their answer is waited for; None: as long as it takes.
    """

    timeout_s: float | None = Field(default=None, gt=0)


class AskTool(Strict):
    """A question to a person; the turn waits."""

    type: Literal["ask_human"]
    settings: AskSettings = Field(default_factory=AskSettings)


Tool = Annotated[FunctionTool | WebTool | AskTool, Field(discriminator="type")]


class CompactionSettings(Strict):
    """When old messages are put into summaries; see `domain.conversations.Compaction`.

    Attributes:
        model: alias that writes them; None: the agent's own.
    """

    enabled: bool = True
    from_messages: int = Field(default=30, ge=2, le=10_000)
    keep: int = Field(default=20, ge=1, le=5_000)
    block: int = Field(default=10, ge=2, le=200)
    summaries: int = Field(default=3, ge=0, le=50)
    model: Alias | None = None

    @model_validator(mode="after")
    def _begins_after_what_is_kept(self) -> Self:
        if self.from_messages <= self.keep:
            raise ValueError(
                f"from_messages={self.from_messages} must be more than keep={self.keep}"
            )
        return self

    def rule(self) -> Compaction:
        """As the memory room takes it."""
        return Compaction(
            from_messages=self.from_messages,
            keep=self.keep,
            block=self.block,
            summaries=self.summaries,
        )


class MemorySettings(Strict):
    """What the agent sees of earlier turns.

    Attributes:
        enabled: False: every question stands alone.
        depth: most messages of the window; None: as many as fit.
        token_budget: of the window, estimated; the question itself is always in it.
        long_term: whether its tools have a store that outlives the session.
    """

    enabled: bool = True
    depth: int | None = Field(default=None, ge=1, le=10_000)
    token_budget: int = Field(default=2000, ge=1, le=2_000_000)
    compaction: CompactionSettings = Field(default_factory=CompactionSettings)
    long_term: bool = False


def _dollars(amount: str) -> str:
    try:
        check_budget(Budget(usd=Decimal(amount)), "limits")
    except (DeclarationError, InvalidOperation):
        raise ValueError('an amount of dollars as text, such as "0.05"') from None
    return amount


class Limits(Strict):
    """What one turn may take.

    Attributes:
        turn_s: seconds until it is stopped.
        steps: how often models are asked.
        tool_calls: how many calls are made; the model is told when there are no more.
        budget_usd: what its model calls may cost; None: as much as they do.
    """

    turn_s: float = Field(default=120, gt=0, le=86_400)
    steps: int = Field(default=25, ge=1, le=500)
    tool_calls: int = Field(default=20, ge=0, le=500)
    budget_usd: Annotated[str, AfterValidator(_dollars)] | None = None

    @property
    def budget(self) -> Budget | None:
        """Of one turn."""
        return None if self.budget_usd is None else Budget(usd=Decimal(self.budget_usd))


class GraphLimits(Strict):
    """What one turn of a foreign graph may take; it asks its models by itself."""

    turn_s: float = Field(default=120, gt=0, le=86_400)
    steps: int = Field(default=25, ge=1, le=10_000)


def _collection(name: str) -> str:
    try:
        check_collection(name)
    except InvalidInput as error:
        raise ValueError(error.message) from None
    return name


class Knowledge(Strict):
    """A collection that the agent may search.

    Attributes:
        description: what is in it, for the model.
    """

    collection: Annotated[str, AfterValidator(_collection)]
    limit: int = Field(default=4, ge=1, le=50)
    mode: Literal["hybrid", "semantic", "keyword"] = "hybrid"
    description: str = Field(default="", max_length=2000)


class Critique(Strict):
    """A second look at each answer before it is given.

    Attributes:
        rounds: how often it may be sent back.
        instructions: what to look at besides.
        model: alias of the critic; None: the agent's own.
    """

    rounds: int = Field(default=1, ge=1, le=5)
    instructions: str = Field(default="", max_length=20_000)
    model: Alias | None = None


class Integration(Strict):
    """A messenger the agent is reached by."""

    type: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
    settings: dict[str, Any] = Field(default_factory=dict[str, Any])
    enabled: bool = True


class Shared(Strict):
    """What both kinds have.

    Attributes:
        concurrency: turns that its process runs at once.
        idle_s: seconds without a turn after which its process stops; 0: never; None: the hub's.
        secrets: references by the name of the variable that its process, and no other, gets.
    """

    concurrency: int = Field(default=256, ge=1, le=10_000)
    idle_s: float | None = Field(default=None, ge=0)
    integrations: list[Integration] = Field(default_factory=list[Integration], max_length=20)
    secrets: dict[str, str] = Field(default_factory=dict[str, str])


def _prompt(text: str) -> str:
    name, at, label = text.partition("@")
    try:
        stored(name, label=label if at else None)
    except DeclarationError as error:
        raise ValueError(error.message) from None
    return text


class SimpleSettings(Shared):
    """An agent that Holdfast builds.

    Attributes:
        model: alias of the settings; or `provider` and `model_id` say it here.
        temperature: over the alias's own, as `parameters` are.
        system_prompt: as it stands; or `prompt` names one of the registry, `name` or `name@label`.
        answer_language: `user` for that of the question, or a language by name.
        markdown: whether answers may use it.
        rules: `module:attribute` of the script that answers where the model is the scripted one.
    """

    model: Alias | None = None
    provider: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    model_id: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    parameters: dict[str, Any] = Field(default_factory=dict[str, Any])
    system_prompt: str = Field(default="", max_length=MAX_PROMPT_CHARS)
    prompt: Annotated[str, AfterValidator(_prompt)] | None = None
    answer_language: Annotated[str, StringConstraints(pattern=r"^[^\W\d_][\w -]{0,39}$")] | None = (
        None
    )
    markdown: bool = True
    memory: MemorySettings = Field(default_factory=MemorySettings)
    limits: Limits = Field(default_factory=Limits)
    tools: list[Tool] = Field(default_factory=list[Tool], max_length=100)
    knowledge: list[Knowledge] = Field(default_factory=list[Knowledge], max_length=20)
    critique: Critique | None = None
    rules: DottedPath | None = None

    @model_validator(mode="after")
    def _says_one_of_two(self) -> Self:
        own = self.provider is not None or self.model_id is not None
        if self.model is not None and own:
            raise ValueError("either model, an alias, or provider and model_id, not both")
        if self.model is None and (self.provider is None or self.model_id is None):
            raise ValueError("either model, an alias, or provider and model_id")
        if self.prompt is not None and self.system_prompt:
            raise ValueError("either system_prompt or prompt, not both")
        if self.temperature is not None and "temperature" in self.parameters:
            raise ValueError("temperature stands twice: also in parameters")
        kinds = [tool.type for tool in self.tools if tool.type != "function"]
        if twice := {kind for kind in kinds if kinds.count(kind) > 1}:
            raise ValueError(f"the tool {min(twice)} stands twice")
        paths = [tool.path for tool in self.tools if isinstance(tool, FunctionTool)]
        if again := {path for path in paths if paths.count(path) > 1}:
            raise ValueError(f"the tool {min(again)} stands twice")
        names = [one.collection for one in self.knowledge]
        if same := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"the collection {min(same)} stands twice")
        return self

    @property
    def alias(self) -> str:
        """By which its model is asked."""
        return self.model or OWN_ALIAS

    @property
    def aliases(self) -> frozenset[str]:
        """All by which it asks models, its own `agent` left out."""
        critic = self.critique.model if self.critique else None
        asked = {self.model, critic, self.memory.compaction.model}
        return frozenset(name for name in asked if name is not None)

    @property
    def changes(self) -> dict[str, Any]:
        """Parameters of its calls."""
        own = {} if self.temperature is None else {"temperature": self.temperature}
        return {**self.parameters, **own}

    @property
    def stored(self) -> Stored | None:
        """The prompt of the registry; None where the text stands here."""
        if self.prompt is None:
            return None
        name, _, label = self.prompt.partition("@")
        return stored(name, label=label or None)

    @property
    def asks_people(self) -> bool:
        """Whether a turn may wait for a person."""
        return any(isinstance(tool, AskTool) for tool in self.tools)


class GraphSettings(Shared):
    """A LangGraph graph made elsewhere."""

    graph: DottedPath
    limits: GraphLimits = Field(default_factory=GraphLimits)


class Simple(Strict):
    """See `SimpleSettings`."""

    settings: SimpleSettings


class GraphKind(Strict):
    """See `GraphSettings`."""

    settings: GraphSettings


class AgentConfig(Strict):
    """A whole configuration; made with `read_config`."""

    simple: Simple | None = None
    graph: GraphKind | None = None

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> Self:
        if (self.simple is None) == (self.graph is None):
            raise ValueError('either "simple" or "graph"')
        return self

    @property
    def kind(self) -> Literal["simple", "graph"]:
        """What is built of it."""
        return "simple" if self.simple is not None else "graph"

    @property
    def settings(self) -> SimpleSettings | GraphSettings:
        """Of its kind."""
        if self.simple is not None:
            return self.simple.settings
        assert self.graph is not None  # noqa: S101 - it has one of the two
        return self.graph.settings

    def plain(self) -> dict[str, Any]:
        """As it was written, defaults left out: what is stored and given back.

        Secrets in it are references.
        """
        return self.model_dump(mode="json", exclude_unset=True)


def read_config(written: Any) -> AgentConfig:
    """A configuration out of decoded JSON.

    Raises:
        InvalidInput: `fields` names each place, from the root: `simple.settings.tools.0.path`. A
            secret that was given itself is not repeated.
    """
    faults = _faults(written)
    if faults:
        first, more = faults[0], len(faults) - 1
        raise InvalidInput(
            f"configuration: {first['field']}: {first['expected']}, got {first['got']}"
            + (f" (and {more} more)" if more else ""),
            hint="see docs/agents.md for every field",
            fields=faults,
        )
    return AgentConfig.model_validate(written)


def _faults(written: Any) -> list[dict[str, Any]]:
    if not isinstance(written, Mapping):
        return [fault((), "an object with the key simple or graph", shown(written, ()))]
    try:
        size = len(orjson.dumps(written))
    except TypeError as error:
        return [fault((), f"JSON: {error}", "something else")]
    if size > MAX_BYTES:
        return [fault((), f"at most {MAX_BYTES // 1024} KB", f"{size} bytes")]
    faults = [fault(path, EXPECTED, "***") for path in plain_secrets(written)]
    known = {one["field"] for one in faults}
    try:
        config = AgentConfig.model_validate(written)
    except ValidationError as error:
        found = [of_pydantic(one, written) for one in error.errors(include_url=False)]
        return faults + [one for one in found if one["field"] not in known]
    at = (config.kind, "settings", "secrets")
    for name, reference in config.settings.secrets.items():
        expected = environment_fault(name, reference)
        if expected is not None and place((*at, name)) not in known:
            faults.append(fault((*at, name), expected, shown(reference, (*at, name))))
    return faults

"""What may stand in a card: its shapes, from which its JSON schema is made."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

KINDS = ("execute", "parallel", "map", "subprocess", "wait", "human_checkpoint", "complete")
"""What a step may be; one that has a condition may be nothing else."""

POLICIES = (
    "timeout",
    "total_timeout",
    "retries",
    "backoff",
    "on_failure",
    "concurrency",
    "cache",
)

WITHOUT_POLICY = ("wait", "human_checkpoint", "complete", "condition")

EMPTY_KEY = "empty_key"
"""Pydantic's type of the error for a key with nothing after it."""

END = "end"
"""Where a way leads that ends the run."""


class Shape(BaseModel):
    """Keys it does not name are refused, and values are taken as they are."""

    model_config = ConfigDict(extra="forbid", strict=True)

    may_be_null: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def says_something(cls, values: Any) -> Any:
        """Refuse a key with nothing after it: it would mean the same as none."""
        if isinstance(values, dict):
            for key, value in cast("dict[str, Any]", values).items():
                if value is None and key not in cls.may_be_null:
                    raise PydanticCustomError(
                        EMPTY_KEY, 'there is nothing after "{key}:"', {"key": key}
                    )
        return cast("Any", values)


class FieldShape(Shape):
    """A field of the event or of an answer, in JSON schema's words."""

    type: Literal["string", "integer", "number", "boolean", "array", "object", "any"]
    description: str = ""
    required: bool | None = Field(None, description="true, unless there is a default")
    default: Any = None
    enum: list[str | int | float | bool] | None = Field(None, min_length=1)
    minimum: float | None = None
    maximum: float | None = None
    minLength: int | None = Field(None, ge=0)  # noqa: N815 - JSON schema's own word
    maxLength: int | None = Field(None, ge=0)  # noqa: N815
    minItems: int | None = Field(None, ge=0)  # noqa: N815
    maxItems: int | None = Field(None, ge=0)  # noqa: N815
    items: FieldShape | None = Field(None, description="of an array")
    properties: dict[str, FieldShape] | None = Field(None, description="of an object")

    may_be_null = frozenset({"default"})

    limits: ClassVar[dict[str, tuple[str, ...]]] = {
        "minimum": ("integer", "number"),
        "maximum": ("integer", "number"),
        "minLength": ("string",),
        "maxLength": ("string",),
        "minItems": ("array",),
        "maxItems": ("array",),
        "items": ("array",),
        "properties": ("object",),
    }

    @model_validator(mode="after")
    def fits_its_type(self) -> FieldShape:
        """Refuse what says nothing about a value of this type."""
        for name, types in self.limits.items():
            if name in self.model_fields_set and self.type not in types:
                raise ValueError(f'"{name}" says nothing about type {self.type}')
        if self.enum is not None and self.type not in ("string", "integer", "number"):
            raise ValueError(f'"enum" says nothing about type {self.type}')
        if "default" in self.model_fields_set and self.required:
            raise ValueError("a field with a default is not required")
        return self


def _named_or_fields(value: Any) -> str:
    return "fields" if isinstance(value, dict) else "name"


SchemaShape = Annotated[
    Annotated[str, Tag("name"), Field(description="a schema of the app, by its class's name")]
    | Annotated[dict[str, FieldShape], Tag("fields"), Field(description="declared field by field")],
    Discriminator(_named_or_fields),
]


class ModelShape(Shape):
    """Ask a chat model; see `Pipeline.model`."""

    prompt: str = Field(description="a Jinja template: {{ event.field }}, {{ step.field }}")
    system: str | None = None
    alias: str = "standard"
    answer: SchemaShape | None = None
    tries: int = Field(3, ge=1)
    credits: int = Field(0, ge=0)


class ExecuteShape(Shape):
    """Run one thing by its name."""

    action: str | None = Field(None, description="an action of the app")
    model: ModelShape | None = None
    pipeline: str | None = Field(None, description="another pipeline or card, inside this run")
    agent: str | None = Field(None, description="reserved: there are no agents yet")
    with_: dict[str, Any] | None = Field(None, alias="with", description="its parameters")

    @model_validator(mode="after")
    def names_one(self) -> ExecuteShape:
        """Exactly one thing."""
        named = [
            one
            for one in ("action", "model", "pipeline", "agent")
            if getattr(self, one) is not None
        ]
        if len(named) != 1:
            raise ValueError("name one of: action, model, pipeline, agent")
        if self.model is not None and self.with_ is not None:
            raise ValueError('a model takes its values in the prompt, not in "with"')
        return self


class MapShape(Shape):
    """Run a step once for each item of a list; see `Pipeline.map`."""

    over: str = Field(description="a reference to the list")
    step: str
    at_once: int = Field(8, ge=1)


class SubprocessShape(Shape):
    """Run another pipeline or card."""

    pipeline: str
    mode: Literal["inline", "child"] = Field(
        "inline", description="inside this execution, or as an execution of its own"
    )
    with_: dict[str, Any] = Field(default_factory=dict[str, Any], alias="with")


class WaitShape(Shape):
    """Wait for a time or for an event; see `Pipeline.wait` and `Pipeline.wait_for`."""

    seconds: float | None = Field(None, gt=0)
    until: str | None = Field(None, description="a reference to a time with a zone, or one itself")
    event: str | None = Field(None, min_length=1, description="type of the event")
    subject: str | None = Field(None, description="what the event's subject must be")
    timeout: float | None = Field(None, gt=0, description="seconds to wait for the event")

    @model_validator(mode="after")
    def waits_for_one(self) -> WaitShape:
        """Exactly one thing."""
        named = [one for one in ("seconds", "until", "event") if getattr(self, one) is not None]
        if len(named) != 1:
            raise ValueError("say one of: seconds, until, event")
        if self.event is None and (self.subject is not None or self.timeout is not None):
            raise ValueError('"subject" and "timeout" belong to "event"')
        return self


class HumanShape(Shape):
    """Ask a person; see `Pipeline.ask`."""

    question: str = Field(description="a Jinja template: {{ event.field }}, {{ step.field }}")
    answer: SchemaShape | None = None
    timeout: float | None = Field(None, gt=0, description="seconds")


class CaseShape(Shape):
    """One case of a condition: `if` or `elif` with `then`, or `else`."""

    if_: str | None = Field(None, alias="if", description="an expression")
    elif_: str | None = Field(None, alias="elif", description="an expression")
    then: str | None = Field(None, description='a step, or "end"')
    else_: str | None = Field(None, alias="else", description='a step, or "end"')

    @model_validator(mode="after")
    def is_one_case(self) -> CaseShape:
        """Either a rule and where it leads, or the rest."""
        rules = [rule for rule in (self.if_, self.elif_) if rule is not None]
        if self.else_ is not None:
            if rules or self.then is not None:
                raise ValueError('"else" stands alone: else: step')
        elif len(rules) != 1 or self.then is None:
            raise ValueError('a case is "if" (or "elif") with "then", or "else"')
        return self


class LoopShape(Shape):
    """Go back after this step; see `Pipeline.loop`."""

    back_to: str
    while_: str = Field(alias="while", description="an expression")
    at_most: int = Field(ge=1, le=1000)
    exceeded: Literal["fail", "continue"] = "fail"


class BackoffShape(Shape):
    """Pauses between tries, in seconds."""

    first: float = Field(0.5, ge=0)
    factor: float = Field(2.0, ge=1)
    most: float = Field(30.0, ge=0)
    jitter: float = Field(0.5, ge=0, le=1)


class StepShape(Shape):
    """One step: what it is, how it is tried, and what follows it."""

    execute: ExecuteShape | None = None
    parallel: list[str] | None = Field(None, min_length=1, description="steps that run at once")
    map: MapShape | None = None
    subprocess: SubprocessShape | None = None
    wait: WaitShape | None = None
    human_checkpoint: HumanShape | None = None
    complete: Any = Field(None, description="the output; the run ends here")

    may_be_null = frozenset({"complete"})

    next: str | None = Field(None, description='the step that follows, or "end", the default')
    condition: list[CaseShape] | None = Field(
        None, min_length=1, description="chooses what follows; in place of next"
    )
    loop: LoopShape | None = None

    timeout: float | None = Field(None, gt=0, description="seconds for one try")
    total_timeout: float | None = Field(None, gt=0, description="seconds for all tries")
    retries: int | None = Field(None, ge=0, description="further tries after the first")
    backoff: BackoffShape | None = None
    on_failure: str | None = Field(None, description="abort, continue, or a step that stands in")
    concurrency: int | None = Field(None, ge=1, description="tries at once in one process")
    cache: float | None = Field(None, gt=0, description="seconds a result is used again")

    @property
    def kind(self) -> str:
        """What it is."""
        found = [one for one in KINDS if one in self.model_fields_set]
        return found[0] if found else "condition"

    @model_validator(mode="after")
    def is_one_thing(self) -> StepShape:
        """Exactly one kind, and nothing that such a step has no use for."""
        found = [one for one in KINDS if one in self.model_fields_set]
        if len(found) > 1:
            raise ValueError(f"a step is one thing, not {' and '.join(found)}")
        if not found and self.condition is None:
            raise ValueError(f"say what it is: {', '.join(KINDS)}, condition")
        if self.condition is not None and self.next is not None:
            raise ValueError('"condition" chooses what follows: "next" has no place beside it')
        if self.kind in WITHOUT_POLICY:
            given = [one for one in POLICIES if one in self.model_fields_set]
            if given:
                raise ValueError(f'"{given[0]}" has no meaning for {self.kind}')
        if self.kind == "complete" and (self.next or self.condition or self.loop):
            raise ValueError('"complete" ends the run: nothing follows it')
        if self.condition is not None and self.condition[-1].else_ is None:
            raise ValueError('the last case must be "else": what follows when no rule holds?')
        if self.condition is not None:
            for n, case in enumerate(self.condition[:-1]):
                if case.else_ is not None:
                    raise ValueError('only the last case may be "else"')
                if (case.elif_ is not None) != (n > 0):
                    raise ValueError('the first rule is "if", each further one "elif"')
        return self


class BudgetShape(Shape):
    """What one execution may spend."""

    tokens: int | None = Field(None, ge=1)
    credits: int | None = Field(None, ge=1)
    usd: float | None = Field(None, gt=0)


class CardShape(Shape):
    """A process card: a pipeline declared in YAML."""

    model_config = ConfigDict(
        extra="forbid", strict=True, title="Holdfast process card", populate_by_name=False
    )

    name: str = Field(description="dotted; events are addressed to it")
    version: str = Field(min_length=1, description="the author's own; in quotes")
    description: str = ""
    event: SchemaShape = Field(description="the fields of an event's data")
    variables: dict[str, Any] = Field(default_factory=dict[str, Any], description="constants")
    deadline: float | None = Field(None, gt=0, description="seconds an execution may take")
    priority: int = Field(0, ge=-1000, le=1000)
    max_running: int | None = Field(None, ge=1)
    retention: float | None = Field(None, gt=0, description="days that records are kept")
    durable: bool = False
    budget: BudgetShape | None = None
    steps: dict[str, StepShape] = Field(min_length=1, description="the first one begins")


def card_schema() -> dict[str, Any]:
    """The JSON schema of cards."""
    schema = CardShape.model_json_schema(by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **cast("dict[str, Any]", _without_null(schema)),
    }


def _without_null(schema: Any) -> Any:
    """A key may be left out, but not be null: `says_something` refuses it."""
    if isinstance(schema, list):
        return [_without_null(one) for one in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    given = cast("dict[str, Any]", schema)
    choices = [one for one in given.get("anyOf", ()) if one != {"type": "null"}]
    if len(choices) < len(given.get("anyOf", ())):
        given = {k: v for k, v in given.items() if (k, v) != ("default", None) and k != "anyOf"}
        given |= choices[0] if len(choices) == 1 else {"anyOf": choices}
    return {key: _without_null(value) for key, value in given.items()}

"""What the engine needs to know of anything an app declares."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict, Unpack

from langgraph.graph.state import CompiledStateGraph

from holdfast.domain.rates import Rate
from holdfast.domain.redelivery import BETWEEN_DELIVERIES, Backoff
from holdfast.errors import DeclarationError, InvalidInput

from .budget import Budget
from .policy import exception_classes

if TYPE_CHECKING:
    from .prompt_files import PromptFiles
    from .wording import Stored

MAX_NAME_CHARS = 200

MAX_PRIORITY = 1000

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")

AnyGraph = CompiledStateGraph[Any, Any, Any, Any]


class DeclarationOptions(TypedDict, total=False):
    """What every declaration takes besides its name and version; see `Declaration`."""

    description: str
    deadline: float | None
    priority: int
    retries: int
    backoff: Backoff
    retry_on: type[Exception] | Sequence[type[Exception]]
    redeliver: bool
    dedup: timedelta | None
    singleton: bool | Callable[[Any], str]
    max_running: int | None
    rate: str | None
    retention: timedelta | None
    durable: bool
    keeps: Sequence[type[Any]]
    keep_checkpoints: bool
    budget: Budget | None


class Declaration(ABC):
    """A named, versioned graph with an event schema.

    Attributes:
        kind: what an event's `target_kind` calls it.
        built_in: whether it is Holdfast's own.
        name: dotted; events are addressed to it.
        version: the author's own; changes when the meaning does.
        description: one sentence for people.
        deadline: seconds an execution may take; None for the hub's default.
        priority: of its events when their sender names none, -1000 to 1000; higher runs first.
        retries: how often an event is delivered again after a temporary error before it is set
            aside as a dead letter.
        backoff: pauses before these deliveries; a provider's `Retry-After` comes on top.
        retry_on: exception classes of your own that count as temporary.
        redeliver: False for work that must not begin twice: whatever fails, the process that
            dies included, ends the event `failed`.
        dedup: how long an event with the same data, subject and session of the same owner is taken
            for the first one, which then stands for both; None for never.
        singleton: True: at most one unfinished event of an owner; a function of the event: at most
            one for each text it gives. A second one is refused.
        max_running: executions that one hub runs at once; None for as many as there are slots.
        rate: how many executions of one owner may begin within a time, whatever the hubs: `10/m`,
            `500/h`, `3/10s`; further events wait. Every beginning and going on counts.
        retention: how long records are kept when old ones are pruned; None for ever.
        durable: every step is checkpointed before the next one starts; after a crash the work goes
            on from the last finished step.
        keeps: classes (pydantic models, dataclasses, enums) that checkpoints may hold besides
            those the declaration itself names.
        keep_checkpoints: also when the event has come to rest.
        budget: what one execution may spend; None for as much as it takes.
    """

    kind: ClassVar[str] = "pipeline"
    built_in: ClassVar[bool] = False

    def __init__(self, name: str, *, version: str, **options: Unpack[DeclarationOptions]) -> None:
        if len(name) > MAX_NAME_CHARS or not _NAME.fullmatch(name):
            raise DeclarationError(
                f"{name!r} is no name for a pipeline",
                hint="use letters, digits, - and _ in parts joined by dots: support.triage",
            )
        if not version:
            raise DeclarationError(f"pipeline {name}: the version is empty")
        self.name = name
        self.version = version
        self.description = options.get("description", "")
        self.deadline = options.get("deadline")
        self.priority = options.get("priority", 0)
        self.retries = options.get("retries", 0)
        self.backoff = options.get("backoff", BETWEEN_DELIVERIES)
        self.retry_on = exception_classes(options.get("retry_on", ()), f"pipeline {name}")
        self.redeliver = options.get("redeliver", True)
        self.dedup = options.get("dedup")
        self.singleton = options.get("singleton", False)
        self.max_running = options.get("max_running")
        self.rate = _rate(options.get("rate"), f"pipeline {name}")
        self.retention = options.get("retention")
        self.durable = options.get("durable", False)
        self.keeps = tuple(options.get("keeps", ()))
        self.keep_checkpoints = options.get("keep_checkpoints", False)
        self.budget = options.get("budget")
        self.prompt_files: PromptFiles | None = None  # of all apps, once they are loaded
        self._check_options(options)

    def _check_options(self, options: DeclarationOptions) -> None:
        where = f"pipeline {self.name}"
        if unknown := options.keys() - DeclarationOptions.__annotations__.keys():
            raise DeclarationError(
                f"{where}: there is no option {sorted(unknown)[0]!r}",
                hint=f"known: {', '.join(DeclarationOptions.__annotations__)}",
            )
        if self.deadline is not None and self.deadline <= 0:
            raise DeclarationError(f"{where}: a deadline of {self.deadline} s is in the past")
        if not -MAX_PRIORITY <= self.priority <= MAX_PRIORITY:
            raise DeclarationError(
                f"{where}: priority={self.priority} is not within -{MAX_PRIORITY} to {MAX_PRIORITY}"
            )
        if self.retries < 0:
            raise DeclarationError(f"{where}: retries={self.retries} is negative")
        if self.retries and not self.redeliver:
            raise DeclarationError(
                f"{where}: retries={self.retries} and redeliver=False contradict each other"
            )
        if self.dedup is not None and self.dedup <= timedelta(0):
            raise DeclarationError(f"{where}: dedup={self.dedup} is no span of time")
        if not isinstance(self.singleton, bool) and not callable(self.singleton):
            raise DeclarationError(f"{where}: singleton takes True or a function of the event")
        if self.max_running is not None and self.max_running < 1:
            raise DeclarationError(f"{where}: max_running={self.max_running} lets nothing run")
        if self.retention is not None and self.retention <= timedelta(0):
            raise DeclarationError(f"{where}: a retention of {self.retention} keeps nothing")

    def singleton_key(self, event: Any) -> str | None:
        """What no two unfinished events of an owner may share; None when they may share all.

        Args:
            event: what `validate` made of the data.

        Raises:
            InvalidInput: the author's function gives no text.
        """
        if isinstance(self.singleton, bool):
            return "" if self.singleton else None
        key: Any = self.singleton(event)
        if not isinstance(key, str):
            raise InvalidInput(
                f"pipeline {self.name}: its singleton function gave {key!r:.100} and no text",
                fields=[{"field": "data", "expected": "a singleton key", "got": repr(key)[:100]}],
            )
        return key

    @cached_property
    def code_version(self) -> str:
        """Short hash of the code behind the declaration; changes when the code does."""
        return self._hash_code()

    @abstractmethod
    def _hash_code(self) -> str: ...

    def asked_aliases(self) -> Mapping[str, str]:
        """Model aliases that the settings must have, each with where it is named."""
        return {}

    @abstractmethod
    def check(self) -> None:
        """Prove that the declaration can run.

        Raises:
            DeclarationError: it cannot; the message names pipeline and node.
        """

    @abstractmethod
    def graph(self) -> AnyGraph:
        """The compiled graph, made once.

        Raises:
            DeclarationError: as `check`.
        """

    @abstractmethod
    def validate(self, data: Any) -> Any:
        """Decoded JSON into the event that nodes see.

        Raises:
            InvalidInput: `fields` names each wrong or unknown field as `data.…`.
        """

    @abstractmethod
    def schema(self) -> dict[str, Any]:
        """JSON schema of the event's data."""

    @abstractmethod
    def initial(self, event: Any) -> Any:
        """The graph's input for a validated event."""

    @abstractmethod
    def result(self, final: Mapping[str, Any]) -> Any:
        """The execution's output, out of the graph's final state."""

    @abstractmethod
    def failures(self, final: Mapping[str, Any]) -> list[Any]:
        """Steps that failed and were allowed to; the execution is then `partial`."""

    @property
    def long_term(self) -> bool:
        """Whether its graph has a store of items that outlive the run."""
        return True

    @property
    def may_halt(self) -> bool:
        """Whether some node may wait: for an answer, a time or an event."""
        return False

    @property
    def checkpointed(self) -> bool:
        """Whether its runs have checkpoints, and so can wait, be paused and go on."""
        return self.durable or self.may_halt

    def thread_id(self, event_id: str, session_id: str | None) -> str:  # noqa: ARG002
        """Under which name its checkpoints stand.

        Any other than the event's outlives the execution: what the next one of the same thread
        begins with is stored with the outcome, and only when the run succeeded.
        """
        return event_id

    def kept(self) -> Iterable[type[Any]]:
        """The classes of the values its checkpoints may hold."""
        return self.keeps

    def awaited(self) -> frozenset[str]:
        """Types of events that some node waits for."""
        return frozenset()

    def bind(self, known: Mapping[str, Declaration]) -> None:  # noqa: B027 - most start no others
        """Find the pipelines that nodes start by name.

        Raises:
            DeclarationError: one is not among the known.
        """

    def check_answer(self, name: str, answer: Any) -> None:  # noqa: B027 - most take any answer
        """Hold an answer against what node `name` asks for.

        Raises:
            InvalidInput: it does not fit; `fields` names each place as `answer.…`.
        """

    @property
    def prompt_folder(self) -> Path | None:
        """The folder beside its module where files hold prompts; None where there can be none."""
        return None

    def find_prompts(self, files: PromptFiles) -> None:
        """Look for its prompts among those of all apps, the ones beside its module included."""
        if self.prompt_folder is not None:
            files.add(self.prompt_folder)
        self.prompt_files = files
        for other in self.included():
            other.find_prompts(files)

    def stored_prompts(self) -> Sequence[Stored]:
        """The prompts of the registry that its nodes use, those of included ones too."""
        return [one for other in self.included() for one in other.stored_prompts()]

    def included(self) -> Sequence[Declaration]:
        """Other declarations whose graphs run as part of this one."""
        return ()

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Nodes and edges for drawing, as JSON.

        Returns:
            `{"nodes": [{"name", "kind", "version"?, "group"?, …}], "edges": [{"from", "to",
            "label"?}]}`; the way in and out are the nodes `__start__` and `__end__`.
        """

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, version={self.version!r})"


class Declarations(ABC):
    """Several declarations that an app makes at once."""

    @abstractmethod
    def declarations(self) -> Sequence[Declaration]:
        """Those with which nothing is wrong."""

    @abstractmethod
    def proven(self) -> Sequence[Declaration]:
        """All of them.

        Raises:
            DeclarationError: something is wrong with one.
        """


def _rate(text: str | None, where: str) -> Rate | None:
    try:
        return None if text is None else Rate.of(text)
    except (TypeError, ValueError) as error:
        raise DeclarationError(f"{where}: {error}") from error

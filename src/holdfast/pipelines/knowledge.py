"""Nodes that index documents and search them; the hub does both, the run records what it cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar, cast

from langchain_core.runnables import RunnableConfig
from pydantic import TypeAdapter

from holdfast.domain.knowledge import (
    Found,
    Hit,
    Stored,
    check_collection,
    read_filters,
    read_search,
)
from holdfast.errors import (
    BreakerOpen,
    BudgetExceeded,
    DeclarationError,
    InvalidInput,
    ModelError,
    PortError,
)
from holdfast.ports import KnowledgeAnswer
from holdfast.recording import StepHandle, step_of
from holdfast.recording.handler import INDEX, RETRIEVAL
from holdfast.recording.replaying import call_error_of

from .context import current_run
from .nodes import Node
from .policy import PolicyOptions
from .prompts import Prompt
from .state import State

R = TypeVar("R")

Text = str | Callable[[State], str]
"""A Jinja2 template as of a model's prompt, or a function of the `State`."""

Facts = Mapping[str, Any] | Callable[[State], Mapping[str, Any]]


class KnowledgeNode(Node[R]):
    """What both kinds share: texts out of the state, an answer of the hub's, a replay's record."""

    result: ClassVar[Any]

    def __init__(
        self,
        name: str,
        *,
        collection: str,
        pipeline: str,
        version: str,
        policy: PolicyOptions | None = None,
    ) -> None:
        super().__init__(name, pipeline=pipeline, version=version, policy=policy)
        self.collection = collection
        self._prompts: list[Prompt] = []
        try:
            check_collection(collection)
        except InvalidInput as error:
            raise DeclarationError(f"{self.where}: {error.message}") from error

    @property
    def prompts(self) -> list[Prompt]:
        """Its templates."""
        return self._prompts

    def template(self, given: Text) -> Callable[[State], str]:
        """How a text is made of the state."""
        if not isinstance(given, str):
            return given
        prompt = Prompt(given, self.where)
        self._prompts.append(prompt)
        return prompt.render

    def recorded(self, step: StepHandle) -> Any:
        """The result on record, when a replay repeats it; None when the hub is to be asked."""
        return recorded_call(step, self.name, self.result)

    def describe(self) -> dict[str, Any]:
        """Also the collection."""
        return {**super().describe(), "collection": self.collection}

    def result_type(self) -> Any:
        """What it found or stored."""
        return self.result

    def kept_type(self) -> Any:
        """See `result_type`."""
        return self.result


def recorded_call(step: StepHandle, name: str, result: Any) -> Any:
    """What the hub answered a node when it was recorded; None when it is to be asked.

    Args:
        step: of the node.
        name: of the node.
        result: its type.
    """
    replaying = current_run().replaying
    if replaying is None:
        return None
    recorded = replaying.call(step.number, f'node "{name}"')
    if recorded is None:
        return None
    if recorded.output is None:
        raise call_error_of(recorded)
    return TypeAdapter(result).validate_python(recorded.output)


def answered(answer: KnowledgeAnswer, step: StepHandle) -> Any:
    """What the hub answered; its calls are recorded either way.

    Raises:
        ModelError: a provider failed.
        PortError: the hub refused.
    """
    step.called(answer.calls)
    error = answer.error
    if error is None:
        return answer.value
    if "error_class" in error:
        raise ModelError(
            error["message"],
            error_class=error["error_class"],
            http_status=error["http_status"],
            hint=error["hint"],
        )
    if error["code"] == BudgetExceeded.code:
        raise BudgetExceeded(error["message"], hint=error["hint"])
    if error["code"] == BreakerOpen.code:
        raise BreakerOpen(
            error["message"],
            breaker=error["breaker"],
            until=error["until"],
            by_hub=error["by_hub"],
        )
    raise PortError(f"{error['code']}: {error['message']}", hint=error["hint"])


class SearchNode(KnowledgeNode[Found]):
    """Finds chunks of documents."""

    kind: ClassVar[str] = RETRIEVAL
    result = Found

    def __init__(
        self,
        name: str,
        *,
        query: Text,
        mode: str,
        limit: int,
        filters: Facts | None,
        min_score: float | None,
        **declared: Any,
    ) -> None:
        super().__init__(name, **declared)
        self.query = self.template(query)
        self.filters = filters
        self._asks: dict[str, Any] = {
            "collection": self.collection,
            "mode": str(mode),
            "limit": limit,
            "min_score": min_score,
        }
        try:
            read_search(query="any", **self._asks)
            if isinstance(filters, Mapping):
                read_filters(cast("Mapping[str, Any]", filters))
        except InvalidInput as error:
            raise DeclarationError(f"{self.where}: {error.message}") from error

    async def run(self, state: State, config: RunnableConfig) -> Found:
        """Ask the hub."""
        step = step_of(config)
        if (again := self.recorded(step)) is not None:
            return again
        run, asked = current_run(), self._asked(state)
        answer = await run.ports.knowledge.search(execution_id=run.execution_id, asked=asked)
        hits = [Hit(**hit) for hit in answered(answer, step)]
        return Found(
            collection=self.collection, query=asked["query"], mode=asked["mode"], hits=hits
        )

    def _asked(self, state: State) -> dict[str, Any]:
        filters = self.filters(state) if callable(self.filters) else self.filters
        return {**self._asks, "query": self.query(state), "filters": dict(filters or {})}

    def cache_input(self, state: State) -> Any:
        """What it would ask; what others index meanwhile is not seen while the cache holds."""
        return self._asked(state)

    def describe(self) -> dict[str, Any]:
        """Also how it ranks."""
        return {**super().describe(), "mode": self._asks["mode"]}


class IndexNode(KnowledgeNode[Stored]):
    """Puts a document into a collection."""

    kind: ClassVar[str] = INDEX
    result = Stored

    def __init__(
        self,
        name: str,
        *,
        key: Text,
        text: Text,
        metadata: Facts | None,
        alias: str | None,
        **declared: Any,
    ) -> None:
        super().__init__(name, **declared)
        if self.policy.cache is not None:
            raise DeclarationError(
                f"{self.where}: an index node cannot be cached",
                hint="a text that is there already is not embedded again anyway",
            )
        self.key, self.text = self.template(key), self.template(text)
        self.facts = metadata
        self.alias = alias

    async def run(self, state: State, config: RunnableConfig) -> Stored:
        """Ask the hub; a replay indexes nothing."""
        step = step_of(config)
        if (again := self.recorded(step)) is not None:
            return again
        run = current_run()
        metadata = self.facts(state) if callable(self.facts) else self.facts
        answer = await run.ports.knowledge.index(
            execution_id=run.execution_id,
            collection=self.collection,
            key=self.key(state),
            text=self.text(state),
            metadata=dict(metadata or {}),
            alias=self.alias,
        )
        return Stored(**answered(answer, step))

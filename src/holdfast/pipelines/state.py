"""What travels through a pipeline: the event and what each node made of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypedDict, cast

from typing_extensions import TypeVar

from holdfast.errors import HoldfastError, NoResult

if TYPE_CHECKING:
    from .nodes import Node

E = TypeVar("E", default=Any)
R = TypeVar("R")


def merge(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Results after a step, in the order the nodes finished."""
    return {**old, **new}


class Channels(TypedDict):
    """The LangGraph channels of a pipeline."""

    event: Any
    results: Annotated[dict[str, Any], merge]


@dataclass(frozen=True, slots=True)
class Failure:
    """The outcome of a branch that failed and was allowed to."""

    node: str
    type: str
    message: str
    code: str | None = None

    @classmethod
    def of(cls, node: str, error: BaseException) -> Failure:
        """What is kept of a branch's error."""
        if isinstance(error, HoldfastError):
            return cls(node, type(error).__name__, error.message, error.code)
        return cls(node, type(error).__name__, str(error))


class Branches(Mapping[str, Any]):
    """The outcome of a parallel group: by branch name, as items and as attributes.

    Iterating gives every branch, a failed one as its `Failure`; `judge.spam` gives the result
    or raises.
    """

    __slots__ = ("_group", "_outcomes")

    def __init__(self, group: str, outcomes: Mapping[str, Any]) -> None:
        self._group = group
        self._outcomes = outcomes

    def __getitem__(self, name: str) -> Any:
        return self._outcomes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._outcomes)

    def __len__(self) -> int:
        return len(self._outcomes)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return result_of(self._outcomes, name, f"{self._group}.{name}")

    def __repr__(self) -> str:
        return f"Branches({self._group!r}, {dict(self._outcomes)!r})"


class State(Generic[E]):
    """What a node may look at: the event, and the results of the nodes that ran before it.

    `state.draft` is the result of node `draft`; `state[draft]` is the same with its type.

    Attributes:
        event: the validated event.
    """

    __slots__ = ("_results", "event")

    def __init__(self, event: E, results: Mapping[str, Any]) -> None:
        self.event = event
        self._results = results

    @property
    def results(self) -> Mapping[str, Any]:
        """Outcomes by node name, in the order the nodes finished."""
        return MappingProxyType(cast("dict[str, Any]", self._results))

    @property
    def failures(self) -> list[Failure]:
        """Branches that failed and were allowed to."""
        return [value for value in self._results.values() if isinstance(value, Failure)]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return result_of(self._results, name, name)

    def __getitem__(self, node: Node[R]) -> R:
        return result_of(self._results, node.name, node.name)

    def __repr__(self) -> str:
        return f"State(event={self.event!r}, results={self._results!r})"


def result_of(outcomes: Mapping[str, Any], name: str, shown: str) -> Any:
    """The result of node `name`.

    Raises:
        NoResult: it has not run, or it failed.
    """
    try:
        outcome = outcomes[name]
    except KeyError:
        raise NoResult(
            f'node "{shown}" has no result: it has not run',
            hint=f"finished so far: {', '.join(outcomes) or 'none'}",
        ) from None
    if isinstance(outcome, Failure):
        raise NoResult(f'node "{shown}" has no result: it failed with {outcome.message}')
    return outcome

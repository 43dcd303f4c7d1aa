"""What travels through a pipeline: the event and what each node made of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypedDict, cast

from typing_extensions import TypeVar

from holdfast.domain.payload import message_of
from holdfast.errors import HoldfastError, NoResult

if TYPE_CHECKING:
    from .nodes import Node

E = TypeVar("E", default=Any)
R = TypeVar("R")


def merge(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Results after a step, in the order the nodes finished last."""
    if old.keys().isdisjoint(new):
        return {**old, **new}
    return {name: value for name, value in old.items() if name not in new} | new


def plus(old: Any, new: Any) -> Any:
    """The sum, as `operator.add`.

    LangGraph asks each reducer for its signature, and to find a builtin's Python touches every
    module there is: six megabytes that a forked runner would no longer share.
    """
    return old + new


@dataclass(frozen=True, slots=True)
class Item:
    """What a node inside a map looks at besides the event and the results."""

    item: Any
    index: int  # from 0


class Channels(TypedDict):
    """The LangGraph channels of a pipeline."""

    event: Any
    results: Annotated[dict[str, Any], merge]
    within: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """The outcome of a node that failed and was allowed to."""

    node: str
    type: str
    message: str
    code: str | None = None

    @classmethod
    def of(cls, node: str, error: BaseException) -> Failure:
        """What is kept of a node's error."""
        if isinstance(error, EarlierError):
            return cls(node, error.kind, error.message, error.code)
        if isinstance(error, HoldfastError):
            return cls(node, type(error).__name__, error.message, error.code)
        return cls(node, type(error).__name__, message_of(error))


class EarlierError(Exception):
    """An error that was raised before the execution halted: what is left of it."""

    def __init__(self, kind: str, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.code = code

    @classmethod
    def of(cls, error: BaseException) -> EarlierError:
        """What is kept of an error."""
        told = Failure.of("", error)
        return cls(told.type, told.message, told.code)


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
        within: what the maps around the node work on, the innermost last; empty outside of maps.
    """

    __slots__ = ("_results", "event", "within")

    def __init__(self, event: E, results: Mapping[str, Any], within: tuple[Item, ...] = ()) -> None:
        self.event = event
        self._results = results
        self.within = within

    @property
    def item(self) -> Any:
        """What the node is to work on, inside a map.

        Raises:
            NoResult: the node runs in no map.
        """
        return self._innermost.item

    @property
    def index(self) -> int:
        """Where that stands in the mapped list, from 0.

        Raises:
            NoResult: the node runs in no map.
        """
        return self._innermost.index

    @property
    def _innermost(self) -> Item:
        if not self.within:
            raise NoResult("there is no item here", hint="only nodes that a map runs have one")
        return self.within[-1]

    @property
    def results(self) -> Mapping[str, Any]:
        """Outcomes by node name, in the order the nodes finished."""
        return MappingProxyType(cast("dict[str, Any]", self._results))

    @property
    def failures(self) -> list[Failure]:
        """Nodes that failed and were allowed to: branches, items and included ones as well."""
        return failures_in(self._results.values())

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return result_of(self._results, name, name)

    def __getitem__(self, node: Node[R]) -> R:
        return result_of(self._results, node.name, node.name)

    def __repr__(self) -> str:
        return f"State(event={self.event!r}, results={self._results!r})"


def failures_in(outcomes: Iterable[Any]) -> list[Failure]:
    """The failures among outcomes, and in lists of outcomes."""
    found: list[Failure] = []
    for outcome in outcomes:
        several = cast("list[Any]", outcome) if isinstance(outcome, list) else [outcome]
        found += [one for one in several if isinstance(one, Failure)]
    return found


def beneath(state: State, name: str, failures: Sequence[Failure]) -> dict[str, Any]:
    """What a node leaves of failures that its own outcome does not show.

    Args:
        state: what the node saw; those of an earlier round of a loop are forgotten.
        name: of the node.
        failures: of nodes it ran.
    """
    key = f"{name}.failures"
    return {key: list(failures)} if failures or key in state.results else {}


def state_of(channels: Mapping[str, Any]) -> State:
    """The state in a graph's channels."""
    return State(channels["event"], channels["results"], tuple(channels.get("within") or ()))


def channels_of(state: State) -> Channels:
    """Channels for a graph that goes on from a state."""
    return {
        "event": state.event,
        "results": dict(state.results),
        "within": state.within,
    }


def having(state: State, results: Mapping[str, Any]) -> State:
    """The state with further results."""
    return State(state.event, {**state.results, **results}, state.within)


def news(state: State, results: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `results` that the state does not have, or has otherwise."""
    known = state.results
    return {k: v for k, v in results.items() if k not in known or known[k] is not v}


def group_of(branches: Branches) -> str:
    """Name of the group; a method would take that name from its branches."""
    return branches._group  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]


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

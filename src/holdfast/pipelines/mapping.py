"""Maps: one node run for each item of a list, side by side, every outcome kept in its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, cast

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphBubbleUp
from langgraph.graph import START, StateGraph
from langgraph.types import Send

from holdfast.domain.replays import RecordedStep
from holdfast.errors import DeclarationError, ReplayMismatch
from holdfast.recording import Replaying, step_of

from .base import AnyGraph
from .inner import inner
from .nodes import Action, Node
from .parallel import failed_together, raise_budget
from .passing import value_again
from .policy import CONTINUE, PolicyOptions
from .state import (
    Channels,
    Failure,
    Item,
    State,
    beneath,
    channels_of,
    failures_in,
    merge,
    plus,
    state_of,
)
from .trying import carry_out

MOST_ITEMS = 1000
"""Each item is a step of one execution's record; longer lists are for events of their own."""

Over = Callable[[State], Sequence[Any]]


class MapChannels(Channels):
    """The channels inside a map: outcomes and errors by index."""

    items: list[Any]
    outcomes: Annotated[dict[int, Any], merge]
    errors: Annotated[dict[int, Exception], merge]
    lost: Annotated[list[Failure], plus]


class Map(Node[list[Any]]):
    """Runs a node once per item; the result is the list of outcomes, in the order of the items.

    An item that fails does not disturb the others. When all have ended the map raises one error
    for those that failed, or, with `on_failure="continue"`, keeps each `Failure` in its place.
    """

    kind: ClassVar[str] = "map"

    def __init__(
        self,
        name: str,
        node: Node[Any],
        *,
        over: Over,
        at_once: int,
        pipeline: str,
        version: str,
        policy: PolicyOptions | None = None,
    ) -> None:
        super().__init__(name, pipeline=pipeline, version=version, policy=policy)
        if at_once < 1:
            raise DeclarationError(f"{self.where}: at_once={at_once} lets nothing run")
        self.node = node
        self.over = over
        self.at_once = at_once
        self._compiled: AnyGraph | None = None

    async def run(self, state: State, config: RunnableConfig) -> list[Any]:
        """Run all items to their end.

        Raises:
            BranchesFailed: some failed, and the map may not go on without them.
            DeclarationError: `over` gave no list, or too long a one.
        """
        return (await self.leave(state, config))[self.name]

    async def leave(self, state: State, config: RunnableConfig) -> dict[str, Any]:
        """The list of outcomes, and apart from it the failures that an item went on without."""
        items = self._items(state)
        if not items:
            return {**beneath(state, self.name, ()), self.name: []}
        if self._compiled is None:
            self._compiled = self._compile()
        final = await self._compiled.ainvoke(
            {**channels_of(state), "items": items, "outcomes": {}, "errors": {}, "lost": []},
            inner(config, at_once=self.at_once),
        )
        errors: dict[int, Exception] = final["errors"]
        raise_budget(errors.values())
        if errors and self.policy.on_failure != CONTINUE:
            raise failed_together(
                self.where,
                {self._named(index): errors[index] for index in sorted(errors)},
                [self._named(index) for index in range(len(items)) if index not in errors],
            )
        return {
            **beneath(state, self.name, final["lost"]),
            self.name: [final["outcomes"][index] for index in range(len(items))],
        }

    def left_again(
        self, recorded: RecordedStep, state: State, replaying: Replaying
    ) -> dict[str, Any] | None:
        """See `Node.left_again`; nothing unless all items ended well."""
        outputs: Any = recorded.output
        items = [one for one in replaying.below(recorded) if one.operation == self.node.name]
        if not all(one.ended_well for one in (recorded, *items)):
            return None
        try:
            values = [value_again(self.node.kept_type(), one, state) for one in outputs]
        except ValueError:
            return None
        return {**beneath(state, self.name, ()), self.name: values}

    def _items(self, state: State) -> list[Any]:
        given: Any = self.over(state)
        if isinstance(given, str | bytes) or not isinstance(given, Sequence):
            raise DeclarationError(
                f"{self.where}: over= gave {type(given).__name__}, which is no list"
            )
        items = list(cast("Sequence[Any]", given))
        if len(items) > MOST_ITEMS:
            raise DeclarationError(
                f"{self.where}: over= gave {len(items)} items, more than {MOST_ITEMS}",
                hint="send an event for each, with current_run().submit",
            )
        return items

    def _named(self, index: int) -> str:
        return f"{self.node.name}[{index}]"

    def _compile(self) -> AnyGraph:
        graph: StateGraph[Any, Any, Any, Any] = StateGraph(MapChannels)
        graph.add_node(self.node.name, self._keeping(), metadata=self.node.metadata)
        graph.add_conditional_edges(START, self._each, [self.node.name])
        return graph.compile(name=self.name)

    def _each(self, channels: MapChannels) -> list[Send]:
        return [
            Send(
                self.node.name,
                {
                    "event": channels["event"],
                    "results": channels["results"],
                    "within": (*channels["within"], Item(item, index)),
                },
            )
            for index, item in enumerate(channels["items"])
        ]

    def _keeping(self) -> Action:
        """The node's action for one item; LangGraph cancels the siblings of one that raises."""
        node = self.node

        async def action(channels: Channels, config: RunnableConfig) -> dict[str, Any]:
            index = channels["within"][-1].index
            try:
                left = await carry_out(node, state_of(channels), config)
            except (GraphBubbleUp, ReplayMismatch):  # an interrupt is no failure
                raise
            except Exception as error:  # noqa: BLE001 - kept: the map tells when all have ended
                step_of(config).fail(error)
                failure = Failure.of(self._named(index), error)
                return {"outcomes": {index: failure}, "errors": {index: error}}
            outcome = left.pop(node.name)
            if isinstance(outcome, Failure):
                outcome = replace(outcome, node=self._named(index))
            lost = [
                replace(one, node=f"{self._named(index)}.{one.node.removeprefix(f'{node.name}.')}")
                for one in failures_in(left.values())
            ]
            # The results are for the step's own output: outside, the list stands for them all.
            return {
                "outcomes": {index: outcome},
                "lost": lost,
                "results": {node.name: outcome},
            }

        return action

    def describe(self) -> dict[str, Any]:
        """Also how many run at once, and what happens when one fails."""
        return {
            **super().describe(),
            "at_once": self.at_once,
            "on_failure": self.policy.on_failure,
        }

    def sources(self) -> list[object]:
        """The function that gives the items."""
        return [self.over] if hasattr(self.over, "__code__") else []

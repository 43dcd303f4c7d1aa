"""Parallel groups: branches that run at once, each with an outcome of its own."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Annotated, Any, ClassVar, Literal

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphBubbleUp
from langgraph.graph import END, START, StateGraph

from holdfast.errors import BranchesFailed
from holdfast.recording import step_of

from .base import AnyGraph
from .nodes import Node
from .state import Branches, Channels, Failure, State, merge

OnFailure = Literal["abort", "continue"]


class GroupChannels(Channels):
    """The channels inside a group: errors leave it only as failures or raised."""

    errors: Annotated[dict[str, Exception], merge]


class Parallel(Node[Branches]):
    """Runs its branches side by side in a graph of their own and joins what they did.

    A branch that fails does not disturb the others. When all have ended the group raises one
    error for those that failed, or, with `on_failure="continue"`, goes on without them.
    """

    kind: ClassVar[str] = "parallel"

    def __init__(
        self,
        name: str,
        branches: Sequence[Node[Any]],
        *,
        on_failure: OnFailure,
        pipeline: str,
        version: str,
    ) -> None:
        super().__init__(name, pipeline=pipeline, version=version)
        self.branches = tuple(branches)
        self.on_failure: OnFailure = on_failure
        self._compiled: AnyGraph | None = None

    async def run(self, state: State, config: RunnableConfig) -> Branches:
        """Run all branches to their end.

        Raises:
            BranchesFailed: some failed, and the group may not go on without them.
        """
        if self._compiled is None:
            self._compiled = self._compile()
        final = await self._compiled.ainvoke(
            {"event": state.event, "results": dict(state.results), "errors": {}}, config
        )
        results, errors = final["results"], final["errors"]
        names = [branch.name for branch in self.branches]
        if errors and self.on_failure == "abort":
            raise self._failed(errors, [name for name in names if name not in errors])
        return Branches(
            self.name,
            {
                name: Failure.of(name, errors[name]) if name in errors else results[name]
                for name in names
            },
        )

    def outcomes(self, result: Branches) -> dict[str, Any]:
        """Each branch under its own name, then the group."""
        own: dict[str, Any] = {}
        for branch in self.branches:
            outcome = result[branch.name]
            own |= (
                {branch.name: outcome} if isinstance(outcome, Failure) else branch.outcomes(outcome)
            )
        return {**own, self.name: result}

    def _failed(self, errors: dict[str, Exception], succeeded: list[str]) -> BranchesFailed:
        told = "; ".join(
            f"{name} ({Failure.of(name, error).message})" for name, error in errors.items()
        )
        error = BranchesFailed(
            f'pipeline {self.pipeline}: group "{self.name}": failed: {told}; '
            f"succeeded: {', '.join(succeeded) or 'none'}",
            failed=list(errors),
            succeeded=succeeded,
        )
        error.__cause__ = ExceptionGroup(f"branches of {self.name}", list(errors.values()))
        return error

    def _compile(self) -> AnyGraph:
        graph: StateGraph[Any, Any, Any, Any] = StateGraph(GroupChannels)
        for branch in self.branches:
            graph.add_node(branch.name, _keeping(branch), metadata=branch.metadata)
            graph.add_edge(START, branch.name)
            graph.add_edge(branch.name, END)
        return graph.compile(name=self.name)

    def describe(self) -> dict[str, Any]:
        """Also what happens when a branch fails."""
        return {**super().describe(), "on_failure": self.on_failure}


def _keeping(branch: Node[Any]) -> Callable[..., Coroutine[Any, Any, dict[str, Any]]]:
    """A branch's action that keeps its error instead of raising it.

    LangGraph cancels the siblings of a node that raises.
    """
    act, name = branch.action(), branch.name

    async def action(channels: Channels, config: RunnableConfig) -> dict[str, Any]:
        try:
            return await act(channels, config)
        except GraphBubbleUp:  # an interrupt is no failure
            raise
        except Exception as error:  # noqa: BLE001 - kept: the group tells when all have ended
            step_of(config).fail(error)
            return {"errors": {name: error}}

    return action

"""Parallel groups: branches that run at once, each with an outcome of its own."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphBubbleUp
from langgraph.graph import END, START, StateGraph

from holdfast.domain.replays import RecordedStep
from holdfast.errors import BranchesFailed, BudgetExceeded, ReplayMismatch
from holdfast.recording import Replaying, step_of

from .base import AnyGraph
from .inner import inner
from .nodes import Node
from .passing import branches_again
from .policy import CONTINUE, PolicyOptions
from .state import Branches, Channels, Failure, State, channels_of, merge, news, state_of
from .trying import carry_out


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
        pipeline: str,
        version: str,
        policy: PolicyOptions | None = None,
    ) -> None:
        super().__init__(name, pipeline=pipeline, version=version, policy=policy)
        self.branches = tuple(branches)
        self._compiled: AnyGraph | None = None

    async def run(self, state: State, config: RunnableConfig) -> Branches:
        """Run all branches to their end.

        Raises:
            BranchesFailed: some failed, and the group may not go on without them.
        """
        return (await self.leave(state, config))[self.name]

    async def leave(self, state: State, config: RunnableConfig) -> dict[str, Any]:
        """Each branch under its own name, and what stood in for one; then the group."""
        if self._compiled is None:
            self._compiled = self._compile()
        final = await self._compiled.ainvoke({**channels_of(state), "errors": {}}, inner(config))
        results, errors = final["results"], final["errors"]
        names = [branch.name for branch in self.branches]
        raise_budget(errors.values())
        if errors and self.policy.on_failure != CONTINUE:
            raise failed_together(
                f'pipeline {self.pipeline}: group "{self.name}"',
                errors,
                [name for name in names if name not in errors],
            )
        return {
            **news(state, results),
            self.name: Branches(self.name, {name: results[name] for name in names}),
        }

    def left_again(
        self, recorded: RecordedStep, state: State, replaying: Replaying
    ) -> dict[str, Any] | None:
        """See `Node.left_again`; nothing unless all branches ended well."""
        members = {branch.name: branch for branch in self.branches}
        return branches_again(self.name, members, recorded, state, replaying)

    def _compile(self) -> AnyGraph:
        graph: StateGraph[Any, Any, Any, Any] = StateGraph(GroupChannels)
        for branch in self.branches:
            graph.add_node(branch.name, _keeping(branch), metadata=branch.metadata)
            graph.add_edge(START, branch.name)
            graph.add_edge(branch.name, END)
        return graph.compile(name=self.name)

    def describe(self) -> dict[str, Any]:
        """Also what happens when a branch fails."""
        return {**super().describe(), "on_failure": self.policy.on_failure}


def raise_budget(errors: Iterable[Exception]) -> None:
    """Raise what ends the execution, whatever its group's policy is.

    Raises:
        BudgetExceeded: a member's.
    """
    for error in errors:
        if isinstance(error, BudgetExceeded):
            raise error


def failed_together(
    where: str, errors: Mapping[str, Exception], succeeded: list[str]
) -> BranchesFailed:
    """The one error of a group whose members failed, with theirs as its cause.

    Args:
        where: names the group.
        errors: by member.
        succeeded: members that did not fail.
    """
    told = "; ".join(
        f"{name} ({Failure.of(name, error).message})" for name, error in errors.items()
    )
    error = BranchesFailed(
        f"{where}: failed: {told}; succeeded: {', '.join(succeeded) or 'none'}",
        failed=list(errors),
        succeeded=succeeded,
    )
    error.__cause__ = ExceptionGroup(f"members of {where}", list(errors.values()))
    return error


def _keeping(branch: Node[Any]) -> Callable[..., Coroutine[Any, Any, dict[str, Any]]]:
    """A branch's action that keeps its error instead of raising it.

    LangGraph cancels the siblings of a node that raises.
    """
    name = branch.name

    async def action(channels: Channels, config: RunnableConfig) -> dict[str, Any]:
        try:
            return {"results": await carry_out(branch, state_of(channels), config)}
        except (GraphBubbleUp, ReplayMismatch):  # an interrupt is no failure
            raise
        except Exception as error:  # noqa: BLE001 - kept: the group tells when all have ended
            step_of(config).fail(error)
            return {"results": {name: Failure.of(name, error)}, "errors": {name: error}}

    return action

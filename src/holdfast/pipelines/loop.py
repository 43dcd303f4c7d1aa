"""Loops: a way back that may be taken a bounded number of times, each decision on record."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from langchain_core.runnables import RunnableConfig
from langgraph.types import Command

from holdfast.errors import DeclarationError, LoopExceeded

from .nodes import Node
from .router import Decision, Predicate, holds, looks_only, rule_label
from .state import Channels, State, state_of

Exceeded = Literal["fail", "continue"]

MOST_ROUNDS = 1000
"""A loop that may go round more often is a mistake, or work for a map."""


@dataclass(frozen=True, slots=True)
class Round(Decision):
    """What a loop chose after one round.

    Attributes:
        round: how often the loop's nodes have run, from 1.
        at_most: how often they may.
        exhausted: it would have gone back, had the bound allowed it.
    """

    round: int
    at_most: int
    exhausted: bool


class Loop(Node[Round]):
    """Goes back while its predicate holds and the bound allows it, else on."""

    kind: ClassVar[str] = "loop"

    def __init__(
        self,
        source: str,
        *,
        back_to: str,
        while_: Predicate,
        at_most: int,
        exceeded: Exceeded,
        pipeline: str,
        version: str,
    ) -> None:
        super().__init__(f"{source}.loop", pipeline=pipeline, version=version)
        self.source = source
        self.back_to = back_to
        self.at_most = at_most
        self.exceeded: Exceeded = exceeded
        self.predicate = while_
        self.label = rule_label(while_, 1)
        # Both known once the pipeline is sealed.
        self.onward = ""
        self.inside: list[str] = []
        looks_only(while_, self.label, source, pipeline)
        where = f'pipeline {pipeline}: the loop after "{source}"'
        if not 1 <= at_most <= MOST_ROUNDS:
            raise DeclarationError(f"{where}: at_most={at_most} is not within 1 to {MOST_ROUNDS}")
        if exceeded not in ("fail", "continue"):
            raise DeclarationError(
                f'{where}: exceeded={exceeded!r} is neither "fail" nor "continue"'
            )

    @property
    def targets(self) -> list[str]:
        """Where it may lead."""
        return [self.back_to, self.onward]

    async def run(self, state: State, config: RunnableConfig) -> Round:  # noqa: ARG002
        """Count the round and decide.

        Raises:
            LoopExceeded: it should go round again, but not more often, and that is a failure.
            DeclarationError: the predicate answers neither True nor False.
        """
        before: Round | None = state.results.get(self.name)
        done = 1 if before is None else before.round + 1
        again = holds(self.predicate, self.label, state, self.source, self.pipeline)
        exhausted = again and done >= self.at_most
        if exhausted and self.exceeded == "fail":
            raise LoopExceeded(
                f'pipeline {self.pipeline}: the loop after "{self.source}" has gone round '
                f"{done} times and {self.label!r} still holds",
                hint='allow more with at_most=, or go on with exceeded="continue"',
            )
        goes_back = again and not exhausted
        return Round(
            self.back_to if goes_back else self.onward,
            self.label if again else None,
            fallback=not again,
            round=done,
            at_most=self.at_most,
            exhausted=exhausted,
        )

    def action(self) -> Callable[..., Coroutine[Any, Any, Any]]:
        """Decides, keeps the count as a result, and sends LangGraph on its way."""

        async def action(channels: Channels, config: RunnableConfig) -> Command[str]:
            decided = await self.run(state_of(channels), config)
            # Loops inside this one count anew in its next round.
            counts = dict.fromkeys(self.inside) if decided.target == self.back_to else {}
            return Command(update={"results": {**counts, self.name: decided}}, goto=decided.target)

        return action

    def describe(self) -> dict[str, Any]:
        """Also the bound."""
        return {**super().describe(), "at_most": self.at_most, "exceeded": self.exceeded}

    def sources(self) -> list[object]:
        """The predicate."""
        return [self.predicate] if hasattr(self.predicate, "__code__") else []

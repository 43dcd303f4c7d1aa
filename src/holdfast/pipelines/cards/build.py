"""A checked card, declared as a `Pipeline` through its public methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel

from holdfast.errors import ExpressionError
from holdfast.llm.scripted import Script
from holdfast.pipelines.base import Declaration
from holdfast.pipelines.budget import Budget
from holdfast.pipelines.fingerprint import fingerprint
from holdfast.pipelines.pipeline import END as GRAPH_END
from holdfast.pipelines.pipeline import Pipeline
from holdfast.pipelines.policy import Backoff, PolicyOptions
from holdfast.pipelines.state import State

from .actions import Action, Catalogue
from .check import Checked
from .expressions import Expression
from .model import END, POLICIES, CaseShape, ExecuteShape, StepShape, WaitShape
from .paths import filled
from .plan import members_of


class CardPipeline(Pipeline):
    """A pipeline that a card declares.

    Attributes:
        file: the card's.
    """

    def __init__(self, checked: Checked, *, file: str, text: str, script: Script | None) -> None:
        """Open the declaration; `Builder` fills it."""
        card = checked.card
        super().__init__(
            card.name,
            version=card.version,
            event=checked.event or BaseModel,
            scripted=script,
            description=card.description,
            deadline=card.deadline,
            priority=card.priority,
            max_running=card.max_running,
            retention=None if card.retention is None else timedelta(days=card.retention),
            durable=card.durable,
            budget=None
            if card.budget is None
            else Budget(
                tokens=card.budget.tokens,
                usd=None if card.budget.usd is None else str(card.budget.usd),
                credits=card.budget.credits,
            ),
        )
        self.file = file
        self._text = text
        self._actions: list[object] = []

    def uses(self, action: Action[..., Any]) -> None:
        """Note an action whose code the card depends on."""
        self._actions.append(action.fn)

    def _hash_code(self) -> str:
        """Also over the card's text and its actions' modules."""
        return fingerprint(self._module, self._actions, super()._hash_code(), self._text)


class Rule:
    """A card's expression as a router or a loop asks it; called as its author wrote it."""

    def __init__(self, expression: Expression, variables: Mapping[str, Any]) -> None:
        self.__name__ = " ".join(expression.source.split())
        self._expression = expression
        self._variables = variables

    def __call__(self, state: State) -> bool:
        """Whether it holds.

        Raises:
            ExpressionError: a value is missing, or of the wrong kind.
            NoResult: a step has no result.
        """
        value = self._expression.value(lambda reference: reference.value(state, self._variables))
        if value is True or value is False:
            return value
        raise ExpressionError(
            f"{self._expression.source!r} gives {value!r}, neither true nor false",
            hint="compare it: == null, > 0, length(…) > 0",
        )


class Builder:
    """Declares one card's steps."""

    def __init__(
        self,
        pipeline: CardPipeline,
        checked: Checked,
        catalogue: Catalogue,
        pipelines: Mapping[str, Declaration],
    ) -> None:
        self._pipeline = pipeline
        self._checked = checked
        self._catalogue = catalogue
        self._pipelines = pipelines
        self._steps = checked.card.steps
        self._variables = checked.card.variables
        self._declared: set[str] = set()

    def build(self) -> CardPipeline:
        """Declare the steps and the ways between them.

        Raises:
            DeclarationError: what the check of the card could not see.
        """
        for name in self._steps:
            self._declare(name)
        self._pipeline.start(self._checked.plan.start or "")
        for name, step in self._steps.items():
            self._ways(name, step)
        return self._pipeline

    def _declare(self, name: str) -> None:
        if name in self._declared:
            return
        self._declared.add(name)
        step = self._steps[name]
        for member in members_of(step):
            self._declare(member)
        policy = _policy(step)
        if step.execute is not None:
            self._execute(name, step.execute, policy)
        elif step.subprocess is not None:
            other = step.subprocess
            runs = self._child if other.mode == "child" else self._include
            runs(name, other.pipeline, other.with_, policy)
        elif step.parallel is not None:
            self._pipeline.parallel(name, step.parallel, **policy)
        elif step.map is not None:
            over = self._gives(step.map.over)
            self._pipeline.map(name, step.map.step, over=over, at_once=step.map.at_once, **policy)
        elif step.human_checkpoint is not None:
            asked = step.human_checkpoint
            answer: Any = self._checked.answers[name] or Any
            self._pipeline.ask(name, question=asked.question, answer=answer, timeout=asked.timeout)
        elif step.wait is not None:
            self._wait(name, step.wait)
        elif step.kind == "complete":
            self._pipeline.node(name, self._completing(step.complete))
        else:
            self._pipeline.node(name, _nothing)

    def _execute(self, name: str, execute: ExecuteShape, policy: PolicyOptions) -> None:
        given = execute.with_ or {}
        if execute.model is not None:
            asked = execute.model
            answer: Any = self._checked.answers[name]
            self._pipeline.model(
                name,
                prompt=asked.prompt,
                system=asked.system,
                alias=asked.alias,
                answer=answer,
                tries=asked.tries,
                credits=asked.credits,
                **policy,
            )
        elif execute.action is not None:
            action = self._catalogue.actions[execute.action]
            self._pipeline.uses(action)
            self._pipeline.node(name, self._action(name, action, given), **policy)
        elif execute.pipeline is not None:
            self._include(name, execute.pipeline, given, policy)

    def _include(
        self, name: str, other: str, given: Mapping[str, Any], policy: PolicyOptions
    ) -> None:
        self._pipeline.include(
            name, self._pipelines[other], input=self._gives(dict(given)), **policy
        )

    def _child(
        self, name: str, other: str, given: Mapping[str, Any], policy: PolicyOptions
    ) -> None:
        self._pipeline.child(name, self._pipelines[other], input=self._gives(dict(given)), **policy)

    def _action(
        self, name: str, action: Action[..., Any], given: Mapping[str, Any]
    ) -> Callable[[State], Any]:
        where = f'card {self._pipeline.name}: step "{name}"'
        variables = self._variables

        async def run(state: State) -> Any:
            return await action.fn(**action.accept(filled(given, state, variables), where))

        def run_in_thread(state: State) -> Any:
            return action.fn(**action.accept(filled(given, state, variables), where))

        node = run if action.is_async else run_in_thread
        node.__annotations__ = {"return": action.returns}  # caches and checkpoints ask for it
        return node

    def _gives(self, value: Any) -> Callable[[State], Any]:
        variables = self._variables

        def look(state: State) -> Any:
            return filled(value, state, variables)

        return look

    def _completing(self, value: Any) -> Callable[[State], Any]:
        variables = self._variables

        async def complete(state: State) -> Any:  # in the loop: it waits for nothing
            return filled(value, state, variables)

        return complete

    def _wait(self, name: str, wait: WaitShape) -> None:
        if wait.event is not None:
            subject = None if wait.subject is None else self._gives(wait.subject)
            self._pipeline.wait_for(name, event=wait.event, match=subject, timeout=wait.timeout)
        elif wait.seconds is not None:
            self._pipeline.wait(name, seconds=wait.seconds)
        else:
            until = self._gives(wait.until)
            self._pipeline.wait(name, until=lambda state: _moment(until(state)))

    def _ways(self, name: str, step: StepShape) -> None:
        if step.next is not None and step.next != END:
            self._pipeline.edge(name, step.next)
        if step.condition is not None:
            rules = [
                (_way(case.then or END), self._rule(name, n, case))
                for n, case in enumerate(step.condition[:-1])
            ]
            self._pipeline.route(name, rules, otherwise=_way(step.condition[-1].else_ or END))
        if step.loop is not None:
            rule = self._checked.expressions[("steps", name, "loop", "while")]
            self._pipeline.loop(
                name,
                back_to=step.loop.back_to,
                while_=Rule(rule, self._variables),
                at_most=step.loop.at_most,
                exceeded=step.loop.exceeded,
            )

    def _rule(self, name: str, n: int, case: CaseShape) -> Rule:
        key = "if" if case.if_ is not None else "elif"
        parsed = self._checked.expressions[("steps", name, "condition", n, key)]
        return Rule(parsed, self._variables)


def _policy(step: StepShape) -> PolicyOptions:
    given: dict[str, Any] = {
        option: getattr(step, option) for option in POLICIES if getattr(step, option) is not None
    }
    if step.backoff is not None:
        given["backoff"] = Backoff(**step.backoff.model_dump())
    return PolicyOptions(**given)


def _way(target: str) -> str:
    return GRAPH_END if target == END else target


async def _nothing(_: State) -> None:
    """A step that only decides what follows."""


def _moment(value: Any) -> Any:
    return datetime.fromisoformat(value) if isinstance(value, str) else value

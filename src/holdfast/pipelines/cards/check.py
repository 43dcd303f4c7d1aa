"""What can be proven of a card before it is declared: names, ways, references, parameters."""

from __future__ import annotations

import keyword
from collections.abc import Mapping
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from holdfast.pipelines.base import Declaration
from holdfast.pipelines.joining import RESERVED

from .actions import Catalogue
from .faults import Faults, Path, near
from .fields import BadField, model_of
from .looking import References
from .model import END, CardShape, ExecuteShape, FieldShape, StepShape
from .paths import HEADS, references_in
from .plan import NO_STEP, Plan, members_of

TAKEN = RESERVED | {*HEADS, END, *NO_STEP}
"""Names no step may have."""


class Checked:
    """A card with what its names stand for.

    Attributes:
        card: its shape.
        plan: its steps and ways.
        event: schema of the events' data.
        answers: schema of the answer, by step; None for one that asks for none.
        expressions: parsed, by where they stand.
    """

    def __init__(
        self,
        card: CardShape,
        faults: Faults,
        catalogue: Catalogue,
        pipelines: Mapping[str, Declaration | None],
    ) -> None:
        """Check a card; what is wrong is added to the faults.

        Args:
            card: as it was read.
            faults: takes what is wrong.
            catalogue: what the app offers.
            pipelines: those it may name; None for a card that has faults of its own.
        """
        self.card = card
        self.plan = Plan(card)
        self.answers: dict[str, type[BaseModel] | None] = {}
        self._faults = faults
        self._catalogue = catalogue
        self._pipelines = pipelines
        self.event = self._schema(card.event, ("event",), "Event")
        for name, step in card.steps.items():
            self._names(name, step)
            self._schemas(name, step)
        references = References(card, self.plan, self.event, self.answers, catalogue, faults)
        self.expressions = references.expressions
        for name, step in card.steps.items():
            self._ways(name, step)
            self._things(name, step)
            references.check(name, step)

    def _add(self, path: Path, message: str, hint: str = "", **more: Any) -> None:
        self._faults.add(path, message, hint=hint, **more)

    def _names(self, name: str, step: StepShape) -> None:
        path: Path = ("steps", name)
        if not name.isidentifier() or name.startswith("_") or keyword.iskeyword(name):
            self._add(path, f'"{name}" is no name for a step', "letters, digits and _", key=True)
        elif name in TAKEN:
            self._add(path, f'the name "{name}" is taken: it means another thing', key=True)
        if name not in self.plan.reached:
            self._add(path, f'step "{name}" is never reached (no way leads to it)', key=True)
        holder, failing = self.plan.holders.get(name), self.plan.failing.get(name)
        part_of = holder or failing
        if part_of and (step.next or step.condition or step.loop):
            word = next(one for one in ("next", "condition", "loop") if getattr(step, one))
            self._add(
                (*path, word),
                f'"{name}" runs as a part of "{part_of}": nothing can follow it',
                f'say it of "{part_of}"',
                key=True,
            )
        if holder and failing:
            self._add(path, f'"{name}" is a part of "{holder}" and stands in for "{failing}"')
        if part_of and step.kind == "complete":
            self._add(path, '"complete" ends the run and cannot be a part of another step')

    def _ways(self, name: str, step: StepShape) -> None:
        path: Path = ("steps", name)
        if step.next is not None:
            self._target(step.next, (*path, "next"), name)
        for n, case in enumerate(step.condition or ()):
            for key, target in (("then", case.then), ("else", case.else_)):
                if target is not None:
                    self._target(target, (*path, "condition", n, key), name)
        if step.loop is not None:
            self._target(step.loop.back_to, (*path, "loop", "back_to"), name, ends=False)
        if step.on_failure is not None and step.on_failure not in NO_STEP:
            self._step(step.on_failure, (*path, "on_failure"), also=NO_STEP)
        for n, member in enumerate(step.parallel or ()):
            self._step(member, (*path, "parallel", n))
            if (step.parallel or []).index(member) != n:
                self._add((*path, "parallel", n), f'"{member}" stands here twice')
        if step.map is not None:
            self._step(step.map.step, (*path, "map", "step"))
        for member in members_of(step):
            if (holder := self.plan.holders[member]) != name and member in self.card.steps:
                self._add(path, f'step "{member}" is a part of "{holder}" already')

    def _step(self, name: str, path: Path, *, also: tuple[str, ...] = ()) -> bool:
        if name in self.card.steps:
            return True
        self._add(path, f'there is no step "{name}"', near(name, {*self.card.steps, *also}))
        return False

    def _target(self, target: str, path: Path, source: str, *, ends: bool = True) -> None:
        if target == END and ends:
            return
        if not self._step(target, path, also=(END,) if ends else ()):
            return
        if holder := self.plan.holders.get(target):
            self._add(path, f'"{target}" is a part of "{holder}"', f'lead to "{holder}"')
        elif failing := self.plan.failing.get(target):
            self._add(path, f'"{target}" only stands in when "{failing}" fails')
        elif not ends and source not in {target} | self._reaches(target):
            self._add(path, f'"{target}" does not lead to "{source}": that is no way back')

    def _reaches(self, name: str) -> set[str]:
        found: set[str] = set()
        left = [name]
        while left:
            one = left.pop()
            if one not in found:
                found.add(one)
                left += self.plan.ways(one)
        return found

    def _schemas(self, name: str, step: StepShape) -> None:
        path: Path = ("steps", name)
        title = name.title().replace("_", "")
        if step.execute is not None and step.execute.model is not None:
            declared, path = step.execute.model.answer, (*path, "execute", "model", "answer")
        elif step.human_checkpoint is not None:
            declared, path = step.human_checkpoint.answer, (*path, "human_checkpoint", "answer")
        else:
            return
        self.answers[name] = (
            None if declared is None else self._schema(declared, path, f"{title}Answer")
        )

    def _schema(
        self, declared: str | dict[str, FieldShape], path: Path, title: str
    ) -> type[BaseModel] | None:
        if isinstance(declared, str):
            if (found := self._catalogue.schemas.get(declared)) is None:
                self._add(
                    path,
                    f'the app has no schema "{declared}"',
                    near(declared, set(self._catalogue.schemas)),
                )
            return found
        try:
            place = ".".join(str(part) for part in path)
            return model_of(title, declared, f"holdfast.cards.{self.card.name}", place)
        except BadField as error:
            self._add((*path, *error.path), str(error))
            return None

    def _things(self, name: str, step: StepShape) -> None:
        """What the step names of the app, and whether its parameters fit."""
        path: Path = ("steps", name)
        if step.execute is not None:
            self._execute(step.execute, (*path, "execute"))
        if step.subprocess is not None:
            path = (*path, "subprocess")
            self._pipeline(step.subprocess.pipeline, step.subprocess.with_, path)

    def _execute(self, execute: ExecuteShape, path: Path) -> None:
        given = execute.with_ or {}
        if execute.agent is not None:
            self._add(
                (*path, "agent"),
                "there are no agents yet",
                "run an action or ask a model",
                key=True,
            )
        elif execute.pipeline is not None:
            self._pipeline(execute.pipeline, given, path)
        elif execute.action is not None:
            self._action(execute.action, given, path)

    def _action(self, name: str, given: Mapping[str, Any], path: Path) -> None:
        action = self._catalogue.actions.get(name)
        if action is None:
            self._add(
                (*path, "action"),
                f'the app has no action "{name}"',
                near(name, set(self._catalogue.actions)),
            )
            return
        self._parameters(
            f'action "{name}"',
            given,
            set(action.parameters),
            {one.name for one in action.parameters.values() if one.required},
            path,
        )
        for key, value in given.items():
            parameter = action.parameters.get(key)
            if parameter is None or next(references_in(value), None) is not None:
                continue
            try:
                parameter.adapter.validate_python(value)
            except ValidationError as error:
                first = error.errors(include_url=False)[0]
                self._add((*path, "with", key, *first["loc"]), f'"{key}": {first["msg"]}')

    def _pipeline(self, name: str, given: Mapping[str, Any], path: Path) -> None:
        other = self._pipelines.get(name)
        if other is None and name in self._pipelines:
            return
        if other is None:
            known = set(self._pipelines)
            self._add((*path, "pipeline"), f'there is no pipeline "{name}"', near(name, known))
            return
        schema = other.schema()
        if "properties" in schema:
            self._parameters(
                f'pipeline "{name}"',
                given,
                set(schema["properties"]),
                set(cast("list[str]", schema.get("required", []))),
                path,
            )

    def _parameters(
        self, whose: str, given: Mapping[str, Any], known: set[str], required: set[str], path: Path
    ) -> None:
        for key in given.keys() - known:
            self._add((*path, "with", key), f'{whose} takes no "{key}"', near(key, known), key=True)
        if missing := sorted(required - given.keys()):
            self._add((*path, "with"), f"{whose} needs {', '.join(missing)}")

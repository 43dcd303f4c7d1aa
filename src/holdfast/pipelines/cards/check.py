"""What can be proven of a card before it is declared: names, ways, references, parameters."""

from __future__ import annotations

import keyword
from collections.abc import Mapping
from datetime import datetime
from difflib import get_close_matches
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from holdfast.errors import DeclarationError
from holdfast.pipelines.base import Declaration
from holdfast.pipelines.joining import RESERVED
from holdfast.pipelines.prompts import Prompt

from .actions import Catalogue
from .expressions import Expression, NoExpression
from .faults import Faults, Path, near
from .fields import UNKNOWN, BadField, inside, model_of
from .model import END, CardShape, ExecuteShape, FieldShape, StepShape
from .paths import HEADS, INDEX, INPUT, ITEM, VARIABLES, Reference, is_reference, references_in
from .plan import NO_STEP, Plan, members_of, without_result

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
        self.expressions: dict[Path, Expression] = {}
        self._faults = faults
        self._catalogue = catalogue
        self._pipelines = pipelines
        self.event = self._schema(card.event, ("event",), "Event")
        for name, step in card.steps.items():
            self._names(name, step)
            self._schemas(name, step)
        if card.budget is not None:
            self._budget()
        for name, step in card.steps.items():
            self._ways(name, step)
            self._things(name, step)
            self._references(name, step)

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

    def _budget(self) -> None:
        budget = self.card.budget
        if budget is not None and budget.usd is not None:
            self._add(
                ("budget", "usd"),
                "a budget in dollars is not enforced while a run goes on",
                "prices are known to the hub alone; bound tokens or credits",
                key=True,
            )

    def _things(self, name: str, step: StepShape) -> None:
        """What the step names of the app, and whether its parameters fit."""
        path: Path = ("steps", name)
        if step.execute is not None:
            self._execute(step.execute, (*path, "execute"))
        if step.subprocess is not None:
            path = (*path, "subprocess")
            self._pipeline(step.subprocess.pipeline, step.subprocess.with_, path)
            if step.subprocess.mode == "child":
                self._add(
                    (*path, "mode"), "children are not there yet", "mode: inline runs it in here"
                )

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

    def _references(self, name: str, step: StepShape) -> None:
        """Every reference, expression and template of a step."""
        path: Path = ("steps", name)
        if step.execute is not None:
            self._values(name, step.execute.with_, (*path, "execute", "with"))
            if (model := step.execute.model) is not None:
                where: Path = (*path, "execute", "model")
                self._template(name, model.prompt, (*where, "prompt"))
                if model.system is not None:
                    self._template(name, model.system, (*where, "system"))
        if step.subprocess is not None:
            self._values(name, step.subprocess.with_, (*path, "subprocess", "with"))
        if step.human_checkpoint is not None:
            where = (*path, "human_checkpoint", "question")
            self._template(name, step.human_checkpoint.question, where)
        if step.map is not None:
            self._one(name, step.map.over, (*path, "map", "over"))
        if step.wait is not None:
            self._values(name, step.wait.subject, (*path, "wait", "subject"))
            self._until(name, step.wait.until, (*path, "wait", "until"))
        self._values(name, step.complete, (*path, "complete"))
        for n, case in enumerate(step.condition or ()):
            for key, rule in (("if", case.if_), ("elif", case.elif_)):
                if rule is not None:
                    self._expression(name, rule, (*path, "condition", n, key), after=True)
        if step.loop is not None:
            self._expression(name, step.loop.while_, (*path, "loop", "while"), after=True)

    def _until(self, name: str, until: str | None, path: Path) -> None:
        if until is None or is_reference(until):
            self._values(name, until, path)
            return
        try:
            good = datetime.fromisoformat(until).tzinfo is not None
        except ValueError:
            good = False
        if not good:
            self._add(path, f"{until!r} is no time with a zone", "2026-12-24T18:00:00+01:00")

    def _one(self, name: str, text: str, path: Path) -> None:
        if not is_reference(text):
            self._add(path, f"{text!r} is not one reference", "over: ${input.items}")
        self._values(name, text, path)

    def _values(self, name: str, value: Any, path: Path) -> None:
        for where, reference, offset in references_in(value):
            at = (*path, *where)
            if reference is None:
                self._add(
                    at,
                    "this is no reference",
                    "${step.field}, ${input.field} or ${variables.name}; $${ is a plain ${",
                    offset=offset,
                )
            else:
                self._reference(name, reference, at, offset)

    def _expression(self, name: str, source: str, path: Path, *, after: bool) -> None:
        try:
            parsed = Expression.parse(source)
        except NoExpression as error:
            bad = error.misfit
            self._add(path, bad.message, bad.hint, offset=bad.offset)
            return
        self.expressions[path] = parsed
        for reference, offset in parsed.references:
            self._reference(name, reference, path, offset, after=after)

    def _reference(
        self, name: str, reference: Reference, path: Path, offset: int, *, after: bool = False
    ) -> None:
        """Check one reference.

        Args:
            name: of the step it stands in.
            reference: what it says.
            path: where it stands.
            offset: … in the text.
            after: it is looked at when the step has run.
        """
        head = reference.head
        at: dict[str, Any] = {"offset": offset}
        if head == VARIABLES:
            self._variable(reference, path, offset)
            return
        if head in (ITEM, INDEX):
            if not self.plan.in_map(name):
                self._add(path, f"{reference}: no map runs this step", **at)
            return
        if head == INPUT:
            self._inside(reference, self.event or UNKNOWN, path, offset)
            return
        if head not in self.card.steps:
            known = {*self.card.steps, INPUT, VARIABLES}
            self._add(path, f'{reference}: there is no step "{head}"', near(head, known), **at)
            return
        ready = self.plan.before(name)
        if after:
            ready |= {name, *(self.card.steps[name].parallel or ())}
        if head not in ready and name in self.plan.reached:
            holder = self.plan.holders.get(head)
            if holder is not None and self.card.steps[holder].map is not None:
                told, hint = f'"{head}" runs in the map "{holder}"', f"look at ${{{holder}}}"
            else:
                told, hint = f'"{head}" cannot have run before "{name}"', "lead from it to here"
            self._add(path, f"{reference}: {told}", hint, **at)
            return
        if without_result(self.card.steps[head]):
            self._add(path, f'{reference}: "{head}" has no result', **at)
            return
        self._inside(reference, self.result_type(head), path, offset)

    def _inside(self, reference: Reference, kind: Any, path: Path, offset: int) -> None:
        for n, part in enumerate(reference.path):
            if isinstance(kind, _Group):
                if part not in kind.members:
                    hint = near(str(part), set(kind.members))
                    told = f'{reference}: "{part}" is no part of "{reference.head}"'
                    self._add(path, told, hint, offset=offset)
                    return
                kind = self.result_type(str(part))
                continue
            there, kind, names = inside(kind, part)
            if not there:
                told = f'{reference}: {reference.upto(n)} has no "{part}"'
                close = get_close_matches(str(part), names, 1)
                hint = f"did you mean {close[0]}?" if close else f"it has: {', '.join(names)}"
                self._add(path, told, hint if names else "", offset=offset)
                return

    def _variable(self, reference: Reference, path: Path, offset: int) -> None:
        value: Any = self.card.variables
        for n, part in enumerate(reference.path):
            try:
                value = value[part]
            except (LookupError, TypeError):
                known: set[str] = set(cast("Any", value)) if isinstance(value, dict) else set()
                told = f'{reference}: {reference.upto(n)} has no "{part}"'
                self._add(path, told, near(str(part), known), offset=offset)
                return

    def result_type(self, name: str) -> Any:
        """Type of a step's result, as far as it is known before the run."""
        step = self.card.steps.get(name)
        if step is None:
            return UNKNOWN
        if step.parallel is not None:
            return _Group(tuple(step.parallel))
        if step.human_checkpoint is not None:
            return self.answers.get(name) or UNKNOWN
        if step.map is not None:
            return list[Any]
        if step.execute is not None and step.execute.model is not None:
            return self.answers.get(name) or (str if step.execute.model.answer is None else UNKNOWN)
        if step.execute is not None and step.execute.action is not None:
            action = self._catalogue.actions.get(step.execute.action)
            return UNKNOWN if action is None else action.returns
        return UNKNOWN

    def _template(self, name: str, source: str, path: Path) -> None:
        """A prompt or a question: Jinja, as in Python."""
        if (at := source.find("${")) >= 0:
            self._add(
                path,
                "a prompt is a Jinja template and takes no ${…}",
                "write {{ event.field }} or {{ step.field }}",
                offset=at if "\n" not in source else 0,
            )
        try:
            Prompt(source, f'step "{name}"').check(self.card.steps)
        except DeclarationError as error:
            self._add(path, error.message, error.hint)


class _Group:
    """Stands for the result of a parallel group."""

    def __init__(self, members: tuple[str, ...]) -> None:
        self.members = members

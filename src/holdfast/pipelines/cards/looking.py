"""Where a card looks at values: references, expressions and templates, checked before any run."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from difflib import get_close_matches
from typing import Any, cast

from pydantic import BaseModel

from holdfast.errors import DeclarationError
from holdfast.pipelines.prompts import Prompt

from .actions import Catalogue
from .expressions import Expression, NoExpression
from .faults import Faults, Path, near
from .fields import UNKNOWN, inside
from .model import CardShape, StepShape
from .paths import INDEX, INPUT, ITEM, VARIABLES, Reference, is_reference, references_in
from .plan import Plan, without_result


class References:
    """Checks what the steps of a card look at.

    Attributes:
        expressions: parsed, by where they stand.
    """

    def __init__(
        self,
        card: CardShape,
        plan: Plan,
        event: type[BaseModel] | None,
        answers: Mapping[str, type[BaseModel] | None],
        catalogue: Catalogue,
        faults: Faults,
    ) -> None:
        """Prepare the check.

        Args:
            card: its shape.
            plan: its steps and ways.
            event: schema of the events' data; None when that is at fault itself.
            answers: schemas of answers by step.
            catalogue: what the app offers.
            faults: takes what is wrong.
        """
        self.expressions: dict[Path, Expression] = {}
        self._card = card
        self._plan = plan
        self._event = event
        self._answers = answers
        self._catalogue = catalogue
        self._faults = faults

    def _add(self, path: Path, message: str, hint: str = "", *, offset: int = 0) -> None:
        self._faults.add(path, message, hint=hint, offset=offset)

    def check(self, name: str, step: StepShape) -> None:
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
        if head == VARIABLES:
            self._variable(reference, path, offset)
            return
        if head in (ITEM, INDEX):
            if not self._plan.in_map(name):
                self._add(path, f"{reference}: no map runs this step", offset=offset)
            return
        if head == INPUT:
            self._inside(reference, self._event or UNKNOWN, path, offset)
            return
        if head not in self._card.steps:
            known = {*self._card.steps, INPUT, VARIABLES}
            self._add(
                path, f'{reference}: there is no step "{head}"', near(head, known), offset=offset
            )
            return
        ready = self._plan.before(name)
        if after:
            ready |= {name, *(self._card.steps[name].parallel or ())}
        if head not in ready and name in self._plan.reached:
            holder = self._plan.holders.get(head)
            if holder is not None and self._card.steps[holder].map is not None:
                told, hint = f'"{head}" runs in the map "{holder}"', f"look at ${{{holder}}}"
            else:
                told, hint = f'"{head}" cannot have run before "{name}"', "lead from it to here"
            self._add(path, f"{reference}: {told}", hint, offset=offset)
            return
        if without_result(self._card.steps[head]):
            self._add(path, f'{reference}: "{head}" has no result', offset=offset)
            return
        self._inside(reference, self._result_type(head), path, offset)

    def _inside(self, reference: Reference, kind: Any, path: Path, offset: int) -> None:
        for n, part in enumerate(reference.path):
            if isinstance(kind, _Group):
                if part not in kind.members:
                    hint = near(str(part), set(kind.members))
                    told = f'{reference}: "{part}" is no part of "{reference.head}"'
                    self._add(path, told, hint, offset=offset)
                    return
                kind = self._result_type(str(part))
                continue
            there, kind, names = inside(kind, part)
            if not there:
                told = f'{reference}: {reference.upto(n)} has no "{part}"'
                close = get_close_matches(str(part), names, 1)
                hint = f"did you mean {close[0]}?" if close else f"it has: {', '.join(names)}"
                self._add(path, told, hint if names else "", offset=offset)
                return

    def _variable(self, reference: Reference, path: Path, offset: int) -> None:
        value: Any = self._card.variables
        for n, part in enumerate(reference.path):
            try:
                value = value[part]
            except (LookupError, TypeError):
                known: set[str] = set(cast("Any", value)) if isinstance(value, dict) else set()
                told = f'{reference}: {reference.upto(n)} has no "{part}"'
                self._add(path, told, near(str(part), known), offset=offset)
                return

    def _result_type(self, name: str) -> Any:
        """Type of a step's result, as far as it is known before the run."""
        step = self._card.steps.get(name)
        if step is None:
            return UNKNOWN
        if step.parallel is not None:
            return _Group(tuple(step.parallel))
        if step.human_checkpoint is not None:
            return self._answers.get(name) or UNKNOWN
        if step.map is not None:
            return list[Any]
        if step.execute is not None and step.execute.model is not None:
            return self._answers.get(name) or (
                str if step.execute.model.answer is None else UNKNOWN
            )
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
            prompt = Prompt(source, f'step "{name}"')
            prompt.check(self._card.steps)
        except DeclarationError as error:
            self._add(path, error.message, error.hint)
            return
        ready = self._plan.before(name)
        for head, field, line in sorted(set(prompt.looks()), key=str):
            where = f"line {line} of the prompt: " if "\n" in source else ""
            if head in self._card.steps and head not in ready and name in self._plan.reached:
                self._add(path, f'{where}"{head}" cannot have run before "{name}"')
            elif field is not None:
                self._field(head, field, path, where)

    def _field(self, head: str, field: str, path: Path, where: str) -> None:
        """A template's `head.field`: unlike a reference it may use what a class defines."""
        if head != "event" and head not in self._card.steps:
            return
        kind: Any = self._event or UNKNOWN if head == "event" else self._result_type(head)
        if isinstance(kind, _Group):
            there, names = field in (*kind.members, "items", "keys", "values"), [*kind.members]
        else:
            there, _, names = inside(kind, field)
        if not there and not hasattr(kind, field):
            close = get_close_matches(field, names, 1)
            hint = f"did you mean {close[0]}?" if close else f"it has: {', '.join(names)}"
            self._add(path, f'{where}{head} has no "{field}"', hint if names else "")


class _Group:
    """Stands for the result of a parallel group."""

    def __init__(self, members: tuple[str, ...]) -> None:
        self.members = members

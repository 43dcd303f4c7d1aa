"""Prompts: Jinja2 templates in a sandbox, where a missing value is an error and not a blank."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from difflib import get_close_matches
from functools import cache

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError
from jinja2 import nodes as syntax
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment

from holdfast.errors import DeclarationError, PromptError

from .state import Failure, State


@cache
def _environment() -> ImmutableSandboxedEnvironment:
    return ImmutableSandboxedEnvironment(
        undefined=StrictUndefined,
        autoescape=False,  # prompts are text, not HTML
        trim_blocks=True,
        lstrip_blocks=True,
    )


class Prompt:
    """One template; its variables are `event`, `results`, and each finished node by name.

    Inside a map there are `item` and `index` as well.
    """

    def __init__(self, source: str, where: str) -> None:
        """Compile the template.

        Args:
            source: Jinja2 text.
            where: names the prompt in errors: `pipeline p: node "n"`.

        Raises:
            DeclarationError: the template's syntax is wrong.
        """
        self.source = source
        self._where = where
        environment = _environment()
        try:
            self._template = environment.from_string(source)
            self._names = find_undeclared_variables(environment.parse(source))
        except TemplateSyntaxError as error:
            raise DeclarationError(
                f"{where}: line {error.lineno} of the prompt: {error.message}"
            ) from error

    def check(self, nodes: Collection[str]) -> None:
        """Prove that every variable is one that a run can have.

        Raises:
            DeclarationError: the prompt uses a name that is none of `nodes`.
        """
        known = {"event", "results", "item", "index", *nodes, *_environment().globals}
        for name in sorted(self._names - known):
            near = get_close_matches(name, known, 1)
            raise DeclarationError(
                f'{self._where}: the prompt uses "{name}", which is no node of the pipeline',
                hint=f"did you mean {near[0]}?" if near else "",
            )

    def looks(self) -> Iterator[tuple[str, str | None, int]]:
        """What the template looks at: each variable's name, the field of it or None, the line."""
        tree = _environment().parse(self.source)
        fields: set[int] = set()
        for found in tree.find_all(syntax.Getattr):
            if isinstance(found.node, syntax.Name) and found.node.name in self._names:
                fields.add(id(found.node))
                yield found.node.name, found.attr, found.lineno
        for name in tree.find_all(syntax.Name):
            if name.name in self._names and id(name) not in fields:
                yield name.name, None, name.lineno

    def render(self, state: State) -> str:
        """The prompt's text for one run.

        Raises:
            PromptError: a value it uses is not there.
        """
        values = {
            name: value
            for name, value in state.results.items()
            if name in self._names and not isinstance(value, Failure)
        }
        if state.within:
            values |= {"item": state.item, "index": state.index}
        try:
            return self._template.render(values, event=state.event, results=state.results)
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            failed = "".join(
                f'; node "{one.node}" failed' for one in state.failures if one.node in self._names
            )
            raise PromptError(
                f"{self._where}: the prompt cannot be rendered: {error}{failed}",
                hint=f"finished so far: {', '.join(state.results) or 'nothing'}",
            ) from error

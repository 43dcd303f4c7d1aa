"""Prompts: Jinja2 templates in a sandbox, where a missing value is an error and not a blank."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from functools import cache, cached_property
from types import MappingProxyType
from typing import Any

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError
from jinja2 import nodes as syntax
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment

from holdfast.errors import DeclarationError, PromptError

from .state import Failure, State

RUN_NAMES = frozenset({"event", "results", "item", "index"})
"""What every prompt may look at, besides the nodes."""

CHANCE = frozenset({"random", "lipsum"})
"""Of Jinja's own: gives another text each time."""

NOTHING: Mapping[str, Any] = MappingProxyType({})


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

    def __init__(
        self,
        source: str,
        where: str,
        *,
        constants: Mapping[str, Any] = NOTHING,
        file: str | None = None,
        line: int = 1,
    ) -> None:
        """Compile the template.

        Args:
            source: Jinja2 text.
            where: names the prompt in errors: `pipeline p: node "n"`.
            constants: variables that are the same in every run.
            file: where the template stands, for errors of its syntax.
            line: … and in which line it begins.

        Raises:
            DeclarationError: the template's syntax is wrong.
        """
        self.source = source
        self.constants = constants
        self._where = where
        environment = _environment()
        try:
            self._template = environment.from_string(source)
            self._tree = environment.parse(source)
        except TemplateSyntaxError as error:
            at = f"{where}: line {error.lineno} of the prompt"
            if file is not None:
                at = f"{file}:{line + error.lineno - 1}"
            raise DeclarationError(f"{at}: {error.message}") from error
        self._names = find_undeclared_variables(self._tree) - constants.keys()

    @property
    def variables(self) -> list[str]:
        """What of a run it looks at: `event.body`, `judge`."""
        return sorted({f"{name}.{of}" if of else name for name, of, _ in self.looks()})

    @property
    def fixed(self) -> bool:
        """Whether it is the same text in every run."""
        return self.varies is None

    @cached_property
    def varies(self) -> tuple[str, int] | None:
        """What makes it another text in each run, and in which line; None when nothing does."""
        for name, field, line in self.looks():
            return (f"{name}.{field}" if field else name), line
        for one in self._tree.find_all((syntax.Filter, syntax.Name)):
            if one.name in CHANCE:
                return one.name, one.lineno
        return None

    def check(self, nodes: Collection[str], where: str | None = None) -> None:
        """Prove that every variable is one that a run can have.

        Args:
            nodes: of the pipeline.
            where: names the prompt in errors, where it is used by others too.

        Raises:
            DeclarationError: the prompt uses a name that is none of `nodes`, or has a constant
                that is called like one.
        """
        where = where or self._where
        known = {*RUN_NAMES, *nodes, *_environment().globals}
        for name in sorted(self._names - known):
            near = get_close_matches(name, known, 1)
            raise DeclarationError(
                f'{where}: the prompt uses "{name}", which is no node of the pipeline',
                hint=f"did you mean {near[0]}?" if near else "",
            )
        for name in sorted(self.constants.keys() & set(nodes)):
            raise DeclarationError(
                f'{where}: the prompt defines "{name}", which is a node of the pipeline',
                hint="give the definition another name",
            )

    def looks(self) -> Iterator[tuple[str, str | None, int]]:
        """What the template looks at: each variable's name, the field of it or None, the line."""
        fields: set[int] = set()
        for found in self._tree.find_all(syntax.Getattr):
            if isinstance(found.node, syntax.Name) and found.node.name in self._names:
                fields.add(id(found.node))
                yield found.node.name, found.attr, found.lineno
        for name in self._tree.find_all(syntax.Name):
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
            values |= {"event": state.event, "results": state.results}
            return self._template.render({**self.constants, **values})
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            failed = "".join(
                f'; node "{one.node}" failed' for one in state.failures if one.node in self._names
            )
            raise PromptError(
                f"{self._where}: the prompt cannot be rendered: {error}{failed}",
                hint=f"finished so far: {', '.join(state.results) or 'nothing'}",
            ) from error

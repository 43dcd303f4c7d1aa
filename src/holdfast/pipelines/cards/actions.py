"""Actions: Python functions that cards run by name, with typed parameters."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Generic, ParamSpec, TypeVar, cast, get_type_hints

from pydantic import BaseModel, PydanticUserError, TypeAdapter, ValidationError

from holdfast.errors import DeclarationError, InvalidInput
from holdfast.pipelines.base import Declaration, Declarations
from holdfast.pipelines.schemas import shorten

P = ParamSpec("P")
R = TypeVar("R")

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)*")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of an action."""

    name: str
    type: Any
    adapter: TypeAdapter[Any]
    required: bool


class Action(Generic[P, R]):
    """A function under a name that cards know; still callable itself."""

    def __init__(self, name: str, fn: Callable[P, R]) -> None:
        """Take a function's parameters apart.

        Raises:
            DeclarationError: the name cannot be used, or a parameter has no type.
        """
        if not _NAME.fullmatch(name):
            raise DeclarationError(
                f"{name!r} is no name for an action", hint="letters and dots: mail.send"
            )
        self.name = name
        self.fn = fn
        self.is_async = inspect.iscoroutinefunction(fn)
        try:
            hints = get_type_hints(fn, include_extras=True)
        except NameError as error:
            raise DeclarationError(f'action "{name}": a type is not known here: {error}') from error
        self.returns = hints.pop("return", Any)
        self.parameters = {
            one.name: self._parameter(one, hints)
            for one in inspect.signature(fn).parameters.values()
        }

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself."""
        return self.fn(*args, **kwargs)

    def accept(self, given: Mapping[str, Any], where: str) -> dict[str, Any]:
        """The parameters, held against their types.

        Raises:
            InvalidInput: one does not fit; the message names it.
        """
        accepted: dict[str, Any] = {}
        for name, value in given.items():
            try:
                accepted[name] = self.parameters[name].adapter.validate_python(value)
            except ValidationError as error:
                first = error.errors(include_url=False)[0]
                place = ".".join([name, *(str(part) for part in first["loc"])])
                raise InvalidInput(
                    f'{where}: action "{self.name}": {place}: {first["msg"]}, '
                    f"got {shorten(first['input'])}",
                    fields=[{"field": place, "expected": first["msg"], "got": shorten(value)}],
                ) from error
        return accepted

    def _parameter(self, given: inspect.Parameter, hints: Mapping[str, Any]) -> Parameter:
        where = f'action "{self.name}": parameter "{given.name}"'
        if given.kind not in (
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            inspect.Parameter.KEYWORD_ONLY,
        ):
            raise DeclarationError(f"{where} has no name of its own", hint="cards pass by name")
        if given.name not in hints:
            raise DeclarationError(f"{where} has no type", hint="cards are checked against it")
        kind = hints[given.name]
        try:
            adapter: TypeAdapter[Any] = TypeAdapter(kind)
        except PydanticUserError as error:
            raise DeclarationError(f"{where}: pydantic cannot check {kind!r}") from error
        return Parameter(given.name, kind, adapter, given.default is inspect.Parameter.empty)

    def __repr__(self) -> str:
        return f"<action {self.name}>"


def action(name: str) -> Callable[[Callable[P, R]], Action[P, R]]:
    """Make a function an action that cards of the app can run: `@action("mail.send")`.

    Args:
        name: dotted; what cards call it.

    Raises:
        DeclarationError: the name cannot be used, or a parameter has no type.
    """

    def declare(fn: Callable[P, R]) -> Action[P, R]:
        return Action(name, fn)

    return declare


Usable = Action[..., Any] | Declaration | Declarations | type[BaseModel] | ModuleType
"""What cards can use: actions, pipelines, schemas; a module for all of these in it."""


@dataclass(slots=True)
class Catalogue:
    """What cards may name.

    Attributes:
        actions: by name.
        pipelines: by name; cards come on top.
        schemas: pydantic models by their class's name.
    """

    actions: dict[str, Action[..., Any]] = field(default_factory=dict[str, Any])
    pipelines: dict[str, Declaration] = field(default_factory=dict[str, Declaration])
    schemas: dict[str, type[BaseModel]] = field(default_factory=dict[str, type[BaseModel]])

    @classmethod
    def of(cls, used: Iterable[Usable]) -> Catalogue:
        """What these things offer.

        Raises:
            DeclarationError: two have one name, or a thing is of no use to a card.
        """
        made = cls()
        for one in used:
            if isinstance(one, ModuleType):
                for value in vars(one).values():
                    if _usable(value):
                        made._take(value)
            elif _usable(one):
                made._take(one)
            else:
                raise DeclarationError(
                    f"cards cannot use {one!r}",
                    hint="an action, a pipeline, a pydantic model, or a module with such things",
                )
        return made

    def _take(self, one: Any) -> None:
        if isinstance(one, Declarations):
            for each in one.declarations():
                self._take(each)
        elif isinstance(one, Action):
            _put(self.actions, one.name, cast("Action[..., Any]", one), "actions")
        elif isinstance(one, Declaration):
            _put(self.pipelines, one.name, one, "pipelines")
        else:
            _put(self.schemas, one.__name__, one, "schemas")


def _usable(value: Any) -> bool:
    if isinstance(value, Action | Declaration | Declarations):
        return True
    return inspect.isclass(value) and issubclass(value, BaseModel) and value is not BaseModel


def _put(table: dict[str, Any], name: str, value: Any, what: str) -> None:
    if table.setdefault(name, value) is not value:
        raise DeclarationError(f'two {what} that cards may use are called "{name}"')

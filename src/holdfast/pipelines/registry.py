"""The registry: every pipeline the apps declare, and the apps that could not be loaded."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import NamedTuple

from holdfast.errors import AppError, DeclarationError, HoldfastError, UnknownPipeline

from .base import Declaration, Declarations
from .graph import Graph, is_graph

ENTRY_POINTS = "holdfast.apps"
"""Entry point group under which installed packages offer apps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppFailure:
    """An app that is left out, and why.

    Attributes:
        app: its dotted path.
        error: what is wrong.
        traceback: where it went wrong in the app's code; empty when it is not the code.
    """

    app: str
    error: HoldfastError
    traceback: str = ""


class Versions(NamedTuple):
    """What an execution's record says of the code it ran."""

    version: str
    code_version: str


class Registry:
    """Declarations by name.

    Attributes:
        failures: apps that are left out; the others work.
        places: `module:attribute` of each declaration, by name.
    """

    def __init__(
        self,
        declarations: Sequence[Declaration],
        failures: Sequence[AppFailure] = (),
        places: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Keep declarations that have distinct names; `load` is the usual way in.

        Raises:
            DeclarationError: one runs another as a child that is not among them.
        """
        self._declarations = {item.name: item for item in declarations}
        self.failures = list(failures)
        self.places = places
        for item in declarations:
            item.bind(self._declarations)

    @classmethod
    def load(cls, apps: Sequence[str]) -> Registry:
        """Import apps and take in what they declare.

        An app that cannot be imported or declares something wrong is left out as a whole and
        named in `failures`; so are the declarations of one name in two apps.

        Args:
            apps: `package.module` for all its declarations, `package.module:attribute` for one
                (also a bare LangGraph graph, which is named after module and attribute).
        """
        found: dict[str, list[tuple[str, Declaration]]] = {}
        failures: list[AppFailure] = []
        offered = [point.value for point in entry_points(group=ENTRY_POINTS)]
        for app in dict.fromkeys([*apps, *offered]):
            try:
                declarations = _declarations(app)
            except AppError as error:
                failures.append(_failure(app, error))
                continue
            for declaration in declarations:
                known = found.setdefault(declaration.name, [])
                if all(other is not declaration for _, other in known):
                    known.append((app, declaration))
        kept: list[tuple[str, Declaration]] = []
        for name, known in found.items():
            if len(known) == 1:
                kept += known
            else:
                failures += _clash(name, [app for app, _ in known])
        while unbound := _unbound(kept):
            # Others may need one of the app that is left out now.
            failures += unbound
            out = {failure.app for failure in unbound}
            kept = [(app, item) for app, item in kept if app not in out]
        places = {item.name: _place(app, item) for app, item in kept}
        return cls([item for _, item in kept], failures, places)

    def get(self, name: str) -> Declaration:
        """The declaration of that name.

        Raises:
            UnknownPipeline: there is none; the hint has the nearest names.
        """
        declaration = self._declarations.get(name)
        if declaration is None:
            near = get_close_matches(name, self._declarations, 3)
            known = ", ".join(sorted(self._declarations)) or "none is loaded"
            raise UnknownPipeline(
                f"there is no pipeline {name!r}",
                hint=f"did you mean {' or '.join(near)}?" if near else f"known: {known}",
                fields=[{"field": "type", "expected": f"one of: {known}", "got": name}],
            )
        return declaration

    def versions(self) -> Mapping[str, Versions]:
        """The author's version and the code's hash, by name."""
        return MappingProxyType(
            {
                name: Versions(item.version, item.code_version)
                for name, item in self._declarations.items()
            }
        )

    def awaited(self) -> frozenset[str]:
        """Types of events that some pipeline may wait for."""
        return frozenset[str]().union(*(item.awaited() for item in self._declarations.values()))

    def __iter__(self) -> Iterator[Declaration]:
        return iter(self._declarations.values())

    def __len__(self) -> int:
        return len(self._declarations)

    def __contains__(self, name: object) -> bool:
        return name in self._declarations


def _declarations(app: str) -> list[Declaration]:
    """What an app declares, each proven.

    Raises:
        AppError: it cannot be imported, declares nothing, or something wrong.
    """
    path, _, attribute = app.partition(":")
    try:
        module = importlib.import_module(path)
    except (Exception, SystemExit) as error:  # an app may raise anything
        raise AppError(
            f"app {app} cannot be imported: {type(error).__name__}: {error}",
            hint="run python -c 'import …' where the hub runs to see it fail",
        ) from error
    if attribute:
        value = getattr(module, attribute, None)
        if is_graph(value):
            value = Graph.adopted(f"{path}.{attribute}", value, path)
        values = [value]
    else:
        values = list(vars(module).values())
    try:
        values += [
            one for value in values if isinstance(value, Declarations) for one in value.proven()
        ]
    except HoldfastError as error:
        raise AppError(f"app {app}: {error.message}", hint=error.hint) from error
    declarations = list(
        {id(value): value for value in values if isinstance(value, Declaration)}.values()
    )
    if not declarations:
        raise AppError(
            f"app {app} declares no pipeline",
            hint="name a module with a Pipeline or a Graph in it, or module:attribute",
        )
    for declaration in declarations:
        try:
            declaration.check()
        except HoldfastError as error:
            raise AppError(f"app {app}: {error.message}", hint=error.hint) from error
    return declarations


def _unbound(kept: Sequence[tuple[str, Declaration]]) -> list[AppFailure]:
    """Apps that run a pipeline as a child which nobody declares, each once."""
    known = {item.name: item for _, item in kept}
    failures: dict[str, AppFailure] = {}
    for app, item in kept:
        try:
            item.bind(known)
        except DeclarationError as error:
            failures.setdefault(
                app, _failure(app, AppError(f"app {app}: {error.message}", hint=error.hint))
            )
    return list(failures.values())


def _place(app: str, declaration: Declaration) -> str:
    """Where an app has a declaration, as `load` takes it."""
    path, _, attribute = app.partition(":")
    if attribute:
        return app
    known = vars(importlib.import_module(path))
    return f"{path}:{next(name for name, value in known.items() if _has(value, declaration))}"


def _has(value: object, declaration: Declaration) -> bool:
    if isinstance(value, Declarations):
        return any(one is declaration for one in value.proven())
    return value is declaration


def _failure(app: str, error: AppError) -> AppFailure:
    cause = error.__cause__
    if cause is None or isinstance(cause, HoldfastError):
        return AppFailure(app=app, error=error)
    return AppFailure(app=app, error=error, traceback="".join(traceback.format_exception(cause)))


def _clash(name: str, apps: list[str]) -> list[AppFailure]:
    told = " and ".join(dict.fromkeys(apps))
    return [
        AppFailure(
            app=app,
            error=AppError(
                f"pipeline {name} is declared more than once, in {told}",
                hint="give one of them another name; none of them is loaded",
            ),
        )
        for app in dict.fromkeys(apps)
    ]

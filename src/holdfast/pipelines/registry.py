"""The registry: the pipelines the apps declare, the agents of the hub, the apps left out."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from holdfast.errors import (
    AppError,
    DeclarationError,
    HoldfastError,
    PromptFileError,
    UnknownPipeline,
)

from .base import Declaration, Declarations
from .graph import Graph, is_graph
from .prompt_files import PromptFiles

PIPELINE = Declaration.kind

ENTRY_POINTS = "holdfast.apps"
"""Entry point group under which installed packages offer apps."""

BUILT_IN = ("holdfast.pipelines.compaction",)
"""Modules with pipelines that every hub has."""


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
    """Declarations by name. Iterating gives the apps' pipelines; agents come and go meanwhile.

    Attributes:
        failures: apps that are left out; the others work.
        places: `module:attribute` of each declaration, by name.
        prompts: what files hold, beside the apps and in the folders of the settings.
    """

    def __init__(
        self,
        declarations: Sequence[Declaration],
        failures: Sequence[AppFailure] = (),
        places: Mapping[str, str] = MappingProxyType({}),
        prompts: PromptFiles | None = None,
    ) -> None:
        """Keep declarations that have distinct names; `load` is the usual way in.

        Raises:
            DeclarationError: one runs another as a child that is not among them.
        """
        self._declarations = {item.name: item for item in declarations}
        self.failures = list(failures)
        self.places = places
        if prompts is None:
            prompts = PromptFiles()
            for item in declarations:
                item.find_prompts(prompts)
        self.prompts = prompts
        for item in declarations:
            item.bind(self._declarations)

    @classmethod
    def load(
        cls,
        apps: Sequence[str],
        *,
        prompts: Iterable[Path] = (),
        aliases: Collection[str] | None = None,
    ) -> Registry:
        """Import apps and take in what they declare.

        An app that cannot be imported or declares something wrong is left out as a whole and
        named in `failures`; so are the declarations of one name in two apps.

        Args:
            apps: `package.module` for all its declarations, `package.module:attribute` for one
                (also a bare LangGraph graph, which is named after module and attribute).
            prompts: folders of prompts besides those beside the apps.
            aliases: of models, as the settings name them: a declaration that asks for another is
                left out; None: nobody looks.
        """
        files = PromptFiles(prompts)
        found: dict[str, list[tuple[str, Declaration]]] = {}
        failures: list[AppFailure] = []
        declared: dict[str, list[Declaration]] = {}
        for app in dict.fromkeys([*BUILT_IN, *apps, *offered()]):
            try:
                declared[app] = _declarations(app, files)
            except AppError as error:
                failures.append(_failure(app, error))
        for app, declarations in declared.items():
            try:
                proven = _proven(app, declarations, files, failures, aliases)
            except AppError as error:
                failures.append(_failure(app, error))
                continue
            for declaration in proven:
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
        return cls([item for _, item in kept], failures, places, files)

    def adopt(self, declaration: Declaration) -> None:
        """Take in an agent, in the place of its older version if there was one.

        Raises:
            DeclarationError: a pipeline has the name.
        """
        name = declaration.name
        known = self._declarations.get(name)
        if known is not None and known.kind != declaration.kind:
            raise DeclarationError(f"{declaration.kind} {name}: a {known.kind} has this name")
        declaration.find_prompts(self.prompts)
        self._declarations[name] = declaration

    def drop(self, name: str) -> None:
        """Forget an agent; nothing happens when it is not known."""
        self._declarations.pop(name, None)

    def get(self, name: str) -> Declaration:
        """The pipeline or agent of that name.

        Raises:
            UnknownPipeline: there is none; the hint has the nearest names.
        """
        declaration = self._declarations.get(name)
        if declaration is None:
            raise self._unknown(name)
        return declaration

    def pipeline(self, name: str) -> Declaration:
        """The pipeline of that name; an agent is none, for it belongs to somebody.

        Raises:
            UnknownPipeline: there is none; the hint has the nearest names.
        """
        declaration = self._declarations.get(name)
        if declaration is None or declaration.kind != PIPELINE:
            raise self._unknown(name)
        return declaration

    def _unknown(self, name: str) -> UnknownPipeline:
        names = sorted(one.name for one in self)
        near = get_close_matches(name, names, 3)
        known = ", ".join(names) or "none is loaded"
        return UnknownPipeline(
            f"there is no pipeline {name!r}",
            hint=f"did you mean {' or '.join(near)}?" if near else f"known: {known}",
            fields=[{"field": "type", "expected": f"one of: {known}", "got": name}],
        )

    def versions(self, kind: str = PIPELINE) -> Mapping[str, Versions]:
        """The author's version and the code's hash, by name."""
        return MappingProxyType(
            {one.name: Versions(one.version, one.code_version) for one in self.of_kind(kind)}
        )

    def awaited(self) -> frozenset[str]:
        """Types of events that some pipeline may wait for."""
        return frozenset[str]().union(*(item.awaited() for item in self))

    def of_kind(self, kind: str) -> list[Declaration]:
        """All of a kind: `pipeline` or `agent`."""
        return [item for item in self._declarations.values() if item.kind == kind]

    @property
    def built_in(self) -> list[Declaration]:
        """Holdfast's own pipelines, which every hub runs besides those of its apps."""
        return [item for item in self.of_kind(PIPELINE) if item.built_in]

    def _of_apps(self) -> list[Declaration]:
        return [item for item in self.of_kind(PIPELINE) if not item.built_in]

    def __iter__(self) -> Iterator[Declaration]:
        return iter(self._of_apps())

    def __len__(self) -> int:
        return len(self._of_apps())

    def __contains__(self, name: object) -> bool:
        return name in self._declarations


@cache
def offered() -> tuple[str, ...]:
    """Apps of installed packages, looked for once in a process: all its metadata has to be read."""
    return tuple(point.value for point in entry_points(group=ENTRY_POINTS))


def _declarations(app: str, files: PromptFiles) -> list[Declaration]:
    """What an app declares; the prompts beside it are read.

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
        declaration.find_prompts(files)
    return declarations


def _proven(
    app: str,
    declarations: Sequence[Declaration],
    files: PromptFiles,
    failures: list[AppFailure],
    aliases: Collection[str] | None = None,
) -> list[Declaration]:
    """The declarations of an app that can run: those whose prompts are wrong are left out.

    So are those that ask for a model that the settings do not have.

    Raises:
        AppError: something else is wrong with one.
    """
    kept: list[Declaration] = []
    for declaration in declarations:
        try:
            declaration.check()
            if aliases is not None:
                _check_aliases(declaration, aliases)
            for one in declaration.stored_prompts():  # it may have been checked before, alone
                files.get(one.name, f"pipeline {declaration.name}")
        except (PromptFileError, UnknownAlias) as error:
            message = f"app {app}: {error.message}; {declaration.name} is left out"
            failures.append(_failure(app, AppError(message, hint=error.hint)))
        except HoldfastError as error:
            raise AppError(f"app {app}: {error.message}", hint=error.hint) from error
        else:
            kept.append(declaration)
    return kept


class UnknownAlias(DeclarationError):
    """A declaration asks for a model that the settings do not have."""


def _check_aliases(declaration: Declaration, aliases: Collection[str]) -> None:
    for name, where in declaration.asked_aliases().items():
        if name not in aliases:
            raise UnknownAlias(
                f"{where}: there is no model alias {name!r}",
                hint=f"known are {', '.join(sorted(aliases)) or 'none'}; see HOLDFAST_MODELS",
            )


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

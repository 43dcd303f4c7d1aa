"""Prompts out of files: `prompts/**/*.md` or `.j2`, checked before anything uses them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

import orjson

from holdfast.domain.prompts import FILE, Draft, SectionFault, Sections, name_fault, sections
from holdfast.errors import DeclarationError, PromptFileError

from .cards.faults import Faults
from .cards.reader import Reader
from .prompts import RUN_NAMES, Prompt
from .wording import Wording, worded

FOLDER = "prompts"
"""Beside an app's module."""

ENDINGS = (".md", ".j2")

KEYS = ("description", "variables", "definitions")
"""Of the front matter."""

MAX_BYTES = 256 * 1024
"""Of one prompt."""

NEAR = 3
"""Names that a hint tells at most."""


@dataclass(frozen=True, slots=True)
class PromptFile:
    """A prompt that a file holds."""

    draft: Draft
    path: Path
    wording: Wording


class PromptFiles:
    """The prompts of some folders, by name; those with a fault are refused when asked for."""

    def __init__(self, folders: Iterable[Path] = ()) -> None:
        """Read the folders; one that does not exist is empty."""
        self._folders: set[Path] = set()
        self._paths: dict[str, Path] = {}
        self._files: dict[str, PromptFile] = {}
        self.faults: dict[str, PromptFileError] = {}
        for folder in folders:
            self.add(folder)

    def add(self, folder: Path) -> None:
        """Read a further folder, once."""
        folder = folder.resolve()
        if folder in self._folders:
            return
        self._folders.add(folder)
        for path in sorted(folder.rglob("*")):
            if path.suffix in ENDINGS and path.is_file():
                self._take(path.relative_to(folder).with_suffix("").as_posix(), path)

    def get(self, name: str, where: str) -> PromptFile:
        """The prompt of that name.

        Args:
            name: of the prompt.
            where: who asks, for the error.

        Raises:
            PromptFileError: there is none, or its file is wrong.
        """
        if (fault := self.faults.get(name)) is not None:
            raise PromptFileError(f"{where}: {fault.message}", hint=fault.hint)
        found = self._files.get(name)
        if found is None:
            near = get_close_matches(name, self._files, NEAR)
            looked = ", ".join(sorted(map(str, self._folders))) or "no folder"
            raise PromptFileError(
                f"{where}: there is no prompt {name}",
                hint=f"did you mean {' or '.join(near)}?" if near else f"looked in {looked}",
            )
        return found

    def find(self, name: str) -> PromptFile | None:
        """The prompt of that name; None where there is none without a fault."""
        return self._files.get(name)

    def __iter__(self) -> Iterator[PromptFile]:
        return iter(self._files.values())

    def _take(self, name: str, path: Path) -> None:
        known = self._paths.setdefault(name, path)
        if known != path:
            self._files.pop(name, None)
            self.faults[name] = PromptFileError(
                f"{path}:1: prompt {name} stands in {known} already",
                hint="give one of the two another name; none of them is used",
            )
            return
        try:
            draft = read_draft(name, _text(path), str(path))
            self._files[name] = PromptFile(draft, path, worded(draft, FILE))
        except PromptFileError as error:
            self.faults[name] = error


def read_draft(name: str, text: str, file: str) -> Draft:
    """A prompt out of its text.

    Args:
        name: of the prompt.
        text: as `domain.prompts` describes it.
        file: named in errors, with the line.

    Raises:
        PromptFileError: the text or the name is wrong.
    """
    if fault := name_fault(name):
        raise PromptFileError(f"{file}:1: {fault}")
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise PromptFileError(f"{file}:1: a prompt has at most {MAX_BYTES // 1024} KB")
    try:
        parts = sections(text)
    except SectionFault as error:
        raise PromptFileError(f"{file}:{error.line}: {error}") from None
    front = _front(parts, file)
    definitions = front.definitions
    dynamic, static = _templates(name, parts, definitions, file)
    if (varying := static.varies) is not None:
        what, line = varying
        raise PromptFileError(
            f"{file}:{parts.static_line + line - 1}: the static part uses {what}, which is not "
            "the same in every call",
            hint="move that to the dynamic part, or define it in the front matter",
        )
    used = dynamic.variables
    for described in front.variables:
        if described not in used:
            line = front.line("variables", described)
            raise PromptFileError(
                f"{file}:{line}: the prompt does not use {described}",
                hint=f"it uses {', '.join(used) or 'no variable'}",
            )
    return Draft(
        name=name,
        static=parts.static,
        dynamic=parts.dynamic,
        definitions=definitions,
        variables={one: front.variables.get(one, "") for one in used},
        description=front.description,
    )


def _templates(
    name: str, parts: Sections, definitions: Mapping[str, Any], file: str
) -> tuple[Prompt, Prompt]:
    where = f"prompt {name}"
    try:
        return (
            Prompt(parts.dynamic, where, constants=definitions, file=file, line=parts.dynamic_line),
            Prompt(parts.static, where, constants=definitions, file=file, line=parts.static_line),
        )
    except DeclarationError as error:
        raise PromptFileError(error.message) from error
    except (RecursionError, ValueError, OverflowError) as error:  # what only the compiler refuses
        raise PromptFileError(f"{file}:{parts.dynamic_line}: no template: {error}") from error


@dataclass(frozen=True, slots=True)
class _Front:
    """The front matter, checked."""

    description: str
    variables: Mapping[str, str]
    definitions: Mapping[str, Any]
    faults: Faults

    def line(self, *path: str) -> int:
        return _line(self.faults, *path)


def _line(faults: Faults, *path: str) -> int:
    """Of the file: the front matter begins in its second line."""
    return faults.place(path, key=True)[0] + 1


def _front(parts: Sections, file: str) -> _Front:
    faults = Faults(file)
    if parts.front is None or not parts.front.strip():
        return _Front("", {}, {}, faults)
    values: Any = Reader(faults).read(parts.front)
    if faults.found:
        first = faults.sorted()[0]
        raise PromptFileError(f"{file}:{first.line + 1}: {first.message}", hint=first.hint)
    if not isinstance(values, dict):
        raise PromptFileError(f"{file}:2: the front matter is no mapping of keys to values")
    given = cast("dict[str, Any]", values)
    for key in given:
        if key not in KEYS:
            near = get_close_matches(key, KEYS, 1)
            raise PromptFileError(
                f'{file}:{_line(faults, key)}: there is no key "{key}"',
                hint=f"did you mean {near[0]}?" if near else f"known: {', '.join(KEYS)}",
            )
    description = given.get("description", "")
    if not isinstance(description, str):
        raise PromptFileError(f"{file}:{_line(faults, 'description')}: it must be a text")
    variables = _mapping(given, "variables", faults, file)
    for name, told in variables.items():
        if not isinstance(told, str):
            line = _line(faults, "variables", name)
            raise PromptFileError(f"{file}:{line}: {name} must be described by a text")
    definitions = _mapping(given, "definitions", faults, file)
    for name, value in definitions.items():
        line = _line(faults, "definitions", name)
        if not name.isidentifier() or name in RUN_NAMES:
            raise PromptFileError(f"{file}:{line}: {name!a} is no name for a definition")
        if fault := _unfit(value):
            raise PromptFileError(f"{file}:{line}: {name} {fault}")
    return _Front(description, variables, definitions, faults)


def _mapping(given: Mapping[str, Any], key: str, faults: Faults, file: str) -> dict[str, Any]:
    value = given.get(key, {})
    if not isinstance(value, dict):
        line = _line(faults, key)
        raise PromptFileError(f"{file}:{line}: {key} must be a mapping of names to values")
    return cast("dict[str, Any]", value)


def _unfit(value: Any) -> str:
    """Why a value cannot be kept as JSON; empty when it can."""
    try:
        again = orjson.loads(orjson.dumps(value))
    except (TypeError, ValueError) as error:
        return f"cannot be kept as JSON: {error}"
    return "" if again == value else "holds a number that is none"


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PromptFileError(f"{path}:1: it cannot be read: {error}") from error

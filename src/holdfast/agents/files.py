"""Agents in YAML files: read with the place of every value, so that what is wrong has a line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml

from holdfast.domain.agents import NAME
from holdfast.errors import HoldfastError, InvalidInput
from holdfast.pipelines.cards.faults import TOLD_AT_ONCE, Fault, Faults, near
from holdfast.pipelines.cards.reader import PLAIN, TAG, Reader

KINDS = ("simple", "graph")
"""What a configuration may be; each is a key of its own."""

FIELDS = ("name", "description", *KINDS)
"""Of one agent's document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentFile:
    """One agent as a document of a file says; its configuration is not checked yet.

    Attributes:
        file: it stands in.
        config: as it is stored: `{"simple": {"settings": {…}}}`.
        number: of the document in the file, from 0.
    """

    file: str
    name: str
    description: str
    config: Mapping[str, Any]
    number: int
    _faults: Faults = field(repr=False)

    def place(self, path: str = "") -> str:
        """`FILE:LINE:COLUMN` of a field, or of the nearest thing around it that is written down.

        Args:
            path: as errors name fields: `config.simple.settings.tools.0.path`. Parts that the
                file does not have (a kind that a check put between) are passed over.
        """
        at: tuple[str | int, ...] = (self.number,)
        known = {*self._faults.places, *self._faults.keys}
        for part in path.removeprefix("config.").split("."):
            deeper = (*at, int(part) if part.isdecimal() else part)
            if deeper in known:
                at = deeper
        # A value that was left empty begins where its key does not: the key is what one looks for.
        line, column = self._faults.place(at, key=True)
        return f"{self.file}:{line}:{column}"

    def located(self, error: HoldfastError) -> InvalidInput:
        """The same refusal with the place of each field."""
        fields: list[dict[str, Any]] = [
            {**one, "field": f"{self.place(str(path))}: {str(path).removeprefix('config.')}"}
            for one in error.fields
            if (path := one.get("field")) is not None
        ]
        if len(fields) == 1:
            (one,) = fields
            told = [f"expected {one['expected']}"] if one.get("expected") else []
            told += [f"got {one['got']}"] if one.get("got") else []
            message = f"{one['field']}: {', '.join(told) or error.message}"
        elif fields:
            message = f"agent {self.name} is refused: {len(fields)} faults"
        else:
            message = f"{self.place('name')}: agent {self.name}: {error.message}"
        return InvalidInput(message, hint=error.hint, fields=fields)


def read_file(path: Path) -> list[AgentFile]:
    """The agents of a file.

    Raises:
        InvalidInput: it cannot be read, or is not a file of agents; each fault with its line.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise InvalidInput(f"{path} cannot be read: {reason}") from error
    return read_agents(text, str(path))


def read_agents(text: str, file: str) -> list[AgentFile]:
    """The agents of a text, one a document.

    Args:
        text: YAML; documents are parted by `---`.
        file: its name, for errors.

    Raises:
        InvalidInput: it is no YAML, or not of that form; each fault with its line.
    """
    faults = Faults(file)
    documents = Reader(faults, "file of agents").read_all(text) or []
    found = [one for n, body in enumerate(documents) for one in _agents(n, body, faults)]
    names: dict[str, int] = {}
    for one in found:
        if one.name in names:
            line = faults.place((names[one.name], "name"))[0]
            faults.add((one.number, "name"), f"{one.name} stands in line {line} already")
        names.setdefault(one.name, one.number)
    _raise_for(faults.sorted())
    return found


def write_agent(name: str, description: str, config: Mapping[str, Any]) -> str:
    """The document that reads as this agent again."""
    body = {"name": name, "description": description, **config}
    if not description:
        del body["description"]
    return yaml.dump(body, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


class _Dumper(yaml.SafeDumper):
    """Quotes what the reader would take for something else, and keeps lines of a text apart."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


for _name, _pattern, _first in PLAIN:
    _Dumper.add_implicit_resolver(
        TAG + _name,
        re.compile(rf"^(?:{_pattern})$"),
        ["" if char == "\0" else char for char in _first],
    )


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar(f"{TAG}str", text, style=style)


_Dumper.add_representer(str, _text)


def _agents(number: int, body: Any, faults: Faults) -> Iterator[AgentFile]:
    """The agent of a document; none if it has a fault, which is noted then."""
    before = len(faults.found)
    if not isinstance(body, dict):
        faults.add((number,), "expected an agent", hint=f"with the keys {', '.join(FIELDS)}")
        return
    given = cast("dict[str, Any]", body)
    for key in given:
        if key not in FIELDS:
            faults.add((number, key), f'unknown key "{key}"', hint=near(key, set(FIELDS)), key=True)
    name, description = given.get("name"), given.get("description") or ""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        told = "a name is missing" if name is None else "this is no name for an agent"
        hint = "lower-case letters, digits, - and _, at most 63, such as help-desk"
        faults.add((number, "name"), told, hint=hint)
    if not isinstance(description, str):
        faults.add((number, "description"), "expected a text")
    config = {key: given[key] for key in KINDS if key in given}
    if len(config) != 1:
        kinds = " or ".join(KINDS)
        told = f"expected one of {kinds}, not {'both' if config else 'none'}"
        faults.add((number,), told, hint="simple: {settings: {model: standard}}")
    if len(faults.found) == before:
        yield AgentFile(
            file=faults.file,
            name=str(name),
            description=str(description),
            config=config,
            number=number,
            _faults=faults,
        )


def _raise_for(faults: Sequence[Fault]) -> None:
    if not faults:
        return
    told = [str(one) for one in faults[:TOLD_AT_ONCE]]
    if more := len(faults) - len(told):
        told.append(f"and {more} more")
    raise InvalidInput("; ".join(told))

"""Prompts: a static and a dynamic part under a name, every content a version, labels that move.

The text of a prompt, in a file or sent in:

    ---
    description: what it is for
    definitions: {tone: kind}
    variables: {event.body: the letter}
    ---
    Instructions that are the same in every call, in a {{ tone }} voice.
    --- dynamic ---
    What each run fills in: {{ event.body }}

Everything between the first two lines `---` may be left out, and so may the static part together
with the line that ends it. Everything here is pure.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson

from .diff import Change

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)*", re.ASCII)
"""What a prompt may be called: like a file, without its ending."""

MAX_NAME_CHARS = 200

VERBS = frozenset({"versions", "labels", "diff"})
"""No part of a name: they stand behind it in addresses."""

LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", re.ASCII)

FILE = "file"
"""The label of what the loaded apps' files say; no hand moves it."""

EDITED = "edited"
"""What is said of a prompt that a replay brought in place of the pipeline's."""

RESERVED = frozenset({FILE, EDITED, "latest"})
"""Labels that nobody may move by hand."""

APPS = "app"
"""Owner of the versions that come with the apps: everybody sees them, nobody changes them."""

MARK = "--- dynamic ---"
"""The line between the two parts."""

FENCE = "---"

SHORT = 12
"""Digits of a hash that people are shown, and the fewest that databases are asked for by them."""

MIN_SHORT = 4
"""Fewest digits of a hash that name a version."""

HASH = re.compile(r"[0-9a-f]{64}")

_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
"""What YAML does not take as it is; in a prompt's parts only NUL is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A prompt as somebody wrote it.

    Attributes:
        name: of the prompt.
        static: template of what is the same in every call; may be empty.
        dynamic: template of what each run fills in.
        definitions: constants both parts may use.
        variables: what of a run the dynamic part uses, each with its description or an empty text.
        description: one sentence for people.
    """

    name: str
    static: str = ""
    dynamic: str
    definitions: Mapping[str, Any] = field(default_factory=dict[str, Any])
    variables: Mapping[str, str] = field(default_factory=dict[str, str])
    description: str = ""

    @property
    def hash(self) -> str:
        """Identity of the content: SHA-256 over what a model gets to see, in one spelling."""
        content = {
            "definitions": dict(self.definitions),
            "dynamic": self.dynamic,
            "static": self.static,
        }
        return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()

    @property
    def source(self) -> str:
        """Its text, as a file would have it."""
        described = {name: told for name, told in self.variables.items() if told}
        front = {
            "description": self.description,
            "variables": described,
            "definitions": self.definitions,
        }
        lines = [f"{key}: {_flow(value)}\n" for key, value in front.items() if value]
        head = f"{FENCE}\n{''.join(lines)}{FENCE}\n"
        static = f"{self.static}\n{MARK}\n" if self.static else ""
        body = f"{static}{self.dynamic}\n"
        return head + body if lines or body.startswith(FENCE) else body

    def to_json(self) -> dict[str, Any]:
        """The inverse of `Draft(**…)`."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptVersion:
    """One stored content of a prompt.

    Attributes:
        draft: the content.
        owner_id: whose it is; `APPS` for those that come with the apps.
        author: who sent it in; None for a file's.
        created_at: when it was first stored, microseconds.
    """

    draft: Draft
    owner_id: str
    author: str | None
    created_at: int

    @property
    def hash(self) -> str:
        """See `Draft.hash`."""
        return self.draft.hash


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionHead:
    """A stored version without its texts."""

    name: str
    hash: str
    owner_id: str
    description: str
    author: str | None
    created_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """Where a label stands: at version `hash` of prompt `name`."""

    owner_id: str
    name: str
    label: str
    hash: str
    moved_at: int
    moved_by: str | None  # a key's id or the local user; None for the apps' files


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelMove:
    """One move of a label.

    Attributes:
        before: the version it stood at; None where it stood nowhere.
        after: the one it stands at from then on.
        by: a key's id or the local user; None for the apps' files.
        undoes: the move that this one takes back.
    """

    id: str
    owner_id: str
    name: str
    label: str
    before: str | None
    after: str
    at: int
    by: str | None
    reason: str | None = None
    undoes: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """The version of a prompt that one execution uses.

    Attributes:
        name: of the prompt.
        label: by which it was asked for.
        hash: of the version.
    """

    name: str
    label: str
    hash: str


def undone(moves: list[LabelMove]) -> LabelMove | None:
    """The move that a roll-back takes back: the newest that stands; None when there is none.

    Args:
        moves: of one label, newest first.
    """
    gone: set[str] = set()
    for move in moves:
        if move.undoes is not None:
            gone.add(move.undoes)
        elif move.id not in gone:
            return move
    return None


def differences(a: Draft, b: Draft) -> list[Change]:
    """What is not the same, part by part; descriptions make no other version but are told."""
    parts = ("static", "dynamic", "definitions", "variables", "description")
    return [
        Change(part, getattr(a, part) or None, getattr(b, part) or None)
        for part in parts
        if getattr(a, part) != getattr(b, part)
    ]


def name_fault(name: str) -> str:
    """Why a prompt cannot be called so; empty when it can."""
    if len(name) > MAX_NAME_CHARS or not NAME.fullmatch(name):
        return f"{name!a} is no name for a prompt: letters, digits and _.- in parts joined by /"
    if taken := VERBS.intersection(name.split("/")):
        return f"{name!a} is no name for a prompt: the word {min(taken)} is taken"
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sections:
    """A prompt's text taken apart; lines count from 1.

    Attributes:
        front: what stands between the fences; None where there are none.
        static_line: where the static part begins.
        dynamic_line: where the dynamic part begins.
    """

    front: str | None
    static: str
    dynamic: str
    static_line: int
    dynamic_line: int


class SectionFault(ValueError):
    """A prompt's text has not the form; `line` counts from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def sections(text: str) -> Sections:
    """Take a prompt's text apart.

    Raises:
        SectionFault: its fences or its marks are wrong, or there is no dynamic part.
    """
    lines = re.sub("\r\n?", "\n", text.removeprefix("\ufeff")).split("\n")  # as Jinja reads it
    for number, line in enumerate(lines, 1):
        if "\0" in line or any("\ud800" <= char <= "\udfff" for char in line):
            raise SectionFault(number, "a NUL or a lone surrogate is no text")
    front, first = None, 0
    if lines[0].rstrip() == FENCE:
        ends = [place for place in range(1, len(lines)) if lines[place].rstrip() == FENCE]
        if not ends:
            raise SectionFault(1, f"the front matter has no end: a line {FENCE}")
        front, first = "\n".join(lines[1 : ends[0]]), ends[0] + 1
    marks = [place for place in range(first, len(lines)) if lines[place].strip() == MARK]
    if len(marks) > 1:
        raise SectionFault(marks[1] + 1, f"the line {MARK} stands in line {marks[0] + 1} already")
    static, begins = ("", first) if not marks else (_joined(lines[first : marks[0]]), marks[0] + 1)
    dynamic = _joined(lines[begins:])
    if not dynamic.strip():
        raise SectionFault(min(begins + 1, len(lines)), "there is no dynamic part")
    return Sections(
        front=front,
        static=static if static.strip() else "",
        dynamic=dynamic,
        static_line=first + 1 + _blank(lines[first:]),
        dynamic_line=begins + 1 + _blank(lines[begins:]),
    )


def _joined(lines: list[str]) -> str:
    """A part without the empty lines around it."""
    return "\n".join(lines).strip("\n")


def _blank(lines: list[str]) -> int:
    """How many empty lines come first."""
    return next((count for count, line in enumerate(lines) if line), 0)


def _flow(value: Any) -> str:
    """JSON that is YAML as well: what YAML takes only escaped is escaped."""
    text = json.dumps(value, ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found.group()):04x}", text)

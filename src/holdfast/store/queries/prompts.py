"""Questions about prompts: an owner sees their own versions and those that come with the apps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import bindparam, func, select
from sqlalchemy.sql.elements import ColumnElement

from holdfast.domain.prompts import APPS, Draft, Label, LabelMove, PromptVersion, VersionHead
from holdfast.errors import NotFound
from holdfast.store.base import Query, Reads
from holdfast.store.frames import from_json
from holdfast.store.statements import Statement
from holdfast.store.tables import prompt_labels, prompt_moves, prompt_versions, prompts

HEADS = tuple(field.name for field in fields(VersionHead))
LABELS = tuple(field.name for field in fields(Label))
MOVES = tuple(field.name for field in fields(LabelMove))
DRAFT = tuple(field.name for field in fields(Draft))

_VERSION = tuple(prompt_versions.c[name] for name in (*DRAFT, "owner_id", "author", "created_at"))


def _seen(owner: ColumnElement[str]) -> ColumnElement[bool]:
    """What is the owner's, or comes with the apps."""
    return owner.in_([bindparam("owner_id"), bindparam("apps")])


_LIST = Statement(
    select(prompts.c.name, func.min(prompts.c.created_at))
    .where(_seen(prompts.c.owner_id))
    .group_by(prompts.c.name)
    .order_by(prompts.c.name)
)
_COUNTS = Statement(
    select(
        prompt_versions.c.name,
        func.count(prompt_versions.c.hash.distinct()),
        func.max(prompt_versions.c.created_at),
    )
    .where(_seen(prompt_versions.c.owner_id))
    .group_by(prompt_versions.c.name)
)
_HEADS = Statement(
    select(*(prompt_versions.c[name] for name in HEADS))
    .where(_seen(prompt_versions.c.owner_id), prompt_versions.c.name == bindparam("of"))
    .order_by(prompt_versions.c.created_at.desc(), prompt_versions.c.hash)
)
VERSION = Statement(
    select(*_VERSION).where(
        _seen(prompt_versions.c.owner_id),
        prompt_versions.c.name == bindparam("of"),
        prompt_versions.c.hash == bindparam("hash"),
    )
)
_LABEL = select(*(prompt_labels.c[name] for name in LABELS))
_LABELS = Statement(_LABEL.where(_seen(prompt_labels.c.owner_id)).order_by(prompt_labels.c.label))
_ALL_LABELS = Statement(_LABEL.order_by(prompt_labels.c.owner_id))
_MOVES = Statement(
    select(*(prompt_moves.c[name] for name in MOVES))
    .where(_seen(prompt_moves.c.owner_id), prompt_moves.c.name == bindparam("of"))
    .order_by(prompt_moves.c.at.desc(), prompt_moves.c.id.desc())
    .limit(bindparam("limit"))
)

MOST_MOVES = 200
"""Moves that one answer tells, the newest."""


def version_item(row: Sequence[Any]) -> PromptVersion:
    """A version out of a row of `VERSION`."""
    values = dict(zip((*DRAFT, "owner_id", "author", "created_at"), row, strict=True))
    for name in ("definitions", "variables"):
        values[name] = from_json(values[name])
    draft = Draft(**{name: values.pop(name) for name in DRAFT})
    return PromptVersion(draft=draft, **values)


def label_item(row: Sequence[Any]) -> Label:
    """A label out of its row."""
    return Label(**dict(zip(LABELS, row, strict=True)))


def move_item(row: Sequence[Any]) -> LabelMove:
    """A move out of its row."""
    return LabelMove(**dict(zip(MOVES, row, strict=True)))


def _of(owner_id: str, name: str) -> dict[str, str]:
    return {"owner_id": owner_id, "apps": APPS, "of": name}


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptItem:
    """One prompt as lists show it."""

    name: str
    created_at: int
    changed_at: int  # when its newest version came
    versions: int
    labels: tuple[Label, ...]


@dataclass(frozen=True, slots=True)
class ListPrompts(Query[list[PromptItem]]):
    """All prompts an owner sees, by name."""

    owner_id: str

    def run(self, db: Reads) -> list[PromptItem]:
        """Ask by owner."""
        whose = {"owner_id": self.owner_id, "apps": APPS}
        counts = {name: (count, at) for name, count, at in db.rows(_COUNTS, whose)}
        labels = [label_item(row) for row in db.rows(_LABELS, whose)]
        return [
            PromptItem(
                name=name,
                created_at=created_at,
                changed_at=counts[name][1],
                versions=counts[name][0],
                labels=tuple(one for one in labels if one.name == name),
            )
            for name, created_at in db.rows(_LIST, whose)
        ]


@dataclass(frozen=True, slots=True)
class PromptHistory:
    """The versions and labels of one prompt, and how those moved; newest first."""

    versions: tuple[VersionHead, ...]
    labels: tuple[Label, ...]
    moves: tuple[LabelMove, ...]


@dataclass(frozen=True, slots=True)
class PromptByName(Query[PromptHistory]):
    """One prompt.

    Raises:
        NotFound: the owner sees no prompt of that name.
    """

    name: str
    owner_id: str

    def run(self, db: Reads) -> PromptHistory:
        """Ask by name."""
        whose = _of(self.owner_id, self.name)
        heads: dict[str, VersionHead] = {}
        for row in db.rows(_HEADS, whose):  # the owner's may be what an app brings as well
            head = VersionHead(**dict(zip(HEADS, row, strict=True)))
            heads[head.hash] = head
        if not heads:
            raise NotFound(f"there is no prompt {self.name}", hint="see: holdfast prompts list")
        every = [label_item(row) for row in db.rows(_LABELS, whose)]
        moves = db.rows(_MOVES, {**whose, "limit": MOST_MOVES})
        return PromptHistory(
            tuple(heads.values()),
            tuple(one for one in every if one.name == self.name),
            tuple(map(move_item, moves)),
        )


@dataclass(frozen=True, slots=True)
class PromptContent(Query[PromptVersion]):
    """One version with its texts.

    Raises:
        NotFound: the owner sees no such version.
    """

    name: str
    owner_id: str
    hash: str

    def run(self, db: Reads) -> PromptVersion:
        """Ask by hash."""
        for row in db.rows(VERSION, {**_of(self.owner_id, self.name), "hash": self.hash}):
            return version_item(row)
        raise NotFound(f"prompt {self.name} has no version {self.hash}")


@dataclass(frozen=True, slots=True)
class AllLabels(Query[list[Label]]):
    """Every label of every owner: by them a hub knows what runs use."""

    def run(self, db: Reads) -> list[Label]:
        """Ask for all."""
        return [label_item(row) for row in db.rows(_ALL_LABELS, {})]

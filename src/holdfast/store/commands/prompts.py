"""Prompts: versions taken in, labels moved, each move kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from sqlalchemy import bindparam, select

from holdfast.domain.ids import new_id
from holdfast.domain.prompts import APPS, FILE, Draft, Label, LabelMove, PromptVersion, undone
from holdfast.errors import HoldfastError, IllegalMove, NotFound
from holdfast.store.base import Command, Lane, Writes
from holdfast.store.frames import plain, to_json
from holdfast.store.queries.prompts import (
    LABELS,
    MOVES,
    VERSION,
    label_item,
    move_item,
    version_item,
)
from holdfast.store.statements import Conflict, Insert, Statement
from holdfast.store.tables import prompt_labels, prompt_moves, prompt_versions, prompts

from .held import lock

_PROMPT = Insert(prompts, unless=Conflict(("owner_id", "name")))
_VERSION = Insert(prompt_versions, unless=Conflict(("owner_id", "name", "hash")))
_LABEL = Insert(prompt_labels, replaces=True)
_MOVE = Insert(prompt_moves)

# Who holds it moves the labels of that name, one after the other.
_HELD = lock(
    select(prompts.c.name).where(
        prompts.c.owner_id == bindparam("owner_id"), prompts.c.name == bindparam("of")
    )
)
_STANDS = Statement(
    select(*(prompt_labels.c[name] for name in LABELS)).where(
        prompt_labels.c.owner_id == bindparam("owner_id"),
        prompt_labels.c.name == bindparam("of"),
        prompt_labels.c.label == bindparam("label"),
    )
)
_MOVES = Statement(
    select(*(prompt_moves.c[name] for name in MOVES))
    .where(
        prompt_moves.c.owner_id == bindparam("owner_id"),
        prompt_moves.c.name == bindparam("of"),
        prompt_moves.c.label == bindparam("label"),
    )
    .order_by(prompt_moves.c.at.desc(), prompt_moves.c.id.desc())
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PutPrompt(Command[tuple[PromptVersion, bool]]):
    """Store a content as a version of its prompt; one that is there already stays as it is.

    Returns:
        The version, and whether it is new.
    """

    lane: ClassVar[Lane] = "submit"
    order: ClassVar[int] = 8
    owner_id: str
    draft: Draft
    author: str | None

    @classmethod
    def write_many(
        cls, tx: Writes, commands: Sequence[Self]
    ) -> Sequence[tuple[PromptVersion, bool]]:
        """One after the other."""
        return [_put(tx, one) for one in commands]


def _put(tx: Writes, command: PutPrompt) -> tuple[PromptVersion, bool]:
    draft, owner_id = command.draft, command.owner_id
    known = _version(tx, owner_id, draft.name, draft.hash)
    if known is not None:
        return known, False
    _insert(tx, owner_id, [draft], command.author)
    made = PromptVersion(draft=draft, owner_id=owner_id, author=command.author, created_at=tx.now())
    return made, True


def _version(tx: Writes, owner_id: str, name: str, hash_: str) -> PromptVersion | None:
    whose = {"owner_id": owner_id, "apps": APPS, "of": name, "hash": hash_}
    return next((version_item(row) for row in tx.rows(VERSION, whose)), None)


def _insert(tx: Writes, owner_id: str, drafts: Sequence[Draft], author: str | None) -> None:
    now = tx.now()
    drafts = sorted(drafts, key=lambda one: one.name)  # two hubs never wait for each other
    tx.insert(_PROMPT, [(owner_id, one.name, now) for one in drafts])
    tx.insert(_VERSION, [_row(owner_id, one, author, now) for one in drafts])


def _row(owner_id: str, draft: Draft, author: str | None, now: int) -> tuple[Any, ...]:
    return (
        *(owner_id, draft.name, draft.hash, draft.static, draft.dynamic),
        *(to_json(dict(draft.definitions)), to_json(dict(draft.variables))),
        *(plain(draft.description), author and plain(author), now),
    )


@dataclass(frozen=True, slots=True)
class PutPromptFiles(Command[int]):
    """Store what the apps' files say as versions of the apps', under the label `file`.

    Returns:
        How many prompts say something else than at the last start.
    """

    lane: ClassVar[Lane] = "submit"
    order: ClassVar[int] = 9
    drafts: tuple[Draft, ...]

    @classmethod
    def write_many(cls, tx: Writes, commands: Sequence[Self]) -> Sequence[int]:
        """One after the other."""
        return [_put_files(tx, one.drafts) for one in commands]


def _put_files(tx: Writes, drafts: Sequence[Draft]) -> int:
    _insert(tx, APPS, drafts, None)
    moved = 0
    for one in sorted(drafts, key=lambda one: one.name):
        moved += _move(tx, APPS, one.name, FILE, one.hash, by=None) is not None
    return moved


def _move(
    tx: Writes,
    owner_id: str,
    name: str,
    label: str,
    to: str,
    *,
    by: str | None,
    reason: str | None = None,
    undoes: str | None = None,
) -> LabelMove | None:
    """Let a label stand at a version; None when it stands there already."""
    now = tx.now()
    of = {"owner_id": owner_id, "of": name, "label": label}
    tx.insert(_PROMPT, [(owner_id, name, now)])
    tx.rows(_HELD, {"owner_id": owner_id, "of": name})
    stands = next((label_item(row) for row in tx.rows(_STANDS, of)), None)
    if stands is not None and stands.hash == to:
        return None
    move = LabelMove(
        id=new_id(),
        owner_id=owner_id,
        name=name,
        label=label,
        before=stands and stands.hash,
        after=to,
        at=now,
        by=by,
        reason=reason and plain(reason),
        undoes=undoes,
    )
    tx.insert(_LABEL, [(owner_id, name, label, to, now, by)])
    tx.insert(_MOVE, [[getattr(move, column.name) for column in prompt_moves.columns]])
    return move


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelMoved:
    """What came of moving a label.

    Attributes:
        label: where it stands now.
        move: None when it stood there already.
    """

    label: Label
    move: LabelMove | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveLabel(Command[LabelMoved]):
    """Let a label of the owner's stand at a version they see.

    Attributes:
        hash: of the version.
        by: who does it.

    Raises:
        NotFound: the owner sees no such version.
    """

    lane: ClassVar[Lane] = "submit"
    order: ClassVar[int] = 10
    owner_id: str
    name: str
    label: str
    hash: str
    by: str
    reason: str | None = None

    @classmethod
    def write_many(
        cls, tx: Writes, commands: Sequence[Self]
    ) -> Sequence[LabelMoved | HoldfastError]:
        """One after the other."""
        return [_move_by_hand(tx, one) for one in commands]


def _move_by_hand(tx: Writes, command: MoveLabel) -> LabelMoved | HoldfastError:
    if _version(tx, command.owner_id, command.name, command.hash) is None:
        return NotFound(f"prompt {command.name} has no version {command.hash}")
    move = _move(
        tx,
        command.owner_id,
        command.name,
        command.label,
        command.hash,
        by=command.by,
        reason=command.reason,
    )
    return _told(tx, command.owner_id, command.name, command.label, move)


def _told(tx: Writes, owner_id: str, name: str, label: str, move: LabelMove | None) -> LabelMoved:
    (row,) = tx.rows(_STANDS, {"owner_id": owner_id, "of": name, "label": label})
    return LabelMoved(label=label_item(row), move=move)


@dataclass(frozen=True, slots=True, kw_only=True)
class RollBackLabel(Command[LabelMoved]):
    """Let a label stand where it stood before its last move; done again, before the one before.

    Raises:
        NotFound: the owner has no such label.
        IllegalMove: there is no move left to take back.
    """

    lane: ClassVar[Lane] = "submit"
    order: ClassVar[int] = 11
    owner_id: str
    name: str
    label: str
    by: str
    reason: str | None = None

    @classmethod
    def write_many(
        cls, tx: Writes, commands: Sequence[Self]
    ) -> Sequence[LabelMoved | HoldfastError]:
        """One after the other."""
        return [_roll_back(tx, one) for one in commands]


def _roll_back(tx: Writes, command: RollBackLabel) -> LabelMoved | HoldfastError:
    owner_id, name, label = command.owner_id, command.name, command.label
    tx.rows(_HELD, {"owner_id": owner_id, "of": name})
    of = {"owner_id": owner_id, "of": name, "label": label}
    moves = [move_item(row) for row in tx.rows(_MOVES, of)]
    if not moves:
        return NotFound(f"prompt {name} has no label {label}")
    last = undone(moves)
    if last is None or last.before is None:
        return IllegalMove(
            f"label {label} of prompt {name} stood nowhere before: there is nothing to go back to",
            hint="move it to a version: holdfast prompts label",
        )
    move = _move(
        tx,
        owner_id,
        name,
        label,
        last.before,
        by=command.by,
        reason=command.reason,
        undoes=last.id,
    )
    return _told(tx, owner_id, name, label, move)

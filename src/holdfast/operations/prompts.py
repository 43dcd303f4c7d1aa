"""Prompts: sent in as versions, looked at, compared; labels moved and rolled back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from holdfast.bus import Notice
from holdfast.bus.base import PROMPTS
from holdfast.domain.prompts import (
    APPS,
    LABEL,
    MIN_SHORT,
    RESERVED,
    SHORT,
    LabelMove,
    PromptVersion,
    VersionHead,
    differences,
    undone,
)
from holdfast.errors import IllegalMove, InvalidInput, NotFound, PromptFileError
from holdfast.pipelines.prompt_files import read_draft
from holdfast.pipelines.prompt_uses import check_fits, uses
from holdfast.store.commands import LabelMoved, MoveLabel, PutPrompt, RollBackLabel
from holdfast.store.queries import (
    ListPrompts,
    PromptByName,
    PromptContent,
    PromptHistory,
)
from holdfast.telemetry import logger

from .kit import Kit
from .views import View, iso

log = logger("prompts")


@dataclass(frozen=True, slots=True)
class Found:
    """A version that somebody named, and what is known of its prompt."""

    version: PromptVersion
    history: PromptHistory
    label: str | None  # by which it was named; None: by its hash


async def all_prompts(kit: Kit, owner_id: str) -> list[View]:
    """All prompts that an owner sees, by name."""
    return [
        {
            "name": one.name,
            "versions": one.versions,
            "labels": {label.label: label.hash for label in one.labels},
            "used_by": _used_by(kit, one.name),
            "created_at": iso(one.created_at),
            "changed_at": iso(one.changed_at),
        }
        for one in await kit.store.read(ListPrompts(owner_id))
    ]


async def prompt(kit: Kit, name: str, owner_id: str) -> View:
    """One prompt: its versions and labels, who uses it, how its labels moved.

    Raises:
        NotFound: the owner sees no prompt of that name.
    """
    history = await kit.store.read(PromptByName(name, owner_id))
    return {
        "name": name,
        "labels": [
            {
                "label": one.label,
                "version": one.hash,
                "moved_at": iso(one.moved_at),
                "moved_by": one.moved_by,
            }
            for one in history.labels
        ],
        "versions": [_head_view(one, history) for one in history.versions],
        "moves": [move_view(one) for one in history.moves],
        "used_by": _used_by(kit, name),
    }


async def find_version(kit: Kit, name: str, ref: str, owner_id: str) -> Found:
    """A version by a label, or by its hash or the beginning of it.

    Raises:
        NotFound: the owner sees no such prompt or version.
        InvalidInput: several versions begin so.
    """
    history = await kit.store.read(PromptByName(name, owner_id))
    label = next((one for one in history.labels if one.label == ref), None)
    hash_ = label.hash if label is not None else _by_hash(name, ref, history)
    stored = await kit.store.read(PromptContent(name, owner_id, hash_))
    return Found(stored, history, label and label.label)


def _by_hash(name: str, ref: str, history: PromptHistory) -> str:
    found = [one.hash for one in history.versions if one.hash.startswith(ref)]
    if len(found) == 1 and len(ref) >= MIN_SHORT:
        return found[0]
    if found:
        raise InvalidInput(
            f"{ref} names {len(found)} versions of prompt {name}",
            hint=f"write at least {MIN_SHORT} digits, as many as tell it apart",
            fields=[{"field": "version", "expected": "one version", "got": ref}],
        )
    known = [
        *(one.label for one in history.labels),
        *(one.hash[:SHORT] for one in history.versions),
    ]
    raise NotFound(
        f"prompt {name} has no label and no version {ref!a}", hint=f"known: {', '.join(known)}"
    )


def version_view(found: Found) -> View:
    """A version with its texts."""
    version = found.version
    head = VersionHead(
        name=version.draft.name,
        hash=version.hash,
        owner_id=version.owner_id,
        description=version.draft.description,
        author=version.author,
        created_at=version.created_at,
    )
    return {
        "name": version.draft.name,
        **_head_view(head, found.history),
        "static": version.draft.static,
        "dynamic": version.draft.dynamic,
        "definitions": dict(version.draft.definitions),
        "variables": dict(version.draft.variables),
        "source": version.draft.source,
    }


async def put_prompt(
    kit: Kit, *, owner_id: str, name: str, source: str, author: str
) -> tuple[View, bool]:
    """Store a prompt's text as a version; no label moves by it.

    Args:
        kit: the hub's parts.
        owner_id: whose version it becomes.
        name: of the prompt.
        source: its text, as a file would have it.
        author: who sends it.

    Returns:
        The version, and whether it is new.

    Raises:
        InvalidInput: the name or the text is wrong; the message names the line.
    """
    try:
        draft = read_draft(name, source, name)
    except PromptFileError as error:
        raise InvalidInput(
            error.message,
            hint=error.hint,
            fields=[{"field": "source", "expected": "a prompt", "got": error.message}],
        ) from error
    stored, new = await kit.store.write(PutPrompt(owner_id=owner_id, draft=draft, author=author))
    if new:
        log.info("prompt.stored", prompt=name, version=stored.hash)
    return version_view(await find_version(kit, name, stored.hash, owner_id)), new


async def move_label(
    kit: Kit, name: str, label: str, ref: str, *, owner_id: str, by: str, reason: str | None = None
) -> View:
    """Let a label stand at a version, for the runs of this owner that begin from now on.

    Args:
        kit: the hub's parts.
        name: of the prompt.
        label: which.
        ref: the version: its hash or the beginning of it, or another label.
        owner_id: whose label.
        by: who moves it.
        reason: why.

    Raises:
        NotFound: the owner sees no such prompt or version.
        InvalidInput: the label cannot be moved by hand, or a pipeline that asks for it cannot use
            the version.
    """
    _check_label(label)
    found = await find_version(kit, name, ref, owner_id)
    check_fits(kit.registry, found.version.draft, label)
    moved = await kit.store.write(
        MoveLabel(
            owner_id=owner_id, name=name, label=label, hash=found.version.hash, by=by, reason=reason
        )
    )
    return _told(kit, moved)


async def roll_back(
    kit: Kit, name: str, label: str, *, owner_id: str, by: str, reason: str | None = None
) -> View:
    """Let a label stand where it stood before its last move; done again, before the one before.

    Raises:
        NotFound: the owner has no such prompt or label.
        IllegalMove: there is no move left to take back.
        InvalidInput: a pipeline that asks for the label cannot use the version before.
    """
    _check_label(label)
    history = await kit.store.read(PromptByName(name, owner_id))
    last = undone([one for one in history.moves if one.label == label])
    if last is not None and last.before is not None:
        before = await kit.store.read(PromptContent(name, owner_id, last.before))
        check_fits(kit.registry, before.draft, label)
    moved = await kit.store.write(
        RollBackLabel(owner_id=owner_id, name=name, label=label, by=by, reason=reason)
    )
    return _told(kit, moved)


async def compare(kit: Kit, name: str, a: str, b: str, owner_id: str) -> View:
    """What differs between two versions, part by part.

    Raises:
        NotFound: the owner sees no such prompt or version.
        InvalidInput: a hash names several.
    """
    old = (await find_version(kit, name, a, owner_id)).version
    new = (await find_version(kit, name, b, owner_id)).version
    return {
        "name": name,
        "a": old.hash,
        "b": new.hash,
        "same": old.hash == new.hash,
        "parts": [
            {"part": one.what, "lines": one.lines()} for one in differences(old.draft, new.draft)
        ],
    }


def move_view(move: LabelMove) -> View:
    """A move of a label."""
    return {
        "id": move.id,
        "label": move.label,
        "before": move.before,
        "after": move.after,
        "at": iso(move.at),
        "by": move.by,
        "reason": move.reason,
        "undoes": move.undoes,
    }


def _told(kit: Kit, moved: LabelMoved) -> View:
    label = moved.label
    if moved.move is not None:
        kit.bus.publish(Notice(PROMPTS))
        log.info("prompt.label_moved", prompt=label.name, label=label.label, version=label.hash)
    return {
        "name": label.name,
        "label": label.label,
        "version": label.hash,
        "move": None if moved.move is None else move_view(moved.move),
    }


def _check_label(label: str) -> None:
    if label in RESERVED:
        raise IllegalMove(
            f"nobody moves the label {label} by hand", hint="choose another: production, staging"
        )
    if not LABEL.fullmatch(label):
        raise InvalidInput(
            f"{label!a} is no label",
            fields=[{"field": "label", "expected": f"fits {LABEL.pattern}", "got": ascii(label)}],
        )


def _head_view(head: VersionHead, history: PromptHistory) -> View:
    return {
        "version": head.hash,
        "labels": [one.label for one in history.labels if one.hash == head.hash],
        "description": head.description,
        "author": head.author,
        "from_app": head.owner_id == APPS,
        "created_at": iso(head.created_at),
    }


def _used_by(kit: Kit, name: str) -> list[dict[str, Any]]:
    return [
        {"pipeline": use.pipeline.name, "node": use.node.name, "label": use.label}
        for use in uses(kit.registry, name)
    ]

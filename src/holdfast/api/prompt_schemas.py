"""What the doors answer about prompts."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from .schemas import Answer, Time


class PromptUse(Answer):
    """A model node that asks for a prompt."""

    pipeline: str
    node: str
    label: str | None = Field(description="None: it uses the file's text.")


class Prompt(Answer):
    """A prompt as lists show it."""

    name: str
    versions: int
    labels: dict[str, str] = Field(description="By label, the hash it stands at.")
    used_by: list[PromptUse]
    created_at: Time
    changed_at: Time = Field(description="When its newest version came.")


class PromptList(Answer):
    """All prompts, by name."""

    items: list[Prompt]


class PromptHead(Answer):
    """A version without its texts."""

    version: str = Field(description="SHA-256 of the content.")
    labels: list[str] = Field(description="That stand at it now.")
    description: str
    author: str | None = Field(description="Id of the key it came with, or the local user.")
    from_app: bool = Field(description="A file of an app holds it, or did.")
    created_at: Time


class PromptVersion(PromptHead):
    """A version with its texts."""

    name: str
    static: str = Field(description="Template of what is the same in every call.")
    dynamic: str = Field(description="Template of what each run fills in.")
    definitions: dict[str, Any] = Field(description="Constants that both parts may use.")
    variables: dict[str, str] = Field(description="What of a run it uses, described or not.")
    source: str = Field(description="Its text as a file would have it.")


class PromptLabel(Answer):
    """Where a label stands."""

    label: str
    version: str
    moved_at: Time
    moved_by: str | None


class PromptMove(Answer):
    """One move of a label."""

    id: str
    label: str
    before: str | None = Field(description="The version it stood at; None: nowhere.")
    after: str
    at: Time
    by: str | None = Field(description="Id of a key, or the local user; None: a file changed.")
    reason: str | None
    undoes: str | None = Field(description="The move that a roll-back took back.")


class PromptHistory(Answer):
    """A prompt: its versions and labels, and how those moved; newest first."""

    name: str
    labels: list[PromptLabel]
    versions: list[PromptHead]
    moves: list[PromptMove]
    used_by: list[PromptUse]


class LabelMoved(Answer):
    """Where a label stands now."""

    name: str
    label: str
    version: str
    move: PromptMove | None = Field(description="None: it stood there already.")


class PromptPart(Answer):
    """One part that differs."""

    part: str
    lines: list[str] = Field(description="A unified diff.")


class PromptDiff(Answer):
    """What differs between two versions."""

    name: str
    a: str
    b: str
    same: bool
    parts: list[PromptPart]

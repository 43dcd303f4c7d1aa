"""What comes in and what the models must answer."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from .prompts import DRAFT

EXCERPT_CHARS = 6000
"""Characters of a long letter that are shown to a model, from its start and from its end each."""


class Email(BaseModel):
    """One e-mail to the support address."""

    sender: str = Field(min_length=3, max_length=320)
    subject: str = Field(default="", max_length=1000)
    body: str = Field(default="", max_length=500_000)

    @property
    def excerpt(self) -> str:
        """The body; of a very long one (a pasted log) the beginning and the end."""
        left_out = len(self.body) - 2 * EXCERPT_CHARS
        if left_out <= 0:
            return self.body
        start, end = self.body[:EXCERPT_CHARS], self.body[-EXCERPT_CHARS:]
        return f"{start}\n[… {left_out} characters left out …]\n{end}"


class Intent(BaseModel):
    """What the writer wants."""

    intent: Literal["invoice", "bug", "question", "complaint", "thanks", "other"]
    confidence: float = Field(ge=0, le=1)
    escalate: bool = Field(description="a person must read this letter")
    reason: str = Field(max_length=300)


class Spam(BaseModel):
    """Whether somebody wrote this to us."""

    kind: Literal["spam", "human"]
    score: float = Field(ge=0, le=1, description="0: surely a human, 1: surely spam")
    reason: str = Field(max_length=300)


class Actionable(BaseModel):
    """Whether there is something to do."""

    actionable: bool
    next_step: str = Field(max_length=300, description="empty when there is nothing to do")


class Reply(BaseModel):
    """A reply fit to be sent; a draft that breaks a rule is asked for again."""

    text: str = Field(min_length=20, max_length=1500)

    @field_validator("text")
    @classmethod
    def promises_nothing(cls, text: str) -> str:
        """Refunds are for people to promise."""
        if re.search(r"\b(will|we'll|shall) (\w+ )?refund|верн[её]м .{0,20}деньги", text, re.I):
            raise ValueError("promises a refund; say that a colleague will look at the payment")
        return text

    @field_validator("text")
    @classmethod
    def keeps_instructions_to_itself(cls, text: str) -> str:
        """Whoever asks for our instructions does not get them."""
        if any(line in text for line in DRAFT.splitlines() if len(line) > 20):
            raise ValueError("repeats your instructions; answer the customer instead")
        return text

    @field_validator("text")
    @classmethod
    def speaks_the_writers_language(cls, text: str, info: ValidationInfo) -> str:
        """The least that can be checked without a model: the alphabet."""
        body = info.context.event.body if info.context else ""
        if alphabet(body) not in (None, alphabet(text)):
            raise ValueError("is not in the language of the letter")
        return text


def alphabet(text: str) -> str | None:
    """The script most letters of `text` belong to (`LATIN`, `CYRILLIC`, …); None without any."""
    names = [unicodedata.name(char, "?").split()[0] for char in text[:2000] if char.isalpha()]
    return max(sorted(set(names)), key=names.count, default=None)

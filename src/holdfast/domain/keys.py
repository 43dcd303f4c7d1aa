"""API keys: who may do what, and the form of the secret that proves it."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from .events import LOCAL_OWNER


class Scope(StrEnum):
    """What a key may be good for; none includes another."""

    READ = "read"  # look at the owner's things
    WRITE = "write"  # change them: send in, call off, answer
    ADMIN = "admin"  # manage what is everybody's: keys, breakers, what code agents run; see hubs


NEEDS: Mapping[str, Scope] = {
    "look": Scope.READ,
    "submit": Scope.WRITE,
    "cancel": Scope.WRITE,
    "pause": Scope.WRITE,
    "resume": Scope.WRITE,
    "migrate": Scope.WRITE,
    "replay": Scope.WRITE,
    "record": Scope.WRITE,
    "schedule": Scope.WRITE,
    "index": Scope.WRITE,
    "prompts": Scope.WRITE,
    "prune": Scope.WRITE,
    "talk": Scope.WRITE,
    "sessions": Scope.WRITE,
    "processes": Scope.WRITE,
    "agents": Scope.ADMIN,  # their tools and graphs are code of the hub's machine, named by path
    "budgets": Scope.ADMIN,
    "keys": Scope.ADMIN,
    "breakers": Scope.ADMIN,
    "hubs": Scope.ADMIN,
}
"""Which scope each verb needs."""

PREFIX_CHARS = 8
SECRET_CHARS = 32
"""Of 62 letters and digits: 190 bits, beyond guessing."""

_LETTERS = string.digits + string.ascii_letters
_FORM = re.compile(
    rf"hf_(?P<prefix>[0-9A-Za-z]{{{PREFIX_CHARS}}})_[0-9A-Za-z]{{{SECRET_CHARS}}}", re.ASCII
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A key as it was made, before it is stored."""

    id: str
    name: str  # what it is for
    prefix: str  # the part that may be shown
    hash: str = field(repr=False)  # of the whole key, see `digest`
    scopes: tuple[Scope, ...]
    expires_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey(NewKey):
    """A key as it is stored: everything but the secret.

    Attributes:
        owner_id: whose things it opens.
        owner: the owner's name.
        owner_disabled_at: when the owner was shut out; then none of their keys is good.
        last_used_at: a few seconds late.
    """

    owner_id: str
    owner: str
    owner_disabled_at: int | None
    created_at: int
    last_used_at: int | None
    revoked_at: int | None

    @property
    def revoked(self) -> bool:
        """Whether it was taken back."""
        return self.revoked_at is not None

    def good(self, now: int) -> bool:
        """Whether it opens anything at `now`."""
        return (
            self.revoked_at is None
            and self.owner_disabled_at is None
            and (self.expires_at is None or now < self.expires_at)
        )


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking.

    Attributes:
        owner_id: whose things they see.
        scopes: what they may do.
        key_id: the key they came with; None for the local user.
    """

    owner_id: str
    scopes: frozenset[Scope]
    key_id: str | None = None


LOCAL = Principal(LOCAL_OWNER, frozenset(Scope))
"""The user of a hub without keys."""


def new_secret() -> str:
    """A new key in its whole, to be shown once and never kept."""
    prefix, secret = (
        "".join(secrets.choice(_LETTERS) for _ in range(size))
        for size in (PREFIX_CHARS, SECRET_CHARS)
    )
    return f"hf_{prefix}_{secret}"


def prefix_of(key: str) -> str | None:
    """The part of a key by which it is found; None when the text has not a key's form."""
    found = _FORM.fullmatch(key)
    return None if found is None else found["prefix"]


def digest(key: str) -> str:
    """What is stored of a key.

    One SHA-256: a slow hash guards secrets that people make up; 190 random bits need none, and
    every request would pay for it.
    """
    return hashlib.sha256(key.encode()).hexdigest()


def same(key: str, hash: str) -> bool:  # noqa: A002 - the field's name
    """Whether `hash` is of this key, found out in a time that tells nothing."""
    return hmac.compare_digest(digest(key), hash)

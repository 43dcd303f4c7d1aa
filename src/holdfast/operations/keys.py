"""Make, list and take back API keys."""

from __future__ import annotations

from collections.abc import Collection

from holdfast.domain.ids import new_id, now_us
from holdfast.domain.keys import ApiKey, NewKey, Scope, digest, new_secret, prefix_of
from holdfast.errors import InvalidInput
from holdfast.store import Store
from holdfast.store.commands import CreateKey, RevokeKey
from holdfast.store.queries import AllKeys

from .views import View, iso

MAX_NAME_CHARS = 100
"""Longest name of a key or an owner."""


async def create_key(
    store: Store,
    *,
    name: str,
    owner: str,
    scopes: Collection[Scope],
    expires_at: int | None = None,
) -> tuple[ApiKey, str]:
    """Make a key.

    Args:
        store: where it is kept, but for its secret.
        name: what it is for.
        owner: the name of whose things it opens; made with their first key.
        scopes: what it is good for.
        expires_at: microseconds since the epoch from which on it opens nothing.

    Returns:
        What is stored, and the whole key, which nobody can see again.

    Raises:
        InvalidInput: a name, the scopes or the time are wrong.
        IllegalMove: the owner is disabled.
    """
    for field, text in (("name", name), ("owner", owner)):
        if not text.strip() or len(text) > MAX_NAME_CHARS or not text.isprintable():
            raise _wrong(field, f"1 to {MAX_NAME_CHARS} visible characters", text)
    if not scopes:
        raise _wrong("scopes", f"one or more of {', '.join(Scope)}", "none")
    if expires_at is not None and expires_at <= now_us():
        raise _wrong("expires_at", "a time to come", iso(expires_at) or "")
    secret = new_secret()
    new = NewKey(
        id=new_id(),
        name=name,
        prefix=prefix_of(secret) or "",
        hash=digest(secret),
        scopes=tuple(scope for scope in Scope if scope in scopes),
        expires_at=expires_at,
    )
    return await store.write(CreateKey(new, owner)), secret


async def revoke_key(store: Store, key_id: str) -> ApiKey:
    """Take a key back for good.

    Args:
        store: where it is kept.
        key_id: its id or prefix.

    Raises:
        NotFound: no such key.
    """
    return await store.write(RevokeKey(key_id))


async def all_keys(store: Store) -> list[ApiKey]:
    """The keys of all owners, newest first, revoked ones too."""
    return await store.read(AllKeys())


def key_view(key: ApiKey) -> View:
    """A key as it is shown: never its secret, nor the hash."""
    return {
        "id": key.id,
        "name": key.name,
        "owner": key.owner,
        "prefix": key.prefix,
        "scopes": [scope.value for scope in key.scopes],
        "created_at": iso(key.created_at),
        "last_used_at": iso(key.last_used_at),
        "expires_at": iso(key.expires_at),
        "revoked_at": iso(key.revoked_at),
    }


def _wrong(field: str, expected: str, got: str) -> InvalidInput:
    return InvalidInput(
        f"{field}: expected {expected}, got {got!a}",
        fields=[{"field": field, "expected": expected, "got": got}],
    )

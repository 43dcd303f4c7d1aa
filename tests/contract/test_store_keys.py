"""API keys in every database: stored once, found whole, taken back for good."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from holdfast.domain.ids import new_id
from holdfast.domain.keys import NewKey, Scope, digest, new_secret, prefix_of
from holdfast.errors import IllegalMove, NotFound, StoreRefused
from holdfast.store import Store
from holdfast.store.commands import CreateKey, RevokeKey, TouchKeys
from holdfast.store.queries import AllKeys
from holdfast.store.registry import address


def new(**fields: Any) -> NewKey:
    secret = new_secret()
    values: dict[str, Any] = {
        "id": new_id(),
        "name": "ci",
        "prefix": prefix_of(secret),
        "hash": digest(secret),
        "scopes": (Scope.READ, Scope.ADMIN),
        "expires_at": None,
    }
    return NewKey(**(values | fields))


async def test_what_is_created_is_listed_newest_first(store: Store) -> None:
    first = await store.write(CreateKey(new(expires_at=1 << 50), "team-a"))
    second = await store.write(CreateKey(new(name="Ü"), "team-b"))
    assert await store.read(AllKeys()) == [second, first]
    assert (first.owner, first.scopes, first.expires_at) == (
        "team-a",
        (Scope.READ, Scope.ADMIN),
        1 << 50,
    )
    assert first.created_at > 0
    assert (first.last_used_at, first.revoked_at) == (None, None)


async def test_keys_of_one_name_have_one_owner_even_when_made_at_once(store: Store) -> None:
    made = await asyncio.gather(*(store.write(CreateKey(new(), "team-a")) for _ in range(20)))
    assert len({key.owner_id for key in made}) == 1
    other = await store.write(CreateKey(new(), "team-b"))
    assert other.owner_id != made[0].owner_id


async def test_the_local_owner_keeps_what_was_there_before_keys(store: Store) -> None:
    assert (await store.write(CreateKey(new(), "local"))).owner_id == "local"


@pytest.mark.parametrize("by", ["id", "prefix"])
async def test_a_revoked_key_stays_revoked(store: Store, by: str) -> None:
    key = await store.write(CreateKey(new(), "team-a"))
    kept = await store.write(CreateKey(new(), "team-a"))
    gone = await store.write(RevokeKey(getattr(key, by)))
    assert gone.revoked
    assert await store.write(RevokeKey(getattr(key, by))) == gone
    assert await store.read(AllKeys()) == [kept, gone]


async def test_revoking_what_is_not_there(store: Store) -> None:
    with pytest.raises(NotFound, match="no key 'nobody'"):
        await store.write(RevokeKey("nobody"))


async def test_two_keys_never_share_a_prefix(store: Store) -> None:
    key = new()
    await store.write(CreateKey(key, "team-a"))
    with pytest.raises(StoreRefused):
        await store.write(CreateKey(new(prefix=key.prefix), "team-b"))
    assert [one.id for one in await store.read(AllKeys())] == [key.id]


async def test_uses_are_noted(store: Store) -> None:
    key = await store.write(CreateKey(new(), "team-a"))
    idle = await store.write(CreateKey(new(), "team-a"))
    await store.write(TouchKeys({key.id: 5, new_id(): 6}))
    used = {one.id: one.last_used_at for one in await store.read(AllKeys())}
    assert used == {key.id: 5, idle.id: None}


async def test_a_disabled_owner_gets_no_keys_and_has_none_that_are_good(
    store: Store, store_url: str
) -> None:
    key = await store.write(CreateKey(new(), "team-a"))
    assert key.good(key.created_at)
    engine = create_engine(address(store_url).sqlalchemy_url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("UPDATE users SET disabled_at = 7"))
    engine.dispose()
    (found,) = await store.read(AllKeys())
    assert not found.good(key.created_at)
    with pytest.raises(IllegalMove, match="team-a is disabled"):
        await store.write(CreateKey(new(), "team-a"))

"""The keyring beside a store that answers late, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from holdfast.domain.keys import ApiKey, Scope, digest, new_secret
from holdfast.errors import NotAuthenticated, StoreError
from holdfast.operations.keyring import Keyring
from holdfast.store import Store
from holdfast.store.commands import TouchKeys
from holdfast.telemetry import Metrics, configure_logging


def stored(secret: str, **fields: Any) -> ApiKey:
    values: dict[str, Any] = {
        "id": secret[3:11],
        "name": "ci",
        "prefix": secret[3:11],
        "hash": digest(secret),
        "scopes": (Scope.READ,),
        "expires_at": None,
        "owner_id": "o",
        "owner": "team",
        "owner_disabled_at": None,
        "created_at": 1,
        "last_used_at": None,
        "revoked_at": None,
    }
    return ApiKey(**(values | fields))


class FakeStore:
    """Answers with what it held when it was asked, as late as the test wants."""

    def __init__(self, *keys: ApiKey) -> None:
        self.keys = list(keys)
        self.late: list[asyncio.Event] = []
        self.away = False
        self.touched: list[dict[str, int]] = []

    async def read(self, _query: Any) -> list[ApiKey]:
        if self.away:
            raise StoreError("away")
        seen = list(self.keys)
        if self.late:
            await self.late.pop(0).wait()
        return seen

    async def write(self, command: TouchKeys) -> None:
        if self.away:
            raise StoreError("away")
        self.touched.append(dict(command.used))


def ring(store: FakeStore, clock: Callable[[], int] = lambda: 10, **options: Any) -> Keyring:
    return Keyring(cast("Store", store), Metrics(), clock=clock, **options)


async def test_a_read_that_began_before_a_revocation_does_not_bring_the_key_back() -> None:
    secret = new_secret()
    store = FakeStore(stored(secret))
    keys, gate = ring(store, exposed=True), asyncio.Event()
    store.late = [gate]
    sweep = asyncio.create_task(keys.refresh())
    await asyncio.sleep(0)
    store.keys = [stored(secret, revoked_at=5)]
    revocation = asyncio.create_task(keys.refresh())
    for _ in range(5):
        await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(sweep, revocation)
    with pytest.raises(NotAuthenticated):
        keys.admit(secret)


async def test_while_the_store_is_away_known_keys_stay_good_and_uses_are_not_lost() -> None:
    configure_logging("critical")
    secret = new_secret()
    store = FakeStore(stored(secret))
    keys = ring(store)
    await keys.refresh()
    keys.admit(secret)
    store.away = True
    await keys.tidy()
    assert keys.admit(secret).owner_id == "o"
    assert store.touched == []
    store.away = False
    await keys.tidy()
    assert store.touched == [{secret[3:11]: 10}]


async def test_what_lasts_longer_than_a_request_learns_of_the_end() -> None:
    now = 10
    revoked, expiring, good = new_secret(), new_secret(), new_secret()
    store = FakeStore(stored(revoked), stored(expiring, expires_at=20), stored(good))
    keys = ring(store, clock=lambda: now)
    await keys.refresh()
    ends = [keys.leaving(keys.admit(secret)) for secret in (revoked, expiring, good)]
    store.keys[0] = stored(revoked, revoked_at=11)
    await keys.refresh()
    assert [end.is_set() for end in ends] == [True, False, False]
    now = 20
    await keys.refresh()
    assert [end.is_set() for end in ends] == [True, True, False]


async def test_the_first_key_shows_out_whoever_came_without() -> None:
    store = FakeStore()
    keys = ring(store)
    await keys.refresh()
    end = keys.leaving(keys.admit(None))
    await keys.refresh()
    assert not end.is_set()
    store.keys = [stored(new_secret())]
    await keys.refresh()
    assert end.is_set()
    with pytest.raises(NotAuthenticated):
        keys.admit(None)
    assert keys.admit(None, trusted=True).owner_id == "local"

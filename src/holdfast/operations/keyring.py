"""Who is asking: the hub's keys in memory, so that no request waits for the database."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping

from holdfast.domain.ids import now_us
from holdfast.domain.keys import LOCAL, ApiKey, Principal, digest, prefix_of, same
from holdfast.errors import NotAuthenticated, StoreError
from holdfast.store import Store
from holdfast.store.commands import TouchKeys
from holdfast.store.queries import AllKeys
from holdfast.telemetry import Metrics, logger

SWEEP_S = 10.0
"""How late a change made elsewhere (the CLI, another hub) and `last_used_at` may be."""

REFUSED = "holdfast_keys_refused_total"

_NOBODY = digest("")
"""Compared with where there is no key, so that the time taken does not tell."""

log = logger("keys")


class Keyring:
    """The keys of one hub; `refresh` before use, and after each change made here.

    Attributes:
        exposed: the hub can be reached from elsewhere and never goes without keys.
    """

    def __init__(
        self,
        store: Store,
        metrics: Metrics,
        *,
        exposed: bool = False,
        clock: Callable[[], int] = now_us,
    ) -> None:
        self.exposed = exposed
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._keys: Mapping[str, ApiKey] = {}  # by prefix, without the revoked ones
        self._used: dict[str, int] = {}
        self._refreshing = asyncio.Lock()
        self._leaving: dict[str | None, asyncio.Event] = {}
        self._stale = asyncio.Event()
        self._sweeping: asyncio.Task[None] | None = None
        metrics.describe(REFUSED, "counter", "Requests whose API key was not accepted.")

    @property
    def empty(self) -> bool:
        """Whether there is no key; one that has expired still counts."""
        return not self._keys

    @property
    def guarded(self) -> bool:
        """Whether requests need a key."""
        return self.exposed or not self.empty

    def admit(self, key: str | None, *, trusted: bool = False) -> Principal:
        """Who comes with this key.

        Args:
            key: the whole key as it was shown; None without one.
            trusted: the caller holds the database anyway and may come without.

        Raises:
            NotAuthenticated: a key is needed, or this one is not accepted.
        """
        if key is None:
            if self.guarded and not trusted:
                raise NotAuthenticated(
                    "this hub wants an API key",
                    hint="send it as Authorization: Bearer hf_…; a key is made with: "
                    "holdfast keys create NAME",
                )
            return LOCAL
        known, now = self._keys.get(prefix_of(key) or ""), self._clock()
        genuine = same(key, _NOBODY if known is None else known.hash)
        if known is None or not genuine or not known.good(now):
            self._metrics.add(REFUSED)
            raise NotAuthenticated(
                "this API key is not accepted", hint="ask an administrator of the hub for a new one"
            )
        self._used[known.id] = now
        return Principal(known.owner_id, frozenset(known.scopes), known.id)

    def leaving(self, principal: Principal) -> asyncio.Event:
        """Set once the principal is admitted no more, for what goes on longer than a request."""
        return self._leaving.setdefault(principal.key_id, asyncio.Event())

    async def refresh(self) -> None:
        """Take in what the store holds now.

        Raises:
            StoreError: the database is away; what was known stays.
        """
        # One at a time: an earlier read that ends later would bring back a revoked key.
        async with self._refreshing:
            found = await self._store.read(AllKeys())
            self._keys = {key.prefix: key for key in found if not key.revoked}
        self._show_out()

    def start(self) -> None:
        """Keep up with changes made elsewhere, and note when keys were used."""
        self._sweeping = asyncio.create_task(self._sweep())

    def stale(self) -> None:
        """Another hub has changed a key: take that in now and not with the next sweep."""
        self._stale.set()

    async def close(self) -> None:
        """Note the last uses, then stop."""
        if self._sweeping is None:
            return
        self._sweeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._sweeping
        await self.tidy()

    async def tidy(self) -> None:
        """Store when keys were used, and take in what changed; put off while the store is away."""
        used, self._used = self._used, {}
        try:
            if used:
                await self._store.write(TouchKeys(used))
            await self.refresh()
        except StoreError as error:
            self._used = used | self._used
            log.warning("keys.not_refreshed", reason=str(error))

    async def _sweep(self) -> None:
        while True:
            try:
                async with asyncio.timeout(SWEEP_S):
                    await self._stale.wait()
            except TimeoutError:
                pass  # the sweep
            self._stale.clear()
            await self.tidy()

    def _show_out(self) -> None:
        now = self._clock()
        good: set[str | None] = {key.id for key in self._keys.values() if key.good(now)}
        if not self.guarded:
            good.add(None)
        for gone in self._leaving.keys() - good:
            self._leaving.pop(gone).set()

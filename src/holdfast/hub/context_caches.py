"""Context caches: which run makes one, the others told when it is there; shared by one row."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import asdict
from typing import Any

from holdfast.bus import Notice
from holdfast.bus.base import CONTEXT_CACHE
from holdfast.domain.context_cache import AskForCache, CacheMove, TellOfCache
from holdfast.domain.ids import new_id
from holdfast.errors import StoreError, StoreRefused
from holdfast.journal import Running
from holdfast.operations.kit import Kit
from holdfast.ports import CacheGrant, CacheNews, CacheWanted
from holdfast.runner.context_caches import UNSURE_S, cache_for, grant_of, told
from holdfast.store.commands import CacheAccount, CacheMoved, MoveCache
from holdfast.telemetry import logger

log = logger("hub")

PATIENCE_S = 20.0
"""How long a call waits for a cache that another run makes; then it is sent whole."""

SWEEP_S = 2.0
"""How late this hub may be to hear of what another one did, when a notice was lost."""

LAST_WRITES_S = 2.0
"""How long a closing hub waits for leases to be given back."""


class ContextCaches:
    """Answers `ports.ContextCachePort` for all runners; belongs to the hub's loop.

    Args:
        kit: the hub's parts.
        hour_pico: picodollars for one token kept for an hour, by provider and model.
    """

    def __init__(self, kit: Kit, hour_pico: Callable[[str, str], int | None]) -> None:
        self._kit = kit
        self._hour_pico = hour_pico
        self._moved = asyncio.Event()  # replaced whenever it was set: all who wait look again
        self._leases: dict[str, tuple[CacheWanted, Running]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop_listening = kit.bus.listen(CONTEXT_CACHE, lambda _: self._ring())
        kit.metrics.describe(
            "holdfast_context_caches_total", "counter", "Context caches made, renewed or refused."
        )

    async def close(self) -> None:
        """Stop; leases that are being given back are stored if that does not take long."""
        self._stop_listening()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=LAST_WRITES_S)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    async def answer(self, port: str, args: Mapping[str, Any], running: Running) -> Any:
        """Answer a question of the port.

        Raises:
            StoreError: the database is away; the call goes on without a cache.
        """
        wanted = CacheWanted(**args["wanted"])
        if port == "context_cache.ask":
            return asdict(await self._ask(wanted, running))
        return await self._tell(wanted, CacheNews(**args["news"]), running)

    def run_ended(self, execution_id: str) -> None:
        """Give back the leases of a run that will say no more of them."""
        for lease, (wanted, running) in list(self._leases.items()):
            if running.id == execution_id:
                del self._leases[lease]
                self._run(self._give_back(wanted, lease, running))

    async def _ask(self, wanted: CacheWanted, running: Running) -> CacheGrant:
        lease = new_id()
        until = asyncio.get_running_loop().time() + PATIENCE_S
        while True:
            moved = self._moved  # before the look: what happens after it wakes us
            found = await self._move(wanted, AskForCache(lease=lease, lost=wanted.lost), running)
            grant = grant_of(found.cache, lease, found.at)
            if grant is not None:
                break
            left = until - asyncio.get_running_loop().time()
            if left <= 0 or running.ended:
                return CacheGrant(act="send", lasts_s=UNSURE_S)
            try:
                async with asyncio.timeout(min(left, SWEEP_S)):
                    await moved.wait()
            except TimeoutError:
                pass  # a notice may be lost, and its maker too
        if grant.lease is not None:
            self._leases[grant.lease] = (wanted, running)
            if running.ended:
                self.run_ended(running.id)
        return grant

    async def _tell(self, wanted: CacheWanted, news: CacheNews, running: Running) -> bool:
        found = await self._move(wanted, told(news), running)
        if news.lease is not None:
            self._leases.pop(news.lease, None)
        if found.moved:
            cache = found.cache
            self._kit.metrics.add(
                "holdfast_context_caches_total", provider=cache.provider, status=cache.status
            )
            log.info(
                "context_cache.moved",
                prompt=cache.prompt,
                provider=cache.provider,
                model=cache.model,
                status=cache.status.value,
                tokens=cache.tokens,
                reason=cache.reason,
            )
            self._kit.bus.publish(Notice(CONTEXT_CACHE))
        return found.moved

    async def _give_back(self, wanted: CacheWanted, lease: str, running: Running) -> None:
        try:
            await self._move(wanted, TellOfCache(lease=lease, lasts_us=0), running)
        except (StoreError, StoreRefused) as error:  # the lease runs out by itself
            log.error("context_cache.not_given_back", prompt=wanted.prompt, error=str(error))
            return
        self._kit.bus.publish(Notice(CONTEXT_CACHE))

    async def _move(self, wanted: CacheWanted, move: CacheMove, running: Running) -> CacheMoved:
        account = CacheAccount(
            owner_id=running.owner_id,
            pipeline=running.start.claimed.target,
            hour_pico=self._hour_pico(wanted.provider, wanted.model),
        )
        return await self._kit.store.write(MoveCache(cache_for(wanted), move, account))

    def _ring(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

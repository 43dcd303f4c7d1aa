"""Caches that are made, have a name and a lifetime, and are paid by the hour."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from holdfast.domain.context_cache import too_small
from holdfast.errors import PortError
from holdfast.ports import CacheNews, CacheWanted, ContextCachePort
from holdfast.telemetry import logger

from .calling import CallMark
from .context_cache import KEPT, CacheCall, ContextCacheStrategy, key_of, tell
from .failures import classify

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

    from holdfast.ports import ModelConfig

log = logger("llm")

TOO_SMALL_S = 86400.0
"""For how long a beginning that is too small is not measured again."""

REFUSED_S = 3600.0
AWAY_S = 30.0
"""For how long no cache is made after the provider refused one, or could not be reached."""

DUE_SHARE = 0.2
"""Part of the lifetime that is left when a process asks whether to renew."""

GONE = frozenset({403, 404})
"""Statuses of a call that names a cache which the provider does not have."""

MAX_LOSSES = 1
"""How often one call has a lost cache made anew before it is sent whole."""

_REASON_CHARS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """What a cache is to hold.

    Attributes:
        wanted: what the hub is asked for.
        messages: the static ones.
        held: keyword arguments that live in the cache, and must not be sent with it.
        ttl_s: its lifetime.
    """

    wanted: CacheWanted
    messages: Sequence[BaseMessage]
    held: Mapping[str, Any]
    ttl_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RelyingCall(CacheCall):
    """A call that may rely on a cache.

    Attributes:
        beginning: which.
        whole: the call as it would be without.
    """

    beginning: Beginning = field(kw_only=True)
    whole: CacheCall = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class _Known:
    resource: str | None
    until: float  # of the process's clock; then the hub is asked again


class MadeCaches(ContextCacheStrategy):
    """Asks the hub for a cache, makes it when it is told to, renews it while it is used.

    A fault of the cache never fails a call: it is sent whole then.

    Args:
        config: the alias; its `cache_ttl_s` is the lifetime.
        minimum: tokens below which the model keeps nothing; None: not known.
        port: says who makes and renews.
        clock: seconds.
    """

    held: ClassVar[tuple[str, ...]] = ()
    """Keyword arguments that live in the cache."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        minimum: int | None,
        port: ContextCachePort,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._minimum = minimum
        self._port = port
        self._clock = clock
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._asking: dict[tuple[str, str | None], asyncio.Task[str | None]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    @abstractmethod
    async def count(self, beginning: Beginning) -> int:
        """How many tokens it has, as the provider counts."""

    @abstractmethod
    async def make(self, beginning: Beginning) -> tuple[str, int | None]:
        """Make it: the provider's name for it, and its tokens if it says so."""

    @abstractmethod
    async def renew(self, resource: str, ttl_s: int) -> None:
        """Let it live that long from now."""

    @abstractmethod
    async def drop(self, resource: str) -> None:
        """Delete it."""

    @abstractmethod
    def relying(self, resource: str) -> dict[str, Any]:
        """Keyword arguments of a call that uses it."""

    async def prepare(
        self, mark: CallMark, messages: list[BaseMessage], kwargs: dict[str, Any]
    ) -> CacheCall:
        """See `ContextCacheStrategy.prepare`."""
        whole = CacheCall(messages=messages, kwargs=kwargs)
        ttl_s = mark.ttl_s or self._config.cache_ttl_s
        if ttl_s is None:
            return whole
        held = {name: kwargs[name] for name in self.held if kwargs.get(name) is not None}
        static = messages[: mark.static]
        wanted = CacheWanted(
            key=key_of(self._config, static, held),
            provider=self._config.provider,
            model=self._config.model,
            prompt=mark.prompt,
        )
        beginning = Beginning(wanted=wanted, messages=static, held=held, ttl_s=ttl_s)
        return self._with(await self._resource(beginning), beginning, whole)

    async def instead(self, call: CacheCall, error: Exception) -> CacheCall | None:
        """See `ContextCacheStrategy.instead`: another cache once, then the whole call."""
        if not isinstance(call, RelyingCall) or call.resource is None:
            return None
        if classify(error).http_status not in GONE:
            return None
        log.warning("context_cache.lost", prompt=call.beginning.wanted.prompt, lost=call.resource)
        whole = replace(call.whole, lost=call.lost + 1)
        if call.lost >= MAX_LOSSES:
            return whole
        resource = await self._resource(call.beginning, call.resource)
        return self._with(resource, call.beginning, whole)

    def _with(self, resource: str | None, beginning: Beginning, whole: CacheCall) -> CacheCall:
        if resource is None:
            return whole
        rest = {name: value for name, value in whole.kwargs.items() if name not in self.held}
        return RelyingCall(
            messages=whole.messages[len(beginning.messages) :],
            kwargs={**rest, **self.relying(resource)},
            resource=resource,
            lost=whole.lost,
            beginning=beginning,
            whole=whole,
        )

    async def _resource(self, beginning: Beginning, lost: str | None = None) -> str | None:
        key = beginning.wanted.key
        known = self._known.get(key)
        if known is not None and known.resource != lost and self._clock() < known.until:
            return known.resource
        asking = self._asking.get((key, lost))
        if asking is None:  # one question of this process for all its calls
            asking = self._run(self._settle(beginning, lost))
            self._asking[key, lost] = asking
            asking.add_done_callback(lambda _: self._asking.pop((key, lost), None))
        # Not ended with the call: the others wait for it too, and what was made is told.
        return await asyncio.shield(asking)

    async def _settle(self, beginning: Beginning, lost: str | None) -> str | None:
        try:
            grant = await self._port.ask(replace(beginning.wanted, lost=lost))
        except PortError as error:
            log.warning("context_cache.not_asked", prompt=beginning.wanted.prompt, error=str(error))
            return None
        if grant.act == "make":
            return await self._make(beginning, grant.lease)
        lasts_s = grant.lasts_s
        if grant.resource is not None:
            lasts_s = max(lasts_s - DUE_SHARE * beginning.ttl_s, lasts_s / 2)
            if grant.act == "renew":
                self._run(self._renew(beginning, grant.resource, grant.lease))
        self._remember(beginning, grant.resource, lasts_s)
        return grant.resource

    async def _make(self, beginning: Beginning, lease: str | None) -> str | None:
        begun, least = self._clock(), self._minimum
        tokens = None
        try:
            tokens = await self.count(beginning)
            if least is not None and tokens < least:
                await self._refuse(beginning, lease, too_small(tokens, least), TOO_SMALL_S, tokens)
                return None
            resource, made = await self.make(beginning)
        except Exception as error:  # noqa: BLE001 - whatever the client raises: the call goes on whole
            failure = classify(error)
            lasts_s = REFUSED_S if failure.error_class == "permanent" else AWAY_S
            reason = f"{type(error).__name__}: {failure.message}"[:_REASON_CHARS]
            await self._refuse(beginning, lease, reason, lasts_s, tokens)
            return None
        lasts_s = beginning.ttl_s - (self._clock() - begun)
        news = CacheNews(
            lease=lease,
            resource=resource,
            tokens=tokens if made is None else made,
            minimum=least,
            lasts_s=lasts_s,
        )
        if not await tell(self._port, beginning.wanted, news):
            await self._forget(beginning, resource)  # another one is used; this one would only cost
            return None
        self._remember(beginning, resource, lasts_s * (1 - DUE_SHARE))
        return resource

    async def _refuse(
        self,
        beginning: Beginning,
        lease: str | None,
        reason: str,
        lasts_s: float,
        tokens: int | None,
    ) -> None:
        self._remember(beginning, None, lasts_s)
        news = CacheNews(
            lease=lease, tokens=tokens, minimum=self._minimum, refused=reason, lasts_s=lasts_s
        )
        await tell(self._port, beginning.wanted, news)

    async def _renew(self, beginning: Beginning, resource: str, lease: str | None) -> None:
        begun = self._clock()
        try:
            await self.renew(resource, beginning.ttl_s)
        except Exception as error:  # noqa: BLE001 - it serves until its end, and is then made anew
            log.warning(
                "context_cache.not_renewed", prompt=beginning.wanted.prompt, error=str(error)
            )
            await tell(self._port, beginning.wanted, CacheNews(lease=lease, lasts_s=0.0))
            return
        lasts_s = beginning.ttl_s - (self._clock() - begun)
        news = CacheNews(lease=lease, resource=resource, lasts_s=lasts_s)
        if await tell(self._port, beginning.wanted, news):
            self._remember(beginning, resource, lasts_s * (1 - DUE_SHARE))

    async def _forget(self, beginning: Beginning, resource: str) -> None:
        try:
            await self.drop(resource)
        except Exception as error:  # noqa: BLE001 - it ends by itself
            log.warning(
                "context_cache.not_dropped", prompt=beginning.wanted.prompt, error=str(error)
            )

    def _remember(self, beginning: Beginning, resource: str | None, lasts_s: float) -> None:
        self._known.pop(beginning.wanted.key, None)
        self._known[beginning.wanted.key] = _Known(resource, self._clock() + lasts_s)
        if len(self._known) > KEPT:
            self._known.popitem(last=False)

    def _run(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

"""How providers keep the beginning of prompts: one interface, and what most of them share."""

from __future__ import annotations

import hashlib
import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

from holdfast.domain.context_cache import too_small
from holdfast.domain.payload import encode
from holdfast.errors import PortError
from holdfast.ports import CacheNews, CacheWanted, ContextCachePort
from holdfast.telemetry import logger

from .calling import CallMark
from .usage import Usage

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

    from holdfast.ports import ModelConfig

log = logger("llm")

KEPT = 1024
"""How many beginnings a process remembers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheCall:
    """A call as it is sent.

    Attributes:
        messages: what is left to send.
        kwargs: keyword arguments for the provider.
        wanted: the beginning it relies on; None: on none.
        resource: the provider's name for it.
        marked: whether the provider was asked to keep it.
        share: of the text, how much the beginning is, 0 to 1.
        lost: how often what it relied on was gone.
    """

    messages: list[BaseMessage]
    kwargs: dict[str, Any]
    wanted: CacheWanted | None = None
    resource: str | None = None
    marked: bool = False
    share: float = 0.0
    lost: int = 0


class ContextCacheStrategy(ABC):
    """One provider's way to keep the beginning of prompts."""

    @abstractmethod
    async def prepare(
        self, mark: CallMark, messages: list[BaseMessage], kwargs: dict[str, Any]
    ) -> CacheCall:
        """The call as it is to be sent; never raises for the cache's sake."""

    async def instead(self, call: CacheCall, error: Exception) -> CacheCall | None:
        """Another way to send a call that failed because what it relied on is gone."""
        del call, error
        return None

    async def answered(self, call: CacheCall, usage: Usage) -> None:  # noqa: B027
        """Learn from what the provider says it used."""


class Marking(ContextCacheStrategy):
    """For providers that keep what is marked, or what begins alike: there is nothing to make.

    A mark may cost (a write has its own price), so a beginning is marked when it is asked for
    the second time within the lifetime of a cache: one that is used once costs nothing more.

    Attributes:
        lifetime_s: how long a beginning is kept after its last use.

    Args:
        config: the alias.
        minimum: tokens below which the model keeps nothing; None: not known.
        lifetime_s: see there.
        at_once: mark it from the first time on.
        port: told of what is kept and what is too small.
        clock: seconds.
    """

    prefix: ClassVar[tuple[str, ...]] = ("tools",)
    """Keyword arguments that the provider reads before the messages."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        minimum: int | None,
        lifetime_s: float,
        at_once: bool,
        port: ContextCachePort | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._minimum = minimum
        self.lifetime_s = lifetime_s
        self._at_once = at_once
        self._port = port
        self._clock = clock
        self._used: OrderedDict[str, float] = OrderedDict()
        self._told: OrderedDict[str, str] = OrderedDict()

    @abstractmethod
    def mark(self, key: str, call: CacheCall, static: int) -> CacheCall:
        """The call with its beginning marked as far as `call.marked` says."""

    async def prepare(
        self, mark: CallMark, messages: list[BaseMessage], kwargs: dict[str, Any]
    ) -> CacheCall:
        """See `ContextCacheStrategy.prepare`."""
        key = key_of(self._config, messages[: mark.static], *map(kwargs.get, self.prefix))
        now = self._clock()
        before = self._used.pop(key, None)
        _remember(self._used, key, now)
        wanted = CacheWanted(
            key=key,
            provider=self._config.provider,
            model=self._config.model,
            prompt=mark.prompt,
        )
        again = before is not None and now - before < self.lifetime_s
        call = CacheCall(
            messages=messages,
            kwargs=kwargs,
            wanted=wanted,
            marked=self._at_once or again,
            share=_share(messages, mark.static),
        )
        return self.mark(key, call, mark.static)

    async def answered(self, call: CacheCall, usage: Usage) -> None:
        """See `ContextCacheStrategy.answered`."""
        if call.wanted is None or usage.tokens_input is None:
            return
        kept = (usage.tokens_cached or 0) + (usage.tokens_cache_write or 0)
        tokens = kept or round(usage.tokens_input * call.share)
        refused = None
        if not kept:
            if not call.marked or self._minimum is None or tokens >= self._minimum:
                return  # it says nothing: not asked for, or dropped
            refused = too_small(tokens, self._minimum, about=True)
        said = f"kept {tokens}" if refused is None else "refused"
        if self._told.get(call.wanted.key) == said:
            return
        _remember(self._told, call.wanted.key, said)
        news = CacheNews(lease=None, tokens=tokens, minimum=self._minimum, refused=refused)
        await tell(self._port, call.wanted, news)


async def tell(port: ContextCachePort | None, wanted: CacheWanted, news: CacheNews) -> bool:
    """Tell the hub, and the log what is not kept; a hub that does not hear fails no call."""
    if news.refused is not None:
        log.warning(
            "context_cache.refused",
            prompt=wanted.prompt,
            provider=wanted.provider,
            model=wanted.model,
            reason=news.refused,
        )
    if port is None:
        return True
    try:
        return await port.tell(wanted, news)
    except PortError as error:
        log.warning("context_cache.not_told", prompt=wanted.prompt, error=str(error))
        return False


def key_of(config: ModelConfig, messages: Sequence[BaseMessage], *more: Any) -> str:
    """What names a beginning: the same content for the same model and account has the same key."""
    said = [[one.type, one.content] for one in messages]
    account = [config.provider, config.base_url, config.api_key, config.model]
    return hashlib.sha256(encode([account, said, *map(_plain, more)])).hexdigest()


def with_last_block(
    messages: Sequence[BaseMessage], static: int, fields: Mapping[str, Any]
) -> list[BaseMessage]:
    """Messages whose last static one ends with a text block that has more fields."""
    last = messages[static - 1]
    blocks: list[Any] = (
        [{"type": "text", "text": last.content}]
        if isinstance(last.content, str)
        else list(cast("list[Any]", last.content))
    )
    if not blocks:
        return list(messages)
    end = blocks[-1]
    blocks[-1] = {**({"type": "text", "text": end} if isinstance(end, str) else end), **fields}
    marked = last.model_copy(update={"content": blocks})
    return [*messages[: static - 1], marked, *messages[static:]]


def _share(messages: Sequence[BaseMessage], static: int) -> float:
    sizes = [len(one.text) for one in messages]
    return sum(sizes[:static]) / max(1, sum(sizes))


def _plain(value: Any) -> Any:
    """Something JSON can say, the same for the same value."""
    if isinstance(value, Mapping):
        fields = cast("Mapping[str, Any]", value)
        return {str(name): _plain(fields[name]) for name in sorted(fields)}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in cast("Sequence[Any]", value)]
    return value if value is None or isinstance(value, str | int | float | bool) else repr(value)


def _remember(known: OrderedDict[str, Any], key: str, value: Any) -> None:
    known[key] = value
    if len(known) > KEPT:
        known.popitem(last=False)

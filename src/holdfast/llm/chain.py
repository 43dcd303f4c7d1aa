"""A model call's whole path: which wrapper stands around which, in one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from holdfast.domain.redelivery import Backoff
from holdfast.ports import (
    BreakersPort,
    BudgetsPort,
    CachePort,
    ContextCachePort,
    LimitsPort,
    ModelConfig,
)

from .bridge import Bridge
from .wrappers.attempts import AttemptsChatModel, RefusalsChatModel
from .wrappers.breaker import BreakerChatModel
from .wrappers.budget import BudgetChatModel
from .wrappers.content import checked
from .wrappers.context_cache import ContextCacheChatModel
from .wrappers.fallback import FallbackChatModel
from .wrappers.limits import LimitsChatModel
from .wrappers.response_cache import ResponseCacheChatModel
from .wrappers.retry import RetryChatModel
from .wrappers.time_limit import TimeLimitChatModel

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from .base import Provider
    from .context_cache import ContextCacheStrategy


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What the wrappers ask of the hub; None: nobody does it here."""

    breakers: BreakersPort | None = None
    budgets: BudgetsPort | None = None
    limits: LimitsPort | None = None
    cache: CachePort | None = None
    context_cache: ContextCachePort | None = None
    bridge: Bridge = field(default_factory=Bridge)


def keeping(
    model: BaseChatModel, provider: Provider, config: ModelConfig, services: Services
) -> ContextCacheStrategy | None:
    """How the provider keeps beginnings of prompts; None where it does not, or shall not."""
    if config.context_cache is False:
        return None
    return provider.context_cache(config, model, services.context_cache)


def one_model(
    model: BaseChatModel,
    provider: Provider,
    config: ModelConfig,
    services: Services,
    kept: ContextCacheStrategy | None = None,
) -> BaseChatModel:
    """The model of one alias with everything around its calls; the last line is the outermost.

    Args:
        model: as its provider makes it.
        provider: of the alias.
        config: of the alias.
        services: of the hub.
        kept: of `keeping`.
    """
    name = provider.breaker(config)
    max_tokens = int(provider.parameters(config).get("max_tokens") or 0)
    model = AttemptsChatModel(inner=model, alias=config.alias)
    if kept is not None:
        model = ContextCacheChatModel(inner=model, strategy=kept)
    if config.time_limit_s is not None:
        model = TimeLimitChatModel(inner=model, seconds=config.time_limit_s)
    if services.breakers is not None and name is not None:
        model = BreakerChatModel(inner=model, breaker=name, breakers=services.breakers)
    if services.limits is not None and config.limits:
        model = LimitsChatModel(
            inner=model,
            limited=name or f"{config.provider}/{config.model}",
            limits=config.limits,
            max_tokens=max_tokens,
            port=services.limits,
            bridge=services.bridge,
        )
    if services.budgets is not None:
        model = BudgetChatModel(
            inner=model,
            alias=config.alias,
            provider=provider.name,
            model_name=config.model,
            max_tokens=max_tokens,
            budgets=services.budgets,
        )
    model = RefusalsChatModel(inner=model)
    if config.retries:
        backoff = Backoff(**config.backoff)
        model = RetryChatModel(inner=model, retries=config.retries, backoff=backoff)
    return model


def whole_chain(
    first: BaseChatModel,
    others: Sequence[BaseChatModel],
    config: ModelConfig,
    services: Services,
) -> BaseChatModel:
    """An alias's model with its fallbacks; the last line is the outermost.

    Args:
        first: of `one_model`.
        others: the fallbacks', likewise, in order.
        config: of the alias.
        services: of the hub.
    """
    model = first
    if others:
        model = FallbackChatModel(inner=model, others=others)
    if services.cache is not None and config.response_cache_s is not None:
        model = ResponseCacheChatModel(
            inner=model,
            seconds=config.response_cache_s,
            server=config.base_url or "",
            port=services.cache,
            bridge=services.bridge,
        )
    return checked(model, config.checks)


def in_order(alias: str, configs: Mapping[str, ModelConfig]) -> list[str]:
    """The aliases that may stand in for one: its fallbacks and theirs, each once, nearest first."""
    found: list[str] = []

    def visit(name: str) -> None:
        for other in configs[name].fallbacks:
            if other != alias and other not in found:
                found.append(other)
                visit(other)

    visit(alias)
    return found

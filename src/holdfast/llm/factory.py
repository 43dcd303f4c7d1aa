"""Chat models by alias: each built once, on first use."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from holdfast.errors import ModelError, SettingsError

from .aliases import ModelChange
from .bridge import Bridge
from .calling import MARK, CallMark
from .registry import entry, provider_class

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from pydantic import BaseModel

    from holdfast.ports import (
        BreakersPort,
        BudgetsPort,
        CachePort,
        ContextCachePort,
        LimitsPort,
        ModelConfig,
    )

    from .base import Provider
    from .scripted import Script

_UNFIT = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChatModel:
    """A chat model together with what a record says of it."""

    alias: str
    provider: str
    model_name: str
    parameters: Mapping[str, Any]  # as calls are made, defaults included
    model: BaseChatModel
    _provider: Provider
    _others: Sequence[Provider] = ()  # of the fallbacks
    _take_marks: Sequence[bool] = (False,)  # whether the model does, and each fallback

    def structured(self, schema: type[BaseModel] | Mapping[str, Any]) -> dict[str, Any]:
        """Keyword arguments to bind so that the answer is JSON that fits `schema`.

        Args:
            schema: a pydantic model or a JSON schema; its title names the answer.
        """
        return _structured(self._provider, schema)

    def options(
        self,
        *,
        operation: str,
        schema: type[BaseModel] | Mapping[str, Any] | None = None,
        mark: CallMark | None = None,
    ) -> dict[str, Any]:
        """All keyword arguments to bind for one step's calls, whatever the provider.

        Args:
            operation: name of the step, by which a script knows what to answer.
            schema: as for `structured`; None for free text.
            mark: what never changes in these calls, so that the provider may keep it.
        """
        first, *others = (
            self._options(provider, operation, schema, mark if takes else None)
            for provider, takes in zip(
                (self._provider, *self._others), self._take_marks, strict=True
            )
        )
        if not others:
            return first
        from .wrappers.fallback import with_instead

        return with_instead("options", first, others)

    def _options(
        self,
        provider: Provider,
        operation: str,
        schema: type[BaseModel] | Mapping[str, Any] | None,
        mark: CallMark | None,
    ) -> dict[str, Any]:
        structured = {} if schema is None else _structured(provider, schema)
        marked = {} if mark is None else {MARK: mark}
        return {**provider.options(operation), **structured, **marked}


def _structured(provider: Provider, schema: type[BaseModel] | Mapping[str, Any]) -> dict[str, Any]:
    body = dict(schema) if isinstance(schema, Mapping) else schema.model_json_schema()
    name = _UNFIT.sub("_", str(body.get("title") or "answer"))[:64]
    return provider.structured(name, body)


class Models:
    """The aliases of one process, and the chat models made for them."""

    def __init__(
        self,
        configs: Mapping[str, ModelConfig],
        breakers: BreakersPort | None = None,
        *,
        budgets: BudgetsPort | None = None,
        limits: LimitsPort | None = None,
        cache: CachePort | None = None,
        context_cache: ContextCachePort | None = None,
    ) -> None:
        """Keep the configuration; nothing is imported or connected yet.

        Args:
            configs: by alias, secrets resolved.
            breakers: asked before each call to a server; None: nobody counts failures.
            budgets: asked before each call; None: nothing limits what is spent.
            limits: asked before calls of aliases that have some; None: nobody counts calls.
            cache: keeps answers of aliases that want it; None: none is kept.
            context_cache: asked who makes a cache of a prompt's beginning; None: nobody does.
        """
        self._ports: dict[str, Any] = {
            "breakers": breakers,
            "budgets": budgets,
            "limits": limits,
            "cache": cache,
            "context_cache": context_cache,
        }
        self._bridge = Bridge()
        self._configs = dict(configs)
        self._providers: dict[str, Provider] = {}
        self._changed: dict[tuple[str, ModelChange | None], ModelConfig] = {}
        self._made: dict[tuple[str, Callable[..., Any] | None, ModelChange | None], ChatModel] = {}

    def __contains__(self, alias: object) -> bool:
        return alias in self._configs

    def chat(
        self,
        alias: str,
        *,
        script: Script | None = None,
        pipeline: str | None = None,
        change: ModelChange | None = None,
    ) -> ChatModel:
        """The chat model behind an alias; the same one for the same alias, script and change.

        Args:
            alias: `fast`, `standard`, `expert` or a name of the settings.
            script: the pipeline's rules, used when the alias is scripted.
            pipeline: whose rules they are, named when they are missing.
            change: what the pipeline wants otherwise than the settings say.

        Raises:
            SettingsError: no such alias, or its provider cannot be loaded.
            ModelError: the alias is scripted and there are no rules.
        """
        if change is not None and change.alias is not None:
            alias = change.alias
        config = self._config(alias, change)
        rules = script if self._scripted(config) else None
        made = self._made.get((alias, rules, change))
        if made is None:
            made = self._make(config, rules, pipeline)
            # Two threads may both get here; all callers shall share the first one's model.
            made = self._made.setdefault((alias, rules, change), made)
        return made

    async def aclose(self) -> None:
        """Close every provider's connections; models are made anew when asked for again."""
        providers = list(self._providers.values())
        self._providers.clear()
        self._made.clear()
        async with AsyncExitStack() as stack:  # one that fails does not keep the others open
            for provider in providers:
                stack.push_async_callback(provider.aclose)

    def _config(self, alias: str, change: ModelChange | None = None) -> ModelConfig:
        if (known := self._changed.get((alias, change))) is not None:
            return known
        config = self._configs.get(alias)
        if config is None:
            raise SettingsError(
                f"there is no model alias {alias!r}",
                hint=f"known are {', '.join(sorted(self._configs)) or 'none'}",
            )
        if change is None:
            return config
        changed = change.applied(config)
        for other in changed.fallbacks:
            self._config(other)
        return self._changed.setdefault((alias, change), changed)

    def _scripted(self, config: ModelConfig) -> bool:
        """Whether rules answer for the alias, or for a fallback of it."""
        names = (config.provider, *(self._config(n).provider for n in self._stand_ins(config)))
        return any(self._provider(name).scripted for name in names)

    def _stand_ins(self, config: ModelConfig) -> list[str]:
        from .chain import in_order

        return in_order(config.alias, {**self._configs, config.alias: config})

    def _make(self, config: ModelConfig, rules: Script | None, pipeline: str | None) -> ChatModel:
        from .chain import Services, keeping, one_model, whole_chain

        services = Services(**self._ports, bridge=self._bridge)
        configs = [config, *(self._config(other) for other in self._stand_ins(config))]
        providers = [self._provider(one.provider) for one in configs]
        models: list[BaseChatModel] = []
        take_marks: list[bool] = []
        for provider, one in zip(providers, configs, strict=True):
            bare = _bare(provider, one, rules, pipeline)
            kept = keeping(bare, provider, one, services)
            models.append(one_model(bare, provider, one, services, kept))
            take_marks.append(kept is not None)
        return ChatModel(
            alias=config.alias,
            provider=providers[0].name,
            model_name=config.model,
            parameters=providers[0].parameters(config),
            model=whole_chain(models[0], models[1:], config, services),
            _provider=providers[0],
            _others=providers[1:],
            _take_marks=take_marks,
        )

    def _provider(self, name: str) -> Provider:
        found = self._providers.get(name)
        if found is None:
            found = self._providers.setdefault(name, provider_class(name)())
        return found


def _bare(
    provider: Provider, config: ModelConfig, rules: Script | None, pipeline: str | None
) -> BaseChatModel:
    """A provider's own chat model.

    Raises:
        ModelError: the alias is scripted and there are no rules.
    """
    if provider.scripted and rules is None:
        who = f"pipeline {pipeline}" if pipeline else "the pipeline"
        raise ModelError(
            f"alias {config.alias} is scripted, but {who} supplies no rules",
            error_class="permanent",
            hint="pass Pipeline(scripted=…) or set OPENAI_API_KEY",
        )
    known = entry(config.provider)
    if config.time_limit_s is not None and known and "timeout_s" in (known.parameters or ()):
        # No silence longer than the whole: in blocking code nothing else ends it.
        silence = float(provider.parameters(config).get("timeout_s") or config.time_limit_s)
        limited = {"timeout_s": min(silence, config.time_limit_s)}
        config = replace(config, parameters={**config.parameters, **limited})
    return provider.make(config, cast("Callable[..., Any] | None", rules))

"""Chat models by alias: each built once, on first use."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from holdfast.errors import ModelError, SettingsError

from .registry import provider_class

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from pydantic import BaseModel

    from holdfast.ports import BreakersPort, ModelConfig

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

    def structured(self, schema: type[BaseModel] | Mapping[str, Any]) -> dict[str, Any]:
        """Keyword arguments to bind so that the answer is JSON that fits `schema`.

        Args:
            schema: a pydantic model or a JSON schema; its title names the answer.
        """
        body = dict(schema) if isinstance(schema, Mapping) else schema.model_json_schema()
        name = _UNFIT.sub("_", str(body.get("title") or "answer"))[:64]
        return self._provider.structured(name, body)

    def options(
        self, *, operation: str, schema: type[BaseModel] | Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """All keyword arguments to bind for one step's calls, whatever the provider.

        Args:
            operation: name of the step, by which a script knows what to answer.
            schema: as for `structured`; None for free text.
        """
        structured = {} if schema is None else self.structured(schema)
        return {**self._provider.options(operation), **structured}


class Models:
    """The aliases of one process, and the chat models made for them."""

    def __init__(
        self, configs: Mapping[str, ModelConfig], breakers: BreakersPort | None = None
    ) -> None:
        """Keep the configuration; nothing is imported or connected yet.

        Args:
            configs: by alias, secrets resolved.
            breakers: asked before each call to a server; None: nobody counts failures.
        """
        self._breakers = breakers
        self._configs = dict(configs)
        self._providers: dict[str, Provider] = {}
        self._made: dict[tuple[str, Callable[..., Any] | None], ChatModel] = {}

    def __contains__(self, alias: object) -> bool:
        return alias in self._configs

    def chat(
        self, alias: str, *, script: Script | None = None, pipeline: str | None = None
    ) -> ChatModel:
        """The chat model behind an alias; the same one for the same alias and script.

        Args:
            alias: `fast`, `standard`, `expert` or a name of the settings.
            script: the pipeline's rules, used when the alias is scripted.
            pipeline: whose rules they are, named when they are missing.

        Raises:
            SettingsError: no such alias, or its provider cannot be loaded.
            ModelError: the alias is scripted and there are no rules.
        """
        config = self._configs.get(alias)
        if config is None:
            raise SettingsError(
                f"there is no model alias {alias!r}",
                hint=f"known are {', '.join(sorted(self._configs)) or 'none'}",
            )
        provider = self._provider(config.provider)
        rules = script if provider.scripted else None
        if provider.scripted and rules is None:
            who = f"pipeline {pipeline}" if pipeline else "the pipeline"
            raise ModelError(
                f"alias {alias} is scripted, but {who} supplies no rules",
                error_class="permanent",
                hint="pass Pipeline(scripted=…) or set OPENAI_API_KEY",
            )
        made = self._made.get((alias, rules))
        if made is None:
            made = ChatModel(
                alias=alias,
                provider=provider.name,
                model_name=config.model,
                parameters=provider.parameters(config),
                model=self._guarded(provider, config, rules),
                _provider=provider,
            )
            # Two threads may both get here; all callers shall share the first one's model.
            made = self._made.setdefault((alias, rules), made)
        return made

    async def aclose(self) -> None:
        """Close every provider's connections; models are made anew when asked for again."""
        providers = list(self._providers.values())
        self._providers.clear()
        self._made.clear()
        async with AsyncExitStack() as stack:  # one that fails does not keep the others open
            for provider in providers:
                stack.push_async_callback(provider.aclose)

    def _guarded(self, provider: Provider, config: ModelConfig, rules: Script | None) -> Any:
        model = provider.make(config, cast("Callable[..., Any] | None", rules))
        name = provider.breaker(config)
        if self._breakers is None or name is None:
            return model
        from .wrappers.breaker import BreakerChatModel

        return BreakerChatModel(inner=model, breaker=name, breakers=self._breakers, cache=False)

    def _provider(self, name: str) -> Provider:
        found = self._providers.get(name)
        if found is None:
            found = self._providers.setdefault(name, provider_class(name)())
        return found

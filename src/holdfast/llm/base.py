"""The contract of a provider: it makes chat models and says how to ask them for JSON."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from holdfast.errors import SettingsError

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from holdfast.ports import ContextCachePort, ModelConfig

    from .context_cache import ContextCacheStrategy
    from .embeddings import Embedded

_UNFIT = re.compile(r"[^A-Za-z0-9._:@/+-]")  # for the name of a breaker

DEFAULT_MAX_TOKENS = 1024
"""Limit of an answer when the alias sets none: unset would ask for the model's maximum."""

DEFAULT_TIMEOUT_S = 120.0
"""Seconds without a byte from the server before a call is given up."""

ALIAS_KEY = "holdfast_alias"
"""Under which a call's metadata names the alias that the model was asked by."""

NO_KEY = "none"
"""Sent where an alias has no key: without one the clients send the environment's to any server."""


class Provider(ABC):
    """One vendor, or one wire format that several servers speak.

    An instance belongs to one `Models` and may keep connections until `aclose`. Its module is
    imported on first use, so it may import the vendor's SDK at its top.
    """

    name: ClassVar[str]
    scripted: ClassVar[bool] = False
    """Whether the app's rules answer instead of a language model."""
    url: ClassVar[str] = ""
    """Where calls go when an alias names no server."""

    @abstractmethod
    def make(self, config: ModelConfig, script: Callable[..., Any] | None) -> BaseChatModel:
        """A chat model that streams, never retries by itself and always limits its answer.

        Args:
            config: the alias with its secret resolved.
            script: the app's rules; only a scripted provider looks at them.

        Raises:
            SettingsError: the configuration does not make a model.
        """

    @abstractmethod
    def structured(self, name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
        """What to bind so that the answer is JSON that fits `schema`.

        Args:
            name: what the answer is called, letters, digits, `_` and `-` only.
            schema: a JSON schema.
        """

    def parameters(self, config: ModelConfig) -> dict[str, Any]:
        """The parameters a call is made with, defaults included: what the record shows."""
        return dict(config.parameters)

    def breaker(self, config: ModelConfig) -> str | None:
        """Name of the breaker under which calls are made: `provider@server/model`.

        Not one for the whole server: behind a gateway one model may be away and the others not.
        None for what calls no server.
        """
        if self.scripted:
            return None
        server = urlsplit(config.base_url or self.url).netloc or "default"
        return _UNFIT.sub("_", f"{self.name}@{server}/{config.model}")[:200]

    def context_cache(
        self, config: ModelConfig, model: BaseChatModel, port: ContextCachePort | None
    ) -> ContextCacheStrategy | None:
        """How the beginning of prompts is kept; None where it is not, or not wanted.

        Args:
            config: the alias.
            model: as `make` made it.
            port: asked who makes a cache, and told of it; None: there is no hub.
        """
        del config, model, port
        return None

    def options(self, operation: str) -> dict[str, Any]:
        """What to bind so that the model knows which step calls it; nothing for most."""
        del operation
        return {}

    async def embed(self, config: ModelConfig, texts: Sequence[str], *, query: bool) -> Embedded:
        """Embed a batch in one call that is never repeated by itself.

        Args:
            config: the embedding alias with its secret resolved.
            texts: none of them empty.
            query: they are asked, not kept.

        Raises:
            SettingsError: the provider has no embeddings.
        """
        del config, texts, query
        raise SettingsError(
            f"provider {self.name} has no embeddings",
            hint="use openai, google, ollama or hashing",
        )

    async def aclose(self) -> None:  # noqa: B027 - most have nothing to give back
        """Give back connections; the models made before cannot be used any more."""


def with_limits(config: ModelConfig) -> dict[str, Any]:
    """The parameters of an alias, with a limit for the answer and one for the wait."""
    return {
        "max_tokens": DEFAULT_MAX_TOKENS,
        "timeout_s": DEFAULT_TIMEOUT_S,
        "streaming": True,
        **config.parameters,
    }

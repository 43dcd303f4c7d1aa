"""Which providers there are, where they live and what to install for them."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from types import MappingProxyType

from holdfast.errors import SettingsError

from .base import Provider

ENTRY_POINTS = "holdfast.providers"
"""Entry-point group in which other packages declare providers: name = "module:Class"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What is known of a provider without importing it."""

    path: str  # module:Class
    extra: str | None = None  # pip install 'holdfast[extra]'
    parameters: frozenset[str] | None = None  # accepted in an alias; None: it checks itself
    key_variable: str | None = None  # environment variable that vendors' tools use for the key
    url_variable: str | None = None  # and the one for another server of the same format
    own_server: bool = False  # has a server of its own, which needs a key
    cache_ttls_s: Container[int] = ()  # how long it keeps beginnings of prompts, if one may say
    caches: bool = False  # whether it does without being told how long


PROVIDERS: Mapping[str, Entry] = MappingProxyType(
    {
        "anthropic": Entry(
            path="holdfast.llm.anthropic:AnthropicProvider",
            extra="anthropic",
            parameters=frozenset(
                {
                    "temperature",
                    "top_p",
                    "top_k",
                    "max_tokens",
                    "timeout_s",
                    "stop",
                    "thinking",
                    "reasoning_effort",
                    "streaming",
                }
            ),
            key_variable="ANTHROPIC_API_KEY",
            url_variable="ANTHROPIC_BASE_URL",
            own_server=True,
            cache_ttls_s=(300, 3600),
            caches=True,
        ),
        "google": Entry(
            path="holdfast.llm.google:GoogleProvider",
            extra="google",
            parameters=frozenset(
                {
                    "temperature",
                    "top_p",
                    "top_k",
                    "max_tokens",
                    "timeout_s",
                    "seed",
                    "stop",
                    "presence_penalty",
                    "frequency_penalty",
                    "reasoning_effort",
                    "thinking_budget",
                    "include_thoughts",
                    "safety_settings",
                    "streaming",
                }
            ),
            key_variable="GOOGLE_API_KEY",
            url_variable="GOOGLE_GEMINI_BASE_URL",
            own_server=True,
            cache_ttls_s=range(60, 30 * 86400 + 1),
        ),
        "ollama": Entry(
            path="holdfast.llm.ollama:OllamaProvider",
            extra="ollama",
            parameters=frozenset(
                {
                    "temperature",
                    "top_p",
                    "top_k",
                    "max_tokens",
                    "timeout_s",
                    "seed",
                    "stop",
                    "num_ctx",
                    "repeat_penalty",
                    "reasoning",
                    "keep_alive",
                    "streaming",
                }
            ),
        ),
        "openai": Entry(
            path="holdfast.llm.openai:OpenAIProvider",
            extra="openai",
            parameters=frozenset(
                {
                    "temperature",
                    "top_p",
                    "max_tokens",
                    "timeout_s",
                    "seed",
                    "stop",
                    "presence_penalty",
                    "frequency_penalty",
                    "reasoning_effort",
                    "verbosity",
                    "service_tier",
                    "streaming",
                    "extra_body",
                }
            ),
            key_variable="OPENAI_API_KEY",
            url_variable="OPENAI_BASE_URL",
            own_server=True,
            caches=True,
        ),
        "scripted": Entry(path="holdfast.llm.scripted:ScriptedProvider", parameters=frozenset()),
    }
)


def names() -> list[str]:
    """All known providers, ours and those of other packages."""
    return sorted({*PROVIDERS, *entry_points(group=ENTRY_POINTS).names})


def entry(name: str) -> Entry | None:
    """What is known of provider `name`; None when there is no such provider.

    Built-in names win: an installed package cannot quietly take a vendor's place.
    """
    known = PROVIDERS.get(name)
    if known is not None:
        return known
    for point in entry_points(group=ENTRY_POINTS, name=name):
        return Entry(path=point.value, caches=True, cache_ttls_s=range(1, 365 * 86400))
    return None


def module_of(name: str) -> str | None:
    """The module that provider `name` lives in; None when there is no such provider."""
    known = entry(name)
    return None if known is None else known.path.partition(":")[0]


def provider_class(name: str) -> type[Provider]:
    """The class behind a provider's name, imported now.

    Raises:
        SettingsError: unknown name, or a package it needs is not installed.
    """
    known = entry(name)
    if known is None:
        raise SettingsError(
            f"there is no model provider {name!r}", hint=f"known are {', '.join(names())}"
        )
    module, _, attribute = known.path.partition(":")
    try:
        found: object = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        wanted = f"holdfast[{known.extra}]" if known.extra else error.name
        raise SettingsError(
            f"provider {name} needs {error.name}, which is not installed",
            hint=f"pip install '{wanted}'",
        ) from error
    except AttributeError as error:
        raise SettingsError(f"provider {name}: {module} has no {attribute}") from error
    if not (isinstance(found, type) and issubclass(found, Provider)):
        raise SettingsError(
            f"provider {name}: {known.path} is not a Provider",
            hint="subclass holdfast.llm.base.Provider",
        )
    return found

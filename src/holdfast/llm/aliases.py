"""What the settings say about models, read into one `ModelConfig` per alias."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from holdfast.errors import SettingsError
from holdfast.ports import ModelConfig

from . import registry

SETTING = "HOLDFAST_MODELS"

LEVELS = ("fast", "standard", "expert")
"""Quality levels: aliases that always exist."""

_FIELDS = frozenset({"model", "base_url", "api_key", "parameters"})
_ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")

_OPENAI_LEVELS: Mapping[str, tuple[str, int]] = {
    # OpenAI's own three-step choice (cost, balance, difficult work). They reason before they
    # answer, and reasoning counts against max_tokens: hence the room.
    "fast": ("gpt-6-luna", 4096),
    "standard": ("gpt-6.1-sol", 8192),
    "expert": ("gpt-6-astra", 16384),
}


def read_aliases(
    value: Mapping[str, Any] | None, environ: Mapping[str, str]
) -> dict[str, ModelConfig]:
    """All aliases: those of the settings over the defaults.

    The defaults are OpenAI's models when `OPENAI_API_KEY` or `OPENAI_BASE_URL` is set, else the
    scripted model for all three levels.

    Args:
        value: alias → `"provider:model"`, or an object with `model` and any of `base_url`,
            `api_key` (a reference: `env:NAME` or `file:PATH`) and `parameters`.
        environ: environment variables, as `settings` read them.

    Raises:
        SettingsError: unknown field, parameter or provider, a literal or missing secret; the
            message names the alias and never shows a secret.
    """
    aliases = _defaults(environ)
    for alias, spec in (value or {}).items():
        aliases[alias] = _read(alias, spec, environ)
    return aliases


def resolve_secret(reference: str, environ: Mapping[str, str], *, where: str) -> str:
    """The secret a reference points to.

    Args:
        reference: `env:NAME` or `file:PATH` (its text without surrounding white space).
        environ: environment variables.
        where: what the secret is for, used in errors.

    Raises:
        SettingsError: not a reference, or it leads nowhere. What was given is not repeated: it
            may be the secret itself.
    """
    kind, _, target = reference.partition(":")
    if kind == "env" and target:
        secret = environ.get(target, "").strip()
        if not secret:
            raise SettingsError(f"{where}: environment variable {target} is not set")
        return secret
    if kind == "file" and target:
        try:
            secret = Path(target).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = type(error).__name__
            raise SettingsError(f"{where}: file {target} cannot be read ({reason})") from error
        if not secret:
            raise SettingsError(f"{where}: file {target} is empty")
        return secret
    raise SettingsError(
        f"{where}: a secret must be a reference, not the secret itself",
        hint="write env:NAME or file:PATH",
    )


def _defaults(environ: Mapping[str, str]) -> dict[str, ModelConfig]:
    if not (environ.get("OPENAI_API_KEY") or environ.get("OPENAI_BASE_URL")):
        return {
            level: ModelConfig(alias=level, provider="scripted", model="rules") for level in LEVELS
        }
    return {
        level: _read(
            level,
            {"model": f"openai:{model}", "parameters": {"max_tokens": max_tokens}},
            environ,
        )
        for level, (model, max_tokens) in _OPENAI_LEVELS.items()
    }


def _read(alias: str, spec: Any, environ: Mapping[str, str]) -> ModelConfig:
    where = f"{SETTING}, alias {alias!r}"
    if not _ALIAS.fullmatch(alias):
        raise SettingsError(
            f"{where}: not a name", hint="a letter, then letters, digits, dots, dashes"
        )
    fields = _fields(where, spec)
    provider, model, known = _model(where, fields["model"])
    parameters = _parameters(where, fields.get("parameters"), provider, known)
    base_url = _base_url(where, fields.get("base_url"))
    api_key = fields.get("api_key")
    if api_key is not None:
        if not isinstance(api_key, str):
            raise SettingsError(f"{where}: api_key must be text", hint="env:NAME or file:PATH")
        api_key = resolve_secret(api_key, environ, where=f"{where}, api_key")
    elif base_url is None and known.key_variable:
        # Only for the vendor's usual server: a key never goes to a URL it was not meant for.
        api_key = environ.get(known.key_variable, "").strip() or None
    if base_url is None and known.url_variable:
        base_url = _base_url(known.url_variable, environ.get(known.url_variable, "").strip())
    if known.own_server and base_url is None and api_key is None:
        raise SettingsError(
            f"{where}: {provider} needs a key",
            hint=f"set {known.key_variable}, or api_key to env:NAME, or base_url to a server "
            "that needs none",
        )
    return ModelConfig(
        alias=alias,
        provider=provider,
        model=model,
        parameters=parameters,
        base_url=base_url,
        api_key=api_key,
    )


def _fields(where: str, spec: Any) -> Mapping[str, Any]:
    if isinstance(spec, str):
        return {"model": spec}
    if not isinstance(spec, Mapping):
        raise SettingsError(f"{where}: expected 'provider:model' or an object with a model")
    fields = cast("Mapping[str, Any]", spec)
    unknown = sorted(str(name) for name in fields if name not in _FIELDS)
    if unknown:
        raise SettingsError(
            f"{where}: unknown field {unknown[0]!r}", hint=f"known are {', '.join(sorted(_FIELDS))}"
        )
    if "model" not in fields:
        raise SettingsError(f"{where}: model is missing", hint="model: 'provider:model'")
    return fields


def _model(where: str, value: Any) -> tuple[str, str, registry.Entry]:
    if not isinstance(value, str):
        raise SettingsError(f"{where}: model must be text", hint="'provider:model'")
    provider, _, model = value.partition(":")
    known = registry.entry(provider)
    if known is None:
        raise SettingsError(
            f"{where}: unknown provider {provider!r}",
            hint=f"write 'provider:model'; known providers are {', '.join(registry.names())}",
        )
    if provider == "scripted":
        model = model or "rules"
    if not model:
        raise SettingsError(f"{where}: no model named after {provider!r}", hint="'provider:model'")
    return provider, model, known


def _base_url(where: str, value: Any) -> str | None:
    if value is None or value == "":
        return None
    try:
        parts = urlsplit(value) if isinstance(value, str) else None
    except ValueError:
        parts = None
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
        raise SettingsError(f"{where}: base_url must be an http or https URL")
    if parts.username or parts.password:
        raise SettingsError(
            f"{where}: base_url holds a password", hint="put it into api_key, by reference"
        )
    return str(value).rstrip("/")


def _parameters(where: str, value: Any, provider: str, known: registry.Entry) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise SettingsError(f"{where}: parameters must be an object")
    parameters = dict(cast("Mapping[str, Any]", value))
    if known.parameters is not None:
        for name in parameters:
            if name not in known.parameters:
                raise SettingsError(
                    f"{where}: {provider} has no parameter {name!r}",
                    hint=f"known are {', '.join(sorted(known.parameters)) or 'none'}",
                )
    limit = parameters.get("max_tokens", 1)
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise SettingsError(f"{where}: max_tokens must be a whole number above 0, not {limit!r}")
    for name in ("temperature", "timeout_s"):
        number = parameters.get(name, 1)
        if isinstance(number, bool) or not isinstance(number, int | float) or number < 0:
            raise SettingsError(f"{where}: {name} must be a number, not {number!r}")
    return parameters

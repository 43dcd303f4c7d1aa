"""What the settings say about models, read into one `ModelConfig` per alias."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import orjson

from holdfast.domain.redelivery import Backoff
from holdfast.errors import DeclarationError, SettingsError
from holdfast.ports import LIMITS, ModelConfig

from . import registry

SETTING = "HOLDFAST_MODELS"

LEVELS = ("fast", "standard", "expert")
"""Quality levels: aliases that always exist."""

OWN_ALIAS = "agent"
"""By which an agent asks the model that its own configuration names, in its own process."""

MAX_RETRIES = 10

_ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")

_OPENAI_LEVELS: Mapping[str, tuple[str, int]] = {
    # OpenAI's own three-step choice (cost, balance, difficult work). They reason before they
    # answer, and reasoning counts against max_tokens: hence the room.
    "fast": ("gpt-6-luna", 4096),
    "standard": ("gpt-6.1-sol", 8192),
    "expert": ("gpt-6-astra", 16384),
}


@dataclass(frozen=True, slots=True)
class Source:
    """Where aliases are written down.

    Attributes:
        name: of the setting, or of the file.
        line: of what stands at a path in the file; None where there are no lines.
    """

    name: str = SETTING
    line: Callable[[tuple[str, ...]], int] | None = None

    def at(self, alias: str, *path: str) -> str:
        """An alias or a field of it, for errors."""
        told = ", ".join((f"alias {alias!r}", *path))
        if self.line is None:
            return f"{self.name}, {told}"
        return f"{self.name}:{self.line((alias, *path))}: {told}"


Where = Callable[..., str]
"""A place for errors: `where()` is the alias, `where("limits", "in_flight")` a field of it."""


def read_aliases(
    value: Mapping[str, Any] | None,
    environ: Mapping[str, str],
    *,
    file: tuple[Mapping[str, Any], Source] | None = None,
) -> dict[str, ModelConfig]:
    """All aliases: those of the settings over those of the file over the defaults.

    The defaults are OpenAI's models when `OPENAI_API_KEY` or `OPENAI_BASE_URL` is set, else the
    scripted model for all three levels.

    Args:
        value: alias → `"provider:model"`, or an object with `model` and any of `FIELDS`;
            `api_key` is a reference: `env:NAME` or `file:PATH`.
        environ: environment variables, as `settings` read them.
        file: the same out of a file, and where it stands.

    Raises:
        SettingsError: unknown field, parameter, provider or fallback, fallbacks that lead back, a
            literal or missing secret; the message names the place and never shows a secret.
    """
    aliases = _defaults(environ)
    places: dict[str, Where] = {}
    sources = [(value or {}, Source())] if file is None else [file, (value or {}, Source())]
    for written, source in sources:
        for alias, spec in written.items():
            place = places[alias] = place_of(source, alias)
            aliases[alias] = read_alias(alias, spec, environ, place)
    for alias, place in places.items():
        _check_fallbacks(alias, aliases, place)
    return aliases


def place_of(source: Source, alias: str) -> Where:
    """An alias's place, for errors."""
    return lambda *path: source.at(alias, *path)


def _check_fallbacks(alias: str, aliases: Mapping[str, ModelConfig], where: Where) -> None:
    def follow(name: str, path: tuple[str, ...]) -> None:
        for other in aliases[name].fallbacks:
            if other == alias:
                circle = " → ".join((*path, other))
                raise SettingsError(f"{where('fallbacks')}: they lead back to it: {circle}")
            if other not in aliases:
                raise SettingsError(
                    f"{where('fallbacks')}: there is no alias {other!r}",
                    hint=f"known are {', '.join(sorted(aliases))}",
                )
            if other not in path:  # a circle that others are in is told of them
                follow(other, (*path, other))

    follow(alias, (alias,))


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
        level: read_alias(
            level,
            {"model": f"openai:{model}", "parameters": {"max_tokens": max_tokens}},
            environ,
            place_of(Source(), level),
        )
        for level, (model, max_tokens) in _OPENAI_LEVELS.items()
    }


def read_alias(
    alias: str,
    spec: Any,
    environ: Mapping[str, str],
    where: Where,
    *,
    fields_known: tuple[str, ...] | None = None,
    parameters: frozenset[str] | None = None,
    without: str | None = None,
) -> ModelConfig:
    """One alias of a setting.

    Args:
        alias: its name.
        spec: see `read_aliases`.
        environ: environment variables.
        where: it stands, for errors.
        fields_known: that it may have; None for all of `FIELDS`.
        parameters: known ones; None for those of the provider's chat models.
        without: a provider that is none of the registry's and needs no server.

    Raises:
        SettingsError: see `read_aliases`.
    """
    if not _ALIAS.fullmatch(alias):
        raise SettingsError(
            f"{where()}: not a name", hint="a letter, then letters, digits, dots, dashes"
        )
    fields = _fields(where, spec, FIELDS if fields_known is None else fields_known)
    provider, model, known = _model(where, fields["model"], without)
    taken = known.parameters if parameters is None else parameters
    given = _parameters(where, fields.get("parameters"), provider, taken)
    context_cache, ttl_s = _context_cache(where, fields.get("context_cache"), provider, known)
    base_url = _base_url(where("base_url"), fields.get("base_url"))
    api_key = fields.get("api_key")
    if api_key is not None:
        if not isinstance(api_key, str):
            raise SettingsError(f"{where()}: api_key must be text", hint="env:NAME or file:PATH")
        api_key = resolve_secret(api_key, environ, where=where("api_key"))
    elif base_url is None and known.key_variable:
        # Only for the vendor's usual server: a key never goes to a URL it was not meant for.
        api_key = environ.get(known.key_variable, "").strip() or None
    if base_url is None and known.url_variable:
        base_url = _base_url(known.url_variable, environ.get(known.url_variable, "").strip())
    if known.own_server and base_url is None and api_key is None:
        raise SettingsError(
            f"{where()}: {provider} needs a key",
            hint=f"set {known.key_variable}, or api_key to env:NAME, or base_url to a server "
            "that needs none",
        )
    return ModelConfig(
        alias=alias,
        provider=provider,
        model=model,
        parameters=given,
        base_url=base_url,
        api_key=api_key,
        context_cache=context_cache,
        cache_ttl_s=ttl_s,
        **_behaviour(where, fields),
    )


def own_alias(
    provider: str,
    model_id: str,
    parameters: Mapping[str, Any],
    environ: Mapping[str, str],
    where: Where,
) -> ModelConfig:
    """The model that an agent's configuration names, where it names no alias of the settings.

    Args:
        provider: its name.
        model_id: of that provider.
        parameters: of its calls, the temperature included.
        environ: environment variables: where the provider's usual key and server stand.
        where: it stands, for errors.

    Raises:
        SettingsError: an unknown provider or parameter, or no key.
    """
    spec = {"model": f"{provider}:{model_id}", "parameters": dict(parameters)}
    return read_alias(OWN_ALIAS, spec, environ, where)


def _fields(where: Where, spec: Any, known: tuple[str, ...]) -> Mapping[str, Any]:
    if isinstance(spec, str):
        return {"model": spec}
    fields = _mapping(spec, f"{where()}: expected 'provider:model' or an object with a model")
    _known(fields, known, where)
    if "model" not in fields:
        raise SettingsError(f"{where()}: model is missing", hint="model: 'provider:model'")
    return fields


def _model(where: Where, value: Any, without: str | None) -> tuple[str, str, registry.Entry]:
    if not isinstance(value, str):
        raise SettingsError(f"{where()}: model must be text", hint="'provider:model'")
    provider, _, model = value.partition(":")
    known = registry.Entry(path="") if provider == without else registry.entry(provider)
    if known is None:
        names = registry.names() if without is None else sorted([*registry.names(), without])
        raise SettingsError(
            f"{where()}: unknown provider {provider!r}",
            hint=f"write 'provider:model'; known providers are {', '.join(names)}",
        )
    if provider == "scripted":
        model = model or "rules"
    if not model:
        raise SettingsError(
            f"{where()}: no model named after {provider!r}", hint="'provider:model'"
        )
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


def _parameters(
    where: Where, value: Any, provider: str, known: frozenset[str] | None
) -> dict[str, Any]:
    if value is None:
        return {}
    parameters = dict(_mapping(value, f"{where()}: parameters must be an object"))
    if known is not None:
        for name in parameters:
            if name not in known:
                raise SettingsError(
                    f"{where('parameters', name)}: {provider} has no parameter {name!r}",
                    hint=f"known are {', '.join(sorted(known)) or 'none'}",
                )
    if "max_tokens" in parameters:
        _whole(where("parameters", "max_tokens"), parameters["max_tokens"])
    for name in ("temperature", "timeout_s"):
        if name in parameters:
            _number(where("parameters", name), parameters[name], above=None)
    return parameters


def _context_cache(
    where: Where, value: Any, provider: str, known: registry.Entry
) -> tuple[bool | None, int | None]:
    """Whether beginnings of prompts are to be kept, and for how many seconds."""
    if value is None or value is False:
        return value, None
    if value is True and known.caches:
        return True, None
    fields: Mapping[str, Any] = {}
    if isinstance(value, Mapping):
        fields = cast("Mapping[str, Any]", value)
    ttl_s = fields.get("ttl_s")
    if set(fields) == {"ttl_s"} and type(ttl_s) is int and ttl_s in known.cache_ttls_s:
        return True, ttl_s
    ways = ["false"] + ["true"] * known.caches
    if isinstance(known.cache_ttls_s, range):
        least, most = known.cache_ttls_s.start, known.cache_ttls_s.stop - 1
        ways.append(f'{{"ttl_s": …}} from {least} to {most}')
    elif known.cache_ttls_s:
        ways.append(f'{{"ttl_s": …}} of {known.cache_ttls_s}')
    raise SettingsError(
        f"{where('context_cache')}: {provider} has no context_cache {value!r}",
        hint=f"write {', '.join(ways)}",
    )


def _behaviour(where: Where, fields: Mapping[str, Any]) -> dict[str, Any]:
    """What is done around calls, of the fields that are given."""
    return {
        name: reader(where, fields[name])
        for name, reader in _READERS.items()
        if fields.get(name) is not None
    }


def _fallbacks(where: Where, value: Any) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(n, str) for n in names):  # pyright: ignore[reportUnknownVariableType]
        raise SettingsError(f"{where('fallbacks')}: expected a list of aliases")
    return tuple(cast("list[str]", names))


def _limits(where: Where, value: Any) -> dict[str, int]:
    limits = _mapping(value, f"{where('limits')}: expected an object", hint=", ".join(LIMITS))
    _known(limits, LIMITS, where, "limits")
    return {name: _whole(where("limits", name), given) for name, given in limits.items()}


def _retries(where: Where, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_RETRIES:
        raise SettingsError(
            f"{where('retries')}: must be a whole number from 0 to {MAX_RETRIES}, not {value!r}"
        )
    return value


def _backoff(where: Where, value: Any) -> dict[str, float]:
    known = tuple(Backoff.__dataclass_fields__)
    given = _mapping(value, f"{where('backoff')}: expected an object", hint=", ".join(known))
    _known(given, known, where, "backoff")
    read = {name: _number(where("backoff", name), one, above=None) for name, one in given.items()}
    if read.get("jitter", 0) > 1:
        raise SettingsError(
            f"{where('backoff', 'jitter')}: must be at most 1, not {read['jitter']}"
        )
    return read


def _price(where: Where, value: Any) -> str:
    provider, _, model = value.partition(":") if isinstance(value, str) else ("", "", "")
    if not provider or not model:
        raise SettingsError(
            f"{where('price')}: must be text",
            hint="'provider:model', of HOLDFAST_PRICES or a vendor's",
        )
    return str(value)


def _seconds(name: str) -> Callable[[Where, Any], float]:
    return lambda where, value: _number(where(name), value, above=0)


_READERS: Mapping[str, Callable[[Where, Any], Any]] = {
    "fallbacks": _fallbacks,
    "limits": _limits,
    "price": _price,
    "retries": _retries,
    "backoff": _backoff,
    "time_limit_s": _seconds("time_limit_s"),
    "response_cache_s": _seconds("response_cache_s"),
}

FIELDS = ("model", "base_url", "api_key", "parameters", "context_cache", *_READERS)
"""Of an alias."""

CHANGED = ("alias", "parameters", *(name for name in _READERS if name not in {"limits", "price"}))
"""What a pipeline may want otherwise. Where calls go, how many, and their price is the hub's."""


@dataclass(frozen=True, slots=True)
class ModelChange:
    """What a pipeline or a node wants otherwise than an alias of the settings.

    Attributes:
        where: it was declared, for errors.
        alias: of the settings, which is changed; None: the one that is asked for.
        given: the fields as JSON.
    """

    where: str
    alias: str | None = None
    given: bytes = b"{}"

    @classmethod
    def of(cls, spec: Any, where: str) -> ModelChange:
        """Out of what was declared: another alias's name, or any of `CHANGED`.

        Raises:
            DeclarationError: it cannot be meant.
        """
        try:
            if isinstance(spec, str):
                return cls(where, spec)
            place: Where = lambda *path: ", ".join((where, *path))  # noqa: E731
            fields = dict(_mapping(spec, f"{where}: expected an alias's name or an object"))
            _known(fields, CHANGED, place)
            alias = fields.pop("alias", None)
            if alias is not None and not isinstance(alias, str):
                raise SettingsError(f"{where}, alias: must be text")
            _behaviour(place, fields)
            if fields.get("parameters") is not None:
                _mapping(fields["parameters"], f"{where}: parameters must be an object")
            return cls(where, alias, orjson.dumps(fields, option=orjson.OPT_SORT_KEYS))
        except SettingsError as error:
            raise DeclarationError(error.message, hint=error.hint) from None
        except TypeError as error:
            raise DeclarationError(f"{where}: {error}") from error

    def names(self, asked: str) -> tuple[str, ...]:
        """The aliases of the settings that it speaks of, where `asked` is asked for."""
        fields: dict[str, Any] = orjson.loads(self.given)
        return (self.alias or asked, *fields.get("fallbacks", ()))

    def with_parameters(self, parameters: Mapping[str, Any]) -> ModelChange:
        """The same with further parameters."""
        fields: dict[str, Any] = orjson.loads(self.given)
        fields["parameters"] = {**fields.get("parameters", {}), **parameters}
        return replace(self, given=orjson.dumps(fields, option=orjson.OPT_SORT_KEYS))

    def applied(self, config: ModelConfig) -> ModelConfig:
        """An alias with the change.

        Raises:
            SettingsError: its provider has no such parameter.
        """
        fields: dict[str, Any] = orjson.loads(self.given)
        place: Where = lambda *path: ", ".join((self.where, *path))  # noqa: E731
        known = registry.entry(config.provider)
        assert known is not None  # noqa: S101 - the settings named it
        own = _parameters(place, fields.get("parameters"), config.provider, known.parameters)
        return replace(config, parameters={**config.parameters, **own}, **_behaviour(place, fields))


def _mapping(value: Any, message: str, *, hint: str = "") -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise SettingsError(message, hint=hint)
    return cast("Mapping[str, Any]", value)


def _known(fields: Mapping[str, Any], known: tuple[str, ...], where: Where, *path: str) -> None:
    unknown = sorted(str(name) for name in fields if name not in known)
    if unknown:
        raise SettingsError(
            f"{where(*path, unknown[0])}: unknown field {unknown[0]!r}",
            hint=f"known are {', '.join(sorted(known))}",
        )


def _whole(where: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise SettingsError(f"{where}: must be a whole number above 0, not {value!r}")
    return value


def _number(where: str, value: Any, *, above: float | None) -> float:
    """A number of at least 0, or above a bound."""
    right = not isinstance(value, bool) and isinstance(value, int | float)
    if not right or value < 0 or (above is not None and value <= above):
        least = "not below 0" if above is None else f"above {above:g}"
        raise SettingsError(f"{where}: must be a number {least}, not {value!r}")
    return value

"""Own prices and the own tariff, read from files the settings name (YAML, of which JSON is a part).

"openai:llama-4":                     credits:
  - {from: 2026-01-01, input: 0.20,     "support.*:judge": {fast: 1, "*": 3}
     output: 0.60, cache_read: 0.02}    "*": 1
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast

import yaml

from holdfast.errors import SettingsError

from .prices import Rate

_PRICES = {
    "input": "input",
    "output": "output",
    "cache_read": "cache_read",
    "cache_write": "cache_write",
    "cache_write_1h": "cache_write_1h",
    "reasoning": "reasoning",
    "input_audio": "input_audio",
    "output_audio": "output_audio",
    "input_image": "input_image",
    "output_image": "output_image",
    "per_thousand_calls": "thousand_requests",
    "storage_hour": "storage_hour",
}
"""Words of the file, in dollars per million tokens, and the fields of `Rate`."""

ANY = "*"


class _Loader(yaml.SafeLoader):
    """Refuses a key that comes twice, and reads numbers as they are written."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """See PyYAML."""
        seen: set[Any] = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if name in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"{name!r} stands twice", problem_mark=key.start_mark
                )
            seen.add(name)
        return super().construct_mapping(node, deep=deep)


def _decimal(loader: _Loader, node: yaml.ScalarNode) -> Decimal:
    return Decimal(loader.construct_scalar(node))


_Loader.add_constructor("tag:yaml.org,2002:float", _decimal)


@dataclass(frozen=True, slots=True)
class Tariff:
    """Credits by operation and quality level; the first pattern that fits counts.

    Attributes:
        rules: pattern of `pipeline:node`, and credits by alias (`*`: any other).
    """

    rules: tuple[tuple[str, Mapping[str, int]], ...] = ()

    def credits(self, name: str, operation: str, alias: str | None) -> int:
        """What one accepted answer costs.

        Args:
            name: of the pipeline or agent.
            operation: its node.
            alias: by which the model was asked.
        """
        for pattern, levels in self.rules:
            if fnmatchcase(f"{name}:{operation}", pattern):
                return levels.get(alias or "", levels.get(ANY, 0))
        return 0


def read_prices(path: Path, setting: str) -> dict[tuple[str, str], Sequence[Rate]]:
    """Own prices by (provider, model), the latest first.

    Raises:
        SettingsError: the file cannot be read or says something unknown; the message names where.
    """
    prices: dict[tuple[str, str], Sequence[Rate]] = {}
    for name, given in _read(path, setting).items():
        where = f"{setting}, {name}"
        provider, _, model = name.partition(":")
        if not provider or not model:
            raise SettingsError(f"{where}: not of the form provider:model")
        entries = cast("list[Any]", given) if isinstance(given, list) else [given]
        rates = [_rate(where, one) for one in entries]
        days = [one.since for one in rates]
        if not rates or len(set(days)) < len(days):
            raise SettingsError(f"{where}: one price for each day `from`, and at least one")
        prices[provider, model] = sorted(rates, key=lambda one: one.since or date.min, reverse=True)
    return prices


def read_tariff(path: Path, setting: str) -> Tariff:
    """The own tariff.

    Raises:
        SettingsError: the file cannot be read or says something unknown; the message names where.
    """
    return Tariff(
        tuple(
            (pattern, _levels(f"{setting}, {pattern}", given))
            for pattern, given in _read(path, setting).items()
        )
    )


def _read(path: Path, setting: str) -> Mapping[str, Any]:
    try:
        found: object = yaml.load(path.read_text("utf-8"), _Loader)  # noqa: S506 - a SafeLoader
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{setting}: {path} cannot be read: {error}") from error
    except (yaml.YAMLError, InvalidOperation, ValueError) as error:
        raise SettingsError(f"{setting}: {path} is not YAML: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in cast("Any", found)):
        raise SettingsError(f"{setting}: {path} must be an object whose keys are texts")
    return cast("Mapping[str, Any]", found)


def _rate(where: str, given: Any) -> Rate:
    if not isinstance(given, dict):
        raise SettingsError(f"{where}: expected an object with input and output")
    fields = cast("dict[str, Any]", given)
    unknown = sorted(str(name) for name in fields if name not in _PRICES and name != "from")
    if unknown:
        known = ", ".join(("from", *_PRICES))
        raise SettingsError(f"{where}: unknown field {unknown[0]!r}", hint=f"known are {known}")
    missing = [name for name in ("input", "output") if name not in fields]
    if missing:
        raise SettingsError(f"{where}: {missing[0]} is missing")
    since = fields.get("from")
    if isinstance(since, str):
        try:
            since = date.fromisoformat(since)
        except ValueError:
            raise SettingsError(f"{where}: from must be a day such as 2026-01-31") from None
    if since is not None and type(since) is not date:
        raise SettingsError(f"{where}: from must be a day such as 2026-01-31")
    values = {
        field: _dollars(where, word, fields[word])
        for word, field in _PRICES.items()
        if word in fields
    }
    return Rate(since=since, **values)


def _dollars(where: str, word: str, given: Any) -> Decimal:
    number = Decimal(given) if isinstance(given, int) and not isinstance(given, bool) else given
    if isinstance(number, str):
        try:
            number = Decimal(number)
        except InvalidOperation:
            number = None
    if not isinstance(number, Decimal) or not number.is_finite() or number < 0:
        raise SettingsError(f"{where}: {word} must be dollars per million tokens, not {given!r}")
    return number


def _levels(where: str, given: Any) -> Mapping[str, int]:
    levels = cast("Any", given) if isinstance(given, dict) else {ANY: given}
    found: dict[str, int] = {}
    for level, amount in levels.items():
        if not isinstance(level, str) or isinstance(amount, bool) or not isinstance(amount, int):
            raise SettingsError(f"{where}: expected whole credits, or an object of alias: credits")
        if amount < 0:
            raise SettingsError(f"{where}: {amount} credits are fewer than none")
        found[level] = amount
    return found

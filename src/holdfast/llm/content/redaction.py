"""What a record does not keep: rules by which texts are redacted before they are recorded."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, cast

from holdfast.domain.redaction import MAX_KIND_CHARS, between, placeholder
from holdfast.errors import SettingsError
from holdfast.telemetry import logger

from .findings import Finding
from .placeholders import Placeholders, spans
from .rules import find_check

log = logger("llm.content")

_EXAMPLE = 'such as {"check": "personal"} or {"pattern": "K-[0-9]{6}", "kind": "customer"}'

FAILED_CHECK = "not recorded, a check failed"
"""Kind of the placeholder for a whole text that could not be looked at."""


@dataclass(frozen=True, kw_only=True)
class Redaction:
    """One thing that is not recorded.

    Attributes:
        check: that finds it: a name, or `package.module:name` of one's own; or
        pattern: a regular expression, what it matches of
        kind: what the pattern finds, as the record calls it.
        kinds: only findings of these kinds of the check; empty: all.
    """

    check: str | None = None
    pattern: str | None = None
    kind: str | None = None
    kinds: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """As it is written in settings."""
        return {name: value for name, value in asdict(self).items() if value}

    def find(self, text: str) -> Iterator[Finding]:
        """What it finds in a text."""
        if self.check is None:
            for match in self._pattern.finditer(text):
                yield Finding(kind=self.kind or "", start=match.start(), end=match.end())
            return
        for found in find_check(self.check).look(text):
            if not self.kinds or found.kind in self.kinds:
                yield found

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile(self.pattern or "")


class Redactor:
    """Redacts the texts of one execution: the same text has the same placeholder."""

    def __init__(
        self,
        rules: Sequence[Redaction],
        begin: str = "",
        on_fault: Callable[[str, Exception], None] = lambda _where, _fault: None,
    ) -> None:
        """Start with no placeholders.

        Args:
            rules: what is taken out.
            begin: before each number; tells parts of one execution apart.
            on_fault: told when a check fails; the text is then not recorded at all.
        """
        self._rules = tuple(rules)
        self._on_fault = on_fault
        self._table = Placeholders(begin, placeholder)

    def __call__(self, text: str) -> str:
        """A text as it may be kept; never raises. What was redacted before stays as it is."""
        if "⟦" not in text:
            return self._redacted(text)
        return "".join(
            piece if done else self._redacted(piece) for done, piece in between(text) if piece
        )

    def _redacted(self, text: str) -> str:
        try:
            found = spans(one for rule in self._rules for one in rule.find(text))
        except Exception as fault:  # noqa: BLE001 - somebody's check: told, and nothing is let through
            self._on_fault("redaction", fault)
            return self._table.of(FAILED_CHECK, text)
        if not found:
            return text
        pieces: list[str] = []
        at = 0
        for kind, start, end in found:
            pieces += [text[at:start], self._table.of(kind, text[start:end])]
            at = end
        return "".join([*pieces, text[at:]])

    @property
    def counts(self) -> dict[str, int]:
        """How many different texts of which kind were taken out."""
        return self._table.counts


def read_redactions(given: Any, where: str) -> tuple[Redaction, ...]:
    """Rules out of settings.

    Args:
        given: a list of fields of `Redaction`.
        where: what they belong to, for errors.

    Raises:
        SettingsError: a rule is wrong; the message names it.
    """
    if not isinstance(given, list):
        raise SettingsError(f"{where}: a list of rules is expected", hint=_EXAMPLE)
    return tuple(
        _rule(one, f"{where}: rule {place}")
        for place, one in enumerate(cast("list[Any]", given), 1)
    )


def _rule(given: Any, where: str) -> Redaction:
    if not isinstance(given, Mapping):
        raise SettingsError(f"{where}: an object is expected", hint=_EXAMPLE)
    fields = cast("Mapping[str, Any]", given)
    for name in fields:
        if name not in Redaction.__dataclass_fields__:
            raise SettingsError(f"{where}: unknown field {name!r}", hint=_EXAMPLE)
    if ("check" in fields) == ("pattern" in fields):
        raise SettingsError(f"{where}: it names a check or a pattern", hint=_EXAMPLE)
    if "pattern" in fields:
        return _own_pattern(fields, where)
    if "kind" in fields:
        raise SettingsError(
            f"{where}: kind is what a pattern finds; kinds narrows a check", hint=_EXAMPLE
        )
    kinds: Any = fields.get("kinds", ())
    if not isinstance(kinds, list | tuple) or not _texts(cast("Iterable[Any]", kinds)):
        raise SettingsError(f"{where}: kinds is a list of names")
    name = fields["check"]
    if not isinstance(name, str) or not name:
        raise SettingsError(f"{where}: check is a name", hint=_EXAMPLE)
    try:
        check = find_check(name)
    except SettingsError as error:
        raise SettingsError(f"{where}: {error.message}", hint=error.hint) from error
    if not check.spans:
        raise SettingsError(
            f"{where}: {name} cannot redact: it does not say where its findings stand"
        )
    return Redaction(check=name, kinds=tuple(cast("Iterable[str]", kinds)))


def _own_pattern(fields: Mapping[str, Any], where: str) -> Redaction:
    pattern, kind = fields["pattern"], fields.get("kind")
    if "kinds" in fields:
        raise SettingsError(f"{where}: kinds narrows a check, not a pattern", hint=_EXAMPLE)
    if (
        not isinstance(kind, str)
        or not kind
        or len(kind) > MAX_KIND_CHARS
        or set(kind) & set("⟦⟧\n")
    ):
        raise SettingsError(
            f"{where}: kind says what the pattern finds, in {MAX_KIND_CHARS} characters at most",
            hint=_EXAMPLE,
        )
    if not isinstance(pattern, str):
        raise SettingsError(f"{where}: pattern is a regular expression", hint=_EXAMPLE)
    try:
        empty = re.compile(pattern).match("")
    except re.error as error:
        raise SettingsError(f"{where}: pattern: {error}") from error
    if empty is not None:
        raise SettingsError(f"{where}: pattern matches an empty text: it would find it everywhere")
    return Redaction(pattern=pattern, kind=kind)


def _texts(given: Iterable[Any]) -> bool:
    return all(isinstance(one, str) for one in given)

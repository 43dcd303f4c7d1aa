"""Which check is made where, and what follows: the rules of a deployment or a pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Final, cast

from holdfast.errors import SettingsError
from holdfast.llm.checks import suspicious
from holdfast.telemetry import logger

from . import markup, personal, secrets
from .findings import ContentCheck, Finding, Look

log = logger("llm.content")

ENTRY_POINTS = "holdfast.checks"
"""Entry-point group in which other packages declare checks: name = "module:check"."""

PLACES = ("input", "output")
ACTIONS = ("flag", "redact", "refuse")


def _injected(text: str) -> Iterator[Finding]:
    for found in suspicious(text):
        kind, _, excerpt = found.partition(": ")
        yield Finding(kind=kind, reason=excerpt)


CHECKS: Final[Mapping[str, ContentCheck]] = {
    # Looks at a folded text, whose places are not those of the text.
    "injection": ContentCheck(name="injection", look=_injected, spans=False),
    "secrets": ContentCheck(name="secrets", look=secrets.look),
    "personal": ContentCheck(name="personal", look=personal.look),
    "markup": ContentCheck(name="markup", look=markup.look),
}
"""The checks that are there by name; an installed package cannot take their places."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One check at one place.

    Attributes:
        check: its name, or `package.module:name` of one's own.
        on: `input`, what the model reads, or `output`, what it says.
        action: `flag`, `redact` or `refuse`.
        kinds: only findings of these kinds; empty: all.
    """

    check: str
    on: str
    action: str
    kinds: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """As it is written in settings."""
        return asdict(self)

    def find(self, text: str) -> Iterator[Finding]:
        """What its check finds in a text."""
        for found in find_check(self.check).look(text):
            if not self.kinds or found.kind in self.kinds:
                yield found


DEFAULT_RULES: Final = (Rule(check="injection", on="input", action="flag"),)
"""What is done where nothing is set."""


def read_rules(given: Any, where: str) -> tuple[Rule, ...]:
    """Rules out of plain data, their checks found.

    Args:
        given: a list of objects with the fields of `Rule`; `on` may be a list or be left out, and
            then means both places.
        where: they stand, for errors.

    Raises:
        SettingsError: a wrong or unknown field, or a check that cannot be found.
    """
    if not isinstance(given, list | tuple):
        raise SettingsError(f"{where}: expected a list of rules", hint=_EXAMPLE)
    rules: list[Rule] = []
    for place, one in enumerate(cast("Sequence[Any]", given), 1):
        rules += _read(one, f"{where}, rule {place}")
    return tuple(rules)


_EXAMPLE = '[{"check": "secrets", "on": "input", "action": "redact"}]'


def _read(one: Any, where: str) -> Iterator[Rule]:
    if isinstance(one, Rule):
        one = one.plain()
    if not isinstance(one, Mapping):
        raise SettingsError(f"{where}: expected an object", hint=_EXAMPLE)
    fields = cast("Mapping[str, Any]", one)
    unknown = sorted(set(fields) - {"check", "on", "action", "kinds"})
    if unknown:
        raise SettingsError(f"{where}: unknown field {unknown[0]!r}", hint=_EXAMPLE)
    name, action = fields.get("check"), fields.get("action")
    if not isinstance(name, str) or not name:
        raise SettingsError(f"{where}: it names no check", hint=f"known are {_known()}")
    if action not in ACTIONS:
        raise SettingsError(f"{where}: action is one of {', '.join(ACTIONS)}, not {action!r}")
    on: Any = fields.get("on", PLACES)
    places = (on,) if isinstance(on, str) else on
    if (
        not isinstance(places, list | tuple)
        or not places
        or not all(at in PLACES for at in cast("Sequence[Any]", places))
    ):
        raise SettingsError(f"{where}: on is input, output or a list of both, not {on!r}")
    kinds: Any = fields.get("kinds", ())
    if not isinstance(kinds, list | tuple) or not all(
        isinstance(kind, str) for kind in cast("Sequence[Any]", kinds)
    ):
        raise SettingsError(f"{where}: kinds is a list of names")
    try:
        check = find_check(name)
    except SettingsError as error:
        raise SettingsError(f"{where}: {error.message}", hint=error.hint) from error
    if action == "redact" and not check.spans:
        raise SettingsError(
            f"{where}: {name} cannot redact: it does not say where its findings stand",
            hint="use flag or refuse",
        )
    for at in cast("Sequence[str]", places):
        yield Rule(check=name, on=at, action=action, kinds=tuple(cast("Sequence[str]", kinds)))


@cache
def find_check(name: str) -> ContentCheck:
    """The check of a name, imported now.

    Raises:
        SettingsError: there is none of that name, or it is no check.
    """
    if name in CHECKS:
        return CHECKS[name]
    path = name
    if ":" not in name:
        points = list(entry_points(group=ENTRY_POINTS, name=name))
        if not points:
            raise SettingsError(f"there is no content check {name!r}", hint=f"known are {_known()}")
        path = points[0].value
    module, _, attribute = path.partition(":")
    try:
        found: Any = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise SettingsError(f"content check {name}: {error}") from error
    if isinstance(found, ContentCheck):
        return found
    if callable(found):
        return ContentCheck(name=name, look=cast("Look", found))
    raise SettingsError(
        f"content check {name}: {path} is neither a ContentCheck nor a function",
        hint="def look(text: str) -> Iterable[Finding]",
    )


def flagging(
    rules: Sequence[Rule], on: str, found_by: Callable[[str], None] = lambda _check: None
) -> Callable[[str], list[str]] | None:
    """Why a text at a place is suspicious, by the rules that flag; None when none does.

    Args:
        rules: those of other places and actions are left out.
        on: the place.
        found_by: told of each check that finds something in a text.
    """
    chosen = [rule for rule in rules if rule.action == "flag" and rule.on == on]
    if not chosen:
        return None

    def flags(text: str) -> list[str]:
        reasons: dict[str, None] = {}
        for rule in chosen:
            try:
                findings = list(rule.find(text))
            except Exception:  # somebody's check must not keep a hub from its record
                log.exception("content_check.failed", check=rule.check, on=on)
                reasons[f"{rule.check}: the check failed"] = None
                continue
            if findings:
                found_by(rule.check)
            for found in findings:
                quoted = f"{found.kind}: {found.reason}" if found.reason else found.kind
                own = quoted if rule.check == "injection" else f"{rule.check}: {quoted}"
                reasons[own if on == "input" else f"{own} (in the answer)"] = None
        return list(reasons)

    return flags


def _known() -> str:
    names = {*CHECKS, *entry_points(group=ENTRY_POINTS).names}
    return f"{', '.join(sorted(names))}, or package.module:name"

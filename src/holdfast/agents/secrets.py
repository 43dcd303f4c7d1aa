"""Secrets in configurations: references only, and never shown where a plain one was given."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast
from urllib.parse import urlsplit

from holdfast.domain.payload import encode
from holdfast.llm.aliases import resolve_secret

Path = tuple[str | int, ...]

HIDDEN = "***"

REFERENCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:/.+", re.ASCII)

EXPECTED = "a reference, env:NAME or file:/PATH, and not the secret itself"

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)

OURS = "HOLDFAST_"
"""Begins the names of the hub's own settings: its database and its keys are no agent's."""

_LOADERS = re.compile(r"PATH|HOME|LD_.*|DYLD_.*|PYTHON.*|LANGGRAPH_.*")
"""Variables that decide which code a process runs."""

_NAMES_SECRET = re.compile(
    r"(token|secret|passw(or)?d|passphrase|credentials?|authorization|cookie)$"
    r"|(^|[-_. ]|api|access|private)key$",
    re.IGNORECASE,
)
_CAMEL_KEY = re.compile(r"[a-z]Key$")

MAX_SHOWN_CHARS = 80


def names_secret(name: str) -> bool:
    """Whether a field of that name holds a secret."""
    return bool(_NAMES_SECRET.search(name) or _CAMEL_KEY.search(name))


def plain_secrets(value: Any, path: Path = ()) -> Iterator[Path]:
    """Places where a secret stands itself: under a secret's name, or as a URL's password."""
    if isinstance(value, Mapping):
        for name, one in cast("Mapping[str, Any]", value).items():
            yield from plain_secrets(one, (*path, name))
    elif isinstance(value, list | tuple):
        for index, one in enumerate(cast("Sequence[Any]", value)):
            yield from plain_secrets(one, (*path, index))
    elif isinstance(value, str) and (_has_password(value) or _is_plain(value, path)):
        yield path


def _is_plain(value: str, path: Path) -> bool:
    name = next((part for part in reversed(path) if isinstance(part, str)), "")
    return bool(value) and names_secret(name) and not REFERENCE.fullmatch(value)


def _has_password(value: str) -> bool:
    if "://" not in value or "@" not in value or any(char.isspace() for char in value):
        return False
    try:
        return bool(urlsplit(value).password)
    except ValueError:
        return False


def environment_fault(name: str, reference: str) -> str | None:
    """What is wrong with a secret that is to be a variable of the agent's process; None: nothing.

    Never repeats what was given in place of a reference.
    """
    if not VARIABLE.fullmatch(name):
        return "a name of an environment variable"
    if name.startswith(OURS) or _LOADERS.fullmatch(name):
        return "a name that means nothing to Holdfast, Python or the system"
    if not REFERENCE.fullmatch(reference):
        return EXPECTED
    if reference.startswith(f"env:{OURS}"):
        return "a reference to something else than the hub's own settings"
    return None


def resolve_secrets(references: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that an agent's process gets besides those of every runner.

    Args:
        references: by the variable's name, as the configuration has them.
        environ: environment variables.

    Raises:
        SettingsError: a reference leads nowhere; the value is never told.
    """
    return {
        name: resolve_secret(reference, environ, where=f"secrets.{name}")
        for name, reference in references.items()
    }


def shown(value: Any, path: Path) -> str:
    """A refused value as an error repeats it: cut, and without secrets."""
    text = encode(hidden(value, path)).decode()
    return text if len(text) <= MAX_SHOWN_CHARS else text[: MAX_SHOWN_CHARS - 1] + "…"


def hidden(value: Any, path: Path = ()) -> Any:
    """A copy with every plain secret hidden; references stay."""
    if isinstance(value, Mapping):
        given = cast("Mapping[str, Any]", value)
        return {name: hidden(one, (*path, name)) for name, one in given.items()}
    if isinstance(value, list | tuple):
        items = cast("Sequence[Any]", value)
        return [hidden(one, (*path, index)) for index, one in enumerate(items)]
    secret = any(isinstance(part, str) and names_secret(part) for part in path)
    if isinstance(value, str | int | bytes) and not isinstance(value, bool):
        text = str(value)
        in_secrets = "secrets" in path[:-1]
        if (secret or in_secrets) and not REFERENCE.fullmatch(text):
            return HIDDEN
        if _has_password(text):
            return HIDDEN
    return value

"""What a configuration names by dotted path."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from holdfast.errors import DeclarationError


def load(path: str, where: str) -> Any:
    """The attribute of a module that `package.module:attribute` names.

    Args:
        path: as the configuration has it.
        where: it stands, for errors.

    Raises:
        DeclarationError: there is no such module or attribute, or the module fails.
    """
    module_name, _, attribute = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # user code may raise anything
        raise DeclarationError(
            f"{where}: {module_name} cannot be imported: {type(error).__name__}: {error}",
            hint="run python -c 'import …' where the hub runs to see it fail",
        ) from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        near = get_close_matches(attribute, vars(module), 1)
        raise DeclarationError(
            f"{where}: {module_name} has no {attribute!r}",
            hint=f"did you mean {near[0]}?" if near else "",
        ) from None


def load_callable(path: str, where: str) -> Callable[..., Any]:
    """The same for something that can be called.

    Raises:
        DeclarationError: see `load`; or it cannot be called.
    """
    found = load(path, where)
    if not callable(found):
        raise DeclarationError(f"{where}: {path} is {type(found).__name__} and cannot be called")
    return found

"""What is wrong with a configuration, and where, in the author's own terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from .secrets import shown


def of_pydantic(error: Mapping[str, Any], written: Any) -> dict[str, Any]:
    """One of pydantic's errors about what was written."""
    path = written_path(error["loc"], written)
    match error["type"]:
        case "extra_forbidden":
            return fault(path, "no such field", shown(error["input"], path))
        case "missing":
            return fault(path, "a value for this field", "nothing")
        case "union_tag_invalid":
            path = (*path, "type")
            return fault(path, f"one of {error['ctx']['expected_tags']}", error["ctx"]["tag"])
        case "union_tag_not_found":
            return fault((*path, "type"), "a value for this field", "nothing")
        case _:
            expected = str(error["msg"]).removeprefix("Value error, ")
            return fault(path, expected, shown(error["input"], path))


def written_path(loc: Sequence[str | int], written: Any) -> tuple[str | int, ...]:
    """A place as the author wrote it: pydantic puts the kind of a tool in between."""
    path: list[str | int] = []
    here = written
    for nth, part in enumerate(loc):
        last = nth == len(loc) - 1
        if isinstance(here, Mapping):
            inside = cast("Mapping[Any, Any]", here)
            if part not in inside and not last:
                continue
            path.append(part)
            here = inside.get(part)
        elif isinstance(here, list) and isinstance(part, int):
            path.append(part)
            items = cast("list[Any]", here)
            here = items[part] if part < len(items) else None
        else:
            path.append(part)
            here = None
    return tuple(path)


def place(path: Sequence[str | int]) -> str:
    """A path as errors name it."""
    return ".".join(map(str, path)) or "config"


def fault(path: Sequence[str | int], expected: str, got: str) -> dict[str, Any]:
    """A fault as `HoldfastError.fields` holds it."""
    return {"field": place(path), "expected": expected, "got": got}

"""What goes out: results on standard output, everything else on standard error."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Any

from holdfast.errors import HoldfastError

from .figures import one_line

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

FALLBACK_COLUMNS = 120
"""Width of what is written to a file or pipe, unless COLUMNS says otherwise."""

_STYLES = {
    "succeeded": "green",
    "partial": "yellow",
    "running": "cyan",
    "waiting": "cyan",
    "paused": "cyan",
    "queued": "cyan",
    "failed": "bold red",
    "dead": "bold red",
    "timed_out": "bold red",
    "crashed": "bold red",
    "cancelled": "yellow",
    "superseded": "yellow",
    "abandoned": "yellow",
    "skipped": "dim",
}


def style_of(status: str) -> str:
    """The colour of a status word; the word itself always stands beside it."""
    return _STYLES.get(status, "")


def columns() -> int:
    """How many cells a line has room for."""
    return shutil.get_terminal_size((FALLBACK_COLUMNS, 40)).columns


def console(*, stderr: bool = False) -> Console:
    """A console that takes no text for markup, emoji or something to highlight."""
    from rich.console import Console

    return Console(
        stderr=stderr, width=columns(), markup=False, highlight=False, emoji=False, soft_wrap=False
    )


def show(*things: RenderableType) -> None:
    """Write a result for people to standard output."""
    out = console()
    for thing in things:
        out.print(thing)


def tell(text: str, style: str = "") -> None:
    """Write a message to standard error."""
    from rich.text import Text

    console(stderr=True).print(Text(text, style=style), soft_wrap=True)


def complain(error: HoldfastError) -> None:
    """Say on standard error what is wrong, where, and what to do."""
    tell(f"error: {one_line(error.message)}", "red")
    told = len(error.fields) == 1 and str(error.fields[0].get("field")) in error.message
    for field in () if told else error.fields:
        tell(f"  {field_line(field)}")
    if error.hint:
        tell(f"  {one_line(error.hint)}")


def field_line(field: dict[str, Any]) -> str:
    """One wrong field: `data.size: expected an integer, got "x"`."""
    expected, got = one_line(field.get("expected", "")), one_line(field.get("got", ""), 80)
    told = [*([f"expected {expected}"] if expected else []), *([f"got {got}"] if got else [])]
    return f"{one_line(field.get('field', ''))}: {', '.join(told)}"


def write_json(value: Any, *, line: bool = False) -> None:
    """Write a result for machines to standard output.

    Args:
        value: what JSON can hold.
        line: one compact line, for results that come one after the other.
    """
    import orjson

    option = orjson.OPT_APPEND_NEWLINE | (0 if line else orjson.OPT_INDENT_2)
    sys.stdout.buffer.write(orjson.dumps(value, option=option))
    sys.stdout.buffer.flush()

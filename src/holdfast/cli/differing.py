"""Draws what differs between two executions, or between a replay and its record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.text import Text

from .drawing import as_line, replay_notes, title
from .figures import all_tokens, count, dollars, milliseconds, one_line, plain
from .terminal import style_of

View = dict[str, Any]

MOST_LINES = 20
"""Lines of one change that are shown unless all are asked for."""

_MARKS = {
    "same": ("=", "dim"),
    "given": ("=", "dim"),
    "changed": ("~", "yellow"),
    "only_a": ("-", "red"),
    "only_b": ("+", "green"),
}
_WORDS = {
    "given": "taken over, not run",
    "only_a": "only in a",
    "only_b": "only in b",
}
_QUIET = frozenset({"status", "attempts", "validation", "model", "prompt.version"})
"""Changes that are one word each, shown as `old → new`."""


def draw_diff(view: View, *, full: bool = False) -> Iterator[Text]:
    """A comparison as lines: both sides, the steps, and last where they begin to part."""
    for name in ("a", "b"):
        side = view[name]
        yield Text.assemble(
            (f"{name}  ", "dim"),
            (title(side), "bold"),
            "  ",
            (side["status"], style_of(side["status"])),
            (f"  {side['id']}", "dim"),
        )
    for change in view["changes"]:
        if change["what"] not in ("output", "error", "status"):
            yield from _change(change, "", full=full)
    same = 0
    for step in view["steps"]:
        if step["verdict"] in ("same", "given") and not full:
            same += 1
            continue
        yield from _step(step, full=full)
    if same:
        yield Text(f"= {count(same, 'step')} the same", "dim")
    yield from _parting(view)


def _step(step: View, *, full: bool) -> Iterator[Text]:
    mark, style = _MARKS[step["verdict"]]
    line = Text.assemble((f"{mark} ", style), (one_line(step["step"]), "bold"))
    line.append(f"  {one_line(step['kind'])}", "dim")
    if word := _WORDS.get(step["verdict"]):
        line.append(f"  {word}", style)
    what = [change["what"] for change in step["changes"]]
    if what:
        line.append(f"  {', '.join(what)}", style)
    if figures := _figures(step):
        line.append(f"  {figures}", "dim")
    yield line
    for change in step["changes"]:
        yield from _change(change, "  ", full=full)


def _figures(step: View) -> str:
    """Time, tokens and cost where a model was asked, for information."""
    sides = [side for side in (step["a"], step["b"]) if side is not None]
    told = [f"{milliseconds(side['duration_ms'])}" for side in sides]
    if any(side["tokens"]["input"] or side["tokens"]["output"] for side in sides):
        told = [
            f"{time}, {sum(side['tokens'].values()):,} tokens, {dollars(side['cost_usd'])}"
            for side, time in zip(sides, told, strict=True)
        ]
    return " → ".join(told)


def _change(change: View, indent: str, *, full: bool) -> Iterator[Text]:
    what, lines = one_line(change["what"]), change["diff"]
    if what in _QUIET or not lines:
        old, new = (one_line(as_line(change[side]), 100) for side in ("a", "b"))
        yield Text(f"{indent}{what}: {old} → {new}")
        return
    yield Text(f"{indent}{what}", "cyan")
    yield from _diff_lines(lines if full else lines[:MOST_LINES], indent)
    if len(lines) > MOST_LINES and not full:
        yield Text(f"{indent}  … {len(lines) - MOST_LINES} more lines: --full", "dim")


def _diff_lines(lines: Sequence[str], indent: str) -> Iterator[Text]:
    styles = {"-": "red", "+": "green", "@": "dim"}
    for line in lines:
        yield Text(f"{indent}  {plain(line)}", styles.get(line[:1], ""))


def _parting(view: View) -> Iterator[Text]:
    if view["same"]:
        yield Text("the same, step by step", "green")
        return
    if view["first"] is None:
        yield Text("the same steps; what differs stands above them", "yellow")
        return
    line = Text.assemble(("first to differ: ", "yellow"), (one_line(view["first"]), "bold"))
    if view["followed"]:
        line.append(f"; then: {', '.join(map(one_line, view['followed']))}")
    yield line


def draw_replay(view: View) -> Iterator[Text]:
    """A replay that has ended: how, and where it left the record."""
    yield Text.assemble(
        (title(view), "bold"),
        "  replayed  ",
        (view["status"], style_of(view["status"])),
        f"  {milliseconds(view['duration_ms'])}  {all_tokens(view)} tokens  "
        f"{dollars(view['cost_usd'], unknown=view['unknown']['cost'])}",
    )
    if view["error"]:
        yield Text(f"  {one_line(view['error'].get('message', ''), 600)}", "red")
    yield from replay_notes(view)
    ids = f"holdfast executions diff {view['parent_id']} {view['id']}"
    yield Text(ids, "dim")

"""Draws an execution: a header, its steps as a tree, the sums.

Everything comes from the execution's JSON view; nothing a model or a sender wrote is interpreted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from . import attempts as tries
from .figures import all_tokens, called, count, dollars, milliseconds, one_line, tokens
from .terminal import style_of

View = dict[str, Any]

SCRIPTED_LABEL = "answers by scripted rules, not a language model"

_DECISION = frozenset({"target", "rule", "fallback"})

_COLUMNS = ("kind", "model", "state", "time", "in", "cached", "out", "cost")
_RIGHT = frozenset({"time", "in", "out", "cost"})
_JOINED = frozenset({"cached"})  # one space before it instead of two
_DIM = frozenset({"kind", "model", "cached"})
_SHRINKS = ("model", "kind")  # give way, in this order, when a line is too long
_LEAST = 8
_MAX_NAME = 44


@dataclass(frozen=True, slots=True)
class Row:
    """A step on one line.

    Attributes:
        guide: the tree's lines left of it.
        name: its operation.
        cells: by column; a column nobody fills is not drawn.
        choice: what a router chose, instead of cells.
    """

    guide: str
    name: str
    cells: dict[str, str]
    status: str
    choice: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """A remark under a step, wrapped where it is too long.

    Attributes:
        guide: left of its first line.
        below: left of the others.
    """

    guide: str
    below: str
    text: str
    style: str


def draw_execution(view: View, width: int) -> list[Text]:
    """The execution as lines of at most `width` cells."""
    rows = list(_tree(view["steps"], view["children"]))
    lines = [_header(view)]
    lines += _laid_out(rows, width)
    if view["waits"]:
        told = f"waits for {waits_text(view['waits'])}"
        lines += _wrapped(Note("", "  ", told, "cyan"), width)
    if view["error"]:
        lines += _wrapped(Note("", "  ", _error_text(view), "red"), width)
    lines += _wrapped(Note("", "  ", _sums(view), ""), width)
    if view["children"]:
        lines += _wrapped(Note("", "  ", _family_sums(view), ""), width)
    lines += [line for note in _remarks(view) for line in _wrapped(note, width)]
    lines.append(_origin(view))
    return lines


def waits_text(waits: Sequence[View]) -> str:
    """What an execution waits for: `approve: Buy it for 3? · nap (time)`."""
    return " · ".join(
        f"{one_line(wait['name'])}: {one_line(as_line(wait['question']), 200)}"
        if wait["question"] is not None
        else f"{one_line(wait['name'])} ({_awaited(wait)})"
        for wait in waits
    )


def _awaited(wait: View) -> str:
    if wait["child"] is not None:
        return f"child {one_line(wait['child']['pipeline'])}"
    if wait["awaits"] is None:
        return one_line(wait["kind"])
    about = f" about {one_line(wait['subject'])}" if wait["subject"] else ""
    return f"event {one_line(wait['awaits'])}{about}"


def as_line(value: Any) -> str:
    """A value on one line: text as it is, anything else as JSON."""
    if isinstance(value, str):
        return value
    import orjson

    return orjson.dumps(value).decode()


def _header(view: View) -> Text:
    status = view["status"]
    return Text("  ").join(
        [
            Text(title(view), "bold"),
            Text(status, style_of(status)),
            Text(milliseconds(view["duration_ms"])),
            Text(f"{all_tokens(view)} tokens"),
            Text(dollars(view["cost_usd"], unknown=view["unknown"]["cost"])),
        ]
    )


def title(view: View) -> str:
    """Name and version: `support.triage v1`."""
    version = one_line(view["version"])
    return f"{called(view)} {'v' if version[:1].isdigit() else ''}{version}"


def _tree(steps: Sequence[View], executions: Sequence[View]) -> Iterator[Row | Note]:
    known = {step["step"] for step in steps}
    children: dict[int | None, list[View]] = {}
    for step in sorted(steps, key=lambda step: step["step"]):
        parent = step["parent"] if step["parent"] in known else None
        children.setdefault(parent, []).append(step)
    for child in executions:
        parent = child["step"] if child["step"] in known else None
        children.setdefault(parent, []).append(_as_step(child))
    yield from _branch([], children.get(None, []), children, "")


def _branch(
    notes: Sequence[tuple[str, str]],
    steps: Sequence[View],
    children: dict[int | None, list[View]],
    guide: str,
) -> Iterator[Row | Note]:
    left = len(notes) + len(steps)
    for item in [*notes, *steps]:
        left -= 1
        here, below = (guide + "├─ ", guide + "│  ") if left else (guide + "└─ ", guide + "   ")
        if isinstance(item, tuple):
            yield Note(here, below, *item)
            continue
        own = children.get(item["step"], [])
        yield _row(item, here)
        yield from _branch(_notes(item, own), own, children, below)


def _as_step(child: View) -> View:
    """A child execution in the form of a step, to stand below the one that started it."""
    return {
        "step": child["id"],
        "kind": "execution",
        "operation": title(child),
        "status": child["status"],
        "duration_ms": child["duration_ms"],
        "error": child["error"],
        "error_phase": None,
        "skip_reason": None,
        "suspicious": None,
        "attempts": [],
        "sums": child,
    }


def _row(step: View, guide: str) -> Row:
    status, own = step["status"], step["attempts"]
    name = one_line(step["operation"])
    choice = decision_text(step) if step["kind"] in ("router", "loop") else ""
    if choice:
        return Row(guide, name, {}, status, choice)
    cells = {
        "kind": one_line(step["kind"]),
        "model": one_line(own[-1]["model"] or "") if own else "",
        "state": "" if status == "succeeded" else status,
        "time": "" if step["duration_ms"] is None else milliseconds(step["duration_ms"]),
        **(tries.cells(own) if own else {}),
        **(_sum_cells(step["sums"]) if "sums" in step else {}),
    }
    return Row(guide, name, cells, status)


def _sum_cells(child: View) -> dict[str, str]:
    """A child's own sums, and its id to look further with."""
    sums, unknown = child["tokens"], child["unknown"]
    lacks: dict[str, Any] = {
        "unknown": unknown["usage"],
        "estimated": bool(child["flags"].get("tokens_estimated")),
    }
    return {
        "model": one_line(child["id"]),
        "in": tokens(sums["input"], **lacks) + " in",
        "cached": f"({sums['cached']:,} cached)" if sums["cached"] else "",
        "out": tokens(sums["output"], **lacks) + " out",
        "cost": dollars(child["cost_usd"], unknown=unknown["cost"]),
    }


def decision_text(step: View) -> str:
    """What a router's step chose: `→ draft (otherwise)`; empty when it chose nothing."""
    output: Any = step["output"]
    if not isinstance(output, dict) or not output.keys() >= _DECISION:
        return ""
    decision = cast("View", output)
    target = "end" if decision["target"] == "__end__" else one_line(decision["target"])
    why = "otherwise" if decision["fallback"] else one_line(decision["rule"], 120)
    if "round" in decision:
        bound = ", the bound" if decision["exhausted"] else ""
        why += f", round {decision['round']} of {decision['at_most']}{bound}"
    return f"→ {target} ({why})"


def _notes(step: View, children: Sequence[View]) -> list[tuple[str, str]]:
    notes: list[tuple[str, str]] = []
    if step["skip_reason"]:
        notes.append((f"reason: {one_line(step['skip_reason'], 300)}", "dim"))
    if step["suspicious"]:
        # The checks' names only; what they found is told once, under the tree.
        checks = dict.fromkeys(one_line(reason).partition(":")[0] for reason in step["suspicious"])
        notes.append((f"suspicious: {', '.join(checks)}", "yellow"))
    if prompt := tries.prompt_line(step["attempts"]):
        notes.append((prompt, "dim"))
    if worth := tries.note(step["attempts"], step["error"]):
        notes.append((worth, "yellow" if "invalid" in worth or "failed" in worth else "dim"))
    if step["error"] and not any(_same_error(step, child) for child in children):
        notes.append((_phase(step) + error_line(step["error"]), "red"))
    if step["error"] and step["error"].get("fallback"):
        notes.append((f"{one_line(step['error']['fallback'])} stands in", "yellow"))
    return notes


def _phase(step: View) -> str:
    """Where it went wrong and of which class: `provider error (rate_limit): `."""
    own = step["attempts"]
    kind = f" ({own[-1]['error_class']})" if own and own[-1]["error_class"] else ""
    return f"{step['error_phase']} error{kind}: " if step["error_phase"] else ""


def _same_error(one: View, other: View) -> bool:
    # An error is often its step's, handed up: it is told once, where it arose.
    mine, theirs = one["error"], other["error"]
    return bool(theirs) and mine.get("message") == theirs.get("message")


def error_line(error: View) -> str:
    """An error of a record: type, message and what to do."""
    kind, message = one_line(error.get("type") or error.get("code") or ""), error.get("message")
    text = one_line(message or "no message", 600)
    hint = f" ({one_line(error['hint'], 200)})" if error.get("hint") else ""
    return f"{kind}: {text}{hint}" if kind else text + hint


def _error_text(view: View) -> str:
    status = view["status"].replace("_", " ")
    for step in reversed(view["steps"]):
        if _same_error(view, step):
            return f"{status}: {one_line(step['operation'])} failed, see above"
    return f"{status}: {error_line(view['error'])}"


def _sums(view: View) -> str:
    sums = view["tokens"]
    made = sum(len(step["attempts"]) for step in view["steps"])
    cached = f" ({sums['cached']:,} cached)" if sums["cached"] else ""
    reasoning = f" ({sums['reasoning']:,} reasoning)" if sums["reasoning"] else ""
    lacks: dict[str, Any] = {
        "unknown": view["unknown"]["usage"],
        "estimated": bool(view["flags"].get("tokens_estimated")),
    }
    parts = [
        count(view["step_counts"]["total"], "step"),
        count(made, "attempt"),
        f"{tokens(sums['input'], **lacks)} in{cached}",
        f"{tokens(sums['output'], **lacks)} out{reasoning}",
        dollars(view["cost_usd"], unknown=view["unknown"]["cost"]),
    ]
    if view["credits"]:
        parts.append(count(view["credits"], "credit"))
    return "sum  " + "  ".join(parts)


def _family_sums(view: View) -> str:
    """The sums over the execution and all it started, each counted once."""
    whole = view["with_children"]
    sums, unknown = whole["tokens"], whole["unknown"]
    lacks: dict[str, Any] = {"unknown": unknown["usage"], "estimated": whole["estimated"]}
    parts = [
        count(whole["executions"], "execution"),
        f"{tokens(sums['input'], **lacks)} in",
        f"{tokens(sums['output'], **lacks)} out",
        dollars(whole["cost_usd"], unknown=unknown["cost"]),
    ]
    if whole["credits"]:
        parts.append(count(whole["credits"], "credit"))
    return "with children  " + "  ".join(parts)


def _remarks(view: View) -> Iterator[Note]:
    flags, unknown = view["flags"], view["unknown"]
    if flags.get("suspicious"):
        reasons = "; ".join(one_line(reason, 120) for reason in flags["suspicious"])
        yield Note("", "  ", f"suspicious  {reasons}", "yellow")
    if unknown["usage"]:
        told = f"? tokens unknown for {count(unknown['usage'], 'attempt')}: not in the sums"
        yield Note("", "  ", told, "yellow")
    if unknown["cost"]:
        told = f"? price unknown for {count(unknown['cost'], 'attempt')}: not in the cost"
        yield Note("", "  ", told, "yellow")
    if flags.get("abandoned"):
        told = "abandoned: blocking code could not be stopped; its result was discarded"
        yield Note("", "  ", told, "yellow")
    if flags.get("redacted"):
        told = ", ".join(f"{many} {one_line(kind)}" for kind, many in flags["redacted"].items())
        yield Note("", "  ", f"not recorded: {told}", "dim")
    for fault in flags.get("recording_faults", []):
        yield Note("", "  ", f"the record has a gap: {one_line(fault, 200)}", "yellow")
    yield from (Note("", "  ", line.plain.strip(), "yellow") for line in replay_notes(view))
    asides = [SCRIPTED_LABEL] if is_scripted(view) else []
    if flags.get("tokens_estimated"):
        asides.append("~ marks tokens that were estimated, not reported")
    if asides:
        yield Note("", "  ", " · ".join(asides), "dim")


def replay_notes(view: View) -> Iterator[Text]:
    """What a replay says of itself: where code, prompts or course are not as recorded."""
    told: View = view["flags"].get("replay", {})
    if told.get("gone"):
        yield Text("  the record it repeats was deleted: nothing to compare with", "yellow")
        return
    for name in ("version", "code_version"):
        if name in told:
            old, new = told[name]
            yield Text(f"  {name.replace('_', ' ')}: {one_line(old)} → {one_line(new)}", "yellow")
    for one in told.get("differs", []):
        yield Text(f"  {one_line(one['step'])}: {', '.join(one['what'])} not as recorded", "yellow")
    for name, word in (("unrecorded", "is not on record"), ("not_reached", "was not reached")):
        for step in told.get(name, []):
            yield Text(f"  {one_line(step)} {word}", "yellow")
    for step in told.get("redacted", []):
        yield Text(
            f"  {one_line(step)}: its recorded answer was redacted, it got the rest", "yellow"
        )
    if told and not any(told.values()):
        yield Text("  as recorded, step by step", "green")


def is_scripted(view: View) -> bool:
    """Whether any answer came from the scripted model."""
    return any(one["provider"] == "scripted" for step in view["steps"] for one in step["attempts"])


def _origin(view: View) -> Text:
    again = f"  delivery {view['delivery']}" if view["delivery"] > 1 else ""
    if view["origin"] == "replay":
        again += f"  replay of {view['parent_id']}"
    return Text(f"execution {view['id']}  event {view['event_id']}{again}", "dim")


def _laid_out(rows: Sequence[Row | Note], width: int) -> list[Text]:
    steps = [row for row in rows if isinstance(row, Row)]
    names = min(_MAX_NAME, max((cell_len(row.guide + row.name) for row in steps), default=0))
    sizes = {
        column: size
        for column in _COLUMNS
        if (size := max((cell_len(row.cells.get(column, "")) for row in steps), default=0))
    }
    spare = width - names - sum(size + _gap(column) for column, size in sizes.items())
    for column in _SHRINKS:
        if spare < 0 and sizes.get(column, 0) > _LEAST:
            less = min(-spare, sizes[column] - _LEAST)
            sizes[column] -= less
            spare += less
    if spare < 0:
        names = max(min(names, 16), names + spare)
    lines: list[Text] = []
    for row in rows:
        if isinstance(row, Row):
            lines.append(_line(row, names, sizes))
        else:
            lines += _wrapped(row, width)
    return lines


def _gap(column: str) -> int:
    return 1 if column in _JOINED else 2


def _line(row: Row, names: int, sizes: dict[str, int]) -> Text:
    line = Text().append(row.guide, "dim")
    line.append(_fit(row.name, names - cell_len(row.guide)), "bold" if row.choice == "" else "")
    if row.choice:
        return line.append("  ").append(row.choice, "cyan")
    for column, size in sizes.items():
        text = row.cells.get(column, "")
        style = style_of(row.status) if column == "state" else "dim" if column in _DIM else "none"
        line.append(" " * _gap(column)).append(_fit(text, size, column in _RIGHT), style)
    line.rstrip()
    return line


def _fit(text: str, size: int, to_the_right: bool = False) -> str:
    length = cell_len(text)
    if length > size:
        return set_cell_size(text, max(size - 1, 0)) + "…"
    space = " " * (size - length)
    return space + text if to_the_right else text + space


def _wrapped(note: Note, width: int) -> list[Text]:
    room = max(width - max(cell_len(note.guide), cell_len(note.below)), 20)
    pieces = Text(note.text).wrap(Console(width=room), room)
    lines: list[Text] = []
    for piece in pieces:
        line = Text().append(note.below if lines else note.guide, "dim")
        lines.append(line.append(piece.plain.rstrip(), note.style or "none"))
    return lines

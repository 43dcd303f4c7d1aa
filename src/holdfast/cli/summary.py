"""What a batch of events came to: a bar while they run, one line and a table at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from .figures import MISSING, count, dollars, milliseconds, one_line, tokens
from .submitting import Fate, Sum
from .tables import fit, table
from .terminal import console, field_line, style_of

GOOD = frozenset({"succeeded", "queued", "running"})

BAR_CELLS = 20

MAX_ROWS = 200
"""Longer batches list only what did not succeed."""

ROOM_FOR_EXECUTIONS = 136
"""Columns from which the table shows execution ids too; `executions show` takes either."""


class Bar:
    """The progress bar on standard error; on anything but a terminal it shows nothing."""

    def __init__(self, total: int | None) -> None:
        out = console(stderr=True)
        self._classes: Counter[str] = Counter()
        self._progress = Progress(
            MofNCompleteColumn(),
            BarColumn(BAR_CELLS),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
            console=out,
            transient=True,
            disable=not out.is_terminal,
        )
        self._task: TaskID = self._progress.add_task("", total=total)

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return self._progress.tasks[self._task].elapsed or 0.0

    def step(self, fate: Fate) -> None:
        """One more has its fate."""
        self._classes[label(fate)] += 1
        told = " · ".join(f"{n} {name}" for name, n in self._classes.most_common(4))
        self._progress.update(self._task, advance=1, description=told)

    def tell(self, text: str) -> None:
        """A message above the bar."""
        self._progress.console.print(Text(text, "red"), soft_wrap=True)


def refusal(error: dict[str, Any]) -> str:
    """Why a line was refused, field by field where it is about fields, and what to do."""
    fields = "; ".join(field_line(field) for field in error.get("fields", []))
    hint = f" ({one_line(error['hint'])})" if error.get("hint") else ""
    return (fields or one_line(error["message"])) + hint


def label(fate: Fate) -> str:
    """The class a fate is counted in: its outcome when it succeeded with one, else its status."""
    if fate.status == "succeeded" and fate.outcome:
        return one_line(fate.outcome, 40)
    return fate.status


def summary_line(fates: Sequence[Fate], total: int, seconds: float, width: int) -> Text:
    """`12/12 ━━━━ 0:00:02  9 answered · 2 closed as spam · 1 escalated  $0.0031`.

    Tokens and costs take a line of their own where they do not fit `width`.
    """
    ended = len(fates)
    good = sum(fate.status in GOOD for fate in fates)
    filled = BAR_CELLS * ended // max(total, 1)
    minutes, rest = divmod(int(seconds), 60)
    line = Text.assemble(
        f"{ended}/{total} ",
        ("━" * filled, "green" if good == ended else "red"),
        ("━" * (BAR_CELLS - filled), "dim"),
        (f" {minutes // 60}:{minutes % 60:02d}:{rest:02d}", "dim"),
        "  ",
    )
    classes = Counter((fate.status not in GOOD, label(fate), fate.status) for fate in fates)
    ordered = sorted(classes.items(), key=lambda item: (item[0][0], -item[1], item[0][1]))
    pieces = [
        Text(f"{n:,} {name}", style_of(status) if bad else "none")
        for (bad, name, status), n in ordered
    ]
    line.append_text(Text(" · ").join(pieces))
    costs = _costs(Sum.of(list(fates)))
    if line.cell_len + costs.cell_len > width:
        line.append("\n")
        costs = costs[2:]
    return line.append_text(costs)


def _costs(total: Sum) -> Text:
    text = Text()
    if total.tokens or total.usage_unknown:
        text.append(f"  {_tokens(total)} tokens", "dim")
        text.append(f"  {dollars(total.cost_usd, unknown=total.cost_unknown)}")
    if total.credits:
        text.append(f"  {count(total.credits, 'credit')}")
    return text


def _tokens(total: Sum) -> str:
    return tokens(total.tokens, unknown=total.usage_unknown, estimated=total.estimated)


def fate_table(fates: Sequence[Fate], width: int) -> Table:
    """One row for each event; refused lines were told of as they came."""
    wide = width >= ROOM_FOR_EXECUTIONS
    numbered = any(fate.line for fate in fates)
    columns = ["event", "status", "outcome", *(["execution"] if wide else [])]
    drawn = table(*(["line"] if numbered else []), *columns, right=("time", "tokens", "cost"))
    for fate in fates:
        own = Sum.of([fate])
        cells: list[Any] = [
            *([str(fate.line)] if numbered else []),
            fate.event_id or MISSING,
            Text(fate.status, style_of(fate.status)),
            _said(fate),
        ]
        if wide:
            cells.append(fate.execution_id or MISSING)
        if fate.executions:
            money = dollars(own.cost_usd, unknown=own.cost_unknown)
            cells += [milliseconds(fate.duration_ms), _tokens(own), money]
        drawn.add_row(*cells)
    return fit(drawn, width)


def _said(fate: Fate) -> Text:
    if fate.error:
        return Text(one_line(fate.error.get("message", ""), 120), "red")
    return Text(one_line(fate.outcome or ""))

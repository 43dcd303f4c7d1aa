"""What a measure returns, how two sides are held against each other, and the table."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One figure of the table.

    Attributes:
        name: what was measured.
        value: the figure.
        unit: of the figure.
        against: what it is held against, in the same unit; None when it stands alone.
        ratio: value through against, as the median over the rounds.
        bar: the most (or least) that `ratio` may be, or `value` where there is no ratio; None
            when the figure is only printed.
        at_least: whether the bar is a lower one.
        note: how the figure came about, in a few words.
    """

    name: str
    value: float
    unit: str
    against: float | None = None
    ratio: float | None = None
    bar: float | None = None
    at_least: bool = False
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; None without one."""
        if self.bar is None:
            return None
        judged = self.value if self.ratio is None else self.ratio
        return judged >= self.bar if self.at_least else judged <= self.bar

    def as_json(self) -> dict[str, Any]:
        """All fields and the verdict."""
        return {name: getattr(self, name) for name in (*self.__slots__, "met")}


class Duel(NamedTuple):
    """Two sides measured in turn: their medians, and the median of the rounds' ratios."""

    ours: float
    theirs: float
    ratio: float


async def duel(
    ours: Callable[[], Awaitable[float]], theirs: Callable[[], Awaitable[float]], rounds: int
) -> Duel:
    """Measure two sides in turn (A B A B …), so that a noisy moment meets both."""
    pairs = [(await theirs(), await ours()) for _ in range(rounds)]
    return Duel(
        ours=median(mine for _, mine in pairs),
        theirs=median(bare for bare, _ in pairs),
        ratio=median(mine / bare for bare, mine in pairs),
    )


def percentile(values: Iterable[float], share: float) -> float:
    """The value below which `share` of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def show(lines: Sequence[Line]) -> None:
    """Print the table."""
    table = Table("measure", box=None, pad_edge=False, header_style="bold")
    for heading in ("value", "against", "ratio", "bar"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("", style="dim")
    for line in lines:
        table.add_row(
            line.name,
            f"{_short(line.value)} {line.unit}",
            "" if line.against is None else f"{_short(line.against)} {line.unit}",
            "" if line.ratio is None else f"{line.ratio:.2f}",
            _bar(line),
            {True: "[green]met[/]", False: "[bold red]MISSED[/]", None: ""}[line.met],
            line.note,
        )
    console = Console()
    console.print(table)
    load = ", ".join(f"{one:.2f}" for one in os.getloadavg())
    console.print(f"load average {load} on {os.cpu_count()} cores", style="dim")


def _bar(line: Line) -> str:
    if line.bar is None:
        return ""
    sign = "≥" if line.at_least else "≤"
    return (
        f"{sign} {line.bar:.2f}" if line.ratio is not None else f"{sign} {line.bar:g} {line.unit}"
    )


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"

"""`python -m chaos [--place PLACE] [--seed N] [--only TEXT] [--storm EVENTS]`."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from . import matrix, storm
from .places import PLACES, Place, place
from .promises import Findings
from .servers import NotHere


def main() -> int:
    """Run the matrix and the storm, print what was found; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--place", choices=PLACES, help="only there")
    parser.add_argument("--seed", type=int, default=1, help="the same seed, the same hits")
    parser.add_argument("--only", default="", help="only cases whose name has this in it")
    parser.add_argument("--storm", type=int, default=2000, metavar="EVENTS", help="0: none")
    asked = parser.parse_args()
    out = Console()
    bad = 0
    for name in [asked.place] if asked.place else PLACES:
        try:
            with place(name) as there:
                bad += _run(out, there, asked)
        except NotHere as error:
            bad += 1
            out.print(f"{name}: NOT RUN: {error}", style="bold red")
    return int(bad > 0)


def _run(out: Console, there: Place, asked: argparse.Namespace) -> int:
    rows: list[tuple[str, Findings, str | None, float]] = []
    for case in matrix.cases(there, asked.seed):
        if asked.only in str(case):
            began = time.monotonic()
            found = asyncio.run(matrix.run(there, case))
            late = _late(found, matrix.VICTIMS[case.victim])
            rows.append((str(case), found, late, time.monotonic() - began))
            print(f"{there.name}: {case}: {_verdict(found, late)}", file=sys.stderr, flush=True)
    if asked.storm:
        began = time.monotonic()
        found, late = asyncio.run(storm.run(there, asked.storm, asked.seed))
        title = f"storm of {asked.storm}, killed: {found.killed}"
        rows.append((title, found, late, time.monotonic() - began))
    return show(out, f"{there.name}, seed {asked.seed}", rows)


def _late(found: Findings, most_s: float) -> str | None:
    longest = found.longest_s
    if longest is not None and longest > most_s:
        return f"a re-run began after {longest:.2f} s, at most {most_s:g} s is promised"
    return None


def _verdict(found: Findings, late: str | None) -> str:
    faults = [*found.faults, *([late] if late else [])]
    return "; ".join(faults) or "kept"


def show(out: Console, title: str, rows: Sequence[tuple[str, Findings, str | None, float]]) -> int:
    """Print the table; the number of rows in which a promise was broken."""
    table = Table(title=title, title_justify="left")
    for name in ("killed", "events", "re-runs", "kill to re-run", "took", "promises"):
        table.add_column(name, justify="left" if name in ("killed", "promises") else "right")
    bad = 0
    for name, found, late, took in rows:
        verdict = _verdict(found, late)
        bad += verdict != "kept"
        table.add_row(
            name,
            str(found.events),
            str(found.reruns),
            "\n".join(f"{who} {waited:.2f} s" for who, waited in found.longest_by_victim.items()),
            f"{took:.1f} s",
            verdict,
        )
    out.print(table)
    return bad


if __name__ == "__main__":
    sys.exit(main())

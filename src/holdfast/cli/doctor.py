"""`holdfast doctor`: is everything in place, and if not, what to do."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from .door import Json, Url, run

if TYPE_CHECKING:
    from .checks import Finding

_MARKS = {"ok": ("✓", "green"), "note": ("·", "yellow"), "wrong": ("✗", "bold red")}


def doctor(url: Url = None, as_json: Json = False) -> None:
    """Check settings, database, apps, models and runners; say what is wrong and what to do."""
    from .checks import WRONG
    from .terminal import write_json

    findings = run(_gather(url, as_json=as_json))
    wrong = [one for one in findings if one.level == WRONG]
    if as_json:
        write_json({"ok": not wrong, "checks": [asdict(one) for one in findings]})
    if wrong:
        raise typer.Exit(1)


async def _gather(url: str | None, *, as_json: bool) -> list[Finding]:
    from .checks import examine

    findings: list[Finding] = []
    async for finding in examine(url):
        findings.append(finding)
        if not as_json:
            _show(finding)
    return findings


def _show(finding: Finding) -> None:
    from rich.text import Text

    from .figures import one_line
    from .terminal import console

    mark, style = _MARKS[finding.level]
    out = console()
    line = Text.assemble((f"{mark} ", style), (f"{finding.about:<9}", "bold"), " ")
    out.print(line.append(one_line(finding.said)), soft_wrap=True)
    if finding.hint:
        out.print(Text(f"            {one_line(finding.hint)}", "dim"), soft_wrap=True)

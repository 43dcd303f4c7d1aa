"""Lists of events, executions and pipelines as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from .figures import MISSING, age, all_tokens, dollars, milliseconds, moment, one_line
from .terminal import style_of
from .transcript import passage

View = dict[str, Any]

_GAP = 2

_FREE = frozenset({"error", "outcome", "description"})

_LEAST_FREE = 12

ID_CELLS = 36
"""Ids are never cut: they are there to be copied."""


def table(*left: str, right: Sequence[str] = ()) -> Table:
    """An empty table without lines; `right` columns follow the others and hold numbers."""
    drawn = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="dim")
    for name in left:
        drawn.add_column(name, no_wrap=True, overflow="ellipsis", min_width=_least(name))
    for name in right:
        drawn.add_column(name, no_wrap=True, justify="right", min_width=_least(name))
    return drawn


def fit(drawn: Table, width: int) -> Table:
    """Let the one column of free text take what the others leave, on one line each."""
    taken, free = 0, None
    for column in drawn.columns:
        if column.header in _FREE:
            free = column
            continue
        cells = [column.header, *column.cells]
        cells = [cell.plain if isinstance(cell, Text) else str(cell) for cell in cells]
        taken += max(cell_len(cell) for cell in cells) + _GAP
    if free is not None:
        free.max_width = max(width - taken - _GAP, _LEAST_FREE)
    return drawn


def _least(name: str) -> int:
    return ID_CELLS if name in ("event", "execution") else len(name)


def events_table(views: Sequence[View], width: int) -> Table:
    """Events, newest first."""
    drawn = table("event", "type", "status", "age", "error")
    for view in views:
        error: View = view["last_error"] or {}
        drawn.add_row(
            view["id"],
            Text(one_line(view["type"], 40)),
            Text(view["status"], style_of(view["status"])),
            age(view["received_at"]),
            Text(one_line(error.get("message", ""), 120), "red"),
        )
    return fit(drawn, width)


def executions_table(views: Sequence[View]) -> Table:
    """Executions, newest first."""
    drawn = table("execution", "pipeline", "status", "age", right=("time", "tokens", "cost"))
    for view in views:
        drawn.add_row(
            view["id"],
            Text(one_line(view["name"], 40)),
            _status(view),
            age(view["started_at"]),
            milliseconds(view["duration_ms"]),
            all_tokens(view),
            dollars(view["cost_usd"], unknown=view["unknown"]["cost"]),
        )
    return drawn


def _status(view: View) -> Text:
    """Where it stands, and whether it came from another one."""
    status = Text(view["status"], style_of(view["status"]))
    return status.append(f" ({view['origin']})", "dim") if view["origin"] else status


def pipelines_table(views: Sequence[View], width: int) -> Table:
    """Loaded pipelines."""
    drawn = table("pipeline", "version", "code", "description")
    for view in views:
        drawn.add_row(
            Text(one_line(view["name"])),
            Text(one_line(view["version"])),
            Text(view["code_version"], "dim"),
            Text(one_line(view["description"] or "")),
        )
    return fit(drawn, width)


def keys_table(views: Sequence[View], width: int) -> Table:
    """API keys, newest first."""
    drawn = table("prefix", "owner", "scopes", "state", "used", "name")
    for view in views:
        drawn.add_row(
            view["prefix"],
            Text(one_line(view["owner"], 40)),
            " ".join(view["scopes"]),
            Text(*_state(view)),
            age(view["last_used_at"]) if view["last_used_at"] else MISSING,
            Text(one_line(view["name"])),
        )
    return fit(drawn, width)


def breakers_table(views: Sequence[View], width: int) -> Table:
    """Circuit breakers, by name."""
    drawn = table("breaker", "state", "tried", "error", right=("waiting",))
    for view in views:
        is_closed = view["status"] == "closed"
        tried = "by hand" if view["until"] is None else moment(view["until"])
        drawn.add_row(
            Text(one_line(view["name"], 60)),
            Text(view["status"].replace("_", "-"), "green" if is_closed else "red"),
            MISSING if is_closed else tried,
            Text(one_line(view["reason"] or "", 120)),
            str(view["waiting"] or ""),
        )
    return fit(drawn, width)


def hubs_table(views: Sequence[View], width: int) -> Table:
    """Hubs, oldest first."""
    drawn = table("hub", "kind", "roles", "host", "pid", "version", "state", "seen")
    for view in views:
        state = "stopping" if view["stopping"] else "alive"
        drawn.add_row(
            view["id"],
            view["kind"],
            " ".join(view["roles"]),
            Text(one_line(view["host"], 40)),
            str(view["pid"]),
            view["version"],
            Text(state, "green") if view["alive"] else Text("dead", "red"),
            age(view["seen_at"]),
        )
    return fit(drawn, width)


def _state(view: View) -> tuple[str, str]:
    if view["revoked_at"]:
        return "revoked", "dim"
    if view["expires_at"] is None:
        return "good", "green"
    return f"until {moment(view['expires_at'])}", ""


def event_sheet(view: View) -> list[Text]:
    """One event, field by field, its data at the end."""
    status, error = view["status"], view["last_error"]
    fields = [
        ("status", Text(status, style_of(status))),
        ("type", Text(one_line(view["type"]))),
        ("source", Text(one_line(view["source"]))),
        ("subject", Text(one_line(view["subject"] or ""))),
        ("session", Text(one_line(view.get("session_id") or ""))),
        ("key", Text(one_line(view["idempotency_key"] or ""))),
        ("received", Text(moment(view["received_at"]))),
        ("finished", Text(moment(view["finished_at"]))),
        ("deliveries", Text(str(view["deliveries"]))),
        ("crashes", Text(str(view["crashes"] or ""))),
        ("execution", Text(view["execution_id"] or MISSING)),
        ("waits for", Text(one_line(view["postponed_for"] or ""))),
        ("error", Text(one_line(error.get("message", "")) if error else "", "red")),
    ]
    lines = [Text(f"event {view['id']}", "bold")]
    for name, value in fields:
        if value.plain:
            lines.append(Text.assemble((f"  {name:<11}", "dim"), value))
    lines += passage("data", view["data"])
    if view.get("result"):
        lines += passage("output", view["result"]["output"])
    return lines


def progress_table(view: View) -> Table:
    """Every node of an execution's pipeline, and where it stands."""
    drawn = table("node", "kind", "status", right=("runs", "time"))
    for node in view["nodes"]:
        drawn.add_row(
            Text(one_line(node["name"], 60)),
            Text(one_line(node["kind"], 20), "dim"),
            Text(node["status"], style_of(node["status"]) or "dim"),
            str(node["runs"]) if node["runs"] else MISSING,
            milliseconds(node["duration_ms"]),
        )
    return drawn


def history_lines(history: Sequence[View]) -> list[Text]:
    """What happened to a dead letter, a line each."""
    lines = [Text("history", "dim")]
    for one in history:
        told = Text.assemble((f"  {moment(one['at'])}  ", "dim"), one["what"])
        if one["what"] == "delivered":
            told.append(f" {one['delivery']}: ")
            told.append(one["status"], style_of(one["status"]))
            error: View = one["error"] or {}
            told.append(f"  {one_line(error.get('message', ''), 120)}", "red")
        else:
            told.append(f" by {one_line(one['by'])}")
            if one["reason"]:
                told.append(f": {one_line(one['reason'], 120)}")
        lines.append(told)
    return lines


def schedules_table(views: Sequence[View], width: int) -> Table:
    """Schedules, by name."""
    drawn = table("schedule", "pipeline", "cron", "timezone", "next", "last", "error")
    for view in views:
        error: View = view["last_error"] or {}
        drawn.add_row(
            Text(one_line(view["name"], 40)),
            Text(one_line(view["pipeline"], 40)),
            Text(one_line(view["cron"], 40)),
            Text(one_line(view["timezone"], 40)),
            moment(view["next_at"]) if view["enabled"] else Text("paused", "yellow"),
            moment(view["last_at"]) if view["last_at"] else MISSING,
            Text(one_line(error.get("message", ""), 120), "red"),
        )
    return fit(drawn, width)

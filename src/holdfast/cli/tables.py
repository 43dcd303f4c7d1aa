"""Lists of events, executions and pipelines as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from .figures import (
    MISSING,
    SHORT,
    age,
    all_tokens,
    called,
    count,
    dollars,
    milliseconds,
    moment,
    one_line,
)
from .terminal import style_of
from .transcript import passage

View = dict[str, Any]

_GAP = 2

_FREE = frozenset({"error", "outcome", "description", "title", "why not"})

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
    return ID_CELLS if name in ("event", "execution", "session") else len(name)


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
            Text(one_line(called(view), 40)),
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
            Text(one_line(("built in: " if view["built_in"] else "") + view["description"])),
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


def caches_table(views: Sequence[View], width: int) -> Table:
    """Context caches, by prompt."""
    drawn = table("prompt", "model", "state", "until", "why not", right=("tokens",))
    colours = {"ready": "green", "refused": "yellow", "making": "cyan"}
    for view in views:
        drawn.add_row(
            Text(one_line(view["prompt"], 60)),
            Text(one_line(f"{view['provider']}:{view['model']}", 60)),
            Text(view["status"], colours.get(view["status"], "dim")),
            MISSING if view["until"] is None else moment(view["until"]),
            Text(one_line(view["reason"] or "", 120)),
            MISSING if view["tokens"] is None else f"{view['tokens']:,}",
        )
    return fit(drawn, width)


def savings_table(views: Sequence[View], total: View, width: int) -> Table:
    """What caches saved, by day and prompt, and all together."""
    sums = ("hits", "read", "written", "saved", "writing", "storing", "net")
    drawn = table("day", "prompt", "model", right=sums)
    last: View = {"day": "all", "prompt": "", "provider": "", "model": "", **total}
    for view in [*views, last]:
        name = f"{view['provider']}:{view['model']}" if view["provider"] else ""
        drawn.add_row(
            view["day"],
            Text(one_line(view["prompt"], 60)),
            Text(one_line(name, 60)),
            f"{view['hits']:,}",
            f"{view['tokens_read']:,}",
            f"{view['tokens_written']:,}",
            *(
                dollars(view[f"{what}_usd"], unknown=view["unpriced"])
                for what in ("saved", "write", "storage", "net")
            ),
        )
    return fit(drawn, width)


def usage_table(view: View) -> Table:
    """Sums of usage, and their total below."""
    right = ("calls", "input", "cached", "output", "cost", "saved", "credits", "unknown")
    drawn = table(view["by"], right=right)
    for one in view["items"]:
        drawn.add_row(Text(one_line(one["key"], 60) or MISSING), *_sums(one))
    if len(view["items"]) > 1:
        drawn.add_row(Text("total", "bold"), *_sums(view["total"]))
    if view["total"]["estimated"]:
        drawn.caption = f"~ {count(view['total']['estimated'], 'call')} with estimated tokens"
        drawn.caption_justify = "left"
    return drawn


def _sums(one: View) -> list[str]:
    tokens, unknown = one["tokens"], one["unknown"]
    saved, about = one["saved_usd"], "~" if one["estimated"] else ""
    return [
        f"{one['calls']:,}",
        f"{about}{tokens['input']:,}",
        f"{tokens['cached']:,}",
        f"{about}{tokens['output']:,}",
        dollars(one["cost_usd"], unknown=unknown["cost"]),
        dollars(saved) if float(saved) else "",
        f"{one['credits']:,}" if one["credits"] else "",
        str(max(unknown.values()) or ""),
    ]


def estimate_table(view: View) -> Table:
    """What past executions took."""
    drawn = table("of one execution", right=("median", "p90", "known of"))
    names = {"tokens_input": "input", "tokens_output": "output", "cost_usd": "cost"}
    for name in (*names, "credits"):
        spread: View = view[name] or {"of": 0}
        cells = [_estimated(name, spread.get(one)) for one in ("median", "p90")]
        drawn.add_row(names.get(name, name), *cells, str(spread["of"]))
    return drawn


def _estimated(name: str, value: Any) -> str:
    if value is None:
        return MISSING
    return dollars(value) if name == "cost_usd" else f"{value:,}"


def budgets_table(views: Sequence[View]) -> Table:
    """Budgets, with what is left of each."""
    drawn = table("budget", "unit", "id", right=("amount", "spent", "set aside"))
    for view in views:
        drawn.add_row(
            Text(one_line(view["title"], 60)),
            view["unit"],
            view["id"],
            view["amount"],
            view["spent"] or "0" if view["spent"] is not None else "each its own",
            view["set_aside"] if view["set_aside"] not in (None, "0") else "",
        )
    return drawn


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


def _next_of(schedule: View) -> str | Text:
    if not schedule["enabled"]:
        return Text("paused", "yellow")
    if not schedule["loaded"]:
        return Text("pipeline not loaded", "yellow")
    return moment(schedule["next_at"])


def prompts_table(views: Sequence[View], width: int) -> Table:
    """Prompts, by name."""
    drawn = table("prompt", "labels", "used by", "changed", right=("versions",))
    for view in views:
        labels = [f"{label} {version[:SHORT]}" for label, version in view["labels"].items()]
        users = [f"{use['pipeline']}:{use['node']}" for use in view["used_by"]]
        drawn.add_row(
            Text(one_line(view["name"], 60)),
            Text(one_line(", ".join(labels), 120)),
            Text(one_line(", ".join(users), 120)),
            moment(view["changed_at"]),
            str(view["versions"]),
        )
    return fit(drawn, width)


def prompt_versions_table(views: Sequence[View], width: int) -> Table:
    """Versions of a prompt, newest first."""
    drawn = table("version", "labels", "author", "since", "description")
    for view in views:
        drawn.add_row(
            view["version"][:SHORT],
            Text(one_line(", ".join(view["labels"]), 120)),
            Text("the app" if view["from_app"] else one_line(view["author"] or "", 60)),
            moment(view["created_at"]),
            Text(one_line(view["description"], 120)),
        )
    return fit(drawn, width)


def prompt_moves_table(views: Sequence[View], width: int) -> Table:
    """Moves of a prompt's labels, newest first."""
    drawn = table("at", "label", "from", "to", "by", "reason")
    for view in views:
        back = "rolled back" if view["undoes"] else ""
        drawn.add_row(
            moment(view["at"]),
            Text(one_line(view["label"])),
            view["before"][:SHORT] if view["before"] else MISSING,
            view["after"][:SHORT],
            Text(one_line(view["by"] or "the app", 60)),
            Text(one_line(": ".join(filter(None, (back, view["reason"]))), 120)),
        )
    return fit(drawn, width)


def collections_table(views: Sequence[View], width: int) -> Table:
    """Collections of documents, by name."""
    drawn = table("collection", "documents", "chunks", "embedded with", "changed")
    for view in views:
        made = view["embedding"]
        drawn.add_row(
            Text(one_line(view["name"], 60)),
            Text(str(view["documents"])),
            Text(str(view["chunks"])),
            Text(f"{made['provider']}:{made['model']} ({made['dimensions']})"),
            moment(view["updated_at"]),
        )
    return fit(drawn, width)


def documents_table(views: Sequence[View], width: int) -> Table:
    """Documents of a collection, newest first."""
    drawn = table("document", "chunks", "tokens", "metadata", "changed")
    for view in views:
        facts = ", ".join(f"{name}={value}" for name, value in view["metadata"].items())
        drawn.add_row(
            Text(one_line(view["key"], 80)),
            Text(str(view["chunks"])),
            Text(f"~{view['tokens']}"),
            Text(one_line(facts, 80)),
            moment(view["updated_at"]),
        )
    return fit(drawn, width)


def hits_table(views: Sequence[View], width: int) -> Table:
    """What a search found, the best first."""
    drawn = table("document", "chunk", "similarity", "text")
    for view in views:
        likeness = view["similarity"]
        drawn.add_row(
            Text(one_line(view["key"], 40)),
            Text(str(view["n"])),
            MISSING if likeness is None else Text(f"{likeness:.3f}"),
            Text(one_line(view["text"], 200)),
        )
    return fit(drawn, width)


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
            _next_of(view),
            moment(view["last_at"]) if view["last_at"] else MISSING,
            Text(one_line(error.get("message", ""), 120), "red"),
        )
    return fit(drawn, width)
